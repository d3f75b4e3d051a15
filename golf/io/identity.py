"""Find the SMILES, charge and spin of a record of a geometry, and check them against its atoms.

Extended XYZ files and ASE databases state them by keys, golf's own files by columns. Contradictions are refused with
the reason; a stated value is never replaced by a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from golf.chem import limited
from golf.chem.molecules import mapped_smiles, misfit, molecule, skeleton
from golf.chem.usable import RADICAL, is_radical, query_problem, spin_problem
from golf.core.errors import UserError

CHARGES = ("charge", "total_charge")
"""Keys of the total charge."""

MULTIPLICITIES = ("multiplicity", "spin_multiplicity", "mult", "spin", "total_spin")
"""Keys of the spin multiplicity, which the ASE calculators MACE-OMOL, OrbMol and UMA call `spin`."""

TIMEOUT = 30.0
"""Limit of the processor time, in seconds, to find bonds; for drug-like molecules it takes milliseconds."""

REMEDY = "state its charge or its SMILES, or give an SDF"

WHOLE = 0.05
"""Tolerance, in elementary charges, for sums of partial charges and for numbers written as 0.9999."""


def identify(
    keys: Mapping[str, str],
    numbers: NDArray,
    positions: NDArray,
    *,
    charge: int | None = None,
    spin: int = 1,
    timeout: float = TIMEOUT,
) -> tuple[str, int, int]:
    """Find the mapped SMILES, the charge and the multiplicity of a record.

    Bonds are those of `mapped_smiles`, or of `smiles`, whose atoms are matched to the rows; elements and bond lengths
    must agree. Without either key, bonds are derived from the geometry and the charge.

    Args:
        keys: values as text, names of keys in any case.
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom.
        charge: total charge if no key states it; None for that of the SMILES, or 0.
        spin: multiplicity if no key states it.
        timeout: limit of the processor time to find bonds, in seconds.

    Raises:
        UserError: the keys contradict each other or the atoms, or no bonds can be derived.
    """
    said = {key.lower(): value for key, value in keys.items() if value}
    if not np.isfinite(positions).all():
        raise UserError("positions are not finite numbers")
    said_charge, said_spin = _whole(said, CHARGES), _whole(_closed(said), MULTIPLICITIES)
    charge = charge if said_charge is None else said_charge
    smiles = _given_bonds(said, numbers, positions)
    if smiles is None:
        smiles = derived_bonds(numbers, positions, charge or 0, timeout)
    formal = formal_charge(smiles)
    if charge is not None and charge != formal:
        raise UserError(f"charge is {charge}, but that of its SMILES is {formal}; correct one")
    if said_spin is not None and (problem := multiplicity_problem(said_spin, numbers, formal)):
        raise UserError(problem)
    return smiles, formal, spin if said_spin is None else said_spin


def states(keys: Mapping[str, str], names: Collection[str]) -> bool:
    """Tell whether a key with one of these names, in any case, has a value."""
    return any(key.lower() in names and value for key, value in keys.items())


def contradiction(smiles: str, charge: int, multiplicity: int, numbers: NDArray) -> str:
    """Describe how the columns of a conformation contradict its mapped SMILES; "" if they do not.

    Args:
        smiles: mapped SMILES; if empty, only the multiplicity is checked.
        numbers: [n] atomic numbers.
    """
    if not smiles:
        return multiplicity_problem(multiplicity, numbers, charge)
    try:
        formal, elements = formal_charge(smiles), _elements(smiles)
    except UserError as error:
        return str(error)
    if elements != tuple(numbers.tolist()):
        return "its atoms are not those of its SMILES, in this order; correct or remove it"
    if charge != formal:
        return f"charge is {charge}, but that of its SMILES is {formal}; correct one"
    return multiplicity_problem(multiplicity, numbers, charge)


@lru_cache(maxsize=4096)
def closed_shell_problem(smiles: str) -> str:
    """Return why the molecule of a mapped SMILES is not a closed shell; "" if it can be one."""
    mol = molecule(smiles)
    return query_problem(mol) or (RADICAL if is_radical(mol) else spin_problem(Chem.RemoveHs(mol)))


def multiplicity_problem(multiplicity: int, numbers: NDArray, charge: int) -> str:
    """Return why a molecule cannot have this multiplicity; "" if it can."""
    n_electrons = int(numbers.sum()) - charge
    if multiplicity < 1:
        return f"multiplicity is {multiplicity}; it is the number of unpaired electrons plus 1"
    if multiplicity > n_electrons + 1 or (n_electrons - multiplicity) % 2 == 0:
        return (
            f"multiplicity (spin) is {multiplicity}, which {n_electrons} electrons cannot have; it is the number of "
            "unpaired electrons plus 1"
        )
    return ""


@lru_cache(maxsize=4096)
def formal_charge(smiles: str) -> int:
    """Return the total charge of a mapped SMILES."""
    return Chem.GetFormalCharge(molecule(smiles))


@lru_cache(maxsize=4096)
def _elements(smiles: str) -> tuple[int, ...]:
    return tuple(atom.GetAtomicNum() for atom in molecule(smiles).GetAtoms())


def _closed(said: Mapping[str, str]) -> dict[str, str]:
    """Replace a `spin` of 0, which means a closed shell in any convention, by the multiplicity 1."""
    zero = [key for key in ("spin", "total_spin") if re.fullmatch(r"\+?0(\.0*)?", said.get(key, ""))]
    return {**said, **dict.fromkeys(zero, "1")}


def _whole(said: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    """Return the whole number that these keys state; None if none of them is present."""
    stated = {name: whole(said[name], name) for name in names if name in said}
    if len(set(stated.values())) > 1:
        raise UserError(f"{' and '.join(f'{name}={said[name]}' for name in stated)} contradict each other; correct one")
    return next(iter(stated.values()), None)


def whole(text: str, name: str) -> int:
    """Convert text to the whole number that it is within `WHOLE`.

    Raises:
        UserError: the text is not a whole number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and abs(number - round(number)) <= WHOLE):
        raise UserError(f"{name} is {text}, not a whole number; correct it")
    return round(number)


