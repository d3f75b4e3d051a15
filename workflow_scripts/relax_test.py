"""Relax the test set with an arm's model."""

from golf.core.job import job
from golf.core.level import LevelOfTheory
from golf.study.relaxations import relax_test
from golf.study.settings import Relaxation
from golf.training.recipe import Machine

with job(snakemake.log[0]):
    relax_test(
        snakemake.input.test,
        snakemake.params.potential or snakemake.input.model,
        snakemake.output[0],
        variant=snakemake.params.variant,
        machine=Machine(snakemake.threads, snakemake.config["resources"]["device"]),
        level=None if snakemake.params.of_others else LevelOfTheory(**snakemake.params.level),
        relaxation=Relaxation.of(snakemake.params.relaxation),
        n_kept=snakemake.params.n_kept,
        **snakemake.params.stamp,
    )
