"""The arms that a study can compare: one table, read by the configuration, the workflow, the tables and the figures.

A new control arm is one entry here and one rule (docs/extending.md). `golf.study.arms` says which of them a study has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from golf.core.errors import UserError


class Chosen(Enum):
    """How the conformations are chosen that an arm's network is trained on besides the initial labels."""

    NOT = "not"
    """It chooses none: it is trained on the initial labels alone, or has no network."""
    IN_ROUNDS = "in rounds"
    """Round after round along relaxations with the network as it is then; files in FOLDER/ROUND/."""
    ONCE = "once"
    """One selection, in FOLDER/selected.h5."""
    BY_DFT = "by DFT"
    """The gradients of DFT optimizations from FOLDER/starts.h5."""


@dataclass(frozen=True)
class Arm:
    """A way to relax the test set.

    Attributes:
        name: in the configuration, file names and tables.
        title: what it is, as the report says it.
        color, marker: in figures (Okabe and Ito's colors, which color-blind readers can tell apart).
        network: whether a network relaxes.
        chosen: how its labels are chosen.
        folder: of its labels and models in the results.
        budget: description of the key controls.NAME_labels; "": no control arm.
    """

    name: str
    title: str
    color: str
    marker: str
    network: bool = True
    chosen: Chosen = Chosen.NOT
    folder: str = ""
    budget: str = ""

    @property
    def is_control(self) -> bool:
        """Whether its labels are chosen without failure detection, with a budget of their own."""
        return bool(self.budget)


GOLF = Arm("golf", "the network after all rounds", "#0072B2", "o", chosen=Chosen.IN_ROUNDS, folder="rounds")

BASELINE = Arm("baseline", "the same network and number of updates, trained on D_0 alone", "#D55E00", "^")

_TABLE = (
    Arm("mmff", "RDKit's MMFF minimization, no network", "#000000", "s", network=False),
    BASELINE,
    GOLF,
    Arm(
        "random",
        "as golf, but with randomly drawn geometries of relaxations",
        "#CC79A7",
        "P",
        chosen=Chosen.IN_ROUNDS,
        folder="random",
        budget="Labels of arm random, whose rounds draw geometries of relaxations at random; null - as many as golf.",
    ),
    Arm(
        "rdkit",
        "trained on randomly drawn geometries of MMFF minimizations instead",
        "#E69F00",
        "v",
        chosen=Chosen.ONCE,
        folder="rdkit",
        budget="Labels of arm rdkit, drawn at random from MMFF minimizations; null - as many as golf.",
    ),
    Arm(
        "traj",
        "trained on gradients of DFT optimizations instead",
        "#009E73",
        "D",
        chosen=Chosen.BY_DFT,
        folder="traj",
        budget="Labels of arm traj, gradients of DFT optimizations of training conformations; null - as many as golf.",
    ),
)

ARMS: dict[str, Arm] = {arm.name: arm for arm in _TABLE}
"""By name, in the order of the documentation."""

CONTROLS: tuple[str, ...] = tuple(arm.name for arm in _TABLE if arm.is_control)
"""Names of the arms whose labels are chosen without failure detection."""

# For arms with names of their own: Okabe and Ito's last color and Tol's muted ones.
_FURTHER_STYLES = (
    ("#56B4E9", "X", "--"),
    ("#882255", "<", "--"),
    ("#999933", ">", "--"),
    ("#332288", "h", "--"),
    ("#44AA99", "d", "--"),
    ("#661100", "p", "--"),
)


def arm_named(name: str) -> Arm:
    """Return the arm of that name.

    Raises:
        UserError: there is none.
    """
    if name not in ARMS:
        raise UserError(f"unknown arm {name!r}; use one of {', '.join(ARMS)}")
    return ARMS[name]


def styles(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Return color, marker and line style of each arm: fixed for those of the table, by alphabet for the others."""
    names = list(dict.fromkeys(names))
    others = sorted(name for name in names if name not in ARMS)
    return {
        name: (ARMS[name].color, ARMS[name].marker, "-")
        if name in ARMS
        else _FURTHER_STYLES[others.index(name) % len(_FURTHER_STYLES)]
        for name in names
    }
