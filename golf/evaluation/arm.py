"""Evaluate one arm of a study against the DFT minima of the test set: per conformation, and as numbers of the arm.

Special cases:

- A test conformation without a DFT minimum (its optimization did not converge) is excluded from every number of every
  arm, counted in `n_excluded`, and reported in a warning.
- A relaxation whose end has no DFT energy (not finite, or DFT failed there for any reason) has diverged. It has neither
  E_res nor pct(s_T), so it is missing from their means; it counts in percent_diverged and is not a success. It is
  counted in `n_without_energy`, because a mean over fewer runs looks better than it should.
- A relaxation that ended above its start has diverged and is not a success, but its E_res enters the mean unchanged.
- A relaxation that ended below the DFT minimum (in a deeper basin) has a negative E_res. It is a success and enters the
  mean unchanged.
- If the DFT optimization gained less than 1e-6 hartree, pct(s_T) is undefined; counted in `n_without_gain`.
- A relaxation that ended without a geometry (not finite, or its forces failed) is left out of coverage and matching;
  counted in `n_without_geometry`. If all relaxations of a molecule ended so, none of its DFT minima is covered, and its
  matching is undefined.

Intervals are 95 % intervals over molecules; those of shares are exact (`golf.evaluation.intervals`). Those of means
allow for a failure that is not in the sample: for E_res `golf.evaluation.metrics.FAILURE`, for pct(s_T) the value after
such a failure with an average gain, for matching the largest distance at which a minimum is covered.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.chem.molecules import canonical_smiles
from golf.chem.rmsd import rmsd_to_minima
from golf.core.conformations import NEAR_TRAINING, ConformationSet, Status, StopReason
from golf.core.errors import UserError
from golf.core.level import level_difference
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.evaluation import metrics
from golf.evaluation.intervals import Quantity, intervals

logger = logging.getLogger(__name__)

BLEW_UP = (StopReason.NOT_FINITE, StopReason.FAILED)
"""Relaxations that ended without a geometry, so that no energy is expected."""


def evaluate_arm(
    arm: str,
    relaxed: ConformationSet,
    reference: ConformationSet,
    *,
    n_labels: int,
    n_updates: int | None = None,
    training_molecules: Collection[str] | None = None,
    near_training: Collection[str] | None = None,
    seed: int = 0,
) -> ConformationSet:
    """Compare the ends of relaxations with the DFT minima reached from the same starts.

    Args:
        arm: name of the arm.
        relaxed: final geometries with their DFT labels (energy, status), matched with the reference by `start_id`, or
            by id if there is no such column.
        reference: DFT minima as returned by `golf.oracles.minima.optimize_reference` for the same starts.
        n_labels: number of DFT labels that the arm's model was trained or validated on.
        n_updates: training updates of the arm's model; None if it has no trained model.
        training_molecules: names of the test molecules that are in training; splits the table into seen and unseen
            molecules.
        near_training: ids of the starts within dataset.prune_rmsd of a training conformation; None: unknown.
        seed: seed of the intervals.

    Returns:
        `relaxed` with the columns residual_energy, energy_gain (of DFT; both in hartree), percent_optimized, diverged,
        rmsd, nearest_rmsd (both in angstrom) and has_reference; with `training_molecules` also unseen, with
        `near_training` also near_training. The attributes are the arm's row of the table.

    Raises:
        UserError: the arguments do not cover the same starts, labels are missing, levels of theory differ, or two
            molecules have the same name.
    """
    check_levels(arm, relaxed, reference)
    order = _match(arm, relaxed, reference)
    _check_starts(arm, relaxed, reference, order)
    final = _final_energies(arm, relaxed)
    converged = (reference.values["status"] == Status.OK)[order]
    first = reference.values["energy_first"][order]
    optimum = np.where(converged, reference.values["energy"][order], np.nan)
    own, nearest = rmsd_to_minima(relaxed, has_geometry(relaxed), reference.subset(order), converged)
    values: dict[str, NDArray] = {
        "residual_energy": metrics.residual_energy(final, optimum),
        "energy_gain": first - optimum,
        "percent_optimized": metrics.percent_optimized(first, final, optimum),
        "diverged": metrics.diverged(first, final),
        "rmsd": own,
        "nearest_rmsd": nearest,
        "has_reference": converged,
    }
    if training_molecules is not None:
        values["unseen"] = np.array([name not in training_molecules for name in relaxed.molecule], dtype=np.bool_)
    if near_training is not None:
        values[NEAR_TRAINING] = np.array([name in near_training for name in _starts(relaxed)], dtype=np.bool_)
    attrs: dict[str, Any] = {"arm": arm, "n_labels": n_labels}
    if n_updates is not None:
        attrs["n_updates"] = n_updates
    evaluated = relaxed.with_columns(values=values, **attrs)
    line = measures(evaluated, np.ones(len(evaluated), np.bool_), seed)
    _warn(arm, line)
    return evaluated.with_columns(**line)


def seen_molecules(relaxed: ConformationSet, training: ConformationSet) -> set[str]:
    """Return the names of the relaxed molecules that are in training, under the same or another name."""
    known = {canonical_smiles(smiles) for smiles in set(training.mapped_smiles)}
    pairs = set(zip(relaxed.molecule, relaxed.mapped_smiles, strict=True))
    return {name for name, smiles in pairs if canonical_smiles(smiles) in known}


def check_levels(arm: str, labelled: ConformationSet, reference: ConformationSet) -> None:
    """Raise a UserError if the labels of an arm and the DFT minima have different levels of theory."""
    difference = level_difference(labelled.attrs, reference.attrs)
    if difference:
        raise UserError(f"arm {arm}: its labels and the DFT minima differ in {difference}; label it at their level")


def has_geometry(relaxed: ConformationSet) -> NDArray[np.bool_]:
    """Tell which relaxations [n] ended in a geometry; for the others `position` is the last finite geometry."""
    stop = relaxed.values.get("stop_reason", np.full(len(relaxed), StopReason.CONVERGED))
    return ~np.isin(stop, [int(reason) for reason in BLEW_UP])


def _starts(relaxed: ConformationSet) -> list[str]:
    """Return the id of the start of each relaxation [n]."""
    return [str(name) for name in relaxed.values.get("start_id", relaxed.id)]


def _match(arm: str, relaxed: ConformationSet, reference: ConformationSet) -> NDArray[np.int64]:
    """Return the index in the reference of each relaxation [n].

    Raises:
        UserError: not every start was relaxed exactly once.
    """
    names = _starts(relaxed)
    position = {name: i for i, name in enumerate(reference.id)}
    for name in names:
        if name not in position:
            raise UserError(f"arm {arm}: {name} is not in the DFT minima; use the minima of the same test set")
    missing = position.keys() - set(names)
    if missing or len(names) != len(set(names)):
        what = f"{sorted(missing)[0]} was not relaxed" if missing else "a start was relaxed twice"
        raise UserError(f"arm {arm}: {what}, so arms would not be comparable; relax the whole test set once")
    return np.array([position[name] for name in names], dtype=np.int64)


def _check_starts(arm: str, relaxed: ConformationSet, reference: ConformationSet, order: NDArray[np.int64]) -> None:
    if "initial_position" not in relaxed.atoms or "initial_position" not in reference.atoms:
        return
    for i, k in enumerate(order):
        here = relaxed.atoms["initial_position"][relaxed.rows(i)]
        there = reference.atoms["initial_position"][reference.rows(int(k))]
        if here.shape != there.shape or np.abs(here - there).max() > 1e-6:
            raise UserError(
                f"arm {arm}: {relaxed.id[i]} was relaxed from another start than its DFT minimum; "
                "use the minima of the same test set"
            )


def _final_energies(arm: str, relaxed: ConformationSet) -> NDArray[np.float64]:
    """Return E_DFT(s_T) of each relaxation [n] in hartree; NaN if there is none.

    Raises:
        UserError: labels are missing.
    """
    if "status" not in relaxed.values or "energy" not in relaxed.values:
        raise UserError(f"arm {arm}: the final geometries have no DFT labels; label them first")
    status = relaxed.values["status"]
    stop = relaxed.values.get("stop_reason", np.full(len(relaxed), StopReason.CONVERGED))
    for i in np.flatnonzero(status == Status.NOT_COMPUTED):
        if stop[i] not in BLEW_UP:
            raise UserError(f"arm {arm}: {relaxed.id[i]} has no DFT label; label the final geometries first")
    usable = (status == Status.OK) | (status == Status.REJECTED)  # energies of rejected labels are valid
    usable &= has_geometry(relaxed)
    return np.where(usable, relaxed.values["energy"], np.nan)


def checked(arm: ConformationSet) -> ConformationSet:
    """Check that an argument was returned by `evaluate_arm`, and return it.

    Raises:
        UserError: columns or attributes are missing.
    """
    needed = (
        "residual_energy",
        "energy_gain",
        "percent_optimized",
        "diverged",
        "rmsd",
        "nearest_rmsd",
        "has_reference",
    )
    if "arm" not in arm.attrs or any(name not in arm.values for name in needed):
        raise UserError(f"{arm.attrs.get('arm', 'a file')}: has no metrics of an arm; evaluate it first")
    return arm


def measures(arm: ConformationSet, chosen: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """Return the row of the table for the chosen conformations (bool [n]) of an arm; see `evaluate_arm`."""
    counted = chosen & arm.values["has_reference"].astype(np.bool_)
    molecules = [name for name, counts in zip(arm.molecule, counted) if counts]
    residual = arm.values["residual_energy"][counted] * HARTREE_IN_KCAL_PER_MOL
    share = arm.values["percent_optimized"][counted]
    has_diverged = arm.values["diverged"][counted].astype(np.bool_)
    success = metrics.succeeded(residual / HARTREE_IN_KCAL_PER_MOL, has_diverged)
    nearest = arm.values["nearest_rmsd"][counted]
    coverage, matching = metrics.coverage(nearest, molecules), metrics.matching(nearest, molecules)
    line = {
        "arm": str(arm.attrs["arm"]),
        "n_test": int(counted.sum()),
        "n_labels": int(arm.attrs["n_labels"]),
        "residual_energy_kcal_mol": metrics.mean(residual),
        "percent_success": metrics.percent(success),
        "percent_optimized_mean": metrics.mean(share),
        "percent_optimized_std": metrics.standard_deviation(share),
        "percent_diverged": metrics.percent(has_diverged),
        "coverage_percent": metrics.mean(coverage),
        "matching_angstrom": metrics.mean(matching),
    }
    gain = arm.values["energy_gain"][counted]
    line |= intervals(
        {
            "residual_energy": Quantity(residual, highest=metrics.FAILURE * HARTREE_IN_KCAL_PER_MOL),
            "percent_success": Quantity(100.0 * success, share=True),
            "percent_optimized": Quantity(share, lowest=metrics.percent_of_failure(gain)),
            "percent_diverged": Quantity(100.0 * has_diverged, share=True),
        },
        molecules,
        seed=seed,
    )
    by_molecule = {
        "coverage": Quantity(coverage, share=True),
        "matching": Quantity(matching, highest=metrics.COVERAGE_THRESHOLD),
    }
    line |= intervals(by_molecule, sorted(set(molecules)), seed=seed)
    line |= {
        "n_molecules": len(coverage),
        "n_excluded": int((chosen & ~counted).sum()),
        "n_without_energy": int((~np.isfinite(residual)).sum()),
        "n_without_gain": int((np.isfinite(residual) & ~np.isfinite(share)).sum()),
        "n_without_geometry": int((counted & ~has_geometry(arm)).sum()),
    }
    if NEAR_TRAINING in arm.values:
        line["n_near_training"] = int(arm.values[NEAR_TRAINING][counted].sum())
    if "n_updates" in arm.attrs:
        line["n_updates"] = int(arm.attrs["n_updates"])
    return line


def _warn(arm: str, line: Mapping[str, Any]) -> None:
    if line["n_excluded"]:
        logger.warning("%s: %d test conformations have no DFT minimum and are left out", arm, line["n_excluded"])
    if line["n_without_energy"]:
        logger.warning("%s: %d relaxations ended without a DFT energy: diverged", arm, line["n_without_energy"])
