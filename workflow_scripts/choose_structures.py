"""Choose the own structures that the oracle optimizes, and list those that it cannot."""

from golf.core.hdf5 import write
from golf.core.job import job
from golf.core.level import LevelOfTheory
from golf.io.ends import read_ends
from golf.io.records import write_left_out
from golf.oracles.costs import read_basis
from golf.relaxation.oracle_minima import structures

with job(snakemake.log[0]):
    level, basis = LevelOfTheory(**snakemake.params.level), read_basis(snakemake.input.oracle)
    (path,), params = snakemake.input.structures, snakemake.params
    chosen = structures(read_ends(path), path, level, basis, top=params.top, window=params.window)
    write_left_out(snakemake.output.left_out, chosen.left_out)
    write(snakemake.output.starts, chosen.conformations, **params.stamp)
