"""Structure files of others, in and out: what the command line reads and writes besides our own HDF5."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from rdkit import Chem

from golf.chemistry import molecule
from golf.conformations import ConformationSet, StopReason
from golf.conformers import LeftOut, conformations_of, read_molecules
from golf.errors import UserError
from golf.extxyz import derived_bonds, frames, identity
from golf.formats import EXTXYZ, MOLECULES, NABLADFT, SDF, format_of
from golf.nabladft import is_nabladft
from golf.sources import read_conformations
from golf.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL

ConformationRecord = tuple[str, str, str, int, int, np.ndarray, np.ndarray]
"""What `ConformationSet.build` takes."""

OUTPUTS = (".h5", ".sdf", ".xyz", ".extxyz")


def read_structures(path: str | Path, *, conformers: int | None = None, seed: int = 1) -> ConformationSet:
    """Conformations of a file of any kind that we read.

    Molecules are embedded (`conformers` each; None: once, but those of an SDF keep its geometries). Molecules of an
    ASE .db that is not of nablaDFT have no bonds; these are derived from the geometry, with the total charge of the
    column charge where it is given.

    Raises:
        UserError: the file is missing, of another kind, empty, or a record cannot be used; names the record.
    """
    path = Path(path)
    kind = format_of(path)
    if kind in MOLECULES:
        molecules, left_out = read_molecules(path)
        n_conformers = conformers or (0 if kind == SDF else 1)
        conformations, failed = conformations_of(molecules, n_conformers=n_conformers, seed=seed, prune_rmsd=0.0)
        left_out = [*left_out, *failed]
    elif kind == NABLADFT and not is_nabladft(path):
        records = [record for _, record in records_of(path, kind)]
        left_out = [record for record in records if isinstance(record, LeftOut)]
        conformations = ConformationSet.build(record for record in records if not isinstance(record, LeftOut))
    else:
        conformations, left_out = read_conformations(path, kind)
    for out in left_out:
        raise UserError(f"{path}: line {out.line} ({out.name}, {out.text}): {out.reason}; correct or remove it")
    if len(conformations) == 0:
        raise UserError(f"{path}: holds no conformations")
    if not np.isfinite(conformations.position).all():
        finite = [bool(np.isfinite(positions).all()) for positions in conformations.positions_by_conformation()]
        raise UserError(f"{path}: {conformations.id[finite.index(False)]}: positions are not finite numbers; remove it")
    return conformations


def is_stream(path: Path, kind: str) -> bool:
    """Whether the conformations of a file can be read one by one, by `records_of`."""
    return kind == EXTXYZ or (kind == NABLADFT and not is_nabladft(path))


def records_of(path: Path, kind: str) -> Iterator[tuple[int, ConformationRecord | LeftOut]]:
    """Number and conformation of each record of an extended XYZ file or an ASE database, or why it cannot be used.

    Raises:
        UserError: the file cannot be read.
    """
    seen: Counter[str] = Counter()
    for i, atoms in enumerate(frames(path) if kind == EXTXYZ else _rows(path), start=1):
        where = f"record {i}"
        try:
            if kind == EXTXYZ:
                name, smiles, charge, spin = identity(atoms, where)
            else:
                charge, spin = int(atoms.info["charge"]), 1
                name, smiles = f"{path.stem}-{i}", derived_bonds(atoms, charge, where)
        except UserError as error:
            yield i, LeftOut(i, where, atoms.get_chemical_formula(), str(error).removeprefix(f"{where}: "))
            continue
        yield i, (f"{name}/{seen[name]:04d}", name, smiles, charge, spin, atoms.numbers, atoms.positions)
        seen[name] += 1


def _rows(path: Path) -> Iterator[Atoms]:
    try:
        with ase.db.connect(path, type="db") as database:
            for row in database.select():
                atoms = row.toatoms()
                atoms.info["charge"] = int(row.get("charge", 0))
                yield atoms
    except (sqlite3.DatabaseError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not an ASE database ({error})") from None


def write_structures(stream: TextIO, suffix: str, relaxed: ConformationSet) -> None:
    """Append relaxed conformations to a .sdf, or to a .xyz or .extxyz (energies in eV, as ASE has them).

    Columns go along with their units in the names, and so do the properties that the input had.
    """
    for i, name in enumerate(relaxed.id):
        properties = _properties(relaxed, i)
        positions = relaxed.position[relaxed.rows(i)]
        if suffix == ".sdf":
            mol = molecule(relaxed.mapped_smiles[i], positions)
            mol.SetProp("_Name", name)
            for key, value in properties.items():
                mol.SetProp(key, str(value))
            stream.write(Chem.SDWriter.GetText(mol))  # RDKit's own writer does not say when the disk is full
        else:
            atoms = Atoms(numbers=relaxed.number[relaxed.rows(i)], positions=positions)
            energy = float(relaxed.values["nnp_energy_last"][i]) * HARTREE_IN_EV
            atoms.info = {"name": name, "energy_eV": energy, "charge": int(relaxed.charge[i]), **properties}
            ase.io.write(stream, atoms, format="extxyz")


def _properties(relaxed: ConformationSet, i: int) -> dict[str, Any]:
    values = relaxed.values
    given = json.loads(values["properties"][i] or "{}") if "properties" in values else {}
    unlike = str(values["unlike_training"][i]) if "unlike_training" in values else ""
    return given | {
        "energy_hartree": f"{values['nnp_energy_last'][i]:.8f}",
        "relative_energy_kcal_mol": f"{values['relative_energy'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "largest_force_kcal_mol_angstrom": f"{values['largest_force'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "stop_reason": StopReason(values["stop_reason"][i]).name.lower(),
        "n_steps": str(values["n_steps"][i]),
        **({"unlike_training": unlike} if unlike else {}),
    }
