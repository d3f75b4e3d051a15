"""Train the baseline on the initial labels alone, for as many updates as all GOLF rounds."""

from golf.core.job import job
from golf.study.trainings import continue_baseline
from golf.training.recipe import Machine, Outputs, TrainingOptions

with job(snakemake.log[0]) as deadline:
    continue_baseline(
        snakemake.input.labels,
        snakemake.input.model,
        Outputs(snakemake.output.model, snakemake.output.metrics),
        updates=snakemake.params.updates,
        learning_rate=snakemake.params.learning_rate,
        options=TrainingOptions(**snakemake.config["training"]),
        machine=Machine(snakemake.threads, snakemake.config["resources"]["device"], deadline),
        **snakemake.params.stamp,
    )
