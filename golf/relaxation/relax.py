"""Relax a set of conformations with a potential, and keep geometries along the way.

The engine is `golf.relaxation.engine`, which the GOLF rounds (`golf.study.selection`) use as well.
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
from golf.core.conformations import ConformationRecord, ConformationSet, Frame, Frames, StopReason
from golf.core.labels import with_labels_of
from golf.core.progress import progress_bar
from golf.nnp.provider import ForceProvider, Molecules
from golf.relaxation.constraints import Constraints
from golf.relaxation.engine import FinishedRelaxation, Geometry, Optimizer, RelaxationEngine
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
    constraints: Constraints | None = None,
    keep_steps: Sequence[int] = (),
    keep_of: Collection[int] = (),
    advance: Callable[[], None] | None = None,
) -> ConformationSet:
    """Relax every conformation with a potential, and continue from saddle points in which symmetric starts end.

    With constraints, symmetric starts are not treated in any other way.

    Args:
        surrogate: if given, its energies of the first and last geometries are recorded; it does not end relaxations.
        keep_of: indices of the conformations whose geometries at `keep_steps` and at the end become frames.
        advance: called after each finished conformation; None: show a progress bar.

    The other arguments are those of `golf.relaxation.engine.RelaxationEngine`.

    Returns:
        The same conformations in the same order without labels. `position` is the last geometry with finite energy and
        forces; `initial_position` and the columns of relaxations are added.

    Raises:
        UserError: an argument is out of range.
    """
    engine_of = partial(
        RelaxationEngine,
        potential=potential,
        surrogate=None,
        force_threshold=force_threshold,
        max_steps=max_steps,
        iterations_per_step=iterations_per_step,
        slots=slots,
        optimizer=optimizer,
        constraints=constraints,
    )
    engine = engine_of(conformations, keep_steps=keep_steps if keep_of else ())
    finished: dict[int, FinishedRelaxation] = {}
    wanted = frozenset(keep_of)
    progress = progress_bar(len(conformations), "conformations") if advance is None else nullcontext(advance)
    with progress as done:
        for relaxation in engine.run(range(len(conformations))):
            kept = relaxation.states if relaxation.start in wanted else ()
            finished[relaxation.start] = replace(relaxation, states=kept)
            done()
    left = _leave_saddle_points(conformations, potential, engine_of, finished) if constraints is None else set()
    ordered = [finished[i] for i in range(len(conformations))]
    reasons = Counter(relaxation.stop_reason.name.lower() for relaxation in ordered)
    logger.info("stop reasons: %s", ", ".join(f"{name} {n}" for name, n in sorted(reasons.items())) or "none")
    relaxed = conformations.bare().with_columns(
        position=np.concatenate([np.zeros((0, 3)), *(relaxation.last.positions for relaxation in ordered)]),
        atoms={"initial_position": conformations.position, "nnp_force": _last_forces(ordered)},
        values={
            "left_saddle_point": [i in left for i in range(len(ordered))],
            **_columns(conformations, ordered, surrogate),
        },
        **(optimizer or Optimizer()).described,
        **({} if constraints is None else constraints.described),
    )
    if not wanted:
        return relaxed
    return relaxed.with_columns(values={"kept": [i in wanted for i in range(len(relaxed))]}, frames=_frames(ordered))


def _leave_saddle_points(
    conformations: ConformationSet,
    potential: ForceProvider,
    engine_of: Callable[[ConformationSet], RelaxationEngine],
    finished: dict[int, FinishedRelaxation],
) -> set[int]:
    """Relax further what converged to a saddle point because of a symmetric start (golf/relaxation/saddle_points.py).

    Args:
        engine_of: builds an engine for the conformations to be relaxed further.
        finished: relaxations by index; those that now end lower are replaced, with the steps and evaluations of both.

    Returns:
        The indices of the replaced relaxations.
    """
    numbers = [conformations.number[conformations.rows(i)] for i in range(len(conformations))]
    starts = conformations.positions_by_conformation()
    candidates = [
        i
        for i, positions in enumerate(starts)
        if finished[i].stop_reason == StopReason.CONVERGED and is_symmetric(numbers[i], positions)
    ]
    left: set[int] = set()
    for _ in range(TRIES):
        aside: dict[int, NDArray[np.float64]] = {}
        for i in candidates:
            finished[i], further_start = _checked(potential, conformations.subset([i]), finished[i])
            if further_start is not None:
                aside[i] = further_start
        if not aside:
            break
        candidates = []
        again = conformations.subset([*aside]).with_columns(position=np.concatenate([*aside.values()]))
        for further in engine_of(again).run(range(len(again))):
            i = [*aside][further.start]
            finished[i], lower = _joined(finished[i], further)
            if lower:
                left.add(i)
            if lower and finished[i].stop_reason == StopReason.CONVERGED:
                candidates.append(i)
    return left


def _checked(
    potential: ForceProvider, start: ConformationSet, end: FinishedRelaxation
) -> tuple[FinishedRelaxation, NDArray[np.float64] | None]:
    """Check the curvature at a converged end; return the counted relaxation and, at a saddle point, a new start."""
    n_evaluations = end.n_force_evaluations + evaluations(len(start.number))
    aside = way_down(potential, Molecules.of(start, potential.device), end.last.positions)
    return replace(end, n_force_evaluations=n_evaluations), aside


def _joined(before: FinishedRelaxation, further: FinishedRelaxation) -> tuple[FinishedRelaxation, bool]:
    """Join two relaxations, and tell whether the second ended lower; if not, keep the first.

    The evaluations of both are counted either way. If geometries are kept, the last one of the second is kept as well.
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
    conformations: ConformationSet, ordered: Sequence[FinishedRelaxation], surrogate: MMFFSurrogate | None
) -> dict[str, list]:
    """Return the columns that record the relaxation of each conformation."""
    values: dict[str, list] = {
        "stop_reason": [relaxation.stop_reason for relaxation in ordered],
        "n_steps": [relaxation.n_steps for relaxation in ordered],
        "n_force_evaluations": [relaxation.n_force_evaluations for relaxation in ordered],
        "nnp_energy_first": [relaxation.first.nnp_energy for relaxation in ordered],
        "nnp_energy_last": [relaxation.last.nnp_energy for relaxation in ordered],
        "largest_force": [relaxation.last.largest_force for relaxation in ordered],
    }
    if surrogate is not None:
        for column, ends in (("first", [r.first for r in ordered]), ("last", [r.last for r in ordered])):
            values[f"surrogate_energy_{column}"] = [
                _recorded_energy(surrogate, conformations, i, geometry) for i, geometry in enumerate(ends)
            ]
    return values


