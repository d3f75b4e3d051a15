"""Merge the labels of all batches into one file."""

from golf.core.job import job
from golf.oracles.merging import merge_labels

with job(snakemake.log[0]):
    merge_labels(
        snakemake.input.conformations,
        snakemake.input.batches,
        snakemake.output[0],
        max_force_norm=snakemake.params.max_force_norm,
        attrs=snakemake.params.stamp,
    )
