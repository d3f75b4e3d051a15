"""Select the training conformations whose DFT optimizations give the labels of arm traj."""

from golf.core.hdf5 import write
from golf.core.job import job
from golf.study.controls import select_trajectory_starts
from golf.study.relaxations import training_starts

with job(snakemake.log[0]):
    params = snakemake.params
    seed = params.stamp["seed"]
    labelled = training_starts(snakemake.input.labels, **params.validation, seed=seed)
    write(snakemake.output[0], select_trajectory_starts(labelled, n_labels=params.n_labels, seed=seed), **params.stamp)
