"""Predict memory and minutes of the network's jobs from the sizes of their input (label jobs: `golf.study.forecast`).

Snakemake calls this once for every job. If a job's input does not exist yet the functions raise FileNotFoundError, and
Snakemake takes the resource for one that is yet to be determined.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf.core.errors import UserError
from golf.core.hdf5 import read_columns
from golf.study.arms import budget_of_round, loop_arm
from golf.study.budget import EVALUATIONS_PER_SELECTION, update_time
from golf.study.forecast import MARGIN, START_MINUTES

BASE_MB = 1500
"""A job that loads PyTorch (500 MB; more on a GPU) and the processes of Snakemake around it."""

NETWORK_MB = 1000
"""For activations and their gradients; a piece of a batch has a bounded number of atoms (golf/nnp/parallel.py)."""

BYTES_PER_CONFORMATION = 4000
BYTES_PER_ATOM = 250
"""Peak memory of reading, splitting and training on a file of labels; see `benchmarks/dag.py`."""

SECONDS_PER_CONFORMER = 0.05
"""ETKDG, for molecules of some 50 atoms: an estimate."""

SECONDS_PER_MINIMIZATION = 0.33
"""MMFF with its states kept; measured with 45 atoms."""

SHORTEST_MINUTES = 60
LONGEST_MINUTES = 24 * 60
"""A training that is cut off resumes from its checkpoint, and partitions refuse jobs of several days."""


@dataclass(frozen=True)
class Contents:
    """Number of conformations and atoms in some files."""

    conformations: int
    atoms: int

    @property
    def mean_atoms(self) -> float:
        """Mean number of atoms of a conformation; 0 if there are none."""
        return self.atoms / max(1, self.conformations)

    @property
    def memory_mb(self) -> int:
        """MB for a job that reads them whole and trains on them or relaxes them."""
        data = self.conformations * BYTES_PER_CONFORMATION + self.atoms * BYTES_PER_ATOM
        return BASE_MB + NETWORK_MB + math.ceil(data / 1e6)


def contents(paths: Sequence[str]) -> Contents:
    """Count what is in files of conformations; unreadable files count as empty, their job reports them.

    Raises:
        FileNotFoundError: a file is not there yet.
    """
    conformations = atoms = 0
    for path in paths:
        os.stat(path)
        try:
            offset = read_columns(path, "atoms/offset")[0]["atoms/offset"]
        except (UserError, KeyError):
            continue
        conformations += len(offset) - 1
        atoms += int(offset[-1])
    return Contents(conformations, atoms)


def memory_mb(*paths: str) -> int:
    """Return the MB for a job that reads these files of conformations whole. Raises as `contents` does."""
    return contents(paths).memory_mb


def memory_for(*names: str) -> Callable[[Any, Any], int]:
    """Return the memory of a rule as a function of wildcards and input: that of the files of these inputs."""
    return lambda wildcards, input: memory_mb(*_files(input, names))


def minutes_for_training(config: Mapping[str, Any], n_updates: int, *names: str) -> Callable[[Any, Any], int]:
    """Return the minutes of a rule as a function of wildcards and input: of a training on the files of these inputs."""
    return lambda wildcards, input: training_minutes(config, _files(input, names), n_updates)


def _files(inputs: Any, names: Sequence[str]) -> list[str]:
    """Return the files of some named inputs of a job, each of which may be one or a list."""
    found = [inputs[name] for name in names]
    return [path for files in found for path in ([files] if isinstance(files, str) else files)]


def preparation_memory_mb(n_conformations: int) -> int:
    """Return the MB for preparing the data set: 9 kB for a conformation of 42 atoms, with copies."""
    return 2000 + n_conformations // 50


def preparation_minutes(n_conformations: int) -> int:
    """Return the minutes for embedding the conformers of the data set on one core."""
    return SHORTEST_MINUTES + math.ceil(MARGIN * n_conformations * SECONDS_PER_CONFORMER / 60)


def mmff_minutes(n_conformations: int) -> int:
    """Return the minutes for MMFF minimizations on one core."""
    return SHORTEST_MINUTES + math.ceil(MARGIN * n_conformations * SECONDS_PER_MINIMIZATION / 60)


def training_minutes(config: Mapping[str, Any], labels: Sequence[str], n_updates: int) -> int:
    """Return the minutes for `n_updates` training updates on these labels. Raises as `contents` does."""
    return _minutes(config, contents(labels), n_updates)


def selection_minutes(config: Mapping[str, Any], labels: str, folder: str, round_number: int) -> int:
    """Return the minutes for selecting the conformations of a round. Raises as `contents` does.

    Args:
        folder: of the loop. Where the surrogate decides, a conformation takes a few evaluations; else a relaxation.
    """
    golf, arm = config["golf"], loop_arm(folder)
    each = golf["max_steps"] * golf["iterations_per_step"] if arm.is_control else EVALUATIONS_PER_SELECTION
    n_select = budget_of_round(config, arm, round_number)
    return _minutes(config, contents([labels]), _as_updates(config, n_select * each))


def relaxation_minutes(config: Mapping[str, Any], conformations: str, slowness: float = 1.0) -> int:
    """Return the minutes for relaxing all conformations of a file. Raises as `contents` does.

    Args:
        slowness: time of the potential in units of that of the study's network.
    """
    found = contents([conformations])
    evaluations = found.conformations * config["relaxation"]["max_iterations"]
    return _minutes(config, found, slowness * _as_updates(config, evaluations))


def _as_updates(config: Mapping[str, Any], n_evaluations: float) -> float:
    """Convert force evaluations to training updates of the same time (one takes a third of its share of a batch)."""
    return n_evaluations / config["training"]["batch_size"] / 3


def _minutes(config: Mapping[str, Any], found: Contents, n_updates: float) -> int:
    update = update_time(config, found.mean_atoms)
    margin = MARGIN if update.measured else 2 * MARGIN
    minutes = START_MINUTES + margin * n_updates * update.seconds / 60
    return math.ceil(min(max(minutes, SHORTEST_MINUTES), LONGEST_MINUTES))
