"""The relaxation engine: relax a stream of molecules in slots with one batched L-BFGS.

When the relaxation of a molecule has finished, the next molecule of the stream takes its slot. Thus batches stay full,
and memory is bounded by the number of slots, whatever the number of conformations.

Shapes: n_slots slots, n_max atoms at most in each, n atoms of one molecule, A atoms of all molecules in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from golf.chem.mmff import MMFFSurrogate, Variant
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.nnp.provider import ForceProvider, Molecules
from golf.relaxation.constraints import Constraints
from golf.relaxation.lbfgs import DEFAULT_HISTORY, DEFAULT_MAX_STEP_LENGTH, BatchedLBFGS, BatchedOptimizer
from golf.relaxation.preconditioned import HISTORY, PreconditionedLBFGS


@dataclass(frozen=True)
class Geometry:
    """One geometry on the path of a relaxation; energies in hartree, the surrogate's is NaN if not computed."""

    positions: NDArray[np.float64]  # [n, 3] angstrom
    nnp_energy: float
    surrogate_energy: float = math.nan
    largest_force: float = math.nan  # on an atom, hartree/angstrom
    forces: NDArray[np.float64] | None = None  # [n, 3] hartree/angstrom; None before the first evaluation


@dataclass(frozen=True)
class FinishedRelaxation:
    """A finished relaxation of conformation `start`, an index into the conformations of the engine."""

    start: int
    stop_reason: StopReason
    n_steps: int  # completed optimizer steps
    n_force_evaluations: int
    first: Geometry  # s_0
    before: Geometry  # the geometry before the last completed step; s_0 if no step was completed
    last: Geometry  # the last geometry with finite energy and forces
    states: tuple[tuple[int, Geometry], ...] = ()  # kept geometries with their optimizer steps, in order


@dataclass
class _Slot:
    """The molecule in a slot while it is relaxed."""

    start: int
    n_atoms: int
    first: Geometry
    before: Geometry
    boundary: Geometry  # end of the last completed step
    last: Geometry
    n_steps: int = 0
    n_force_evaluations: int = 0
    states: list[tuple[int, Geometry]] = field(default_factory=list)


@dataclass(frozen=True)
class Optimizer:
    """The choice of an optimizer and its settings.

    Attributes:
        name: "lbfgs", or "preconditioned" (golf/relaxation/preconditioned.py).
        max_step_length: cap of the longest displacement of an atom per iteration, angstrom.
        history: steps remembered; None: 20, or 60 if preconditioned.
        variant: MMFF variant whose Hessian a preconditioned relaxation starts from.
    """

    name: str = "lbfgs"
    max_step_length: float = DEFAULT_MAX_STEP_LENGTH
    history: int | None = None
    variant: Variant = "MMFF94"

    @property
    def described(self) -> dict[str, Any]:
        """Attributes that record the optimizer in a file of relaxed conformations."""
        attrs = {"relaxation_optimizer": self.name}
        return attrs if self.name == "lbfgs" else attrs | {"relaxation_mmff": self.variant}

    @property
    def words(self) -> str:
        """Description of the optimizer for messages."""
        return self.name if self.name == "lbfgs" else f"{self.name} (Hessian of {self.variant})"

    def build(self, n_slots: int, n_max: int, device: torch.device) -> BatchedOptimizer:
        """Build the optimizer for `n_slots` molecules of up to `n_max` atoms.

        Raises:
            UserError: the name is unknown, or a size is not positive.
        """
        kinds: dict[str, tuple[type[BatchedLBFGS] | type[PreconditionedLBFGS], int]] = {
            "lbfgs": (BatchedLBFGS, DEFAULT_HISTORY),
            "preconditioned": (PreconditionedLBFGS, HISTORY),
        }
        if self.name not in kinds:
            raise UserError(f"relaxation.optimizer: {self.name!r} is unknown; use one of {', '.join(kinds)}")
        kind, history = kinds[self.name]
        history = history if self.history is None else self.history
        for name, value in (("max_step_length", self.max_step_length), ("history", history)):
            if not value > 0:
                raise UserError(f"relaxation: {name} is {value}; it must be positive")
        return kind(n_slots, n_max, history=history, max_step_length=self.max_step_length, device=device)


