"""A child process of an oracle (child.py), as its parent sees it: started, asked, ended."""

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
"""A child that has not imported its program by then will not: on a cold network file system it takes about 30 s."""

HUNG_SECONDS = 1.0
"""A child that has passed the time limit, and uses no processor time for so long, hangs."""


class ChildDied(Exception):
    """The child's pipe closed before an answer came."""


class ChildTimedOut(Exception):
    """No answer within the time limit, though the child computes."""


class ChildHung(Exception):
    """No answer within the time limit, and the child does nothing."""


def _scratch_prefix() -> str:
    return f"golf-oracle-{socket.gethostname()}-"


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
    """One process of a program with a folder of its own for scratch and output, removed with it.

    Raises:
        UserError: it does not start.
    """

    def __init__(self, name: str, launch: Launch, setup: dict[str, Any], scratch: str | None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_scratch_prefix()}{os.getpid()}-", dir=scratch))
        self._errors = (self._folder / "stderr").open("w+b")
        self._threads = setup["threads"]
        threads = str(self._threads)
        # Nested BLAS threads inside OpenMP regions spin: in Psi4 one BLAS thread is worth a factor of 4.
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
        """Send one line, return the answer.

        Args:
            seconds: of processor time in each of its threads: on a busy machine it may take longer.
            most: seconds of wall time; None: as many.

        Raises:
            ChildDied: the process ended first.
            ChildTimedOut: it has not answered in that time and is at work.
            ChildHung: it has not answered in that time and is not at work.
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
                        raise ChildHung("no answer within the time limit, and it does nothing") from None
                    left = seconds - self._cpu_seconds_since(before)
                    if time.monotonic() >= end or left < HUNG_SECONDS:
                        raise
                    until = min(time.monotonic() + left, end)
        except (OSError, EOFError):
            raise ChildDied(self._last_words()) from None

    def _cpu_seconds_since(self, before: int | None) -> float:
        """Processor time of each of its threads since then; infinite where the system does not say."""
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
        """Whether the process uses no processor time, where the system says so."""
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
