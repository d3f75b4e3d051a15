"""Compute PaiNN's operations between its matrix products, as differentiable functions of tensors.

Each operation has two implementations: tensor operations for every device and type, and a pass of golf/nnp/kernels.c
for CPUs. The former can be differentiated any number of times. The latter can be differentiated with respect to the
geometry, and then with respect to the weights, as a loss of forces requires, but not twice with respect to the
geometry; therefore they are used only inside `compiled_loops`. Tests compare both implementations with each other and
with finite differences.

Shapes are those of golf/nnp/kernels.c: q [A, F], mu [A, 3, F], x [A, n F] and w [U, n F] with n = 3 (2: no vectors
yet), unit [U, 3], vw [A, 3, 2 F], y [A, 3 F]; a pair is (i, j), i < j.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from golf.nnp.kernels import Kernels, kernels

_THREAD = threading.local()


@contextmanager
def compiled_loops() -> Iterator[None]:
    """Use the loops of golf/nnp/kernels.c in this thread, if they are available.

    Callers must not differentiate the results twice with respect to the geometry: this would be wrong without an error.
    """
    before = getattr(_THREAD, "loops", False)
    _THREAD.loops = True
    try:
        yield
    finally:
        _THREAD.loops = before


def message(
    q: Tensor, mu: Tensor | None, w: Tensor, x: Tensor, unit: Tensor, i: Tensor, j: Tensor
) -> tuple[Tensor, Tensor]:
    """Add the messages of all pairs to features [A, F] and vectors [A, 3, F] (equations 7 and 8)."""
    if has_loops(q):
        return _Message.apply(q, mu, w, x, unit, i, j)
    width = q.shape[1]
    receiver, sender = torch.cat([i, j]), torch.cat([j, i])
    unit = torch.cat([unit, -unit])
    sent = (x.index_select(0, sender).view(2, *w.shape) * w).view(2 * len(w), w.shape[1]).split(width, dim=1)
    vectors = sent[1].unsqueeze(1) * unit.unsqueeze(2)
    if mu is None:
        mu = q.new_zeros(len(q), 3, width)
    else:
        vectors = torch.addcmul(vectors, sent[2].unsqueeze(1), mu.index_select(0, sender))
    return q.index_add(0, receiver, sent[0]), mu.index_add(0, receiver, vectors)


def context(q: Tensor, vw: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return (q, |v|) [A, 2 F] and v v' [A, F] from the two linear maps v and v' of the vectors (equation 9)."""
    if has_loops(q):
        return _Context.apply(q, vw, epsilon)
    v, w = vw.chunk(2, dim=2)
    return torch.cat([q, torch.sqrt((v * v).sum(1) + epsilon)], dim=1), (v * w).sum(1)


