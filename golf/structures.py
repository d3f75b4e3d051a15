"""Structure files of others, in and out: what the command line reads and writes besides our own HDF5."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from rdkit import Chem

from golf.chemistry import molecule
from golf.conformations import ConformationSet, StopReason
from golf.conformers import conformations_of, read_molecules
from golf.errors import UserError
from golf.extxyz import derived_bonds
from golf.files import written_whole
from golf.formats import MOLECULES, NABLADFT, SDF, format_of
from golf.nabladft import is_nabladft
from golf.sources import read_conformations
from golf.units import HARTREE_IN_EV

OUTPUTS = (".h5", ".sdf", ".xyz", ".extxyz")


def read_structures(path: str | Path, *, conformers: int = 1, seed: int = 1) -> ConformationSet:
    """Conformations of a file of any kind that we read.

    SMILES are embedded (`conformers` each). Molecules of an ASE .db that is not of nablaDFT have no bonds; these are
    derived from the geometry, with the total charge of the column charge where it is given.

    Raises:
        UserError: the file is missing, of another kind, empty, or a record cannot be used; names the record.
    """
    path = Path(path)
    kind = format_of(path)
    if kind in MOLECULES:
        molecules, left_out = read_molecules(path)
        conformations, failed = conformations_of(
            molecules, n_conformers=0 if kind == SDF else conformers, seed=seed, prune_rmsd=0.0
        )
        left_out = [*left_out, *failed]
    elif kind == NABLADFT and not is_nabladft(path):
        conformations, left_out = ConformationSet.build(_from_ase(path)), []
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


def _from_ase(path: Path) -> Iterator[tuple[str, str, str, int, int, np.ndarray, np.ndarray]]:
    try:
        with ase.db.connect(path, type="db") as database:
            rows = [(row.toatoms(), int(row.get("charge", 0))) for row in database.select()]
    except (sqlite3.DatabaseError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not an ASE database ({error})") from None
    for i, (atoms, charge) in enumerate(rows, start=1):
        name = f"{path.stem}-{i}"
        smiles = derived_bonds(atoms, charge, f"{path}: record {i}")
        yield f"{name}/0000", name, smiles, charge, 1, atoms.numbers, atoms.positions


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
