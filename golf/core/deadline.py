"""How long the job that this process runs in may still take, so that it ends by itself and not by being killed."""

from __future__ import annotations

import logging
import math
import os
import re
import subprocess
import time

from golf.core.errors import UserError

logger = logging.getLogger(__name__)

RESERVE = 20.0
"""Seconds before the limit at which nothing is in hand any more: what is done is written, and Snakemake hears of it."""


class OutOfTime(UserError):
    """The job's time is up before its work is done; what has been done is kept, and another job can go on."""


class Deadline:
    """The end of a job.

    Args:
        seconds: from now on; infinite where the job has no limit.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._end = time.monotonic() + seconds

    @classmethod
    def of_this_job(cls) -> Deadline:
        """The limit of the Slurm job that this process runs in; outside of Slurm there is none."""
        job = os.environ.get("SLURM_JOB_ID")
        if not job:
            return cls()
        end = os.environ.get("SLURM_JOB_END_TIME", "")  # of newer Slurms, which need not be asked then
        seconds = float(end) - time.time() if end.isdigit() else _ask_slurm(job)
        logger.info("Slurm job %s has %.0f s left", job, seconds)
        return cls(seconds)

    def left(self) -> float:
        """Seconds in which work may still be in hand; not positive: the time is up."""
        return self._end - RESERVE - time.monotonic()


def _ask_slurm(job: str) -> float:
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("the time limit of Slurm job %s is not known: %s", job, error)
        return math.inf
    return _seconds(done.stdout.strip())


def _seconds(left: str) -> float:
    """Seconds of Slurm's [days-][hours:]minutes:seconds; of a word, such as UNLIMITED, infinity."""
    if not re.fullmatch(r"(\d+-)?(\d+:){1,2}\d+", left):
        return math.inf
    days, _, clock = left.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return 86400.0 * int(days or 0) + seconds
