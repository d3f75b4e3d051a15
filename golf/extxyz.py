"""Conformations, with or without labels, of extended XYZ files.

Labels are `energy` and `forces` as ASE has them, in eV and eV/angstrom unless `energy_unit` and `forces_unit` say
otherwise; `program`, `method` and `basis` state their level of theory. What `golf relax` has written has energies and
forces of a network, which are no labels (`predicted_by`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from golf.chemistry import canonical_smiles, mapped_smiles, misfit, molecule
from golf.conformations import ConformationSet, Status
from golf.errors import UserError
from golf.oracles.base import LevelOfTheory, with_known_labels
from golf.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL

ENERGY_UNITS = {"ev": HARTREE_IN_EV, "hartree": 1.0, "kcal/mol": HARTREE_IN_KCAL_PER_MOL}
"""How many of them a hartree is."""

FORCE_UNITS = {
    "ev/angstrom": HARTREE_IN_EV,
    "hartree/angstrom": 1.0,
    "hartree/bohr": BOHR_IN_ANGSTROM,
    "kcal/mol/angstrom": HARTREE_IN_KCAL_PER_MOL,
}
"""How many of them a hartree/angstrom is."""

INPUT = "input_"
"""Before the names of the properties that the input of a relaxation had."""

PREDICTED = "predicted_by"
"""Key of frames whose energy and forces are those of a network; they are read as geometries without a label."""

GRADIENTS = ("gradient", "gradients", "grad", "dft_total_gradient")


def read_extxyz(path: str | Path) -> ConformationSet:
    """All frames, ids `{molecule}/{index}`; with label columns where any frame has a label.

    A molecule is named by `molecule`, or by `name` up to its last "/", or else by its SMILES. (A comment line without
    keys is no name: programs write energies there, or who made the file.) Bonds are those of `mapped_smiles`, or of
    `smiles` where the atoms are in the order of RDKit's `AddHs`, which elements and bond lengths have to confirm;
    without either they are derived from the geometry and `charge`.

    Raises:
        UserError: the file is missing or truncated, or a frame cannot be used; names the frame.
    """
    path = Path(path)
    records, labels, levels = [], [], []
    seen: Counter[str] = Counter()
    molecules: dict[str, str] = {}
    for i, atoms in enumerate(frames(path), start=1):
        where = f"{path}: frame {i}"
        info = atoms.info
        name, smiles, charge, spin = identity(atoms, where)
        own = canonical_smiles(smiles)
        if molecules.setdefault(name, own) != own:
            raise UserError(
                f"{where}: {name!r} stands already for another molecule; give each its own molecule or name"
            )
        records.append((f"{name}/{seen[name]:04d}", name, smiles, charge, spin, atoms.numbers, atoms.positions))
        seen[name] += 1
        labels.append(_label(atoms, where))
        if np.isfinite(labels[-1][0]):
            levels.append((_level(info), where))
    conformations = ConformationSet.build(records)
    if not levels:
        return conformations
    for level, where in levels:
        if level != levels[0][0]:
            raise UserError(f"{where}: its label is of level {level}, that of others is {levels[0][0]}; split the file")
    energies, forces = np.array([label[0] for label in labels]), np.concatenate([label[1] for label in labels])
    labelled = with_known_labels(conformations, energies, forces, levels[0][0])
    status = np.where(np.isfinite(energies), labelled.values["status"], Status.NOT_COMPUTED)
    message = np.where(np.isfinite(energies), labelled.values["message"], "")
    return labelled.with_columns(values={"status": status, "message": message})


def identity(atoms: Atoms, where: str) -> tuple[str, str, int, int]:
    """Molecule, mapped SMILES, charge and multiplicity of a frame.

    Raises:
        UserError: they contradict the atoms, or no bonds can be derived; begins with `where`.
    """
    info = atoms.info
    smiles = _mapped_smiles(atoms, where)
    named = str(info.get("molecule") or str(info.get("name", "")).rpartition("/")[0] or info.get("name") or "")
    mol = molecule(smiles)
    name = named or Chem.MolToSmiles(Chem.RemoveHs(mol))
    return name, smiles, Chem.GetFormalCharge(mol), int(info.get("multiplicity", 1))


def frames(path: Path) -> Iterator[Atoms]:
    """Frames of an extended XYZ file, one after the other.

    Raises:
        UserError: the file is missing, truncated or of another kind.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    n_read = 0
    try:
        for atoms in ase.io.iread(path, index=":", format="extxyz"):
            yield atoms
            n_read += 1
    except KeyError as error:
        raise UserError(f"{path}: record {n_read + 1}: {error} is not the symbol of an element") from None
    except (OSError, ValueError, IndexError, AssertionError) as error:
        raise UserError(f"{path}: cannot be read as extended XYZ (truncated or of another kind): {error}") from None


