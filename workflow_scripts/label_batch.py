"""DFT labels of one batch; an interrupted batch goes on from its journal."""

from golf.costs import read_basis
from golf.job import job
from golf.labeling import label_to_file, read_batch
from golf.oracles.base import LevelOfTheory
from golf.oracles.settings import pool_settings

with job(snakemake.log[0]) as deadline:
    label_to_file(
        read_batch(
            snakemake.input.conformations,
            int(snakemake.wildcards.batch),
            snakemake.params.n_batches,
            read_basis(snakemake.input.oracle),
        ),
        snakemake.output[0],
        level=LevelOfTheory(**snakemake.params.level),
        attrs=snakemake.params.stamp,
        deadline=deadline,
        **pool_settings(snakemake.config, snakemake.threads),
    )
