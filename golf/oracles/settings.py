"""Where and how fast a label job computes, from the configuration.

By itself, because label jobs run where there is no package to read a configuration with (`golf.study.config`).
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


def processes_on(config: Mapping[str, Any], cores: int) -> int:
    """Oracle processes of a label job that has so many cores."""
    resources = config["resources"]
    return max(1, min(resources["label_processes"], cores // resources["label_threads"]))


def _node_folder(scratch: str | None) -> str | None:
    """The folder for scratch files, whose name may hold variables that a cluster sets on its nodes, such as $TMPDIR."""
    folder = None if scratch is None else os.path.expandvars(scratch)
    if folder is not None and (unset := re.search(r"\$\{?(\w+)", folder)):
        raise UserError(
            f"oracle.scratch: {scratch}: {unset[1]} is not set in jobs on {socket.gethostname()} (of Slurm's variables "
            "they have SLURM_JOB_ID); name a folder by that, or leave it out to use TMPDIR"
        )
    if folder is not None and not os.path.isdir(folder):
        raise UserError(f"oracle.scratch: {folder}: no such folder on {socket.gethostname()}; make it or name another")
    return folder


def pool_settings(config: Mapping[str, Any], cores: int | None = None) -> dict[str, Any]:
    """Settings of the oracle's pool that say where and how fast labels are made, not what they are.

    Args:
        cores: of the job; None: as many as are configured.
    """
    oracle, resources = config["oracle"], config["resources"]
    n_workers = resources["label_processes"]
    return {
        "n_workers": n_workers if cores is None else processes_on(config, cores),
        "threads": resources["label_threads"],
        "memory_mb": resources["label_memory_mb"],
        "time_limit": oracle["time_limit"],
        "scratch": _node_folder(oracle["scratch"]),
        "python": oracle["python"],
    }


def label_limits(config: Mapping[str, Any], level: LevelOfTheory, basis: Basis) -> TimeLimits:
    """The time limits of the conformations of a label job."""
    oracle = config["oracle"]
    return TimeLimits(
        level,
        basis,
        threads=config["resources"]["label_threads"],
        factor=oracle["time_limit_factor"],
        most=oracle["time_limit"],
    )
