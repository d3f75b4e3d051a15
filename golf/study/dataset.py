"""Prepare the training and test sets of a study: read or embed, split, and keep labels that came with the data."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from golf.chem.conformers import conformations_of
from golf.chem.duplicates import IDENTICAL, equal_training
from golf.chem.molecules import canonical_smiles
from golf.chem.usable import LeftOut, Molecule, unusable
from golf.core.conformations import NEAR_TRAINING, ConformationSet, Status, concatenate
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.hdf5 import read_columns
from golf.core.labels import take_over_labels, unlabelled
from golf.core.level import LevelOfTheory
from golf.io.formats import GOLF, MOLECULES, count_conformations
from golf.io.plausibility import check_labels
from golf.io.read import read_conformations, usable
from golf.io.records import place_of, read_molecules
from golf.study.plan import Source, source_format

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Training set, test set, known DFT minima and records left out; see `prepare`.

    Attributes:
        train: training conformations; those without a label are marked `NOT_COMPUTED`.
        test: starts of the test relaxations, with the column near_training.
        reference: DFT minima that came with the test set, as `golf.oracles.minima` writes them; may be empty.
        left_out: molecules that could not be used.
    """

    train: ConformationSet
    test: ConformationSet
    reference: ConformationSet
    left_out: list[LeftOut]


def prepare(source: Source, level: LevelOfTheory, *, elements: Collection[int], seed: int) -> Dataset:
    """Prepare the training and test set of a study.

    Args:
        elements: atomic numbers that the oracle and the reference energies have; molecules with others are left out.

    Raises:
        UserError: a file is missing or of another kind, labels are of another level, a name is unknown, too many
            molecules had to be left out, or a set comes out empty.
    """
    kind = source_format(source, "train")
    if kind in MOLECULES:
        train, split_off, left_out = _embedded(source, elements, seed)
    else:
        pool, left_out = _conformations(source.train, kind, source, elements)
        pool = take_over_labels(pool, level, source.train, source.relabel)
        train, split_off = _split_conformations(pool, source)
    test, reference = split_off, split_off.subset([])
    if source.test is not None:
        test, reference, more = test_set(source.test, source, level, elements, seed)
        left_out = [*left_out, *more]
    for name, part in (("training", train), ("test", test)):
        if len(part) == 0:
            raise UserError(f"dataset.train {source.train}: the {name} set is empty; give more molecules or conformers")
    twice = set(train.id) & set(test.id)
    if twice:
        raise UserError(f"{min(twice)!r} is in the training and in the test set; rename it or take it out of one")
    test = _compared(test, train, source)
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


def _compared(test: ConformationSet, train: ConformationSet, source: Source) -> ConformationSet:
    """Add the column near_training to the test set: within dataset.prune_rmsd of a training conformation.

    Raises:
        UserError: one is a training conformation, or within that of one though its molecule is called unseen.
    """
    found = equal_training(test, train, max(source.prune_rmsd, IDENTICAL))
    near = found.train >= 0
    seen = {canonical_smiles(smiles) for smiles in set(train.mapped_smiles)}
    for i in np.flatnonzero(near).tolist():
        rmsd, other = found.rmsd[i], train.id[found.train[i]]
        unseen = test.molecule[i] in source.test_molecules or canonical_smiles(test.mapped_smiles[i]) not in seen
        if unseen and rmsd > IDENTICAL:
            raise UserError(
                f"test conformation {test.id[i]!r}: RMSD {rmsd:.3f} angstrom to training conformation {other!r}, but "
                "its molecule is called unseen; take one of the two out, or lower dataset.prune_rmsd"
            )
        if rmsd <= IDENTICAL:
            raise UserError(
                f"test conformation {test.id[i]!r} is the training conformation {other!r}: the same geometry of the "
                "same molecule; take it out of one, or give the molecule one name"
            )
    if near.any():
        logger.warning(
            "%d of %d test conformations lie within dataset.prune_rmsd %g angstrom of a training conformation (RMSD of "
            "all atoms, symmetry and mirror images allowed), first %s of %s: from them the study does not show how the "
            "network does from new starts",
            near.sum(),
            len(test),
            source.prune_rmsd,
            test.id[int(np.argmax(near))],
            train.id[found.train[np.argmax(near)]],
        )
    else:
        logger.info("no test conformation lies within dataset.prune_rmsd of a training conformation")
    return test.with_columns(values={NEAR_TRAINING: near})


