"""SchNetPack's PaiNN and SchNet, evaluated faster on the same modules and weights.

SchNetPack's `forward` gathers neighbours by advanced indexing (ten times slower on a CPU than `index_select`), filters
both directions of a pair separately, and computes vector features that nothing reads. Here a pair is filtered once,
vectors are laid out as [3, atoms, features] so that products run along contiguous memory, and what is multiplied by
zero (the vectors before the first interaction) or unused (those after the last) is left out. The numbers are the same
up to rounding; the tests compare them with SchNetPack's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from golf._schnetpack import PaiNN, SchNet
from golf.batches import Batch


def scalar_features(representation: nn.Module, batch: Batch) -> Tensor:
    """Scalar features [A, n_atom_basis] of every atom; differentiable (twice) with respect to `batch.vectors`."""
    if isinstance(representation, PaiNN):
        return _painn(representation, batch)
    if isinstance(representation, SchNet):
        return _schnet(representation, batch)
    raise TypeError(f"representation must be PaiNN or SchNet, not {type(representation).__name__}")


def _both_directions(batch: Batch) -> tuple[Tensor, Tensor]:
    """Receiving and sending atoms of the directed pairs, [2 U] each: first i <- j, then j <- i."""
    return torch.cat([batch.pair_i, batch.pair_j]), torch.cat([batch.pair_j, batch.pair_i])


def _blocks(layer: nn.Linear, width: int) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of each block of `width` outputs. Unbinding has one cheap gradient, slicing one per slice."""
    weights = layer.weight.unflatten(0, (-1, width)).unbind(0)
    biases = [None] * len(weights) if layer.bias is None else layer.bias.unflatten(0, (-1, width)).unbind(0)
    return list(zip(weights, biases, strict=True))


def _painn(painn: PaiNN, batch: Batch) -> Tensor:
    """PaiNN, Schuett, Unke, Gastegger, ICML 2021, equations 7 to 10."""
    width, n_atoms, n_pairs = painn.n_atom_basis, len(batch.numbers), len(batch.vectors)
    receiver, sender = _both_directions(batch)
    receiver3 = torch.cat([receiver + component * n_atoms for component in range(3)])
    sender3 = torch.cat([sender + component * n_atoms for component in range(3)])

    distance = torch.linalg.vector_norm(batch.vectors, dim=1, keepdim=True)  # [U, 1]
    unit = (batch.vectors / distance).t()  # [3, U]
    unit = torch.stack([unit, -unit], dim=1).reshape(3, 2 * n_pairs, 1)
    envelope = painn.cutoff_fn(distance)  # [U, 1]
    radial = painn.radial_basis(distance.squeeze(1)) * envelope  # [U, n_rbf]
    radial = torch.cat([radial, envelope], dim=1)  # the last column is for the bias: one matrix product filters a pair
    filter_weight = torch.cat([painn.filter_net.weight, painn.filter_net.bias.unsqueeze(1)], dim=1)
    filter_blocks = filter_weight.unflatten(0, (-1, 3, width)).unbind(0)

    q = painn.embedding(batch.numbers)  # [A, width]
    mu = q.new_zeros(3 * n_atoms, width)
    last = painn.n_interactions - 1
    for k, (interaction, mixing) in enumerate(zip(painn.interactions, painn.mixing, strict=True)):
        hidden, out = interaction.interatomic_context_net
        context = hidden(q)
        filter_weights = filter_blocks[0 if painn.share_filters else k].unbind(0)
        messages = []  # [2 U, width] each: to scalars, along the pair, along the sender's vectors
        for weights, block in list(zip(filter_weights, _blocks(out, width), strict=True))[: 3 if k > 0 else 2]:
            sent = linear(context, *block).index_select(0, sender).view(2, n_pairs, width)
            messages.append((sent * linear(radial, weights)).view(2 * n_pairs, width))
        q = q.index_add(0, receiver, messages[0])
        d_mu = messages[1] * unit  # [3, 2 U, width]
        if k > 0:
            d_mu = torch.addcmul(d_mu, messages[2], mu.index_select(0, sender3).view(3, 2 * n_pairs, width))
        mu = mu.index_add(0, receiver3, d_mu.view(6 * n_pairs, width))
        q, mu = _painn_mixing(mixing, q, mu, width, keep_vectors=k < last)
    return q


def _painn_mixing(mixing: Any, q: Tensor, mu: Tensor, width: int, keep_vectors: bool) -> tuple[Tensor, Tensor]:
    v, w = (linear(mu, *block).view(3, -1, width) for block in _blocks(mixing.mu_channel_mix, width))
    norm = torch.sqrt((v * v).sum(0) + mixing.epsilon)
    hidden, out = mixing.intraatomic_context_net
    context = hidden(torch.cat([q, norm], dim=1))
    for_q, for_mu, for_product = _blocks(out, width)
    q = torch.addcmul(q + linear(context, *for_q), linear(context, *for_product), (v * w).sum(0))
    if keep_vectors:
        mu = torch.addcmul(mu.view(3, -1, width), linear(context, *for_mu), w).view(-1, width)
    return q, mu


def _schnet(schnet: SchNet, batch: Batch) -> Tensor:
    """SchNet, Schuett et al., J. Chem. Phys. 148, 241722 (2018)."""
    n_pairs = len(batch.vectors)
    receiver, sender = _both_directions(batch)
    distance = torch.linalg.vector_norm(batch.vectors, dim=1)  # [U]
    radial = schnet.radial_basis(distance)
    envelope = schnet.cutoff_fn(distance).unsqueeze(1)
    x = schnet.embedding(batch.numbers)
    for interaction in schnet.interactions:
        filters = interaction.filter_network(radial) * envelope  # [U, n_filters]
        width = filters.shape[1]
        sent = interaction.in2f(x).index_select(0, sender).view(2, n_pairs, width) * filters
        gathered = sent.new_zeros(len(x), width).index_add(0, receiver, sent.view(2 * n_pairs, width))
        x = x + interaction.f2out(gathered)
    return x
