"""How good relaxations are, as numbers. Energies are DFT energies in hartree; s_0 is the start of a relaxation, s_T its
end, and s_opt the minimum that a DFT optimization reaches from the same s_0.

Definitions follow GOLF (ICLR 2024). Where a number cannot be had the result is NaN, never a stand-in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from golf.units import hartree

CHEMICAL_ACCURACY = hartree(1.0)
"""A relaxation succeeds where E_res is below 1 kcal/mol; here in hartree."""

SMALLEST_GAIN = 1e-6
"""hartree. Below it a DFT optimization has gained nothing, and a share of its gain says nothing."""


def residual_energy(final: NDArray, optimum: NDArray) -> NDArray[np.float64]:
    """E_res = E(s_T) - E(s_opt), [n] hartree.

    Negative where the relaxation found a deeper basin than the DFT optimization did; left as it is.
    """
    return np.asarray(final, np.float64) - np.asarray(optimum, np.float64)


def percent_optimized(first: NDArray, final: NDArray, optimum: NDArray) -> NDArray[np.float64]:
    """pct(s_T) = 100 (E(s_0) - E(s_T)) / (E(s_0) - E(s_opt)), [n] percent.

    NaN where the DFT optimization gained less than 1e-6 hartree.
    """
    first = np.asarray(first, np.float64)
    gain = first - np.asarray(optimum, np.float64)
    share = np.full(gain.shape, np.nan)
    np.divide(100.0 * (first - np.asarray(final, np.float64)), gain, out=share, where=gain >= SMALLEST_GAIN)
    return share


def diverged(first: NDArray, final: NDArray) -> NDArray[np.bool_]:
    """Whether E(s_T) is not a finite number (not finite geometry, or DFT failed) or E(s_T) > E(s_0), [n]."""
    final = np.asarray(final, np.float64)
    return ~np.isfinite(final) | (final > np.asarray(first, np.float64))


def succeeded(residual: NDArray, has_diverged: NDArray) -> NDArray[np.bool_]:
    """Whether E_res < 1 kcal/mol, [n]. A diverged relaxation never succeeds, and neither does one without E_res."""
    residual = np.asarray(residual, np.float64)
    return np.isfinite(residual) & (residual < CHEMICAL_ACCURACY) & ~np.asarray(has_diverged, np.bool_)


def mean(values: NDArray) -> float:
    """Mean of the values that are finite; NaN where there is none."""
    finite = _finite(values)
    return float(finite.mean()) if len(finite) else np.nan


def standard_deviation(values: NDArray) -> float:
    """Square root of the mean squared deviation (over n) of the values that are finite; NaN where there is none."""
    finite = _finite(values)
    return float(finite.std()) if len(finite) else np.nan


def percent(flags: NDArray) -> float:
    """100 * (number of true) / (number of all); NaN where there is none."""
    flags = np.asarray(flags, np.bool_)
    return 100.0 * float(flags.mean()) if len(flags) else np.nan


def bootstrap_interval(
    values: NDArray, *, seed: int, confidence: float = 0.95, n_resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of the finite values (Efron 1979).

    The n values are drawn n times with replacement, `n_resamples` times; the interval runs from the
    (1 - confidence) / 2 to the (1 + confidence) / 2 quantile of the resampled means. Values count as independent:
    conformations of one molecule are not quite, so the interval is on the narrow side.

    Returns:
        Lower and upper end, in the unit of the values; NaN where there is no value.
    """
    finite = _finite(values)
    if not len(finite):
        return np.nan, np.nan
    random = np.random.default_rng(seed)
    means = np.array([finite[random.integers(len(finite), size=len(finite))].mean() for _ in range(n_resamples)])
    low, high = np.quantile(means, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def _finite(values: NDArray) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]
