"""Where DFT labels went, what they cost and why some are missing, from the columns of the labels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golf.conformations import Status
from golf.hdf5 import read_columns
from golf.labeling import without_label

_COLUMNS = ("status", "message", "wall_seconds", "recovery", "n_force_evaluations")
_LONGEST_MESSAGE = 160


@dataclass(frozen=True)
class LabelStage:
    """A stage that labels conformations, or optimizes them with DFT.

    Attributes:
        name: for people.
        labels: the stage's merged file.
        asked: what the stage was given; its labels came with the data, the others were computed.
        of_gradients: optimizations, whose conformations have many gradients each.
    """

    name: str
    labels: str | Path
    asked: str | Path
    of_gradients: bool = False


@dataclass(frozen=True)
class StageCost:
    """What one stage asked of DFT. Seconds are wall time of the oracle's processes; counts are conformations."""

    name: str
    n: int
    n_given: int
    n_computed: int
    n_unusable: int
    seconds: float
    n_gradients: int
    outcomes: Counter[tuple[str, str]]  # (status, message) of what is not usable
    recoveries: Counter[str]

    def core_hours(self, threads: int) -> float:
        """Hours of its processes with so many threads each."""
        return self.seconds * threads / 3600


def cost_of(stage: LabelStage) -> StageCost:
    """What a stage cost.

    Raises:
        UserError: a file of the stage cannot be read.
    """
    columns, _ = read_columns(stage.labels, *(f"conformation/{name}" for name in _COLUMNS))
    values = {name.removeprefix("conformation/"): column for name, column in columns.items()}
    computed = without_label(stage.asked)  # in the same order
    status = values["status"]
    computed &= status != Status.NOT_COMPUTED  # a relaxation that blew up has no end to label
    unusable = np.flatnonzero(status != Status.OK)
    messages = values.get("message", np.full(len(status), ""))
    gradients = values["n_force_evaluations"][computed].sum() if stage.of_gradients else computed.sum()
    words = values.get("recovery", np.full(len(status), ""))[computed]
    return StageCost(
        name=stage.name,
        n=len(status),
        n_given=len(status) - int(without_label(stage.asked).sum()),
        n_computed=int(computed.sum()),
        n_unusable=len(unusable),
        seconds=float(np.nansum(values["wall_seconds"][computed])),
        n_gradients=int(gradients),
        outcomes=Counter((word_of(status[i]), shortened(messages[i])) for i in unusable),
        recoveries=Counter(str(word) for word in words if word),
    )


def failures(stages: Sequence[StageCost]) -> list[tuple[str, str, str, int]]:
    """(stage, status, message, conformations) of what is not usable, the most frequent first."""
    lines = [(stage.name, *reason, n) for stage in stages for reason, n in stage.outcomes.items()]
    return sorted(lines, key=lambda line: (-line[-1], *line[:3]))


def recoveries(stages: Sequence[StageCost]) -> list[tuple[str, int]]:
    """(step of the SCF ladder, labels that it made converge), the most frequent first."""
    return sum((stage.recoveries for stage in stages), Counter[str]()).most_common()


def job_hours(benchmarks: str | Path, patterns: Sequence[str]) -> float:
    """Wall hours of jobs, by Snakemake's benchmark files of the given patterns."""
    seconds = 0.0
    for pattern in patterns:
        for path in sorted(Path(benchmarks).glob(pattern)):
            with open(path, newline="") as stream:
                seconds += sum(float(row["s"]) for row in csv.DictReader(stream, delimiter="\t"))
    return seconds / 3600


def word_of(status: int) -> str:
    """A status in words."""
    return Status(status).name.lower().replace("_", " ")


def shortened(message: object) -> str:
    """A message as one line that is not too long."""
    text = " ".join(str(message).split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 3]}..."
