"""The data model: conformations of molecules, with or without labels.

Every artifact has this layout; golf/core/hdf5.py writes and reads it. Units are angstrom, hartree and
hartree/angstrom everywhere; energies are float64 total energies. Conformations of different sizes are concatenated, as
the rows of a CSR matrix are: the atoms of conformation i are the rows `offset[i]:offset[i + 1]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Status(IntEnum):
    """Outcome of a label."""

    OK = 0
    NOT_COMPUTED = 1  # no label yet
    NOT_CONVERGED = 2  # no step of the SCF ladder converged, or a DFT optimization reached its step limit
    FAILED = 3  # the program reported an error
    CRASHED = 4  # the program's process died
    TIMED_OUT = 5  # stopped at the time limit per conformation
    REJECTED = 6  # computed, but excluded from training (force norm above max_force_norm)


class StopReason(IntEnum):
    """Reason why a relaxation ended."""

    CONVERGED = 0  # largest force component norm below the threshold
    SURROGATE_RISE = 1  # the surrogate energy rose over the last step
    STEP_LIMIT = 2
    NOT_FINITE = 3  # energy, forces or positions became NaN or infinite
    FAILED = 4  # the oracle or force field returned no force


@dataclass(frozen=True)
class Column:
    """One dataset of the HDF5 file: type, trailing shape, unit and meaning."""

    dtype: Any
    description: str
    unit: str = ""
    shape: tuple[int, ...] = ()


ATOM_COLUMNS: Mapping[str, Column] = {
    "force": Column(np.float64, "minus the gradient of the energy", "hartree/angstrom", (3,)),
    "initial_position": Column(np.float64, "where the relaxation started", "angstrom", (3,)),
    "nnp_force": Column(np.float64, "force that the NNP predicts", "hartree/angstrom", (3,)),
}
NEAR_TRAINING = "near_training"
"""Name of the column that marks test starts close to a training conformation."""

CONFORMATION_COLUMNS: Mapping[str, Column] = {
    "energy": Column(np.float64, "total energy of the label", "hartree"),
    "energy_first": Column(np.float64, "total energy of the start of a DFT optimization", "hartree"),
    "status": Column(Status, "what became of the label"),
    "message": Column(str, "why there is no label, or what was noticed"),
    "wall_seconds": Column(np.float64, "time that the label or optimization took", "second"),
    "scf_iterations": Column(np.int32, "iterations of the SCF that converged"),
    "recovery": Column(str, "step of the SCF ladder that converged; empty: the first try"),
    "left_saddle_point": Column(np.bool_, "a symmetric start: had ended in a saddle point and was relaxed on"),
    "stop_reason": Column(StopReason, "why the relaxation ended"),
    "n_steps": Column(np.int32, "optimizer steps"),
    "n_force_evaluations": Column(np.int32, "force evaluations"),
    "kept": Column(np.bool_, "states along the relaxation were kept"),
    "step": Column(np.int32, "optimizer step of the relaxation at which it had this geometry"),
    "nnp_energy": Column(np.float64, "energy that the NNP predicts", "hartree"),
    "nnp_energy_first": Column(np.float64, "NNP energy of the start", "hartree"),
    "nnp_energy_last": Column(np.float64, "NNP energy of the final geometry", "hartree"),
    "largest_force": Column(np.float64, "largest force on an atom in the final geometry", "hartree/angstrom"),
    "surrogate_energy_first": Column(np.float64, "MMFF energy of the start", "hartree"),
    "surrogate_energy_last": Column(np.float64, "MMFF energy of the final geometry", "hartree"),
    "relative_energy": Column(
        np.float64, "NNP energy above the molecule's lowest whole conformer in the file", "hartree"
    ),
    "n_imaginary": Column(np.int32, "imaginary modes at the end beyond 40/cm; -1: it did not converge"),
    "lowest_frequency": Column(np.float64, "lowest frequency; negative: imaginary", "1/cm"),
    "n_kicks": Column(np.int32, "how often it was displaced along an imaginary mode and relaxed again"),
    "free_energy": Column(np.float64, "free energy at the temperature of the file, quasi-RRHO, 1 atm", "hartree"),
    "boltzmann_weight": Column(np.float64, "share of the molecule's conformers in the file, by free energy"),
    "strain_energy": Column(
        np.float64, "NNP energy above that of the lowest conformer that a search found; NaN: none was found", "hartree"
    ),
    "n_conformers": Column(np.int32, "ETKDG conformers that were asked for, in all batches of the molecule"),
    "search_complete": Column(np.bool_, "the last batch of conformers of the molecule brought no new minimum"),
    "properties": Column(str, "properties of the input record, JSON"),
    "changed_molecule": Column(str, "how the geometry is not that of mapped_smiles any more; empty: it is"),
    "unlike_training": Column(str, "what it has that the model's training data have not; empty: nothing was found"),
    "start_id": Column(str, "id of the conformation that the relaxation started from"),
    "residual_energy": Column(np.float64, "E_DFT(s_T) - E_DFT(s_opt)", "hartree"),
    NEAR_TRAINING: Column(np.bool_, "starts within dataset.prune_rmsd of a training conformation"),
    "energy_gain": Column(np.float64, "E_DFT(s_0) - E_DFT(s_opt)", "hartree"),
    "percent_optimized": Column(np.float64, "pct(s_T)", "percent"),
    "diverged": Column(np.bool_, "not finite, DFT failed, or E_DFT(s_T) > E_DFT(s_0)"),
    "rmsd": Column(
        np.float64, "RMSD from the end of the relaxation to the DFT minimum from the same start", "angstrom"
    ),
    "nearest_rmsd": Column(
        np.float64, "smallest RMSD from this DFT minimum to an end of a relaxation of the molecule", "angstrom"
    ),
    "has_reference": Column(np.bool_, "a DFT minimum was reached from the same start; else excluded from all numbers"),
    "unseen": Column(np.bool_, "no conformation of this molecule was in training"),
}


class Frame(NamedTuple):
    """One geometry along a relaxation.

    Attributes:
        conformation: index of the conformation in its set.
        step: optimizer step.
        energy: hartree.
        position: [n, 3] angstrom.
        force: [n, 3] hartree/angstrom.
    """

    conformation: int
    step: int
    energy: float
    position: NDArray[np.float64]
    force: NDArray[np.float64]


@dataclass(frozen=True)
class Frames:
    """Geometries along relaxations. Arrays: conformation, step, energy [n_frames]; position, force [n_frame_atoms, 3].

    The atoms of frame k are the rows `offset[k]:offset[k + 1]`, in the row order of its conformation.
    """

    conformation: NDArray[np.int64]
    step: NDArray[np.int64]
    offset: NDArray[np.int64]
    energy: NDArray[np.float64]  # hartree
    position: NDArray[np.float64]  # angstrom
    force: NDArray[np.float64]  # hartree/angstrom

    def __len__(self) -> int:
        return len(self.conformation)

    @classmethod
    def build(cls, frames: Iterable[Frame]) -> Frames:
        """Collect frames, or tuples of their fields, in the order given."""
        rows = [Frame(*frame) for frame in frames]
        empty = np.zeros((0, 3))
        return cls(
            conformation=np.array([frame.conformation for frame in rows], dtype=np.int64),
            step=np.array([frame.step for frame in rows], dtype=np.int64),
            offset=np.cumsum([0] + [len(frame.position) for frame in rows], dtype=np.int64),
            energy=np.array([frame.energy for frame in rows], dtype=np.float64),
            position=np.concatenate([empty, *(frame.position for frame in rows)]),
            force=np.concatenate([empty, *(frame.force for frame in rows)]),
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames one by one, as `build` takes them."""
        for k in range(len(self)):
            yield self._frame(k)

    def _frame(self, k: int) -> Frame:
        atoms = slice(self.offset[k], self.offset[k + 1])
        return Frame(
            int(self.conformation[k]),
            int(self.step[k]),
            float(self.energy[k]),
            self.position[atoms],
            self.force[atoms],
        )

    def subset(self, indices: Sequence[int] | NDArray) -> Frames:
        """Return the frames of the given conformations, renumbered in that order."""
        return Frames.build(
            self._frame(k)._replace(conformation=new)
            for new, old in enumerate(indices)
            for k in np.flatnonzero(self.conformation == old).tolist()
        )


