"""Optimize conformations to DFT minima, in batches; geomeTRIC chooses the steps, an oracle computes the forces.

Every gradient goes through the journal. An optimization that was killed is replayed from its start: geomeTRIC requests
the same geometries (golf/oracles/geometric.py), finds them in the journal, and only new ones are computed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

import geometric
import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Frame, Frames, Status, concatenate
from golf.core.deadline import Deadline, OutOfTime
from golf.core.errors import UserError
from golf.core.hdf5 import write
from golf.core.labels import Label
from golf.core.level import LevelOfTheory, level_difference
from golf.core.progress import progress_bar
from golf.oracles.costs import Basis, label_costs, members, n_gradients
from golf.oracles.geometric import FORCE_THRESHOLD, Optimization, optimize
from golf.oracles.journal import Journal, beside
from golf.oracles.labeling import journal_path, learn_from_journal
from golf.oracles.programs.pool import OraclePool, PoolSettings
from golf.oracles.programs.protocol import Oracle, Request, requests_from
from golf.oracles.spin import warn_of_spin

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """Another optimization raised an error, or the run is ending."""


def optimize_reference(
    conformations: ConformationSet,
    oracle: Oracle,
    journal: Journal,
    *,
    max_steps: int = 200,
    force_threshold: float = FORCE_THRESHOLD,
    n_parallel: int | None = None,
    hessians: Mapping[int, NDArray[np.float64]] = MappingProxyType({}),
    progress: Callable[[], None] | None = None,
) -> ConformationSet:
    """Optimize each conformation to its minimum with the oracle's forces.

    Convergence means all five criteria of geomeTRIC: the last step changed the energy by less than 1e-6 hartree, the
    largest force on an atom is below `force_threshold` and the root mean square below 2/3 of it, and the largest and
    root mean square displacement of the last step are below limits that scale with `force_threshold` as in Gaussian's
    sets of criteria (0.0018 and 0.0012 angstrom at the default). The coordinates are geomeTRIC's translation-rotation
    internal coordinates; if these break down (atoms in line), the optimization continues once from its lowest geometry
    in Cartesian coordinates.

    Args:
        conformations: starts. If they have labels of the oracle's level, these are used as first gradients.
        oracle: computes the forces, also of several conformations at once.
        journal: open journal of the oracle's level; labels in it are not computed again.
        max_steps: limit of optimizer steps per conformation.
        force_threshold: hartree/angstrom.
        n_parallel: number of concurrent optimizations; None for the number of the oracle's workers.
        hessians: Hessians [3n, 3n] (hartree/angstrom^2) of starts, by index; the others begin with geomeTRIC's guess.
        progress: called after each optimization.

    Returns:
        The conformations at their minima (`position`; `initial_position` is the start) with energy, energy_first (of
        the start), force, status, stop_reason, message, n_steps, n_force_evaluations, wall_seconds (of all gradients)
        and one frame per gradient. If no minimum was found, status and message say why, energy and force are NaN and
        position is the last geometry; frames have finite numbers in any case. Status is

        - ok: converged;
        - not_converged: `max_steps` reached, or the minimum is higher in energy than the start;
        - failed, crashed, timed_out, or not_converged with stop_reason failed: a gradient failed, or no coordinates
          worked.

    Raises:
        UserError: raised by the oracle; labels in the journal are kept.
        OutOfTime: the job's time is up; running gradients have been finished or stopped.
    """
    evaluate, stop = _evaluator(conformations, oracle, journal)
    optimizations = [
        Optimization(request, evaluate, hessian=hessians.get(i))
        for i, request in enumerate(requests_from(conformations))
    ]
    unfinished = _optimize_all(
        optimizations,
        stop,
        n_parallel=n_parallel or oracle.n_workers,
        max_steps=max_steps,
        force_threshold=force_threshold,
        progress=progress,
    )
    if unfinished:
        raise OutOfTime(
            f"{journal.path}: time limit: {len(optimizations) - unfinished} of {len(optimizations)} optimizations are "
            f"done; {len(journal)} gradients are kept; run again to resume from them"
        )
    provenance: dict[str, Any] = {
        "program_version": oracle.program_version,
        "optimizer": f"geomeTRIC {geometric.__version__}",
        "force_threshold": force_threshold,
        "max_steps": max_steps,
    }
    return _collect(conformations, optimizations).with_columns(**(oracle.level.attrs() | provenance))


def _optimize_all(
    optimizations: Sequence[Optimization],
    stop: threading.Event,
    *,
    n_parallel: int,
    max_steps: int,
    force_threshold: float,
    progress: Callable[[], None] | None,
) -> int:
    """Run optimizations, `n_parallel` at a time; return the number that the end of the job's time has interrupted.

    Args:
        stop: set if an optimization raises any other error, to end the others.
    """
    threads = ThreadPoolExecutor(n_parallel, thread_name_prefix="optimization")
    unfinished = 0
    try:
        running = {threads.submit(optimize, one, max_steps, force_threshold): one for one in optimizations}
        for future in as_completed(running):
            try:
                future.result()
            except OutOfTime:  # the others raise it at their next gradient
                unfinished += 1
                continue
            _report(running[future])
            if progress:
                progress()
    except BaseException:
        stop.set()
        threads.shutdown(wait=False, cancel_futures=True)  # running gradients end when the oracle is closed
        raise
    threads.shutdown()
    return unfinished


def _evaluator(
    conformations: ConformationSet, oracle: Oracle, journal: Journal
) -> tuple[Callable[[Request], Label], threading.Event]:
    """Return a function that finds or computes the label of a request, and the event that stops it."""
    brought = _labels_brought_along(conformations, oracle.level)
    stop = threading.Event()

    def evaluate(request: Request) -> Label:
        if stop.is_set():
            raise _Stopped
        known = brought.get(request.key(oracle.level)) or journal.get(request, oracle.limit(request))
        if known is not None:
            return known
        label = oracle.compute(request)
        if label.status is Status.CRASHED and not stop.is_set():  # retried once, to save the optimization
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


def _report(optimization: Optimization) -> None:
    name, n = optimization.request.id, len(optimization.labels)
    if optimization.status is Status.OK:
        gain = optimization.labels[0].energy - optimization.labels[optimization.last].energy
        logger.info("%s: minimum after %d gradients, %.6f hartree below its start", name, n, gain)
    else:
        word = optimization.status.name.lower()
        logger.warning("%s: no minimum after %d gradients: %s: %s", name, n, word, optimization.message)


def _collect(conformations: ConformationSet, optimizations: list[Optimization]) -> ConformationSet:
    nothing = np.zeros((0, 3))
    energies, forces, first = [], [], []
    for optimization in optimizations:
        ok = optimization.status is Status.OK
        label = optimization.labels[optimization.last]
        energies.append(label.energy if ok else np.nan)
        forces.append(label.forces if ok else np.full((len(optimization.request.numbers), 3), np.nan))
        first.append(optimization.labels[0].energy)
    start = conformations.bare()
    return start.with_columns(
        position=np.concatenate([nothing, *(optimization.final for optimization in optimizations)]),
        atoms={"initial_position": start.position, "force": np.concatenate([nothing, *forces])},
        values={
            "energy": energies,
            "energy_first": first,
            "status": [optimization.status for optimization in optimizations],
            "stop_reason": [optimization.stop_reason for optimization in optimizations],
            "message": [optimization.message for optimization in optimizations],
            "n_steps": [optimization.n_steps for optimization in optimizations],
            "n_force_evaluations": [len(optimization.labels) for optimization in optimizations],
            "wall_seconds": [
                sum(label.wall_seconds for label in optimization.labels) for optimization in optimizations
            ],
        },
        frames=Frames.build(_frames_along(optimizations)),
    )


def _frames_along(optimizations: list[Optimization]) -> Iterator[Frame]:
    for i, optimization in enumerate(optimizations):
        for step, (positions, label) in enumerate(zip(optimization.positions, optimization.labels, strict=True)):
            if label.status is Status.OK:
                yield Frame(i, step, label.energy, positions, label.forces)


def batch(
    conformations: ConformationSet, known: Collection[str], index: int, n_batches: int, basis: Basis
) -> ConformationSet:
    """Return the conformations to optimize in one of `n_batches` batches, the longest first.

    Batches have equal predicted times. All of them come from the same division, on any machine and at any time.

    Args:
        known: ids of conformations whose minima are known.
    """
    have = set(known)
    left = conformations.subset([i for i, name in enumerate(conformations.id) if name not in have])
    costs = label_costs(left.number, left.offset, basis) * n_gradients(left.n_atoms)
    return left.subset(members(costs, index, n_batches))


def merge_optimizations(starts: ConformationSet, parts: Sequence[ConformationSet]) -> ConformationSet:
    """Return the optimizations of all starts, in their order, with frames.

    Args:
        parts: optimizations that came with the data, and those of the batches; empty parts are ignored.

    Raises:
        UserError: a start is not in any part, or parts have different levels of theory.
    """
    parts = [part for part in parts if len(part)]
    for part in parts[1:]:
        difference = level_difference(parts[0].attrs, part.attrs)
        if difference:
            raise UserError(f"batches of DFT optimizations differ in {difference}; remove them and run again")
    together = concatenate(parts)
    place = {name: i for i, name in enumerate(together.id)}
    for name in starts.id:
        if name not in place:
            raise UserError(f"{name} is not in any batch of DFT optimizations; run again")
    order = {name: i for i, name in enumerate(starts.id)}
    renumbered = [
        frame._replace(conformation=order[part.id[frame.conformation]])
        for part in parts
        for frame in part.frames or ()
        if part.id[frame.conformation] in order
    ]
    frames = Frames.build(sorted(renumbered, key=lambda frame: (frame.conformation, frame.step)))
    return together.subset([place[name] for name in starts.id]).with_columns(frames=frames)


def optimize_to_file(
    conformations: ConformationSet,
    output: str | Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    max_steps: int = 200,
    force_threshold: float = FORCE_THRESHOLD,
    hessians: Mapping[int, NDArray[np.float64]] = MappingProxyType({}),
    attrs: Mapping[str, Any] | None = None,
    deadline: Deadline | None = None,
    **pool: Unpack[PoolSettings],
) -> ConformationSet:
    """Optimize conformations with a pool of oracle processes and write the minima to a file.

    Args:
        attrs: root attributes of the file.

    The other arguments and what it raises are those of `optimize_with_pool`.
    """
    minima = optimize_with_pool(
        conformations,
        output,
        level=level,
        n_workers=n_workers,
        max_steps=max_steps,
        force_threshold=force_threshold,
        hessians=hessians,
        deadline=deadline,
        **pool,
    )
    write(output, minima, **(attrs or {}))
    return minima


def optimize_with_pool(
    conformations: ConformationSet,
    output: str | Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    max_steps: int = 200,
    force_threshold: float = FORCE_THRESHOLD,
    hessians: Mapping[int, NDArray[np.float64]] = MappingProxyType({}),
    check: bool = False,
    deadline: Deadline | None = None,
    **pool: Unpack[PoolSettings],
) -> ConformationSet:
    """Optimize conformations with a pool of oracle processes; see `optimize_reference`.

    After an interruption it resumes from `output`'s journal; gradients in other journals beside it are used as well.

    Args:
        output: file that the caller will write; only its journal is written here.
        hessians: of starts, by index.
        check: test first whether the level can be computed for the elements of the conformations.
        pool: further settings of `golf.oracles.programs.pool.OraclePool`.
        deadline: time limit of the job.

    Raises:
        UserError: the level's program is unknown, not found or does not start, or the check fails.
        OutOfTime: the deadline came before all optimizations were done; finished gradients are in the journal.
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
            if check:
                oracle.check(sorted(set(conformations.number.tolist())))
            requests = requests_from(conformations)
            warn_of_spin(requests)
            learn_from_journal(oracle, journal, requests)
            minima = optimize_reference(
                conformations,
                oracle,
                journal,
                max_steps=max_steps,
                force_threshold=force_threshold,
                hessians=hessians,
                progress=advance,
            )
    return minima
