"""Read input files of any size in pieces of some thousand conformations, and list the records that cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from golf.chem import limited
from golf.chem.conformers import AUTO, TIMEOUT, Number, conformations_of, conformers_for
from golf.chem.fragments import REMOVED, largest_fragment
from golf.chem.geometry import geometry_problem
from golf.chem.isomers import STEREOISOMER, Isomers, stereoisomers
from golf.chem.molecules import canonical_smiles
from golf.chem.usable import PROPERTIES, LeftOut, shell_problem, structure_problem
from golf.core.conformations import ConformationSet
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.hdf5 import read, read_columns
from golf.core.progress import progress_bar
from golf.core.wording import and_more
from golf.io.formats import EXTXYZ, GOLF, MOLECULES, SDF, count_records, format_of
from golf.io.identity import closed_shell_problem, contradiction
from golf.io.read import StreamRecord, is_stream, read_whole, records_of
from golf.io.records import Record, collect, read_records
from golf.io.xyz import raw_frames

logger = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE = 64
"""Records whose stereoisomers are listed concurrently."""

MOST = 8
"""Limit, in units of the size of a piece, for consecutive records of one name before they may be divided."""


ATOMS = 50
"""Atoms of a molecule that counts once; one of 150 atoms counts three times, as it takes longer to embed and relax."""

SHOWN_ELEMENTS = 12
"""Number of known elements listed in a message; an imported model may have a hundred."""


@dataclass(frozen=True)
class Piece:
    """The conformations of some records, and the records among them that were left out.

    Attributes:
        lines: line or number of the record that each conformation comes from.
        n_expected: number of conformations if none were left out.
    """

    conformations: ConformationSet
    left_out: list[LeftOut]
    lines: list[int]
    n_expected: int


@dataclass(frozen=True)
class Embedding:
    """Settings for the embedding of molecules."""

    conformers: Number | None = None  # per molecule; None: one of a SMILES, the geometries of an SDF
    prune_rmsd: float = 0.0  # angstrom, all atoms
    seed: int = 1
    threads: int = 1
    timeout: float = TIMEOUT  # seconds of processor time, see `golf.chem.conformers.conformations_of`
    largest_fragment: bool = False  # of records with several parts, keep the largest (golf.chem.fragments)
    isomers: int | None = None  # limit of the stereoisomers of a molecule; None: one is chosen (golf.chem.isomers)


Refusal = Callable[[Chem.Mol], str]
"""Tells why a molecule with all hydrogens cannot be computed, worded to follow its place in a file; "" if it can."""


def takes_all(mol: Chem.Mol) -> str:
    """Refuse no molecule."""
    return ""


def pieces_of(
    path: str | Path,
    *,
    elements: Iterable[int],
    size: int,
    embedding: Embedding,
    together: bool = False,
    refusal: Refusal = takes_all,
) -> Iterator[Piece]:
    """Yield pieces of at least `size` conformations (the last may be smaller), in the order of the file.

    In SMILES and SDF files, conformations of molecules with more than `ATOMS` atoms count more than once.

    Consecutive records of a molecule (one name in an SDF, one molecule in an .h5) stay together, unless the geometries
    of one name fill more than `MOST` pieces. A name that appears again later is made unique with the number of its
    record, except in formats whose conformations name their molecule (.h5, nablaDFT, SPICE).

    Args:
        path: file in any supported format; databases of nablaDFT and SPICE are held in memory, others are not.
        elements: usable atomic numbers; conformations with other elements are left out.
        together: put all conformations of a molecule in one piece, however many they are and wherever they are in the
            file. Molecules then come in the order in which they first appear.
        refusal: asked of each molecule before it is embedded; geometries are not asked about.

    Raises:
        UserError: the file is missing, has an unknown format, or cannot be read at all.
    """
    path, known = Path(path), frozenset(elements)
    kind = format_of(path)
    if kind in MOLECULES:
        number: Number = embedding.conformers or (0 if kind == SDF else 1)
        yield from pieces_of_records(read_records(path), path, known, size, embedding, number, set(), refusal)
    elif kind == GOLF:
        yield from _from_h5(path, known, size, together)
    elif is_stream(path, kind):
        yield from pieces_of_frames(records_of(path, kind, embedding.timeout), known, size, together)
    else:
        conformations, left_out = read_whole(path, kind, embedding.timeout)
        for rows in _rows(np.array(conformations.molecule), size, together):
            yield usable_piece(conformations.subset(rows).bare(), rows + 1, left_out if rows[0] == 0 else [], known)


def expected(path: str | Path, conformers: Number | None) -> int | None:
    """Return the number of conformations that a file gives; None if only reading it would tell.

    Args:
        conformers: number per molecule, for files of molecules.

    Raises:
        UserError: the file is missing, has an unknown format, or cannot be read at all.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == GOLF:
        return len(read_columns(path, "conformation/charge")[0]["conformation/charge"])
    if kind == EXTXYZ:
        return sum(1 for _ in raw_frames(path))
    if kind not in MOLECULES or isinstance(conformers, str):
        return None
    return count_records(path) * (conformers or 1)


