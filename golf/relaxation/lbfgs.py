"""Batched L-BFGS: optimize many molecular geometries at once with tensor operations.

Every slot holds one molecule, padded with atoms that feel no force, and its own history of steps. The two-loop
recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4) is written as products with small matrices, for
all slots at once. There is no line search: the longest displacement of an atom is capped instead, as in ASE's `LBFGS`.

Relaxations amplify rounding errors: 1e-16 angstrom grows to 1e-5 within a hundred steps of a floppy molecule. Still,
the result for a molecule must not depend on the others in its batch. Therefore every operation here is either
elementwise or a sum whose order does not depend on padding and other slots, which library matrix products do not
guarantee.

Shapes: n_slots slots, n_max atoms at most in each; vectors over coordinates are [3 n_max, n_slots].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from golf.core.units import HARTREE_IN_EV

DEFAULT_HISTORY = 20
DEFAULT_MAX_STEP_LENGTH = 0.2  # angstrom

INITIAL_INVERSE_CURVATURE = HARTREE_IN_EV / 70.0
"""First guess of the inverse Hessian in angstrom^2/hartree, that of ASE's `LBFGS` (70 eV/angstrom^2)."""

_MIN_CURVATURE = 1e-8
"""Smallest cosine between a step and the change of the gradient over it that counts as positive curvature."""

_MIN_DESCENT = 1e-8
"""Smallest cosine between direction and forces that counts as descent."""


class BatchedOptimizer(Protocol):
    """What the relaxation engine needs of an optimizer of molecules in slots."""

    def start(self, slot: int, hessian: Callable[[], NDArray], free: NDArray | None = None) -> None:
        """Prepare a slot for a new molecule.

        Args:
            hessian: computes a model of its second derivatives [3 n, 3 n], hartree/angstrom^2.
            free: bool [3 n], the coordinates that may change; None: all.
        """
        ...

    def reset(self, slots: Tensor) -> None:
        """Forget the history of the given slots (bool [n_slots])."""
        ...

    def rises(self, energies: Tensor) -> Tensor:
        """Return which slots (bool [n_slots]) went uphill, a step that `displacements` will undo.

        Args:
            energies: [n_slots] hartree at the current positions.
        """
        ...

    def displacements(self, positions: Tensor, forces: Tensor, energies: Tensor) -> Tensor:
        """Return the next step of every slot, [n_slots, n_max, 3] angstrom; zero where the forces are zero.

        Args:
            positions: [n_slots, n_max, 3] angstrom.
            forces: [n_slots, n_max, 3] hartree/angstrom at these positions, zero for padding and for empty slots.
            energies: [n_slots] hartree at these positions.
        """
        ...


