"""Train for a round, or for all rounds at once (control arms)."""

from golf.core.job import job
from golf.study.trainings import train_round
from golf.training.recipe import Machine, Outputs, TrainingOptions

with job(snakemake.log[0]) as deadline:
    train_round(
        snakemake.input.initial,
        snakemake.input.new,
        snakemake.input.model,
        Outputs(snakemake.output.model, snakemake.output.metrics),
        round_number=int(snakemake.wildcards.get("round", 1)),
        n_rounds=snakemake.params.n_rounds,
        updates=snakemake.params.updates,
        learning_rate=snakemake.params.learning_rate,
        initial_fraction=snakemake.params.initial_fraction,
        options=TrainingOptions(**snakemake.config["training"]),
        machine=Machine(snakemake.threads, snakemake.config["resources"]["device"], deadline),
        **snakemake.params.stamp,
    )
