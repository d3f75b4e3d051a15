"""Molecules from SMILES or SDF files to 3D conformations, and a record of every molecule that is left out and why."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from golf.chemistry import mapped_smiles
from golf.conformations import ConformationSet
from golf.elements import SYMBOLS
from golf.errors import UserError
from golf.formats import MOLECULES, SUFFIXES


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
    path: str | Path,
    *,
    smiles_column: str = "smiles",
    name_column: str = "name",
    elements: Collection[int] | None = None,
) -> tuple[list[Molecule], list[LeftOut]]:
    """Molecules of a .smi (SMILES, then a name), .csv or .sdf file, and the records that are left out.

    Names default to `mol<line>`. Hydrogens are added; the charge follows from the SMILES. SDF records that share name
    and molecule are conformers of one molecule.

    Args:
        elements: atomic numbers that can be used; None: all that MMFF94 knows.

    Raises:
        UserError: the file is missing, empty, not readable, of an unknown suffix, lacks the column, or two molecules
            share a name.
    """
    path = Path(path)
    if SUFFIXES.get(path.suffix) not in MOLECULES:
        known = ", ".join(suffix for suffix, kind in SUFFIXES.items() if kind in MOLECULES)
        raise UserError(f"{path}: unknown suffix {path.suffix!r}; molecules are read from {known}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        records = list(_records(path, smiles_column, name_column))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as {path.suffix} in UTF-8: {error}") from None
    if not records:
        raise UserError(f"{path}: holds no molecules")
    molecules: dict[str, Molecule] = {}
    left_out: dict[str, LeftOut] = {}
    word = "record" if path.suffix == ".sdf" else "line"
    for line, name, text, mol in records:
        first = molecules.get(name) or left_out.get(name)
        if first is not None and not _add_conformer(first, mol):
            raise UserError(f"{path}: {word} {line}: name {name!r} stands already in {word} {first.line}; rename one")
        reason = unusable(mol, elements)
        if first is None and reason:
            left_out[name] = LeftOut(line, name, text, reason)
        elif first is None:
            molecules[name] = Molecule(name, Chem.AddHs(mol, addCoords=True), line)
    return list(molecules.values()), list(left_out.values())


def _add_conformer(first: Molecule | LeftOut, mol: Chem.Mol | None) -> bool:
    """Add a further record's geometry to the molecule of the first one; false where it is another molecule."""
    if isinstance(first, LeftOut) or mol is None or not mol.GetNumConformers():
        return False
    full = Chem.AddHs(mol, addCoords=True)
    match = full.GetSubstructMatch(first.mol)  # rows of the first record
    if full.GetNumAtoms() != first.mol.GetNumAtoms() or len(match) != full.GetNumAtoms():
        return False
    conformer = Chem.Conformer(full.GetNumAtoms())
    conformer.SetPositions(full.GetConformer().GetPositions()[list(match)])
    first.mol.AddConformer(conformer, assignId=True)
    return True


def _records(path: Path, smiles_column: str, name_column: str) -> Iterator[tuple[int, str, str, Chem.Mol | None]]:
    """(line, name, what stands there, molecule or None) of every record."""
    if path.suffix == ".sdf":
        with rdBase.BlockLogs():  # the reason is reported with the number of the record instead
            for i, mol in enumerate(Chem.SDMolSupplier(str(path), removeHs=False), start=1):
                name = mol.GetProp("_Name").strip() if mol is not None and mol.HasProp("_Name") else ""
                yield i, name or f"mol{i}", "record of an SDF file", mol
        return
    with open(path, newline="", encoding="utf-8-sig") as stream:
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
            smiles, *rest = line.split(maxsplit=1) or [""]
            if smiles and not line.startswith("#"):
                name = "".join(rest).split("\t")[0].strip()
                yield i, name or f"mol{i}", smiles, _parse(smiles)


def _parse(smiles: str) -> Chem.Mol | None:
    with rdBase.BlockLogs():  # the reason is reported with the line number instead
        return Chem.MolFromSmiles(smiles) if smiles else None


def unusable(mol: Chem.Mol | None, elements: Collection[int] | None) -> str:
    """Why a molecule cannot be studied; empty if it can.

    Args:
        elements: atomic numbers that the oracle and the reference energies have; None: all that MMFF94 knows.
    """
    if mol is None or mol.GetNumAtoms() == 0:
        return "RDKit cannot read it as a molecule"
    if len(Chem.GetMolFrags(mol)) > 1:
        return "it has several disconnected parts (a salt or solvate); keep the one to be studied"
    if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        return "it is a radical, which MMFF94 does not describe"
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(Chem.AddHs(mol)):
        return f"MMFF94 has no parameters for it (elements {' '.join(sorted({a.GetSymbol() for a in mol.GetAtoms()}))})"
    numbers = {atom.GetAtomicNum() for atom in Chem.AddHs(mol).GetAtoms()}
    if elements is not None and not numbers <= set(elements):
        without = " ".join(SYMBOLS[z] for z in sorted(numbers - set(elements)))
        return f"there is no basis or reference energy for {without}"
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
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
        smiles, charge = mapped_smiles(mol), Chem.GetFormalCharge(mol)
        width = max(4, len(str(len(positions))))
        for i, xyz in enumerate(positions):
            records.append((f"{molecule.name}/{i:0{width}d}", molecule.name, smiles, charge, 1, numbers, xyz))
    return ConformationSet.build(records), left_out