def pieces_of_records(
    given: Iterable[Record],
    path: Path,
    known: frozenset[int],
    size: int,
    embedding: Embedding,
    number: Number,
    taken: set[str],
    refusal: Refusal = takes_all,
) -> Iterator[Piece]:
    """Yield the conformations of records of molecules in pieces; see `pieces_of`.

    Args:
        path: file of the records, for messages.
        known: usable atomic numbers.
        number: conformers to embed of each molecule; 0: use the geometries of the records.
        taken: names used so far, to which those of these records are added.
        refusal: see `pieces_of`.
    """

    def problem(mol: Chem.Mol | None) -> str:
        found = shell_problem(mol)
        if found or mol is None:
            return found
        complete = Chem.AddHs(mol)
        foreign = _foreign((atom.GetAtomicNum() for atom in complete.GetAtoms()), known)
        return foreign or (refusal(complete) if number else "")

    def share(one: Record | LeftOut) -> float:
        return _number(one, number) * _share(one)

    records_in_pieces = _grouped(_prepared(given, embedding), lambda one: one.name, size, _are_two_molecules, share)
    for group in records_in_pieces:
        if embedding.largest_fragment:
            _report(group)
        refused = [one for one in group if isinstance(one, LeftOut)]
        records = [one for one in group if isinstance(one, Record)]
        molecules, left_out = collect(records, path, problem=problem, taken=taken)
        with progress_bar(len(molecules), "molecules of this piece embedded") as advance:
            conformations, failed = conformations_of(
                molecules,
                n_conformers=number,
                seed=embedding.seed,
                prune_rmsd=embedding.prune_rmsd,
                threads=embedding.threads,
                timeout=embedding.timeout,
                keep_properties=True,
                advance=advance,
            )
        lines = {molecule.name: molecule.line for molecule in molecules}
        usable, kept, broken = _sound(conformations, [lines[name] for name in conformations.molecule])
        left_out = [*refused, *left_out]
        n_expected = len(group)
        if number == AUTO:
            n_expected = len(left_out) + sum(conformers_for(molecule.mol, number) for molecule in molecules)
        elif number:
            n_expected = number * (len(molecules) + len(left_out))
        yield Piece(usable, sorted([*left_out, *failed, *broken], key=lambda out: out.line), kept, n_expected)


def _prepared(records: Iterable[Record], embedding: Embedding) -> Iterator[Record | LeftOut]:
    """Yield the records, with the largest fragment and one record for each stereoisomer, as the settings ask for.

    A record whose stereoisomers cannot be listed becomes an entry of those left out.
    """
    if embedding.largest_fragment:
        records = map(_without_small_fragments, records)
    if embedding.isomers is None:
        yield from records
        return
    stream = iter(records)
    while several := list(islice(stream, AT_ONCE)):
        sound = [one for one in several if one.mol is not None and not structure_problem(one.mol)]
        arguments = [(one.mol, embedding.isomers) for one in sound]
        found = limited.call_each(stereoisomers, arguments, seconds=embedding.timeout, threads=embedding.threads)
        isomers = dict(zip((one.line for one in sound), found, strict=True))
        for one in several:
            yield from _isomers_of(one, isomers[one.line], embedding) if one.line in isomers else [one]


