"""Structure files of others, in and out: what the command line reads and writes besides our own HDF5."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from golf.chemistry import mapped_smiles, molecule
from golf.conformations import ConformationSet, StopReason
from golf.conformers import LeftOut, conformations_of, read_molecules
from golf.errors import UserError
from golf.hdf5 import read
from golf.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL

INPUTS = (".smi", ".csv", ".sdf", ".xyz", ".extxyz", ".db", ".h5")
ConformationRecord = tuple[str, str, str, int, int, np.ndarray, np.ndarray]
"""What `ConformationSet.build` takes."""

OUTPUTS = (".h5", ".sdf", ".xyz", ".extxyz")


def read_structures(path: str | Path, *, conformers: int = 1, seed: int = 1) -> ConformationSet:
    """Conformations of a file of any kind that we read.

    SMILES are embedded (`conformers` each). Molecules of .xyz, .extxyz and ASE .db files have no bonds; these are
    derived from the geometry, with the total charge of `info["charge"]` or the column charge where it is given.

    Raises:
        UserError: the file is missing, of another kind, empty, or a record cannot be used; names the record.
    """
    path = Path(path)
    if path.suffix not in INPUTS:
        raise UserError(f"{path}: unknown suffix {path.suffix!r}; give one of {' '.join(INPUTS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".h5":
        conformations = read(path)
    elif path.suffix in (".smi", ".csv", ".sdf"):
        molecules, left_out = read_molecules(path)
        from_file = path.suffix == ".sdf"
        conformations, failed = conformations_of(
            molecules, n_conformers=0 if from_file else conformers, seed=seed, prune_rmsd=0.0
        )
        for out in [*left_out, *failed]:
            raise UserError(f"{path}: line {out.line} ({out.name}, {out.text}): {out.reason}; correct or remove it")
    else:
        records = [record for _, record in from_ase(path)]
        for record in records:
            if isinstance(record, LeftOut):
                raise UserError(f"{path}: record {record.line}: {record.reason}")
        conformations = ConformationSet.build(record for record in records if not isinstance(record, LeftOut))
    if len(conformations) == 0:
        raise UserError(f"{path}: holds no conformations")
    if not np.isfinite(conformations.position).all():
        finite = [bool(np.isfinite(positions).all()) for positions in conformations.positions_by_conformation()]
        raise UserError(f"{path}: {conformations.id[finite.index(False)]}: positions are not finite numbers; remove it")
    return conformations


def from_ase(path: Path) -> Iterator[tuple[int, ConformationRecord | LeftOut]]:
    """Number and conformation of each record of an .xyz, .extxyz or ASE .db file, or why it cannot be used.

    Raises:
        UserError: the file cannot be read.
    """
    for i, (atoms, charge) in enumerate(_ase_records(path), start=1):
        name = f"{path.stem}-{i}"
        try:
            mol = Chem.MolFromXYZBlock(f"{len(atoms)}\n\n" + "\n".join(_xyz_lines(atoms)))
            rdDetermineBonds.DetermineBonds(mol, charge=charge)
        except (ValueError, RuntimeError) as error:
            reason = f"no bonds can be derived for charge {charge}: {str(error).splitlines()[0]}; give an SDF"
            yield i, LeftOut(i, name, atoms.get_chemical_formula(), reason)
            continue
        yield i, (f"{name}/0000", name, mapped_smiles(mol), charge, 1, atoms.numbers, atoms.positions)


def _ase_records(path: Path) -> Iterator[tuple[Atoms, int]]:
    try:
        if path.suffix == ".db":
            with ase.db.connect(path) as database:
                for row in database.select():
                    yield row.toatoms(), int(row.get("charge", 0))
        else:
            for atoms in ase.io.iread(path, index=":", format="extxyz"):
                yield atoms, int(atoms.info.get("charge", 0))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: cannot be read as {path.suffix}: {error}") from None


def _xyz_lines(atoms: Atoms) -> Iterator[str]:
    for symbol, xyz in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
        yield f"{symbol} " + " ".join(f"{x:.10f}" for x in xyz)


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
    return given | {
        "energy_hartree": f"{values['nnp_energy_last'][i]:.8f}",
        "relative_energy_kcal_mol": f"{values['relative_energy'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "largest_force_kcal_mol_angstrom": f"{values['largest_force'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "stop_reason": StopReason(values["stop_reason"][i]).name.lower(),
        "n_steps": str(values["n_steps"][i]),
    }
