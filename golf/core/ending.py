"""How a process ends on Ctrl-C and SIGTERM: once, by an exception, and within a few seconds in any case."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM)

GRACE = 4.0
"""Seconds from the signal to the end; closing a pool of 16 processes takes less than one."""

_watched = threading.Lock()
_ended = threading.Event()
"""Whether one of the signals has come."""


def end_on_signals() -> None:
    """Let the first of these signals raise in the main thread, and end the process soon even if that keeps it busy.

    A second exception would interrupt the clean-up of the first one, in the middle of a lock.
    """
    for number in ENDING:
        signal.signal(number, _end_once)
    if not _watched.acquire(blocking=False):
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to even while the main thread is in foreign code
    threading.Thread(target=_end_at_last, args=(reader,), name="ending", daemon=True).start()


def _end_once(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that pools, journals and temporary files are closed on the way out."""
    _ended.set()
    for ending in ENDING:
        signal.signal(ending, _ignore)  # not SIG_IGN: Python complains of a signal that has come meanwhile
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The process is ending already."""


def _end_at_last(reader: int) -> None:
    """End the process some time after the first of the signals; its children end with it."""
    while (number := ord(os.read(reader, 1))) not in ENDING:
        continue
    time.sleep(GRACE)
    os._exit(128 + number)


def run(main: Callable[[], int]) -> NoReturn:
    """Run the main function of a program and end the process with its status.

    After a signal Python is not taken down: that takes seconds with PyTorch on a busy machine, and the guard, whose
    thread stands still meanwhile, would not shorten it. Pools, journals and files are closed by then, and what is
    registered to be done at the exit is done.
    """
    try:
        status = main()
    except SystemExit as end:
        if not (_ended.is_set() and isinstance(end.code, int)):
            raise
        status = end.code
    if not _ended.is_set():
        sys.exit(status)
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more
            continue
    os._exit(status)
