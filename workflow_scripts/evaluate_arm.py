"""One arm against the DFT minima."""

from golf.datasets import starts_near_training
from golf.evaluation import evaluate_arm, seen_molecules
from golf.hdf5 import read, write
from golf.job import job
from golf.merging import n_labelled

with job(snakemake.log[0]):
    relaxed = read(snakemake.input.relaxed)
    trained_here = not snakemake.params.of_others
    n_labels = sum(map(n_labelled, snakemake.input.labels))
    evaluated = evaluate_arm(
        snakemake.wildcards.arm,
        relaxed,
        read(snakemake.input.reference),
        n_labels=n_labels,
        n_updates=snakemake.params.n_updates,
        training_molecules=seen_molecules(relaxed, read(snakemake.input.train)) if trained_here else None,
        near_training=starts_near_training(snakemake.input.test) if trained_here else None,
        seed=snakemake.params.stamp["seed"],
    )
    write(snakemake.output[0], evaluated, **snakemake.params.stamp)
