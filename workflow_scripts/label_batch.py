"""DFT labels of one batch; an interrupted batch goes on from its journal."""

from golf.costs import read_basis
from golf.job import job
from golf.labeling import label_to_file, read_batch
from golf.oracles.base import LevelOfTheory
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
