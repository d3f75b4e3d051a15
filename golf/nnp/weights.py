"""Weights of a PaiNN or SchNet under the names that SchNetPack gives them, without SchNetPack.

A model file is opened into these. They have no `forward`: golf/nnp/networks.py evaluates them, as it does SchNetPack's
own modules, which new networks are built and trained with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from golf.core.errors import UserError

if TYPE_CHECKING:
    from golf.nnp.potential import Architecture

N_ELEMENTS = 100
"""Rows of SchNetPack's embedding."""


class Envelope(nn.Module):
    """The cutoff [1] of SchNetPack's `CosineCutoff`, angstrom."""

    cutoff: Tensor

    def __init__(self) -> None:
        """Reserve its memory."""
        super().__init__()
        self.register_buffer("cutoff", torch.empty(1))


class RadialBasis(nn.Module):
    """Buffers [n_rbf] of SchNetPack's `BesselRBF` (freqs) or `GaussianRBF` (widths, offsets)."""

    freqs: Tensor
    widths: Tensor
    offsets: Tensor

    def __init__(self, n_rbf: int, *names: str) -> None:
        """Reserve memory for the buffers of these names."""
        super().__init__()
        self.n_rbf = n_rbf
        for name in names:
            self.register_buffer(name, torch.empty(n_rbf))


class Interaction(nn.Module):
    """Weights of the messages between atoms in PaiNN."""

    def __init__(self, width: int) -> None:
        """Reserve memory for features of this width."""
        super().__init__()
        self.interatomic_context_net = nn.Sequential(nn.Linear(width, width), nn.Linear(width, 3 * width))


class Mixing(nn.Module):
    """Weights that mix the scalars and vectors of an atom in PaiNN."""

    epsilon = 1e-8

    def __init__(self, width: int) -> None:
        """Reserve memory for features of this width."""
        super().__init__()
        self.intraatomic_context_net = nn.Sequential(nn.Linear(2 * width, width), nn.Linear(width, 3 * width))
        self.mu_channel_mix = nn.Linear(width, 2 * width, bias=False)


class Convolution(nn.Module):
    """Weights of the messages between atoms in SchNet."""

    def __init__(self, width: int, n_rbf: int) -> None:
        """Reserve memory for features of this width."""
        super().__init__()
        self.in2f = nn.Linear(width, width, bias=False)
        self.f2out = nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))
        self.filter_network = nn.Sequential(nn.Linear(n_rbf, width), nn.Linear(width, width))


class Representation(nn.Module):
    """The weights that PaiNN and SchNet have in common.

    Args:
        parts: `cutoff_fn` and `radial_basis`, in the order in which SchNetPack's state dict has them.
    """

    cutoff_fn: Envelope
    radial_basis: RadialBasis

    def __init__(self, n_atom_basis: int, n_interactions: int, **parts: nn.Module) -> None:
        """Reserve memory for the embedding."""
        super().__init__()
        self.n_atom_basis = n_atom_basis
        self.n_interactions = n_interactions
        for name, module in parts.items():
            self.add_module(name, module)
        self.embedding = nn.Embedding(N_ELEMENTS, n_atom_basis)

    @property
    def cutoff(self) -> Tensor:
        """Distance [1] in angstrom beyond which atoms do not interact."""
        return self.cutoff_fn.cutoff


class PaiNN(Representation):
    """Weights of PaiNN (Schuett, Unke, Gastegger, ICML 2021)."""

    def __init__(self, n_atom_basis: int, n_interactions: int, n_rbf: int) -> None:
        """Reserve memory for the filters and the interactions."""
        basis = RadialBasis(n_rbf, "freqs")
        super().__init__(n_atom_basis, n_interactions, cutoff_fn=Envelope(), radial_basis=basis)
        self.filter_net = nn.Linear(n_rbf, n_interactions * n_atom_basis * 3)
        self.interactions = nn.ModuleList([Interaction(n_atom_basis) for _ in range(n_interactions)])
        self.mixing = nn.ModuleList([Mixing(n_atom_basis) for _ in range(n_interactions)])


class SchNet(Representation):
    """Weights of SchNet (Schuett et al., J. Chem. Phys. 148, 241722 (2018))."""

    def __init__(self, n_atom_basis: int, n_interactions: int, n_rbf: int) -> None:
        """Reserve memory for the interactions."""
        basis = RadialBasis(n_rbf, "widths", "offsets")
        super().__init__(n_atom_basis, n_interactions, radial_basis=basis, cutoff_fn=Envelope())
        self.interactions = nn.ModuleList([Convolution(n_atom_basis, n_rbf) for _ in range(n_interactions)])


class Output(nn.Module):
    """Weights that map the features of an atom to its energy."""

    def __init__(self, n_atom_basis: int) -> None:
        """Reserve memory for the two layers."""
        super().__init__()
        hidden = max(1, n_atom_basis // 2)
        self.outnet = nn.Sequential(nn.Linear(n_atom_basis, hidden), nn.Linear(hidden, 1))


class Network(nn.Module):
    """Weights of a whole network; the names of its state dict are those of a plain SchNetPack model."""

    def __init__(self, representation: PaiNN | SchNet) -> None:
        """Add the output to a representation."""
        super().__init__()
        self.representation = representation
        self.output_modules = nn.ModuleList([Output(representation.n_atom_basis)])


def empty_network(architecture: Architecture) -> Network:
    """Make a float32 network on the CPU whose weights have yet to be loaded; torch's generator is not used.

    Raises:
        UserError: the representation is unknown.
    """
    shape = architecture.n_atom_basis, architecture.n_interactions, architecture.n_rbf
    representations: dict[str, type[PaiNN | SchNet]] = {"painn": PaiNN, "schnet": SchNet}
    if architecture.representation not in representations:
        raise unknown_representation(architecture)
    with torch.device("meta"):
        network = Network(representations[architecture.representation](*shape))
    network.float().to_empty(device="cpu")
    return network


def unknown_representation(architecture: Architecture) -> UserError:
    """Return the error for an unknown representation."""
    return UserError(f"key nnp.representation: {architecture.representation!r} is unknown; use painn or schnet")
