"""The genuine oracle: a pool of persistent child processes of the program of the level of theory.

A program may need other versions of packages than the NNP, so each child runs under the Python of the program
(registry.py); parent and child exchange JSON lines over pipes. If a child crashes, hangs or exceeds the time limit, one
conformation is lost and the child is replaced. Near the end of its job the pool does not start new labels.
"""

from __future__ import annotations

import logging
import queue
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypedDict

import numpy as np

from golf.core.conformations import Status
from golf.core.deadline import Deadline, OutOfTime
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.labels import Label
from golf.core.level import NO_BASIS, LevelOfTheory
from golf.core.units import BOHR_IN_ANGSTROM
from golf.oracles.costs import Basis
from golf.oracles.limits import TimeLimits
from golf.oracles.programs.known_faults import doubtful_elements, refuse_wrong_version
from golf.oracles.programs.process import (
    START_SECONDS,
    Child,
    ChildDied,
    ChildHung,
    ChildTimedOut,
    remove_stale_scratch,
)
from golf.oracles.programs.protocol import Request
from golf.oracles.programs.registry import program, wrong_setting

logger = logging.getLogger(__name__)

NAMED = 4
"""Number of elements listed in a message."""

RECYCLE_FACTOR = 2.0
"""A child that has grown to this many times its memory is replaced: Psi4 1.3 leaks about 7 MB per label."""

TIME_MARGIN = 1.5
"""A label is started only if the job has this many times the longest label so far left."""

SCRATCH_FULL = 50e6
"""Bytes of free scratch space below which a failure is attributed to the disk and not to the conformation."""


class PoolSettings(TypedDict, total=False):
    """Settings of a pool that determine where and how fast it computes; see `OraclePool`."""

    threads: int
    memory_mb: int
    time_limit: float
    limits: TimeLimits | None
    scratch: str | None
    python: str | None


