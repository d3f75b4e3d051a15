"""Make and format the tables that compare the arms of a study; `golf.evaluation.arm` defines their numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from golf.core.conformations import ConformationSet
from golf.core.wording import aligned
from golf.evaluation.arm import checked, measures

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)


def summarize(arms: Sequence[ConformationSet], *, seed: int = 0) -> pandas.DataFrame:
    """Summarize the arms in a table with one row per arm.

    Columns: arm, n_test (conformations with a DFT minimum), n_labels, residual_energy_kcal_mol (mean), percent_success,
    percent_optimized_mean, percent_optimized_std, percent_diverged, coverage_percent, matching_angstrom; 95 % intervals
    over molecules (`golf.evaluation.intervals`): residual_energy_low and _high (kcal/mol), percent_success_,
    percent_optimized_, percent_diverged_, coverage_ and matching_low and _high; n_molecules (of the n_test
    conformations), n_excluded (no DFT minimum), n_without_energy (no DFT energy at the end), n_without_gain (no energy
    to gain from the start), n_without_geometry (no geometry at the end); if known, n_updates and n_near_training
    (starts within dataset.prune_rmsd of a training conformation).

    Args:
        arms: evaluated arms, as returned by `golf.evaluation.arm.evaluate_arm`.
        seed: seed of the intervals.

    Raises:
        UserError: an arm has not been evaluated.
    """
    return table_of([measures(arm, np.ones(len(arm), np.bool_), seed) for arm in map(checked, arms)])


def summarize_by_molecules(arms: Sequence[ConformationSet], *, seed: int = 0) -> pandas.DataFrame:
    """Summarize the arms as `summarize` does, with one row for molecules seen in training and one for unseen ones.

    The column `molecules` is "seen" or "unseen". Arms without a column `unseen` have no rows.

    Raises:
        UserError: an arm has not been evaluated.
    """
    lines = []
    for arm in map(checked, arms):
        if "unseen" not in arm.values:
            continue
        unseen = arm.values["unseen"].astype(np.bool_)
        for word, chosen in (("seen", ~unseen), ("unseen", unseen)):
            if chosen.any():
                lines.append({"arm": arm.attrs["arm"], "molecules": word} | measures(arm, chosen, seed))
    return table_of(lines)


def format_table(table: pandas.DataFrame) -> str:
    """Format the table of `summarize` or `summarize_by_molecules` for a terminal; "" if it has no rows."""
    if table.empty:
        return ""
    head = ["arm", "test", "labels", "E_res kcal/mol [95 %]", "success % [95 %]", "pct(s_T) %", "diverged %"]
    head += ["COV %", "MAT A"]
    split = "molecules" in table.columns
    if split:
        head.insert(1, "molecules")
    rows = [head]
    for line in table.to_dict("records"):
        row = [
            str(line["arm"]),
            str(line["n_test"]),
            str(line["n_labels"]),
            with_interval(line, "residual_energy_kcal_mol", "residual_energy", 2),
            with_interval(line, "percent_success", "percent_success", 1),
            f"{line['percent_optimized_mean']:.1f} +- {line['percent_optimized_std']:.1f}",
            f"{line['percent_diverged']:.1f}",
            f"{line['coverage_percent']:.1f}",
            f"{line['matching_angstrom']:.3f}",
        ]
        if split:
            row.insert(1, str(line["molecules"]))
        rows.append(row)
    return "\n".join([*aligned(rows, n_left=2 if split else 1), *_footnotes(table)])


def with_interval(line: Mapping[Any, Any], name: str, stem: str, digits: int) -> str:
    """Format a number of a table's row with its interval (columns STEM_low and STEM_high)."""
    low, high = line[f"{stem}_low"], line[f"{stem}_high"]
    interval = f"[{low:.{digits}f}, {high:.{digits}f}]" if np.isfinite(low) else "[no interval]"
    return f"{line[name]:.{digits}f} {interval}"


def _footnotes(table: pandas.DataFrame) -> Iterator[str]:
    for line in table.to_dict("records"):
        name = f"{line['arm']} ({line['molecules']})" if "molecules" in line else line["arm"]
        if line["n_excluded"]:
            yield f"{name}: {line['n_excluded']} more left out of all numbers: no DFT minimum to compare with"
        if line["n_without_energy"]:
            yield f"{name}: {line['n_without_energy']} diverged without a DFT energy; left out of E_res and pct(s_T)"
        if line["n_without_gain"]:
            yield f"{name}: {line['n_without_gain']} left out of pct(s_T): DFT gained no energy from their start"
        if line["n_without_geometry"]:
            yield f"{name}: {line['n_without_geometry']} ended without a geometry; left out of COV and MAT"
    yield from _near_training(table)


def _near_training(table: pandas.DataFrame) -> Iterator[str]:
    """Write the number of starts near training conformations, once if it is the same for all arms."""
    if "n_near_training" not in table.columns:
        return
    keys = [*(["molecules"] if "molecules" in table.columns else []), "n_test", "n_near_training"]
    known = table[table["n_near_training"].fillna(0) > 0]
    for line in known[keys].drop_duplicates().to_dict("records"):
        words = f"{line['molecules']}: " if "molecules" in line else ""
        yield (
            f"{words}{line['n_near_training']} of {line['n_test']} starts are within dataset.prune_rmsd of a training "
            "conformation"
        )


def table_of(lines: list[dict[str, Any]]) -> pandas.DataFrame:
    """Make a table of rows; counts that some arms lack are nullable integers."""
    import pandas  # not installed in every environment that imports this module

    table = pandas.DataFrame(lines)
    for name in ("n_updates", "n_near_training"):  # unknown for arms that are not trained in this study
        if name in table.columns:
            table[name] = table[name].astype("Int64")
    return table
