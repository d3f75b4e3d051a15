"""Compute the metrics of relaxations, from DFT energies in hartree.

s_0 is the start of a relaxation, s_T its end, and s_opt the minimum that a DFT optimization reaches from the same s_0.
Definitions follow GOLF (ICLR 2024); docs/method.md has their equations and the differences from the paper. A metric
that is undefined is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from golf.core.units import hartree

CHEMICAL_ACCURACY = hartree(1.0)
"""E_res in hartree (1 kcal/mol) below which a relaxation succeeds."""

SMALLEST_RESIDUAL = hartree(0.01)
"""Lower bound of E_res in hartree for means of log10 E_res; at smaller and negative ones the minimum is reached."""

COVERAGE_THRESHOLD = 0.5
"""RMSD in angstrom within which the end of a relaxation covers a DFT minimum."""

FAILURE = hartree(5.0)
"""E_res in hartree of a failed relaxation, which intervals of means allow for if the sample contains none.

A sample does not tell how bad a failure outside of it is, so this is an assumption. An upper bound of the mean E_res of
failures, the mean E_res divided by the share of failures, is 1.9 to 9.4 kcal/mol in the published table
(docs/method.md: 0.5 / 0.266 for traj-500k, 8.6 / 0.918 for the baseline).
"""

SMALLEST_GAIN = 1e-6
"""Gain of a DFT optimization in hartree below which a share of the gain is meaningless."""


def residual_energy(final: NDArray, optimum: NDArray) -> NDArray[np.float64]:
    """Compute E_res = E(s_T) - E(s_opt), [n] hartree; negative if the relaxation found a deeper basin than DFT did.

    Args:
        final: E(s_T), [n] hartree.
        optimum: E(s_opt), [n] hartree.
    """
    return np.asarray(final, np.float64) - np.asarray(optimum, np.float64)


def percent_optimized(first: NDArray, final: NDArray, optimum: NDArray) -> NDArray[np.float64]:
    """Compute pct(s_T) = 100 (E(s_0) - E(s_T)) / (E(s_0) - E(s_opt)), [n] percent.

    The result is NaN if the DFT optimization gained less than `SMALLEST_GAIN`.

    Args:
        first: E(s_0), [n] hartree.
        final: E(s_T), [n] hartree.
        optimum: E(s_opt), [n] hartree.
    """
    first = np.asarray(first, np.float64)
    gain = first - np.asarray(optimum, np.float64)
    share = np.full(gain.shape, np.nan)
    np.divide(100.0 * (first - np.asarray(final, np.float64)), gain, out=share, where=gain >= SMALLEST_GAIN)
    return share


def percent_of_failure(gain: NDArray) -> float:
    """Compute pct(s_T) in percent of a relaxation that ends `FAILURE` above a minimum with an average gain.

    Args:
        gain: E(s_0) - E(s_opt), [n] hartree.

    Returns:
        Percent; NaN if DFT gained less than `SMALLEST_GAIN` on average.
    """
    average = mean(gain)
    return 100.0 * (1.0 - FAILURE / average) if average >= SMALLEST_GAIN else np.nan


def log_residual(residual: NDArray) -> NDArray[np.float64]:
    """Compute log10 of E_res in kcal/mol, [n], with values below 0.01 kcal/mol set to 0.01.

    Args:
        residual: E_res, [n] hartree.
    """
    return np.log10(np.maximum(np.asarray(residual, np.float64), SMALLEST_RESIDUAL) / hartree(1.0))


def diverged(first: NDArray, final: NDArray) -> NDArray[np.bool_]:
    """Tell which relaxations [n] diverged: E(s_T) > E(s_0), or E(s_T) not finite (no geometry, or DFT failed)."""
    final = np.asarray(final, np.float64)
    return ~np.isfinite(final) | (final > np.asarray(first, np.float64))


def succeeded(residual: NDArray, has_diverged: NDArray) -> NDArray[np.bool_]:
    """Tell which relaxations [n] succeeded: E_res is finite and below 1 kcal/mol, and they did not diverge."""
    residual = np.asarray(residual, np.float64)
    return np.isfinite(residual) & (residual < CHEMICAL_ACCURACY) & ~np.asarray(has_diverged, np.bool_)


def mean(values: NDArray) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    values = finite(values)
    return float(values.mean()) if len(values) else np.nan


def standard_deviation(values: NDArray) -> float:
    """Return the standard deviation (over n, not n - 1) of the finite values; NaN if there are none."""
    values = finite(values)
    return float(values.std()) if len(values) else np.nan


def percent(flags: NDArray) -> float:
    """Return the percentage of true values; NaN if there are no values."""
    flags = np.asarray(flags, np.bool_)
    return 100.0 * float(flags.mean()) if len(flags) else np.nan


def coverage(nearest: NDArray, molecules: Sequence[str]) -> NDArray[np.float64]:
    """Compute COV of each molecule, [M] percent: the share of DFT minima with an end within 0.5 angstrom.

    Args:
        nearest: smallest RMSD between each DFT minimum and the ends of relaxations of its molecule, [n] angstrom; NaN
            if there are no ends, so that the minimum is not covered.
        molecules: name of the molecule of each minimum, [n].

    Returns:
        One value per molecule, in alphabetical order.
    """
    with np.errstate(invalid="ignore"):
        covered = np.asarray(nearest, np.float64) <= COVERAGE_THRESHOLD
    return _means_by_molecule(100.0 * covered, molecules)


def matching(nearest: NDArray, molecules: Sequence[str]) -> NDArray[np.float64]:
    """Compute MAT of each molecule, [M] angstrom: the mean of `nearest` over its DFT minima; NaN without ends.

    Arguments and order are those of `coverage`.
    """
    return _means_by_molecule(np.asarray(nearest, np.float64), molecules)


def _means_by_molecule(values: NDArray, molecules: Sequence[str]) -> NDArray[np.float64]:
    names, index = np.unique(np.asarray(molecules, dtype=str), return_inverse=True)
    return np.array([mean(values[index == k]) for k in range(len(names))])


def finite(values: NDArray) -> NDArray[np.float64]:
    """Return the finite values."""
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]
