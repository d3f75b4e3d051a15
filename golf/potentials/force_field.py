"""MMFF94 as a potential."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from golf.chem.mmff import MMFFSurrogate, SurrogateError, Variant
from golf.nnp.provider import Molecules


class ForceField:
    """Energies and forces of MMFF; a `golf.nnp.provider.ForceProvider`."""

    device = torch.device("cpu")

    def __init__(self, variant: Variant = "MMFF94") -> None:
        self._mmff = MMFFSurrogate(variant)

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces; see `golf.nnp.provider.ForceProvider`."""
        energies, forces = [], [np.zeros((0, 3))]
        geometries = np.split(positions.numpy(), molecules.offset[1:-1].numpy())
        for smiles, geometry in zip(molecules.mapped_smiles, geometries, strict=True):
            try:
                energy, force = self._mmff.energy_and_forces(smiles, geometry)
            except SurrogateError:
                energy, force = np.nan, np.full_like(geometry, np.nan)
            energies.append(energy)
            forces.append(force)
        return torch.tensor(energies, dtype=torch.float64), torch.from_numpy(np.concatenate(forces))
