"""Add a prior for distances that no label covers: a repulsive wall between atoms closer than any in the initial labels.

At such distances a network extrapolates, and relaxations fall into holes: after training on 2,000 ETKDG conformers, it
closed the H-N-H angle of methoxyamine from 106 to 58 degrees with a predicted gain of 20 kcal/mol, whereas the DFT
energy rises by 40. The wall is zero at all distances that labels cover, so training is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from golf.core.elements import MAX_NUMBER, SYMBOLS
from golf.nnp.batches import Batch, LabelledMolecules

REACH = 0.9
"""Onset as a share of the shortest distance in the labels, because DFT minima may have slightly shorter distances than
the conformers."""

STIFFNESS = 1.0
"""Force constant in hartree/angstrom^2, about 600 kcal/mol/angstrom^2: that of a bond."""


class Wall(nn.Module):
    """Harmonic repulsion of pairs below `REACH` times the shortest distance of their elements; it is not trained.

    Args:
        shortest_distances: angstrom, by pair of elements ("H-O"), as returned by the function `shortest_distances`.
            Other pairs have no wall.
    """

    onset: Tensor  # [Z, Z] angstrom, by atomic numbers

    def __init__(self, shortest_distances: Mapping[str, float]) -> None:
        super().__init__()
        self.shortest_distances = dict(shortest_distances)
        onset = torch.zeros(MAX_NUMBER, MAX_NUMBER, dtype=torch.float64)
        for pair, distance in shortest_distances.items():
            z_i, z_j = (SYMBOLS.index(symbol) for symbol in pair.split("-"))
            onset[z_i, z_j] = onset[z_j, z_i] = REACH * distance
        self.register_buffer("onset", onset)

    def forward(self, batch: Batch) -> Tensor:
        """Return the energy of each pair [U] in hartree."""
        onset = self.onset[batch.numbers[batch.pair_i], batch.numbers[batch.pair_j]]
        gap = (onset - torch.linalg.vector_norm(batch.vectors, dim=1)).clamp(min=0.0)
        return 0.5 * STIFFNESS * gap.square()


def shortest_distances(molecules: LabelledMolecules) -> dict[str, float]:
    """Return the shortest distance (angstrom) of each pair of elements ("H-O") within the cutoff in all molecules."""
    found = torch.full((MAX_NUMBER**2,), torch.inf, dtype=torch.float64, device=molecules.numbers.device)
    for batch, _, _ in molecules.chunks():
        z_i, z_j = (batch.numbers.index_select(0, pair) for pair in (batch.pair_i, batch.pair_j))
        key = torch.minimum(z_i, z_j) * MAX_NUMBER + torch.maximum(z_i, z_j)
        distance = torch.linalg.vector_norm(batch.vectors, dim=1).to(torch.float64)
        found = found.scatter_reduce(0, key, distance, "amin")
    return {
        f"{SYMBOLS[k // MAX_NUMBER]}-{SYMBOLS[k % MAX_NUMBER]}": float(found[k])
        for k in torch.nonzero(found.isfinite()).flatten().tolist()
    }
