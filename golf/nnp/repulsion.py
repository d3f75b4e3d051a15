"""A prior for distances that no label covers: a wall between atoms that are closer than any in the initial labels.

There a network extrapolates freely, and relaxations fall into holes: trained on 2,000 conformers that ETKDG made, it
closed the H-N-H angle of methoxyamine from 106 to 58 degrees and called that 20 kcal/mol downhill, where the energy of
DFT rises by 40. The wall is zero wherever the labels know better, so training is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from golf.core.elements import MAX_NUMBER, SYMBOLS
from golf.nnp.batches import Batch, LabelledMolecules

REACH = 0.9
"""Of the shortest distance among the labels: DFT minima may lie a little further in than the conformers do."""

STIFFNESS = 1.0
"""hartree/angstrom^2, some 600 kcal/mol/angstrom^2: that of a bond."""


class Wall(nn.Module):
    """Harmonic repulsion of pairs below `REACH` times the shortest distance of their elements; nothing is trained.

    Args:
        shortest_distances: angstrom, by pair of elements ("H-O"), as `shortest_distances` gives them. A pair that is
            not among them has no wall.
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
        """Energy of each pair [U] in hartree."""
        onset = self.onset[batch.numbers[batch.pair_i], batch.numbers[batch.pair_j]]
        gap = (onset - torch.linalg.vector_norm(batch.vectors, dim=1)).clamp(min=0.0)
        return 0.5 * STIFFNESS * gap.square()


def shortest_distances(molecules: LabelledMolecules) -> dict[str, float]:
    """Shortest distance (angstrom) of each pair of elements ("H-O") within the cutoff, over all molecules."""
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
