"""Call functions that may never return, with a time limit, in child processes that can be killed.

RDKit's embedding, bond perception and symmetry searches take milliseconds for nearly every molecule and hours for a
few, and nothing in the same process can interrupt them. Here they run in child processes that are reused from call to
call. A child sets a timer before each call; the timer ends it whatever it is doing, even if its parent is gone. The
limit is one of processor time, so that the result does not depend on the load of the machine. Children have a process
group of their own, so Ctrl-C in a terminal does not reach them: RDKit would take it for a failed embedding.

Requests and answers are pickled and go through pipes between these processes only. RDKit molecules are sent in RDKit's
binary format with all properties, and with coordinates in double precision.
"""

from __future__ import annotations

import atexit
import copyreg
import importlib
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from rdkit import Chem, rdBase

T = TypeVar("T")

LONGEST_TIMER = 1e8
"""Seconds; the operating system rejects longer timers."""

PATIENCE = 10.0
"""Limit of the wall time, in units of the limit of processor time: it ends a child that swaps or gets no processor."""

_TIMERS = frozenset({signal.SIGPROF, signal.SIGALRM})
_LENGTH = 8  # bytes before each message, its length
_MOLECULE = Chem.PropertyPickleOptions.AllProps | Chem.PropertyPickleOptions.CoordsAsDouble
_PYTHON = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from golf.chem.limited import serve; serve()"


class NotFinished(Exception):
    """The process of a call ended before it returned a result."""


class TimedOut(NotFinished):
    """A call reached its time limit.

    Args:
        seconds: the limit, of processor time.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not finished within {seconds:g} s")
        self.seconds = seconds


def call(function: Callable[..., T], *arguments: Any, seconds: float) -> T:
    """Call a function of golf in a child process.

    Args:
        function: defined at the top level of a module of golf, with arguments and a result that can be pickled.
        seconds: limit of the call's processor time; may be infinite.

    Raises:
        TimedOut: the call reached the time limit.
        NotFinished: the child ended for another reason, such as a crash of RDKit.
        Exception: whatever the function raises.
    """
    return _workers().call(function, *arguments, seconds=seconds)


def call_each(
    function: Callable[..., T],
    arguments: Sequence[tuple[Any, ...]],
    *,
    seconds: float | Sequence[float],
    threads: int = 1,
) -> Iterator[T | NotFinished]:
    """Yield the result of one call for each tuple of arguments, in order, or the error that says why there is none.

    Args:
        function: see `call`.
        seconds: limit of each call's processor time, one for all or one for each.
        threads: number of concurrent calls; results do not depend on it.
    """
    workers = _workers()

    limits = seconds if isinstance(seconds, Sequence) else [seconds] * len(arguments)

    def attempt(own: tuple[Any, ...], limit: float) -> T | NotFinished:
        try:
            return workers.call(function, *own, seconds=limit)
        except NotFinished as error:
            return error

    pool = ThreadPoolExecutor(threads)
    left = deque(pool.submit(attempt, own, limit) for own, limit in zip(arguments, limits, strict=True))
    try:
        while left:
            result = left[0].result()
            left.popleft()
            yield result
    except BaseException:  # Ctrl-C, SIGTERM, or an error of the function: the other results are not needed
        if left:  # else the caller has all results, and its next call needs the children
            workers.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Child:
    """A child process that answers requests one by one."""

    def __init__(self) -> None:
        source = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PYTHON],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,
        )

    def ask(self, request: bytes, seconds: float) -> Any:
        """Send a request and return the answer.

        Raises:
            NotFinished: the process ended first.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            _send(self._process.stdin, request)
            answer = _receive(self._process.stdout)
        except OSError:
            answer = None
        if answer is not None:
            return answer
        code = self._process.wait()
        if -code in _TIMERS:
            raise TimedOut(seconds)
        raise NotFinished(f"RDKit's process ended with {f'signal {-code}' if code < 0 else f'exit status {code}'}")

    def end(self) -> None:
        """Kill the process at once; a call that waits for its answer fails."""
        self._process.kill()

    def kill(self) -> None:
        """Kill the process and close its pipes."""
        self.end()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # unsent input for a dead process
                continue


class _Workers:
    """The child processes of this process: one per concurrent call, started when needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False

    def call(self, function: Callable[..., T], *arguments: Any, seconds: float) -> T:
        """Call a function in an idle child; see `golf.chem.limited.call`."""
        request = _pickled((function.__module__, function.__qualname__, arguments, seconds))
        child = self._take()
        try:
            succeeded, result = child.ask(request, seconds)
        except BaseException:  # a late answer would be taken for that of the next request
            self._give_up(child)
            raise
        self._give_back(child)
        if not succeeded:
            raise result
        return result

    def _take(self) -> _Child:
        with self._lock:
            if self._closed:
                raise NotFinished("interrupted")
            child = self._idle.pop() if self._idle else _Child()
            self._busy.add(child)
            return child

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            self._busy.discard(child)
            if not self._closed:
                self._idle.append(child)

    def _give_up(self, child: _Child) -> None:
        with self._lock:
            self._busy.discard(child)
        child.kill()

    def close(self) -> None:
        """Kill all children; calls in other threads raise NotFinished, and later calls start new children."""
        _workers.cache_clear()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for child in self._busy:  # the thread that waits for it closes its pipes
                child.end()
        for child in idle:
            child.kill()


@cache
def _workers() -> _Workers:
    """Return the children that all calls of this process share."""
    workers = _Workers()
    atexit.register(workers.close)
    return workers


def serve() -> None:
    """Answer requests of the parent until it closes the pipe: the main loop of a child."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the parent handles these and kills its children
        signal.signal(ignored, signal.SIG_IGN)
    for deadly in _TIMERS:
        signal.signal(deadly, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TIMERS)
    rdBase.DisableLog("rdApp.*")
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not be taken for an answer
    while (request := _receive(sys.stdin.buffer)) is not None:
        module, name, arguments, seconds = request
        function = getattr(importlib.import_module(module), name)
        signal.setitimer(signal.ITIMER_PROF, min(seconds, LONGEST_TIMER))
        signal.setitimer(signal.ITIMER_REAL, min(seconds * PATIENCE, LONGEST_TIMER))
        try:
            answer = _pickled((True, function(*arguments)))
        except Exception as error:  # raised again in the parent
            answer = _failure(error)
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0.0)
        _send(out, answer)


def _failure(error: Exception) -> bytes:
    try:
        answer = _pickled((False, error))
        pickle.loads(answer)  # some exceptions can be pickled but not unpickled
    except Exception:
        answer = _pickled((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer


def _reduced(mol: Chem.Mol) -> tuple[type[Chem.Mol], tuple[bytes]]:
    return Chem.Mol, (mol.ToBinary(int(_MOLECULE)),)


def _pickled(message: Any) -> bytes:
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = copyreg.dispatch_table | {Chem.Mol: _reduced}
    pickler.dump(message)
    return stream.getvalue()


def _send(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(_LENGTH, "little") + message)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    """Read one message; return None at the end of the stream."""
    length = stream.read(_LENGTH)
    message = stream.read(int.from_bytes(length, "little")) if len(length) == _LENGTH else b""
    return pickle.loads(message) if message and len(message) == int.from_bytes(length, "little") else None
