"""Settings of label jobs from the configuration: processes, memory, time limits and folders.

They are separate from `golf.study.config`, whose packages are missing in the environment of label jobs.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.oracles.costs import Basis
from golf.oracles.limits import TimeLimits
from golf.oracles.programs.pool import PoolSettings


def processes_on(config: Mapping[str, Any], cores: int) -> int:
    """Return the number of oracle processes of a label job with `cores` cores."""
    resources = config["resources"]
    return max(1, min(resources["label_processes"], cores // resources["label_threads"]))


def _node_folder(scratch: str | None) -> str | None:
    """Return the folder for scratch files; its name may have variables that a cluster sets, such as $TMPDIR."""
    folder = None if scratch is None else os.path.expandvars(scratch)
    if folder is not None and (unset := re.search(r"\$\{?(\w+)", folder)):
        raise UserError(
            f"oracle.scratch: {scratch}: {unset[1]} is not set in jobs on {socket.gethostname()} (of Slurm's variables "
            "only SLURM_JOB_ID is); name a folder with that, or leave oracle.scratch out to use TMPDIR"
        )
    if folder is not None and not os.path.isdir(folder):
        raise UserError(
            f"oracle.scratch: {folder}: no such folder on {socket.gethostname()}; create it or name another"
        )
    return folder


class JobSettings(PoolSettings):
    """Settings of the pool of a label job."""

    n_workers: int


def pool_settings(config: Mapping[str, Any], cores: int | None = None) -> JobSettings:
    """Return the settings of the oracle's pool that determine where and how fast labels are computed, not their values.

    Args:
        cores: number of cores of the job; None for as many processes as configured.
    """
    oracle, resources = config["oracle"], config["resources"]
    return JobSettings(
        n_workers=resources["label_processes"] if cores is None else processes_on(config, cores),
        threads=resources["label_threads"],
        memory_mb=resources["label_memory_mb"],
        time_limit=oracle["time_limit"],
        scratch=_node_folder(oracle["scratch"]),
        python=oracle["python"],
    )


def label_limits(config: Mapping[str, Any], level: LevelOfTheory, basis: Basis) -> TimeLimits:
    """Return the time limits of the conformations of a label job."""
    oracle = config["oracle"]
    return TimeLimits(
        level,
        basis,
        threads=config["resources"]["label_threads"],
        factor=oracle["time_limit_factor"],
        most=oracle["time_limit"],
    )
