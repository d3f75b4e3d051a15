"""Psi4 as the genuine oracle: a pool of persistent child processes.

Psi4 needs packages of other versions than the NNP does, so each child (psi4_worker.py) runs under the Python that has
Psi4; parent and child speak JSON lines over pipes. A child that crashes or passes the time limit loses one
conformation and is replaced.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from golf.conformations import Status
from golf.elements import SYMBOLS
from golf.errors import UserError
from golf.oracles.base import Label, LevelOfTheory, Request
from golf.oracles.interpreter import Psi4Interpreter, find_psi4
from golf.units import BOHR_IN_ANGSTROM

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""A child that has not imported Psi4 by then will not do so: on a cold network file system it takes about 30 s."""


RECYCLE_FACTOR = 2.0
"""Psi4 1.3 keeps some 7 MB of every label: a child that has grown to this many times its memory is replaced."""


class ChildDied(Exception):
    """The child's pipe closed before an answer came."""


class ChildTimedOut(Exception):
    """No answer within the time limit."""


def _scratch_prefix() -> str:
    return f"golf-psi4-{socket.gethostname()}-"


def remove_stale_scratch(scratch: str | None) -> None:
    """Remove the folders of pools on this host that were killed and could not do it themselves."""
    for folder in Path(scratch or tempfile.gettempdir()).glob(f"{_scratch_prefix()}*"):
        owner = folder.name.removeprefix(_scratch_prefix()).partition("-")[0]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError):  # somebody else's
            continue


