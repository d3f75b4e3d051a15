"""Read SPICE files, versions 1 and 2: conformations and labels (Eastman et al., Sci. Data 10, 11 (2023)).

One HDF5 group per molecule: mapped SMILES, atomic numbers [n] in the order of the map, conformations [m, n, 3] in bohr,
total energies [m] in hartree and their gradients [m, n, 3] in hartree/bohr; forces are minus the gradients. Version 1.0
states no units; versions before 1.1.2 have energies in single precision. `formation_energy` is the total energy minus
those of isolated atoms; it is used only to check that the total energies are of SPICE's level of theory.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from golf.chem.molecules import misfits, molecule
from golf.chem.usable import LeftOut
from golf.core.conformations import ConformationRecord, ConformationSet
from golf.core.errors import UserError
from golf.core.hdf5 import unreadable
from golf.core.labels import with_known_labels
from golf.core.units import BOHR_IN_ANGSTROM
from golf.io.formats import LEVELS, SPICE

logger = logging.getLogger(__name__)

UNITS = {"conformations": "bohr", "dft_total_energy": "hartree", "dft_total_gradient": "hartree/bohr"}
PROGRAM_VERSION = "of SPICE"
_REMEDY = "give a SPICE file as published"

ATOM_ENERGIES = {
    1: -0.4987605,
    5: -24.6715205,
    6: -37.8726451,
    7: -54.6232751,
    8: -75.1131784,
    9: -99.7861162,
    14: -289.4131352,
    15: -341.3059197,
    16: -398.1599637,
    17: -460.1988762,
    35: -2574.1167241,
    53: -297.7622891,
}
"""hartree; isolated neutral atoms at SPICE's level, from its repository (github.com/openmm/spice-dataset)."""

LEVEL_TOLERANCE = 0.01
"""hartree; another level differs by more per atom, single precision by less in total."""


class _Group(NamedTuple):
    """The m conformations of one molecule."""

    records: list[ConformationRecord]
    energies: NDArray[np.float64]  # [m] hartree
    forces: list[NDArray[np.float64]]  # [m][n, 3] hartree/angstrom


def read_spice(path: str | Path, subsets: Collection[str] = ()) -> tuple[ConformationSet, list[LeftOut]]:
    """Read conformations with their labels, ids `{group}/{index}`, and list those left out.

    Args:
        subsets: names of the subsets to read; empty for all.

    Raises:
        UserError: the file is missing or truncated, a dataset is missing or in other units, a SMILES does not fit its
            atoms, a subset is unknown, or the energies are of another level of theory.
    """
    path = Path(path)
    records: list[ConformationRecord] = []
    energies, forces = [np.zeros(0)], [np.zeros((0, 3))]
    left_out: list[LeftOut] = []
    found: set[str] = set()
    single = False
    try:
        with h5py.File(path, "r") as file:
            _check_root(file, path)
            for number, (name, group) in enumerate(file.items(), start=1):
                where = f"{path}: group {name!r}"
                subset = _text(group, "subset", where)
                found.add(subset)
                if subsets and subset not in subsets:
                    continue
                single |= _check_layout(group, where)
                part = _read_group(number, name, group, where, left_out)
                records += part.records
                energies.append(part.energies)
                forces += part.forces
    except (OSError, RuntimeError) as error:
        raise unreadable(path, error) from None
    unknown = set(subsets) - found
    if unknown:
        raise UserError(
            f"{path}: dataset.subsets: {min(unknown)!r} is not in the file; it has {'; '.join(sorted(found))}"
        )
    if single:
        logger.warning("%s: energies are in single precision (SPICE before 1.1.2); better use version 1.1.4 or 2", path)
    conformations = ConformationSet.build(records, program_version=PROGRAM_VERSION)
    level = LEVELS[SPICE].attrs()
    return with_known_labels(conformations, np.concatenate(energies), np.concatenate(forces), level), left_out


def _check_root(file: h5py.File, path: Path) -> None:
    """Check that a file has molecules and does not state another level than SPICE's."""
    stated = {name: str(file.attrs[name]).lower() for name in ("program", "method", "basis") if name in file.attrs}
    level = LEVELS[SPICE].attrs()
    if stated and not LEVELS[SPICE].matches(level | stated):
        raise UserError(f"{path}: labels are {'/'.join(stated.values())}, not {LEVELS[SPICE]} as in SPICE; {_REMEDY}")
    if not len(file):
        raise UserError(f"{path}: has no molecules; {_REMEDY}")


