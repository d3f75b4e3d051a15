"""The training and test sets of a study: read or embedded, split, with the labels that came with them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf.conformations import ConformationSet, Status, concatenate
from golf.conformers import LeftOut, conformations_of, read_molecules
from golf.elements import SYMBOLS
from golf.errors import UserError
from golf.hdf5 import read
from golf.labeling import take_over_labels, unlabelled
from golf.oracles.base import LevelOfTheory
from golf.planning import Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """What `prepare` returns.

    Attributes:
        train: training conformations; those without a label are marked `NOT_COMPUTED`.
        test: starts of the test relaxations.
        reference: DFT minima that came with the test set, as `golf.reference` writes them; may be empty.
        left_out: molecules that could not be used.
    """

    train: ConformationSet
    test: ConformationSet
    reference: ConformationSet
    left_out: list[LeftOut]


def prepare(source: Source, level: LevelOfTheory, *, elements: Collection[int], seed: int) -> Dataset:
    """Training and test set of a study.

    Args:
        elements: atomic numbers that the oracle and the reference energies have; molecules with others are left out.

    Raises:
        UserError: a file is missing or of another kind, labels are of another level, a name is unknown, too many
            molecules had to be left out, or a set comes out empty.
    """
    left_out: list[LeftOut] = []
    if Path(source.train).suffix == ".h5":
        pool = read(source.train)
        train, split_off = _split_conformations(pool, source)
        train = take_over_labels(train, level, source.train)
    else:
        train, split_off, left_out = _embedded(source, elements, seed)
    test, reference = take_over_labels(split_off, level, source.train), split_off.subset([])
    if source.test is not None:
        test, reference = with_known_minima(read(source.test), level, source.test)
    for name, part in (("training", train), ("test", test)):
        if len(part) == 0:
            raise UserError(f"dataset.train {source.train}: the {name} set is empty; give more molecules or conformers")
    twice = set(train.id) & set(test.id)
    if twice:
        raise UserError(f"{min(twice)!r} is in the training and in the test set; rename it or take it out of one")
    without = set(train.number.tolist()) - set(elements)
    if without:
        symbol = SYMBOLS[min(without)]
        raise UserError(f"dataset.train {source.train}: has {symbol}, for which there is no basis or reference energy")
    unknown = set(test.number.tolist()) - set(train.number.tolist())
    if unknown:
        i = next(i for i in range(len(test)) if not unknown.isdisjoint(test.number[test.rows(i)].tolist()))
        raise UserError(
            f"dataset: test conformation {test.id[i]} has {SYMBOLS[min(unknown)]}, which no training molecule has; "
            "add such molecules to the training set or leave it out"
        )
    return Dataset(unlabelled(train), test, reference, left_out)


def with_known_minima(
    test: ConformationSet, level: LevelOfTheory, source: str
) -> tuple[ConformationSet, ConformationSet]:
    """Starts of a test set, and the DFT minima that it came with."""
    if "energy_first" not in test.values or "initial_position" not in test.atoms:
        return test.bare(), test.subset([])
    reference = take_over_labels(test, level, source)
    starts = test.with_columns(position=test.atoms["initial_position"]).bare()
    return starts, reference.subset(reference.values["status"] != Status.NOT_COMPUTED)


def _embedded(
    source: Source, elements: Collection[int], seed: int
) -> tuple[ConformationSet, ConformationSet, list[LeftOut]]:
    molecules, left_out = read_molecules(
        source.train, smiles_column=source.smiles_column, name_column=source.name_column, elements=elements
    )
    n_read = len(molecules) + len(left_out)
    check_names(source, {molecule.name for molecule in molecules} | {out.name for out in left_out})
    for_training = [molecule for molecule in molecules if molecule.name not in source.test_molecules]
    for_test = [molecule for molecule in molecules if molecule.name in source.test_molecules]
    n_held_out = 0 if source.test is not None else source.test_conformers
    n_conformers = source.conformers + n_held_out if source.conformers else 0
    settings: dict[str, Any] = {"seed": seed, "prune_rmsd": source.prune_rmsd}
    known, failed = conformations_of(for_training, n_conformers=n_conformers, **settings)
    left_out += failed
    unseen, failed = conformations_of(for_test, n_conformers=n_held_out if source.conformers else 0, **settings)
    left_out += failed
    for out in left_out:
        logger.warning("%s: line %d: %s (%s) is left out: %s", source.train, out.line, out.name, out.text, out.reason)
    if len(left_out) > source.max_left_out * n_read:
        first = left_out[0]
        raise UserError(
            f"{source.train}: {len(left_out)} of {n_read} molecules cannot be used, more than dataset.max_left_out "
            f"{source.max_left_out:g} allows (first: line {first.line}, {first.name}: {first.reason})"
        )
    train, held_out = _split_by_conformation(known, n_held_out)
    return train, concatenate([held_out, unseen]), left_out


def check_names(source: Source, known: set[str]) -> None:
    """Raise a UserError where a test molecule is not among the known names, or all of them are test molecules."""
    unknown = set(source.test_molecules) - known
    if unknown:
        raise UserError(f"dataset.test_molecules: {min(unknown)!r} is not in {source.train}")
    if known and known <= set(source.test_molecules):
        raise UserError(
            f"dataset.test_molecules: holds all {len(known)} molecules of {source.train}; leave some to train on"
        )


def _split_conformations(pool: ConformationSet, source: Source) -> tuple[ConformationSet, ConformationSet]:
    """Divide a file of conformations, where no test set is given."""
    if source.test is not None:
        return pool, pool.subset([])
    check_names(source, set(pool.molecule))
    unseen = np.isin(pool.molecule, list(source.test_molecules))
    train, held_out = _split_by_conformation(pool.subset(~unseen), source.test_conformers)
    return train, concatenate([held_out, pool.subset(unseen)])


def _split_by_conformation(known: ConformationSet, n_held_out: int) -> tuple[ConformationSet, ConformationSet]:
    """The last `n_held_out` conformations of each molecule go to the test set; the first always stays."""
    held_out = np.zeros(len(known), dtype=bool)
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(known.molecule):
        rows.setdefault(name, []).append(i)
    for mine in rows.values():
        held_out[mine[max(1, len(mine) - n_held_out) :]] = n_held_out > 0
    return known.subset(~held_out), known.subset(held_out)


def usable_elements(covered: Collection[int], reference_energies: Mapping[str, float] | None) -> list[int]:
    """Atomic numbers that the basis set has and, where reference energies are given, that have one."""
    return [z for z in covered if reference_energies is None or SYMBOLS[z] in reference_energies]
