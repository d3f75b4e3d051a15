"""Compute the errors of the NNP and the progress by DFT along its relaxations of the test set, step by step.

At step t a relaxation is represented by

- its geometry after t optimizer steps, if it made that many;
- its last geometry, if it ended before step t (converged, or at its step limit). Counted in `n_ended`;
- nothing, if energy or forces stopped being finite before step t. From then on it has diverged. Counted in `n_failed`.

A geometry at which DFT failed has diverged as well and is counted in `n_failed`. A geometry that was not kept, or kept
but not labelled, is left out of all numbers of that step and counted in `n_unlabelled`. A test conformation without a
DFT minimum is left out of all numbers and counted in `n_excluded`. In code, kept geometries are called states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.evaluation import metrics
from golf.evaluation.arm import BLEW_UP, check_levels
from golf.evaluation.intervals import Quantity, intervals

if TYPE_CHECKING:
    import pandas

STEPS = (1, 2, 3, 5, 8, 13, 21, 30, 50, 75, 100)
"""Optimizer steps at which the paper computes DFT labels (GOLF, ICLR 2024, figure 1)."""

_NEEDED = ("start_id", "step", "nnp_energy", "energy", "status")
_NOTHING = -1  # no state, because the relaxation had diverged
_NOT_KEPT = -2  # the state was not kept


def study_trajectories(
    arm: str,
    states: ConformationSet,
    relaxed: ConformationSet,
    reference: ConformationSet,
    *,
    steps: Sequence[int] = STEPS,
    seed: int = 0,
) -> pandas.DataFrame:
    """Compute the errors of the NNP and the progress of its relaxations; return a table with one row per step.

    Columns:

    - arm, step;
    - n: conformations with a DFT energy at this step; n_ended: how many of these are represented by their last state;
    - n_failed, n_unlabelled, n_excluded: see the docstring of the module;
    - energy_error_median, _p10, _p90: of |E_NNP - E_DFT|, absolute energies, kcal/mol;
    - force_error_median, _p10, _p90: of the mean of |F_NNP - F_DFT| over the force components of a conformation,
      kcal/mol/angstrom;
    - percent_optimized_mean, _std, _low, _high: pct_t = 100 (E(s_0) - E(s_t)) / (E(s_0) - E(s_opt)), percent;
    - percent_diverged, _low, _high: share of the n + n_failed with E(s_t) > E(s_0), or failed, percent.

    _p10 and _p90 are percentiles over conformations, _low and _high 95 % intervals over molecules
    (`golf.evaluation.intervals`). Undefined numbers are NaN.

    Args:
        arm: name of the arm.
        states: labelled states with start_id (id of the test conformation), step (number of optimizer steps made),
            nnp_energy, energy and status, and the atom columns nnp_force and force: for each relaxation the states at
            those of `steps` that it reached, and its last state, whose step is n_steps.
        relaxed: the relaxations with n_steps and stop_reason, matched by start_id, or by id if there is no such column.
            If there is a column `kept`, relaxations for which it is false are left out of all numbers.
        reference: DFT minima from the same starts.
        steps: optimizer steps of the table.
        seed: seed of the intervals.

    Raises:
        UserError: columns are missing, a state occurs twice or has no relaxation, or levels of theory differ.
    """
    import pandas  # not installed in every environment that imports this module

    _check(arm, states, relaxed, reference)
    tracks = _tracks(arm, states)
    starts = _starts(relaxed)
    minimum = {name: i for i, name in enumerate(reference.id)}
    converged = reference.values["status"] == Status.OK
    kept = relaxed.values.get("kept", np.ones(len(relaxed), np.bool_)).astype(np.bool_)
    counted = [i for i, name in enumerate(starts) if kept[i] and converged[minimum[name]]]
    own = np.array([minimum[starts[i]] for i in counted], dtype=np.int64)
    errors = _Errors.of(states)
    lines = []
    for step in steps:
        found = [_state_at(step, relaxed, i, tracks.get(starts[i], {})) for i in counted]
        line: dict[str, Any] = {"arm": arm, "step": int(step)}
        line |= _line(
            np.array([row for row, _ in found], dtype=np.int64),
            np.array([ended for _, ended in found], dtype=np.bool_),
            errors,
            reference.values["energy_first"][own],
            reference.values["energy"][own],
            [relaxed.molecule[i] for i in counted],
            seed,
        )
        lines.append(line | {"n_excluded": int(kept.sum()) - len(counted)})
    return pandas.DataFrame(lines)


class _Errors:
    """DFT energies of states (hartree), whether DFT was computed, and errors of the NNP (kcal/mol, per angstrom)."""

    def __init__(self, energy: NDArray, computed: NDArray, energy_error: NDArray, force_error: NDArray) -> None:
        self.energy, self.computed = energy, computed
        self.energy_error, self.force_error = energy_error, force_error

    @classmethod
    def of(cls, states: ConformationSet) -> _Errors:
        status = states.values["status"]
        usable = (status == Status.OK) | (status == Status.REJECTED)  # energies of rejected labels are valid
        energy = np.where(usable, states.values["energy"], np.nan)
        difference = np.abs(states.atoms["nnp_force"] - states.atoms["force"]).mean(axis=1)
        force_error = np.array([difference[states.rows(i)].mean() for i in range(len(states))])
        return cls(
            energy,
            status != Status.NOT_COMPUTED,
            HARTREE_IN_KCAL_PER_MOL * np.abs(states.values["nnp_energy"] - energy),
            HARTREE_IN_KCAL_PER_MOL * np.where(usable, force_error, np.nan),
        )


def _state_at(step: int, relaxed: ConformationSet, i: int, track: Mapping[int, int]) -> tuple[int, bool]:
    """Return the row of the state of relaxation i at a step, and whether it is its last one, of an earlier step.

    The row is `_NOTHING` or `_NOT_KEPT` if there is no state.
    """
    last = int(relaxed.values["n_steps"][i])  # for a relaxation that diverged, the last finite state
    if step <= last:
        return track.get(step, _NOT_KEPT), False
    if StopReason(int(relaxed.values["stop_reason"][i])) in BLEW_UP:
        return _NOTHING, False
    return track.get(last, _NOT_KEPT), True


def _line(
    rows: NDArray[np.int64],
    ended: NDArray[np.bool_],
    errors: _Errors,
    first: NDArray,
    optimum: NDArray,
    molecules: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Compute the numbers of one step; all arguments are [n] over the counted conformations."""
    there = rows >= 0
    energy, energy_error, force_error = (np.full(len(rows), np.nan) for _ in range(3))
    energy[there] = errors.energy[rows[there]]
    energy_error[there] = errors.energy_error[rows[there]]
    force_error[there] = errors.force_error[rows[there]]
    unlabelled = rows == _NOT_KEPT
    unlabelled[there] |= ~errors.computed[rows[there]]
    known = np.isfinite(energy)
    share = metrics.percent_optimized(first, energy, optimum)
    has_diverged = metrics.diverged(first, energy)
    flags = np.where(unlabelled, np.nan, 100.0 * has_diverged)
    line: dict[str, Any] = {
        "n": int(known.sum()),
        "n_ended": int((known & ended).sum()),
        "n_failed": int((~known & ~unlabelled).sum()),
        "n_unlabelled": int(unlabelled.sum()),
    }
    for name, values in (("energy_error", energy_error), ("force_error", force_error)):
        p10, median, p90 = _percentiles(values)
        line |= {f"{name}_median": median, f"{name}_p10": p10, f"{name}_p90": p90}
    line |= {
        "percent_optimized_mean": metrics.mean(share),
        "percent_optimized_std": metrics.standard_deviation(share),
        "percent_diverged": metrics.mean(flags),
    }
    quantities = {
        "percent_optimized": Quantity(share, lowest=metrics.percent_of_failure(first - optimum)),
        "percent_diverged": Quantity(flags, share=True),
    }
    return line | intervals(quantities, molecules, seed=seed)


