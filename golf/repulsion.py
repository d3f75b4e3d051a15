"""A prior for distances that no label covers: the screened repulsion of nuclei, inside bonds only.

Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Solids" (1985). SchNetPack's ZBLRepulsionEnergy acts at
all distances up to one cutoff, so that the network first has to learn to cancel it at every bond (its force error after
the same training was 60 % larger); here an envelope switches it off at 0.8 times the sum of the covalent radii.
"""

from __future__ import annotations

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from golf.batches import Batch
from golf.units import BOHR_IN_ANGSTROM

REACH = 0.8
"""Of the sum of covalent radii: shorter than any bond, where the labels know better."""

COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)
MAX_NUMBER = 100


class ZBL(nn.Module):
    """Repulsion of every pair, without parameters to train."""

    radius: Tensor  # [Z] angstrom, by atomic number
    coefficients: Tensor  # [4]
    exponents: Tensor  # [4]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("radius", torch.tensor(np.asarray(covalent_radii)[:MAX_NUMBER]))
        self.register_buffer("coefficients", torch.tensor(COEFFICIENTS, dtype=torch.float64))
        self.register_buffer("exponents", torch.tensor(EXPONENTS, dtype=torch.float64))

    def forward(self, batch: Batch) -> Tensor:
        """Energy of each pair [U] in hartree."""
        z_i, z_j = batch.numbers.index_select(0, batch.pair_i), batch.numbers.index_select(0, batch.pair_j)
        distance = torch.linalg.vector_norm(batch.vectors, dim=1)
        x = distance / (REACH * (self.radius.index_select(0, z_i) + self.radius.index_select(0, z_j)))
        # Two continuous derivatives at x = 1; DimeNet's polynomial of degree 6, Gasteiger et al., ICLR 2020
        envelope = torch.where(x < 1.0, 1.0 - 28.0 * x**6 + 48.0 * x**7 - 21.0 * x**8, torch.zeros_like(x))
        length = 0.8854 * BOHR_IN_ANGSTROM / (z_i.to(x.dtype) ** 0.23 + z_j.to(x.dtype) ** 0.23)
        reduced = (distance / length).unsqueeze(1)
        screening = (self.coefficients * torch.exp(-self.exponents * reduced)).sum(1)
        return z_i * z_j * BOHR_IN_ANGSTROM / distance * screening * envelope
