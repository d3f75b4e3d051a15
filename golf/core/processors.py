"""The number of processors that this process may use: those it is bound to, within the quotas of its cgroups.

`os.cpu_count` counts all of the machine. A batch system or `taskset` binds a process to some of them, and a container
may have a quota of processor time: with more threads than the quota allows it is suspended again and again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_processors(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Count the processors that this process may use, at least 1.

    Args:
        cgroups: mount point of the cgroup file systems.
        own: file that lists the cgroups of this process.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(cgroups, own)]
    return max(1, min([bound, *quotas]))


def limit_torch_threads() -> None:
    """Limit PyTorch to as many threads as there are usable processors: it respects affinity, but not quotas."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), usable_processors()))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Yield the limit, in processors, of each cgroup of this process and each of its parents that has one.

    Inside a container the path of the cgroup may be the host's, which does not exist there: then the limit of the
    container is at the root of the mount.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        read = _quota_v1 if controllers else _quota_v2
        for root in (cgroups / controllers, cgroups / "cpu") if controllers else (cgroups, cgroups / "unified"):
            folder = root / path.lstrip("/")
            for one in (folder, *folder.parents):
                if one.is_relative_to(root) and (quota := read(one)) is not None:
                    yield quota


def _quota_v2(folder: Path) -> float | None:
    return _ratio(folder / "cpu.max")


def _quota_v1(folder: Path) -> float | None:
    return _ratio(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _ratio(*files: Path) -> float | None:
    """Return quota / period (both microseconds) from these files; None if there is no limit."""
    try:
        quota, period = " ".join(file.read_text(encoding="utf-8") for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # ValueError: the quota is "max"
        return None


if __name__ == "__main__":
    print(usable_processors())