def _given_bonds(said: Mapping[str, str], numbers: NDArray, positions: NDArray) -> str | None:
    """Return the mapped SMILES that follows from the SMILES of a record; None if it has no SMILES."""
    key = next((key for key in ("mapped_smiles", "smiles") if key in said), None)
    if key is None:
        return None
    with rdBase.BlockLogs():
        mol = molecule(said[key]) if key == "mapped_smiles" else Chem.MolFromSmiles(said[key])
    if mol is None or not mol.GetNumAtoms():
        raise UserError(f"RDKit cannot parse its SMILES {said[key]!r}; correct or remove it")
    if problem := query_problem(mol):
        raise UserError(f"SMILES {said[key]!r}: {problem}")
    mol = Chem.AddHs(mol)
    problem = misfit(mol, numbers, positions)
    placed = _placed(mol, numbers, positions) if problem and key == "smiles" else None
    if problem and placed is None:
        raise UserError(problem)
    return mapped_smiles(mol if placed is None else placed)


def _placed(mol: Chem.Mol, numbers: NDArray, positions: NDArray) -> Chem.Mol | None:
    """Reorder the atoms of a molecule to match the rows, by the connectivity of the geometry.

    Stereocenters are set from the geometry. Returns None if the rows are not those of this molecule.
    """
    elements = sorted(atom.GetAtomicNum() for atom in mol.GetAtoms())
    if elements != sorted(numbers.tolist()):
        return None
    near = _from_rows(numbers, positions)
    with rdBase.BlockLogs():
        rdDetermineBonds.DetermineConnectivity(near)
    if near.GetNumBonds() != mol.GetNumBonds():
        return None
    match = skeleton(mol).GetSubstructMatch(skeleton(near))
    if len(match) != len(numbers):
        return None
    placed = Chem.RenumberAtoms(mol, list(match))
    placed.AddConformer(near.GetConformer(), assignId=True)
    Chem.AssignStereochemistryFrom3D(placed)
    placed.RemoveAllConformers()
    return placed


def _from_rows(numbers: NDArray, positions: NDArray) -> Chem.Mol:
    """Build a molecule of unbonded atoms with these positions as its conformer."""
    mol = Chem.RWMol()
    for number in numbers.tolist():
        mol.AddAtom(Chem.Atom(number))
    conformer = Chem.Conformer(len(numbers))
    conformer.SetPositions(np.asarray(positions, np.float64))
    mol.AddConformer(conformer, assignId=True)
    return mol.GetMol()


def derived_bonds(numbers: NDArray, positions: NDArray, charge: int, timeout: float = TIMEOUT) -> str:
    """Return the mapped SMILES with bonds derived from the geometry and the total charge.

    Raises:
        UserError: no bonds can be derived, or not within the time limit.
    """
    none = f"no bonds can be derived for charge {charge}"
    if (int(numbers.sum()) - charge) % 2:
        raise UserError(f"{none}: it has an odd number of electrons; {REMEDY}")
    try:
        return limited.call(perceived, numbers, positions, charge, seconds=timeout)
    except limited.TimedOut as error:
        raise UserError(f"its bonds could not be derived within {error.seconds:g} s; {REMEDY}") from None
    except (ValueError, RuntimeError, limited.NotFinished) as error:
        raise UserError(f"{none}: {str(error).splitlines()[0]}; {REMEDY}") from None


def perceived(numbers: NDArray, positions: NDArray, charge: int) -> str:
    """Return the mapped SMILES from RDKit's search for bond orders, which may never return.

    Raises:
        ValueError, RuntimeError: no bond orders fit this charge.
    """
    mol = _from_rows(numbers, positions)
    if len(numbers) == 1:
        mol.GetAtomWithIdx(0).SetFormalCharge(charge)
        mol.GetAtomWithIdx(0).SetNoImplicit(True)
    else:
        rdDetermineBonds.DetermineBonds(mol, charge=charge)
    return mapped_smiles(mol)
