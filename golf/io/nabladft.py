"""Read nablaDFT databases: conformations and labels (Khrabrov et al., Phys. Chem. Chem. Phys. 24, 25853 (2022)).

They are ASE databases of formation energies: total energies minus those of the isolated atoms in the metadata
(`atomrefs`). A database of total energies is recognized by their magnitude. Energies returned here are total energies.
A row has a SMILES but no bonds: its atoms must be in the order of RDKit's `AddHs`, which is checked by the elements and
all bond lengths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from golf.chem.molecules import mapped_smiles, misfit
from golf.chem.usable import LeftOut
from golf.core.conformations import ConformationRecord, ConformationSet
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.labels import with_known_labels
from golf.io.databases import keys_of, opened, rows
from golf.io.formats import LEVELS, NABLADFT
from golf.io.identity import TIMEOUT, formal_charge

SURELY_TOTAL = 0.5
"""Fraction of the energies of isolated atoms between those of total energies (1.01) and formation energies (0.01)."""

NAMES = frozenset({"moses_id", "conformation_id"})
"""Keys of a row that name its molecule and its conformation."""

UNITS = {"energy": "Hartree", "forces": "Hartree/Ang"}
PROGRAM_VERSION = "1.5"


def read_nabladft(path: str | Path) -> ConformationSet:
    """Read all conformations of a database with their labels, in its order.

    Ids are `{moses_id}/{conformation_id}`. The level of theory is in the attributes.

    Raises:
        UserError: the file is missing or in other units, or a row lacks data.
    """
    path = Path(path)
    records, energies, forces, atoms = [], [], [], []
    with opened(path) as database:
        atom_energies = _atom_energies(database.metadata, path)
        for row in database.select():
            name = f"{path}: row {row.id}"
            numbers, positions = row.numbers, row.positions
            smiles = _mapped(row, name)
            id, molecule = _names(row, name)
            records.append(ConformationRecord(id, molecule, smiles, formal_charge(smiles), 1, numbers, positions))
            energy, force = _label(row, name)
            energies.append(energy)
            atoms.append(atom_energies[numbers].sum())
            forces.append(force)
    conformations = ConformationSet.build(records, program_version=PROGRAM_VERSION)
    return with_known_labels(
        conformations,
        _total(np.array(energies), np.array(atoms)),
        np.concatenate([np.zeros((0, 3)), *forces]),
        LEVELS[NABLADFT].attrs(),
    )


def _total(energies: NDArray[np.float64], atoms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert formation energies [n] to total energies; total energies, close to those of the atoms, are kept."""
    given_total = np.nanmedian(energies / atoms) > SURELY_TOTAL if np.isfinite(energies / atoms).any() else False
    return energies if given_total else energies + atoms


def is_nabladft(path: str | Path) -> bool:
    """Tell, by its first row, whether the rows of an ASE database are named as in nablaDFT.

    Raises:
        UserError: the file is missing, not an ASE database, or held by another process.
    """
    with opened(path) as database:
        return any(keys_of(row).keys() >= NAMES for row in database.select(limit=1))


def read_geometries(path: str | Path, timeout: float = TIMEOUT) -> tuple[ConformationSet, list[LeftOut]]:
    """Read the conformations of a database without their labels, which are not checked, and list the unusable rows.

    Raises:
        UserError: the file is missing, not an ASE database, or held by another process.
    """
    records, left_out = [], []
    taken: set[str] = set()
    for row in rows(path):
        try:
            smiles, charge, spin = row.identity(timeout)
            if not row.keys.keys() >= NAMES:
                raise UserError("has no moses_id or conformation_id")
            name = f"{row.keys['moses_id']}/{row.keys['conformation_id']}"
            if name in taken:
                raise UserError(f"{name} is already the name of another row; rename one")
        except UserError as error:
            left_out.append(row.left_out(str(error)))
            continue
        taken.add(name)
        molecule = row.keys["moses_id"]
        records.append(ConformationRecord(name, molecule, smiles, charge, spin, row.numbers, row.positions))
    return ConformationSet.build(records), left_out


def _atom_energies(metadata: dict[str, Any], path: Path) -> NDArray[np.float64]:
    """Read the energies (hartree) of isolated atoms by atomic number; NaN for missing elements."""
    units = metadata.get("_property_unit_dict")
    if metadata.get("_distance_unit") != "Ang" or not isinstance(units, dict) or not UNITS.items() <= units.items():
        raise UserError(f"{path}: does not state the units Ang, Hartree and Hartree/Ang; give a nablaDFT database")
    given = np.array(metadata.get("atomrefs", {}).get("energy", []), np.float64)
    if not given.any():
        raise UserError(f"{path}: has no energies of isolated atoms (metadata atomrefs); give a nablaDFT database")
    energies = np.full(len(SYMBOLS), np.nan)
    energies[: len(given)] = np.where(given == 0.0, np.nan, given)
    return energies


def _label(row: Any, name: str) -> tuple[float, NDArray[np.float64]]:
    """Return the formation energy (hartree) and the forces [n, 3] (hartree/angstrom) of a row."""
    try:
        energy = float(np.ravel(row.data["energy"])[0])
        forces = np.asarray(row.data["forces"], np.float64).reshape(-1, 3)
    except (KeyError, IndexError, ValueError, TypeError):
        raise UserError(f"{name}: lacks energy or forces; give a nablaDFT database") from None
    if len(forces) != len(row.numbers):
        raise UserError(f"{name}: has {len(forces)} rows of forces for {len(row.numbers)} atoms; remove it")
    return energy, forces


def _names(row: Any, name: str) -> tuple[str, str]:
    """Return the id of a row's conformation, and the name of its molecule."""
    try:
        return f"{row.moses_id}/{row.conformation_id}", str(row.moses_id)
    except AttributeError:
        raise UserError(f"{name}: has no moses_id or conformation_id; give a nablaDFT database") from None


def _mapped(row: Any, name: str) -> str:
    """Return the mapped SMILES of a row, after a check of the order of its atoms."""
    mol = Chem.MolFromSmiles(row.get("smiles", ""))
    if mol is None or not mol.GetNumAtoms():
        raise UserError(f"{name}: lacks a SMILES that RDKit can parse; remove it")
    mol = Chem.AddHs(mol)
    problem = misfit(mol, row.numbers, row.positions)
    if problem:
        raise UserError(f"{name}: {problem}")
    return mapped_smiles(mol)
