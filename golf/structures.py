"""Structure files of others, in and out: what the command line reads and writes besides our own HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from golf.chemistry import mapped_smiles, molecule
from golf.conformations import ConformationSet, StopReason
from golf.conformers import conformations_of, read_molecules
from golf.errors import UserError
from golf.files import written_whole
from golf.hdf5 import read
from golf.units import HARTREE_IN_EV

INPUTS = (".smi", ".csv", ".sdf", ".xyz", ".extxyz", ".db", ".h5")
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
        conformations = ConformationSet.build(_from_ase(path))
    if len(conformations) == 0:
        raise UserError(f"{path}: holds no conformations")
    if not np.isfinite(conformations.position).all():
        finite = [bool(np.isfinite(positions).all()) for positions in conformations.positions_by_conformation()]
        raise UserError(f"{path}: {conformations.id[finite.index(False)]}: positions are not finite numbers; remove it")
    return conformations


def _from_ase(path: Path) -> Iterator[tuple[str, str, str, int, int, np.ndarray, np.ndarray]]:
    for i, (atoms, charge) in enumerate(_ase_records(path), start=1):
        name = f"{path.stem}-{i}"
        try:
            mol = Chem.MolFromXYZBlock(f"{len(atoms)}\n\n" + "\n".join(_xyz_lines(atoms)))
            rdDetermineBonds.DetermineBonds(mol, charge=charge)
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: record {i}: no bonds can be derived for charge {charge}: {reason}; give an SDF"
            ) from None
        yield f"{name}/0000", name, mapped_smiles(mol), charge, 1, atoms.numbers, atoms.positions


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


def write_structures(path: str | Path, conformations: ConformationSet, energy: np.ndarray) -> None:
    """Write .sdf (energy in hartree) or .xyz, .extxyz (energy in eV, as ASE has it) with `energy` [n] in hartree."""
    path = Path(path)
    with written_whole(path) as temporary:
        if path.suffix == ".sdf":
            with open(temporary, "w") as stream:  # RDKit's writer does not say when the disk is full
                for i, name in enumerate(conformations.id):
                    mol = molecule(conformations.mapped_smiles[i], conformations.position[conformations.rows(i)])
                    mol.SetProp("_Name", name)
                    mol.SetProp("energy_hartree", f"{energy[i]:.8f}")
                    if "stop_reason" in conformations.values:
                        mol.SetProp("stop_reason", StopReason(conformations.values["stop_reason"][i]).name.lower())
                        mol.SetProp("n_steps", str(conformations.values["n_steps"][i]))
                    stream.write(Chem.SDWriter.GetText(mol))
            return
        frames = []
        for i, name in enumerate(conformations.id):
            rows = conformations.rows(i)
            atoms = Atoms(numbers=conformations.number[rows], positions=conformations.position[rows])
            energy_ev = float(energy[i]) * HARTREE_IN_EV
            atoms.info = {"name": name, "energy_eV": energy_ev, "charge": int(conformations.charge[i])}
            frames.append(atoms)
        ase.io.write(temporary, frames, format="extxyz")
