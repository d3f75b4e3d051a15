"""Compute intervals of means and shares over molecules, and a test of paired successes.

The conformations of one molecule are not independent, so the sampling unit is the molecule with all its conformations.
docs/method.md has the equations, and the coverage and width that `benchmarks/intervals.py` measured.

Shapes: n values, M molecules, K quantities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

CONFIDENCE = 0.95
N_DRAWS = 10_000
_AT_ONCE = 2_000_000  # weights in memory


@dataclass(frozen=True)
class Quantity:
    """Values for whose mean an interval is computed.

    Attributes:
        values: [n]; values that are not finite are left out.
        share: whether the mean is a share in percent; then the interval is that of `share_interval`.
        lowest: lowest value of an unseen molecule that the interval allows for; NaN, or a value within the sample: the
            mean of the sample's lowest molecule.
        highest: highest value of an unseen molecule that the interval allows for, likewise.
    """

    values: NDArray
    share: bool = False
    lowest: float = np.nan
    highest: float = np.nan


def intervals(quantities: Mapping[str, Quantity], molecules: Sequence[str], *, seed: int) -> dict[str, float]:
    """Compute the 95 % intervals over molecules of several means; return NAME_low and NAME_high of each.

    Args:
        quantities: quantities of n values each by name.
        molecules: name of the molecule of each value, [n].
        seed: seed of `mean_intervals`.
    """
    columns = np.column_stack([np.asarray(one.values, np.float64) for one in quantities.values()])
    lowest = [one.lowest for one in quantities.values()]
    highest = [one.highest for one in quantities.values()]
    low, high = mean_intervals(columns, molecules, lowest=lowest, highest=highest, seed=seed)
    ends: dict[str, float] = {}
    for k, (name, one) in enumerate(quantities.items()):
        if one.share:
            low[k], high[k] = share_interval(columns[:, k], molecules)
        ends |= {f"{name}_low": float(low[k]), f"{name}_high": float(high[k])}
    return ends


def share_interval(values: NDArray, molecules: Sequence[str], *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Compute the exact interval of a share, in percent, with the number of molecules as the number of trials.

    Clopper and Pearson, Biometrika 26, 404 (1934), with n trials of which k = n * share succeeded. A molecule is one
    trial whatever the number of its conformations, which is exact if they all agree and conservative otherwise. If
    molecules have different numbers m of conformations, n is (sum m)^2 / sum m^2 (Kish, Survey Sampling, 1965), which
    is at most the number of molecules. Neither n nor k has to be a whole number.

    Args:
        values: [n] percent; values that are not finite are left out.
        molecules: name of the molecule of each value, [n].
        confidence: confidence level.

    Returns:
        Lower and upper end in percent; NaN if there are no values.
    """
    _, sums, counts = _by_molecule(np.asarray(values, np.float64)[:, None], molecules)
    sizes = counts[:, 0]
    if not sizes.any():
        return np.nan, np.nan
    n = float(sizes.sum() ** 2 / np.square(sizes).sum())
    share = float(sums[:, 0].sum() / sizes.sum()) / 100.0
    k, tail = n * share, (1.0 - confidence) / 2.0
    low = float(betaincinv(k, n - k + 1.0, tail)) if share > 0.0 else 0.0
    high = float(betaincinv(k + 1.0, n - k, 1.0 - tail)) if share < 1.0 else 1.0
    return 100.0 * low, 100.0 * high


