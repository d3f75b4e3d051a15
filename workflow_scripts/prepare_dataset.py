"""Prepare the training set, the test set, known DFT minima, and the list of records left out."""

import yaml

from golf.core.files import written_whole
from golf.core.hdf5 import write
from golf.core.job import job
from golf.core.level import LevelOfTheory
from golf.io.records import write_left_out
from golf.oracles.costs import read_basis
from golf.study.dataset import prepare, usable_elements
from golf.study.plan import Source

with job(snakemake.log[0]):
    stamp = snakemake.params.stamp
    covered = read_basis(snakemake.input.oracle).functions
    dataset = prepare(
        Source(**snakemake.params.source),
        LevelOfTheory(**snakemake.params.level),
        elements=usable_elements(covered, snakemake.params.reference_energies),
        seed=stamp["seed"],
    )
    write(snakemake.output.train, dataset.train, **stamp)
    write(snakemake.output.test, dataset.test, **stamp)
    write(snakemake.output.reference, dataset.reference, **stamp)
    write_left_out(snakemake.output.left_out, dataset.left_out)
    with written_whole(snakemake.output.config) as temporary:
        temporary.write_text(yaml.safe_dump(snakemake.config, sort_keys=False), encoding="utf-8")
