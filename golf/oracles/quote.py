"""Say before a computation which elements its level covers and how long it will take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet
from golf.core.elements import SYMBOLS
from golf.core.level import LevelOfTheory
from golf.oracles.costs import Basis, label_costs, n_gradients, predicted_seconds
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.registry import program


def ask_basis(level: LevelOfTheory, numbers: Sequence[int], python: str | None = None) -> Basis:
    """Ask the program which of these elements the level covers, and with how many basis functions.

    Raises:
        UserError: the program is unknown, not found or does not start, or covers none of the elements.
    """
    with OraclePool(level, python=python) as oracle:
        return oracle.basis(numbers)


def not_covered(conformations: ConformationSet, level: LevelOfTheory, basis: Basis) -> list[str]:
    """Return for each conformation which of its elements the level does not cover, in words; "" if it covers all."""
    reasons = []
    for i in range(len(conformations)):
        foreign = sorted(set(conformations.number[conformations.rows(i)].tolist()) - basis.functions.keys())
        symbols = " ".join(SYMBOLS[number] for number in foreign)
        reasons.append(f"{level} does not cover {symbols}" if foreign else "")
    return reasons


def cpu_minutes(conformations: ConformationSet, level: LevelOfTheory, basis: Basis) -> NDArray[np.float64] | None:
    """Predict the processor minutes of a label of each conformation [N]; None for calculators of ASE.

    Raises:
        UserError: the basis set lacks an element.
    """
    if not any(basis.functions.values()):
        return None
    costs = label_costs(conformations.number, conformations.offset, basis)
    return predicted_seconds(costs, level.method, 1) / 60.0


def quoted_labels(conformations: ConformationSet, level: LevelOfTheory, basis: Basis, n_workers: int) -> str:
    """Describe the cost of labels in words."""
    return _in_words(cpu_minutes(conformations, level, basis), level, n_workers)


def quoted_minima(conformations: ConformationSet, level: LevelOfTheory, basis: Basis, n_workers: int) -> str:
    """Describe in words what optimizations cost at most: started from ETKDG geometries (`costs.n_gradients`)."""
    each = cpu_minutes(conformations, level, basis)
    minutes = None if each is None else each * n_gradients(conformations.n_atoms)
    words = _in_words(minutes, level, n_workers)
    return words if minutes is None else f"at most {words}"


def _in_words(minutes: NDArray[np.float64] | None, level: LevelOfTheory, n_workers: int) -> str:
    if minutes is None:
        return f"the time that {program(level.program).name} takes for {level.method} is not predicted"
    total = float(minutes.sum())
    used = max(1, min(n_workers, len(minutes)))
    wall = max(total / used, float(minutes.max(initial=0.0)))
    return f"about {_minutes(total)} of processor time, {_minutes(wall)} with {used} process{'es' if used > 1 else ''}"


def _minutes(value: float) -> str:
    if value < 1.0:
        return f"{max(value * 60.0, 1.0):.0f} s"
    return f"{value:.0f} minutes" if value < 180.0 else f"{value / 60.0:.0f} hours"