def _without_small_fragments(record: Record) -> Record:
    """Return a record with the largest fragment of its molecule, and the others as a property."""
    if record.mol is None:
        return record
    kept, removed = largest_fragment(record.mol)
    return replace(record, mol=kept, properties={**record.properties, REMOVED: removed}) if removed else record


def _isomers_of(
    record: Record, found: Isomers | limited.NotFinished | None, embedding: Embedding
) -> list[Record] | list[LeftOut]:
    """Return a record for each stereoisomer, named NAME-SUFFIX, or the entry of a record that is left out."""
    if not isinstance(found, Isomers):
        reason = f"it has more than {embedding.isomers} stereoisomers; write those that you mean"
        if isinstance(found, limited.TimedOut):
            reason = f"its stereoisomers could not be listed within {found.seconds:g} s; write those that you mean"
        elif found is not None:
            reason = f"its stereoisomers could not be listed: {found}"
        return [LeftOut(record.line, record.name, record.text, reason)]
    if len(found.mols) == 1:
        return [replace(record, mol=found.mols[0]) if found.n_impossible else record]
    return [
        replace(
            record,
            name=f"{record.name}-{suffix}",
            mol=mol,
            properties={**record.properties, STEREOISOMER: Chem.MolToSmiles(mol)},
        )
        for mol, suffix in zip(found.mols, found.suffixes, strict=True)
    ]


def _report(group: Iterable[Record | LeftOut]) -> None:
    """Say of which records fragments were removed."""
    reduced = [one.name for one in group if isinstance(one, Record) and REMOVED in one.properties]
    if reduced:
        more = and_more(len(reduced))
        logger.warning("%s%s: only the largest fragment is used; see %s in outputs", reduced[0], more, REMOVED)


def _number(one: Record | LeftOut, number: Number) -> int:
    """Return the number of conformations that a record gives."""
    mol = one.mol if isinstance(one, Record) else None
    return max(1, conformers_for(mol, number)) if mol is not None else 1


def _share(record: Record | LeftOut) -> float:
    """Return the weight of a record's conformation in a piece: large molecules take more time and memory."""
    if isinstance(record, LeftOut) or record.mol is None:
        return 1.0
    return max(1.0, rdMolDescriptors.CalcNumAtoms(record.mol) / ATOMS)


def _are_two_molecules(record: Record | LeftOut, following: Record | LeftOut) -> bool:
    """Tell whether two records of the same name are not conformers of one molecule to `collect`."""
    if isinstance(record, LeftOut) or isinstance(following, LeftOut):
        return True
    if record.mol is None or following.mol is None:  # more of the molecule may follow
        return False
    one, other = (Chem.MolToSmiles(Chem.AddHs(mol)) for mol in (record.mol, following.mol))
    return one != other or not following.mol.GetNumConformers()


