"""The labels of arm traj: gradients of DFT optimizations, in the order of their starts."""

from golf.controls import labels_along
from golf.hdf5 import read, write
from golf.job import job
from golf.reference import merge

with job(snakemake.log[0]):
    labels = labels_along(
        merge(read(snakemake.input.starts), [read(path) for path in snakemake.input.batches]),
        n_labels=snakemake.params.n_labels,
        max_force_norm=snakemake.params.max_force_norm,
    )
    write(snakemake.output[0], labels, **snakemake.params.stamp)
