"""Select the conformations that a round sends to the oracle."""

from golf.core.job import job
from golf.study.relaxations import select_round
from golf.study.settings import Selection
from golf.training.recipe import Machine

with job(snakemake.log[0]):
    select_round(
        snakemake.input.labels,
        snakemake.input.model,
        snakemake.output[0],
        round_number=int(snakemake.wildcards.round),
        variant=snakemake.params.variant,
        machine=Machine(snakemake.threads, snakemake.config["resources"]["device"]),
        selection=Selection.of(snakemake.params.selection),
        **snakemake.params.validation,
        **snakemake.params.stamp,
    )
