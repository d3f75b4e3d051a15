"""Evaluate an arm's network along its relaxations: errors against DFT, and how far the DFT energy goes down."""

from golf.core.files import written_whole
from golf.core.hdf5 import read
from golf.core.job import job
from golf.evaluation.trajectories import study_trajectories

with job(snakemake.log[0]):
    table = study_trajectories(
        snakemake.wildcards.arm,
        read(snakemake.input.states),
        read(snakemake.input.relaxed),
        read(snakemake.input.reference),
        steps=snakemake.params.steps,
        seed=snakemake.params.seed,
    )
    with written_whole(snakemake.output[0]) as temporary:
        table.to_csv(temporary, index=False)
