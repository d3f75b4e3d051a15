"""Exclusive access to a file: an orphaned Slurm job, still running after its Snakemake, and its successor must not both
do the same work.

Where the file system has locks (`flock`) the kernel releases a lock when its process ends. Locks hold between nodes on
NFS (Linux turns them into locks of the server) and on Lustre mounted with `flock`. Mounts with `nolock`,
`local_lock=flock` or Lustre's `localflock` lock within one node only, which cannot be detected here. On a file system
that reports no support for locks a lease is used instead: a file that its owner touches at regular intervals.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from golf.core.deadline import Deadline, OutOfTime
from golf.core.errors import UserError

logger = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_POLL = 0.5  # seconds


class LockedFile:
    """A file that only one process at a time has open, created if missing; a context manager.

    Args:
        deadline: time limit of the job, until which it waits.
        wait: whether to wait for another process that has the file open; if not, that is an error.

    Raises (on opening):
        OutOfTime: another process had it open until the deadline.
        UserError: another process has it open, and `wait` is false.
    """

    def __init__(self, path: Path, deadline: Deadline | None = None, *, wait: bool = True) -> None:
        self.path = path
        self._wait = wait
        self.descriptor = -1
        self._deadline = deadline or Deadline()
        self._note = path.with_name(f".{path.name}.owner")
        self._lease: Lease | None = None

    def open(self) -> None:
        """Open the file, after waiting until no other process has it open; log which process it waits for."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                self._acquire()
                here = os.fstat(self.descriptor)
                if self.path.exists() and os.path.samestat(here, self.path.stat()):
                    return
            except BaseException:
                self.close()
                raise
            self.close()  # the previous owner removed or replaced the file: lock the new one

    def close(self) -> None:
        """Close the file, so that the next process can open it; further calls do nothing."""
        if self.descriptor < 0:
            return
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        elif self._holds_note():
            self._note.unlink(missing_ok=True)  # before the lock is released: the next owner writes its own
        os.close(self.descriptor)
        self.descriptor = -1

    def _acquire(self) -> None:
        waiting = _Waiting(self.path, self._note, self._deadline if self._wait else None)
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting.once_more()
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                lease = Lease(self._note)
                while not lease.take():
                    if self._wait or lease.is_renewed:
                        waiting.once_more()
                    else:  # its owner may be gone: watch until it is renewed or expires
                        time.sleep(_POLL)
                self._lease = lease
                return
            else:
                self._note.write_text(this_process(), encoding="utf-8")
                return

    def _holds_note(self) -> bool:
        return self._note.exists() and self._note.read_text(encoding="utf-8") == this_process()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Lease:
    """A file that belongs to one process for as long as that process keeps touching it.

    A waiting process takes over a lease that has not been touched for `EXPIRES` seconds by its own clock: clocks of
    different nodes need not agree.
    """

    BEAT = 20.0
    EXPIRES = 180.0  # several beats, and longer than NFS clients cache the attributes of a file

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_renewed = False  # whether it was touched since we watch it, so that its owner is alive
        self._seen = -1  # time of the other process's last beat
        self._since = 0.0
        self._ended = threading.Event()
        self._beats: threading.Thread | None = None

    def take(self) -> bool:
        """Try to create the file, and tell whether this process has; an expired one is removed."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if not self._expired():
                return False
            self._remove_expired()
            return False  # the next call creates it, unless another process is faster
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(this_process())
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beats.start()
        return True

    def release(self) -> None:
        """Stop touching the file and remove it."""
        if self._beats is not None:
            self._ended.set()
            self._beats.join()
            self._beats = None
            if self._is_ours():
                self.path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        """Tell whether this process still has the lease: after a long pause another one may have taken it over."""
        try:
            return self.path.read_text(encoding="utf-8") == this_process()
        except FileNotFoundError:
            return False

    def _beat(self) -> None:
        while not self._ended.wait(self.BEAT):
            try:
                if not self._is_ours():
                    logger.error("%s: taken over by another process while this one was suspended", self.path)
                    return
                os.utime(self.path)
            except OSError as error:
                logger.error("%s: the lease cannot be renewed: %s", self.path, error)

    def _expired(self) -> bool:
        try:
            beat = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if beat != self._seen:
            self.is_renewed = self._seen != -1
            self._seen, self._since = beat, time.monotonic()
        return time.monotonic() - self._since > self.EXPIRES

    def _remove_expired(self) -> None:
        """Remove an expired lease: only one process can rename it, and it puts back one that was renewed meanwhile."""
        aside = self.path.with_name(f"{self.path.name}.{socket.gethostname()}.{os.getpid()}")
        try:
            self.path.rename(aside)
            if aside.stat().st_mtime_ns != self._seen:
                os.link(aside, self.path)
        except (FileNotFoundError, FileExistsError):
            return
        finally:
            aside.unlink(missing_ok=True)


class _Waiting:
    """The pauses of a process that waits for a file; the first one is logged, with the owner's name.

    Without a deadline a pause is an error instead.
    """

    def __init__(self, path: Path, note: Path, deadline: Deadline | None) -> None:
        self._path, self._note, self._deadline = path, note, deadline
        self._told = False

    def once_more(self) -> None:
        """Pause, or raise an error if there is no time left."""
        try:
            owner = self._note.read_text(encoding="utf-8") or "another process"
        except FileNotFoundError:  # the owner is opening or closing the file at this moment
            owner = "another process"
        if self._deadline is None:
            raise UserError(f"{self._path}: in use by {owner}; wait until it has finished")
        if not self._told:
            logger.warning("%s: in use by %s; waiting until it has finished", self._path, owner)
            self._told = True
        if self._deadline.left() <= 0:
            raise OutOfTime(f"{self._path}: in use by {owner} until the time limit; run again when it has finished")
        time.sleep(_POLL)


def this_process() -> str:
    """Describe this process so that a person can find it."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", Slurm job {job}" if job else "")