def _rows(names: NDArray, size: int, together: bool) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each piece of a file that names the molecule of every row."""
    order = np.arange(len(names))
    if together:
        _, first, molecule = np.unique(names, return_index=True, return_inverse=True)
        order = np.argsort(first[molecule], kind="stable")
    for group in _grouped(order.tolist(), lambda i: names[i], size, lambda *_: not together):
        yield np.array(group)


def _from_h5(path: Path, known: frozenset[int], size: int, together: bool) -> Iterator[Piece]:
    columns, _ = read_columns(path, "conformation/molecule")
    first: dict[str, tuple[str, str]] = {}
    for indices in _rows(columns["conformation/molecule"], size, together):
        stored = read(path, indices)
        conformations = stored.bare()
        if PROPERTIES in stored.values:
            conformations = conformations.with_columns(values={PROPERTIES: stored.values[PROPERTIES]})
        _check_names(path, conformations, first)
        yield usable_piece(conformations, indices + 1, [], known)


def _check_names(path: Path, conformations: ConformationSet, first: dict[str, tuple[str, str]]) -> None:
    """Raise a UserError if a name belongs to two molecules; `first` has id and SMILES of earlier ones by name."""
    columns = zip(conformations.id, conformations.molecule, map(canonical_smiles, conformations.mapped_smiles))
    for name, molecule_name, smiles in columns:
        other, known = first.setdefault(molecule_name, (name, smiles))
        if smiles != known:
            raise UserError(
                f"{path}: {other} and {name} are both of {molecule_name} but are not the same molecule; rename one"
            )


def pieces_of_frames(
    frames: Iterable[StreamRecord], known: frozenset[int], size: int, together: bool
) -> Iterator[Piece]:
    """Yield the conformations of records of geometries in pieces; see `pieces_of`."""
    for records in _grouped(frames, lambda frame: frame.name, size, lambda *_: not together):
        left_out, good, contents = [], [], []
        for frame in records:
            if isinstance(frame.content, LeftOut):
                left_out.append(frame.content)
            else:
                good.append(frame)
                contents.append(frame.content)
        conformations = ConformationSet.build(contents)
        conformations = conformations.with_columns(values={PROPERTIES: [frame.properties for frame in good]})
        yield usable_piece(conformations, np.array([frame.line for frame in good]), left_out, known)


def _open_shell(conformations: ConformationSet, i: int) -> str:
    if conformations.multiplicity[i] != 1:
        return f"its multiplicity is {conformations.multiplicity[i]}; only closed shells are covered"
    return closed_shell_problem(conformations.mapped_smiles[i])


def _grouped(
    records: Iterable[T],
    name: Callable[[T], object],
    size: int,
    divisible: Callable[[T, T], bool],
    share: Callable[[T], float] = lambda _: 1.0,
) -> Iterator[list[T]]:
    """Group records into lists whose weights `share` add up to at least `size`, without dividing those of one name.

    Only very many consecutive records of one name (a file in which all are named "ligand") are divided, between two
    that are `divisible`. The last list may be smaller.
    """
    group: list[T] = []
    weight = 0.0
    for record in records:
        full = weight >= size
        if full and name(record) == name(group[-1]):
            full = weight >= MOST * size and divisible(group[-1], record)
        if full:
            yield group
            group, weight = [], 0.0
        group.append(record)
        weight += share(record)
    if group:
        yield group


def usable_piece(
    conformations: ConformationSet, lines: NDArray[np.int64], left_out: list[LeftOut], known: frozenset[int]
) -> Piece:
    """Return a piece of the conformations that a potential for the `known` elements can relax.

    Args:
        lines: [N] line or number of the record of each conformation.
        left_out: records that have been left out before.
    """
    n_expected = len(conformations) + len(left_out)
    usable = []
    for i, name in enumerate(conformations.id):
        numbers, spin = conformations.number[conformations.rows(i)], int(conformations.multiplicity[i])
        reason = _foreign(numbers.tolist(), known) or _open_shell(conformations, i)
        reason = reason or contradiction(conformations.mapped_smiles[i], int(conformations.charge[i]), spin, numbers)
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
    words = (" ".join(SYMBOLS[number] for number in part) for part in (foreign, sorted(known)[:SHOWN_ELEMENTS]))
    more = f" and {len(known) - SHOWN_ELEMENTS} more" if len(known) > SHOWN_ELEMENTS else ""
    return "has {}, which the potential does not cover (it covers {}{})".format(*words, more)


def _sound(conformations: ConformationSet, lines: list[int]) -> tuple[ConformationSet, list[int], list[LeftOut]]:
    """Return the conformations with a valid geometry, their lines, and the entries of the others."""
    positions = conformations.positions_by_conformation()
    problems = list(map(geometry_problem, conformations.mapped_smiles, positions))
    broken = [
        LeftOut(lines[i], conformations.id[i], conformations.mapped_smiles[i], problem)
        for i, problem in enumerate(problems)
        if problem
    ]
    kept = [line for line, problem in zip(lines, problems, strict=True) if not problem]
    return conformations.subset(np.array([not problem for problem in problems], dtype=bool)), kept, broken
