"""Compute the labels of a batch; an interrupted batch resumes from its journal."""

from golf.core.job import job
from golf.core.level import LevelOfTheory
from golf.oracles.costs import read_basis
from golf.oracles.labeling import label_to_file, read_batch
from golf.oracles.settings import label_limits, pool_settings

with job(snakemake.log[0]) as deadline:
    level, basis = LevelOfTheory(**snakemake.params.level), read_basis(snakemake.input.oracle)
    label_to_file(
        read_batch(
            snakemake.input.conformations,
            int(snakemake.wildcards.batch),
            snakemake.params.n_batches,
            basis,
        ),
        snakemake.output[0],
        level=level,
        limits=label_limits(snakemake.config, level, basis),
        attrs=snakemake.params.stamp,
        deadline=deadline,
        **pool_settings(snakemake.config, snakemake.threads),
    )
