"""One file with the labels of all batches."""

from golf.conformations import read, write
from golf.job import job
from golf.labeling import merge

with job(snakemake.log[0]):
    batches = [read(path) for path in snakemake.input.batches]
    write(snakemake.output[0], merge(read(snakemake.input.conformations), batches), **snakemake.params.stamp)
