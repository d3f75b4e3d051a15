"""Conformations relaxed with a potential, all of them to their end, and the states kept along the way.

The engine is `golf.relaxation.engine`, which serves a GOLF round (`golf.study.selection`), too.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from golf.chem.mmff import MMFFSurrogate, SurrogateError
from golf.core.conformations import ConformationSet, Frames, StopReason
from golf.core.labels import with_labels_of
from golf.core.progress import progress_bar
from golf.relaxation.engine import ForceProvider, Geometry, Optimizer, SlotRelaxer, Trajectory
from golf.relaxation.saddle_points import LOWER, TRIES, evaluations, is_symmetric, way_down

logger = logging.getLogger(__name__)


def relax(
    conformations: ConformationSet,
    potential: ForceProvider,
    *,
    surrogate: MMFFSurrogate | None = None,
    force_threshold: float,
    max_steps: int,
    iterations_per_step: int = 1,
    slots: int,
    optimizer: Optimizer | None = None,
    keep_steps: Sequence[int] = (),
    keep_of: Collection[int] = (),
    advance: Callable[[], None] | None = None,
) -> ConformationSet:
    """Relax every conformation with a potential, past saddle points that a symmetric start ends in.

    Args:
        surrogate: if given, its energies of the first and final geometries are recorded; it stops nothing.
        keep_of: indices of the conformations whose states at `keep_steps` and at the end become frames.
        advance: called with each conformation that is finished; None: they have a progress bar of their own.

    The other arguments are those of `SlotRelaxer`.

    Returns:
        The same conformations in the same order without labels; position is the last geometry with finite energy and
        forces, with `initial_position` and the columns of relaxations.

    Raises:
        UserError: an argument is out of range.
    """
    engine = partial(
        SlotRelaxer,
        potential=potential,
        surrogate=None,
        force_threshold=force_threshold,
        max_steps=max_steps,
        iterations_per_step=iterations_per_step,
        slots=slots,
        optimizer=optimizer,
    )
    relaxer = engine(conformations, keep_steps=keep_steps if keep_of else ())
    finished: dict[int, Trajectory] = {}
    wanted = frozenset(keep_of)
    own = progress_bar(len(conformations), "conformations") if advance is None else nullcontext(advance)
    with own as done:
        for trajectory in relaxer.run(range(len(conformations))):
            kept = trajectory.states if trajectory.start in wanted else ()
            finished[trajectory.start] = replace(trajectory, states=kept)
            done()
    left = _past_saddle_points(conformations, potential, engine, finished)
    ordered = [finished[i] for i in range(len(conformations))]
    reasons = Counter(trajectory.stop_reason.name.lower() for trajectory in ordered)
    logger.info("stop reasons: %s", ", ".join(f"{name} {n}" for name, n in sorted(reasons.items())) or "none")
    relaxed = conformations.bare().with_columns(
        position=np.concatenate([np.zeros((0, 3)), *(trajectory.last.positions for trajectory in ordered)]),
        atoms={"initial_position": conformations.position, "nnp_force": _last_forces(ordered)},
        values={
            "left_saddle_point": [i in left for i in range(len(ordered))],
            **_columns(conformations, ordered, surrogate),
        },
        **(optimizer or Optimizer()).described,
    )
    if not wanted:
        return relaxed
    return relaxed.with_columns(values={"kept": [i in wanted for i in range(len(relaxed))]}, frames=_frames(ordered))


def _past_saddle_points(
    conformations: ConformationSet,
    potential: ForceProvider,
    engine: Callable[[ConformationSet], SlotRelaxer],
    finished: dict[int, Trajectory],
) -> set[int]:
    """Relax on what converged to a saddle point because its start is symmetric; see golf/relaxation/saddle_points.py.

    Args:
        finished: by index; those that end lower now are replaced, with the steps and evaluations of both.

    Returns:
        Their indices.
    """
    numbers = [conformations.number[conformations.rows(i)] for i in range(len(conformations))]
    starts = conformations.positions_by_conformation()
    open_ones = [
        i
        for i, positions in enumerate(starts)
        if finished[i].stop_reason == StopReason.CONVERGED and is_symmetric(numbers[i], positions)
    ]
    left: set[int] = set()
    for _ in range(TRIES):
        aside: dict[int, NDArray[np.float64]] = {}
        for i in open_ones:
            finished[i], further_start = _looked_at(potential, numbers[i], finished[i])
            if further_start is not None:
                aside[i] = further_start
        if not aside:
            break
        open_ones = []
        again = conformations.subset([*aside]).with_columns(position=np.concatenate([*aside.values()]))
        for further in engine(again).run(range(len(again))):
            i = [*aside][further.start]
            finished[i], lower = _joined(finished[i], further)
            if lower:
                left.add(i)
            if lower and finished[i].stop_reason == StopReason.CONVERGED:
                open_ones.append(i)
    return left


def _looked_at(
    potential: ForceProvider, numbers: NDArray, end: Trajectory
) -> tuple[Trajectory, NDArray[np.float64] | None]:
    """Look at the curvature of a converged end; where the relaxation has to go on, if it is a saddle point."""
    n_evaluations = end.n_force_evaluations + evaluations(len(numbers))
    return replace(end, n_force_evaluations=n_evaluations), way_down(potential, numbers, end.last.positions)


def _joined(before: Trajectory, further: Trajectory) -> tuple[Trajectory, bool]:
    """One trajectory of two, and whether the second ended lower; else the first stays, with the evaluations of both.

    Of the second, the last state is kept where states are.
    """
    n_evaluations = before.n_force_evaluations + further.n_force_evaluations
    if not further.last.nnp_energy < before.last.nnp_energy - LOWER:
        return replace(before, n_force_evaluations=n_evaluations), False
    n_steps = before.n_steps + further.n_steps
    joined = replace(
        further,
        start=before.start,
        first=before.first,
        n_steps=n_steps,
        n_force_evaluations=n_evaluations,
        states=(*before.states[:-1], (n_steps, further.last)) if before.states else (),
    )
    return joined, True


def _columns(
    conformations: ConformationSet, ordered: Sequence[Trajectory], surrogate: MMFFSurrogate | None
) -> dict[str, list]:
    """What is recorded of the relaxation of each conformation."""
    values: dict[str, list] = {
        "stop_reason": [trajectory.stop_reason for trajectory in ordered],
        "n_steps": [trajectory.n_steps for trajectory in ordered],
        "n_force_evaluations": [trajectory.n_force_evaluations for trajectory in ordered],
        "nnp_energy_first": [trajectory.first.nnp_energy for trajectory in ordered],
        "nnp_energy_last": [trajectory.last.nnp_energy for trajectory in ordered],
        "largest_force": [trajectory.last.largest_force for trajectory in ordered],
    }
    if surrogate is not None:
        for column, ends in (("first", [t.first for t in ordered]), ("last", [t.last for t in ordered])):
            values[f"surrogate_energy_{column}"] = [
                _recorded_energy(surrogate, conformations, i, geometry) for i, geometry in enumerate(ends)
            ]
    return values


def _last_forces(ordered: Sequence[Trajectory]) -> NDArray[np.float64]:
    """Forces [A, 3] hartree/angstrom at the last geometries; NaN where there never was a finite one."""
    ends = [trajectory.last for trajectory in ordered]
    forces = [np.full_like(end.positions, np.nan) if end.forces is None else end.forces for end in ends]
    return np.concatenate([np.zeros((0, 3)), *forces])


def _frames(trajectories: Sequence[Trajectory]) -> Frames:
    """The kept states, with the energies and forces of the potential."""
    return Frames.build(
        (i, step, state.nnp_energy, state.positions, state.forces)
        for i, trajectory in enumerate(trajectories)
        for step, state in trajectory.states
        if state.forces is not None
    )


def kept_states(relaxed: ConformationSet) -> ConformationSet:
    """The kept states of relaxations as conformations.

    Args:
        relaxed: what `relax` returned, its ends labelled or not.

    Returns:
        Ids `{id}/step-{step}`, with `start_id`, `step`, `nnp_energy` and `nnp_force`, to be labelled. Last states have
        the labels of the ends, where there are any.
    """
    frames = relaxed.frames or Frames.build([])
    records = []
    for k, (i, step) in enumerate(zip(frames.conformation.tolist(), frames.step.tolist(), strict=True)):
        rows = slice(frames.offset[k], frames.offset[k + 1])
        origin = (relaxed.molecule[i], relaxed.mapped_smiles[i], int(relaxed.charge[i]), int(relaxed.multiplicity[i]))
        numbers = relaxed.number[relaxed.rows(i)]
        records.append((f"{relaxed.id[i]}/step-{step:04d}", *origin, numbers, frames.position[rows]))
    states = ConformationSet.build(records).with_columns(
        atoms={"nnp_force": frames.force},
        values={
            "start_id": [relaxed.id[i] for i in frames.conformation],
            "step": frames.step,
            "nnp_energy": frames.energy,
        },
    )
    if "status" not in relaxed.values:
        return states
    is_last = frames.step == relaxed.values["n_steps"][frames.conformation]
    return with_labels_of(states, relaxed, np.where(is_last, frames.conformation, -1))


def _recorded_energy(surrogate: MMFFSurrogate, conformations: ConformationSet, i: int, geometry: Geometry) -> float:
    """For the record only, where the surrogate decides nothing: NaN where it has no energy."""
    try:
        return surrogate.energy(conformations.mapped_smiles[i], geometry.positions, conformations.id[i])
    except SurrogateError as error:
        logger.warning("%s", error)
        return math.nan
