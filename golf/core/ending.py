"""End a process on Ctrl-C or SIGTERM by one exception, and within a few seconds in any case."""

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
"""Set once one of the signals has arrived."""


def end_on_signals() -> None:
    """Raise in the main thread on the first of the `ENDING` signals, and end the process after `GRACE` seconds.

    Later signals are ignored: a second exception would interrupt the clean-up after the first, even inside a lock.
    """
    for number in ENDING:
        signal.signal(number, _end_once)
    if not _watched.acquire(blocking=False):
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to even while the main thread runs C code
    threading.Thread(target=_end_at_last, args=(reader,), name="ending", daemon=True).start()


def _end_once(number: int, frame: FrameType | None) -> None:
    """Raise an exception, so that pools, journals and temporary files are closed on the way out."""
    _ended.set()
    for ending in ENDING:
        signal.signal(ending, _ignore)  # not SIG_IGN: Python reports an error for a signal that is already pending
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the process is already ending."""


def _end_at_last(reader: int) -> None:
    """End the process `GRACE` seconds after the first signal; its child processes end with it."""
    while (number := ord(os.read(reader, 1))) not in ENDING:
        continue
    time.sleep(GRACE)
    os._exit(128 + number)


def run(main: Callable[[], int]) -> NoReturn:
    """Run the main function of a program and end the process with its exit status.

    After a signal the interpreter is not finalized: with PyTorch that takes seconds on a busy machine, and the thread
    that enforces `GRACE` does not run meanwhile. By then pools, journals and files are closed; functions registered
    with `atexit` are still called.
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
        except (OSError, ValueError):  # the reader is gone
            continue
    os._exit(status)
