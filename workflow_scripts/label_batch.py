"""DFT labels of one batch; an interrupted batch goes on from its journal."""

from golf.hdf5 import read
from golf.job import job
from golf.labeling import batch, label_to_file
from golf.oracles.base import LevelOfTheory
from golf.planning import pool_settings

with job(snakemake.log[0]):
    label_to_file(
        batch(read(snakemake.input.conformations), int(snakemake.wildcards.batch), snakemake.params.n_batches),
        snakemake.output[0],
        level=LevelOfTheory(**snakemake.params.level),
        attrs=snakemake.params.stamp,
        **pool_settings(snakemake.config),
    )
