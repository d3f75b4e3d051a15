"""Batched L-BFGS: the optimizer of molecular geometries, as tensor operations over slots of molecules.

Every slot holds one molecule, padded with atoms that feel no force, and its own history of steps. The two-loop
recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4) is written as products with small matrices, for
all slots at once. There is no line search: the longest displacement of an atom is capped instead, as in ASE's `LBFGS`.

Relaxations amplify rounding errors: 1e-16 angstrom grows to 1e-5 within a hundred steps of a floppy molecule. What a
molecule does must not depend on its company all the same, so every operation here is either elementwise or a sum in an
order that padding and other slots do not change. Library products of matrices do not promise that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from numpy.typing import NDArray
from torch import Tensor

from golf.core.units import HARTREE_IN_EV

DEFAULT_HISTORY = 20
DEFAULT_MAX_STEP_LENGTH = 0.2  # angstrom

INITIAL_INVERSE_CURVATURE = HARTREE_IN_EV / 70.0
"""Angstrom^2/hartree: first guess of the inverse Hessian, that of ASE's `LBFGS` (70 eV/angstrom^2)."""

_MIN_CURVATURE = 1e-8
"""Smallest cosine between a step and the change of the gradient over it that counts as positive curvature."""

_MIN_DESCENT = 1e-8
"""Smallest cosine between direction and forces that counts as descent."""


