"""One process at a time: real processes that hold, wait, die and run out of time."""

import errno
import multiprocessing
import os
import signal
import time

import pytest

from golf.core import locks
from golf.core.deadline import RESERVE, Deadline, OutOfTime
from golf.core.errors import UserError
from golf.core.locks import Lease, LockedFile

SPAWN = multiprocessing.get_context("spawn")


def hold(path, opened, seconds):
    with LockedFile(path):
        opened.set()
        time.sleep(seconds)


def hold_lease(path, taken, beat):
    Lease.BEAT = beat
    assert Lease(path).take()
    taken.set()
    time.sleep(60)


def started(target, path, *arguments):
    """A process that holds something by now."""
    event = SPAWN.Event()
    process = SPAWN.Process(target=target, args=(path, event, *arguments))
    process.start()
    assert event.wait(60)
    return process


def test_who_waits_past_its_own_time_limit_gives_up_and_names_the_owner(tmp_path, caplog):
    holder = started(hold, tmp_path / "model.lock", 60)
    try:
        with pytest.raises(OutOfTime, match=rf"model\.lock: in use by process {holder.pid} on .* run again"):
            LockedFile(tmp_path / "model.lock", Deadline(RESERVE + 1.5)).open()
        assert f"in use by process {holder.pid}" in caplog.text
    finally:
        holder.kill()
        holder.join()


def test_a_lock_dies_with_its_process(tmp_path):
    holder = started(hold, tmp_path / "model.lock", 60)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    before = time.monotonic()
    with LockedFile(tmp_path / "model.lock"):
        assert time.monotonic() - before < 10


def test_the_slurm_job_of_the_owner_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with LockedFile(tmp_path / "model.lock"):
        assert (tmp_path / ".model.lock.owner").read_text() == locks.this_process()
    assert locks.this_process().endswith(", Slurm job 17")


@pytest.mark.slow
def test_a_lease_is_kept_while_its_owner_lives_and_taken_over_when_it_is_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(Lease, "EXPIRES", 2.0)
    owner = started(hold_lease, tmp_path / "lease", 0.2)
    ours = Lease(tmp_path / "lease")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert not ours.take()
        time.sleep(0.1)
    owner.kill()
    owner.join()
    killed = time.monotonic()
    while not ours.take():
        assert time.monotonic() - killed < 20
        time.sleep(0.1)
    assert time.monotonic() - killed > 1.0
    assert (tmp_path / "lease").read_text() == locks.this_process()
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]
    ours.release()
    assert not list(tmp_path.iterdir())


def test_a_lease_that_was_taken_over_is_not_given_back_by_its_former_owner(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Lease, "BEAT", 0.3)
    ours = Lease(tmp_path / "lease")
    assert ours.take()
    (tmp_path / "lease").write_text("process 1 on another node")
    time.sleep(1.0)
    assert "taken over by another process" in caplog.text
    ours.release()
    assert (tmp_path / "lease").read_text() == "process 1 on another node"


def test_who_does_not_wait_takes_over_the_lease_of_a_dead_one_alone(tmp_path, monkeypatch):
    """A file system without locks, as the kernel says it."""

    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    monkeypatch.setattr(Lease, "EXPIRES", 1.0)
    path = tmp_path / "out.lock"
    (tmp_path / ".out.lock.owner").write_text("process 1 on a node that is gone")
    with LockedFile(path, wait=False):
        assert (tmp_path / ".out.lock.owner").read_text() == locks.this_process()
    monkeypatch.setattr(Lease, "EXPIRES", 60.0)
    owner = started(hold_lease, tmp_path / ".out.lock.owner", 0.2)
    try:
        with pytest.raises(UserError, match=rf"out\.lock: in use by process {owner.pid} on "):
            LockedFile(path, wait=False).open()
    finally:
        owner.kill()
        owner.join()