class ConformationRecord(NamedTuple):
    """One conformation, as `ConformationSet.build` takes it.

    Attributes:
        id: unique name of the conformation.
        molecule: name of the molecule.
        mapped_smiles: SMILES whose atom-map numbers give the row order.
        charge: total charge.
        multiplicity: spin multiplicity.
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom.
    """

    id: str
    molecule: str
    mapped_smiles: str
    charge: int
    multiplicity: int
    numbers: NDArray[np.integer]
    positions: NDArray[np.float64]


@dataclass(frozen=True)
class ConformationSet:
    """N conformations with A atoms in total, as concatenated arrays.

    The module's docstring has the units and the row order.

    Raises:
        ValueError: the arrays contradict the layout.
    """

    id: list[str]
    molecule: list[str]
    mapped_smiles: list[str]
    charge: NDArray[np.int8]
    multiplicity: NDArray[np.uint8]
    offset: NDArray[np.int64]  # [N + 1]
    number: NDArray[np.uint8]  # [A]
    position: NDArray[np.float64]  # [A, 3] angstrom
    atoms: dict[str, NDArray] = field(default_factory=dict)  # [A, ...], names from ATOM_COLUMNS
    values: dict[str, NDArray] = field(default_factory=dict)  # [N], names from CONFORMATION_COLUMNS
    attrs: dict[str, Any] = field(default_factory=dict)
    frames: Frames | None = None

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)

    def __len__(self) -> int:
        return len(self.id)

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """Number of atoms of each conformation [N]."""
        return np.diff(self.offset)

    def rows(self, i: int) -> slice:
        """Return the atom rows of conformation i."""
        return slice(int(self.offset[i]), int(self.offset[i + 1]))

    @classmethod
    def build(
        cls,
        records: Iterable[ConformationRecord],
        **attrs: Any,
    ) -> ConformationSet:
        """Collect records, or tuples of their fields, in the order given; `attrs` become the root attributes."""
        rows = [ConformationRecord(*record) for record in records]
        return cls(
            id=[row.id for row in rows],
            molecule=[row.molecule for row in rows],
            mapped_smiles=[row.mapped_smiles for row in rows],
            charge=np.array([row.charge for row in rows], dtype=np.int8),
            multiplicity=np.array([row.multiplicity for row in rows], dtype=np.uint8),
            offset=np.cumsum([0] + [len(row.numbers) for row in rows], dtype=np.int64),
            number=np.concatenate([np.zeros(0, np.uint8), *(np.asarray(row.numbers, np.uint8) for row in rows)]),
            position=np.concatenate([np.zeros((0, 3)), *(np.asarray(row.positions, np.float64) for row in rows)]),
            attrs=attrs,
        )

    def subset(self, indices: Sequence[int] | NDArray) -> ConformationSet:
        """Return the conformations of the given indices (or boolean mask), in that order."""
        indices = np.asarray(indices)
        if indices.dtype == np.bool_:
            indices = np.flatnonzero(indices)
        indices = indices.astype(np.int64)
        parts = [np.arange(self.offset[i], self.offset[i + 1]) for i in indices]
        rows = np.concatenate([np.zeros(0, np.int64), *parts])
        return replace(
            self,
            id=[self.id[i] for i in indices],
            molecule=[self.molecule[i] for i in indices],
            mapped_smiles=[self.mapped_smiles[i] for i in indices],
            charge=self.charge[indices],
            multiplicity=self.multiplicity[indices],
            offset=np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64),
            number=self.number[rows],
            position=self.position[rows],
            atoms={name: array[rows] for name, array in self.atoms.items()},
            values={name: array[indices] for name, array in self.values.items()},
            attrs=dict(self.attrs),
            frames=None if self.frames is None else self.frames.subset(indices),
        )

    def with_columns(
        self,
        *,
        position: NDArray | None = None,
        atoms: Mapping[str, NDArray] | None = None,
        values: Mapping[str, Sequence | NDArray] | None = None,
        frames: Frames | None = None,
        **attrs: Any,
    ) -> ConformationSet:
        """Return a copy with columns and attributes added or replaced; columns are cast to the types of the layout."""
        return replace(
            self,
            position=self.position if position is None else np.asarray(position, np.float64),
            atoms=self.atoms | {name: np.asarray(array, np.float64) for name, array in (atoms or {}).items()},
            values=self.values | {name: as_column(name, array) for name, array in (values or {}).items()},
            frames=self.frames if frames is None else frames,
            attrs=self.attrs | attrs,
        )

    def bare(self) -> ConformationSet:
        """Return the conformations without labels, relaxation columns and attributes."""
        return replace(self, atoms={}, values={}, attrs={}, frames=None)

    def positions_by_conformation(self) -> Iterator[NDArray[np.float64]]:
        """Yield the positions of each conformation, as views [n_i, 3] (angstrom)."""
        for i in range(len(self)):
            yield self.position[self.rows(i)]


