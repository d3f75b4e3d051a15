"""Input files of any size in pieces: some thousand conformations at a time, and the records that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from golf.chemistry import canonical_smiles, molecule
from golf.conformations import ConformationSet
from golf.conformers import conformations_of
from golf.elements import SYMBOLS
from golf.errors import UserError
from golf.files import suffix_of
from golf.formats import EXTXYZ, GOLF, MOLECULES, comments, count_records, format_of
from golf.hdf5 import read, read_columns
from golf.records import PROPERTIES, RADICAL, LeftOut, collect, is_radical, read_records, shell_problem
from golf.sources import read_conformations
from golf.structures import is_stream, records_of

T = TypeVar("T")

MOST = 8
"""Sizes of a piece, at most."""

AT_ONE_POINT = 0.1
"""angstrom; no two nuclei of a molecule are as near."""


@dataclass(frozen=True)
class Piece:
    """Conformations of consecutive records and what was left out of these; all conformers of a molecule together.

    Attributes:
        lines: of the record that each conformation comes from.
        n_expected: conformations that there would be if none were left out.
    """

    conformations: ConformationSet
    left_out: list[LeftOut]
    lines: list[int]
    n_expected: int


@dataclass(frozen=True)
class Embedding:
    """How molecules become geometries."""

    conformers: int | None = None  # per molecule; None: one of a SMILES, the geometries of an SDF file
    prune_rmsd: float = 0.0  # angstrom, all atoms
    seed: int = 1
    threads: int = 1


def pieces_of(path: str | Path, *, elements: Iterable[int], size: int, embedding: Embedding) -> Iterator[Piece]:
    """Pieces of at least `size` conformations, but for the last one, in the order of the file.

    Consecutive records of a molecule (one name in an SDF, one molecule in an .h5) stay together. A name that stands
    again is made unique with the number of its record.

    Args:
        path: in any format that we read; databases of nablaDFT and SPICE are held in memory, the others are not.
        elements: atomic numbers that can be used; conformations with others are left out.

    Raises:
        UserError: the file is missing, of another kind, or not readable at all.
    """
    path, known = Path(path), frozenset(elements)
    kind = format_of(path)
    if kind in MOLECULES:
        yield from _from_records(path, known, size, embedding)
    elif kind == GOLF:
        yield from _from_h5(path, known, size)
    elif is_stream(path, kind):
        yield from _from_geometries(path, kind, known, size)
    else:
        conformations, left_out = read_conformations(path, kind)
        for group in _grouped(enumerate(conformations.molecule), lambda row: row[1], size):
            rows = np.array([i for i, _ in group])
            yield _sorted_out(conformations.subset(rows).bare(), rows + 1, left_out if rows[0] == 0 else [], known)


def expected(path: str | Path, conformers: int | None) -> int | None:
    """How many conformations a file holds, or will with so many per molecule; None where counting takes reading it.

    Raises:
        UserError: the file is missing, of another kind, or not readable at all.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == GOLF:
        return len(read_columns(path, "conformation/charge")[0]["conformation/charge"])
    if kind == EXTXYZ:
        return sum(1 for _ in comments(path))
    if kind not in MOLECULES:
        return None
    return count_records(path) * (conformers or 1)


