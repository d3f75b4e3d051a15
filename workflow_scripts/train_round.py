"""One GOLF round's training."""

from golf.job import job
from golf.training_stages import Machine, Outputs, TrainingOptions, train_round

with job(snakemake.log[0]) as deadline:
    train_round(
        snakemake.input.initial,
        snakemake.input.new,
        snakemake.input.model,
        Outputs(snakemake.output.model, snakemake.output.metrics),
        round_number=int(snakemake.wildcards.round),
        n_rounds=snakemake.params.n_rounds,
        updates=snakemake.params.updates,
        learning_rate=snakemake.params.learning_rate,
        initial_fraction=snakemake.params.initial_fraction,
        options=TrainingOptions(
            **snakemake.params.training, checkpoint_seconds=snakemake.config["training"]["checkpoint_seconds"]
        ),
        machine=Machine(snakemake.threads, snakemake.config["resources"]["device"], deadline),
        **snakemake.params.stamp,
    )
