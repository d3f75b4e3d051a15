"""Energy of each element, subtracted from the labels before the network sees them."""

from golf.job import job
from golf.training_stages import reference_energies_to_file

with job(snakemake.log[0]):
    reference_energies_to_file(snakemake.input[0], snakemake.params.given, snakemake.output[0])
