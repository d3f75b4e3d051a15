"""Training conformations whose DFT optimizations are the labels of arm traj."""

from golf.controls import select_trajectory_starts
from golf.hdf5 import read, write
from golf.job import job
from golf.stages import training_starts

with job(snakemake.log[0]):
    params = snakemake.params
    validation = params.validation
    seed = params.stamp["seed"]
    labelled = training_starts(
        read(snakemake.input.labels), validation["validation_fraction"], validation["validation_split"], seed
    )
    write(snakemake.output[0], select_trajectory_starts(labelled, n_labels=params.n_labels, seed=seed), **params.stamp)
