"""Structure files of others, in and out: what the command line reads and writes besides our own HDF5."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from golf.chem.conformers import TIMEOUT, conformations_of
from golf.chem.geometry import geometry_problem
from golf.chem.molecules import canonical_smiles, molecule
from golf.chem.usable import PROPERTIES, LeftOut, shell_problem
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.databases import rows
from golf.io.extxyz import INPUT, PREDICTED, geometries, inputs_of
from golf.io.formats import EXTXYZ, MOLECULES, NABLADFT, SDF, format_of
from golf.io.identity import closed_shell_problem
from golf.io.nabladft import is_nabladft, read_geometries
from golf.io.records import OWN_NAMES, place_of, read_molecules, unique_name
from golf.io.sdf import record_text
from golf.io.sources import read_conformations
from golf.io.xyz import molecule_name

ConformationRecord = tuple[str, str, str, int, int, np.ndarray, np.ndarray]
"""What `ConformationSet.build` takes."""


@dataclass(frozen=True)
class Frame:
    """A record of a file of geometries.

    Attributes:
        line: number of the record, from 1.
        name: as the file has it; records in a row with one name belong together. That of the one before, where the
            record cannot be used.
        content: the conformation, or why it cannot be used.
        properties: of an .xyz that golf has written from an input with properties, those (JSON); else empty.
    """

    line: int
    name: str
    content: ConformationRecord | LeftOut
    properties: str = ""


OUTPUTS = (".h5", ".sdf", ".xyz", ".extxyz")


def read_structures(
    path: str | Path, *, conformers: int | None = None, seed: int = 1, timeout: float = TIMEOUT
) -> ConformationSet:
    """Conformations of a file of any kind that we read; labels that it may have are not looked at.

    Molecules are embedded (`conformers` each; None: once, but those of an SDF keep its geometries). Frames and rows
    that say nothing of their bonds get those of the geometry, with the total charge that they state.

    Raises:
        UserError: the file is missing, of another kind, empty, or a record cannot be used; names the record.
    """
    path = Path(path)
    kind = format_of(path)
    if kind in MOLECULES:
        molecules, left_out = read_molecules(path, problem=shell_problem)
        n_conformers = conformers or (0 if kind == SDF else 1)
        conformations, failed = conformations_of(
            molecules, n_conformers=n_conformers, seed=seed, prune_rmsd=0.0, timeout=timeout
        )
        left_out = [*left_out, *failed]
    else:
        conformations, left_out = read_whole(path, kind, timeout)
    for out in left_out:
        raise UserError(f"{path}: {place_of(out, path, with_text=True)}: {out.reason}")
    if len(conformations) == 0:
        raise UserError(f"{path}: holds no conformations")
    for i, positions in enumerate(conformations.positions_by_conformation()):
        smiles = conformations.mapped_smiles[i]
        open_shell = (
            closed_shell_problem(smiles) if conformations.multiplicity[i] == 1 else ""
        )  # others are computed so
        problem = open_shell or geometry_problem(smiles, positions)
        if problem:
            raise UserError(f"{path}: {conformations.id[i]}: {problem}; correct or remove it")
    return conformations


def read_whole(path: Path, kind: str, timeout: float = TIMEOUT) -> tuple[ConformationSet, list[LeftOut]]:
    """All conformations of a file of conformations, without labels where it is a stream, and what is left out.

    Raises:
        UserError: the file cannot be read.
    """
    if not is_stream(path, kind):
        return read_geometries(path, timeout) if kind == NABLADFT else read_conformations(path, kind)
    records = [frame.content for frame in records_of(path, kind, timeout)]
    left_out = [record for record in records if isinstance(record, LeftOut)]
    return ConformationSet.build(record for record in records if not isinstance(record, LeftOut)), left_out


def is_stream(path: Path, kind: str) -> bool:
    """Whether the conformations of a file can be read one by one, by `records_of`."""
    return kind == EXTXYZ or (kind == NABLADFT and not is_nabladft(path))


def records_of(path: Path, kind: str, timeout: float = TIMEOUT) -> Iterator[Frame]:
    """The records of an extended XYZ file or an ASE database.

    Records of one name that stand one after the other are conformers where they are of one molecule. Another molecule
    of the name, or one after others, gets a name with the number of its record. Without a name a frame has that of its
    SMILES, a row that of the file with its number.

    Args:
        timeout: seconds of processor time in which the bonds of a record have to be found.

    Raises:
        UserError: the file cannot be read.
    """
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    group, unique = "", dict[str, str]()  # the present name, and what its molecules are called
    for one in geometries(path) if kind == EXTXYZ else rows(path):
        try:
            smiles, charge, spin = one.identity(timeout)
        except UserError as error:
            yield Frame(one.number, group, one.left_out(str(error)))
            continue
        own = canonical_smiles(smiles)
        name = molecule_name(one.keys) or (own if kind == EXTXYZ else f"{path.stem}-{one.number}")
        if name != group:
            group, unique = name, {}
        if own not in unique:
            unique[own] = unique_name(name, one.number, taken)
        called = unique[own]
        record = (f"{called}/{seen[called]:04d}", called, smiles, charge, spin, one.numbers, one.positions)
        given = inputs_of(one.keys)
        yield Frame(one.number, name, record, json.dumps(given) if given else "")
        seen[called] += 1


def write_structures(stream: TextIO, suffix: str, relaxed: ConformationSet) -> None:
    """Append relaxed conformations to a .sdf, or to a .xyz or .extxyz, as ASE has them.

    There `energy` and `forces` are in eV and eV/angstrom; `charge` and `spin` (the multiplicity) are what calculators
    look for. `PREDICTED` says that these are no labels.
    Columns go along with their units in the names, and so do the properties that the input had. Their names begin with
    `INPUT`, in .sdf where golf has a property of that name, in .xyz and .extxyz always, so that they cannot be taken
    for what the file says itself.
    """
    for i, name in enumerate(relaxed.id):
        given, own = _given(relaxed, i), _own(relaxed, i)
        positions = relaxed.position[relaxed.rows(i)]
        if suffix == ".sdf":
            others = {f"{INPUT}{key}" if key in OWN_NAMES else key: value for key, value in given.items()}
            stream.write(record_text(molecule(relaxed.mapped_smiles[i], positions), name, others | own))
        else:
            atoms = Atoms(numbers=relaxed.number[relaxed.rows(i)], positions=positions)
            energy = float(relaxed.values["nnp_energy_last"][i]) * HARTREE_IN_EV
            texts = {"name": name, "mapped_smiles": relaxed.mapped_smiles[i], **own}
            texts |= {INPUT + re.sub(r'["=\s\\]', "_", key): value for key, value in given.items()}
            forces = relaxed.atoms["nnp_force"][relaxed.rows(i)] * HARTREE_IN_EV
            if np.isfinite(energy) and np.isfinite(forces).all():
                atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            charge, spin = int(relaxed.charge[i]), int(relaxed.multiplicity[i])
            atoms.info = {"energy_eV": energy, "charge": charge, "spin": spin, PREDICTED: "golf"}
            atoms.info |= {key: _one_line(value) for key, value in texts.items() if value.strip()}  # ASE quotes no ""
            ase.io.write(stream, atoms, format="extxyz")


class _Quoted(str):
    """A text that ASE's writer puts in quotes, as it does with blanks and brackets alone."""

    def __contains__(self, part: object) -> bool:
        return True


