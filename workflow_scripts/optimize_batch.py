"""Optimize a batch of conformations with DFT; an interrupted batch resumes from its journal."""

from golf.core.hdf5 import read
from golf.core.job import job
from golf.core.level import LevelOfTheory
from golf.oracles.costs import read_basis
from golf.oracles.local_minimum import read_hessians
from golf.oracles.minima import batch, optimize_to_file
from golf.oracles.settings import label_limits, pool_settings

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
        hessians=read_hessians(given) if (given := snakemake.input.get("hessians")) else {},
        attrs=snakemake.params.stamp,
        deadline=deadline,
        **pool_settings(snakemake.config, snakemake.threads),
    )
