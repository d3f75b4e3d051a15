"""Minimize the test set with RDKit's MMFF."""

from golf.chem.mmff import MMFFSurrogate, minimize_all
from golf.core.hdf5 import read, write
from golf.core.job import job

with job(snakemake.log[0]):
    relaxed = minimize_all(
        read(snakemake.input.test),
        MMFFSurrogate(snakemake.params.variant),
        max_iterations=snakemake.params.max_iterations,
    )
    write(snakemake.output[0], relaxed, **snakemake.params.stamp)
