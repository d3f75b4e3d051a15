"""Take over the model that the study starts from, if level of theory and elements agree."""

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
