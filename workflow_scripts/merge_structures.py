"""Merge the minima of own structures, and list the structures without one."""

from golf.core.job import job
from golf.relaxation.oracle_minima import merge_structures

with job(snakemake.log[0]):
    merge_structures(
        snakemake.input.starts,
        snakemake.input.batches,
        snakemake.input.left_out,
        minima=snakemake.output.minima,
        sdf=snakemake.output.sdf,
        left_out=snakemake.output.left_out,
        attrs=snakemake.params.stamp,
    )