class OraclePool:
    """A pool of children of one program; see `golf.oracles.programs.protocol.Oracle`. Use it as a context manager.

    Args:
        level: program, method, basis and further options of the program (`keywords`).
        n_workers: number of child processes.
        threads: number of OpenMP threads of each child.
        memory_mb: memory that each child is told to use.
        time_limit: seconds for one conformation; a child that takes longer is killed and replaced.
        limits: shorter time limits by the size of each conformation; None for `time_limit` throughout.
        scratch: parent of the children's folders; None for the system's temporary folder.
        python: the Python that has Psi4; None to search for it. Other programs run in golf's own.
        deadline: time limit of the job; labels that may not be done by then are not started, and none runs after it.

    Raises:
        UserError: the program is unknown, not found or does not start, does not have the basis or Python, or is a
            version that is known to compute the method wrongly.
    """

    def __init__(
        self,
        level: LevelOfTheory,
        *,
        n_workers: int = 1,
        threads: int = 1,
        memory_mb: int = 1000,
        time_limit: float = 3600.0,
        limits: TimeLimits | None = None,
        scratch: str | None = None,
        python: str | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        if wrong := wrong_setting(level.program, level.method, level.basis, python):
            raise UserError(wrong)
        self.level = level
        self.n_workers = n_workers
        self._time_limit = time_limit
        self.limits = limits
        self._scratch = scratch
        self._deadline = deadline or Deadline()
        self._longest = 0.0  # seconds of the longest label
        self.program_name = program(level.program).name
        self._launch = program(level.program).launch(level.method, python)
        self._setup: dict[str, Any] = {
            "method": level.method,
            "basis": level.basis,
            "keywords": dict(level.keywords),
            "threads": threads,
            "memory_mb": memory_mb,
        }
        # The kernel kills children when the thread that started them ends, so one thread that lives as long as the pool
        # starts them all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="oracle-starter")
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._children: set[Child] = set()
        self._closed = False
        remove_stale_scratch(scratch)
        try:
            for _ in range(n_workers):
                self._idle.put(self._start())
        except BaseException:
            self.close()
            raise
        self.program_version = next(iter(self._children)).version
        self._doubtful = doubtful_elements(level, self.program_version)
        try:
            refuse_wrong_version(level, self.program_version)
        except UserError:
            self.close()
            raise

    def _start(self) -> Child:
        child = self._starter.submit(Child, self.program_name, self._launch, self._setup, self._scratch).result()
        self._children.add(child)
        return child

    def _discard(self, child: Child) -> None:
        self._children.discard(child)
        child.kill()

    def compute(self, request: Request) -> Label:
        """Compute energy and forces of one conformation; wait for an idle child. Safe to call from several threads.

        If a child that has computed others before fails, a fresh child tries again: memory or files of the old one may
        be the cause.

        Raises:
            OutOfTime: the job does not have enough time left.
            UserError: the disk with the scratch files is full.
        """
        self._warn_of_doubtful(request)
        label, used = self._compute(request)
        if label.status is Status.FAILED and used:
            logger.info("%s: failed, tried again in a fresh process: %s", request.id, label.message)
            label, _ = self._compute(request, fresh=True)
        if label.status in (Status.FAILED, Status.CRASHED):
            self._blame_a_full_scratch(label)
        return label

    def _warn_of_doubtful(self, request: Request) -> None:
        """Warn, once for each element, that this version of the program computes it wrongly."""
        for number in self._doubtful.keys() & set(request.numbers.tolist()):
            if words := self._doubtful.pop(number, ""):
                logger.warning("%s", words)

    def _compute(self, request: Request, fresh: bool = False) -> tuple[Label, bool]:
        """Compute a label, and tell whether the child had computed others before."""
        message = {
            "symbols": [SYMBOLS[number] for number in request.numbers],
            "positions": request.positions.tolist(),
            "charge": request.charge,
            "multiplicity": request.multiplicity,
        }
        child = self._idle.get()
        started = time.monotonic()
        limit = self.limit(request)
        try:
            if fresh and child.used:
                self._discard(child)
                child = self._start()
            used, child.used = child.used, True
            if self._deadline.left() <= TIME_MARGIN * self._longest:
                raise OutOfTime("there is not enough time left for another label")
            logger.info("%s: started", request.id)
            left = self._deadline.left()
            answer = child.ask(message, min(limit, left), min(self._time_limit, left))
        except (ChildDied, ChildTimedOut, ChildHung) as error:
            if self._closed:
                raise
            self._discard(child)
            if self._deadline.left() <= 0:
                logger.warning("%s: stopped unfinished, the job's time is up", request.id)
                raise OutOfTime("the time is up") from None
            child = self._start()
            label = self._lost(request, error, time.monotonic() - started, limit)
            return label, used
        else:
            self._longest = max(self._longest, time.monotonic() - started)
            if self.limits is not None and answer["status"] == "OK":
                self.limits.learn(request, answer["wall_seconds"])
            if answer["resident_mb"] > RECYCLE_FACTOR * self._setup["memory_mb"]:
                logger.info("a process has grown to %.0f MB and is replaced", answer["resident_mb"])
                self._discard(child)
                child = self._start()
        finally:
            self._idle.put(child)
        return _label(answer, len(request.numbers)), used

    def limit(self, request: Request) -> float:
        """Return the time limit of a conformation, in seconds."""
        return self._time_limit if self.limits is None else min(self._time_limit, self.limits.seconds(request))

    def _lost(self, request: Request, error: Exception, seconds: float, limit: float) -> Label:
        """Return the label of a lost conformation; a hung child counts as crashed, as the conformation may be fine."""
        status = Status.TIMED_OUT if isinstance(error, ChildTimedOut) else Status.CRASHED
        nothing = f"no result within {limit:.4g} s"
        reason = str(error)
        if isinstance(error, ChildTimedOut):
            reason = nothing
            if self.limits is not None and limit < self._time_limit:
                reason += f" of processor time, {self.limits.words(request)}"
        elif isinstance(error, ChildHung):
            reason = f"{nothing}, and the process was idle"
        logger.warning("%s: %s: %s", request.id, status.name.lower(), reason)
        return Label.failed(len(request.numbers), status, reason, seconds)

    def _blame_a_full_scratch(self, label: Label) -> None:
        folder = self._scratch or tempfile.gettempdir()
        if shutil.disk_usage(folder).free < SCRATCH_FULL:
            raise UserError(
                f"{folder}: {self.program_name} fails ({label.message}), and this disk is full; free space on it, or "
                "set oracle.scratch to another folder, and run again"
            )

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Label]]:
        """Yield labels in the order in which they are finished; at most one request per child is in progress.

        Raises:
            OutOfTime: the job does not have enough time left for the next one; running ones are yielded before.
        """
        waiting = iter(requests)
        running: dict[Future[Label], Request] = {}
        out_of_time: OutOfTime | None = None
        with ThreadPoolExecutor(self.n_workers, thread_name_prefix="oracle-request") as threads:
            try:
                while True:
                    while not out_of_time and len(running) < self.n_workers:
                        if (request := next(waiting, None)) is None:
                            break
                        running[threads.submit(self.compute, request)] = request
                    if not running:
                        break
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        request = running.pop(done)
                        try:
                            label = done.result()
                        except OutOfTime as error:
                            out_of_time = error
                        else:
                            yield request, label
            except BaseException:
                self.close()  # running labels are dropped, so that the threads end now
                raise
        if out_of_time:
            raise out_of_time

    def basis(self, numbers: Sequence[int]) -> Basis:
        """Return the basis functions and core potentials of those of the atomic numbers that the level covers.

        Raises:
            UserError: the level covers none of them, or the program does not answer within `START_SECONDS` for each.
        """
        covered: dict[int, list[int]] = {}
        refusals: dict[str, str] = {}
        child = self._idle.get()
        try:
            for number in numbers:
                answer = self._ask_about(SYMBOLS[number], child)
                for counts in answer["covered"].values():
                    covered[number] = counts
                refusals |= answer["refusals"]
        finally:
            self._idle.put(child)
        if not covered:
            more = f" and {len(refusals) - NAMED} more elements" if len(refusals) > NAMED else ""
            raise UserError(
                f"{self._key()} does not cover {' '.join([*refusals][:NAMED])}{more}: "
                f"{next(iter(refusals.values()))}; give one that {self.program_name} knows"
            )
        return Basis({z: n for z, (n, _) in covered.items()}, frozenset(z for z, (_, ecp) in covered.items() if ecp))

    def _ask_about(self, symbol: str, child: Child) -> dict[str, Any]:
        """Ask a child about one element (`child.serve`)."""
        try:
            return child.ask({"covered": [symbol]}, START_SECONDS)
        except ChildDied as error:
            raise UserError(f"{self._key()}: {self.program_name} fails for {symbol}: {error}; choose another") from None
        except (ChildTimedOut, ChildHung):
            raise UserError(
                f"{self._key()}: {self.program_name} does not answer about {symbol} within {START_SECONDS:g} s; choose "
                "another"
            ) from None

    def check(self, numbers: Sequence[int]) -> None:
        """Test whether the level can be computed for these elements.

        Raises:
            UserError: the basis set lacks an element, or the program does not know the method or a keyword.
        """
        without = set(numbers) - self.basis(numbers).functions.keys()
        if without:
            elements = " ".join(SYMBOLS[number] for number in sorted(without))
            raise UserError(f"{self._key()} does not cover {elements}; choose another")
        hydrogen = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])
        label = self.compute(Request("H2", np.array([1, 1], np.uint8), hydrogen, 0, 1))
        if label.status == Status.TIMED_OUT:
            raise UserError(f"oracle.time_limit {self._time_limit:g}: too short for H2 ({label.message}); raise it")
        if label.status != Status.OK:
            raise UserError(
                f"oracle.method {self.level.method!r} cannot be computed by {self.program_name}: {label.message}; "
                "choose another, or correct oracle.keywords"
            )

    def _key(self) -> str:
        """Return the key that determines which elements are covered, and its value."""
        if self.level.basis.lower() == NO_BASIS:
            return f"oracle.method {self.level.method!r}"
        return f"oracle.basis {self.level.basis!r}"

    def close(self) -> None:
        """Kill all children at once; further calls do nothing."""
        self._closed = True
        for child in list(self._children):
            self._discard(child)
        self._starter.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _label(answer: dict[str, Any], n_atoms: int) -> Label:
    if answer["status"] != "OK":
        return Label.failed(n_atoms, Status[answer["status"]], answer["message"], answer["wall_seconds"])
    forces = -np.array(answer["gradient"]) / BOHR_IN_ANGSTROM
    if not (np.isfinite(answer["energy"]) and np.isfinite(forces).all()):
        reason = "energy or gradient from the program are not finite"
        return Label.failed(n_atoms, Status.FAILED, reason, answer["wall_seconds"])
    return Label(
        energy=answer["energy"],
        forces=forces,
        wall_seconds=answer["wall_seconds"],
        scf_iterations=answer["scf_iterations"],
        recovery=answer["recovery"],
    )
