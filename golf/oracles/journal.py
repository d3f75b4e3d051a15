"""Journals of labels: one JSON line per label, written to disk before the next one starts.

A line is found by its key, the hash of geometry, charge, spin and level of theory (`Request.key`). So a killed job that
requests the same geometries again gets the same numbers, bit for bit, and computes nothing twice.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from golf.core.conformations import Status
from golf.core.deadline import Deadline
from golf.core.errors import UserError
from golf.core.files import DISK_FULL
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.core.locks import LockedFile
from golf.oracles.programs.protocol import Request

logger = logging.getLogger(__name__)

SUFFIX = ".journal.jsonl"

FINISHED = frozenset({Status.OK, Status.NOT_CONVERGED, Status.FAILED})
"""Statuses that a repetition would reproduce. A crash or a timeout may be due to the machine and is tried again."""

TIMEOUTS = 2
"""Number of timeouts after which a geometry is not tried again, unless it gets more time."""

AS_LONG = 0.8
"""An earlier timeout counts only if it had this fraction of the current limit: limits follow measured times."""

_LINE_START = b'{"key": "'
_OUTCOME = re.compile(
    rb'^{"key": "(\w+)", "id": ("(?:[^"\\]|\\.)*"), "status": "(\w+)".*, "wall_seconds": ([-+.\deE]+), .*}$',
    re.MULTILINE,
)


class Journal:
    """Append-only file of labels at one level of theory; a context manager, safe to use from several threads.

    Each line is a JSON object: key, id, status (its name in lower case), energy (hartree), forces (hartree/angstrom,
    [n, 3]), message, wall_seconds, scf_iterations, recovery. Floats are written so that they are read back exactly;
    energy and forces of a label that is not `ok` are null and are given back as NaN.

    `get` returns labels with a final status: ok, not_converged and failed. Labels that crashed or timed out are
    recorded as well, but `get` ignores them, so that a new run tries them again, except geometries that have timed out
    `TIMEOUTS` times and do not have more time now.

    A line that was cut off by a kill is dropped on opening. The file is locked while it is open (golf/core/locks.py): a
    second process waits until the first has closed it, and logs which process it waits for.

    Args:
        others: journals that are only read, on opening; `get` also searches them. Of a journal that is being written
            to, the lines so far are used; one that cannot be read is skipped with a warning.
        wanted: keys to keep from the others, if known, since a study may have thousands of journals; None for all.
        deadline: time limit of the job that waits for the lock.

    Raises (on opening):
        UserError: a line is not a line of a journal; the message names the file and the line.
        OutOfTime: another process had the journal open until the deadline.
    """

    def __init__(
        self,
        path: str | Path,
        level: LevelOfTheory,
        others: Iterable[Path] = (),
        wanted: Collection[str] | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.path = Path(path)
        self.level = level
        self._others = tuple(others)
        self._wanted = wanted
        self._finished: dict[str, Label] = {}
        self._timeouts: dict[str, list[Label]] = {}
        self._lock = threading.Lock()
        self._file = LockedFile(self.path, deadline)

    def __enter__(self) -> Self:
        self._file.open()
        try:
            for other in self._others:
                try:
                    self._take(_labels(other, other.read_bytes(), self._wanted))
                except (OSError, UserError) as error:
                    logger.warning("labels of another journal are not used: %s", error)
            self._load()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __len__(self) -> int:
        """Return the number of labels that need not be computed again."""
        return len(self._finished)

    def get(self, request: Request, limit: float = math.inf) -> Label | None:
        """Return the final label of this geometry at this level, or None if there is none yet.

        Args:
            limit: current time limit of this geometry, in seconds.
        """
        key = request.key(self.level)
        with self._lock:
            label = self._finished.get(key)
            timeouts = [one for one in self._timeouts.get(key, ()) if one.wall_seconds >= AS_LONG * limit]
        if label is None and len(timeouts) >= TIMEOUTS:
            label = timeouts[-1]
        if label is not None and label.status is Status.OK and len(label.forces) != len(request.numbers):
            logger.warning("%s: a label of %s does not have forces of all atoms; not used", self.path, request.id)
            return None
        if label is None or label.status is Status.OK:
            return label
        return Label.failed(len(request.numbers), label.status, label.message, label.wall_seconds)

    def append(self, request: Request, label: Label) -> None:
        """Write one label, and return when it is on disk.

        Raises:
            UserError: the disk is full; earlier lines are kept.
        """
        key = request.key(self.level)
        line = (json.dumps(_record(key, request.id, label), allow_nan=False) + "\n").encode()
        with self._lock:
            file = self._file.descriptor
            if file < 0:
                raise ValueError(f"{self.path}: journal is not open")
            size = os.fstat(file).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(file, line[written:])
                os.fsync(file)
            except OSError as error:
                os.ftruncate(file, size)  # a full disk must not leave half a line before the next one
                if error.errno not in DISK_FULL:
                    raise
                raise UserError(
                    f"{self.path}: {error.strerror}: the label of {request.id} cannot be written; the {len(self)} "
                    "before it are safe; free space (or raise the quota) and run again"
                ) from None
            self._take([(key, label)])

    def _take(self, labels: Iterable[tuple[str, Label]]) -> None:
        for key, label in labels:
            if label.status in FINISHED:
                self._finished[key] = label
            elif label.status is Status.TIMED_OUT:
                self._timeouts.setdefault(key, []).append(label)

    def _load(self) -> None:
        content = self.path.read_bytes()
        self._take(_labels(self.path, content))
        end = content.rfind(b"\n") + 1
        if end < len(content):
            logger.warning("%s: dropped a last line that was cut off by a kill", self.path)
            os.ftruncate(self._file.descriptor, end)
            os.fsync(self._file.descriptor)

    def _close(self) -> None:
        with self._lock:
            self._file.close()


def beside(path: Path) -> list[Path]:
    """List the other journals in the folder of a journal."""
    return sorted(other for other in path.parent.glob(f"*{SUFFIX}") if other != path)


def _labels(path: Path, content: bytes, wanted: Collection[str] | None = None) -> list[tuple[str, Label]]:
    """Return key and label of each line of a journal; an incomplete last line is ignored.

    Lines whose key is not wanted are skipped without parsing them.

    Raises:
        UserError: a line is not a line of a journal; the message names the file and the line.
    """
    end = content.rfind(b"\n") + 1
    torn = content[end:]
    if torn and not (torn.startswith(_LINE_START) or _LINE_START.startswith(torn) or not torn.strip(b"\0")):
        raise UserError(f"{path}: not a golf journal (its end is not a line of one); move it away")
    labels = []
    for number, line in enumerate(content[:end].splitlines(), start=1):
        if wanted is not None and _key(line) not in wanted:
            continue
        try:
            labels.append(_parse(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: line {number} is not a line of a golf journal ({type(error).__name__}: {error}); "
                "remove that line or move the file away"
            ) from None
    return labels


def _key(line: bytes) -> str:
    """Find the key of a line without parsing it; for a line that is not of a journal the result is not a key."""
    return line.removeprefix(_LINE_START).partition(b'"')[0].decode(errors="replace")


@dataclass(frozen=True)
class Entry:
    """A line of a journal without energy and forces."""

    key: str
    id: str
    status: Status
    wall_seconds: float


def entries(path: str | Path, max_bytes: int = -1) -> Iterator[Entry]:
    """Yield the entries of a journal in their order, without parsing energies and forces; other lines are ignored.

    Args:
        max_bytes: limit of bytes to read from the start of the file; -1 for all.
    """
    with open(path, "rb") as stream:
        content = stream.read(max_bytes)
    for found in _OUTCOME.finditer(content):
        key, id, status, seconds = found.groups()
        try:
            yield Entry(key.decode(), json.loads(id), Status[status.decode().upper()], float(seconds))
        except (ValueError, KeyError):
            continue


def _record(key: str, id: str, label: Label) -> dict[str, object]:
    ok = label.status is Status.OK
    return {
        "key": key,
        "id": id,
        "status": label.status.name.lower(),
        "energy": float(label.energy) if ok else None,
        "forces": np.asarray(label.forces, np.float64).tolist() if ok else None,
        "message": label.message,
        "wall_seconds": float(label.wall_seconds) if math.isfinite(label.wall_seconds) else 0.0,
        "scf_iterations": int(label.scf_iterations),
        "recovery": label.recovery,
    }


def _parse(line: bytes) -> tuple[str, Label]:
    """Parse key and label of a line; raise ValueError, KeyError, TypeError or AttributeError for any other line."""
    record = json.loads(line)
    status = Status[record["status"].upper()]
    energy, forces = np.nan, np.zeros((0, 3))  # get() returns a failed label with NaN of the right shape
    if status is Status.OK:
        energy = float(record["energy"])
        forces = np.array(record["forces"], dtype=np.float64).reshape(-1, 3)
        if not (math.isfinite(energy) and np.isfinite(forces).all()):
            raise ValueError("energy or forces are not finite")
    label = Label(
        energy=energy,
        forces=forces,
        status=status,
        message=record["message"],
        wall_seconds=float(record["wall_seconds"]),
        scf_iterations=int(record["scf_iterations"]),
        recovery=record["recovery"],
    )
    return record["key"], label
