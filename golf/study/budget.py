"""Predict how long each part of a study takes: labels, DFT optimizations and the network's jobs."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.core.arms import GOLF, Chosen
from golf.oracles.costs import longest_wall, n_gradients, pack
from golf.study.arms import (
    BASELINE_MODEL,
    arms_of,
    budget_of,
    chosen_arms,
    further_updates,
    network_arms,
    trained_arms,
)
from golf.study.forecast import Model
from golf.study.plan import Size, count_structures
from golf.study.stages import Stage, Work, stages
from golf.study.workload import Workload

CPU_SECONDS_PER_UPDATE = 0.005
"""Per molecule of a batch: 36 atoms, 128 features, 3 interactions, two cores; measured. Scaled to other networks."""

GPU_SECONDS_PER_UPDATE = 0.04
"""A rough figure for any batch on a GPU, where starting its many small kernels takes the time; not measured."""

EVALUATIONS_PER_SELECTION = 60
"""NNP force evaluations until a GOLF round has one conformation more; a rough figure."""


@dataclass(frozen=True)
class Part:
    """The stages of one group, which take the same time and follow one another.

    Attributes:
        name: title of the group.
        seconds: of each label or optimization of a stage, in one oracle process.
        n_batches: jobs of a stage.
        note: what else there is to say.
    """

    name: str
    seconds: NDArray[np.float64]
    n_batches: int
    stages: Sequence[Stage]
    note: str = ""

    @property
    def repeat(self) -> int:
        """Number of stages."""
        return len(self.stages)

    @property
    def n(self) -> int:
        """Number of labels or optimizations of all stages."""
        return len(self.seconds) * self.repeat

    def core_hours(self, threads: int) -> float:
        """Return the core-hours of the oracle processes with `threads` threads each."""
        return float(self.seconds.sum()) * self.repeat * threads / 3600

    def wall_hours(self, n_workers: int, jobs: int) -> float:
        """Return the wall hours with `jobs` jobs at a time of `n_workers` processes each, without starts and queues."""
        if not len(self.seconds):
            return 0.0
        whole = np.round(self.seconds * 1e6).astype(np.int64)
        batches = longest_wall(self.seconds, pack(whole, self.n_batches), self.n_batches, n_workers)
        return max(float(batches.sum()) / jobs, float(batches.max())) * self.repeat / 3600


def label_parts(config: Mapping[str, Any], work: Workload, model: Model) -> list[Part]:
    """Return all the DFT of a study, in the order in which it comes."""
    counts = Size(initial_labels=len(work.initial), test_conformations=len(work.test), references=len(work.references))
    counts = replace(counts, structures=count_structures(config))
    found = stages(config, counts).values()
    return [_part(list(members), config, work, model) for _, members in groupby(found, key=lambda stage: stage.group)]


def _part(members: list[Stage], config: Mapping[str, Any], work: Workload, model: Model) -> Part:
    largest = max(members, key=lambda stage: stage.n)

    def seconds(costs: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.minimum(model.seconds(costs), config["oracle"]["time_limit"])

    def of_new(n: int) -> NDArray[np.float64]:
        """Predict conformations that are not known yet by the mean of the training conformations."""
        return np.full(n, float(seconds(work.training).mean()))

    if largest.work is Work.INITIAL:
        each, note = seconds(work.initial), ""
    elif largest.work is Work.ENDS:
        each, note = seconds(work.test), " ".join(arms_of(config))
    elif largest.work is Work.MINIMA:
        each = seconds(work.references) * work.gradients
        note = f"{int(work.gradients.sum())} gradients" if len(work.references) else ""
    elif largest.work is Work.STRUCTURES:
        each = of_new(largest.n) * float(n_gradients(work.training_atoms).mean())
        note = "at most, from poor geometries"
    elif largest.work is Work.STATES:
        each, note = of_new(largest.n), "at most, along the test relaxations"
    elif largest.work is Work.OPTIMIZATIONS:
        gained = float(n_gradients(work.training_atoms).mean()) - 1
        each = of_new(math.ceil(largest.n / gained)) * gained
        note = f"{largest.n} gradients of DFT optimizations"
    else:
        each, n, total = of_new(largest.n), len(members), sum(stage.n for stage in members)
        equal = total == n * largest.n
        note = "" if n == 1 else f"{n} rounds of {largest.n}" if equal else f"{n} rounds, {total} labels"
    return Part(largest.group, each, largest.n_batches, members, note)


@dataclass(frozen=True)
class Network:
    """Hours of training and relaxation with the network, on one GPU or on the cores of a training job.

    Attributes:
        training, relaxation: hours.
        n_updates: of all trainings.
        device: in words.
        source: where the seconds of an update come from, in words.
    """

    training: float
    relaxation: float
    n_updates: int
    device: str
    source: str


def network(config: Mapping[str, Any], work: Workload) -> Network:
    """Predict the time of the network's jobs from a training in the study's results, or else from a rough figure."""
    golf, training = config["golf"], config["training"]
    trained = trained_arms(config)
    initial = training["updates"] if trained and not config["nnp"]["initial"] else 0
    updates = initial + further_updates(config) * len(trained)  # as many for each arm
    update = update_time(config, float(work.training_atoms.mean()))
    per_update = update.seconds
    # A force evaluation is about a third of an update: no weights are differentiated.
    selected = 0
    for arm in chosen_arms(config, Chosen.IN_ROUNDS):
        each = golf["max_steps"] * golf["iterations_per_step"] if arm.is_control else EVALUATIONS_PER_SELECTION
        selected += budget_of(config, arm.name) * each
    tested = len(network_arms(config)) * len(work.test) * config["relaxation"]["max_iterations"]
    relaxation = (selected + tested) * per_update / training["batch_size"] / 3
    return Network(
        training=updates * per_update / 3600,
        relaxation=relaxation / 3600,
        n_updates=updates,
        device=update.device,
        source=f"{per_update:.2g} s an update, {update.source}",
    )


@dataclass(frozen=True)
class UpdateTime:
    """Seconds of a training update, with the device and the source of the figure in words."""

    seconds: float
    device: str
    source: str
    measured: bool


def update_time(config: Mapping[str, Any], n_atoms: float) -> UpdateTime:
    """Return the time of a training update: measured in the study's results, or else a rough figure.

    Args:
        n_atoms: of a molecule, on average.
    """
    on_gpu = _on_gpu(config["resources"]["device"])
    device = "GPU" if on_gpu else f"{config['resources']['train_threads']} core(s)"
    measured = _measured_update(Path(config["results_dir"]))
    if measured is not None:
        return UpdateTime(measured[0], device, f"measured in {measured[1]}", measured=True)
    seconds = GPU_SECONDS_PER_UPDATE if on_gpu else _cpu_seconds(config, n_atoms)
    source = f"a rough figure for {'a GPU, not measured' if on_gpu else 'one or two cores'}"
    return UpdateTime(seconds, device, source, measured=False)


def _on_gpu(device: str) -> bool:
    return device == "cuda" or (device == "auto" and any(Path("/dev").glob("nvidia[0-9]*")))


def _cpu_seconds(config: Mapping[str, Any], n_atoms: float) -> float:
    size = (config["nnp"]["n_atom_basis"] / 128) ** 2 * config["nnp"]["n_interactions"] / 3 * n_atoms / 36
    return CPU_SECONDS_PER_UPDATE * size * config["training"]["batch_size"]


def _measured_update(results: Path) -> tuple[float, Path] | None:
    """Return the seconds of an update from the last row of the newest training's metrics, and that file."""
    found = results.glob(f"{GOLF.folder}/*/metrics.csv")
    rounds = {int(path.parent.name): path for path in found if path.parent.name.isdigit()}
    for path in [
        *(rounds[r] for r in sorted(rounds, reverse=True)),
        (results / BASELINE_MODEL).with_name("metrics.csv"),
    ]:
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            try:
                if rows and float(rows[-1]["seconds"]) > 0:
                    return float(rows[-1]["seconds"]) / int(rows[-1]["step"]), path
            except (ValueError, TypeError):  # a row that is being written, or was cut off
                continue
    return None


def jobs_at_once(config: Mapping[str, Any], cores: int) -> int:
    """Return the number of label jobs that fit on `cores` processors."""
    resources = config["resources"]
    return max(1, cores // (resources["label_processes"] * resources["label_threads"]))


def duration(hours: float) -> str:
    """Write a time in minutes, hours or days."""
    minutes = math.ceil(hours * 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours / 24:.1f} days"
