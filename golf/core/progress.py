"""Show progress: a bar on a terminal, lines in a log."""

from __future__ import annotations

import datetime
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

LOG_INTERVAL_SECONDS = 30.0


@contextmanager
def progress_bar(total: int | None, unit: str, done: int = 0) -> Iterator[Callable[..., None]]:
    """Yield a function to call after each finished item, or with the number of items that have finished.

    On a terminal it updates a bar with rate and remaining time. Elsewhere it logs a line every half minute, and one at
    the end if the work took longer than that.

    Args:
        total: number of items; None if unknown, then no remaining time is shown.
        unit: what is counted, in the plural.
        done: items finished in an earlier run; they do not count in the rate.
    """
    if _someone_waits():
        from tqdm import tqdm  # not in the oracle's environment, whose jobs have no terminal

        with tqdm(total=total, unit=f" {unit}", initial=done, dynamic_ncols=True) as bar:
            yield lambda n=1: bar.update(n) and None
        return
    lines = _Lines(total, unit, done)
    yield lines.advance
    lines.end()


def _someone_waits() -> bool:
    """Tell whether to draw a bar: stderr is a terminal, and no other job of a workflow writes to it.

    A job of a workflow has a log file.
    """
    has_log = any(isinstance(handler, logging.FileHandler) for handler in logging.getLogger().handlers)
    return sys.stderr.isatty() and not has_log


class _Lines:
    """Count finished items and log the count at intervals."""

    def __init__(self, total: int | None, unit: str, done: int) -> None:
        self._total, self._unit, self._done, self._before = total, unit, done, done
        self._started = self._last = time.monotonic()
        self._said = done

    def advance(self, n: int = 1) -> None:
        """Add n finished items."""
        self._done += n
        if time.monotonic() - self._last >= LOG_INTERVAL_SECONDS:
            self._say()

    def end(self) -> None:
        """Log the last count, if it is not logged yet and the work took long."""
        if self._done != self._said and time.monotonic() - self._started >= LOG_INTERVAL_SECONDS:
            self._say()

    def _say(self) -> None:
        self._last, self._said = time.monotonic(), self._done
        new, seconds = self._done - self._before, self._last - self._started
        text = f"{self._done} {self._unit}" if self._total is None else f"{self._done} of {self._total} {self._unit}"
        if new and seconds > 0:
            text += f", {_rate(new / seconds)}"
            left = 0 if self._total is None else self._total - self._done
            if left > 0:
                text += f", {datetime.timedelta(seconds=round(left * seconds / new))} left"
        logger.info("%s", text)


def _rate(per_second: float) -> str:
    return f"{per_second:.1f} a second" if per_second >= 1 else f"{1 / per_second:.1f} s each"