class RelaxationEngine:
    """Relax conformations in slots; `run` streams the finished relaxations.

    One optimizer step is `iterations_per_step` iterations of L-BFGS (paper: 5, with a limit of 100 steps), or fewer if
    the relaxation converges within the step. With a surrogate, its energy is computed after each step, and a relaxation
    ends with `SURROGATE_RISE` when that energy rose over the step (GOLF, algorithm 1).

    Args:
        conformations: start geometries.
        potential: energies and forces.
        surrogate: force field that judges every step; None: no surrogate.
        force_threshold: a relaxation converges when no atom's force is larger, hartree/angstrom.
        max_steps: limit of optimizer steps.
        iterations_per_step: L-BFGS iterations per optimizer step.
        slots: molecules relaxed simultaneously.
        optimizer: the optimizer; None: L-BFGS with its defaults.
        constraints: frozen atoms and a restraint to the start geometries; None: neither. Convergence is judged by the
            forces on the atoms that are not frozen, restraint included; energies and forces that are reported are
            those of the potential alone.
        keep_steps: optimizer steps whose geometries are kept, with their forces; if there are any, the last geometry is
            kept as well (unless energy or forces stopped being finite).

    Raises:
        UserError: a size or threshold is not positive, or a start geometry is not finite.
    """

    def __init__(
        self,
        conformations: ConformationSet,
        potential: ForceProvider,
        surrogate: MMFFSurrogate | None,
        *,
        force_threshold: float,
        max_steps: int,
        iterations_per_step: int,
        slots: int,
        optimizer: Optimizer | None = None,
        constraints: Constraints | None = None,
        keep_steps: Sequence[int] = (),
    ) -> None:
        sizes = {"force_threshold": force_threshold, "max_steps": max_steps, "iterations_per_step": iterations_per_step}
        sizes |= {"slots": slots}
        for name, value in sizes.items():
            if not value > 0:
                raise UserError(f"relaxation: {name} is {value}; it must be positive")
        _check_finite(conformations)
        self._conformations = conformations
        self._potential = potential
        self._surrogate = surrogate
        self._force_threshold = force_threshold
        self._max_steps = max_steps
        self._iterations_per_step = iterations_per_step
        self._keep_steps = frozenset(keep_steps)
        self._device = potential.device
        n_slots = max(1, min(slots, len(conformations)))
        n_max = int(conformations.n_atoms.max(initial=1))
        self._slots: list[_Slot | None] = [None] * n_slots
        self._positions = torch.zeros(n_slots, n_max, 3, dtype=torch.float64, device=self._device)
        self._forces = torch.zeros_like(self._positions)
        self._energies = torch.zeros(n_slots, dtype=torch.float64, device=self._device)
        self._constraints = constraints
        self._own_forces = self._forces if constraints is None else torch.zeros_like(self._positions)
        self._anchors = torch.zeros_like(self._positions)  # input positions, where atoms are restrained to
        self._stiffness = torch.zeros_like(self._positions)
        self._frozen = torch.zeros_like(self._positions, dtype=torch.bool)
        optimizer = optimizer or Optimizer()
        self._optimizer = optimizer.build(n_slots, n_max, self._device)
        self._mmff = MMFFSurrogate(optimizer.variant)
        self._rows = torch.zeros(0, dtype=torch.int64, device=self._device)  # real atoms among all n_slots * n_max
        self._molecules = self._molecules_of([])

    def run(self, order: Iterable[int | None]) -> Iterator[FinishedRelaxation]:
        """Relax the conformations of these indices; yield relaxations in the order in which they finish.

        Args:
            order: indices of conformations. `None` leaves a slot empty until another relaxation has finished; then the
                next entry is taken.

        Raises:
            SurrogateError: the surrogate has no energy for a geometry.
        """
        starts = iter(order)
        while self._fill(starts):
            energies, longest_forces, positions = self._evaluate()
            rises = self._optimizer.rises(self._energies).cpu().numpy()
            forces = self._own_forces.cpu().numpy()
            for s, slot in enumerate(self._slots):
                if slot is None:
                    continue
                now = Geometry(
                    positions[s, : slot.n_atoms].copy(),
                    float(energies[s]),
                    largest_force=float(longest_forces[s]),
                    forces=forces[s, : slot.n_atoms].copy(),
                )
                n_steps = slot.n_steps
                reason = self._advance(slot, now, bool(rises[s]))
                self._keep(slot, slot.n_steps > n_steps, reason)
                if reason is not None:
                    self._empty(s)
                    yield FinishedRelaxation(
                        slot.start,
                        reason,
                        slot.n_steps,
                        slot.n_force_evaluations,
                        slot.first,
                        slot.before,
                        slot.last,
                        tuple(slot.states),
                    )
            self._positions += self._optimizer.displacements(self._positions, self._forces, self._energies)

    def _fill(self, starts: Iterator[int | None]) -> bool:
        """Fill the empty slots with the next conformations; return False if all slots remain empty."""
        empty = [s for s, slot in enumerate(self._slots) if slot is None]
        if not empty:
            return True
        fresh = torch.zeros(len(self._slots), dtype=torch.bool, device=self._device)
        for s in empty:
            start = next(starts, None)
            if start is None:
                break
            rows = self._conformations.rows(start)
            positions = self._conformations.position[rows].copy()
            origin = Geometry(positions, math.nan)
            self._slots[s] = _Slot(start, len(positions), origin, origin, origin, origin)
            self._positions[s, : len(positions)] = torch.as_tensor(positions).to(self._device)
            fresh[s] = True
            smiles = self._conformations.mapped_smiles[start]
            self._optimizer.start(s, *self._held(s, smiles, positions))
        if fresh.any():
            self._optimizer.reset(fresh)
        n_max = self._positions.shape[1]
        filled = [(s, slot.n_atoms) for s, slot in enumerate(self._slots) if slot is not None]
        rows_of = [np.arange(s * n_max, s * n_max + n) for s, n in filled]
        self._rows = torch.as_tensor(np.concatenate([np.zeros(0, np.int64), *rows_of])).to(self._device)
        self._molecules = self._molecules_of([slot.start for slot in self._slots if slot is not None])
        return bool(filled)

    def _held(
        self, s: int, smiles: str, positions: NDArray[np.float64]
    ) -> tuple[Callable[[], NDArray], NDArray[np.bool_] | None]:
        """Set the constraints of a slot; return what computes its model Hessian, and its free coordinates [3 n]."""
        hessian = partial(self._mmff.hessian, smiles, positions)
        if self._constraints is None:
            return hessian, None
        n = len(positions)
        frozen = np.repeat(self._constraints.frozen(smiles), 3)
        stiffness = np.repeat(self._constraints.stiffnesses(smiles), 3)
        self._anchors[s, :n] = torch.as_tensor(positions).to(self._device)
        self._stiffness[s, :n] = torch.from_numpy(stiffness.reshape(n, 3)).to(self._device)
        self._frozen[s, :n] = torch.from_numpy(frozen.reshape(n, 3)).to(self._device)
        return lambda: hessian() + np.diag(stiffness), ~frozen

    def _molecules_of(self, starts: list[int]) -> Molecules:
        """Return the molecules of these conformations, without a copy of the other columns."""
        of = self._conformations
        numbers = [of.number[of.rows(i)] for i in starts]
        offset = np.cumsum([0, *map(len, numbers)])
        return Molecules(
            torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *numbers])).to(self._device),
            torch.from_numpy(offset).to(self._device),
            tuple(int(of.charge[i]) for i in starts),
            tuple(int(of.multiplicity[i]) for i in starts),
            tuple(of.mapped_smiles[i] for i in starts),
        )

    def _empty(self, s: int) -> None:
        """Remove the molecule from a slot; with zero forces nothing moves there."""
        self._slots[s] = None
        self._positions[s] = 0.0
        self._forces[s] = 0.0
        self._energies[s] = 0.0
        self._stiffness[s] = 0.0
        self._frozen[s] = False
        self._optimizer.reset(torch.arange(len(self._slots), device=self._device) == s)

    def _evaluate(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return energies [n_slots], largest forces [n_slots], positions [n_slots, n_max, 3]; zero in empty slots.

        The energies are those of the potential; the forces, and what the optimizer is given, include the constraints.
        """
        energies, forces = self._potential.evaluate(self._molecules, self._positions.flatten(0, 1)[self._rows])
        self._own_forces.zero_()
        self._own_forces.view(-1, 3)[self._rows] = forces.to(torch.float64)
        filled = [s for s, slot in enumerate(self._slots) if slot is not None]
        self._energies[filled] = energies.to(torch.float64)
        own_energies = self._energies.cpu().numpy()
        if self._constraints is not None:
            own_energies = own_energies.copy()
            moved = self._positions - self._anchors
            pull = self._stiffness * moved
            # Atoms that are not finite make the largest force so, frozen or not.
            self._forces = torch.where(self._frozen & self._own_forces.isfinite(), 0.0, self._own_forces - pull)
            self._energies += 0.5 * (pull * moved).sum(dim=(1, 2))
        longest = self._forces.norm(dim=2).amax(dim=1)  # NaN and infinity propagate
        return own_energies, longest.cpu().numpy(), self._positions.cpu().numpy()

    def _advance(self, slot: _Slot, now: Geometry, rises: bool) -> StopReason | None:
        """Record a new geometry of a slot; return the reason to stop, or None.

        Args:
            rises: whether the optimizer will undo the step to this geometry.
        """
        slot.n_force_evaluations += 1
        if not (math.isfinite(now.nnp_energy) and math.isfinite(now.largest_force)):
            return StopReason.NOT_FINITE
        if rises:
            now = slot.last
        slot.last = now
        converged = now.largest_force < self._force_threshold and not rises
        n_iterations = slot.n_force_evaluations - 1
        if n_iterations == 0:
            slot.first = slot.before = slot.boundary = slot.last = self._judged(slot, now)
            return StopReason.CONVERGED if converged else None
        if n_iterations % self._iterations_per_step and not converged:
            return None
        slot.n_steps += 1
        slot.before, slot.boundary = slot.boundary, self._judged(slot, now)
        slot.last = slot.boundary
        if slot.boundary.surrogate_energy > slot.before.surrogate_energy:
            return StopReason.SURROGATE_RISE
        if converged:
            return StopReason.CONVERGED
        return StopReason.STEP_LIMIT if slot.n_steps >= self._max_steps else None

    def _keep(self, slot: _Slot, step_ended: bool, reason: StopReason | None) -> None:
        """Keep the geometry at the end of a step in `keep_steps`, and the last one."""
        is_last = reason not in (None, StopReason.NOT_FINITE)
        if self._keep_steps and ((step_ended and slot.n_steps in self._keep_steps) or is_last):
            slot.states.append((slot.n_steps, slot.boundary))

    def _judged(self, slot: _Slot, geometry: Geometry) -> Geometry:
        """Return the geometry with its surrogate energy, if there is a surrogate; a failing surrogate raises."""
        if self._surrogate is None:
            return geometry
        smiles, name = self._conformations.mapped_smiles[slot.start], self._conformations.id[slot.start]
        return replace(geometry, surrogate_energy=self._surrogate.energy(smiles, geometry.positions, name))


def _check_finite(conformations: ConformationSet) -> None:
    for i, positions in enumerate(conformations.positions_by_conformation()):
        if not np.isfinite(positions).all():
            raise UserError(f"conformation {conformations.id[i]!r}: positions are not finite; remove it")
