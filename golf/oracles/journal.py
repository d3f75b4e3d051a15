"""What has been paid for: one JSON line a label, written to disk before the next one starts.

A line is found again by its key, the hash of geometry, charge, spin and level of theory (`Request.key`), so a killed
job that asks for the same geometries gets the same numbers back, bit for bit, and pays for nothing twice.
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
"""Outcomes that would come out the same again. A crash or a timeout may be the machine's fault: tried again."""

TIMEOUTS = 2
"""So many timeouts of one geometry are its own fault: with no more time it is not tried again."""

AS_LONG = 0.8
"""A timeout counts where it was after this share of the present limit or more: limits follow measured times."""

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

    `get` gives back outcomes that are final: ok, not_converged and failed. Labels that crashed or timed out are
    recorded too, but `get` ignores them, so that a new run tries them again; not those that have timed out `TIMEOUTS`
    times, unless they have more time now.

    A line that a kill cut off in mid-write is dropped on opening. The file is locked while it is open
    (golf/core/locks.py): a second process waits until the first has closed it, and logs for whom it waits.

    Args:
        others: journals that are only read, on opening; `get` answers from them as well. One that is being written to
            gives what it holds by then; one that cannot be read is left out with a warning.
        wanted: keys to look for in the others, where they are known: a study may have thousands of journals. None:
            everything in them is kept.
        deadline: of the job that waits for the lock.

    Raises (on opening):
        UserError: a line is not one of ours; names the file and the line.
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
        """Labels that need not be computed again."""
        return len(self._finished)

    def get(self, request: Request, limit: float = math.inf) -> Label | None:
        """The final label of this geometry at this level, or None where there is none yet.

        Args:
            limit: seconds that it may take now.
        """
        key = request.key(self.level)
        with self._lock:
            label = self._finished.get(key)
            timeouts = [one for one in self._timeouts.get(key, ()) if one.wall_seconds >= AS_LONG * limit]
        if label is None and len(timeouts) >= TIMEOUTS:
            label = timeouts[-1]
        if label is not None and label.status is Status.OK and len(label.forces) != len(request.numbers):
            logger.warning("%s: a label of %s has no forces for all its atoms; not used", self.path, request.id)
            return None
        if label is None or label.status is Status.OK:
            return label
        return Label.failed(len(request.numbers), label.status, label.message, label.wall_seconds)

    def append(self, request: Request, label: Label) -> None:
        """Write one label; it is on the disk when this returns.

        Raises:
            UserError: the disk is full; what was written before is kept.
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
    """The other journals in the folder of a journal."""
    return sorted(other for other in path.parent.glob(f"*{SUFFIX}") if other != path)


def _labels(path: Path, content: bytes, wanted: Collection[str] | None = None) -> list[tuple[str, Label]]:
    """Key and label of each line of a journal; a last line without its end is ignored.

    Lines with other keys than the wanted ones are passed over without a look at what is in them.

    Raises:
        UserError: a line is not one of ours; names the file and the line.
    """
    end = content.rfind(b"\n") + 1
    torn = content[end:]
    if torn and not (torn.startswith(_LINE_START) or _LINE_START.startswith(torn) or not torn.strip(b"\0")):
        raise UserError(f"{path}: not a golf journal (it ends without a line of ours); move it away")
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
    """The key of a line, found without parsing it; of a line that is not one of ours, something that is no key."""
    return line.removeprefix(_LINE_START).partition(b'"')[0].decode(errors="replace")


@dataclass(frozen=True)
class Outcome:
    """What a line says of a label but for its numbers."""

    key: str
    id: str
    status: Status
    wall_seconds: float


def outcomes(path: str | Path, max_bytes: int = -1) -> Iterator[Outcome]:
    """What a journal's lines say, in their order, found without parsing energies and forces; other lines are ignored.

    Args:
        max_bytes: read no more than that from the start of the file; -1: all.
    """
    with open(path, "rb") as stream:
        content = stream.read(max_bytes)
    for found in _OUTCOME.finditer(content):
        key, id, status, seconds = found.groups()
        try:
            yield Outcome(key.decode(), json.loads(id), Status[status.decode().upper()], float(seconds))
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
    """Key and label of a line. Raises ValueError, KeyError, TypeError or AttributeError where it is not one of ours."""
    record = json.loads(line)
    status = Status[record["status"].upper()]
    energy, forces = np.nan, np.zeros((0, 3))  # get() gives the NaN of a failed label their shape
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
