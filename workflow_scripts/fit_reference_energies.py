"""Fit the energy of each element, which is subtracted from the labels before training."""

from golf.core.job import job
from golf.study.trainings import reference_energies_to_file

with job(snakemake.log[0]):
    reference_energies_to_file(snakemake.input[0], snakemake.params.given, snakemake.output[0])
