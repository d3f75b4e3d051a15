"""The test set minimized with RDKit's MMFF."""

from golf.hdf5 import read, write
from golf.job import job
from golf.surrogate import MMFFSurrogate, minimize

with job(snakemake.log[0]):
    relaxed = minimize(
        read(snakemake.input.test),
        MMFFSurrogate(snakemake.params.variant),
        max_iterations=snakemake.params.max_iterations,
    )
    write(snakemake.output[0], relaxed, **snakemake.params.stamp)