def _last_forces(ordered: Sequence[FinishedRelaxation]) -> NDArray[np.float64]:
    """Return forces [A, 3] in hartree/angstrom at the last geometries; NaN if none was finite."""
    ends = [relaxation.last for relaxation in ordered]
    forces = [np.full_like(end.positions, np.nan) if end.forces is None else end.forces for end in ends]
    return np.concatenate([np.zeros((0, 3)), *forces])


def _frames(relaxations: Sequence[FinishedRelaxation]) -> Frames:
    """Return the kept geometries with the energies and forces of the potential."""
    return Frames.build(
        Frame(i, step, state.nnp_energy, state.positions, state.forces)
        for i, relaxation in enumerate(relaxations)
        for step, state in relaxation.states
        if state.forces is not None
    )


def kept_states(relaxed: ConformationSet) -> ConformationSet:
    """Return the kept geometries of relaxations as conformations to be labelled.

    Args:
        relaxed: what `relax` returned, its ends labelled or not.

    Returns:
        Conformations with ids `{id}/step-{step}` and columns `start_id`, `step`, `nnp_energy` and `nnp_force`. Last
        geometries have the labels of the ends, if there are any.
    """
    frames = relaxed.frames or Frames.build([])
    records = []
    for k, (i, step) in enumerate(zip(frames.conformation.tolist(), frames.step.tolist(), strict=True)):
        rows = slice(frames.offset[k], frames.offset[k + 1])
        records.append(
            ConformationRecord(
                id=f"{relaxed.id[i]}/step-{step:04d}",
                molecule=relaxed.molecule[i],
                mapped_smiles=relaxed.mapped_smiles[i],
                charge=int(relaxed.charge[i]),
                multiplicity=int(relaxed.multiplicity[i]),
                numbers=relaxed.number[relaxed.rows(i)],
                positions=frames.position[rows],
            )
        )
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
    """Return the surrogate energy of a geometry in hartree, or NaN with a warning if it cannot be computed."""
    try:
        return surrogate.energy(conformations.mapped_smiles[i], geometry.positions, conformations.id[i])
    except SurrogateError as error:
        logger.warning("%s", error)
        return math.nan
