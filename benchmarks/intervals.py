"""How often 95 % intervals of a mean hold the true mean, and how wide they are: what chose `golf.evaluation.intervals`.

Each scenario draws samples of molecules whose true mean is known. Errors are normal (mean 0.1 kcal/mol), and a share of
the molecules, or of the conformations, fails by an exponentially distributed energy with a mean of 5 kcal/mol. The
methods: percentile bootstrap, BCa, studentized bootstrap (bootstrap-t), Student's t with a cluster-robust error, and
`golf.evaluation.intervals`. "above": the true mean lies above the interval of `golf.evaluation.intervals`. Widths are
means over samples, but medians for bootstrap-t, which has no finite mean width.

    python benchmarks/intervals.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from machine import facts
from numpy.typing import NDArray
from scipy import stats

from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.evaluation.intervals import mean_intervals
from golf.evaluation.metrics import FAILURE

FAILS_BY = 5.0  # kcal/mol, mean
MEAN = 0.1  # kcal/mol, of what does not fail
TAILS = np.array([0.025, 0.975])


@dataclass(frozen=True)
class Scenario:
    """Molecules with normal errors and rare large ones.

    Attributes:
        between, within: standard deviation of molecules and of the conformations of one, kcal/mol.
        fails: share of molecules (or of conformations, `alone`) that fails.
        paired: values are differences to a second arm, which has normal errors alone.
    """

    molecules: int
    conformations: int = 1
    between: float = 0.1
    within: float = 0.0
    fails: float = 0.0
    alone: bool = False
    paired: bool = False

    @property
    def name(self) -> str:
        size = f"{self.molecules} x {self.conformations}"
        what = "conformations" if self.alone else "molecules"
        kind = f"{100 * self.fails:.0f} % {what} fail" if self.fails else "normal"
        return f"{size:>8}, sd {np.hypot(self.between, self.within):.1f}, {kind}{', paired' if self.paired else ''}"

    @property
    def true_mean(self) -> float:
        return FAILS_BY * self.fails + (0.0 if self.paired else MEAN)

    def draw(self, random: np.random.Generator, n: int) -> NDArray[np.float64]:
        """n samples, [molecules, conformations, n] kcal/mol."""
        shape = (self.molecules, self.conformations, n)
        whole = (self.molecules, 1, n)
        values = random.normal(MEAN, self.between, whole) + random.normal(0.0, self.within, shape)
        values += (random.random(shape if self.alone else whole) < self.fails) * random.exponential(FAILS_BY, shape)
        return values - random.normal(MEAN, self.between, shape) if self.paired else values


SCENARIOS = (
    *(Scenario(n, between=sd) for n in (16, 50, 200) for sd in (0.1, 1.0, 3.0)),
    *(Scenario(n, between=0.1, fails=p) for n in (16, 50, 200) for p in (0.03, 0.06, 0.12, 0.2)),
    *(Scenario(16, between=sd, fails=0.06) for sd in (0.5, 1.0)),
    Scenario(16, 4, between=0.7, within=0.7),
    Scenario(16, 4, between=0.1, within=0.1, fails=0.06),
    Scenario(16, 4, between=0.1, within=0.1, fails=0.06, alone=True),
    *(Scenario(n, between=0.1, fails=0.06, paired=True) for n in (16, 50, 200)),
)


def methods(values: NDArray, paired: bool, seed: int, n_resamples: int) -> Iterator[tuple[str, NDArray, NDArray]]:
    """Name, lower and upper ends [n] of each interval, of values [molecules, conformations, n]."""
    n_molecules, n_each, n = values.shape
    sums, means = values.sum(axis=1), values.mean(axis=(0, 1))
    by_molecule = sums / n_each
    error = by_molecule.std(axis=0, ddof=1) / np.sqrt(n_molecules)
    random = np.random.default_rng(seed)
    times = random.multinomial(n_molecules, np.full(n_molecules, 1 / n_molecules), n_resamples) / n_molecules
    resampled = times @ by_molecule
    yield "percentile", *np.quantile(resampled, TAILS, axis=0)

    away = (by_molecule.mean(axis=0) - by_molecule) / (1 - n_molecules)  # jackknife
    with np.errstate(all="ignore"):
        skew = (away**3).sum(axis=0) / (6 * (away**2).sum(axis=0) ** 1.5)
        below = ((resampled < means).mean(axis=0) + (resampled <= means).mean(axis=0)) / 2
        z0, z = stats.norm.ppf(below), stats.norm.ppf(TAILS)[:, None]
        levels = np.nan_to_num(stats.norm.cdf(z0 + (z0 + z) / (1 - np.nan_to_num(skew) * (z0 + z))))
    yield "BCa", *(np.array([np.quantile(resampled[:, k], levels[end, k]) for k in range(n)]) for end in (0, 1))

    squares = times @ by_molecule**2 - resampled**2
    with np.errstate(all="ignore"):
        ratio = (resampled - means) / np.sqrt(np.maximum(squares, 0) / (n_molecules - 1))
    low, high = np.quantile(np.nan_to_num(ratio), TAILS, axis=0)
    yield "bootstrap-t", means - high * error, means - low * error

    t = stats.t.ppf(TAILS[1], n_molecules - 1)
    yield "t", means - t * error, means + t * error

    failure = FAILURE * HARTREE_IN_KCAL_PER_MOL
    molecules = np.repeat([f"{k:03d}" for k in range(n_molecules)], n_each)
    yield (
        "golf",
        *mean_intervals(
            values.reshape(-1, n),
            molecules.tolist(),
            lowest=MEAN - failure if paired else np.nan,
            highest=failure - MEAN if paired else failure,
            seed=seed,
            n_draws=n_resamples,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="of each scenario (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=2000, help="of each sample (default: %(default)s)")
    options = parser.parse_args()
    print(facts("numpy", "scipy"))
    print(f"{options.samples} samples of each scenario, {options.resamples} resamples or weights")
    for number, scenario in enumerate(SCENARIOS):
        values = scenario.draw(np.random.default_rng(number), options.samples)
        found = list(methods(values, scenario.paired, number, options.resamples))
        if number == 0:
            print(f"\n{'molecules x conformations':<48}" + "".join(f"{name:>18}" for name, *_ in found))
            print(f"{'':<48}" + f"{'held %':>10}{'width':>8}" * len(found) + f"{'above %':>9}")
        cells = []
        for name, low, high in found:
            held = 100 * np.mean((low <= scenario.true_mean) & (scenario.true_mean <= high))
            width = (np.median if name == "bootstrap-t" else np.mean)(high - low)
            cells.append(f"{held:>10.1f}{width:>8.2f}")
        above = 100 * np.mean(found[-1][2] < scenario.true_mean)
        print(f"{scenario.name:<48}{''.join(cells)}{above:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
