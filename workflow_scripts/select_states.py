"""Select the states along the test relaxations that will be labelled."""

from golf.core.hdf5 import read, write
from golf.core.job import job
from golf.relaxation.relax import kept_states

with job(snakemake.log[0]):
    write(snakemake.output[0], kept_states(read(snakemake.input[0])), **snakemake.params.stamp)
