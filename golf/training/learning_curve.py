"""Find out whether more initial labels would help: train on subsets, and fit the error on held-out molecules.

The error of a network falls with the number of labels n like a n^-b until something else limits it (Hestness et al.,
arXiv:1712.00409). Twice as many labels then multiply the error by 2^-b.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.files import written_whole
from golf.nnp.potential import Architecture, Provenance, pick_device
from golf.training.loop import Schedule, TrainingDiverged, errors, train
from golf.training.recipe import Machine, TrainingOptions, new_potential, recorded_level, split_validation

logger = logging.getLogger(__name__)

HELPS = 0.10
"""More labels help a lot if twice as many remove at least this share of the error."""

UNDERTRAINED = 0.8
"""A network has not learned its labels if its error on them is above this share of the error on other molecules."""

LEARNED = 0.5
"""A network has learned its labels if its error on them is below this share of the error on other molecules."""


@dataclass(frozen=True)
class Point:
    """A point of the learning curve: mean absolute errors after training on a subset."""

    fraction: float
    n_labels: int
    force_error: float  # kcal/mol/angstrom
    energy_error: float  # kcal/mol
    training_force_error: float  # kcal/mol/angstrom, on the training labels


COLUMNS = (
    "fraction",
    "n_labels",
    "validation_force_mae_kcal_per_mol_angstrom",
    "validation_energy_mae_kcal_per_mol",
    "training_force_mae_kcal_per_mol_angstrom",
)


def learning_curve(
    labelled: ConformationSet,
    fractions: Sequence[float],
    *,
    work: Path,
    architecture: Architecture,
    energies: Mapping[str, float],
    options: TrainingOptions,
    config_sha256: str,
    seed: int,
    machine: Machine,
) -> Iterator[Point]:
    """Train on nested subsets of the labels, smallest first, with the same settings; yield a point for each.

    Args:
        labelled: conformations with a label; some of their molecules are held out for validation.
        fractions: sizes of the subsets as increasing shares of the remaining conformations.
        work: folder for checkpoints, from which an interrupted curve resumes.
        architecture: architecture of the network.
        energies: reference energies in hartree by symbol, the same for all subsets, so that only the network differs.
        options: settings of the trainings; the validation fraction must be above 0.
        config_sha256: hash of the configuration, to record in the models.
        seed: seed of weights, batches, split and subsets.
        machine: threads, device and deadline.

    Raises:
        UserError: a subset is empty or as large as another one, or a training diverged.
        NothingToTrainOn: no molecule is left for training.
    """
    training, validation = split_validation(labelled, options.validation_fraction, seed, "molecule")
    if validation is None:
        raise ValueError("a learning curve needs a validation fraction above 0")
    sizes = [round(fraction * len(training)) for fraction in fractions]
    if sizes[0] < 1 or len(set(sizes)) < len(sizes):
        raise UserError(
            f"subsets of {', '.join(map(str, sizes))} of {len(training)} labels: sizes must differ and be at least 1;"
            " choose other fractions"
        )
    order = np.random.default_rng(seed).permutation(len(training))
    schedule = Schedule(options.learning_rate, options.updates, warmup_updates=options.warmup_updates)
    for fraction, size in zip(fractions, sizes, strict=True):
        subset = training.subset(np.sort(order[:size]))
        logger.info("training on %d of %d labels", size, len(training))
        start = new_potential(subset, energies, architecture, Provenance(recorded_level(labelled), config_sha256, seed))
        try:
            trained, _ = train(
                start,
                subset,
                options.settings(options.updates, schedule, seed),
                checkpoint=work / f"{size}.checkpoint.pt",
                metrics=work / f"{size}.csv",
                validation=validation,
                checkpoint_seconds=options.checkpoint_seconds,
                threads=machine.threads,
                device=pick_device(machine.device),
            )
        except TrainingDiverged as error:
            raise UserError(f"training on {size} labels: {error}") from None
        training_error, _ = errors(trained, trained.molecules(subset))
        yield Point(fraction, size, *errors(trained, trained.molecules(validation)), training_error)


def power_law(points: Sequence[Point]) -> tuple[float, float]:
    """Fit the force error as a n^-b by least squares of its logarithm; return a (kcal/mol/angstrom) and b."""
    n, error = (np.log([getattr(point, name) for point in points]) for name in ("n_labels", "force_error"))
    slope, intercept = np.polyfit(n, error, 1)
    return math.exp(intercept), -float(slope)


def verdict(points: Sequence[Point]) -> str:
    """Judge in one sentence whether more initial labels would help a lot: twice as many remove a share `HELPS`."""
    a, b = power_law(points)
    n = points[-1].n_labels
    last = points[-1]
    if b <= 0.0 and last.training_force_error < LEARNED * last.force_error:
        return (
            f"Conformations of more or other molecules are needed: the network has learned its {n} labels (force error"
            f" {last.training_force_error:.2f} kcal/mol/angstrom), but its error on held-out molecules is"
            f" {last.force_error:.2f} and does not fall from {points[0].n_labels} to {n} labels."
        )
    if b <= 0.0:
        return (
            f"The force error does not fall from {points[0].n_labels} to {n} labels, so the benefit of more labels is"
            " unknown: train for more updates, or check the labels."
        )
    fewer = 1.0 - 2.0**-b
    if fewer < HELPS and last.training_force_error > UNDERTRAINED * last.force_error:
        return (
            f"The network has not learned its {n} labels: its force error is {last.training_force_error:.2f}"
            f" kcal/mol/angstrom on them and {last.force_error:.2f} on held-out molecules. The benefit of more labels"
            " is unknown: train for more updates."
        )
    help_ = "would still help a lot" if fewer >= HELPS else "would not help a lot"
    return (
        f"More initial labels {help_}: by the fit {a:.3g} n^-{b:.2f}, {2 * n} instead of {n} labels would lower the"
        f" force error on held-out molecules from {a * n**-b:.2f} to {a * (2 * n) ** -b:.2f} kcal/mol/angstrom,"
        f" by {100 * fewer:.0f} % (the criterion is {100 * HELPS:.0f} %)."
    )


def write_curve(path: str | Path, points: Sequence[Point]) -> None:
    """Write the points as CSV, one row per subset."""
    with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows([f"{value:.6g}" for value in astuple(point)] for point in points)