def _check_layout(group: Any, where: str) -> bool:
    """Check that a group has SPICE's datasets in its units; return whether energies are in single precision."""
    if not isinstance(group, h5py.Group):
        raise UserError(f"{where}: not a group of datasets; {_REMEDY}")
    for key, unit in UNITS.items():
        if key not in group:
            other = {"dft_total_energy": "formation_energy", "dft_total_gradient": "forces"}.get(key)
            hint = f" (it has {other}, which is a different quantity)" if other in group else ""
            raise UserError(f"{where}: has no dataset {key}{hint}; {_REMEDY}")
        stated = group[key].attrs.get("units", unit)
        stated = stated.decode() if isinstance(stated, bytes) else str(stated)
        if stated.replace(" ", "").lower() != unit:
            raise UserError(f"{where}: {key} is in {stated}, not in {unit} as in SPICE; {_REMEDY}")
    return group["dft_total_energy"].dtype == np.float32


def _read_group(number: int, name: str, group: h5py.Group, where: str, left_out: list[LeftOut]) -> _Group:
    """Read the conformations of one molecule; unusable ones are added to `left_out`."""
    nothing = _Group([], np.zeros(0), [])
    smiles = _text(group, "smiles", where)
    numbers = _array(group, "atomic_numbers", where).astype(np.int64)
    position, energy, gradient = (_array(group, key, where).astype(np.float64) for key in UNITS)
    if energy.size == 0:  # SPICE 2 without conformations that have large forces
        left_out.append(LeftOut(number, name, smiles, "it has no conformations"))
        return nothing
    n = len(energy)
    if position.shape != (n, len(numbers), 3) or gradient.shape != position.shape:
        shapes = ", ".join(f"{key} {group[key].shape}" for key in ("atomic_numbers", *UNITS))
        raise UserError(f"{where}: the shapes of its datasets do not match ({shapes}); {_REMEDY}")
    try:
        with rdBase.BlockLogs():
            mol = molecule(smiles)
    except UserError as error:
        left_out.append(LeftOut(number, name, smiles, str(error)))
        return nothing
    if [atom.GetAtomicNum() for atom in mol.GetAtoms()] != numbers.tolist():
        raise UserError(f"{where}: smiles does not match atomic_numbers (other elements in its order); {_REMEDY}")
    charge = Chem.GetFormalCharge(mol)
    if charge == 0 and "formation_energy" in group:
        _check_level(numbers, energy - _array(group, "formation_energy", where), where)
    position *= BOHR_IN_ANGSTROM
    problems = misfits(mol, position)
    good = [i for i, problem in enumerate(problems) if not problem]
    left_out += [LeftOut(number, f"{name}/{i:04d}", smiles, text) for i, text in enumerate(problems) if text]
    records = [ConformationRecord(f"{name}/{i:04d}", name, smiles, charge, 1, numbers, position[i]) for i in good]
    return _Group(records, energy[good], [-gradient[i] / BOHR_IN_ANGSTROM for i in good])


def _check_level(numbers: NDArray[np.int64], atoms: NDArray[np.float64], where: str) -> None:
    """Check that the energies (hartree) of isolated atoms in the data are those of SPICE's level, if they are known."""
    if not set(numbers.tolist()) <= ATOM_ENERGIES.keys():
        return
    expected = sum(ATOM_ENERGIES[number] for number in numbers.tolist())
    difference = float(np.max(np.abs(atoms - expected)))
    if difference > LEVEL_TOLERANCE:
        raise UserError(
            f"{where}: dft_total_energy minus formation_energy is {difference:.3g} hartree off the atoms of "
            f"{LEVELS[SPICE]}, so it is of another level of theory, or not in hartree; {_REMEDY}"
        )


def _array(group: h5py.Group, key: str, where: str) -> NDArray:
    if key not in group:
        raise UserError(f"{where}: has no dataset {key}; {_REMEDY}")
    return np.asarray(group[key][()])


def _text(group: Any, key: str, where: str) -> str:
    if not isinstance(group, h5py.Group) or key not in group or h5py.check_string_dtype(group[key].dtype) is None:
        raise UserError(f"{where}: has no text dataset {key}; {_REMEDY}")
    return str(np.ravel(group[key].asstr()[()])[0])


def summarized(path: str | Path) -> Iterator[tuple[str, int, int]]:
    """Yield the subsets of a file with their numbers of molecules and conformations.

    Raises:
        UserError: the file cannot be read.
    """
    counts: dict[str, list[int]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name, group in file.items():
                where = f"{path}: group {name!r}"
                counts.setdefault(_text(group, "subset", where), []).append(
                    len(_array(group, "dft_total_energy", where))
                )
    except (OSError, RuntimeError) as error:
        raise unreadable(path, error) from None
    for subset, sizes in sorted(counts.items()):
        yield subset, len(sizes), sum(sizes)
