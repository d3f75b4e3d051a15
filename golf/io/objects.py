"""Take molecules from Python: SMILES, RDKit molecules and ASE atoms become the pieces that files of them would give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from ase import Atoms
from rdkit import Chem

from golf.chem.parsing import from_smiles
from golf.chem.usable import PROPERTIES
from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.files import GZIP, suffix_of
from golf.io.extxyz import GeometryRecord
from golf.io.formats import SUFFIXES
from golf.io.pieces import (
    Embedding,
    Piece,
    Refusal,
    pieces_of,
    pieces_of_frames,
    pieces_of_records,
    takes_all,
    usable_piece,
)
from golf.io.read import stream_records
from golf.io.records import Record

One: TypeAlias = str | Chem.Mol | Atoms
Molecules: TypeAlias = One | Sequence[One] | Mapping[str, One] | ConformationSet | Path
"""SMILES, RDKit molecules or ASE atoms, one of them, several, or several with their names; conformations; a file."""

PLACE = Path("molecules")
"""What stands for a file in messages."""


def pieces_of_objects(
    given: Molecules,
    *,
    elements: Iterable[int],
    size: int,
    embedding: Embedding,
    together: bool = False,
    refusal: Refusal = takes_all,
) -> Iterator[Piece]:
    """Yield the conformations of molecules in pieces, in their order; see `golf.io.pieces.pieces_of`.

    A SMILES, and an RDKit molecule without a geometry, is embedded. Molecules are called by the keys of a mapping, the
    property `_Name` of an RDKit molecule or `name` in the info of ASE atoms, else mol1, mol2 and so on. Charge,
    multiplicity and bonds of ASE atoms are found as those of frames of extended XYZ.

    Raises:
        UserError: an object is of another kind, or SMILES or RDKit molecules are mixed with ASE atoms.
    """
    if isinstance(given, Path):
        yield from pieces_of(
            given, elements=elements, size=size, embedding=embedding, together=together, refusal=refusal
        )
        return
    known = frozenset(elements)
    if isinstance(given, ConformationSet):
        for start in range(0, len(given), size) if not together else (0,):
            part = given.subset(range(start, len(given) if together else min(len(given), start + size)))
            bare = part.bare()
            if PROPERTIES in part.values:
                bare = bare.with_columns(values={PROPERTIES: part.values[PROPERTIES]})
            yield usable_piece(bare, np.arange(start, start + len(part)) + 1, [], known)
        return
    named = _named(given)
    atoms = [(i, name, one) for i, (name, one) in enumerate(named, start=1) if isinstance(one, Atoms)]
    if len(atoms) == len(named):
        frames = (_geometry(*one) for one in atoms)
        stream = stream_records(frames, lambda one, _: f"mol{one.number}", embedding.timeout)
        yield from pieces_of_frames(stream, known, size, together)
        return
    if atoms:
        raise UserError("SMILES or RDKit molecules and ASE atoms together; relax them in two calls")
    taken: set[str] = set()
    for has_geometry, records in groupby(_records(named), _has_geometry):
        n_conformers = embedding.conformers or (0 if has_geometry else 1)
        yield from pieces_of_records(records, PLACE, known, size, embedding, n_conformers, taken, refusal)


def _named(given: One | Sequence[One] | Mapping[str, One]) -> list[tuple[str, One]]:
    """Return molecules with their names; "" if they have none from a mapping."""
    if isinstance(given, Mapping):
        named = [(str(name), one) for name, one in given.items()]
    elif isinstance(given, str | Chem.Mol | Atoms):
        named = [("", given)]
    elif isinstance(given, Iterable):
        named = [("", one) for one in given]
    else:
        raise UserError(f"{type(given).__name__} is not a molecule; {_GIVE}")
    for i, (_, one) in enumerate(named, start=1):
        if isinstance(one, str) and suffix_of(one) in {*SUFFIXES, GZIP}:  # no SMILES ends with one of them
            raise UserError(f"molecule {i}: {one!r} is the name of a file and not a SMILES; give pathlib.Path({one!r})")
        if one is not None and not isinstance(one, str | Chem.Mol | Atoms):  # None: what RDKit could not parse
            raise UserError(f"molecule {i} is of type {type(one).__name__}; {_GIVE}")
    return named


_GIVE = "give SMILES, RDKit molecules, ASE atoms, a ConformationSet, or a pathlib.Path of a file"


def _records(named: Iterable[tuple[str, Any]]) -> Iterator[Record]:
    """Yield SMILES and RDKit molecules as the records of a file; each conformer of a molecule is one."""
    for i, (name, one) in enumerate(named, start=1):
        if isinstance(one, str):
            mol, error = from_smiles(one)
            yield Record(i, name or f"mol{i}", one, mol, {}, error)
            continue
        if one is None:
            yield Record(i, name or f"mol{i}", "None", None, {}, "it is None")
            continue
        own = one.GetProp("_Name").strip() if one.HasProp("_Name") else ""
        called, text = name or own or f"mol{i}", Chem.MolToSmiles(Chem.RemoveHs(one, sanitize=False))
        for conformer in list(one.GetConformers()) or [None]:
            copy = Chem.Mol(one)
            copy.RemoveAllConformers()
            if conformer is not None:
                copy.AddConformer(conformer, assignId=True)
            yield Record(i, called, text, copy)


def _has_geometry(record: Record) -> bool:
    return record.mol is not None and any(conformer.Is3D() for conformer in record.mol.GetConformers())


def _geometry(number: int, name: str, atoms: Atoms) -> GeometryRecord:
    """Return ASE atoms as a frame of a file: its info is the keys."""
    keys = {str(key): str(value) for key, value in atoms.info.items() if np.ndim(value) == 0}
    if name:
        keys = {**keys, "molecule": name}
    columns = {str(key): atoms.arrays[key] for key in ("initial_charges", "initial_magmoms") if key in atoms.arrays}
    problem = "has no atoms" if not len(atoms) else "is periodic; set atoms.pbc = False" if atoms.pbc.any() else ""
    numbers = np.asarray(atoms.numbers, np.int64)
    if (numbers <= 0).any():
        return GeometryRecord(number, f"molecule {number}", keys, problem="has a ghost or dummy atom; remove it")
    positions = np.asarray(atoms.positions, np.float64)
    return GeometryRecord(number, f"molecule {number}", keys, numbers, positions, columns, problem)