def _from_records(path: Path, known: frozenset[int], size: int, embedding: Embedding) -> Iterator[Piece]:
    n_conformers = embedding.conformers or (0 if suffix_of(path) == ".sdf" else 1)
    taken: set[str] = set()

    def problem(mol: Chem.Mol | None) -> str:
        found = shell_problem(mol)
        if found or mol is None:
            return found
        return _foreign((atom.GetAtomicNum() for atom in mol.GetAtoms()), known)

    for records in _grouped(read_records(path), lambda record: record.name, max(1, size // (n_conformers or 1))):
        molecules, left_out = collect(records, path, problem=problem, taken=taken)
        conformations, failed = conformations_of(
            molecules,
            n_conformers=n_conformers,
            seed=embedding.seed,
            prune_rmsd=embedding.prune_rmsd,
            threads=embedding.threads,
            keep_properties=True,
        )
        lines = {molecule.name: molecule.line for molecule in molecules}
        usable, kept, broken = _sound(conformations, [lines[name] for name in conformations.molecule])
        n_expected = n_conformers * (len(molecules) + len(left_out)) if n_conformers else len(records)
        yield Piece(usable, sorted([*left_out, *failed, *broken], key=lambda out: out.line), kept, n_expected)


def _from_h5(path: Path, known: frozenset[int], size: int) -> Iterator[Piece]:
    columns, _ = read_columns(path, "conformation/molecule")
    numbered = enumerate(columns["conformation/molecule"])
    for rows in _grouped(numbered, lambda row: row[1], size):
        indices = np.array([i for i, _ in rows])
        stored = read(path, indices)
        conformations = stored.bare()
        if PROPERTIES in stored.values:
            conformations = conformations.with_columns(values={PROPERTIES: stored.values[PROPERTIES]})
        _check_names(path, conformations)
        yield _sorted_out(conformations, indices + 1, [], known)


def _check_names(path: Path, conformations: ConformationSet) -> None:
    first: dict[str, tuple[str, str]] = {}
    columns = zip(conformations.id, conformations.molecule, map(canonical_smiles, conformations.mapped_smiles))
    for name, molecule_name, smiles in columns:
        other, known = first.setdefault(molecule_name, (name, smiles))
        if smiles != known:
            raise UserError(
                f"{path}: {other} and {name} are both of {molecule_name} and are not the same molecule; rename one"
            )


def _from_geometries(path: Path, kind: str, known: frozenset[int], size: int) -> Iterator[Piece]:
    for records in _grouped(records_of(path, kind), lambda frame: frame.name, size):
        left_out, good, contents = [], [], []
        for frame in records:
            if isinstance(frame.content, LeftOut):
                left_out.append(frame.content)
            else:
                good.append(frame)
                contents.append(frame.content)
        conformations = ConformationSet.build(contents)
        conformations = conformations.with_columns(values={PROPERTIES: [frame.properties for frame in good]})
        yield _sorted_out(conformations, np.array([frame.line for frame in good]), left_out, known)


def _open_shell(conformations: ConformationSet, i: int) -> str:
    if conformations.multiplicity[i] != 1:
        return f"its multiplicity is {conformations.multiplicity[i]}; only closed shells are covered"
    return RADICAL if is_radical(molecule(conformations.mapped_smiles[i])) else ""


def _grouped(records: Iterable[T], name: Callable[[T], object], size: int) -> Iterator[list[T]]:
    """Lists of at least `size` records, but for the last, that do not divide consecutive ones of one name.

    Only where there are very many of one name (a file in which all are called "ligand") these are divided.
    """
    group: list[T] = []
    for record in records:
        if len(group) >= size and (name(record) != name(group[-1]) or len(group) >= MOST * size):
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def _sorted_out(
    conformations: ConformationSet, lines: np.ndarray, left_out: list[LeftOut], known: frozenset[int]
) -> Piece:
    n_expected = len(conformations) + len(left_out)
    usable = []
    for i, name in enumerate(conformations.id):
        reason = _foreign(conformations.number[conformations.rows(i)].tolist(), known) or _open_shell(conformations, i)
        if reason:
            left_out.append(LeftOut(int(lines[i]), name, conformations.mapped_smiles[i], reason))
        else:
            usable.append(i)
    sound, kept, broken = _sound(conformations.subset(usable), lines[usable].tolist())
    return Piece(sound, sorted([*left_out, *broken], key=lambda out: out.line), kept, n_expected)


def _foreign(numbers: Iterable[int], known: frozenset[int]) -> str:
    foreign = sorted(set(numbers) - known)
    if not foreign:
        return ""
    words = (" ".join(SYMBOLS[number] for number in part) for part in (foreign, sorted(known)))
    return "has {}, which the model never saw (it knows {})".format(*words)


def _sound(conformations: ConformationSet, lines: list[int]) -> tuple[ConformationSet, list[int], list[LeftOut]]:
    """The conformations that have a geometry, their lines, and the other ones."""
    problems = [_geometry_problem(positions) for positions in conformations.positions_by_conformation()]
    broken = [
        LeftOut(lines[i], conformations.id[i], conformations.mapped_smiles[i], problem)
        for i, problem in enumerate(problems)
        if problem
    ]
    kept = [line for line, problem in zip(lines, problems, strict=True) if not problem]
    return conformations.subset(np.array([not problem for problem in problems], dtype=bool)), kept, broken


def _geometry_problem(positions: NDArray) -> str:
    if not np.isfinite(positions).all():
        return "positions that are not finite numbers"
    squares = np.square(positions[:, None] - positions).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    return "two atoms at one point" if len(positions) and squares.min() < AT_ONE_POINT**2 else ""
