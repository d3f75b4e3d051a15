"""Compute paired differences between arms: they relax the same starts, so the effect of hard starts cancels.

Special cases:

- A start without a DFT minimum is not in any number, as in the table of the arms; counted in `n_excluded`.
- A start whose relaxation has no DFT energy at its end, in either arm, is missing from both means of E_res; counted in
  `n_without_energy`, the others in `n_pairs`. It remains in the difference of success, as a failure of that arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from golf.core.arms import BASELINE, GOLF
from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.core.wording import aligned
from golf.evaluation import metrics
from golf.evaluation.arm import checked
from golf.evaluation.intervals import Quantity, intervals, mcnemar_test
from golf.evaluation.table import table_of, with_interval

if TYPE_CHECKING:
    import pandas


def pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Choose the pairs (arm, other) to compare: golf with each other arm, and each other arm with the baseline.

    Without these two, every arm is compared with the first one.
    """
    golf, baseline = GOLF.name, BASELINE.name
    against_golf = [(golf, other) for other in arms if other != golf] if golf in arms else []
    against_golf.sort(key=lambda pair: pair[1] != baseline)
    rest = [arm for arm in arms if arm not in (golf, baseline)]
    if baseline in arms:
        return against_golf + [(arm, baseline) for arm in rest]
    return against_golf or [(arm, arms[0]) for arm in arms[1:]]


def summarize_differences(arms: Sequence[ConformationSet], *, seed: int = 0) -> pandas.DataFrame:
    """Compare pairs of arms (`pairs`) on the same starts, first arm minus second; return one row per pair.

    Columns: arm, other, n_test (starts with a DFT minimum), n_pairs (of these, starts whose ends both have a DFT
    energy), residual_energy_difference_kcal_mol (mean of E_res of arm minus that of other), log10_residual_difference
    (the same for log10 E_res, `golf.evaluation.metrics.log_residual`), percent_success_difference (percentage points);
    their 95 % intervals over molecules, residual_energy_difference_low and _high and so on; n_only_arm and n_only_other
    (starts from which only that arm succeeded), mcnemar_p (`golf.evaluation.intervals.mcnemar_test`); n_molecules,
    n_excluded, n_without_energy.

    Args:
        arms: evaluated arms, as returned by `golf.evaluation.arm.evaluate_arm`.
        seed: seed of the intervals.

    Raises:
        UserError: an arm has not been evaluated, or two arms relaxed different starts.
    """
    by_name = {str(arm.attrs["arm"]): arm for arm in map(checked, arms)}
    return table_of([_line(by_name[arm], by_name[other], seed) for arm, other in pairs(list(by_name))])


def format_differences(table: pandas.DataFrame) -> str:
    """Format the table of `summarize_differences` for a terminal; "" if it has no rows."""
    if table.empty:
        return ""
    head = ["difference", "test", "pairs", "E_res kcal/mol [95 %]", "log10 E_res [95 %]", "success % [95 %]"]
    rows = [[*head, "only 1st", "only 2nd", "p"]]
    for line in table.to_dict("records"):
        rows.append(
            [
                f"{line['arm']} - {line['other']}",
                str(line["n_test"]),
                str(line["n_pairs"]),
                with_interval(line, "residual_energy_difference_kcal_mol", "residual_energy_difference", 2),
                with_interval(line, "log10_residual_difference", "log10_residual_difference", 2),
                with_interval(line, "percent_success_difference", "percent_success_difference", 1),
                str(line["n_only_arm"]),
                str(line["n_only_other"]),
                f"{line['mcnemar_p']:.2g}",
            ]
        )
    return "\n".join([*aligned(rows, n_left=1), *_footnotes(table)])


def _footnotes(table: pandas.DataFrame) -> Iterator[str]:
    for line in table.to_dict("records"):
        if line["n_without_energy"]:
            yield (
                f"{line['arm']} - {line['other']}: {line['n_without_energy']} without a DFT energy in one of the arms; "
                "left out of both means of E_res, counted as failures in success"
            )


def _line(arm: ConformationSet, other: ConformationSet, seed: int) -> dict[str, Any]:
    other = other.subset(_partners(arm, other))
    counted = (arm.values["has_reference"] & other.values["has_reference"]).astype(np.bool_)
    molecules = [name for name, counts in zip(arm.molecule, counted, strict=True) if counts]
    ours, theirs = (one.values["residual_energy"][counted] for one in (arm, other))
    both = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = np.where(both, ours, np.nan), np.where(both, theirs, np.nan)
    won, lost = (
        metrics.succeeded(one.values["residual_energy"][counted], one.values["diverged"][counted])
        for one in (arm, other)
    )
    success = won.astype(np.int64) - lost
    # A failure that is not in the sample may happen to either arm, while the other arm ends at its average.
    energies = _difference(ours, theirs, metrics.FAILURE, HARTREE_IN_KCAL_PER_MOL)
    failure = float(metrics.log_residual(np.array(metrics.FAILURE)))
    logarithms = _difference(metrics.log_residual(ours), metrics.log_residual(theirs), failure, 1.0)
    line = {
        "arm": str(arm.attrs["arm"]),
        "other": str(other.attrs["arm"]),
        "n_test": int(counted.sum()),
        "n_pairs": int(both.sum()),
        "residual_energy_difference_kcal_mol": metrics.mean(energies.values),
        "log10_residual_difference": metrics.mean(logarithms.values),
        "percent_success_difference": metrics.mean(100.0 * success),
    }
    quantities = {
        "residual_energy_difference": energies,
        "log10_residual_difference": logarithms,
        "percent_success_difference": Quantity(100.0 * success, lowest=-100.0, highest=100.0),
    }
    return line | {
        **intervals(quantities, molecules, seed=seed),
        "n_only_arm": int((success > 0).sum()),
        "n_only_other": int((success < 0).sum()),
        "mcnemar_p": mcnemar_test(success, molecules),
        "n_molecules": len(set(molecules)),
        "n_excluded": int((~counted).sum()),
        "n_without_energy": int((~both).sum()),
    }


def _difference(ours: NDArray, theirs: NDArray, failure: float, unit: float) -> Quantity:
    return Quantity(
        unit * (ours - theirs),
        lowest=unit * (metrics.mean(ours) - failure),
        highest=unit * (failure - metrics.mean(theirs)),
    )


def _partners(arm: ConformationSet, other: ConformationSet) -> NDArray[np.int64]:
    """Return the index [n] in the other arm of the relaxation from the same start.

    Raises:
        UserError: the arms relaxed different starts.
    """
    ours, theirs = ([str(name) for name in one.values.get("start_id", one.id)] for one in (arm, other))
    place = {name: i for i, name in enumerate(theirs)}
    if set(ours) != set(theirs):
        name = min(set(ours) ^ set(theirs))
        raise UserError(
            f"arms {arm.attrs['arm']} and {other.attrs['arm']}: only one of them relaxed {name}; "
            "evaluate both on the same test set"
        )
    return np.array([place[name] for name in ours], dtype=np.int64)