def update(q: Tensor, mu: Tensor | None, y: Tensor, product: Tensor, vw: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return features and vectors after a mixing (equation 10); without mu, no vectors are computed."""
    if has_loops(q):
        return _Update.apply(q, mu, y, product, vw) if mu is not None else (_Update.apply(q, mu, y, product, vw), None)
    for_q, for_mu, for_product = y.chunk(3, dim=1)
    q = torch.addcmul(q + for_q, for_product, product)
    return q, None if mu is None else torch.addcmul(mu, for_mu.unsqueeze(1), vw.chunk(2, dim=2)[1])


def silu(x: Tensor) -> Tensor:
    """Return x / (1 + exp(-x))."""
    return _Silu.apply(x) if has_loops(x) else torch.nn.functional.silu(x)


def basis(vectors: Tensor, n_rbf: int, cutoff: float) -> tuple[Tensor, Tensor]:
    """Return unit vectors [U, 3], and Bessel functions times cosine envelope with the envelope [U, n_rbf + 1].

    SchNetPack rounds the frequencies of the Bessel functions to float32, which changes the energy of a drug-like
    molecule by 1e-8 hartree.
    """
    if has_loops(vectors):
        return _Basis.apply(vectors, n_rbf, cutoff)
    distance = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    waves = torch.arange(1, n_rbf + 1, dtype=vectors.dtype, device=vectors.device) * (torch.pi / cutoff)
    envelope = 0.5 * (torch.cos(distance * (torch.pi / cutoff)) + 1.0) * (distance < cutoff)
    return vectors / distance, torch.cat([torch.sin(distance * waves) / distance * envelope, envelope], dim=1)


def has_loops(tensor: Tensor) -> bool:
    """Tell whether the loops of golf/nnp/kernels.c are used for such tensors in this thread."""
    return getattr(_THREAD, "loops", False) and kernels(tensor.dtype, tensor.device.type) is not None


def loops(tensor: Tensor) -> Kernels:
    """Return the loops for tensors of this type; see `has_loops`."""
    found = kernels(tensor.dtype, tensor.device.type)
    assert found is not None
    return found


def radial_basis(vectors: Tensor, n_rbf: int, cutoff: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return unit vectors [U, 3], lengths [U], and values and slopes of basis and envelope [U, n_rbf + 1]."""
    vectors, n_pairs = vectors.contiguous(), len(vectors)
    unit, length = torch.empty_like(vectors), vectors.new_empty(n_pairs)
    value, slope = vectors.new_empty(n_pairs, n_rbf + 1), vectors.new_empty(n_pairs, n_rbf + 1)
    loops(vectors)("basis", n_pairs, n_rbf, cutoff, vectors, unit, length, value, slope)
    return unit, length, value, slope


class _Message(Function):
    @staticmethod
    def forward(ctx: Any, q: Any, mu: Any, w: Any, x: Any, unit: Any, i: Any, j: Any) -> Any:
        q_new, w, x = q.clone(), w.contiguous(), x.contiguous()
        mu_new = q.new_zeros(len(q), 3, q.shape[1]) if mu is None else mu.clone()
        loops(q)("message", len(i), q.shape[1], i, j, unit, w, x, mu, q_new, mu_new)
        ctx.save_for_backward(mu, w, x, unit, i, j)
        return q_new, mu_new

    @staticmethod
    def backward(ctx: Any, gq: Any, gmu: Any) -> Any:
        gunit, gw, gx, *gsent = _MessageBack.apply(gq, gmu, *ctx.saved_tensors)
        return gq, (gsent[0] if gsent else None), gw, gx, gunit, None, None


class _MessageBack(Function):
    """Gradients of the messages; the gradient of the senders' vectors includes that of the vectors themselves."""

    @staticmethod
    def forward(ctx: Any, gq: Any, gmu: Any, mu: Any, w: Any, x: Any, unit: Any, i: Any, j: Any) -> Any:
        gq, gmu = gq.contiguous(), gmu.contiguous()
        gunit, gw, gx = torch.empty_like(unit), torch.empty_like(w), torch.zeros_like(x)
        gsent = None if mu is None else gmu.clone()
        loops(gq)("message_back", len(i), gq.shape[1], i, j, unit, w, x, mu, gq, gmu, gunit, gw, gx, gsent)
        ctx.save_for_backward(gq, gmu, mu, w, x, unit, i, j)
        return (gunit, gw, gx) if gsent is None else (gunit, gw, gx, gsent)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, hunit: Any, hw: Any, hx: Any, hsent: Any = None) -> Any:
        gq, gmu, mu, w, x, unit, i, j = ctx.saved_tensors
        hunit, hw, hx = hunit.contiguous(), hw.contiguous(), hx.contiguous()
        hsent = None if hsent is None else hsent.contiguous()
        sw, sx, sgq = torch.empty_like(w), torch.zeros_like(x), torch.zeros_like(gq)
        smu = None if mu is None else torch.zeros_like(mu)
        sgmu = torch.zeros_like(gmu) if hsent is None else hsent.clone()
        arguments = (i, j, unit, w, x, mu, gq, gmu, hunit, hw, hx, hsent, sw, sx, smu, sgq, sgmu)
        loops(gq)("message_back2", len(i), gq.shape[1], *arguments)
        return sgq, sgmu, smu, sw, sx, None, None, None


class _Context(Function):
    @staticmethod
    def forward(ctx: Any, q: Any, vw: Any, epsilon: float) -> Any:
        n_atoms, width = q.shape
        result, product = q.new_empty(n_atoms, 2 * width), torch.empty_like(q)
        loops(q)("context", n_atoms, width, epsilon, q, vw, result, product)
        ctx.save_for_backward(vw, result)
        return result, product

    @staticmethod
    def backward(ctx: Any, gcontext: Any, gproduct: Any) -> Any:
        vw, result = ctx.saved_tensors
        gvw = _ContextBack.apply(gcontext, gproduct, vw, result.detach())
        return gcontext.narrow(1, 0, gproduct.shape[1]), gvw, None


