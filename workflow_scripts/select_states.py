"""States along the test relaxations, to be labelled."""

from golf.hdf5 import read, write
from golf.job import job
from golf.relaxation import kept_states

with job(snakemake.log[0]):
    write(snakemake.output[0], kept_states(read(snakemake.input[0])), **snakemake.params.stamp)
