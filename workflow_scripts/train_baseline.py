"""Train a new network on the initial labels."""

from golf.core.job import job
from golf.nnp.potential import Architecture
from golf.study.trainings import train_baseline
from golf.training.recipe import Machine, Outputs, TrainingOptions

with job(snakemake.log[0]) as deadline:
    train_baseline(
        snakemake.input.labels,
        snakemake.input.reference_energies,
        Outputs(snakemake.output.model, snakemake.output.metrics),
        architecture=Architecture(**snakemake.params.architecture),
        options=TrainingOptions(**snakemake.config["training"]),
        machine=Machine(snakemake.threads, snakemake.config["resources"]["device"], deadline),
        **snakemake.params.stamp,
    )
