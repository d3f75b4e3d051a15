"""The frame of every job of the workflow: its log, one line for wrong input, and a clean end within its time limit."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from golf.core import progress
from golf.core.deadline import Deadline
from golf.core.ending import end_on_signals
from golf.core.errors import UserError
from golf.core.files import DISK_FULL
from golf.core.locks import this_process

logger = logging.getLogger("golf")

LINKS = Path(".snakemake").absolute() / "golf"
"""Folder of links to installed packages, in that of Snakemake, which every job of a study sees."""


@contextmanager
def job(log: str | Path) -> Iterator[Deadline]:
    """Log to `log`, with warnings, errors and progress also on stderr, and yield the job's time limit.

    On wrong input, a full disk or the end of the job's time the process prints one line and exits with status 1. Any
    other error is logged with its traceback.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    end_on_signals()
    to_file = logging.FileHandler(log, mode="w", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_terminal = logging.StreamHandler()
    to_terminal.setLevel(logging.WARNING)
    to_terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    waiting = logging.StreamHandler()  # Snakemake's terminal, which shows the lines of all jobs
    waiting.addFilter(logging.Filter(progress.__name__))
    waiting.setFormatter(logging.Formatter(f"{Path(*Path(log).with_suffix('').parts[-2:])}: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_file, to_terminal, waiting], force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # if the log cannot be written, its tracebacks would bury the line that matters
    logger.info("started: %s", this_process())
    try:
        yield Deadline.of_this_job()
    except UserError as error:
        logger.error("%s", error)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL:
            logger.exception("the job failed")
        else:
            logger.error("%s; free space (or raise the quota) and run again", error)
        sys.exit(1)
    except Exception:
        logger.exception("the job failed")
        sys.exit(1)


def importable_by_children() -> None:
    """Put golf, and nothing else, first on the path of every Python that this process starts.

    Scripts of rules may run in environments of their own, without golf and of another Python version. So where golf is
    installed among other packages, the folder on the path holds only a link to it.
    """
    package = Path(__file__).resolve().parents[1]
    folder = package.parent
    if any(folder.glob("*.dist-info")):
        folder = LINKS / hashlib.sha256(str(package).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (folder / package.name).symlink_to(package)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
