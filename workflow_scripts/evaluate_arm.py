"""Evaluate an arm against the DFT minima."""

from golf.core.hdf5 import read, write
from golf.core.job import job
from golf.evaluation.arm import evaluate_arm, seen_molecules
from golf.oracles.merging import n_labelled
from golf.study.dataset import starts_near_training

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
