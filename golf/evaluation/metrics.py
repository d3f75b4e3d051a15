"""How good relaxations are, as numbers. Energies are DFT energies in hartree; s_0 is the start of a relaxation, s_T its
end, and s_opt the minimum that a DFT optimization reaches from the same s_0.

Definitions follow GOLF (ICLR 2024); docs/method.md has them with their equations and says where they differ. Where a
number cannot be had the result is NaN, never a stand-in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from golf.core.units import hartree

CHEMICAL_ACCURACY = hartree(1.0)
"""A relaxation succeeds where E_res is below 1 kcal/mol; here in hartree."""

SMALLEST_RESIDUAL = hartree(0.01)
"""hartree. Means of log10 E_res take smaller and negative ones for this: the minimum has been reached."""

COVERAGE_THRESHOLD = 0.5
"""angstrom. A DFT minimum is covered where the end of a relaxation lies within it."""

FAILURE = hartree(5.0)
"""hartree. E_res of the failed relaxation that intervals of means allow for where the sample holds none.

Nothing in a sample says how bad a failure is that is not in it, so this is an assumption. Mean E_res over the share of
relaxations without success, at most the mean E_res of a failure, is 1.9 to 9.4 kcal/mol in the published table
(docs/method.md: 0.5 / 0.266 of traj-500k, 8.6 / 0.918 of the baseline).
"""

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


def percent_of_failure(gain: NDArray) -> float:
    """Compute pct(s_T) of a relaxation that ends `FAILURE` above its minimum, the gain of DFT being an average one.

    Args:
        gain: E(s_0) - E(s_opt), [n] hartree.

    Returns:
        Percent; NaN where DFT gained nothing.
    """
    average = mean(gain)
    return 100.0 * (1.0 - FAILURE / average) if average >= SMALLEST_GAIN else np.nan


def log_residual(residual: NDArray) -> NDArray[np.float64]:
    """Compute log10 of E_res in kcal/mol, [n]; of less than 0.01 kcal/mol, and of negative ones, that of 0.01."""
    return np.log10(np.maximum(np.asarray(residual, np.float64), SMALLEST_RESIDUAL) / hartree(1.0))


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


def _means_by_molecule(values: NDArray, molecules: Sequence[str]) -> NDArray[np.float64]:
    names, index = np.unique(np.asarray(molecules, dtype=str), return_inverse=True)
    return np.array([mean(values[index == k]) for k in range(len(names))])


def _finite(values: NDArray) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]
