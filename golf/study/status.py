"""Write how far a study is and what is left, from its files: the text of `golf status`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golf.core.arms import ARMS, GOLF, Chosen
from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.hdf5 import read_columns
from golf.core.labels import without_label
from golf.evaluation.hours import hours_spent
from golf.oracles.journal import SUFFIX, entries
from golf.oracles.settings import processes_on
from golf.study.arms import (
    BASELINE_MODEL,
    chosen_arms,
    further_updates,
    model_of,
    model_of_round,
    needs_training,
    rounds_of,
    trained_arms,
    updates_per_round,
)
from golf.study.budget import Network, Part, duration, jobs_at_once, label_parts, network
from golf.study.forecast import calibrated
from golf.study.plan import level_of
from golf.study.stages import Stage, Work
from golf.study.workload import basis_of, workload

CLEAR = "\x1b[H\x1b[2J"
"""ANSI sequence that clears the screen."""


@dataclass
class Progress:
    """Progress of one stage.

    Attributes:
        total: conformations to be computed, as planned while their file is not there yet.
        outcomes: labels or optimizations by status.
        seconds: wall seconds of the oracle's processes.
        gradients, seconds_in_hand: in the journals of optimizations that are not written yet.
        done: the stage's file is there.
    """

    name: str
    total: int
    outcomes: Counter[Status] = field(default_factory=Counter)
    seconds: float = 0.0
    gradients: int = 0
    seconds_in_hand: float = 0.0
    done: bool = False

    @property
    def n_done(self) -> int:
        """Number of finished conformations, failed ones included."""
        return sum(self.outcomes.values())

    @property
    def state(self) -> str:
        """Done, begun or to come."""
        return (
            "done" if self.done and self.n_done >= self.total else "begun" if self.n_done or self.seconds else "to come"
        )


def progress_of(stage: Stage, results: Path, planned: int) -> Progress:
    """Read the progress of a stage from its merged file, or else from its batches and journals.

    Attempts that crashed or timed out and were repeated count as time spent as long as the stage is not merged.

    Args:
        planned: conformations, as long as their file is not there yet.

    Raises:
        UserError: a file cannot be read.
    """
    progress = Progress(stage.title, planned)
    folder, conformations = results / stage.folder, results / stage.conformations
    batches = sorted(folder.glob("*.h5"))
    progress.done = (results / stage.labels).is_file()
    if stage.work in (Work.OPTIMIZATIONS, Work.STRUCTURES) and conformations.is_file():
        progress.total = len(read_columns(conformations, "conformation/charge")[0]["conformation/charge"])
    if progress.done and not stage.optimizes:
        _count_merged(progress, results / stage.labels, conformations)
    else:
        for path in batches:
            columns, _ = read_columns(path, "conformation/status", "conformation/wall_seconds")
            progress.outcomes.update(map(Status, columns["conformation/status"].tolist()))
            progress.seconds += float(columns["conformation/wall_seconds"].sum())
    if not progress.done:
        complete = {path.stem for path in batches}
        for journal in folder.glob(f"*{SUFFIX}"):
            if journal.name.removesuffix(SUFFIX) not in complete:
                _count_journal(progress, journal, stage.optimizes)
        if not stage.optimizes and conformations.is_file():
            progress.total = int(without_label(conformations).sum())
    return progress


def _count_merged(progress: Progress, merged: Path, conformations: Path) -> None:
    columns, _ = read_columns(merged, "conformation/status", "conformation/wall_seconds")
    paid = without_label(conformations)  # in the same order; the other labels came with the data
    progress.total = int(paid.sum())
    progress.outcomes.update(map(Status, columns["conformation/status"][paid].tolist()))
    progress.seconds += float(columns["conformation/wall_seconds"][paid].sum())


def _count_journal(progress: Progress, journal: Path, of_gradients: bool) -> None:
    last: dict[str, Status] = {}
    for entry in entries(journal):
        last[entry.key] = entry.status
        progress.seconds += entry.wall_seconds
        progress.seconds_in_hand += entry.wall_seconds if of_gradients else 0.0
    if of_gradients:
        progress.gradients += len(last)
    else:
        progress.outcomes.update(last.values())


def status(config: Mapping[str, Any], cores: int) -> str:
    """Return stages, labels by outcome, time spent and a forecast of the rest, for people; without a final newline.

    Args:
        config: validated.
        cores: processors for the forecast of the remaining wall time.

    Raises:
        UserError: a file cannot be read, or nothing has been computed and the oracle cannot be found.
    """
    return _table(config, cores)[0]


def watch(config: Mapping[str, Any], cores: int, interval: float) -> None:
    """Redraw the status on a terminal until the study is done.

    A file that cannot be read at the moment is reported in its place.

    Args:
        interval: seconds between two drawings.
    """
    while True:
        try:
            text, finished = _table(config, cores)
        except UserError as error:  # a file may be replaced while it is looked for
            text, finished = str(error), False
        now = time.strftime("%H:%M:%S")
        print(f"{CLEAR}{text}\n{now}, {'done' if finished else f'every {interval:g} s, Ctrl-C to leave'}", flush=True)
        if finished:
            return
        time.sleep(interval)


def _table(config: Mapping[str, Any], cores: int) -> tuple[str, bool]:
    """Return the text of the status and whether the study is done."""
    resources = config["resources"]
    threads, n_workers = resources["label_threads"], processes_on(config, cores)
    basis, _ = basis_of(config)
    work = workload(config, basis)
    model = calibrated(config, basis)
    parts, net = label_parts(config, work, model), network(config, work)
    planned = [(stage, part) for part in parts for stage in part.stages]
    results = Path(config["results_dir"])
    stages = [progress_of(stage, results, len(part.seconds)) for stage, part in planned]
    left = [_seconds_left(stage, part) for stage, (_, part) in zip(stages, planned, strict=True)]
    jobs = jobs_at_once(config, cores)
    lines = [f"{config['results_dir']}: {level_of(config)}", ""]
    width = max(24, 2 + max(len(stage.name) for stage in stages))
    lines.append(f"{'':<{width}}{'':<9}{'done':>15}{'core-hours':>12}{'left':>9}  not ok")
    for stage, seconds in zip(stages, left, strict=True):
        hours, rest = (x * threads / 3600 for x in (stage.seconds, seconds))
        lines.append(
            f"{stage.name:<{width}}{stage.state:<9}{f'{stage.n_done} of {stage.total}':>15}{hours:>12.2f}{rest:>9.2f}  "
            f"{_words(stage)}".rstrip()
        )
    spent, rest = (sum(x) * threads / 3600 for x in ([stage.seconds for stage in stages], left))
    n_done, total = sum(stage.n_done for stage in stages), sum(stage.total for stage in stages)
    lines.append(f"{'sum':<{width}}{'':<9}{f'{n_done} of {total}':>15}{spent:>12.2f}{rest:>9.2f}")
    wall = sum(left) / (3600 * n_workers * jobs)
    lines += ["", _network_line(config, net)]
    lines.append(f"Labels left: about {duration(wall)} with {jobs} job(s) of {n_workers} process(es) on {cores} cores")
    lines.append(f"Forecast from {model.source}")
    summary = Path(config["results_dir"]) / "evaluation/summary.csv"
    return "\n".join(lines), all(stage.done for stage in stages) and summary.is_file()


def _seconds_left(stage: Progress, part: Part) -> float:
    """Predict the seconds left of a stage by the mean of its part, less the gradients of unfinished optimizations."""
    if stage.done or not len(part.seconds):
        return 0.0
    each = float(part.seconds.mean())
    return max(0.0, (stage.total - stage.n_done) * each - stage.seconds_in_hand)


def _words(stage: Progress) -> str:
    failed = [f"{word.name.lower()} {n}" for word, n in sorted(stage.outcomes.items()) if word is not Status.OK]
    return ", ".join([*failed, *([f"{stage.gradients} gradients in hand"] if stage.gradients else [])])


def _network_line(config: Mapping[str, Any], net: Network) -> str:
    """Describe what has been trained, the time of the network's jobs so far (starts included), and what is left."""
    if not needs_training(config):
        return "Nothing to train: no arm relaxes with a network of this study"
    results, rounds = Path(config["results_dir"]), config["golf"]["rounds"]
    has_baseline = (results / BASELINE_MODEL).is_file()
    own = 0 if config["nnp"]["initial"] else config["training"]["updates"]
    n_updates, n_trained = has_baseline * own, 0
    for arm in chosen_arms(config, Chosen.IN_ROUNDS):
        n_models = sum((results / model_of_round(r, arm.folder)).is_file() for r in rounds_of(config, arm))
        n_updates += n_models * updates_per_round(config)
        n_trained += n_models if arm is GOLF else 0
    for name in trained_arms(config):
        if rounds and ARMS[name].chosen is not Chosen.IN_ROUNDS and (results / model_of(config, name)).is_file():
            n_updates += further_updates(config)
    golf_rounds = len(rounds_of(config, GOLF))
    spent = sum(hours_spent(results / "benchmarks").values())
    left = net.training * max(0.0, 1 - n_updates / max(1, net.n_updates))
    return (
        f"Baseline {'trained' if has_baseline else 'to come'}, {n_trained} of {golf_rounds} rounds trained; training "
        f"and relaxations {spent:.2f} h so far, {left:.2f} h of training left on {net.device} ({net.source})"
    )
