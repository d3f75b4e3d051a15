"""One file with the labels of all batches."""

from golf.hdf5 import read, write
from golf.job import job
from golf.labeling import merge

with job(snakemake.log[0]):
    merged = merge(
        read(snakemake.input.conformations),
        [read(path) for path in snakemake.input.batches],
        max_force_norm=snakemake.params.max_force_norm,
    )
    write(snakemake.output[0], merged, **snakemake.params.stamp)