class BatchedLBFGS:
    """L-BFGS for `n_slots` molecules of up to `n_max` atoms.

    All slots share one ring of history places. A slot that has no usable pair in a place (it was filled later, or the
    curvature was not positive) has zeros there, which have no effect, so that the steps of a molecule do not depend on
    what is in the other slots.

    Args:
        history: steps remembered.
        max_step_length: cap of the longest displacement of an atom in one step, angstrom.
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
        if n_slots < 1 or n_max < 1 or history < 1 or max_step_length <= 0:
            raise ValueError(
                f"n_slots={n_slots}, n_max={n_max}, history={history}, max_step_length={max_step_length}: "
                "all must be positive"
            )

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        self.history = history
        self.max_step_length = max_step_length
        # Coordinates come first and slots last: sums over coordinates are then sums of long contiguous rows.
        self._steps = zeros(3 * n_max, history, n_slots)  # s = change of the positions, angstrom
        self._changes = zeros(3 * n_max, history, n_slots)  # y = change of the gradient, hartree/angstrom
        self._curvature = zeros(history, n_slots)  # s.y, hartree
        self._inverse = zeros(history, history, n_slots)  # of the matrix s_i.y_j for i not newer than j, 1/hartree
        self._workspace = zeros(3 * n_max, history, n_slots)
        self._gamma = zeros(n_slots)  # initial inverse Hessian of the recursion, angstrom^2/hartree
        self._position = zeros(3 * n_max, n_slots)
        self._force = zeros(3 * n_max, n_slots)
        self._has_last = torch.zeros(n_slots, dtype=torch.bool, device=device)
        # The newest pairs are in this place; going up from it and around, they get older.
        self._place = 0
        self.reset(torch.ones(n_slots, dtype=torch.bool, device=device))

    def reset(self, slots: Tensor) -> None:
        """Forget everything about the given slots (bool [n_slots]): new molecules are in them."""
        for pairs in (self._steps, self._changes, self._curvature, self._inverse):
            pairs.masked_fill_(slots, 0.0)
        self._gamma.masked_fill_(slots, INITIAL_INVERSE_CURVATURE)
        self._has_last &= ~slots

    def start(self, slot: int, hessian: Callable[[], NDArray]) -> None:
        """A new molecule is in a slot; `hessian` computes a model of its second derivatives, which is not asked for."""

    def rises(self, energies: Tensor) -> Tensor:
        """Which slots [n_slots] are at a geometry that will be taken back: none."""
        return torch.zeros_like(energies, dtype=torch.bool)

    def displacements(self, positions: Tensor, forces: Tensor, energies: Tensor) -> Tensor:
        """The next step of every slot.

        Args:
            positions: [n_slots, n_max, 3] angstrom.
            forces: [n_slots, n_max, 3] hartree/angstrom at these positions, zero for padding and for empty slots.
            energies: [n_slots] hartree at these positions.

        Returns:
            [n_slots, n_max, 3] angstrom, zero where the forces are zero.
        """
        position, force = positions.flatten(1).T.contiguous(), forces.flatten(1).T.contiguous()  # [3 n_max, n_slots]
        self._remember(position, force, kept=torch.ones_like(self._has_last))
        direction = self._downhill(force).T.reshape(positions.shape)
        # Without a force the longest displacement is 0, the quotient inf, the scale 1.
        scale = (self.max_step_length / longest_displacement(direction)).clamp(max=1.0)
        return direction * scale[:, None, None]

    def _downhill(self, force: Tensor) -> Tensor:
        """Directions [3 n_max, n_slots]; a slot whose direction does not descend forgets its history."""
        direction = self._two_loop(force)
        descends = dot(direction, force) > _MIN_DESCENT * _norm(direction) * _norm(force)
        # Also true where the direction is not finite: no comparison with NaN holds.
        lost = ~descends & (force != 0).any(dim=0)
        if lost.any():
            self.reset(lost)
            self._has_last |= lost  # the positions and forces of this call stay a valid start of the next pair
            direction = torch.where(lost, self._initial(force), direction)
        return direction

    def _remember(self, position: Tensor, force: Tensor, kept: Tensor) -> None:
        """Store the pairs (s, y) of the step that led here, in the place of the oldest ones.

        Where `kept` [n_slots] is false, the next step and the next pair start from the geometry before.
        """
        step = position - self._position
        change = self._force - force
        curvature = dot(step, change)
        usable = self._has_last & (curvature > _MIN_CURVATURE * _norm(step) * _norm(change))
        place = self._place = (self._place - 1) % self.history
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
        self._position = torch.where(kept, position, self._position)
        self._force = torch.where(kept, force, self._force)
        self._has_last.fill_(True)

    def _two_loop(self, force: Tensor) -> Tensor:
        """Inverse Hessian times forces [3 n_max, n_slots], which is the direction of the step.

        With R_ij = s_i.y_j for i not newer than j, and D its diagonal, the first loop (newest to oldest) is the
        solution of R a = S^T f, and the second one (oldest to newest) that of R^T c = D a - Y^T r with
        r = H_0 (f - Y a); the direction is r + S c. The inverse of R is at hand, for a new pair adds a column to it
        and the oldest pair leaves it with a row and a column (Byrd, Nocedal, Schnabel, Math. Program. 63, 129 (1994)).
        """
        a = self._in_order(self._inverse * self._times(self._steps, force), 1)
        r = self._initial(force - self._weighted(a, self._changes))
        right = self._curvature * a - self._times(self._changes, r)
        c = self._in_order(self._inverse * right[:, None], 0)
        return r + self._weighted(c, self._steps)

    def _initial(self, vector: Tensor) -> Tensor:
        """The initial inverse Hessian times vectors [3 n_max, n_slots]."""
        return self._gamma * vector

    def _in_order(self, terms: Tensor, dim: int) -> Tensor:
        """Sum over a dimension that holds the history, newest first.

        So the places of the ring do not matter, and a slot without older pairs has zeros at the end.
        """
        return _sum(terms.roll(-self._place, dim).movedim(dim, 0))

    def _times(self, pairs: Tensor, vector: Tensor) -> Tensor:
        """Scalar products [history, n_slots] of the history with one vector per slot [3 n_max, n_slots]."""
        return _sum(torch.mul(pairs, vector[:, None], out=self._workspace)).clone()

    def _weighted(self, weights: Tensor, pairs: Tensor) -> Tensor:
        """Sum over the history, see `_in_order`, with weights [history, n_slots]: vectors [3 n_max, n_slots]."""
        place, n_younger = self._place, self.history - self._place
        torch.mul(pairs[:, place:], weights[place:], out=self._workspace[:, :n_younger])
        torch.mul(pairs[:, :place], weights[:place], out=self._workspace[:, n_younger:])
        return _sum(self._workspace.transpose(0, 1)).clone()


def longest_displacement(step: Tensor) -> Tensor:
    """Of an atom in each slot [n_slots]; step [n_slots, n_max, 3]."""
    x, y, z = step.unbind(dim=2)
    return (x * x + y * y + z * z).amax(dim=1).sqrt()


def _sum(terms: Tensor) -> Tensor:
    """Sum over the first dimension, overwriting `terms`.

    The upper half is added to the lower one, again and again, with halves at powers of two, so that zeros at the end
    do not change the order of the sum.
    """
    n = len(terms)
    while n > 1:
        half = 1 << ((n - 1).bit_length() - 1)
        terms[: n - half] += terms[half:n]
        n = half
    return terms[0]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar product [n_slots] of vectors [3 n_max, n_slots]."""
    return _sum(a * b)


def _norm(a: Tensor) -> Tensor:
    """Length [n_slots] of vectors [3 n_max, n_slots]."""
    return _sum(a * a).sqrt()
