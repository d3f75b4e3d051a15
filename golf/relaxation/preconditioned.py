"""L-BFGS preconditioned by the MMFF Hessian, which relaxes molecules in fewer force evaluations.

A molecule has stiff bonds and soft torsions; plain L-BFGS spends most of its evaluations on learning which is which.
The MMFF Hessian of the start, with every eigenvalue replaced by max(|eigenvalue|, `FLOOR`), is a better first guess
(Packwood et al., J. Chem. Phys. 144, 164109 (2016), precondition with model Hessians likewise). The longer first steps
need a safeguard: a step that raises the energy is undone and tried again with a shorter length. The curvature seen
along the undone step stays in the history.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from numpy.typing import NDArray
from torch import Tensor

from golf.chem.mmff import SurrogateError
from golf.core.units import hartree
from golf.relaxation.lbfgs import LBFGSHistory, dot, longest_displacement

HISTORY = 60
"""Steps remembered; 20 took 40 % more evaluations on drug-like molecules, 100 no fewer."""

FLOOR = hartree(20.0)
"""Smallest curvature of the guess, hartree/angstrom^2. From 10 to 30 kcal/mol/angstrom^2 it made no difference; 60 and
more were slower."""

ENERGY_NOISE = 1e-6
"""Rises in energy below this (hartree) are noise: float32 energies are no more precise."""

SHORTEST_STEP = 1e-3
"""Steps up to this length (angstrom) are never undone: over such a distance any rise is noise."""

GROWTH = 1.5  # factor on the longest allowed step after an accepted one
SHORTEST, LONGEST = 0.1, 0.5  # bounds on the factor by which an undone step is shortened


class PreconditionedLBFGS:
    """L-BFGS that starts from a model Hessian; a `BatchedOptimizer`.

    `start` must be called for each new molecule in a slot. Arguments as of `golf.relaxation.lbfgs.BatchedLBFGS`.
    """

    def __init__(self, n_slots: int, n_max: int, *, history: int, max_step_length: float, device: torch.device | str):
        self._history = LBFGSHistory(n_slots, n_max, history, device)
        self._max_step_length = max_step_length
        self._inverses: list[Tensor | None] = [None] * n_slots
        self._energy = torch.zeros(n_slots, dtype=torch.float64, device=device)  # of the last accepted geometries
        self._radius = torch.full((n_slots,), max_step_length, dtype=torch.float64, device=device)

    def start(self, slot: int, hessian: Callable[[], NDArray], free: NDArray | None = None) -> None:
        """Set the model Hessian [3 n, 3 n] of a slot; if MMFF has none for the molecule, its L-BFGS is plain.

        Its inverse couples all coordinates. Therefore it is that of the block of the free ones, and zero elsewhere: the
        others do not change even in the last bit.
        """
        try:
            model = torch.from_numpy(hessian())
        except SurrogateError:
            self._inverses[slot] = None
            return
        block = torch.ones(len(model), dtype=torch.bool) if free is None else torch.from_numpy(free)
        rows = torch.nonzero(block)[:, 0]
        curvatures, modes = torch.linalg.eigh(model[rows[:, None], rows])
        inverse = torch.zeros_like(model)
        inverse[rows[:, None], rows] = (modes / curvatures.abs().clamp(min=FLOOR)) @ modes.T
        self._inverses[slot] = inverse.to(self._energy.device)

    def reset(self, slots: Tensor) -> None:
        """Forget the history of the given slots (bool [n_slots])."""
        self._history.reset(slots)

    def rises(self, energies: Tensor) -> Tensor:
        """Return which slots (bool [n_slots]) went uphill, a step that `displacements` will undo."""
        return self._history.has_last & (energies > self._energy + ENERGY_NOISE) & (self._radius > SHORTEST_STEP)

    def displacements(self, positions: Tensor, forces: Tensor, energies: Tensor) -> Tensor:
        """Return the next step of every slot from its current positions; see `BatchedOptimizer`."""
        history = self._history
        rises, fresh = self.rises(energies), ~history.has_last
        position, force = positions.flatten(1).T.contiguous(), forces.flatten(1).T.contiguous()  # [3 n_max, n_slots]
        shortened = self._shortened(position, energies)
        history.remember(position, force, kept=~rises)
        self._energy = torch.where(rises, self._energy, energies)
        grown = (self._radius * GROWTH).clamp(max=self._max_step_length)
        self._radius = torch.where(rises, shortened, torch.where(fresh, self._max_step_length, grown))
        direction = history.downhill(history.force, self._initial).T.reshape(positions.shape)
        scale = (self._radius / longest_displacement(direction)).clamp(max=1.0)
        back = (history.position - position).T.reshape(positions.shape)
        return back + direction * scale[:, None, None]

    def _shortened(self, position: Tensor, energies: Tensor) -> Tensor:
        """Return the longest step [n_slots] allowed after one uphill: to the minimum of a parabola along that step."""
        step = position - self._history.position
        slope = -dot(step, self._history.force)
        rise = energies - self._energy
        fraction = (-slope / (2.0 * (rise - slope))).nan_to_num(SHORTEST).clamp(SHORTEST, LONGEST)
        return (fraction * longest_displacement(step.T.unflatten(1, (-1, 3)))).clamp(min=SHORTEST_STEP)

    def _initial(self, vector: Tensor) -> Tensor:
        """Multiply vectors [3 n_max, n_slots] by the inverse model Hessian of their slot."""
        result = self._history.scaled(vector)
        for slot, inverse in enumerate(self._inverses):
            if inverse is not None:  # at its own size, so that the result does not depend on the other molecules
                result[: len(inverse), slot] = inverse @ vector[: len(inverse), slot].contiguous()
        return result
