"""What a figure was measured on: machine, load and versions, in two lines."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from golf.core.processors import usable_processors


def facts(*packages: str) -> str:
    """Processor, cores, memory, load, Python and the versions of the packages."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = usable_processors()
    load = os.getloadavg()[0]
    machine = f"{_processor()}, {cores} cores, {pages / 2**30:.0f} GB of memory, {platform.system()}; load {load:.1f}"
    versions = [f"Python {sys.version.split()[0]}", *(f"{name} {version(name)}" for name in packages)]
    return f"{machine}\n{', '.join(versions)}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
