"""Collect the labels of arm traj: gradients of DFT optimizations, in the order of their starts."""

from golf.core.hdf5 import read, write
from golf.core.job import job
from golf.oracles.minima import merge_optimizations
from golf.study.controls import labels_along

with job(snakemake.log[0]):
    labels = labels_along(
        merge_optimizations(read(snakemake.input.starts), [read(path) for path in snakemake.input.batches]),
        n_labels=snakemake.params.n_labels,
        max_force_norm=snakemake.params.max_force_norm,
    )
    write(snakemake.output[0], labels, **snakemake.params.stamp)
