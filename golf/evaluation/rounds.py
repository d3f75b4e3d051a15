"""Summarize the rounds of a study: labels, ends of the relaxations, and errors on the validation set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golf.core.conformations import Status
from golf.core.hdf5 import read_columns

if TYPE_CHECKING:
    import pandas

ENDS = ("n_surrogate_rise", "n_step_limit", "n_converged", "n_not_finite")
"""How the relaxations of a round ended; attributes of its selected conformations (golf.study.selection.RoundCounts)."""

FORCE_ERROR = "validation_force_mae_kcal_per_mol_angstrom"
ENERGY_ERROR = "validation_energy_mae_kcal_per_mol"


@dataclass(frozen=True)
class RoundFiles:
    """Files of one round."""

    selected: str | Path
    labels: str | Path
    metrics: str | Path


def summarize_rounds(
    initial_labels: str | Path, baseline_metrics: str | Path, rounds: Sequence[RoundFiles]
) -> pandas.DataFrame:
    """Summarize the rounds in a table with one row per round; round 0 is the baseline, which relaxes nothing.

    Columns: round; n_updates: training updates so far; n_labels: usable DFT labels so far; n_new_labels and
    n_unusable_labels of the round; n_surrogate_rise, n_step_limit, n_converged, n_not_finite: how its relaxations
    ended; n_already_labelled: relaxations among these whose conformation already had a label; validation_force_mae
    (kcal/mol/angstrom) and validation_energy_mae (kcal/mol) at the end of its training.

    Args:
        initial_labels: labels D_0.
        baseline_metrics: metrics of the baseline's training.
        rounds: files of the rounds, in order.

    Raises:
        UserError: a file of labels cannot be read.
    """
    import pandas  # not installed in every environment that imports this module

    outcomes = _outcomes(initial_labels)
    lines = [_line(0, outcomes, outcomes[Status.OK], {}, 0, _last_row(baseline_metrics))]
    for number, files in enumerate(rounds, start=1):
        outcomes = _outcomes(files.labels)
        _, attrs = read_columns(files.selected)
        n_labels = lines[-1]["n_labels"] + outcomes[Status.OK]
        lines.append(_line(number, outcomes, n_labels, attrs, lines[-1]["n_updates"], _last_row(files.metrics)))
    return pandas.DataFrame(lines)


def training_curve(metrics: Sequence[str | Path]) -> pandas.DataFrame:
    """Join the metrics of consecutive trainings, with updates numbered continuously (column `n_updates`)."""
    import pandas

    parts, before = [], 0
    for path in metrics:
        part = pandas.read_csv(path)
        parts.append(part.assign(n_updates=part["step"] + before))
        before = int(parts[-1]["n_updates"].iloc[-1])
    return pandas.concat(parts, ignore_index=True)


def _line(
    number: int, outcomes: Counter[int], n_labels: int, attrs: dict[str, Any], updates_before: int, last: dict[str, Any]
) -> dict[str, Any]:
    return {
        "round": number,
        "n_updates": updates_before + int(last["step"]),
        "n_labels": n_labels,
        "n_new_labels": outcomes[Status.OK],
        "n_unusable_labels": outcomes.total() - outcomes[Status.OK],
        **{name: int(attrs.get(name, 0)) for name in (*ENDS, "n_already_labelled")},
        "validation_force_mae": float(last[FORCE_ERROR]),
        "validation_energy_mae": float(last[ENERGY_ERROR]),
    }


def _outcomes(labels: str | Path) -> Counter[int]:
    columns, _ = read_columns(labels, "conformation/status")
    return Counter(columns["conformation/status"].tolist())


def _last_row(metrics: str | Path) -> dict[str, Any]:
    import pandas

    return pandas.read_csv(metrics).iloc[-1].to_dict()