def starts_near_training(path: str) -> set[str] | None:
    """Return the ids of the test conformations that are close to training ones; None if that was not checked."""
    column = f"conformation/{NEAR_TRAINING}"
    columns, _ = read_columns(path, "conformation/id", column)
    return set(columns["conformation/id"][columns[column].astype(np.bool_)].tolist()) if column in columns else None


def _conformations(
    path: str, kind: str, source: Source, elements: Collection[int]
) -> tuple[ConformationSet, list[LeftOut]]:
    """Read the conformations of a file that can be studied, with their labels."""
    pool, left_out = read_conformations(path, kind, source.subsets)
    pool, more = usable(pool, elements)
    left_out = [*left_out, *more]
    n_read = sum(count_conformations(path, kind, source.subsets).values())
    _check_left_out(path, left_out, n_read - len(pool), n_read, "conformations", source.max_left_out)
    if kind != GOLF and "status" in pool.values:  # golf's own format states its units
        check_labels(pool, path)
    return pool, left_out


def test_set(
    path: str, source: Source, level: LevelOfTheory, elements: Collection[int], seed: int
) -> tuple[ConformationSet, ConformationSet, list[LeftOut]]:
    """Return the starts of the test relaxations, the DFT minima that came with them, and the records left out.

    Raises:
        UserError: as `prepare` does.
    """
    kind = source_format(source, "test")
    if kind in MOLECULES:
        molecules, left_out = molecules_of(path, source, elements)
        n_conformers = max(1, source.test_conformers) if source.conformers else 0
        test, failed = _conformers(molecules, n_conformers, source, seed)
        _say_dropped(path, n_conformers * (len(molecules) - len(failed)), len(test), source.prune_rmsd)
        left_out += failed
        _check_left_out(path, left_out, len(left_out), len(molecules) + len(left_out), "molecules", source.max_left_out)
        return test, test.subset([]), left_out
    test, left_out = _conformations(path, kind, source, elements)
    return *with_known_minima(test, level, path, source.relabel), left_out


def with_known_minima(
    test: ConformationSet, level: LevelOfTheory, source: str, relabel: Collection[str] = ()
) -> tuple[ConformationSet, ConformationSet]:
    """Return the starts of a test set and the DFT minima that came with it."""
    labelled = take_over_labels(test, level, source, relabel)
    if "energy_first" not in test.values or "initial_position" not in test.atoms:
        return labelled, labelled.subset([])
    starts = test.with_columns(position=test.atoms["initial_position"]).bare()
    return starts, labelled.subset(labelled.values["status"] != Status.NOT_COMPUTED)


def molecules_of(path: str, source: Source, elements: Collection[int]) -> tuple[list[Molecule], list[LeftOut]]:
    """Read the molecules of a file that the oracle can label, and the records left out; see `read_molecules`."""
    return read_molecules(
        path,
        smiles_column=source.smiles_column,
        name_column=source.name_column,
        problem=partial(unusable, elements=elements),
    )


def _check_left_out(
    path: str, left_out: Sequence[LeftOut], n_left_out: int, n_read: int, words: str, max_left_out: float
) -> None:
    for out in left_out:
        logger.warning("%s: %s is left out: %s", path, place_of(out, path, with_text=True), out.reason)
    if n_left_out > max_left_out * n_read:
        first = left_out[0]
        raise UserError(
            f"{path}: {n_left_out} of {n_read} {words} cannot be used, more than dataset.max_left_out "
            f"{max_left_out:g} allows (first: {place_of(first, path)}: {first.reason})"
        )