def mean_intervals(
    values: NDArray,
    molecules: Sequence[str],
    *,
    lowest: ArrayLike = np.nan,
    highest: ArrayLike = np.nan,
    seed: int,
    confidence: float = CONFIDENCE,
    n_draws: int = N_DRAWS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute intervals of means over conformations that allow for molecules unlike any in the sample.

    Each of the M molecules gets a random weight, and so does one more, imaginary molecule, which has the value
    `highest` for the upper end and `lowest` for the lower end; the M + 1 weights are uniform on the simplex. The ends
    are the (1 - confidence) / 2 quantile of the weighted means with `lowest`, and the (1 + confidence) / 2 quantile of
    those with `highest` (Gaffke, Mathematical Methods of Statistics 14, 451 (2005); Learned-Miller and Thomas,
    arXiv 1905.06208). For values of 0 or 100, with these as `lowest` and `highest`, this is the interval of Clopper and
    Pearson; without the imaginary molecule it is the Bayesian bootstrap (Rubin, Annals of Statistics 9, 130).
    Resampling the values alone cannot allow for a rare large error that is not among them.

    Args:
        values: [n, K], one column per quantity; all columns use the same weights. Values that are not finite are left
            out.
        molecules: name of the molecule of each row, [n].
        lowest: [K] or one number; NaN, or a value within the sample: the lowest mean of a molecule.
        highest: [K] or one number; NaN, or a value within the sample: the highest mean of a molecule.
        seed: seed of the weights.
        confidence: confidence level.
        n_draws: number of draws of the weights.

    Returns:
        Lower and upper ends [K] in the units of the values; NaN if fewer than two molecules have a value, because one
        molecule says nothing about others.
    """
    values = np.asarray(values, np.float64)
    names, sums, counts = _by_molecule(values, molecules)
    n_columns = values.shape[1]
    low, high = np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    enough = np.flatnonzero((counts > 0).sum(axis=0) > 1)
    if not len(enough):
        return low, high
    sums, counts = sums[:, enough], counts[:, enough]
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    size = counts.sum(axis=0) / (counts > 0).sum(axis=0)  # conformations of the imaginary molecule
    worst = [
        size * pick(limit(means, axis=0), np.broadcast_to(np.asarray(edge, np.float64), n_columns)[enough])
        for pick, limit, edge in ((np.fmin, np.nanmin, lowest), (np.fmax, np.nanmax, highest))
    ]
    random = np.random.default_rng(seed)
    drawn = np.empty((2, n_draws, len(enough)))
    n_at_once = max(1, _AT_ONCE // (len(names) + 1))
    for start in range(0, n_draws, n_at_once):
        weights = random.exponential(size=(min(n_at_once, n_draws - start), len(names) + 1))
        own, further = weights[:, :-1], weights[:, -1:]
        total, n_values = own @ sums, own @ counts + further * size
        for end in (0, 1):
            drawn[end, start : start + len(weights)] = (total + further * worst[end]) / n_values
    low[enough] = np.quantile(drawn[0], (1.0 - confidence) / 2.0, axis=0)
    high[enough] = np.quantile(drawn[1], (1.0 + confidence) / 2.0, axis=0)
    return low, high


def mcnemar_test(differences: NDArray, molecules: Sequence[str]) -> float:
    """Compute the exact two-sided p value of paired successes, by swapping the two arms for whole molecules.

    If the arms do not differ, the results of a molecule are equally likely with the arms swapped. p is the share of the
    2^M ways to swap them in which the difference of successes is at least as large as observed. With one start per
    molecule this is McNemar's exact test (Psychometrika 12, 153 (1947)).

    Args:
        differences: success of the first arm minus success of the second, -1, 0 or 1, [n].
        molecules: name of the molecule of each difference, [n].
    """
    _, sums, _ = _by_molecule(np.asarray(differences, np.float64)[:, None], molecules)
    by_molecule = np.abs(np.rint(sums[:, 0]).astype(np.int64))
    chances = np.ones(1)  # of each sum of differences, the smallest first
    for size in by_molecule[by_molecule > 0]:
        grown = np.zeros(len(chances) + 2 * size)
        grown[: len(chances)] += 0.5 * chances
        grown[2 * size :] += 0.5 * chances
        chances = grown
    middle = (len(chances) - 1) // 2
    as_far = np.abs(np.arange(len(chances)) - middle) >= abs(round(float(np.sum(differences))))
    return min(1.0, float(chances[as_far].sum()))


def _by_molecule(
    values: NDArray[np.float64], molecules: Sequence[str]
) -> tuple[NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """Return names [M], sums [M, K] and numbers [M, K] of the finite values of each molecule."""
    names, index = np.unique(np.asarray(molecules, dtype=str), return_inverse=True)
    finite = np.isfinite(values)
    sums, counts = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(sums, index, np.where(finite, values, 0.0))
    np.add.at(counts, index, finite)
    return names, sums, counts
