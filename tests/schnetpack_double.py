"""SchNetPack's networks in float64, for comparisons."""

import torch
from torch import nn

from golf._schnetpack import BesselRBF


def exact_frequencies(network: nn.Module) -> None:
    """Give Bessel functions frequencies in float64: `.double()` keeps those that were rounded to float32."""
    basis = network.representation.radial_basis
    if isinstance(basis, BesselRBF):
        cutoff = float(network.representation.cutoff)
        basis.freqs = torch.arange(1, basis.n_rbf + 1, dtype=torch.float64) * (torch.pi / cutoff)
