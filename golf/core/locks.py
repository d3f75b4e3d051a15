"""One process at a time: a Slurm job that has outlived its Snakemake and its successor must not do the same work.

Where the file system has locks (`flock`) the kernel ends a lock with its process. They hold between nodes on NFS
(Linux turns them into locks of the server) and on Lustre mounted with `flock`. Mounts with `nolock`, `local_lock=flock`
or Lustre's `localflock` lock within one node only, which nobody can see from here. A file system that says it has no
locks gets a lease: a file that its owner touches again and again.
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
    """A file, made where it is missing, that one process at a time has open; a context manager.

    Args:
        deadline: of the job that waits.
        wait: for a process that has it open; else that is an error.

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
        """Open the file; waits until no other process has it open, and logs for whom it waits."""
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
            self.close()  # whoever held the lock removed or replaced the file: lock the new one

    def close(self) -> None:
        """Let the next process have it. Further calls do nothing."""
        if self.descriptor < 0:
            return
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        elif self._holds_note():
            self._note.unlink(missing_ok=True)  # before the lock goes: the next owner writes its own
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
    """A file that belongs to one process for as long as that process goes on touching it.

    A lease that has not been touched for `EXPIRES` seconds, by the clock of the one who watches, is taken over: clocks
    of different nodes need not agree.
    """

    BEAT = 20.0
    EXPIRES = 180.0  # several beats, and more than the time for which NFS clients keep what they know of a file

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_renewed = False  # since we watch it, so its owner is alive
        self._seen = -1  # time of the other's last beat
        self._since = 0.0
        self._ended = threading.Event()
        self._beats: threading.Thread | None = None

    def take(self) -> bool:
        """Make the file ours, if it is nobody's or its owner is gone."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if not self._expired():
                return False
            self._remove_expired()
            return False  # the next call makes it, unless another process is faster
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(this_process())
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beats.start()
        return True

    def release(self) -> None:
        """Give the file back."""
        if self._beats is not None:
            self._ended.set()
            self._beats.join()
            self._beats = None
            if self._is_ours():
                self.path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        """False where this process stood still for so long that another one has taken over."""
        try:
            return self.path.read_text(encoding="utf-8") == this_process()
        except FileNotFoundError:
            return False

    def _beat(self) -> None:
        while not self._ended.wait(self.BEAT):
            try:
                if not self._is_ours():
                    logger.error("%s: taken over by another process while this one stood still", self.path)
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
        """Renaming has one winner; who has caught a lease that was renewed a moment ago puts it back."""
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
    """The pauses of one who waits for a file; the first one is logged, with the owner's name.

    Without a deadline there is no waiting.
    """

    def __init__(self, path: Path, note: Path, deadline: Deadline | None) -> None:
        self._path, self._note, self._deadline = path, note, deadline
        self._told = False

    def once_more(self) -> None:
        try:
            owner = self._note.read_text(encoding="utf-8") or "another process"
        except FileNotFoundError:  # it is just opening or closing the file
            owner = "another process"
        if self._deadline is None:
            raise UserError(f"{self._path} is in use by {owner}; wait until that is done")
        if not self._told:
            logger.warning("%s is in use by %s; waiting until it is done", self._path, owner)
            self._told = True
        if self._deadline.left() <= 0:
            raise OutOfTime(f"{self._path} was in use by {owner} until the time limit; run again when that is done")
        time.sleep(_POLL)


def this_process() -> str:
    """Words by which a person finds this process."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", Slurm job {job}" if job else "")
