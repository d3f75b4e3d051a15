"""Represent molecules of different sizes as tensors: pairs within the cutoff, and batches by tensor indexing.

The atoms of all molecules are concatenated, as in `ConformationSet`. A pair of atoms is stored once, with i < j;
callers that need both directions mirror it.

Shapes: n molecules of a batch, N molecules of a training set, A atoms, U undirected pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.core.conformations import ConformationSet
from golf.core.labels import labelled_indices


@dataclass(frozen=True)
class Batch:
    """A batch of n molecules with A atoms and U undirected pairs."""

    numbers: Tensor  # [A] int64, atomic numbers
    molecule: Tensor  # [A] int64, index of the molecule of each atom
    n_molecules: int
    pair_i: Tensor  # [U] int64, rows of the batch
    pair_j: Tensor  # [U] int64, pair_i < pair_j
    vectors: Tensor  # [U, 3] angstrom, from i to j
    copies: bool = False  # displaced copies of one molecule, the first of them as a reference (golf/nnp/copies.py)

    @property
    def n_atoms(self) -> Tensor:
        """Number of atoms of each molecule [n]."""
        return torch.bincount(self.molecule, minlength=self.n_molecules)


def pairs_within(positions: Tensor, offset: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Find the pairs of atoms of the same molecule that are closer than the cutoff.

    Args:
        positions: [A, 3] angstrom.
        offset: int64 [n + 1]; the atoms of molecule k are the rows offset[k]:offset[k + 1].
        cutoff: angstrom.

    Returns:
        pair_i [U], pair_j [U] with i < j, ordered by i, and the vectors from i to j [U, 3] in the type of `positions`.
    """
    device = positions.device
    atom = torch.arange(len(positions), device=device)
    partners = torch.repeat_interleave(offset[1:], offset.diff()) - atom - 1  # [A] atoms of the molecule after this one
    pair_i = torch.repeat_interleave(atom, partners)
    first = partners.cumsum(0) - partners
    pair_j = torch.arange(len(pair_i), device=device) - first.index_select(0, pair_i) + pair_i + 1
    vectors = positions.index_select(0, pair_j) - positions.index_select(0, pair_i)
    distance = torch.linalg.vector_norm(vectors.detach(), dim=1)
    far = (distance >= cutoff) & distance.isfinite()  # positions that are not finite must show in the energy
    near = torch.nonzero(~far).squeeze(1)
    return pair_i.index_select(0, near), pair_j.index_select(0, near), vectors.index_select(0, near)


def batch_of(numbers: Tensor, positions: Tensor, offset: Tensor, cutoff: float) -> Batch:
    """Make one batch of all molecules; arguments as in `pairs_within`, numbers [A] int64."""
    molecule = torch.repeat_interleave(torch.arange(len(offset) - 1, device=offset.device), offset.diff())
    return Batch(numbers, molecule, len(offset) - 1, *pairs_within(positions, offset, cutoff))


def wants_graph(geometry: Tensor) -> bool:
    """Tell whether results have to be differentiable with respect to these positions or vectors."""
    return torch.is_grad_enabled() and geometry.requires_grad


CHUNK = 1024
"""Molecules whose pairs are in memory at a time when a whole training set is processed: about 50 MB."""


