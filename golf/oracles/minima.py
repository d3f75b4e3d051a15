"""DFT minima of the test conformations, in batches; geomeTRIC chooses the steps, an oracle computes the forces.

Every gradient goes through the journal. An optimization that was killed is replayed from its start: geomeTRIC asks for
the same geometries (golf/oracles/geometric.py), finds them in the journal, and only what is new is computed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import geometric
import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Frames, Status, concatenate
from golf.core.deadline import Deadline, OutOfTime
from golf.core.errors import UserError
from golf.core.hdf5 import write
from golf.core.labels import Label
from golf.core.level import LevelOfTheory, level_difference
from golf.core.progress import progress_bar
from golf.oracles.costs import Basis, label_costs, members, n_gradients
from golf.oracles.geometric import FORCE_THRESHOLD, Trajectory, minimize
from golf.oracles.journal import Journal, beside
from golf.oracles.labeling import journal_path, learn_from_journal
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Oracle, Request, requests_from
from golf.oracles.spin import warn_of_spin

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """Another optimization raised, or the run is being ended."""


def optimize_reference(
    conformations: ConformationSet,
    oracle: Oracle,
    journal: Journal,
    *,
    max_steps: int = 200,
    force_threshold: float = FORCE_THRESHOLD,
    n_parallel: int | None = None,
    progress: Callable[[], None] | None = None,
) -> ConformationSet:
    """Minimize each conformation with the oracle's forces.

    Converged means all five of geomeTRIC's criteria: the last step changed the energy by less than 1e-6 hartree, the
    largest force on an atom is below `force_threshold` and the root mean square below 2/3 of it, and the largest and
    root mean square displacement of the last step are below limits that scale with `force_threshold` as they do
    between Gaussian's sets of criteria (0.0018 and 0.0012 angstrom at the default). The coordinates are geomeTRIC's
    translation-rotation internal coordinates; where these break down (atoms in line), the optimization goes on from
    its lowest geometry in Cartesian coordinates, once.

    Args:
        conformations: starts. A label of the oracle's level that they bring along is used as the first gradient.
        oracle: computes the forces, also of several conformations at once.
        journal: open journal of the oracle's level; what it holds is not computed again.
        max_steps: optimizer steps per conformation.
        force_threshold: hartree/angstrom.
        n_parallel: optimizations at a time; None: as many as the oracle has workers.
        progress: called after each optimization.

    Returns:
        The conformations at their minima (`position`; `initial_position` is the start) with energy, energy_first (of
        the start), force, status, stop_reason, message, n_steps, n_force_evaluations, wall_seconds (of all gradients)
        and one frame per gradient. Where no minimum was found, status and message say why, energy and force are NaN
        and position is where the optimization ended; the frames have numbers only. Status is

        - ok: converged;
        - not_converged: `max_steps` reached, or the minimum lies above its start;
        - failed, crashed, timed_out, not_converged with stop_reason failed: a gradient could not be had, or no
          coordinates worked.

    Raises:
        UserError: whatever the oracle raises as such; what is in the journal by then is kept.
        OutOfTime: the job's time is up; every gradient that was in hand has been finished or ended.
    """
    evaluate, stop = _evaluator(conformations, oracle, journal)
    trajectories = [Trajectory(request, evaluate) for request in requests_from(conformations)]
    unfinished = _minimize_all(
        trajectories,
        stop,
        n_parallel=n_parallel or oracle.n_workers,
        max_steps=max_steps,
        force_threshold=force_threshold,
        progress=progress,
    )
    if unfinished:
        raise OutOfTime(
            f"{journal.path}: time limit: {len(trajectories) - unfinished} of {len(trajectories)} optimizations are "
            f"done; {len(journal)} gradients are kept, a retry or another run goes on from them"
        )
    provenance: dict[str, Any] = {
        "program_version": oracle.program_version,
        "optimizer": f"geomeTRIC {geometric.__version__}",
        "force_threshold": force_threshold,
        "max_steps": max_steps,
    }
    return _collect(conformations, trajectories).with_columns(**(oracle.level.attrs() | provenance))


def _minimize_all(
    trajectories: Sequence[Trajectory],
    stop: threading.Event,
    *,
    n_parallel: int,
    max_steps: int,
    force_threshold: float,
    progress: Callable[[], None] | None,
) -> int:
    """Follow the trajectories to their ends, some at a time, and say how many the end of the job's time cut short.

    Args:
        stop: set where one of them raises anything else: it ends the others.
    """
    threads = ThreadPoolExecutor(n_parallel, thread_name_prefix="optimization")
    unfinished = 0
    try:
        running = {threads.submit(minimize, one, max_steps, force_threshold): one for one in trajectories}
        for future in as_completed(running):
            try:
                future.result()
            except OutOfTime:  # the others come to it by themselves, at their next gradient
                unfinished += 1
                continue
            _report(running[future])
            if progress:
                progress()
    except BaseException:
        stop.set()
        threads.shutdown(wait=False, cancel_futures=True)  # a gradient in hand ends with the oracle, not before us
        raise
    threads.shutdown()
    return unfinished


def _evaluator(
    conformations: ConformationSet, oracle: Oracle, journal: Journal
) -> tuple[Callable[[Request], Label], threading.Event]:
    """What answers a request, from what is known or else from the oracle, and the event that ends it."""
    brought = _labels_brought_along(conformations, oracle.level)
    stop = threading.Event()

    def evaluate(request: Request) -> Label:
        if stop.is_set():
            raise _Stopped
        known = brought.get(request.key(oracle.level)) or journal.get(request, oracle.limit(request))
        if known is not None:
            return known
        label = oracle.compute(request)
        if label.status is Status.CRASHED and not stop.is_set():  # not worth a whole optimization: once more
            journal.append(request, label)
            label = oracle.compute(request)
        journal.append(request, label)
        return label

    return evaluate, stop


def _labels_brought_along(conformations: ConformationSet, level: LevelOfTheory) -> dict[str, Label]:
    if not level.matches(conformations.attrs) or "force" not in conformations.atoms:
        return {}
    labels = {}
    for i, request in enumerate(requests_from(conformations)):
        forces = conformations.atoms["force"][conformations.rows(i)]
        energy = float(conformations.values["energy"][i])
        if conformations.values["status"][i] == Status.OK and np.isfinite(energy) and np.isfinite(forces).all():
            labels[request.key(level)] = Label(energy, forces)
    return labels


def _report(trajectory: Trajectory) -> None:
    name, n = trajectory.request.id, len(trajectory.labels)
    if trajectory.status is Status.OK:
        gain = trajectory.labels[0].energy - trajectory.labels[trajectory.last].energy
        logger.info("%s: minimum after %d gradients, %.6f hartree below its start", name, n, gain)
    else:
        word = trajectory.status.name.lower()
        logger.warning("%s: no minimum after %d gradients: %s: %s", name, n, word, trajectory.message)


def _collect(conformations: ConformationSet, trajectories: list[Trajectory]) -> ConformationSet:
    nothing = np.zeros((0, 3))
    energies, forces, first = [], [], []
    for trajectory in trajectories:
        ok = trajectory.status is Status.OK
        label = trajectory.labels[trajectory.last]
        energies.append(label.energy if ok else np.nan)
        forces.append(label.forces if ok else np.full((len(trajectory.request.numbers), 3), np.nan))
        first.append(trajectory.labels[0].energy)
    start = conformations.bare()
    return start.with_columns(
        position=np.concatenate([nothing, *(trajectory.final for trajectory in trajectories)]),
        atoms={"initial_position": start.position, "force": np.concatenate([nothing, *forces])},
        values={
            "energy": energies,
            "energy_first": first,
            "status": [trajectory.status for trajectory in trajectories],
            "stop_reason": [trajectory.stop_reason for trajectory in trajectories],
            "message": [trajectory.message for trajectory in trajectories],
            "n_steps": [trajectory.n_steps for trajectory in trajectories],
            "n_force_evaluations": [len(trajectory.labels) for trajectory in trajectories],
            "wall_seconds": [sum(label.wall_seconds for label in trajectory.labels) for trajectory in trajectories],
        },
        frames=Frames.build(_frames_along(trajectories)),
    )


def _frames_along(trajectories: list[Trajectory]) -> Iterator[tuple[int, int, float, NDArray, NDArray]]:
    for i, trajectory in enumerate(trajectories):
        for step, (positions, label) in enumerate(zip(trajectory.positions, trajectory.labels, strict=True)):
            if label.status is Status.OK:
                yield i, step, label.energy, positions, label.forces


def batch(
    conformations: ConformationSet, known: Collection[str], index: int, n_batches: int, basis: Basis
) -> ConformationSet:
    """The conformations to be optimized of one of `n_batches` batches, the longest first.

    Batches have equal predicted times; every batch comes from the same division, whoever asks and when.

    Args:
        known: ids of those whose minima are known.
    """
    have = set(known)
    left = conformations.subset([i for i, name in enumerate(conformations.id) if name not in have])
    costs = label_costs(left.number, left.offset, basis) * n_gradients(left.n_atoms)
    return left.subset(members(costs, index, n_batches))


def merge(test: ConformationSet, parts: Sequence[ConformationSet]) -> ConformationSet:
    """The minima of all test conformations, in their order, frames included.

    Args:
        parts: minima that came with the test set, and those of the batches; empty ones are ignored.

    Raises:
        UserError: a test conformation is in no part, or parts are of different levels of theory.
    """
    parts = [part for part in parts if len(part)]
    for part in parts[1:]:
        difference = level_difference(parts[0].attrs, part.attrs)
        if difference:
            raise UserError(f"DFT minima differ in {difference}; make them again at one level")
    together = concatenate(parts)
    place = {name: i for i, name in enumerate(together.id)}
    for name in test.id:
        if name not in place:
            raise UserError(f"{name} is in no batch of DFT minima; run optimize_batch again")
    order = {name: i for i, name in enumerate(test.id)}
    rows = [
        (order[part.id[row[0]]], *row[1:]) for part in parts for row in part.frames or () if part.id[row[0]] in order
    ]
    frames = Frames.build(sorted(rows, key=lambda row: row[:2]))
    return together.subset([place[name] for name in test.id]).with_columns(frames=frames)


def optimize_to_file(
    conformations: ConformationSet,
    output: str | Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    max_steps: int = 200,
    force_threshold: float = FORCE_THRESHOLD,
    attrs: Mapping[str, Any] | None = None,
    deadline: Deadline | None = None,
    **pool: Any,
) -> ConformationSet:
    """Minimize with a pool of oracle processes and write the minima.

    An interrupted call goes on from `output`'s journal; gradients in other journals beside it are used, too.

    Args:
        pool: further settings of `golf.oracles.programs.pool.OraclePool`.
        attrs: root attributes of the file.
        deadline: of the job.

    Raises:
        UserError: the level's program is unknown, not found or does not start.
        OutOfTime: not all could be done before the deadline; the gradients that are done are in the journal.
    """
    if len(conformations) == 0:
        stated: dict[str, Any] = dict(level.attrs())
        minima = _collect(conformations, []).with_columns(**stated)
    else:
        path = journal_path(output)
        with (
            OraclePool(level, n_workers=min(n_workers, len(conformations)), deadline=deadline, **pool) as oracle,
            Journal(path, level, beside(path), deadline=deadline) as journal,
            progress_bar(len(conformations), "DFT optimizations") as advance,
        ):
            requests = requests_from(conformations)
            warn_of_spin(requests)
            learn_from_journal(oracle, journal, requests)
            minima = optimize_reference(
                conformations,
                oracle,
                journal,
                max_steps=max_steps,
                force_threshold=force_threshold,
                progress=advance,
            )
    write(output, minima, **(attrs or {}))
    return minima