def concatenate(sets: Sequence[ConformationSet]) -> ConformationSet:
    """Concatenate sets; columns and attributes that all of them share are kept, frames are not."""
    if not sets:
        return ConformationSet.build([])
    full = [part for part in sets if len(part)] or [sets[0]]
    atoms = {
        name: np.concatenate([part.atoms[name] for part in full])
        for name in full[0].atoms
        if all(name in part.atoms for part in full)
    }
    values = {
        name: np.concatenate([part.values[name] for part in full])
        for name in full[0].values
        if all(name in part.values for part in full)
    }
    attrs = {
        name: value
        for name, value in full[0].attrs.items()
        if all(name in part.attrs and part.attrs[name] == value for part in full)
    }
    return ConformationSet(
        id=[x for part in full for x in part.id],
        molecule=[x for part in full for x in part.molecule],
        mapped_smiles=[x for part in full for x in part.mapped_smiles],
        charge=np.concatenate([part.charge for part in full]),
        multiplicity=np.concatenate([part.multiplicity for part in full]),
        offset=np.concatenate([[0], np.cumsum(np.concatenate([part.n_atoms for part in full]))]).astype(np.int64),
        number=np.concatenate([part.number for part in full]),
        position=np.concatenate([part.position for part in full]),
        atoms=atoms,
        values=values,
        attrs=attrs,
    )