def _embedded(
    source: Source, elements: Collection[int], seed: int
) -> tuple[ConformationSet, ConformationSet, list[LeftOut]]:
    molecules, left_out = molecules_of(source.train, source, elements)
    n_read = len(molecules) + len(left_out)
    check_names(source, {molecule.name for molecule in molecules} | {out.name for out in left_out})
    for_training = [molecule for molecule in molecules if molecule.name not in source.test_molecules]
    for_test = [molecule for molecule in molecules if molecule.name in source.test_molecules]
    n_held_out = 0 if source.test is not None else source.test_conformers
    n_conformers = source.conformers + n_held_out if source.conformers else 0
    n_of_test = n_held_out if source.conformers else 0
    known, failed = _conformers(for_training, n_conformers, source, seed)
    unseen, failed_of_test = _conformers(for_test, n_of_test, source, seed)
    asked = n_conformers * (len(for_training) - len(failed)) + n_of_test * (len(for_test) - len(failed_of_test))
    _say_dropped(source.train, asked, len(known) + len(unseen), source.prune_rmsd)
    left_out += [*failed, *failed_of_test]
    _check_left_out(source.train, left_out, len(left_out), n_read, "molecules", source.max_left_out)
    train, held_out = _split_by_conformation(known, n_held_out)
    return train, concatenate([held_out, unseen]), left_out


def _conformers(
    molecules: Sequence[Molecule], n_conformers: int, source: Source, seed: int
) -> tuple[ConformationSet, list[LeftOut]]:
    """Embed conformers that differ in any atom, hydrogens included."""
    return conformations_of(
        molecules,
        n_conformers=n_conformers,
        seed=seed,
        prune_rmsd=source.prune_rmsd,
        timeout=source.embed_timeout,
    )


def _say_dropped(path: str, n_asked: int, n_kept: int, prune_rmsd: float) -> None:
    """Log how many conformers could not be embedded, unless the geometries of an SDF were used."""
    n_dropped = n_asked - n_kept
    if n_asked > 0:
        logger.log(
            logging.WARNING if 2 * n_dropped > n_asked else logging.INFO,
            "%s: %d conformers asked for, %d dropped (within dataset.prune_rmsd %g angstrom of another one, or not "
            "embedded)",
            path,
            n_asked,
            n_dropped,
            prune_rmsd,
        )


def check_names(source: Source, known: set[str]) -> None:
    """Raise a UserError if a test molecule is unknown, or if all molecules are test molecules."""
    unknown = set(source.test_molecules) - known
    if unknown:
        raise UserError(f"dataset.test_molecules: {min(unknown)!r} is not in {source.train}")
    if known and known <= set(source.test_molecules):
        raise UserError(
            f"dataset.test_molecules: holds all {len(known)} molecules of {source.train}; leave some to train on"
        )


def _split_conformations(pool: ConformationSet, source: Source) -> tuple[ConformationSet, ConformationSet]:
    """Split a file of conformations for which no test set is given."""
    if source.test is not None:
        return pool, pool.subset([])
    check_names(source, set(pool.molecule))
    unseen = np.isin(pool.molecule, list(source.test_molecules))
    train, held_out = _split_by_conformation(pool.subset(~unseen), source.test_conformers)
    return train, concatenate([held_out, pool.subset(unseen)])


def _split_by_conformation(known: ConformationSet, n_held_out: int) -> tuple[ConformationSet, ConformationSet]:
    """Put the last `n_held_out` conformations of each molecule into the test set, but never the first."""
    held_out = np.zeros(len(known), dtype=bool)
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(known.molecule):
        rows.setdefault(name, []).append(i)
    for mine in rows.values():
        held_out[mine[max(1, len(mine) - n_held_out) :]] = n_held_out > 0
    return known.subset(~held_out), known.subset(held_out)


def usable_elements(covered: Collection[int], reference_energies: Mapping[str, float] | None) -> list[int]:
    """Return the atomic numbers with a basis set and, if reference energies are given, with one of those."""
    return [z for z in covered if reference_energies is None or SYMBOLS[z] in reference_energies]
