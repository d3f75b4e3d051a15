"""List what a study has to compute, and what each label costs in units of the cost model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationRecord, ConformationSet
from golf.core.elements import MMFF_NUMBERS
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.core.labels import pending
from golf.io.formats import MOLECULES
from golf.oracles.costs import Basis, label_costs, n_gradients, read_basis
from golf.oracles.settings import pool_settings
from golf.study import config as golf_config
from golf.study.plan import Source, level_of, source_format, to_download


def basis_of(config: Mapping[str, Any]) -> tuple[Basis, str]:
    """Return the basis functions of each element, and the source: the study's own check, or the program itself.

    Raises:
        UserError: the program is not found, or has no such basis set.
    """
    level = level_of(config)
    path = Path(config["results_dir"]) / "dataset" / "oracle.json"
    try:
        basis = read_basis(path)
        if level.matches(json.loads(path.read_text(encoding="utf-8"))):
            return basis, str(path)
    except FileNotFoundError:  # or written by an older golf
        pass
    from golf.oracles.programs.pool import OraclePool

    settings = pool_settings(config)
    settings["n_workers"] = 1
    with OraclePool(level, **settings) as oracle:
        return oracle.basis(MMFF_NUMBERS), f"{oracle.program_name} {oracle.program_version}, asked now"


@dataclass(frozen=True)
class Workload:
    """Costs of a study's conformations (`golf.oracles.costs.label_costs`); each array has one entry per conformation.

    Attributes:
        initial: training conformations without a label.
        training: all training conformations.
        training_atoms: atoms of those.
        test: test conformations.
        references: gradients of the test conformations without a DFT minimum.
        gradients: of each of those optimizations, expected.
        source: where the conformations come from, in words.
        at_most: whether there may be fewer, since equal conformers are known only when they have been embedded.
        molecules: atoms of each molecule and what a label of it costs, by name.
    """

    initial: NDArray[np.int64]
    training: NDArray[np.int64]
    training_atoms: NDArray[np.int64]
    test: NDArray[np.int64]
    references: NDArray[np.int64]
    gradients: NDArray[np.int64]
    source: str
    at_most: bool = False
    molecules: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def workload(config: Mapping[str, Any], basis: Basis) -> Workload:
    """Return the workload of a study: of its prepared data set, or else of its source.

    Raises:
        UserError: a source is missing, or what it holds cannot be used.
    """
    prepared = Path(config["results_dir"]) / "dataset"
    files = [prepared / f"{name}.h5" for name in ("train", "test", "reference")]
    source = Source(**config["dataset"])
    if all(path.is_file() for path in files) and not _is_older(files[0], source):
        train, test, reference = map(read, files)
        if train.attrs.get("config_sha256") == golf_config.sha256(config):
            return _workload(train, test, set(reference.id), basis, f"{prepared}/train.h5 and test.h5")
    for path in to_download(source):
        raise UserError(f"{path}: is not there yet; run the study, which downloads it first, then ask again")
    if source_format(source, "train") not in MOLECULES:
        from golf.study.dataset import prepare, usable_elements

        elements = usable_elements(basis.functions, config["nnp"]["reference_energies"])
        dataset = prepare(source, level_of(config), elements=elements, seed=config["seed"])
        return _workload(dataset.train, dataset.test, set(dataset.reference.id), basis, source.train)
    train, test, known = _of_molecules(config, source, basis)
    words = f"{source.train}, every molecule with {source.conformers or 'its'} conformers"
    work = _workload(train, test, known, basis, words)
    return replace(work, at_most=source.conformers > 0 and source.prune_rmsd > 0)


def _is_older(prepared: Path, source: Source) -> bool:
    """Tell whether the data have changed since they were prepared, so that they will be prepared again."""
    files = [Path(path) for path in (source.train, source.test) if path]
    return any(path.is_file() and path.stat().st_mtime > prepared.stat().st_mtime for path in files)


def _workload(train: ConformationSet, test: ConformationSet, known: set[str], basis: Basis, source: str) -> Workload:
    training, tests = (label_costs(part.number, part.offset, basis) for part in (train, test))
    left = np.array([name not in known for name in test.id], dtype=bool)
    return Workload(
        initial=training[pending(train)],
        training=training,
        training_atoms=train.n_atoms,
        test=tests,
        references=tests[left],
        gradients=n_gradients(test.n_atoms[left]),
        source=source,
        molecules={
            name: (int(n_atoms), int(cost))
            for part, costs in ((train, training), (test, tests))
            for name, n_atoms, cost in zip(part.molecule, part.n_atoms, costs, strict=True)
        },
    )


def _of_molecules(
    config: Mapping[str, Any], source: Source, basis: Basis
) -> tuple[ConformationSet, ConformationSet, set[str]]:
    """Return training and test conformations without geometries, at most, and the ids of known minima."""
    from golf.study.dataset import check_names, molecules_of, test_set, usable_elements

    elements = usable_elements(basis.functions, config["nnp"]["reference_energies"])
    molecules, left_out = molecules_of(source.train, source, elements)
    check_names(source, {molecule.name for molecule in molecules} | {out.name for out in left_out})
    rows: dict[bool, list[ConformationRecord]] = {False: [], True: []}
    for molecule in molecules:
        numbers = np.array([atom.GetAtomicNum() for atom in molecule.mol.GetAtoms()], np.uint8)
        alone = molecule.name in source.test_molecules
        held_out = 0 if source.test is not None else source.test_conformers
        n = source.conformers or molecule.mol.GetNumConformers()
        if source.conformers == 0:
            held_out = n if alone else min(held_out, n - 1)
            n -= held_out
        for k in range((0 if alone else n) + held_out):
            is_test = alone or k >= n
            name = f"{molecule.name}/{k:04d}"
            positions = np.zeros((len(numbers), 3))
            rows[is_test].append(ConformationRecord(name, molecule.name, "", 0, 1, numbers, positions))
    train, test, known = ConformationSet.build(rows[False]), ConformationSet.build(rows[True]), set()
    if source.test is not None:
        test, reference, _ = test_set(source.test, source, level_of(config), elements, config["seed"])
        known = set(reference.id)
    return train, test, known
