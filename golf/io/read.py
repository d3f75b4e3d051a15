"""Read conformations from files in any supported format, and find those that can be studied."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golf.chem.conformers import TIMEOUT, conformations_of
from golf.chem.geometry import geometry_problem
from golf.chem.molecules import canonical_smiles, molecule
from golf.chem.usable import LeftOut, shell_problem, unusable
from golf.core.conformations import ConformationRecord, ConformationSet
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.io.databases import rows
from golf.io.extxyz import GeometryRecord, geometries, inputs_of
from golf.io.formats import EXTXYZ, MOLECULES, NABLADFT, SDF, SPICE, format_of
from golf.io.identity import closed_shell_problem, contradiction
from golf.io.labelled import read_extxyz
from golf.io.nabladft import is_nabladft, read_geometries, read_nabladft
from golf.io.records import place_of, read_molecules, unique_name
from golf.io.spice import read_spice
from golf.io.xyz import molecule_name


def read_conformations(
    path: str | Path, kind: str, subsets: Collection[str] = ()
) -> tuple[ConformationSet, list[LeftOut]]:
    """Read the conformations of a file with their labels, and list the records that cannot be read.

    Args:
        kind: one of the formats of conformations in `golf.io.formats`.
        subsets: names of subsets of SPICE; empty for all.

    Raises:
        UserError: the file cannot be read or does not follow its format; the message names the record.
    """
    if subsets and kind != SPICE:
        raise UserError(f"{path}: dataset.subsets is for SPICE files, but the format is {kind}; leave it out")
    if kind == SPICE:
        return read_spice(path, subsets)
    if kind == EXTXYZ:
        return read_extxyz(path)
    if kind == NABLADFT:
        return read_nabladft(path), []
    return consistent(read(path))


def consistent(conformations: ConformationSet) -> tuple[ConformationSet, list[LeftOut]]:
    """Return the conformations whose columns do not contradict their SMILES, and the entries of the others."""
    left_out = []
    for i, smiles in enumerate(conformations.mapped_smiles):
        charge, spin = int(conformations.charge[i]), int(conformations.multiplicity[i])
        reason = contradiction(smiles, charge, spin, conformations.number[conformations.rows(i)])
        if reason:
            left_out.append(LeftOut(i + 1, conformations.id[i], smiles, reason))
    if not left_out:
        return conformations, []
    bad = {out.line - 1 for out in left_out}
    return conformations.subset([i for i in range(len(conformations)) if i not in bad]), left_out


def usable(conformations: ConformationSet, elements: Collection[int]) -> tuple[ConformationSet, list[LeftOut]]:
    """Return the conformations of molecules that MMFF94 and the oracle cover, and entries of those left out.

    Args:
        elements: atomic numbers that the oracle covers.
    """
    reasons: dict[str, str] = {}
    left_out: dict[str, LeftOut] = {}
    good = np.ones(len(conformations), dtype=bool)
    for i, positions in enumerate(conformations.positions_by_conformation()):
        smiles, spin = conformations.mapped_smiles[i], int(conformations.multiplicity[i])
        if smiles not in reasons:
            reasons[smiles] = unusable(molecule(smiles), elements)
        reason = reasons[smiles] or (
            f"its multiplicity is {spin}, but MMFF94 describes closed shells only" if spin != 1 else ""
        )
        broken = "" if reason else geometry_problem(smiles, positions)
        if reason or broken:
            good[i] = False
            known_by, name = (smiles, conformations.molecule[i]) if reason else (conformations.id[i],) * 2
            left_out.setdefault(known_by, LeftOut(i + 1, name, smiles, reason or broken))
    return conformations if good.all() else conformations.subset(good), list(left_out.values())


@dataclass(frozen=True)
class StreamRecord:
    """A record of a file whose conformations are read one by one.

    Attributes:
        line: number of the record, from 1.
        name: name in the file; consecutive records with one name belong together. An unusable record has the name of
            the one before it.
        content: the conformation, or the reason why it cannot be used.
        properties: properties of the input (JSON) in an .xyz file that golf has written; else "".
    """

    line: int
    name: str
    content: ConformationRecord | LeftOut
    properties: str = ""


def read_structures(
    path: str | Path, *, conformers: int | None = None, seed: int = 1, timeout: float = TIMEOUT
) -> ConformationSet:
    """Read the conformations of a file in any supported format, without labels.

    Molecules are embedded. For frames and rows without a SMILES, bonds are derived from the geometry and the stated
    charge.

    Args:
        conformers: number per molecule; None for one, or the geometries of an SDF.
        seed: of the embedding.
        timeout: limit of the processor time, in seconds, see `golf.chem.conformers.TIMEOUT`.

    Raises:
        UserError: the file is missing, empty, has an unknown format, or a record cannot be used; the message names it.
    """
    path = Path(path)
    kind = format_of(path)
    if kind in MOLECULES:
        molecules, left_out = read_molecules(path, problem=shell_problem)
        n_conformers = conformers or (0 if kind == SDF else 1)
        conformations, failed = conformations_of(
            molecules, n_conformers=n_conformers, seed=seed, prune_rmsd=0.0, timeout=timeout
        )
        left_out = [*left_out, *failed]
    else:
        conformations, left_out = read_whole(path, kind, timeout)
    for out in left_out:
        raise UserError(f"{path}: {place_of(out, path, with_text=True)}: {out.reason}")
    if len(conformations) == 0:
        raise UserError(f"{path}: holds no conformations; give another file")
    for i, positions in enumerate(conformations.positions_by_conformation()):
        smiles = conformations.mapped_smiles[i]
        # other multiplicities are computed as stated
        open_shell = closed_shell_problem(smiles) if conformations.multiplicity[i] == 1 else ""
        problem = open_shell or geometry_problem(smiles, positions)
        if problem:
            raise UserError(f"{path}: {conformations.id[i]}: {problem}; correct or remove it")
    return conformations


def read_whole(path: Path, kind: str, timeout: float = TIMEOUT) -> tuple[ConformationSet, list[LeftOut]]:
    """Read all conformations of a file of conformations, and list those left out; streamed formats have no labels here.

    Raises:
        UserError: the file cannot be read.
    """
    if not is_stream(path, kind):
        return read_geometries(path, timeout) if kind == NABLADFT else read_conformations(path, kind)
    records = [frame.content for frame in records_of(path, kind, timeout)]
    left_out = [record for record in records if isinstance(record, LeftOut)]
    return ConformationSet.build(record for record in records if not isinstance(record, LeftOut)), left_out


def is_stream(path: Path, kind: str) -> bool:
    """Tell whether `records_of` can read the conformations of a file one by one."""
    return kind == EXTXYZ or (kind == NABLADFT and not is_nabladft(path))


def records_of(path: Path, kind: str, timeout: float = TIMEOUT) -> Iterator[StreamRecord]:
    """Yield the records of an extended XYZ file or an ASE database; see `stream_records`.

    A frame without a name is named by its SMILES, a row by the name of the file and its number.

    Raises:
        UserError: the file cannot be read.
    """
    if kind == EXTXYZ:
        yield from stream_records(geometries(path), lambda one, smiles: smiles, timeout)
    else:
        yield from stream_records(rows(path), lambda one, smiles: f"{path.stem}-{one.number}", timeout)


def stream_records(
    given: Iterable[GeometryRecord], default_name: Callable[[GeometryRecord, str], str], timeout: float = TIMEOUT
) -> Iterator[StreamRecord]:
    """Yield geometries as conformations of molecules with unique names, or with the reason why they cannot be used.

    Consecutive records of one name and one molecule are its conformers. Another molecule of that name, or one that
    appears after others, gets the number of its record appended.

    Args:
        default_name: name of a record that states none, from the record and its SMILES.
        timeout: limit of the processor time, in seconds, to find the bonds of a record.
    """
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    group, unique = "", dict[str, str]()  # the current name, and the unique names of its molecules
    for one in given:
        try:
            smiles, charge, spin = one.identity(timeout)
        except UserError as error:
            yield StreamRecord(one.number, group, one.left_out(str(error)))
            continue
        own = canonical_smiles(smiles)
        name = molecule_name(one.keys) or default_name(one, own)
        if name != group:
            group, unique = name, {}
        if own not in unique:
            unique[own] = unique_name(name, one.number, taken)
        called = unique[own]
        id = f"{called}/{seen[called]:04d}"
        record = ConformationRecord(id, called, smiles, charge, spin, one.numbers, one.positions)
        properties = inputs_of(one.keys)
        yield StreamRecord(one.number, name, record, json.dumps(properties) if properties else "")
        seen[called] += 1
