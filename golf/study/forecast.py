"""Predict the time of labels, scaled by measured wall times, and the minutes that a job requests.

Snakemake calls this once for every job of a study, so that what is read is cached.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.files import suffix_of
from golf.core.hdf5 import read_columns
from golf.core.level import LevelOfTheory
from golf.io.formats import GOLF, SUFFIXES, format_of
from golf.oracles.costs import Basis, label_costs, longest_wall, n_gradients, pack, predicted_seconds, read_basis
from golf.oracles.journal import SUFFIX, entries
from golf.oracles.labeling import pending_costs
from golf.oracles.limits import limit_seconds
from golf.study.plan import level_of
from golf.study.stages import stages

logger = logging.getLogger(__name__)

START_MINUTES = 5.0
"""Time to load the environment, read the conformations and start Psi4 on a cold network file system."""

MARGIN = 2.0
"""Requested over predicted time of a job; doubled as long as no wall time has been measured."""

SAMPLED_FILES = 100
SAMPLED_BYTES = 1 << 18
"""Files of labels, and bytes of a journal, that are read for the median."""

RECALIBRATION_SECONDS = 600.0

Times = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Costs (`golf.oracles.costs.label_costs`) and wall seconds of labels."""


@dataclass(frozen=True)
class Model:
    """Seconds of a label in one oracle process with the configured number of threads.

    Attributes:
        scale: seconds per microsecond of `golf.oracles.costs.label_costs`.
        source: where the scale comes from, in words.
        n_measured: wall times that it is the median of; 0: the prediction as it is.
    """

    scale: float
    source: str
    n_measured: int = 0

    def seconds(self, costs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the predicted wall seconds of labels."""
        return costs.astype(np.float64) * self.scale


def calibrated(config: Mapping[str, Any], basis: Basis) -> Model:
    """Scale the prediction by the median ratio of measured to predicted time.

    The labels of this study count alone where there are any, since they are from its own machines; else those that came
    with the data (an .h5 of this project); else the prediction as it is, for the machine that it was fitted on.
    """
    results, train, level = Path(config["results_dir"]), config["dataset"]["train"], level_of(config)
    own = _together(_own_times(config, basis))
    if len(own[1]):
        return _scaled(own, f"{len(own[1])} wall times of labels in {results}")
    if Path(train).is_file() and suffix_of(train) in SUFFIXES and format_of(train) == GOLF:
        brought = _label_times(Path(train), level, basis)
        if len(brought[1]):
            return _scaled(brought, f"{len(brought[1])} wall times that came with {train}")
    scale = float(predicted_seconds(np.array([1]), level.method, config["resources"]["label_threads"])[0])
    words = "no wall times yet: fitted to Psi4 1.3.2 on one idle core, other machines may take half or twice"
    if level.program != "psi4":
        words += f", and {level.program} is not Psi4"
    return Model(scale, words)


def _scaled(times: Times, source: str) -> Model:
    costs, seconds = times
    return Model(float(np.median(seconds / costs)), source, len(costs))


def _together(parts: Iterator[Times]) -> Times:
    found = list(parts)
    empty: Times = (np.zeros(0, np.int64), np.zeros(0))
    return np.concatenate([empty[0], *(part[0] for part in found)]), np.concatenate([empty[1], *(p[1] for p in found)])


def _own_times(config: Mapping[str, Any], basis: Basis) -> Iterator[Times]:
    """Yield the times of the label stages, from the journals of incomplete batches."""
    results, level = Path(config["results_dir"]), level_of(config)
    for stage in stages(config).values():
        if stage.optimizes:
            continue
        batches = sorted((results / stage.folder).glob("*.h5"))
        for path in _sample(batches):
            yield _label_times(path, level, basis)
        complete = {path.stem for path in batches}
        found = sorted((results / stage.folder).glob(f"*{SUFFIX}"))
        journals = [path for path in found if path.name.removesuffix(SUFFIX) not in complete]
        if journals:
            yield _journal_times(_sample(journals), results / stage.conformations, level, basis)


def _sample(paths: Sequence[Path]) -> Sequence[Path]:
    return paths[:: max(1, len(paths) // SAMPLED_FILES)]


def _label_times(path: Path, level: LevelOfTheory, basis: Basis) -> Times:
    """Return the times of the labels of a file, if they have the right level of theory."""
    nothing: Times = (np.zeros(0, np.int64), np.zeros(0))
    names = ("atoms/number", "atoms/offset", "conformation/status", "conformation/wall_seconds")
    try:
        columns, attrs = read_columns(path, *names)
        if not level.matches(attrs) or not all(name in columns for name in names):
            return nothing
        costs = label_costs(columns["atoms/number"], columns["atoms/offset"], basis)
    except UserError as error:
        logger.warning("wall times are not used: %s", error)
        return nothing
    seconds = columns["conformation/wall_seconds"]
    good = (columns["conformation/status"] == Status.OK) & (seconds > 0)
    return costs[good], seconds[good]


def _journal_times(journals: Sequence[Path], conformations: Path, level: LevelOfTheory, basis: Basis) -> Times:
    """Return the times of the labels in journals; their conformations are looked up by id."""
    costs: list[int] = []
    seconds: list[float] = []
    try:
        columns, _ = read_columns(conformations, "atoms/number", "atoms/offset", "conformation/id")
        of_each = label_costs(columns["atoms/number"], columns["atoms/offset"], basis).tolist()
    except UserError as error:
        logger.warning("wall times are not used: %s", error)
        return np.zeros(0, np.int64), np.zeros(0)
    known = dict(zip(columns["conformation/id"].tolist(), of_each, strict=True))
    for path in journals:
        for entry in entries(path, SAMPLED_BYTES):
            if entry.status is Status.OK and entry.wall_seconds > 0 and entry.id in known:
                costs.append(known[entry.id])
                seconds.append(entry.wall_seconds)
    return np.array(costs, np.int64), np.array(seconds)


class JobTimes:
    """Predict the minutes that the label and optimization jobs of a study request."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._n_workers: int = config["resources"]["label_processes"]
        self._time_limit: float = config["oracle"]["time_limit"]
        self._factor: float = config["oracle"]["time_limit_factor"]
        self._model: Model | None = None
        self._next_calibration = 0.0

    def label_batch(self, conformations: str, oracle: str, batch: int, n_batches: int, attempt: int) -> int:
        """Return the minutes for a batch of labels; if its conformations cannot be read, those of a start.

        Raises:
            FileNotFoundError: a file is not there yet; Snakemake takes the time as yet to be determined.
        """
        changed = (_changed(conformations), _changed(oracle))
        try:
            return self._minutes(*_label_division(conformations, oracle, changed, n_batches)[batch], oracle, attempt)
        except UserError:  # the job says what is wrong, in one line; a forecast does not end the whole study
            return math.ceil(START_MINUTES)

    def optimization_batch(
        self, starts: str, known: str | None, oracle: str, batch: int, n_batches: int, attempt: int
    ) -> int:
        """Return the minutes for a batch of DFT optimizations. Raises as `label_batch` does."""
        changed = (_changed(starts), 0 if known is None else _changed(known), _changed(oracle))
        try:
            return self._minutes(
                *_optimization_division(starts, known, oracle, changed, n_batches)[batch], oracle, attempt
            )
        except UserError:
            return math.ceil(START_MINUTES)

    def _minutes(self, costs: NDArray[np.int64], repeats: NDArray[np.int64], oracle: str, attempt: int) -> int:
        model = self._calibrated(oracle)
        seconds: NDArray[np.float64] = np.minimum(model.seconds(costs), self._time_limit) * repeats
        wall = float(longest_wall(seconds, np.zeros(len(seconds), np.int64), 1, self._n_workers)[0])
        hang = limit_seconds(model.seconds(costs), self._factor, self._time_limit)
        return job_minutes(wall, model, attempt, float(hang.max(initial=0.0)))

    def _calibrated(self, oracle: str) -> Model:
        """Return `calibrated`, refreshed every few minutes, since thousands of jobs ask for it."""
        if self._model is None or time.monotonic() > self._next_calibration:
            self._model = calibrated(self._config, read_basis(oracle))
            self._next_calibration = time.monotonic() + RECALIBRATION_SECONDS
        return self._model


def job_minutes(wall_seconds: float, model: Model, attempt: int, hang_seconds: float) -> int:
    """Return the minutes to request for a job of a predicted wall time.

    Every further attempt asks for as much again, and leaves room for one conformation that hangs until its time limit:
    what was finished is in the journal, so only what stopped the attempt before is left.
    """
    margin = MARGIN if model.n_measured else 2 * MARGIN
    minutes = START_MINUTES + margin * wall_seconds / 60
    hang = hang_seconds / 60 if attempt > 1 else 0.0
    return math.ceil(attempt * minutes + hang)


def _changed(path: str) -> int:
    return os.stat(path).st_mtime_ns


Batches = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Of each batch: costs of its conformations' gradients, and the number of gradients of each."""


@lru_cache(maxsize=256)  # one for each stage: Snakemake goes through the jobs in no order of ours
def _label_division(conformations: str, oracle: str, changed: tuple[int, ...], n_batches: int) -> Batches:
    """Return the batches of a stage; `changed` is in the arguments so that each version of the files is cached."""
    _, costs = pending_costs(conformations, read_basis(oracle))
    return _divided(costs, np.ones_like(costs), n_batches)


@lru_cache(maxsize=2)
def _optimization_division(
    starts: str, known: str | None, oracle: str, changed: tuple[int, ...], n_batches: int
) -> Batches:
    """Return the batches of the optimizations that are not known."""
    columns, _ = read_columns(starts, "atoms/number", "atoms/offset", "conformation/id")
    have: Any = [] if known is None else read_columns(known, "conformation/id")[0]["conformation/id"].astype(str)
    left = ~np.isin(columns["conformation/id"].astype(str), have)
    costs = label_costs(columns["atoms/number"], columns["atoms/offset"], read_basis(oracle))[left]
    n = n_gradients(np.diff(columns["atoms/offset"]))[left]
    return _divided(costs, n, n_batches)


def _divided(costs: NDArray[np.int64], n: NDArray[np.int64], n_batches: int) -> Batches:
    bins = pack(costs * n, n_batches)
    order = np.argsort(bins, kind="stable")
    ends = np.searchsorted(bins[order], np.arange(1, n_batches))
    return list(zip(np.split(costs[order], ends), np.split(n[order], ends), strict=True))