class LBFGSHistory:
    """The steps that L-BFGS remembers, for `n_slots` molecules of up to `n_max` atoms, and the directions they imply.

    All slots share one ring buffer. A slot without a usable pair at some index of the ring (because it was filled
    later, or the curvature was not positive) has zeros there, which have no effect. Thus the steps of a molecule do not
    depend on what is in the other slots.

    Attributes:
        position: [3 n_max, n_slots] angstrom, the last accepted geometries.
        force: [3 n_max, n_slots] hartree/angstrom at these geometries.
        has_last: bool [n_slots], whether a slot has such a geometry.
    """

    def __init__(self, n_slots: int, n_max: int, length: int, device: torch.device | str) -> None:
        if n_slots < 1 or n_max < 1 or length < 1:
            raise ValueError(f"n_slots={n_slots}, n_max={n_max}, history={length}: all must be positive")

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        self.position = zeros(3 * n_max, n_slots)
        self.force = zeros(3 * n_max, n_slots)
        self.has_last = torch.zeros(n_slots, dtype=torch.bool, device=device)
        self._length = length
        # Coordinates come first and slots last: sums over coordinates are then sums of long contiguous rows.
        self._steps = zeros(3 * n_max, length, n_slots)  # s = change of the positions, angstrom
        self._changes = zeros(3 * n_max, length, n_slots)  # y = change of the gradient, hartree/angstrom
        self._curvature = zeros(length, n_slots)  # s.y, hartree
        self._inverse = zeros(length, length, n_slots)  # of the matrix s_i.y_j for i not newer than j, 1/hartree
        self._workspace = zeros(3 * n_max, length, n_slots)
        self._gamma = zeros(n_slots)  # initial inverse Hessian of the recursion, angstrom^2/hartree
        self._newest = 0  # index of the newest pairs in the ring; pairs at higher indices, wrapping around, are older
        self.reset(torch.ones(n_slots, dtype=torch.bool, device=device))

    def reset(self, slots: Tensor) -> None:
        """Forget everything about the given slots (bool [n_slots])."""
        for pairs in (self._steps, self._changes, self._curvature, self._inverse):
            pairs.masked_fill_(slots, 0.0)
        self._gamma.masked_fill_(slots, INITIAL_INVERSE_CURVATURE)
        self.has_last &= ~slots

    def downhill(self, force: Tensor, initial: Callable[[Tensor], Tensor]) -> Tensor:
        """Return descent directions [3 n_max, n_slots]; a slot whose direction does not descend loses its history.

        Args:
            force: [3 n_max, n_slots] hartree/angstrom.
            initial: multiplies vectors [3 n_max, n_slots] by the initial inverse Hessian, such as `scaled`.
        """
        direction = self._two_loop(force, initial)
        descends = dot(direction, force) > _MIN_DESCENT * _norm(direction) * _norm(force)
        # Also true where the direction is not finite: no comparison with NaN holds.
        lost = ~descends & (force != 0).any(dim=0)
        if lost.any():
            self.reset(lost)
            self.has_last |= lost  # the positions and forces of this call remain a valid start of the next pair
            direction = torch.where(lost, initial(force), direction)
        return direction

    def scaled(self, vector: Tensor) -> Tensor:
        """Multiply vectors [3 n_max, n_slots] by the curvature along the last step, the standard initial guess."""
        return self._gamma * vector

    def remember(self, position: Tensor, force: Tensor, kept: Tensor) -> None:
        """Replace the oldest pairs (s, y) by those of the step that led to `position`.

        Args:
            position: [3 n_max, n_slots] angstrom.
            force: [3 n_max, n_slots] hartree/angstrom.
            kept: bool [n_slots]; where false, the next step and the next pair start from the previous geometry.
        """
        step = position - self.position
        change = self.force - force
        curvature = dot(step, change)
        usable = self.has_last & (curvature > _MIN_CURVATURE * _norm(step) * _norm(change))
        place = self._newest = (self._newest - 1) % self._length
        self._inverse[place] = 0.0
        self._inverse[:, place] = 0.0
        self._steps[:, place] = torch.where(usable, step, 0.0)
        self._changes[:, place] = torch.where(usable, change, 0.0)
        self._curvature[place] = torch.where(usable, curvature, 0.0)
        column = self._in_order(self._inverse * self._times(self._steps, self._changes[:, place]), 1)
        rho = torch.where(usable, 1.0 / curvature, 0.0)
        self._inverse[:, place] = -rho * column
        self._inverse[place, place] = rho
        # s.y / y.y: the size of the inverse Hessian along the last step (Nocedal and Wright, eq. 7.20)
        self._gamma = torch.where(usable, curvature / dot(change, change), self._gamma)
        self.position = torch.where(kept, position, self.position)
        self.force = torch.where(kept, force, self.force)
        self.has_last.fill_(True)

    def _two_loop(self, force: Tensor, initial: Callable[[Tensor], Tensor]) -> Tensor:
        """Multiply forces [3 n_max, n_slots] by the inverse Hessian, which gives the direction of the step.

        With R_ij = s_i.y_j for i not newer than j, and D its diagonal, the first loop (newest to oldest) is the
        solution of R a = S^T f, and the second one (oldest to newest) that of R^T c = D a - Y^T r with
        r = H_0 (f - Y a); the direction is r + S c. The inverse of R is updated rather than computed: a new pair adds a
        column, and the oldest pair takes a row and a column with it (Byrd, Nocedal, Schnabel, Math. Program. 63, 129
        (1994)).
        """
        a = self._in_order(self._inverse * self._times(self._steps, force), 1)
        r = initial(force - self._weighted(a, self._changes))
        right = self._curvature * a - self._times(self._changes, r)
        c = self._in_order(self._inverse * right[:, None], 0)
        return r + self._weighted(c, self._steps)

    def _in_order(self, terms: Tensor, dim: int) -> Tensor:
        """Sum over a dimension of length `length`, newest pair first.

        This makes the sum independent of the position in the ring, and puts the zeros of a slot without older pairs at
        its end.
        """
        return _sum(terms.roll(-self._newest, dim).movedim(dim, 0))

    def _times(self, pairs: Tensor, vector: Tensor) -> Tensor:
        """Return scalar products [length, n_slots] of the history with one vector per slot [3 n_max, n_slots]."""
        return _sum(torch.mul(pairs, vector[:, None], out=self._workspace)).clone()

    def _weighted(self, weights: Tensor, pairs: Tensor) -> Tensor:
        """Sum the history, newest first, with weights [length, n_slots]; returns vectors [3 n_max, n_slots]."""
        newest, n_before_wrap = self._newest, self._length - self._newest
        torch.mul(pairs[:, newest:], weights[newest:], out=self._workspace[:, :n_before_wrap])
        torch.mul(pairs[:, :newest], weights[:newest], out=self._workspace[:, n_before_wrap:])
        return _sum(self._workspace.transpose(0, 1)).clone()


