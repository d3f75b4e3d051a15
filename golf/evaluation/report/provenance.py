"""Record the versions of programs and the hashes of files behind a study's numbers."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from golf import __version__

_PACKAGES = ("torch", "schnetpack", "rdkit", "numpy", "scipy", "h5py", "ase", "geometric", "snakemake", "matplotlib")


def versions(attrs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (program, version) of golf, Python, the oracle as recorded in its labels, and installed packages."""
    found = [("golf", __version__), ("Python", platform.python_version())]
    found.append((str(attrs["program"]), str(attrs.get("program_version", "not stated"))))
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue  # not every environment has each
    return found


def hashes(paths: Iterable[str | Path]) -> list[tuple[str, str]]:
    """Return (path, SHA-256) of each file, each path once."""
    lines = []
    for path in dict.fromkeys(map(str, paths)):
        with open(path, "rb") as stream:
            lines.append((path, hashlib.file_digest(stream, "sha256").hexdigest()))
    return lines
