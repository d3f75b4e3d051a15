"""PaiNN and SchNet, evaluated on SchNetPack's modules or on the same weights without SchNetPack (golf/nnp/weights.py).

SchNetPack's `forward` gathers neighbours by advanced indexing (ten times slower on a CPU than `index_select`), filters
both directions of a pair separately, and computes vector features that are not used. Here a pair is filtered once, and
products with zero (the vectors before the first interaction) and unused results (the vectors after the last one) are
left out. The operations between the matrix products are in golf/nnp/painn.py. Results are the same up to rounding;
tests compare them with SchNetPack's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from golf.nnp import copies
from golf.nnp.batches import Batch
from golf.nnp.copies import SharedFilters, are_copies
from golf.nnp.painn import basis, context, message, silu, update


def scalar_features(representation: Any, batch: Batch) -> Tensor:
    """Compute the scalar features [A, n_atom_basis] of every atom.

    They are differentiable with respect to `batch.vectors`, and then to the weights; see golf/nnp/painn.py.

    Args:
        representation: a PaiNN or SchNet of SchNetPack, or of golf/nnp/weights.py.
    """
    if hasattr(representation, "mixing"):
        return _painn(representation, batch)
    return _schnet(representation, batch)


def atomic_energies(outnet: nn.Sequential, features: Tensor) -> Tensor:
    """Compute the output [A] of the network from the features of its atoms."""
    return _layers(outnet, torch.nn.functional.silu, features).squeeze(1)


def _both_directions(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return receiving and sending atoms of the directed pairs, [2 U] each: first i <- j, then j <- i."""
    return torch.cat([batch.pair_i, batch.pair_j]), torch.cat([batch.pair_j, batch.pair_i])


def _painn(painn: Any, batch: Batch) -> Tensor:
    """Evaluate PaiNN (Schuett, Unke, Gastegger, ICML 2021, equations 7 to 10)."""
    width, last = painn.n_atom_basis, painn.n_interactions - 1
    of_copies = are_copies(batch)
    affine = partial(copies.linear, n_copies=batch.n_molecules) if of_copies else linear
    # The last column is the envelope, for the bias: one matrix product filters a pair
    filters = torch.cat([painn.filter_net.weight, painn.filter_net.bias.unsqueeze(1)], dim=1)
    filters = filters.unflatten(0, (-1, 3 * width)).unbind(0)
    send = (_messages_of_copies if of_copies else _messages)(painn, filters, batch)
    q: Tensor = painn.embedding(batch.numbers)
    mu: Tensor | None = None
    for k, (interaction, mixing) in enumerate(zip(painn.interactions, painn.mixing, strict=True)):
        hidden, out = interaction.interatomic_context_net
        n = (3 if k > 0 else 2) * width  # atoms have no vectors to send at first
        if k == 0 and of_copies:  # atoms of an element send the same
            elements, element = torch.unique(batch.numbers, return_inverse=True)
            hidden_x = silu(linear(painn.embedding(elements), hidden.weight, hidden.bias))
            x = linear(hidden_x, out.weight[:n], out.bias[:n]).index_select(0, element)
        else:
            x = affine(silu(affine(q, hidden.weight, hidden.bias)), out.weight[:n], out.bias[:n])
        q, mu = send(k, q, mu, x)
        vw = affine(mu, mixing.mu_channel_mix.weight, None)
        hidden, out = mixing.intraatomic_context_net
        invariants, product = context(q, vw, mixing.epsilon)
        y = affine(silu(affine(invariants, hidden.weight, hidden.bias)), out.weight, out.bias)
        q, mu = update(q, mu if k < last else None, y, product, vw)
    return q


Messages = Callable[[int, Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]
"""Add the messages of interaction k to features q and vectors mu; x is what atoms send (golf/nnp/painn.py)."""


def _messages(painn: Any, filters: Sequence[Tensor], batch: Batch) -> Messages:
    unit, radial = basis(batch.vectors, painn.radial_basis.n_rbf, float(painn.cutoff))

    def send(k: int, q: Tensor, mu: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
        w = linear(radial, filters[k][: x.shape[1]])
        return message(q, mu, w, x, unit, batch.pair_i, batch.pair_j)

    return send


def _messages_of_copies(painn: Any, filters: Sequence[Tensor], batch: Batch) -> Messages:
    distance = torch.linalg.vector_norm(batch.vectors, dim=1)
    unit = batch.vectors / distance.unsqueeze(1)
    used = [filters[0][: 2 * painn.n_atom_basis], *filters[1:]]
    shared = SharedFilters.of(batch, distance, used, float(painn.cutoff))

    def send(k: int, q: Tensor, mu: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
        return copies.message(q, mu, shared, k, x, unit, distance)

    return send


def _schnet(schnet: Any, batch: Batch) -> Tensor:
    """Evaluate SchNet (Schuett et al., J. Chem. Phys. 148, 241722 (2018))."""
    n_pairs = len(batch.vectors)
    receiver, sender = _both_directions(batch)
    distance = torch.linalg.vector_norm(batch.vectors, dim=1)  # [U]
    offsets, widths, cutoff = schnet.radial_basis.offsets, schnet.radial_basis.widths, schnet.cutoff_fn.cutoff
    radial = torch.exp(-0.5 / torch.pow(widths, 2) * torch.pow(distance.unsqueeze(1) - offsets, 2))  # [U, n_rbf]
    envelope = 0.5 * (torch.cos(distance * math.pi / cutoff) + 1.0) * (distance < cutoff)
    x = schnet.embedding(batch.numbers)
    for interaction in schnet.interactions:
        filters = _layers(interaction.filter_network, _shifted_softplus, radial) * envelope.unsqueeze(1)  # [U, F]
        width = filters.shape[1]
        sent = linear(x, interaction.in2f.weight).index_select(0, sender).view(2, n_pairs, width) * filters
        gathered = sent.new_zeros(len(x), width).index_add(0, receiver, sent.view(2 * n_pairs, width))
        x = x + _layers(interaction.f2out, _shifted_softplus, gathered)
    return x


def _layers(layers: Any, activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply two linear layers with an activation in between, which modules of weights lack."""
    first, second = layers
    return linear(activation(linear(x, first.weight, first.bias)), second.weight, second.bias)


def _shifted_softplus(x: Tensor) -> Tensor:
    return softplus(x) - math.log(2.0)
