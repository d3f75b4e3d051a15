"""Select the conformations of arm rdkit: randomly drawn states of MMFF minimizations."""

from golf.chem.mmff import MMFFSurrogate
from golf.core.hdf5 import write
from golf.core.job import job
from golf.study.controls import select_along_mmff
from golf.study.relaxations import training_starts

with job(snakemake.log[0]):
    params = snakemake.params
    seed = params.stamp["seed"]
    selected = select_along_mmff(
        training_starts(snakemake.input.labels, **params.validation, seed=seed),
        MMFFSurrogate(params.variant),
        n_select=params.n_select,
        seed=seed,
        max_iterations=params.max_iterations,
    )
    write(snakemake.output[0], selected, **params.stamp)
