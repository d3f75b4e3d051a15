"""Molecules from SMILES or SDF files to 3D conformations, and a record of every molecule that is left out and why."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rdkit import Chem, RDLogger
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from golf.chemistry import mapped_smiles
from golf.conformations import ConformationSet
from golf.errors import UserError
from golf.planning import MOLECULE_SUFFIXES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Molecule:
    """One record of an input file: a molecule with explicit hydrogens; conformers only if it came with 3D."""

    name: str
    mol: Chem.Mol
    line: int


@dataclass(frozen=True)
class LeftOut:
    """A record that cannot be used. `line` counts from 1; for SDF it is the number of the record."""

    line: int
    name: str
    text: str
    reason: str


def read_molecules(
    path: str | Path, *, smiles_column: str = "smiles", name_column: str = "name"
) -> tuple[list[Molecule], list[LeftOut]]:
    """Molecules of a .smi (SMILES, then a name), .csv or .sdf file, and the records that are left out.

    Names default to `mol<line>`. Hydrogens are added; charge and multiplicity follow from the SMILES.

    Raises:
        UserError: the file is missing, empty, of an unknown suffix, lacks the column, or two records share a name.
    """
    path = Path(path)
    if path.suffix not in MOLECULE_SUFFIXES:
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r}; molecules are read from {', '.join(MOLECULE_SUFFIXES)}"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    records = list(_records(path, smiles_column, name_column))
    if not records:
        raise UserError(f"{path}: holds no molecules")
    molecules: list[Molecule] = []
    left_out: list[LeftOut] = []
    lines: dict[str, int] = {}
    for line, name, text, mol in records:
        if name in lines:
            raise UserError(f"{path}: line {line}: name {name!r} stands already in line {lines[name]}; rename one")
        lines[name] = line
        reason = _unusable(mol)
        if reason:
            left_out.append(LeftOut(line, name, text, reason))
            logger.warning("%s: line %d: %s (%s) is left out: %s", path, line, name, text, reason)
        else:
            molecules.append(Molecule(name, Chem.AddHs(mol, addCoords=True), line))
    return molecules, left_out


def _records(path: Path, smiles_column: str, name_column: str) -> Iterator[tuple[int, str, str, Chem.Mol | None]]:
    """(line, name, what stands there, molecule or None) of every record."""
    if path.suffix == ".sdf":
        for i, mol in enumerate(Chem.SDMolSupplier(str(path), removeHs=False), start=1):
            name = mol.GetProp("_Name").strip() if mol is not None and mol.HasProp("_Name") else ""
            yield i, name or f"mol{i}", "record of an SDF file", mol
        return
    with open(path, newline="") as stream:
        if path.suffix == ".csv":
            reader = csv.DictReader(stream)
            if smiles_column not in (reader.fieldnames or []):
                raise UserError(f"{path}: has no column {smiles_column!r}; set dataset.smiles_column")
            for row in reader:
                smiles = (row[smiles_column] or "").strip()
                name = (row.get(name_column) or "").strip()
                yield reader.line_num, name or f"mol{reader.line_num}", smiles, _parse(smiles)
            return
        for i, line in enumerate(stream, start=1):
            smiles, *name = line.split(maxsplit=1)[:2] or [""]
            if smiles and not line.startswith("#"):
                yield i, "".join(name).strip() or f"mol{i}", smiles, _parse(smiles)


def _parse(smiles: str) -> Chem.Mol | None:
    RDLogger.DisableLog("rdApp.error")  # the reason is reported with the line number instead
    try:
        return Chem.MolFromSmiles(smiles) if smiles else None
    finally:
        RDLogger.EnableLog("rdApp.error")


def _unusable(mol: Chem.Mol | None) -> str:
    """Why a molecule cannot be studied; empty if it can."""
    if mol is None or mol.GetNumAtoms() == 0:
        return "RDKit cannot read it as a molecule"
    if len(Chem.GetMolFrags(mol)) > 1:
        return "it has several disconnected parts (a salt or solvate); keep the one to be studied"
    if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        return "it is a radical, which MMFF94 does not describe"
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(Chem.AddHs(mol)):
        return f"MMFF94 has no parameters for it (elements {' '.join(sorted({a.GetSymbol() for a in mol.GetAtoms()}))})"
    return ""


def embed(mol: Chem.Mol, n_conformers: int, *, seed: int, prune_rmsd: float = 0.0) -> np.ndarray:
    """ETKDGv3 conformers of a molecule with explicit hydrogens.

    Args:
        prune_rmsd: angstrom; of conformers closer than this in heavy-atom RMSD (symmetry respected) one is kept.

    Returns:
        Positions [n, n_atoms, 3] in angstrom; n may be smaller than asked for, and 0 where embedding fails.
    """
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.numThreads = 1  # the same conformers on every machine
    parameters.pruneRmsThresh = prune_rmsd if prune_rmsd > 0 else -1.0
    parameters.onlyHeavyAtomsForRMS = True
    copy = Chem.Mol(mol)
    copy.RemoveAllConformers()
    rdDistGeom.EmbedMultipleConfs(copy, n_conformers, parameters)
    positions = [conformer.GetPositions() for conformer in copy.GetConformers()]
    return np.array(positions).reshape(len(positions), mol.GetNumAtoms(), 3)


def conformations_of(
    molecules: list[Molecule], *, n_conformers: int, seed: int, prune_rmsd: float
) -> tuple[ConformationSet, list[LeftOut]]:
    """Conformers of every molecule (for SDF input with `n_conformers` 0: the geometries of the file)."""
    records = []
    left_out: list[LeftOut] = []
    for molecule in molecules:
        mol = molecule.mol
        if n_conformers > 0:
            # The seed depends on the molecule alone, not on what stands before it in the file.
            own = int(np.random.SeedSequence([seed, *Chem.MolToSmiles(mol).encode()]).generate_state(1)[0] & 0x7FFFFFFF)
            positions = embed(mol, n_conformers, seed=own, prune_rmsd=prune_rmsd)
        else:
            positions = np.array([conformer.GetPositions() for conformer in mol.GetConformers() if conformer.Is3D()])
        if len(positions) == 0:
            reason = "ETKDG cannot embed it" if n_conformers > 0 else "it has no 3D geometry; set dataset.conformers"
            left_out.append(LeftOut(molecule.line, molecule.name, Chem.MolToSmiles(mol), reason))
            logger.warning("line %d: %s is left out: %s", molecule.line, molecule.name, reason)
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
        smiles, charge = mapped_smiles(mol), Chem.GetFormalCharge(mol)
        width = max(4, len(str(len(positions))))
        for i, xyz in enumerate(positions):
            records.append((f"{molecule.name}/{i:0{width}d}", molecule.name, smiles, charge, 1, numbers, xyz))
    return ConformationSet.build(records), left_out