def as_column(name: str, array: Sequence | NDArray) -> NDArray:
    """Cast the values of a column of conformations [N] to the type that it has in memory."""
    column = CONFORMATION_COLUMNS[name]
    if column.dtype is str:
        return np.array(list(array), dtype=object)
    if isinstance(column.dtype, type) and issubclass(column.dtype, IntEnum):
        return np.asarray(array, dtype=np.uint8)
    return np.asarray(array, dtype=column.dtype)


def _problems(part: ConformationSet) -> Iterator[str]:
    """Yield what contradicts the layout, worded to follow a file's name."""
    n, n_rows = len(part.id), len(part.number)
    lengths: dict[str, Sequence | NDArray] = {
        "molecule": part.molecule,
        "mapped_smiles": part.mapped_smiles,
        "charge": part.charge,
    }
    lengths |= {"multiplicity": part.multiplicity, **part.values}
    for name, column in lengths.items():
        if len(column) != n:
            yield f"conformation/{name} has {len(column)} entries for {n} conformations"
    if (
        len(part.offset) != n + 1
        or part.offset[0] != 0
        or part.offset[-1] != n_rows
        or (np.diff(part.offset) < 1).any()
    ):
        yield f"atoms/offset does not divide the {n_rows} atoms into {n} conformations"
    for name, array in {"position": part.position, **part.atoms}.items():
        if array.shape != (n_rows, 3):
            yield f"atoms/{name} has shape {array.shape}, not ({n_rows}, 3)"
    if len(set(part.id)) != n:
        seen: set[str] = set()
        twice = next(x for x in part.id if x in seen or seen.add(x))  # type: ignore[func-returns-value]
        yield f"conformation/id {twice!r} appears twice"
    for name in part.values.keys() - CONFORMATION_COLUMNS.keys():
        yield f"conformation/{name} is not a column of the layout"
    for name in part.atoms.keys() - ATOM_COLUMNS.keys():
        yield f"atoms/{name} is not a column of the layout"
