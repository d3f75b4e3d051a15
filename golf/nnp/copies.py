"""Evaluate PaiNN for displaced copies of one molecule, whose results are needed only relative to the first copy.

Of a batch of copies, each with one displaced atom, most pairs have the distances that they have in the other copies,
and all features are nearly those of the first copy. Therefore filters are computed once for each distance, and a matrix
product with weights is computed in float64 for the first copy, in float32 for the differences of the others from it:
these keep their relative precision of 1e-7, and finite differences need no more. Against the evaluation of the same
copies as different molecules this takes half of the time; tests compare Hessians with exact second derivatives.

The functions are for float64 on CPUs, need the loops of golf/nnp/kernels.c, and can be differentiated once, with
respect to the geometry. Shapes are those of golf/nnp/painn.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from golf.nnp.batches import Batch
from golf.nnp.painn import has_loops, loops, radial_basis


def are_copies(batch: Batch) -> bool:
    """Tell whether a batch is to be evaluated by the functions of this module."""
    return batch.copies and batch.vectors.dtype == torch.float64 and has_loops(batch.vectors)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, n_copies: int) -> Tensor:
    """Return x W^T + b for the rows x [n_copies m, ...] of all copies, the first copy being exact."""
    result: Tensor = _Linear.apply(x, weight, bias, n_copies)
    return result


@dataclass(frozen=True)
class SharedFilters:
    """The filters of R different distances among U pairs, and their derivatives with respect to the distance.

    With the derivatives, the backward pass needs no product with the transposed filters.
    """

    i: Tensor  # [U] int64
    j: Tensor  # [U] int64
    row: Tensor  # [U] int64, its distance
    w: tuple[Tensor, ...]  # of each interaction, [R, n F]
    slope: tuple[Tensor, ...]  # [R, n F] per angstrom

    @classmethod
    @torch.no_grad()
    def of(cls, batch: Batch, distance: Tensor, filters: Sequence[Tensor], cutoff: float) -> SharedFilters:
        """Compute the filters.

        Args:
            batch: its pairs.
            distance: [U] angstrom.
            filters: of each interaction, [n F, n_rbf + 1], the bias in the last column.
            cutoff: angstrom.
        """
        different, row = torch.unique(distance, return_inverse=True)
        along = torch.nn.functional.pad(different.unsqueeze(1), (0, 2))  # vectors of these lengths
        _, _, value, slope = radial_basis(along, filters[0].shape[1] - 1, cutoff)
        w, slopes = (tuple(part @ matrix.T for matrix in filters) for part in (value, slope))
        return cls(batch.pair_i, batch.pair_j, row, w, slopes)


def message(
    q: Tensor, mu: Tensor | None, shared: SharedFilters, k: int, x: Tensor, unit: Tensor, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Add the messages of interaction k to features and vectors, as `golf.nnp.painn.message` does."""
    result: tuple[Tensor, Tensor] = _Message.apply(q, mu, x, unit, distance, shared, k)
    return result


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, n_copies: int) -> Any:
        ctx.weight, ctx.n_copies = weight, n_copies
        return _product(x, weight.T, bias, n_copies)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        return _product(g, ctx.weight, None, ctx.n_copies), None, None, None


def _product(x: Tensor, matrix: Tensor, bias: Tensor | None, n_copies: int) -> Tensor:
    """Return x [..., a] times matrix [a, b], plus bias [b]."""
    result = x.new_empty(*x.shape[:-1], matrix.shape[1])
    rows = x.reshape(n_copies, -1, x.shape[-1])
    first, *_ = results = result.view(n_copies, -1, matrix.shape[1])
    torch.mm(rows[0], matrix, out=first) if bias is None else torch.addmm(bias, rows[0], matrix, out=first)
    differences = (rows[1:] - rows[0]).to(torch.float32)
    torch.add(first, differences @ matrix.to(torch.float32), out=results[1:])
    return result


class _Message(Function):
    @staticmethod
    def forward(ctx: Any, q: Any, mu: Any, x: Any, unit: Any, distance: Any, shared: SharedFilters, k: int) -> Any:
        q_new, x, unit = q.clone(), x.contiguous(), unit.contiguous()
        mu_new = q.new_zeros(len(q), 3, q.shape[1]) if mu is None else mu.clone()
        arguments = (shared.i, shared.j, shared.row, unit, shared.w[k], x, mu, q_new, mu_new)
        loops(q)("message_shared", len(unit), q.shape[1], *arguments)
        ctx.save_for_backward(mu, x, unit)
        ctx.shared, ctx.k = shared, k
        return q_new, mu_new

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gq: Any, gmu: Any) -> Any:
        (mu, x, unit), shared = ctx.saved_tensors, ctx.shared
        gq, gmu = gq.contiguous(), gmu.contiguous()
        gunit, gdistance, gx = torch.empty_like(unit), unit.new_empty(len(unit)), torch.zeros_like(x)
        gsent = None if mu is None else gmu.clone()
        arguments = (unit, shared.w[ctx.k], shared.slope[ctx.k], x, mu, gq, gmu, gunit, gdistance, gx, gsent)
        loops(gq)("message_shared_back", len(unit), gq.shape[1], shared.i, shared.j, shared.row, *arguments)
        return gq, gsent, gx, gunit, gdistance, None, None
