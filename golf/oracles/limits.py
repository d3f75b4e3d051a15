"""Time limits of labels: a multiple of the predicted time, so that a label that hangs does not hold up its job."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from golf.core.level import LevelOfTheory
from golf.oracles.costs import METHODS, Basis, label_costs, predicted_seconds
from golf.oracles.programs.protocol import Request

LEAST_SECONDS = 600.0
"""No limit is shorter: waiting this long for a small molecule that hangs costs little."""

ENOUGH = 3
"""Number of measured labels needed to predict times of a method that the cost model was not fitted to."""


def limit_seconds(predicted: NDArray[np.float64], factor: float, most: float) -> NDArray[np.float64]:
    """Return the time limit in seconds for labels of these predicted times [N].

    Args:
        factor: multiple of the prediction (`oracle.time_limit_factor`).
        most: upper bound (`oracle.time_limit`).
    """
    return np.minimum(np.maximum(factor * predicted, LEAST_SECONDS), most)


class TimeLimits:
    """The time limit of each conformation, safe to use from several threads.

    The prediction (golf/oracles/costs.py) is for an idle machine; if labels of this job take longer, their median ratio
    scales it. For methods and keywords that it was not fitted to, the limit is `most` until `ENOUGH` labels have been
    measured.

    Args:
        threads: number of threads of an oracle process.
        factor, most: see `limit_seconds`.
    """

    def __init__(self, level: LevelOfTheory, basis: Basis, *, threads: int, factor: float, most: float) -> None:
        self._method, self._basis, self._threads = level.method, basis, threads
        self._factor, self._most = factor, most
        self._is_known = level.program != "ase" and level.method.lower() in METHODS and not level.keywords
        self._ratios: list[float] = []
        self._lock = threading.Lock()

    def predicted(self, request: Request) -> float:
        """Predict the seconds of a label on the machine of the fit."""
        costs = label_costs(request.numbers, np.array([0, len(request.numbers)]), self._basis)
        return float(predicted_seconds(costs, self._method, self._threads)[0])

    def learn(self, request: Request, seconds: float) -> None:
        """Add the measured time of a label."""
        ratio = seconds / self.predicted(request)
        if ratio <= 0:
            return
        with self._lock:
            self._ratios.append(ratio)

    def seconds(self, request: Request) -> float:
        """Return the time limit of a conformation, in seconds."""
        scale = self._scale()
        if scale is None:
            return self._most
        predicted = np.array([scale * self.predicted(request)])
        return float(limit_seconds(predicted, self._factor, self._most)[0])

    def _scale(self) -> float | None:
        """Return the measured seconds per predicted second; None if unknown."""
        with self._lock:
            ratios = list(self._ratios)
        if self._is_known:
            return max(1.0, float(np.median(ratios))) if ratios else 1.0
        return float(np.median(ratios)) if len(ratios) >= ENOUGH else None

    def beyond(self, requests: Iterable[Request]) -> list[tuple[Request, float]]:
        """Return the conformations with a predicted time above `most`, and that time in seconds, the longest first."""
        scale = self._scale()
        predicted = [(request, (scale or 1.0) * self.predicted(request)) for request in requests]
        return sorted((one for one in predicted if one[1] > self._most), key=lambda one: -one[1])

    def words(self, request: Request) -> str:
        """Describe, for messages, how the limit of a conformation follows from its predicted time."""
        predicted = self.predicted(request) * (self._scale() or 1.0)
        return f"{self._factor:g} times the predicted {predicted:.3g} s, at least {LEAST_SECONDS:g} s"
