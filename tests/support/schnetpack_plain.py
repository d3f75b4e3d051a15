"""SchNetPack's own networks, for comparisons."""

import torch
from torch import Tensor, nn

from golf.nnp._schnetpack import BesselRBF, properties
from golf.nnp.batches import Batch


def exact_frequencies(network: nn.Module) -> None:
    """Give Bessel functions frequencies in float64: `.double()` keeps those that were rounded to float32."""
    basis = network.representation.radial_basis
    if isinstance(basis, BesselRBF):
        cutoff = float(network.representation.cutoff)
        basis.freqs = torch.arange(1, basis.n_rbf + 1, dtype=torch.float64) * (torch.pi / cutoff)


def schnetpack_inputs(batch: Batch, positions: Tensor) -> dict[str, Tensor]:
    """A batch and its positions [A, 3], in the type of the network, as SchNetPack takes them."""
    return {
        properties.Z: batch.numbers,
        properties.R: positions,
        properties.idx_i: torch.cat([batch.pair_i, batch.pair_j]),
        properties.idx_j: torch.cat([batch.pair_j, batch.pair_i]),
        properties.idx_m: batch.molecule,
        properties.offsets: torch.zeros(2 * len(batch.vectors), 3, dtype=positions.dtype),
    }
