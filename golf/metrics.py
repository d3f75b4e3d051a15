"""How good relaxations are, as numbers. Energies are DFT energies in hartree; s_0 is the start of a relaxation, s_T its
end, and s_opt the minimum that a DFT optimization reaches from the same s_0.

Definitions follow GOLF (ICLR 2024); docs/method.md has them with their equations and says where they differ. Where a
number cannot be had the result is NaN, never a stand-in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from golf.units import hartree

CHEMICAL_ACCURACY = hartree(1.0)
"""A relaxation succeeds where E_res is below 1 kcal/mol; here in hartree."""

COVERAGE_THRESHOLD = 0.5
"""angstrom. A DFT minimum is covered where the end of a relaxation lies within it."""

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


def coverage(nearest: NDArray, molecules: Sequence[str]) -> NDArray[np.float64]:
    """COV of each molecule: share of its DFT minima with the end of a relaxation within 0.5 angstrom, [M] percent.

    Args:
        nearest: smallest RMSD between each DFT minimum and the ends of its molecule, [n] angstrom; NaN where there is
            no end, which covers nothing.
        molecules: name of the molecule of each, [n]. Molecules come in the order of their names.
    """
    with np.errstate(invalid="ignore"):
        covered = np.asarray(nearest, np.float64) <= COVERAGE_THRESHOLD
    return _means_by_molecule(100.0 * covered, molecules)


def matching(nearest: NDArray, molecules: Sequence[str]) -> NDArray[np.float64]:
    """MAT of each molecule: mean of `nearest` over its DFT minima, [M] angstrom; NaN without the end of a relaxation.

    The arguments are those of `coverage`.
    """
    return _means_by_molecule(np.asarray(nearest, np.float64), molecules)


def intervals(
    quantities: Mapping[str, NDArray], molecules: Sequence[str], *, shares: Collection[str], seed: int
) -> dict[str, float]:
    """95 % intervals over molecules of the means of several quantities: NAME_low and NAME_high of each.

    They are those of `bootstrap_intervals`, but for a share that is 0 % or 100 % everywhere: there all resamples are
    equal, and the interval is the exact binomial one with the number of molecules (`exact_interval`).

    Args:
        quantities: values [n] by name; NaN is left out.
        molecules: name of the molecule of each, [n].
        shares: which quantities are shares, in percent.
        seed: of the bootstrap.
    """
    low, high = bootstrap_intervals(np.column_stack(list(quantities.values())), molecules, seed=seed)
    ends: dict[str, float] = {}
    for k, (name, values) in enumerate(quantities.items()):
        there = np.isfinite(values)
        level = np.unique(np.asarray(values, np.float64)[there])
        if name in shares and len(level) == 1 and level[0] in (0.0, 100.0):
            n_molecules = len({molecule for molecule, counts in zip(molecules, there, strict=True) if counts})
            low[k], high[k] = exact_interval(bool(level[0]), n_molecules)
        ends |= {f"{name}_low": float(low[k]), f"{name}_high": float(high[k])}
    return ends


def exact_interval(all_of_them: bool, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact interval of a share of which all of n trials were seen, or none, in percent.

    The other side of the interval is where such an outcome has the chance (1 - confidence) / 2 (Clopper and Pearson,
    Biometrika 26, 404 (1934)): with p for the share, p^n or (1 - p)^n.
    """
    edge = 100.0 * ((1.0 - confidence) / 2.0) ** (1.0 / n)
    return (edge, 100.0) if all_of_them else (0.0, 100.0 - edge)


def bootstrap_intervals(
    values: NDArray, molecules: Sequence[str], *, seed: int, confidence: float = 0.95, n_resamples: int = 10_000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap intervals of means over conformations, molecules resampled (cluster bootstrap).

    Conformations of one molecule are not independent, so whole molecules are drawn: M of the M molecules with
    replacement, `n_resamples` times, each with all its conformations. A resample's mean is over the finite values in
    it; the interval runs from the (1 - confidence) / 2 to the (1 + confidence) / 2 quantile of these means (Efron and
    Tibshirani 1993, chapter 13; Davison and Hinkley 1997, section 3.8).

    Args:
        values: [n, K], one column per quantity; all columns see the same resamples.
        molecules: name of the molecule of each row, [n].

    Returns:
        Lower and upper ends [K], in the units of the values; NaN where fewer than two molecules have a value, for one
        molecule says nothing about others.
    """
    values = np.asarray(values, np.float64)
    names, index = np.unique(np.asarray(molecules, dtype=str), return_inverse=True)
    finite = np.isfinite(values)
    sums, counts = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(sums, index, np.where(finite, values, 0.0))
    np.add.at(counts, index, finite)
    random = np.random.default_rng(seed)
    means = np.full((n_resamples, values.shape[1]), np.nan)
    n_at_once = max(1, 2_000_000 // max(1, len(names)))
    for start in range(0, n_resamples if len(names) else 0, n_at_once):
        n = min(n_at_once, n_resamples - start)
        drawn = random.integers(len(names), size=(n, len(names))) + len(names) * np.arange(n)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n * len(names)).reshape(n, len(names)).astype(np.float64)
        n_values = times @ counts
        np.divide(times @ sums, n_values, out=means[start : start + n], where=n_values > 0)
    low, high = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    for k in np.flatnonzero((counts > 0).sum(axis=0) > 1):
        low[k], high[k] = np.nanquantile(means[:, k], [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return low, high


def _means_by_molecule(values: NDArray, molecules: Sequence[str]) -> NDArray[np.float64]:
    names, index = np.unique(np.asarray(molecules, dtype=str), return_inverse=True)
    return np.array([mean(values[index == k]) for k in range(len(names))])


def _finite(values: NDArray) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]
