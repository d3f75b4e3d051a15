"""The model that the study starts from: of the oracle's level of theory, and with all elements of the molecules."""

from golf.core.job import job
from golf.core.level import LevelOfTheory
from golf.study.trainings import start_from

with job(snakemake.log[0]):
    start_from(
        snakemake.input.model,
        snakemake.input.conformations,
        LevelOfTheory(**snakemake.params.level),
        snakemake.output[0],
    )
