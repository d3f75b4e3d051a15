"""The parts of a study and the time each takes: labels, DFT optimizations, the network's jobs."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.oracles.costs import longest_wall, n_gradients, pack
from golf.study.config import WITHOUT_NETWORK
from golf.study.forecast import Model
from golf.study.plan import (
    arms_of,
    budget_of,
    controls_of,
    n_batches,
    n_trajectory_states,
    needs_training,
    trained_arms,
)
from golf.study.workload import Workload

CPU_SECONDS_PER_UPDATE = 0.005
"""Per molecule of a batch: 36 atoms, 128 features, 3 interactions, two cores; measured. Scaled to other networks."""

GPU_SECONDS_PER_UPDATE = 0.04
"""A rough figure for any batch on a GPU, where starting its many small kernels takes the time; not measured."""

EVALUATIONS_PER_SELECTION = 60
"""NNP force evaluations until a GOLF round has one conformation more; a rough figure."""


@dataclass(frozen=True)
class Part:
    """One kind of label or optimization of a study.

    Attributes:
        seconds: of each, in one oracle process.
        n_batches: jobs.
        stages: names of the stages that are like this, which come one after the other, and the folders of their
            batches in the results.
    """

    name: str
    seconds: NDArray[np.float64]
    n_batches: int
    stages: Sequence[tuple[str, str]]
    note: str = ""

    @property
    def repeat(self) -> int:
        """Times that all this comes."""
        return len(self.stages)

    @property
    def n(self) -> int:
        """Labels or optimizations in all."""
        return len(self.seconds) * self.repeat

    def core_hours(self, threads: int) -> float:
        """Of the oracle processes."""
        return float(self.seconds.sum()) * self.repeat * threads / 3600

    def wall_hours(self, n_workers: int, jobs: int) -> float:
        """With so many jobs at a time, each with `n_workers` processes; starts and queues not counted."""
        if not len(self.seconds):
            return 0.0
        whole = np.round(self.seconds * 1e6).astype(np.int64)
        batches = longest_wall(self.seconds, pack(whole, self.n_batches), self.n_batches, n_workers)
        return max(float(batches.sum()) / jobs, float(batches.max())) * self.repeat / 3600


def label_parts(config: Mapping[str, Any], work: Workload, model: Model) -> list[Part]:
    """All the DFT of a study, in the order in which it comes."""
    limit, size = config["oracle"]["time_limit"], _size(config)

    def seconds(costs: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.minimum(model.seconds(costs), limit)

    each = float(seconds(work.training).mean())  # of conformations that are not known yet
    golf, arms = config["golf"], arms_of(config)

    def alike(name: str, n: int, stages: Sequence[tuple[str, str]], note: str) -> Part:
        return Part(name, np.full(n, each), n_batches(n, size), stages, note)

    per_round, rounds = golf["labels_per_round"], golf["rounds"]
    parts = []
    if needs_training(config):
        initial = seconds(work.initial)
        parts.append(Part("initial labels", initial, n_batches(len(initial), size), _one("labels/initial")))
    if "golf" in arms:
        stages = [(f"round {r}", f"rounds/{r}/labels") for r in range(1, rounds + 1)]
        parts.append(alike("round labels", per_round, stages, f"{rounds} rounds of {per_round}"))
    for control in controls_of(config):
        parts.append(_control(config, control, work, alike))
    parts.append(
        Part(
            "DFT minima",
            seconds(work.references) * work.gradients,
            n_batches(len(work.references), config["evaluation"]["reference_batch_size"]),
            _one("evaluation/reference"),
            note=f"{int(work.gradients.sum())} gradients" if len(work.references) else "",
        )
    )
    tests = [(f"test, arm {arm}", f"evaluation/{arm}/labels") for arm in arms]
    parts.append(Part("test labels", seconds(work.test), n_batches(len(work.test), size), tests, " ".join(arms)))
    networks = [arm for arm in arms if arm not in WITHOUT_NETWORK]
    states = [(f"trajectories, {arm}", f"evaluation/{arm}/trajectory/labels") for arm in networks]
    if config["evaluation"]["trajectory_conformations"] and states:
        parts.append(
            alike(
                "trajectory states",
                n_trajectory_states(config, len(work.test)),
                states,
                "at most, along the test relaxations",
            )
        )
    return parts


def _one(folder: str) -> list[tuple[str, str]]:
    names = {"labels/initial": "initial labels", "evaluation/reference": "DFT minima"}
    return [(names.get(folder, folder), folder)]


def _control(config: Mapping[str, Any], control: str, work: Workload, alike: Callable[..., Part]) -> Part:
    """The labels of a control arm."""
    budget, rounds = budget_of(config, control), config["golf"]["rounds"]
    if control == "random":
        stages = [(f"random {r}", f"random/{r}/labels") for r in range(1, rounds + 1)]
        return alike("random labels", -(-budget // rounds), stages, f"{rounds} rounds, {budget} labels")
    if control == "rdkit":
        return alike("rdkit labels", budget, [("arm rdkit", "rdkit/labels")], "")
    per_optimization = float(n_gradients(work.training_atoms).mean()) - 1
    part = alike("traj gradients", math.ceil(budget / per_optimization), [("arm traj", "traj/optimizations")], "")
    note = f"{budget} gradients of DFT optimizations"
    return replace(part, seconds=part.seconds * per_optimization, n_batches=n_batches(budget, _size(config)), note=note)


def _size(config: Mapping[str, Any]) -> int:
    return config["oracle"]["batch_size"]


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
    """Time of the network's jobs: from a training in the study's results, else a rough figure."""
    golf, training = config["golf"], config["training"]
    of_rounds = golf["rounds"] * golf["labels_per_round"] * golf["updates_per_label"]
    arms, trained = arms_of(config), trained_arms(config)
    initial = training["updates"] if trained and not config["nnp"]["initial"] else 0
    updates = initial + of_rounds * len(trained)  # as many for each arm
    update = update_time(config, float(work.training_atoms.mean()))
    per_update = update.seconds
    # A force evaluation is about a third of an update: no weights are differentiated.
    selected = golf["rounds"] * golf["labels_per_round"] * EVALUATIONS_PER_SELECTION if "golf" in arms else 0
    if "random" in arms:
        selected += budget_of(config, "random") * golf["max_steps"] * golf["iterations_per_step"]
    tested = sum(arm not in WITHOUT_NETWORK for arm in arms) * len(work.test) * config["relaxation"]["max_iterations"]
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
    """Seconds of a training update, on what, and where that is known from (both in words)."""

    seconds: float
    device: str
    source: str
    measured: bool


def update_time(config: Mapping[str, Any], n_atoms: float) -> UpdateTime:
    """Time of an update: from a training in the study's results, else a rough figure.

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
    """Seconds of an update in the last row of a training's metrics, the newest training first."""
    found = results.glob("rounds/*/metrics.csv")
    rounds = {int(path.parent.name): path for path in found if path.parent.name.isdigit()}
    for path in [*(rounds[r] for r in sorted(rounds, reverse=True)), results / "models/baseline/metrics.csv"]:
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
    """Label jobs that fit on so many cores."""
    resources = config["resources"]
    return max(1, cores // (resources["label_processes"] * resources["label_threads"]))


def duration(hours: float) -> str:
    """A time as a person says it."""
    minutes = math.ceil(hours * 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours / 24:.1f} days"