class Child:
    """One Psi4 process with a folder of its own for scratch and output, removed with it."""

    def __init__(self, interpreter: Psi4Interpreter, setup: dict[str, Any], scratch: str | None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_scratch_prefix()}{os.getpid()}-", dir=scratch))
        self._errors = (self._folder / "stderr").open("w+b")
        threads = str(setup["threads"])
        # Nested BLAS threads inside Psi4's OpenMP regions spin: one BLAS thread is worth a factor of 4.
        serial_blas = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        self._process = subprocess.Popen(
            [interpreter.python, str(Path(__file__).with_name("psi4_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder,
            env=interpreter.environment | serial_blas | {"PSI_SCRATCH": str(self._folder)},
        )
        self._buffer = b""
        try:
            hello = self.ask(setup, START_SECONDS)
        except (ChildDied, ChildTimedOut) as error:
            self.kill()
            raise UserError(f"Psi4 does not start with {interpreter.python}: {error}; check oracle.python") from None
        if not hello["ready"]:
            self.kill()
            raise UserError(f"Psi4 does not start with {interpreter.python}: {hello['message']}; check oracle.python")
        self.version: str = hello["version"]

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send one line, return the answer.

        Raises:
            ChildDied: the process ended first.
            ChildTimedOut: it has not answered after `seconds`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line(time.monotonic() + seconds)
        except (OSError, EOFError):
            raise ChildDied(self._last_words()) from None
        return json.loads(line)

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise ChildTimedOut("no answer within the time limit")
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return f"the process ended with {how}" + (f": {words[0][:200]}" if words else "")

    def kill(self) -> None:
        """End the process at once and remove its folder."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:  # unsent input of a process that is gone
                continue
        shutil.rmtree(self._folder, ignore_errors=True)


class Psi4Oracle:
    """A pool of Psi4 children; see `golf.oracles.base.Oracle`. Use it as a context manager.

    Args:
        level: method, basis and further Psi4 options (`keywords`).
        n_workers: child processes.
        threads: OpenMP threads of each.
        memory_mb: memory that each child is told to use.
        time_limit: seconds for one conformation; a child that takes longer is killed and replaced.
        scratch: where the children's folders are made; None: the system's temporary folder.
        python: the Python that has Psi4; None: look for it.

    Raises:
        UserError: Psi4 is not found or does not start.
    """

    def __init__(
        self,
        level: LevelOfTheory,
        *,
        n_workers: int = 1,
        threads: int = 1,
        memory_mb: int = 1000,
        time_limit: float = 3600.0,
        scratch: str | None = None,
        python: str | None = None,
    ) -> None:
        self.level = level
        self.n_workers = n_workers
        self._time_limit = time_limit
        self._scratch = scratch
        self._interpreter = find_psi4(python)
        self._setup: dict[str, Any] = {
            "method": level.method,
            "basis": level.basis,
            "keywords": dict(level.keywords),
            "threads": threads,
            "memory_mb": memory_mb,
        }
        # Children ask the kernel to die with the thread that started them, so one thread that lives as long as the
        # pool starts them all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="psi4-starter")
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

    def _start(self) -> Child:
        child = self._starter.submit(Child, self._interpreter, self._setup, self._scratch).result()
        self._children.add(child)
        return child

    def _discard(self, child: Child) -> None:
        self._children.discard(child)
        child.kill()

    def compute(self, request: Request) -> Label:
        """Energy and forces of one conformation; waits for an idle child. Safe to call from several threads."""
        started = time.monotonic()
        message = {
            "symbols": [SYMBOLS[number] for number in request.numbers],
            "positions": request.positions.tolist(),
            "charge": request.charge,
            "multiplicity": request.multiplicity,
        }
        child = self._idle.get()
        try:
            answer = child.ask(message, self._time_limit)
        except (ChildDied, ChildTimedOut) as error:
            if self._closed:
                raise
            self._discard(child)
            child = self._start()
            timed_out = isinstance(error, ChildTimedOut)
            status = Status.TIMED_OUT if timed_out else Status.CRASHED
            reason = f"no result within {self._time_limit:g} s" if timed_out else str(error)
            logger.warning("%s: %s: %s", request.id, status.name.lower(), reason)
            return Label.failed(len(request.numbers), status, reason, time.monotonic() - started)
        else:
            if answer["resident_mb"] > RECYCLE_FACTOR * self._setup["memory_mb"]:
                logger.info("a Psi4 process has grown to %.0f MB and is replaced", answer["resident_mb"])
                self._discard(child)
                child = self._start()
        finally:
            self._idle.put(child)
        return _label(answer, len(request.numbers))

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Label]]:
        """Labels in the order in which they are finished; at most one request per child is under way."""
        waiting = iter(requests)
        running: dict[Future[Label], Request] = {}
        with ThreadPoolExecutor(self.n_workers, thread_name_prefix="psi4-request") as threads:
            try:
                while True:
                    while len(running) < self.n_workers and (request := next(waiting, None)) is not None:
                        running[threads.submit(self.compute, request)] = request
                    if not running:
                        return
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        yield running.pop(done), done.result()
            except BaseException:
                self.close()  # labels in hand are dropped, so that the threads end now
                raise

    def covered(self, numbers: Sequence[int]) -> list[int]:
        """Those of the atomic numbers that the basis set has.

        Raises:
            UserError: it has none of them.
        """
        child = self._idle.get()
        try:
            answer = child.ask({"covered": [SYMBOLS[number] for number in numbers]}, START_SECONDS)
        except (ChildDied, ChildTimedOut) as error:
            raise UserError(f"Psi4 fails over oracle.basis {self.level.basis!r}: {error}") from None
        finally:
            self._idle.put(child)
        if not answer["covered"]:
            elements = " ".join(answer["refusals"])
            reason = next(iter(answer["refusals"].values()))
            raise UserError(f"oracle.basis {self.level.basis!r} does not serve {elements}: {reason}")
        return [SYMBOLS.index(symbol) for symbol in answer["covered"]]

    def check(self, numbers: Sequence[int]) -> None:
        """Find out now whether the level can be computed for these elements.

        Raises:
            UserError: the basis set lacks an element, or the method or a keyword is unknown to Psi4.
        """
        without = set(numbers) - set(self.covered(numbers))
        if without:
            elements = " ".join(SYMBOLS[number] for number in sorted(without))
            raise UserError(f"oracle.basis {self.level.basis!r} does not serve {elements}; choose another basis")
        hydrogen = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])
        label = self.compute(Request("H2", np.array([1, 1], np.uint8), hydrogen, 0, 1))
        if label.status != Status.OK:
            raise UserError(f"oracle.method {self.level.method!r} cannot be computed by Psi4: {label.message}")

    def close(self) -> None:
        """End all children at once. Further calls do nothing."""
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
        reason = "Psi4 returned an energy or gradient that is not finite"
        return Label.failed(n_atoms, Status.FAILED, reason, answer["wall_seconds"])
    return Label(
        energy=answer["energy"],
        forces=forces,
        wall_seconds=answer["wall_seconds"],
        scf_iterations=answer["scf_iterations"],
        recovery=answer["recovery"],
    )
