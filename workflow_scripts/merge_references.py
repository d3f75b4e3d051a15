"""Merge the DFT minima that came with the test set and those of the batches, in the order of the test set."""

from golf.core.hdf5 import read, write
from golf.core.job import job
from golf.oracles.minima import merge_optimizations

with job(snakemake.log[0]):
    parts = [read(path) for path in [snakemake.input.known, *snakemake.input.batches]]
    write(snakemake.output[0], merge_optimizations(read(snakemake.input.test), parts), **snakemake.params.stamp)