def _one_line(value: str) -> str:
    """Text for a comment line; ASE takes a backslash for the beginning of an escape, and any space for an end."""
    text = re.sub(r"\s*[\r\n]\s*", " ", value).replace("\\", "\\\\")
    return _Quoted(text) if re.search(r"[^\S ]", text) else text


def _given(relaxed: ConformationSet, i: int) -> dict[str, str]:
    """The properties of the record that a conformation comes from."""
    return json.loads(relaxed.values[PROPERTIES][i] or "{}") if PROPERTIES in relaxed.values else {}


def _own(relaxed: ConformationSet, i: int) -> dict[str, str]:
    """What the relaxation says, by `golf.io.records.OWN_NAMES`."""
    values = relaxed.values
    remarks = {name: str(values[name][i]) for name in ("changed_molecule", "unlike_training") if name in values}
    return {
        "energy_hartree": f"{values['nnp_energy_last'][i]:.8f}",
        "relative_energy_kcal_mol": f"{values['relative_energy'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "largest_force_kcal_mol_angstrom": f"{values['largest_force'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "stop_reason": StopReason(values["stop_reason"][i]).name.lower(),
        "n_steps": str(values["n_steps"][i]),
        **({"left_saddle_point": "yes"} if "left_saddle_point" in values and values["left_saddle_point"][i] else {}),
        **{name: remark for name, remark in remarks.items() if remark},
    }
