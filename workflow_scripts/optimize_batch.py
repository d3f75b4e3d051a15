"""DFT optimizations of a batch of conformations; an interrupted batch goes on from its journal."""

from golf.costs import read_basis
from golf.hdf5 import read
from golf.job import job
from golf.oracles.base import LevelOfTheory
from golf.oracles.settings import label_limits, pool_settings
from golf.reference import batch, optimize_to_file

with job(snakemake.log[0]) as deadline:
    level, basis = LevelOfTheory(**snakemake.params.level), read_basis(snakemake.input.oracle)
    known = snakemake.input.get("known")
    optimize_to_file(
        batch(
            read(snakemake.input.starts),
            read(known).id if known else (),
            int(snakemake.wildcards.batch),
            snakemake.params.n_batches,
            basis,
        ),
        snakemake.output[0],
        level=level,
        limits=label_limits(snakemake.config, level, basis),
        max_steps=snakemake.params.max_steps,
        attrs=snakemake.params.stamp,
        deadline=deadline,
        **pool_settings(snakemake.config, snakemake.threads),
    )
