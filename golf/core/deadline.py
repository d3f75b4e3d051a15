"""The time limit of the job that this process runs in, so that it stops by itself instead of being killed."""

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
"""Seconds before the limit at which work stops, so that results are written and Snakemake sees the exit status."""


class OutOfTime(UserError):
    """The job's time is up before its work is done; finished work is kept, and another job can continue."""


class Deadline:
    """The time at which a job must end.

    Args:
        seconds: counted from now; infinite if the job has no limit.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._end = time.monotonic() + seconds

    @classmethod
    def of_this_job(cls) -> Deadline:
        """Return the limit of the Slurm job that this process runs in; outside Slurm there is none."""
        job = os.environ.get("SLURM_JOB_ID")
        if not job:
            return cls()
        end = os.environ.get("SLURM_JOB_END_TIME", "")  # set by newer versions of Slurm, which saves a call of squeue
        seconds = float(end) - time.time() if end.isdigit() else _ask_slurm(job)
        logger.info("Slurm job %s has %.0f s left", job, seconds)
        return cls(seconds)

    def left(self) -> float:
        """Return the seconds left for work; zero or negative once the time is up."""
        return self._end - RESERVE - time.monotonic()


def _ask_slurm(job: str) -> float:
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("cannot find the time limit of Slurm job %s (%s); the job runs without one", job, error)
        return math.inf
    return _seconds(done.stdout.strip())


def _seconds(left: str) -> float:
    """Convert Slurm's [days-][hours:]minutes:seconds to seconds; a word such as UNLIMITED is infinity."""
    if not re.fullmatch(r"(\d+-)?(\d+:){1,2}\d+", left):
        return math.inf
    days, _, clock = left.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return 86400.0 * int(days or 0) + seconds
