"""The parent's side of a child process of an oracle (child.py): start it, send requests, end it."""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from golf.core.errors import UserError
from golf.oracles.programs.registry import Launch

START_SECONDS = 120.0
"""Time limit for a child to import its program; on a cold network file system it takes about 30 s."""

HUNG_SECONDS = 1.0
"""A child that has exceeded the time limit and uses no processor time for this long hangs."""


class ChildDied(Exception):
    """The child's pipe closed before it answered."""


class ChildTimedOut(Exception):
    """The child has not answered within the time limit and is computing."""


class ChildHung(Exception):
    """The child has not answered within the time limit and is idle."""


def _scratch_prefix() -> str:
    return f"golf-oracle-{socket.gethostname()}-"


def remove_stale_scratch(scratch: str | None) -> None:
    """Remove the folders that killed pools have left on this host."""
    for folder in Path(scratch or tempfile.gettempdir()).glob(f"{_scratch_prefix()}*"):
        owner = folder.name.removeprefix(_scratch_prefix()).partition("-")[0]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError):  # of another user
            continue


class Child:
    """One process of a program, with a folder for scratch files and output that is removed when it ends.

    Raises:
        UserError: the process does not start.
    """

    def __init__(self, name: str, launch: Launch, setup: dict[str, Any], scratch: str | None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_scratch_prefix()}{os.getpid()}-", dir=scratch))
        self._errors = (self._folder / "stderr").open("w+b")
        self._threads = setup["threads"]
        threads = str(self._threads)
        # Nested BLAS threads inside OpenMP regions spin: with one BLAS thread Psi4 is 4 times faster.
        serial_blas = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        self._process = subprocess.Popen(
            launch.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder,
            env={**launch.environment, **serial_blas, "PSI_SCRATCH": str(self._folder), "TMPDIR": str(self._folder)},
        )
        self._buffer = b""
        self.used = False  # whether it has been given a conformation
        try:
            hello = self.ask(setup, START_SECONDS)
        except (ChildDied, ChildTimedOut, ChildHung) as error:
            self.kill()
            raise UserError(f"{name} does not start with {launch.command[0]}: {error}; {launch.remedy}") from None
        if not hello["ready"]:
            self.kill()
            raise UserError(f"{name} does not start with {launch.command[0]}: {hello['message']}; {launch.remedy}")
        self.version: str = hello["version"]

    def ask(self, request: dict[str, Any], seconds: float, most: float | None = None) -> dict[str, Any]:
        """Send a request as one line and return the answer.

        Args:
            seconds: limit of the processor time of each of its threads; on a busy machine the wall time may be longer.
            most: limit of the wall time in seconds; None for `seconds`.

        Raises:
            ChildDied: the process ended first.
            ChildTimedOut: it has not answered in time and is computing.
            ChildHung: it has not answered in time and is idle.
        """
        assert self._process.stdin is not None
        started, before = time.monotonic(), self._cpu_ticks()
        end = started + (seconds if most is None else most)
        until = min(started + seconds, end)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            while True:
                try:
                    return json.loads(self._line(until))
                except ChildTimedOut:
                    if self._idles():
                        raise ChildHung("no answer within the time limit, and the process is idle") from None
                    left = seconds - self._cpu_seconds_since(before)
                    if time.monotonic() >= end or left < HUNG_SECONDS:
                        raise
                    until = min(time.monotonic() + left, end)
        except (OSError, EOFError):
            raise ChildDied(self._last_words()) from None

    def _cpu_seconds_since(self, before: int | None) -> float:
        """Return the processor time of each of its threads since `before`; infinite if the system does not tell."""
        now = self._cpu_ticks()
        if before is None or now is None:
            return math.inf
        return (now - before) / os.sysconf("SC_CLK_TCK") / self._threads

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

    def _idles(self) -> bool:
        """Tell whether the process uses no processor time; False if the system does not tell."""
        before = self._cpu_ticks()
        time.sleep(HUNG_SECONDS)
        return before is not None and self._cpu_ticks() == before

    def _cpu_ticks(self) -> int | None:
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return int(fields[11]) + int(fields[12])  # in user and in system mode

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return f"the process ended with {how}" + (f": {words[0][:200]}" if words else "")

    def kill(self) -> None:
        """Kill the process at once and remove its folder."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:  # unsent input for a dead process
                continue
        shutil.rmtree(self._folder, ignore_errors=True)