def _percentiles(values: NDArray) -> tuple[float, float, float]:
    """Return the 10th, 50th and 90th percentiles of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.nan, np.nan, np.nan
    p10, median, p90 = np.percentile(finite, [10, 50, 90])
    return float(p10), float(median), float(p90)


def _tracks(arm: str, states: ConformationSet) -> dict[str, dict[int, int]]:
    """Return the row of each state by test conformation and step.

    Raises:
        UserError: a relaxation has two states at one step.
    """
    tracks: dict[str, dict[int, int]] = {}
    for row, (name, step) in enumerate(zip(states.values["start_id"], states.values["step"])):
        track = tracks.setdefault(str(name), {})
        if int(step) in track:
            raise UserError(f"arm {arm}: {name} has two states at step {step}; keep each state once")
        track[int(step)] = row
    return tracks


def _starts(relaxed: ConformationSet) -> list[str]:
    """Return the id of the test conformation of each relaxation."""
    return [str(name) for name in relaxed.values.get("start_id", relaxed.id)]


def _check(arm: str, states: ConformationSet, relaxed: ConformationSet, reference: ConformationSet) -> None:
    missing = [name for name in _NEEDED if name not in states.values]
    missing += [name for name in ("force", "nnp_force") if name not in states.atoms]
    missing += [name for name in ("n_steps", "stop_reason") if name not in relaxed.values]
    if missing:
        raise UserError(f"arm {arm}: the states have no {missing[0]}; keep them when relaxing and label them")
    check_levels(arm, states, reference)
    known = set(reference.id)
    starts = _starts(relaxed)
    for name in starts:
        if name not in known:
            raise UserError(f"arm {arm}: {name} is not in the DFT minima; use the minima of the same test set")
    strays = {str(name) for name in states.values["start_id"]} - set(starts)
    if strays:
        raise UserError(f"arm {arm}: {sorted(strays)[0]} has states but was not relaxed; use states of this arm")
