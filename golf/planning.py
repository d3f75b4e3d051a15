"""How many jobs a study has, from its configuration and input files alone.

The workflow's graph is static, so the number of batches has to be known before anything is computed. The counts here
are upper bounds; batches may stay empty. Nothing here needs RDKit or torch: Snakemake calls it while it reads the
Snakefile.
"""

from __future__ import annotations

import math
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf.conformations import Status
from golf.errors import UserError
from golf.hdf5 import read, read_columns
from golf.oracles.base import LevelOfTheory

MOLECULE_SUFFIXES = (".smi", ".csv", ".sdf")


@dataclass(frozen=True)
class Source:
    """Where a study's conformations come from.

    Attributes:
        train: .smi, .csv or .sdf with molecules, or an .h5 of this project with conformations.
        test: an .h5 with the test set; None: it is split off from `train`.
        conformers: per training molecule; 0 (SDF only): the geometries of the file.
        test_molecules: names of molecules that are kept for the test set alone.
        test_conformers: per molecule in the test set.
        prune_rmsd: heavy-atom RMSD in angstrom below which conformers are the same.
        max_left_out: share of the molecules that may be unusable before the study stops.
    """

    train: str
    test: str | None
    smiles_column: str
    name_column: str
    conformers: int
    test_molecules: Sequence[str]
    test_conformers: int
    prune_rmsd: float
    max_left_out: float


@dataclass(frozen=True)
class Size:
    """Upper bounds of what has to be computed."""

    initial_labels: int
    test_conformations: int
    references: int


def size(source: Source) -> Size:
    """Upper bounds of the labels, test conformations and DFT optimizations of a study.

    Raises:
        UserError: a file is missing, not readable or of an unknown suffix.
    """
    pool = Path(source.train)
    if not pool.is_file():
        raise UserError(f"dataset.train: {pool}: no such file")
    if pool.suffix == ".h5":
        # Every job of a cluster reads the Snakefile, so the names are read only where the test set is split off.
        names = ("atoms/offset", "conformation/status", *(["conformation/molecule"] if source.test is None else []))
        columns, _ = read_columns(pool, *names)
        status = columns.get("conformation/status", np.full(len(columns["atoms/offset"]) - 1, Status.NOT_COMPUTED))
        initial = int((status == Status.NOT_COMPUTED).sum())
        n_test = sum(
            n if name in source.test_molecules else min(n, source.test_conformers)
            for name, n in Counter(columns.get("conformation/molecule", ())).items()
        )
    elif pool.suffix in MOLECULE_SUFFIXES:
        records = _count_records(pool)
        initial = records * (source.conformers or 1)
        n_test = records * (source.test_conformers or 1)
    else:
        known = ", ".join((*MOLECULE_SUFFIXES, ".h5"))
        raise UserError(f"dataset.train: {pool}: unknown suffix {pool.suffix!r}; give {known}")
    if source.test is None:
        return Size(initial, n_test, n_test)
    test = read(source.test)
    has_minima = "status" in test.values and "energy_first" in test.values and "initial_position" in test.atoms
    without = test.values["status"] == Status.NOT_COMPUTED if has_minima else np.ones(len(test), dtype=bool)
    return Size(initial, len(test), int(without.sum()))


def _count_records(path: Path) -> int:
    """Records of a file of molecules; every molecule of an SDF may come in several records."""
    if path.suffix == ".sdf":
        *_, last = records = path.read_text(errors="replace").split("$$$$")
        return len(records) - (not last.strip())
    lines = path.read_text(errors="replace").splitlines()
    return sum(bool(line.strip()) and not line.startswith("#") for line in lines) - (path.suffix == ".csv")


def n_batches(n_items: int, batch_size: int) -> int:
    """Batches that hold n_items; none for none."""
    return math.ceil(n_items / batch_size)


def level_of(config: Mapping[str, Any]) -> LevelOfTheory:
    """The level of theory of a configuration."""
    return LevelOfTheory(**{name: config["oracle"][name] for name in ("program", "method", "basis", "keywords")})


def arms_of(config: Mapping[str, Any]) -> list[str]:
    """The arms of a study; without rounds there is nothing that arm golf could show."""
    return [arm for arm in config["evaluation"]["arms"] if arm != "golf" or config["golf"]["rounds"] > 0]


def processes_on(config: Mapping[str, Any], cores: int) -> int:
    """Oracle processes of a label job that has so many cores."""
    resources = config["resources"]
    return max(1, min(resources["label_processes"], cores // resources["label_threads"]))


def _node_folder(scratch: str | None) -> str | None:
    """A folder whose name may hold variables that a cluster sets on its nodes, such as $SLURM_TMPDIR."""
    folder = None if scratch is None else os.path.expandvars(scratch)
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
