"""Identify the study that Snakemake is about to run, and remove the locks that a killed run of it has left.

One folder may hold several studies that run at the same time, each with its own results folder. `snakemake --unlock`
removes the locks of them all; `unlock` those of one.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.study.config import schema
from golf.study.yaml_text import read_mapping

STATE = Path(".snakemake")
"""Snakemake's folder, in the one where it is called."""

MARKS = STATE / "make-run"
"""Folder of a file for each study that is at work or was cut off; its first line is the results folder."""

LONGEST_NAME = 30
"""Characters of a study's name; Slurm and its plugin take up to 50 in that of a job."""


@dataclass(frozen=True)
class Study:
    """A study, identified by its results folder.

    Attributes:
        results: its results folder, absolute.
        downloads: files outside of it that it makes, absolute.
    """

    results: Path
    downloads: frozenset[Path] = frozenset()

    @property
    def name(self) -> str:
        """Name for files and Slurm jobs: the folder's name in safe characters and a hash of its path."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.results.name).strip("-")[:LONGEST_NAME]
        return f"{readable}-{hashlib.sha256(str(self.results).encode()).hexdigest()[:8]}"


def configuration_of(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Read the configuration that Snakemake would take with these arguments: its files, and what is in them.

    Raises:
        UserError: a file cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=["config.yaml"])
    parser.add_argument("--config", "-C", nargs="+", default=[])
    options, _ = parser.parse_known_args(list(arguments))
    config: dict[str, Any] = {}
    for path in options.configfile:
        config |= read_mapping(path)[0]
    given = dict(setting.partition("=")[::2] for setting in options.config)
    if "results_dir" in given:
        config["results_dir"] = given["results_dir"]
    return options.configfile, config


def study_of(arguments: Sequence[str]) -> Study:
    """Return the study that Snakemake would run with these arguments.

    Raises:
        UserError: its configuration cannot be read.
    """
    config = configuration_of(arguments)[1]
    results = config.get("results_dir", schema()["properties"]["results_dir"]["default"])
    dataset = config.get("dataset")
    downloads = dataset.get("download", []) if isinstance(dataset, Mapping) else []
    files = [one["to"] for one in downloads if isinstance(one, Mapping) and "to" in one]
    return Study(Path(str(results)).resolve(), frozenset(Path(str(file)).resolve() for file in files))


def unlock(study: Study, state: Path = STATE, marks: Path = MARKS) -> None:
    """Remove Snakemake's locks on the files of a study.

    The results folder of a study may contain that of another one, whose files do not belong to the first.
    """
    others = [Path(mark.read_text(encoding="utf-8").split("\n", 1)[0]) for mark in marks.glob("*.at-work")]
    within = [other for other in others if other != study.results and other.is_relative_to(study.results)]

    def is_ours(file: Path) -> bool:
        inside = file.is_relative_to(study.results) and not any(file.is_relative_to(other) for other in within)
        return inside or file in study.downloads

    for lock in (state / "locks").glob("*.lock"):
        if any(is_ours(Path(line).resolve()) for line in lock.read_text(encoding="utf-8").splitlines()):
            lock.unlink(missing_ok=True)