class BatchedLBFGS:
    """Plain L-BFGS for `n_slots` molecules of up to `n_max` atoms; a `BatchedOptimizer`.

    Args:
        n_slots: molecules at a time.
        n_max: atoms of the largest molecule.
        history: steps remembered.
        max_step_length: cap of the longest displacement of an atom in one step, angstrom.
        device: where the tensors are.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(
        self,
        n_slots: int,
        n_max: int,
        *,
        history: int = DEFAULT_HISTORY,
        max_step_length: float = DEFAULT_MAX_STEP_LENGTH,
        device: torch.device | str = "cpu",
    ) -> None:
        if max_step_length <= 0:
            raise ValueError(f"max_step_length={max_step_length}: must be positive")
        self._history = LBFGSHistory(n_slots, n_max, history, device)
        self._max_step_length = max_step_length

    def start(self, slot: int, hessian: Callable[[], NDArray], free: NDArray | None = None) -> None:
        """Do nothing: plain L-BFGS needs no model of the Hessian, and coordinates without a force do not change."""

    def reset(self, slots: Tensor) -> None:
        """Forget the history of the given slots (bool [n_slots])."""
        self._history.reset(slots)

    def rises(self, energies: Tensor) -> Tensor:
        """Return False for every slot: plain L-BFGS never undoes a step."""
        return torch.zeros_like(energies, dtype=torch.bool)

    def displacements(self, positions: Tensor, forces: Tensor, energies: Tensor) -> Tensor:
        """Return the next step of every slot; see `BatchedOptimizer`."""
        position, force = positions.flatten(1).T.contiguous(), forces.flatten(1).T.contiguous()  # [3 n_max, n_slots]
        self._history.remember(position, force, kept=torch.ones_like(self._history.has_last))
        direction = self._history.downhill(force, self._history.scaled).T.reshape(positions.shape)
        # Without a force the longest displacement is 0, the quotient inf, the scale 1.
        scale = (self._max_step_length / longest_displacement(direction)).clamp(max=1.0)
        return direction * scale[:, None, None]


def longest_displacement(step: Tensor) -> Tensor:
    """Return the longest displacement of an atom in each slot [n_slots] of steps [n_slots, n_max, 3]."""
    x, y, z = step.unbind(dim=2)
    return (x * x + y * y + z * z).amax(dim=1).sqrt()


def _sum(terms: Tensor) -> Tensor:
    """Sum over the first dimension, overwriting `terms`.

    The upper half is added to the lower one repeatedly, with halves at powers of two, so that zeros at the end do not
    change the order of the sum.
    """
    n = len(terms)
    while n > 1:
        half = 1 << ((n - 1).bit_length() - 1)
        terms[: n - half] += terms[half:n]
        n = half
    return terms[0]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar products [n_slots] of vectors [3 n_max, n_slots]."""
    return _sum(a * b)


def _norm(a: Tensor) -> Tensor:
    """Return the lengths [n_slots] of vectors [3 n_max, n_slots]."""
    return _sum(a * a).sqrt()
