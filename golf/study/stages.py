"""The stages of a study that ask for DFT: one table, read by rules, estimate, forecast, status and report.

A stage labels conformations, or optimizes them, in batches of one job each. Its folder in the results has the batches,
K.h5, and their journals; the labels of all batches are merged into one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from golf.core.arms import ARMS, Chosen
from golf.core.errors import UserError
from golf.study.arms import (
    arms_of,
    budget_of,
    budget_of_round,
    needs_training,
    network_arms,
    rounds_of,
    trained_arms,
)
from golf.study.plan import NOT_COUNTED, Size, n_batches

STRUCTURES = "optimize"
"""Folder of the user's own structures."""

STRUCTURE_BATCHES = f"{STRUCTURES}/batches"
"""Folder of the stage that optimizes them."""


class Work(Enum):
    """What the conformations of a stage are, which decides what labels of them cost."""

    INITIAL = "training conformations without a label"
    SELECTED = "conformations that are not known yet"
    OPTIMIZATIONS = "DFT optimizations of training conformations"
    MINIMA = "DFT optimizations of test conformations"
    ENDS = "test conformations"
    STRUCTURES = "DFT optimizations of own structures"
    STATES = "states along test relaxations, not known yet"


@dataclass(frozen=True)
class Stage:
    """One stage. Paths are relative to the folder of the results.

    Attributes:
        folder: of its batches; the value of the wildcards `stage` and `optimizations` of the rules.
        title: for people, the same everywhere.
        group: title of the stages of its kind, of which `golf estimate` shows the sum.
        work: what is labelled.
        conformations: file of what is labelled or optimized.
        n: upper bound of the conformations; for the optimizations of a control, the number of gradients wanted.
        n_batches: jobs.
        labels: file of the labels, or minima, of all batches.
        known: file with those that came with the data, if it is not `conformations`.
    """

    folder: str
    title: str
    group: str
    work: Work
    conformations: str
    n: int
    n_batches: int
    labels: str
    known: str = ""

    @property
    def optimizes(self) -> bool:
        """Whether its jobs are DFT optimizations, with many gradients for each conformation."""
        return self.work in (Work.OPTIMIZATIONS, Work.MINIMA, Work.STRUCTURES)

    @property
    def gives_gradients(self) -> bool:
        """Whether a conformation of `labels` is an optimization, with the gradients that it took."""
        return self.work in (Work.MINIMA, Work.STRUCTURES)

    @property
    def given(self) -> str:
        """File in which those that came with the data have their labels or minima."""
        return self.known or self.conformations


def stages(config: Mapping[str, Any], size: Size = NOT_COUNTED) -> dict[str, Stage]:
    """Return the stages of a study by their folders, in the order in which they come.

    Args:
        config: validated.
        size: upper bounds; without them `n` and `n_batches` of some stages are 0.
    """
    return {stage.folder: stage for stage in _stages(config, size)}


def stage_at(found: Mapping[str, Stage], folder: str) -> Stage:
    """Return the stage of a folder.

    Raises:
        UserError: the study has no such stage.
    """
    if folder not in found:
        raise UserError(f"unknown stage {folder!r}; this study has {', '.join(found)}")
    return found[folder]


def _stages(config: Mapping[str, Any], size: Size) -> Iterator[Stage]:
    if needs_training(config):
        n = size.initial_labels
        yield _stage(config, "labels/initial", "initial labels", Work.INITIAL, "dataset/train.h5", n)
    yield from _chosen(config)
    minima = _stage(config, "evaluation/reference", "DFT minima", Work.MINIMA, "dataset/test.h5", size.references)
    jobs = n_batches(size.references, config["evaluation"]["reference_batch_size"])
    yield replace(minima, n_batches=jobs, known="dataset/reference.h5")
    if config["optimize"]["input"]:
        n, path = size.structures, f"{STRUCTURES}/starts.h5"
        own = _stage(config, STRUCTURE_BATCHES, "own structures", Work.STRUCTURES, path, n)
        jobs = n_batches(n, config["evaluation"]["reference_batch_size"])
        yield replace(own, n_batches=jobs, labels=f"{STRUCTURES}/minima.h5")
    for arm in arms_of(config):
        folder, title, n = f"evaluation/{arm}", f"ends of {arm}", size.test_conformations
        yield _stage(config, f"{folder}/labels", title, Work.ENDS, f"{folder}/relaxed.h5", n, "test labels")
    n = n_trajectory_states(config, size.test_conformations)
    for arm in trajectory_arms(config):
        folder, title = f"evaluation/{arm}/trajectory", f"trajectories of {arm}"
        yield _stage(config, f"{folder}/labels", title, Work.STATES, f"{folder}/states.h5", n, "trajectory states")


def _stage(
    config: Mapping[str, Any], folder: str, title: str, work: Work, conformations: str, n: int, group: str = ""
) -> Stage:
    """Make a stage with the batch size of labels, whose merged file has the name of its folder."""
    jobs = n_batches(n, config["oracle"]["batch_size"])
    return Stage(folder, title, group or title, work, conformations, n, jobs, f"{folder}.h5")


def _chosen(config: Mapping[str, Any]) -> Iterator[Stage]:
    """The labels that arms choose: golf's rounds, then those of the controls as the configuration lists them."""
    names = [arm for arm in trained_arms(config) if ARMS[arm].chosen is not Chosen.NOT]
    for arm in sorted((ARMS[name] for name in names), key=lambda arm: arm.is_control):
        name = f"{arm.name} " if arm.is_control else ""
        if arm.chosen is Chosen.IN_ROUNDS:
            for r in rounds_of(config, arm):
                folder, n = f"{arm.folder}/{r}", budget_of_round(config, arm, r)
                title, path, group = f"{name}round {r}", f"{folder}/selected.h5", f"{name or 'round '}labels"
                yield _stage(config, f"{folder}/labels", title, Work.SELECTED, path, n, group)
            continue
        n, title = budget_of(config, arm.name), f"arm {arm.name}"
        if arm.chosen is Chosen.ONCE:
            path = f"{arm.folder}/selected.h5"
            yield _stage(config, f"{arm.folder}/labels", title, Work.SELECTED, path, n, f"{name}labels")
        else:
            folder, path = f"{arm.folder}/optimizations", f"{arm.folder}/starts.h5"
            stage = _stage(config, folder, title, Work.OPTIMIZATIONS, path, n, f"{name}gradients")
            yield replace(stage, labels=f"{arm.folder}/labels.h5")


def trajectory_arms(config: Mapping[str, Any]) -> list[str]:
    """Return the arms along whose test relaxations states are labelled."""
    return network_arms(config) if config["evaluation"]["trajectory_conformations"] else []


def n_trajectory_states(config: Mapping[str, Any], n_test: int) -> int:
    """Return how many states along an arm's test relaxations are labelled, at most; their ends are labelled anyway."""
    evaluation = config["evaluation"]
    return min(evaluation["trajectory_conformations"], n_test) * len(evaluation["trajectory_steps"])
