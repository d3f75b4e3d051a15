"""Count the DFT labels of each stage, their cost and the reasons for failures, from the columns of the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golf.core.conformations import Status
from golf.core.hdf5 import read_columns
from golf.core.wording import shortened

_COLUMNS = ("status", "message", "wall_seconds", "recovery", "n_force_evaluations")
LONGEST_MESSAGE = 160


@dataclass(frozen=True)
class LabelStage:
    """A stage that labels conformations, or optimizes them with DFT.

    Attributes:
        name: title of the stage in the report.
        labels: merged file of the stage's labels.
        known: file of conformations; labels in it came with the data, all others were computed.
        of_gradients: whether the stage runs optimizations, with many gradients per conformation.
    """

    name: str
    labels: str | Path
    known: str | Path
    of_gradients: bool = False


@dataclass(frozen=True)
class StageCost:
    """The DFT calculations of one stage; seconds are wall time of the oracle's processes, counts are conformations."""

    name: str
    n: int
    n_given: int
    n_computed: int
    n_unusable: int
    seconds: float
    n_gradients: int
    outcomes: Counter[tuple[str, str]]  # (status, message) of unusable labels
    recoveries: Counter[str]

    def core_hours(self, threads: int) -> float:
        """Return the core-hours of the stage's processes with `threads` threads each."""
        return self.seconds * threads / 3600


def cost_of(stage: LabelStage) -> StageCost:
    """Count the labels of a stage and their cost.

    Raises:
        UserError: a file of the stage cannot be read.
    """
    columns, _ = read_columns(stage.labels, "conformation/id", *(f"conformation/{name}" for name in _COLUMNS))
    values = {name.removeprefix("conformation/"): column for name, column in columns.items()}
    status, known = values["status"], _labelled(stage.known)
    given = np.array([name in known for name in values["id"]], dtype=np.bool_)
    computed = ~given & (status != Status.NOT_COMPUTED)  # a relaxation that blew up has no end to label
    unusable = np.flatnonzero(status != Status.OK)
    messages = values.get("message", np.full(len(status), ""))
    gradients = values["n_force_evaluations"][computed].sum() if stage.of_gradients else computed.sum()
    words = values.get("recovery", np.full(len(status), ""))[computed]
    return StageCost(
        name=stage.name,
        n=len(status),
        n_given=int(given.sum()),
        n_computed=int(computed.sum()),
        n_unusable=len(unusable),
        seconds=float(np.nansum(values["wall_seconds"][computed])),
        n_gradients=int(gradients),
        outcomes=Counter((word_of(status[i]), shortened(messages[i], LONGEST_MESSAGE)) for i in unusable),
        recoveries=Counter(str(word) for word in words if word),
    )


def _labelled(path: str | Path) -> set[str]:
    """Return the ids of the conformations of a file for which a label was computed, failed ones included."""
    columns, _ = read_columns(path, "conformation/id", "conformation/status")
    ids = columns["conformation/id"]
    if "conformation/status" not in columns:
        return set()
    return set(ids[columns["conformation/status"] != Status.NOT_COMPUTED].tolist())


def failures(stages: Sequence[StageCost]) -> list[tuple[str, str, str, int]]:
    """Return (stage, status, message, number of conformations) of unusable labels, the most frequent first."""
    lines = [(stage.name, *reason, n) for stage in stages for reason, n in stage.outcomes.items()]
    return sorted(lines, key=lambda line: (-line[-1], *line[:3]))


def recoveries(stages: Sequence[StageCost]) -> list[tuple[str, int]]:
    """Return (step of the SCF recovery ladder, number of labels that converged with it), the most frequent first."""
    return sum((stage.recoveries for stage in stages), Counter[str]()).most_common()


def word_of(status: int) -> str:
    """Return a status in words."""
    return Status(status).name.lower().replace("_", " ")
