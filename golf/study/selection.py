"""Select the conformations that a GOLF round sends to the genuine oracle.

The potential relaxes training conformations, the surrogate judges every optimizer step. Where the surrogate energy
rises, the relaxation ends and the conformation before that step is selected: the forces of the potential are assumed to
be wrong there (GOLF, ICLR 2024, algorithm 1).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationSet, Status, StopReason
from golf.nnp.provider import ForceProvider
from golf.relaxation.engine import FinishedRelaxation, Geometry, Optimizer, RelaxationEngine

logger = logging.getLogger(__name__)


@dataclass
class RoundCounts:
    """Outcomes of the trajectories of a round; the first four sum to all that finished.

    Every trajectory except a not finite one offers a conformation; `n_already_labelled` counts those offered in vain.
    """

    n_surrogate_rise: int = 0
    n_step_limit: int = 0
    n_converged: int = 0
    n_not_finite: int = 0
    n_already_labelled: int = 0  # geometry has a label, or was selected before in this round


@dataclass(frozen=True)
class Selected:
    """A conformation for the oracle, and the trajectory that it is from.

    Attributes:
        n_steps: steps of the whole trajectory; in control `random`, steps up to the drawn state.
    """

    trajectory: FinishedRelaxation
    geometry: Geometry
    n_steps: int


def select_conformations(
    potential: ForceProvider,
    surrogate: MMFFSurrogate | None,
    starts: ConformationSet,
    *,
    n_select: int,
    iterations_per_step: int,
    max_steps: int,
    force_threshold: float,
    slots: int,
    seed: int,
    round_number: int,
    optimizer: Optimizer | None = None,
) -> tuple[ConformationSet, RoundCounts]:
    """Relax start conformations until `n_select` are found that the oracle should label.

    No more trajectories are started than conformations are still wanted, and each is followed to its end. (Taking those
    that end first would select early failures only, the more so the more slots there are.) A trajectory ends where the
    surrogate energy rises over a step, at the limit of `max_steps`, or where it converges; the conformation before its
    last step is selected. Starts are drawn without replacement, in an order that follows from `seed` and
    `round_number`. When all are used the round ends with fewer conformations and a warning: the potential does not
    change within a round, so a second pass would only repeat the trajectories of the first.

    Without a surrogate this is the control `random`: trajectories run to convergence or the limit, and of each one
    state after its start is drawn, all with the same chance.

    Args:
        surrogate: judges every step; None: nothing does.
        starts: training conformations. A start with a label, or a failed attempt at one, is never selected itself;
            later states may be.
        force_threshold, slots, optimizer: see `golf.relaxation.engine.RelaxationEngine`.

    Returns:
        The selected conformations with ids `{molecule}/r{round}-{k}`, in the order in which they were found, and the
        counts, which are also attributes of the set. `n_steps` and `stop_reason` belong to the trajectory; `position`
        and the energies `*_last` belong to the selected conformation, the one before the last step.

    Raises:
        UserError: an argument is out of range.
        SurrogateError: the surrogate has no energy for a geometry.
    """
    relaxer = RelaxationEngine(
        starts,
        potential,
        surrogate,
        force_threshold=force_threshold,
        max_steps=max_steps,
        iterations_per_step=iterations_per_step,
        slots=slots,
        optimizer=optimizer,
        keep_steps=range(1, max_steps + 1) if surrogate is None else (),
    )
    order = np.random.default_rng([seed, round_number]).permutation(len(starts)).tolist()
    known = _labelled(starts)
    counts = RoundCounts()
    selected: list[Selected] = []
    under_way = 0

    def wanted() -> Iterator[int | None]:
        nonlocal under_way
        for start in order:
            while len(selected) + under_way >= n_select:
                yield None
            under_way += 1
            yield start

    for trajectory in relaxer.run(wanted()):
        under_way -= 1
        one = _drawn(trajectory, [seed, round_number, trajectory.start]) if surrogate is None else _before(trajectory)
        if _is_selected(one, starts, known, counts):
            selected.append(one)
            known.add(_key(starts, trajectory.start, one.geometry))
    logger.info("round %d: selected %d conformations; %s", round_number, len(selected), asdict(counts))
    if len(selected) < n_select:
        logger.warning(
            "round %d: all %d start conformations are used up with %d of %d conformations selected; "
            "give more start conformations or select fewer",
            round_number,
            len(starts),
            len(selected),
            n_select,
        )
    return _selected_set(starts, selected, round_number).with_columns(**asdict(counts)), counts


def _before(trajectory: FinishedRelaxation) -> Selected:
    return Selected(trajectory, trajectory.before, trajectory.n_steps)


def _drawn(trajectory: FinishedRelaxation, seed: Sequence[int]) -> Selected:
    """Draw one of the states after the start, or return the start if there is no other."""
    states = [(step, geometry) for step, geometry in trajectory.states if step > 0]
    if not states:
        return Selected(trajectory, trajectory.first, 0)
    step, geometry = states[int(np.random.default_rng(seed).integers(len(states)))]
    return Selected(trajectory, geometry, step)


def _is_selected(one: Selected, starts: ConformationSet, known: set[bytes], counts: RoundCounts) -> bool:
    """Decide whether the conformation goes to the oracle, and count it."""
    trajectory = one.trajectory
    match trajectory.stop_reason:
        case StopReason.SURROGATE_RISE:
            counts.n_surrogate_rise += 1
        case StopReason.STEP_LIMIT:
            counts.n_step_limit += 1
        case StopReason.CONVERGED:
            counts.n_converged += 1
        case _:
            counts.n_not_finite += 1
            return False
    if _key(starts, trajectory.start, one.geometry) in known:
        counts.n_already_labelled += 1
        return False
    return True


def _key(starts: ConformationSet, start: int, geometry: Geometry) -> bytes:
    """Key that is equal only for bitwise equal geometries of the same molecule."""
    return hashlib.sha256(starts.mapped_smiles[start].encode() + geometry.positions.tobytes()).digest()


def _labelled(starts: ConformationSet) -> set[bytes]:
    """Return the keys of the starts with a label, failed ones included, since they would fail again."""
    if "status" not in starts.values:
        return set()
    tried = np.flatnonzero(starts.values["status"] != Status.NOT_COMPUTED).tolist()
    return {_key(starts, i, Geometry(starts.position[starts.rows(i)], 0.0)) for i in tried}


def _selected_set(starts: ConformationSet, selected: Sequence[Selected], round_number: int) -> ConformationSet:
    trajectories, ends = [one.trajectory for one in selected], [one.geometry for one in selected]
    chosen = starts.bare().subset([trajectory.start for trajectory in trajectories])
    position = np.concatenate([np.zeros((0, 3)), *(end.positions for end in ends)])
    ids = [f"{molecule}/r{round_number}-{k:04d}" for k, molecule in enumerate(chosen.molecule)]
    return replace(chosen, id=ids).with_columns(
        position=position,
        atoms={"initial_position": chosen.position},
        values={
            "start_id": [starts.id[trajectory.start] for trajectory in trajectories],
            "stop_reason": [trajectory.stop_reason for trajectory in trajectories],
            "n_steps": [one.n_steps for one in selected],
            "n_force_evaluations": [trajectory.n_force_evaluations for trajectory in trajectories],
            "nnp_energy_first": [trajectory.first.nnp_energy for trajectory in trajectories],
            "nnp_energy_last": [end.nnp_energy for end in ends],
            "surrogate_energy_first": [trajectory.first.surrogate_energy for trajectory in trajectories],
            "surrogate_energy_last": [end.surrogate_energy for end in ends],
        },
    )
