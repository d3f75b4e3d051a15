"""Progress for a person who waits at a terminal; plain lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

LOG_INTERVAL_SECONDS = 30.0


@contextmanager
def progress_bar(total: int, unit: str) -> Iterator[Callable[[], None]]:
    """Yield a function to call once per finished item: a bar on a terminal, else a line every half minute."""
    if sys.stderr.isatty():
        from tqdm import tqdm  # not in the oracle's environment, whose jobs have no terminal

        with tqdm(total=total, unit=unit) as bar:
            yield lambda: bar.update() and None
        return
    started = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_SECONDS or done == total:
            last = now
            logger.info("%d of %d %s, %.2f s each", done, total, unit, (now - started) / done)

    yield advance
