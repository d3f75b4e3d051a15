"""Read geometries that `golf relax` or another program has relaxed, with the energies and forces in the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.chem.conformers import conformations_of
from golf.chem.geometry import geometry_problem
from golf.chem.usable import PROPERTIES, LeftOut, shell_problem
from golf.core.conformations import ConformationSet, concatenate
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.core.level import LEVEL_ATTRS
from golf.core.units import HARTREE_IN_EV
from golf.io.extxyz import GeometryRecord, geometries, number
from golf.io.formats import EXTXYZ, GOLF, SDF, SMILES, format_of
from golf.io.identity import TIMEOUT
from golf.io.labelled import ENERGY_UNITS, FORCE_UNITS, unit_of
from golf.io.pieces import Embedding, Piece, pieces_of
from golf.io.records import Record, collect, read_records

ENERGY_PROPERTIES: Mapping[str, float] = {
    "energy_hartree": 1.0,
    "E_tot": 1.0,
    "energy_eV": HARTREE_IN_EV,
}
"""Properties of an SDF record that hold a total energy (golf's, Auto3D's), and one hartree in their unit."""

_ENERGY, _LINE = "golf:energy_hartree", "golf:record"
"""Properties in which energy and number of a record travel through the reader; no file has them."""

_ALL = 10**9  # in one piece
_ELEMENTS = range(1, 119)


@dataclass(frozen=True)
class Ends:
    """Relaxed conformations of a file.

    Attributes:
        conformations: with the properties of their records (`golf.chem.usable.PROPERTIES`) where the format has any.
        energy: [N] hartree; NaN where the file has none.
        force: [A, 3] hartree/angstrom, of the method that relaxed them; NaN where the file has none.
        lines: line or number of the record of each conformation.
        left_out: records that cannot be used.
        level: attributes of the level of theory of these energies, as far as the file states them.
    """

    conformations: ConformationSet
    energy: NDArray[np.float64]
    force: NDArray[np.float64]
    lines: list[int]
    left_out: list[LeftOut]
    level: Mapping[str, Any]

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Ends:
        """Return some of the conformations, in the order given."""
        indices = np.asarray(indices, np.int64)
        rows = [np.arange(self.conformations.offset[i], self.conformations.offset[i + 1]) for i in indices]
        force = self.force[np.concatenate([np.zeros(0, np.int64), *rows])]
        chosen = self.conformations.subset(indices)
        lines = [self.lines[i] for i in indices.tolist()]
        return dataclasses.replace(self, conformations=chosen, energy=self.energy[indices], force=force, lines=lines)


def read_ends(path: str | Path, timeout: float = TIMEOUT) -> Ends:
    """Read all geometries of a file, and list the records that cannot be used.

    Energies are those that `golf relax` predicts (.h5, .sdf, .xyz, .extxyz), labels (.h5), `energy` or `energy_eV` of a
    frame (ASE's units unless `energy_unit` states another), and the properties `ENERGY_PROPERTIES` of an SDF.

    Args:
        timeout: limit of the processor time, in seconds, to find the bonds of a frame.

    Raises:
        UserError: the file cannot be read, or has no geometries.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == SMILES:
        raise UserError(f"{path}: has no geometries; relax the molecules first: golf relax {path} -m MODEL -o ends.sdf")
    if kind == SDF:
        ends = _from_sdf(path)
    else:
        pieces = list(pieces_of(path, elements=_ELEMENTS, size=_ALL, embedding=Embedding(timeout=timeout)))
        if kind == GOLF:
            ends = _from_h5(path, pieces)
        else:
            ends = _from_frames(path, pieces) if kind == EXTXYZ else _without_energies(pieces)
    if not len(ends.conformations):
        why = f": {ends.left_out[0].reason}" if ends.left_out else ""
        raise UserError(f"{path}: has no usable conformation{why}; give another file")
    return ends


def _from_sdf(path: Path) -> Ends:
    molecules, left_out = collect(map(_marked, read_records(path)), path, problem=shell_problem, taken=set())
    found, failed = conformations_of(molecules, n_conformers=0, seed=1, prune_rmsd=0.0, keep_properties=True)
    properties = [json.loads(text) for text in found.values.get(PROPERTIES, ())]
    lines = [int(given.pop(_LINE)) for given in properties]
    energies = np.array([float(given.pop(_ENERGY, "nan")) for given in properties], np.float64)
    found = found.with_columns(values={PROPERTIES: [json.dumps(given) if given else "" for given in properties]})
    sound, broken = [], []
    for i, positions in enumerate(found.positions_by_conformation()):
        problem = geometry_problem(found.mapped_smiles[i], positions)
        if problem:
            broken.append(LeftOut(lines[i], found.id[i], found.mapped_smiles[i], problem))
        else:
            sound.append(i)
    every = sorted([*left_out, *failed, *broken], key=lambda out: out.line)
    return Ends(found, energies, np.full(found.position.shape, np.nan), lines, every, {}).subset(sound)


def _marked(record: Record) -> Record:
    """Return the record with its number and its energy, if it has one, among its properties."""
    properties = {**record.properties, _LINE: str(record.line)}
    for name, unit in ENERGY_PROPERTIES.items():
        text = record.results.get(name, record.properties.get(name, ""))
        try:
            properties.setdefault(_ENERGY, repr(float(text) / unit))
        except ValueError:
            continue
    return dataclasses.replace(record, properties=properties)


def _from_h5(path: Path, pieces: list[Piece]) -> Ends:
    ends = _without_energies(pieces)
    stored = read(path)
    chosen = stored.subset(np.array(ends.lines, np.int64) - 1)
    predicted = "nnp_energy_last" in chosen.values
    energy = chosen.values.get("nnp_energy_last" if predicted else "energy", ends.energy)
    force = chosen.atoms.get("nnp_force" if predicted else "force", ends.force)
    level = {name: stored.attrs[name] for name in LEVEL_ATTRS if name in stored.attrs}
    return dataclasses.replace(ends, energy=energy, force=force, level=level)


def _from_frames(path: Path, pieces: list[Piece]) -> Ends:
    ends = _without_energies(pieces)
    wanted = set(ends.lines)
    stated = {}
    for frame in geometries(path):
        if frame.number not in wanted:
            continue
        try:
            stated[frame.number] = _stated(frame)
        except UserError as error:
            raise UserError(f"{path}: {frame.where}: {error}") from None
    energy = np.array([stated[line][0] for line in ends.lines], np.float64)
    force = np.concatenate([np.zeros((0, 3)), *(stated[line][1] for line in ends.lines)])
    return dataclasses.replace(ends, energy=energy, force=force)


def _stated(frame: GeometryRecord) -> tuple[float, NDArray[np.float64]]:
    """Return the energy (hartree) and forces [n, 3] (hartree/angstrom) of a frame, NaN where it has none.

    Raises:
        UserError: they cannot be read.
    """
    energy, forces = np.nan, frame.column("forces")
    if "energy" in frame.keys:
        energy = number(frame.keys["energy"]) / unit_of(frame.keys, "energy_unit", "ev", ENERGY_UNITS)
    elif "energy_eV" in frame.keys:
        energy = number(frame.keys["energy_eV"]) / HARTREE_IN_EV
    if forces is None or forces.shape != frame.positions.shape:
        return energy, np.full(frame.positions.shape, np.nan)
    return energy, forces / unit_of(frame.keys, "forces_unit", "ev/angstrom", FORCE_UNITS)


def _without_energies(pieces: list[Piece]) -> Ends:
    conformations = concatenate([piece.conformations for piece in pieces])
    left_out = sorted((out for piece in pieces for out in piece.left_out), key=lambda out: out.line)
    nothing = np.full(len(conformations), np.nan)
    lines = [int(line) for piece in pieces for line in piece.lines]
    return Ends(conformations, nothing, np.full(conformations.position.shape, np.nan), lines, left_out, {})