@dataclass(frozen=True)
class LabelledMolecules:
    """A training set of N molecules with A atoms.

    Pairs are computed for each batch. Those of a whole training set would take about 20 times the memory of the
    positions, while computing those of a batch takes a hundredth of the time of an update.
    """

    numbers: Tensor  # [A] int64
    offset: Tensor  # [N + 1] int64, atom rows
    positions: Tensor  # [A, 3] float64 angstrom
    energy: Tensor  # [N] float64 hartree, relative to the reference energies
    force: Tensor  # [A, 3] hartree/angstrom, in the type of the network
    cutoff: float  # angstrom

    def __len__(self) -> int:
        return len(self.energy)

    @classmethod
    def build(
        cls,
        conformations: ConformationSet,
        reference: Tensor,
        cutoff: float,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> LabelledMolecules:
        """Make a training set of the conformations with `Status.OK`.

        Args:
            conformations: labelled conformations.
            reference: [Z] float64 hartree, reference energy by atomic number; it is subtracted in float64.
            cutoff: angstrom.
            dtype: type of the batches' vectors and forces.
            device: where the tensors are.
        """
        labelled = conformations.subset(labelled_indices(conformations))
        offset = torch.from_numpy(labelled.offset)
        numbers = torch.from_numpy(labelled.number.astype(np.int64))
        molecule = torch.repeat_interleave(torch.arange(len(labelled)), offset.diff())
        energy = torch.from_numpy(np.asarray(labelled.values["energy"], np.float64))
        shift = torch.zeros_like(energy).index_add(0, molecule, reference.cpu().index_select(0, numbers))
        molecules = cls(
            numbers=numbers,
            offset=offset,
            positions=torch.from_numpy(labelled.position),
            energy=energy - shift,
            force=torch.from_numpy(labelled.atoms["force"]).to(dtype),
            cutoff=cutoff,
        )
        return molecules.to(device)

    @classmethod
    def concatenate(cls, parts: Sequence[LabelledMolecules]) -> LabelledMolecules:
        """Join the molecules of at least one part, in this order; all parts must have the same cutoff."""
        if len(parts) == 1:
            return parts[0]
        offset = parts[0].offset
        for part in parts[1:]:
            offset = torch.cat([offset, part.offset[1:] + offset[-1]])
        return cls(
            numbers=torch.cat([part.numbers for part in parts]),
            offset=offset,
            positions=torch.cat([part.positions for part in parts]),
            energy=torch.cat([part.energy for part in parts]),
            force=torch.cat([part.force for part in parts]),
            cutoff=parts[0].cutoff,
        )

    def to(self, device: str | torch.device) -> LabelledMolecules:
        """Copy everything to another device."""
        columns: dict[str, Any] = {name: getattr(self, name).to(device) for name in _COLUMNS}
        return replace(self, **columns)

    def select(self, indices: Tensor) -> tuple[Batch, Tensor, Tensor]:
        """Return the batch of the given molecules (indices [n]), their energies [n] and forces [A, 3]."""
        atoms, base, _ = _rows(self.offset, indices)
        offset = torch.cat([base, base.new_tensor([len(atoms)])])
        force = self.force.index_select(0, atoms)
        batch = batch_of(
            self.numbers.index_select(0, atoms), self.positions.index_select(0, atoms), offset, self.cutoff
        )
        batch = replace(batch, vectors=batch.vectors.to(force.dtype))
        return batch, self.energy.index_select(0, indices), force

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        """Iterate over all molecules in batches of `size`, in the form of `select`."""
        for indices in torch.arange(len(self), device=self.offset.device).split(size):
            yield self.select(indices)

    def digest(self) -> str:
        """Return a hash of the whole training set."""
        digest = hashlib.sha256(repr(self.cutoff).encode())
        for name in _COLUMNS:
            digest.update(getattr(self, name).cpu().contiguous().numpy())
        return digest.hexdigest()


_COLUMNS = ("numbers", "offset", "positions", "energy", "force")


def _rows(offset: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the concatenated rows of the chosen segments, the position of each among them, and its length."""
    start = offset.index_select(0, indices)
    length = offset.index_select(0, indices + 1) - start
    base = length.cumsum(0) - length
    shift = torch.repeat_interleave(start - base, length)
    return torch.arange(len(shift), device=offset.device) + shift, base, length


def drawn(n: int, size: int, step: int, seed: tuple[int, ...]) -> np.ndarray:
    """Return the indices [size] of a step's batch: consecutive pieces of permutations of n, one per epoch.

    The result depends on the arguments only, so that a resumed run draws the same batches as an uninterrupted one.
    """
    first = step * size
    epochs = range(first // n, (first + size - 1) // n + 1)
    order = np.concatenate([_permutation(n, (*seed, epoch)) for epoch in epochs])
    return order[first - epochs[0] * n :][:size]


@lru_cache(maxsize=8)  # two streams, and the epochs that a batch spans
def _permutation(n: int, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)