class _ContextBack(Function):
    @staticmethod
    def forward(ctx: Any, gcontext: Any, gproduct: Any, vw: Any, result: Any) -> Any:
        gcontext, gproduct = gcontext.contiguous(), gproduct.contiguous()
        gvw = torch.empty_like(vw)
        loops(vw)("context_back", *gproduct.shape, vw, result, gcontext, gproduct, gvw)
        ctx.save_for_backward(gcontext, gproduct, vw, result)
        return gvw

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, hvw: Any) -> Any:
        gcontext, gproduct, vw, result = ctx.saved_tensors
        svw, sgcontext, sgproduct = torch.empty_like(vw), torch.zeros_like(gcontext), torch.empty_like(gproduct)
        arguments = (vw, result, gcontext, gproduct, hvw.contiguous(), svw, sgcontext, sgproduct)
        loops(vw)("context_back2", *gproduct.shape, *arguments)
        return sgcontext, sgproduct, svw, None


class _Update(Function):
    @staticmethod
    def forward(ctx: Any, q: Any, mu: Any, y: Any, product: Any, vw: Any) -> Any:
        q, mu = q.clone(), None if mu is None else mu.clone()
        loops(q)("update", *q.shape, y, product, vw, q, mu)
        ctx.save_for_backward(y, product, vw)
        return q if mu is None else (q, mu)

    @staticmethod
    def backward(ctx: Any, gq: Any, gmu: Any = None) -> Any:
        return gq, gmu, *_UpdateBack.apply(gq, gmu, *ctx.saved_tensors)


class _UpdateBack(Function):
    @staticmethod
    def forward(ctx: Any, gq: Any, gmu: Any, y: Any, product: Any, vw: Any) -> Any:
        gq, gmu = gq.contiguous(), None if gmu is None else gmu.contiguous()
        gy, gproduct, gvw = torch.empty_like(y), torch.empty_like(product), torch.empty_like(vw)
        loops(gq)("update_back", *gq.shape, y, product, vw, gq, gmu, gy, gproduct, gvw)
        ctx.save_for_backward(gq, gmu, y, product, vw)
        return gy, gproduct, gvw

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, hy: Any, hproduct: Any, hvw: Any) -> Any:
        gq, gmu, y, product, vw = ctx.saved_tensors
        sy, sproduct, svw = torch.empty_like(y), torch.empty_like(product), torch.empty_like(vw)
        sgq, sgmu = torch.empty_like(gq), None if gmu is None else torch.empty_like(gmu)
        arguments = (hy.contiguous(), hproduct.contiguous(), hvw.contiguous(), sy, sproduct, svw, sgq, sgmu)
        loops(gq)("update_back2", *gq.shape, y, product, vw, gq, gmu, *arguments)
        return sgq, sgmu, sy, sproduct, svw


class _Silu(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        x = x.contiguous()
        result = torch.empty_like(x)
        loops(x)("silu", x.numel(), x, result)
        ctx.save_for_backward(x)
        return result

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return _SiluBack.apply(g, *ctx.saved_tensors)


class _SiluBack(Function):
    @staticmethod
    def forward(ctx: Any, g: Any, x: Any) -> Any:
        g = g.contiguous()
        gx = torch.empty_like(x)
        loops(x)("silu_back", x.numel(), x, g, gx)
        ctx.save_for_backward(g, x)
        return gx

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, h: Any) -> Any:
        g, x = ctx.saved_tensors
        sx, sg = torch.empty_like(x), torch.empty_like(x)
        loops(x)("silu_back2", x.numel(), x, g, h.contiguous(), sx, sg)
        return sg, sx


class _Basis(Function):
    @staticmethod
    def forward(ctx: Any, vectors: Any, n_rbf: int, cutoff: float) -> Any:
        unit, length, value, slope = radial_basis(vectors, n_rbf, cutoff)
        ctx.save_for_backward(unit.detach(), length, slope)
        return unit, value

    @staticmethod
    def backward(ctx: Any, gunit: Any, gvalue: Any) -> Any:
        return _BasisBack.apply(gunit, gvalue, *ctx.saved_tensors), None, None


class _BasisBack(Function):
    @staticmethod
    def forward(ctx: Any, gunit: Any, gvalue: Any, unit: Any, length: Any, slope: Any) -> Any:
        gvectors = torch.empty_like(unit)
        loops(unit)("basis_back", *slope.shape, unit, length, slope, gunit.contiguous(), gvalue.contiguous(), gvectors)
        ctx.save_for_backward(unit, length, slope)
        return gvectors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, h: Any) -> Any:
        unit, length, slope = ctx.saved_tensors
        sgunit, sgvalue = torch.empty_like(unit), torch.empty_like(slope)
        loops(unit)("basis_back2", *slope.shape, unit, length, slope, h.contiguous(), sgunit, sgvalue)
        return sgunit, sgvalue, None, None, None