def inputs_of(comment: str) -> dict[str, str]:
    """Properties of the input that golf has written into a comment line, as they were; ASE makes numbers of them."""
    found = re.finditer(rf'(?:^|\s)"?{INPUT}((?:[^"\\=\s]|\\.)+)"?=(?:"((?:[^"\\]|\\.)*)"|(\S*))', comment)
    return {one[1]: re.sub(r"\\(.)", r"\1", one[2] if one[2] is not None else one[3]) for one in found}


def _mapped_smiles(atoms: Atoms, where: str) -> str:
    info = atoms.info
    key = next((key for key in ("mapped_smiles", "smiles") if key in info), None)
    if key is None:
        return derived_bonds(atoms, int(info.get("charge", 0)), where)
    with rdBase.BlockLogs():
        try:
            mol = molecule(str(info[key])) if key == "mapped_smiles" else Chem.MolFromSmiles(str(info[key]))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if mol is None or not mol.GetNumAtoms():
        raise UserError(f"{where}: RDKit cannot parse its SMILES {info[key]!r}; correct or remove it")
    mol = Chem.AddHs(mol)
    problem = misfit(mol, atoms.numbers, atoms.positions)
    if problem:
        raise UserError(f"{where}: {problem}")
    formal = Chem.GetFormalCharge(mol)
    if formal != int(info.get("charge", formal)):
        raise UserError(f"{where}: charge is {info['charge']}, that of its SMILES {formal}; correct one")
    return mapped_smiles(mol)


def derived_bonds(atoms: Atoms, charge: int, where: str) -> str:
    """Mapped SMILES with bonds derived from the geometry and the total charge.

    Raises:
        UserError: none can be derived; begins with `where`.
    """
    if not np.isfinite(atoms.positions).all():
        raise UserError(f"{where}: positions that are not finite numbers")
    lines = [
        f"{s} " + " ".join(f"{x:.10f}" for x in xyz) for s, xyz in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    try:
        mol = Chem.MolFromXYZBlock(f"{len(atoms)}\n\n" + "\n".join(lines))
        rdDetermineBonds.DetermineBonds(mol, charge=charge)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{where}: no bonds can be derived for charge {charge}: {reason}; give an SDF") from None
    return mapped_smiles(mol)


def _label(atoms: Atoms, where: str) -> tuple[float, NDArray[np.float64]]:
    """Total energy (hartree) and forces [n, 3] (hartree/angstrom) of a frame; NaN where it has no label."""
    if PREDICTED in atoms.info:
        return np.nan, np.full((len(atoms), 3), np.nan)
    results = {} if atoms.calc is None else atoms.calc.results
    energy, forces = results.get("energy"), results.get("forces")
    gradients = [key for key in GRADIENTS if key in atoms.arrays]
    if forces is None and gradients:
        raise UserError(f"{where}: has {gradients[0]}, not forces; give forces, which are minus the gradients")
    renamed = [key for key in atoms.arrays if "force" in key.lower()]
    if forces is None and renamed:
        raise UserError(f"{where}: has {renamed[0]}; give the label as energy and forces, or take it out")
    if energy is None and forces is None:
        return np.nan, np.full((len(atoms), 3), np.nan)
    if energy is None or forces is None:
        has, lacks = ("forces", "energy") if energy is None else ("an energy", "forces")
        raise UserError(f"{where}: has {has} and no {lacks}; give both or neither")
    energy_unit = _unit(atoms.info, "energy_unit", "ev", ENERGY_UNITS, where)
    return float(energy) / energy_unit, forces / _unit(atoms.info, "forces_unit", "ev/angstrom", FORCE_UNITS, where)


def _unit(info: Mapping[str, Any], key: str, default: str, known: Mapping[str, float], where: str) -> float:
    stated = str(info.get(key, default)).lower().replace("/ang", "/angstrom").replace("angstromstrom", "angstrom")
    if stated not in known:
        raise UserError(f"{where}: {key} {info[key]!r} is unknown; give one of {', '.join(known)}")
    return known[stated]


def _level(info: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the level that a frame states; empty where it does not."""
    program, method, basis = (str(info.get(name, "")) for name in ("program", "method", "basis"))
    return LevelOfTheory(program.lower(), method, basis).attrs() if program and method and basis else {}
