"""Are there enough initial labels? Trainings on subsets, their error on other molecules, and what more would bring.

The error of a network falls with the number of labels n like a n^-b until something else limits it (Hestness et al.,
arXiv:1712.00409). Twice the labels then leave 2^-b of the error.
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
from golf.training.own_labels import level_of
from golf.training.recipe import Machine, TrainingOptions, new_potential, split_validation

logger = logging.getLogger(__name__)

HELPS = 0.10
"""Share of the error that twice the labels have to remove for more of them to help a lot."""

UNDERTRAINED = 0.8
"""Of the error on other molecules: a network that is no better on its own labels has not learnt these yet."""


LEARNT = 0.5
"""Of the error on other molecules: a network that is so much better on its own labels has learnt these."""


@dataclass(frozen=True)
class Point:
    """Mean absolute errors on the validation molecules after a training on a subset."""

    fraction: float
    n_labels: int
    force_error: float  # kcal/mol/angstrom
    energy_error: float  # kcal/mol
    training_force_error: float  # kcal/mol/angstrom, on the labels that it was trained on


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
    """Train on growing subsets of the labels, each part of the next, all with the same settings.

    Args:
        labelled: conformations with a label; some of their molecules are kept for validation.
        fractions: of the remaining conformations, increasing.
        work: folder for checkpoints, from which an interrupted curve goes on.
        energies: hartree, by symbol; the same for all subsets, so that the network alone is compared.

    Raises:
        UserError: a subset is empty or has the size of another, or there is no molecule to spare for validation.
    """
    training, validation = split_validation(
        labelled,
        options.validation_fraction,
        seed,
        "molecule",
        where=f"--validation-fraction {options.validation_fraction:g}",
        remedy="give labels of more molecules, or a smaller fraction",
    )
    if validation is None:
        raise UserError("--validation-fraction 0: a learning curve needs validation molecules; give more")
    sizes = [round(fraction * len(training)) for fraction in fractions]
    if sizes[0] < 1 or len(set(sizes)) < len(sizes):
        raise UserError(f"--fractions: give {sizes} of {len(training)} labels; these have to be different, at least 1")
    order = np.random.default_rng(seed).permutation(len(training))
    schedule = Schedule(options.learning_rate, options.updates, warmup_updates=options.warmup_updates)
    for fraction, size in zip(fractions, sizes, strict=True):
        subset = training.subset(np.sort(order[:size]))
        logger.info("training on %d of %d labels", size, len(training))
        start = new_potential(subset, energies, architecture, Provenance(level_of(labelled), config_sha256, seed))
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
    """a (kcal/mol/angstrom) and b of the force error a n^-b, by least squares of its logarithm."""
    n, error = (np.log([getattr(point, name) for point in points]) for name in ("n_labels", "force_error"))
    slope, intercept = np.polyfit(n, error, 1)
    return math.exp(intercept), -float(slope)


def verdict(points: Sequence[Point]) -> str:
    """One sentence: would more initial labels still help a lot? They do where twice as many remove `HELPS`."""
    a, b = power_law(points)
    n = points[-1].n_labels
    last = points[-1]
    if b <= 0.0 and last.training_force_error < LEARNT * last.force_error:
        return (
            f"Conformations of more or other molecules are needed: the network has learnt its {n} labels, with a force"
            f" error on them of {last.training_force_error:.2f} kcal/mol/angstrom, but on molecules that were not"
            f" trained on it is {last.force_error:.2f}, and does not fall from {points[0].n_labels} to {n} labels."
        )
    if b <= 0.0:
        return (
            f"The force error does not fall from {points[0].n_labels} to {n} labels, so this curve says nothing about"
            " more of them: give more --updates, or look at the labels."
        )
    fewer = 1.0 - 2.0**-b
    if fewer < HELPS and last.training_force_error > UNDERTRAINED * last.force_error:
        return (
            f"The network has not learnt the {n} labels that it has: its force error on them is"
            f" {last.training_force_error:.2f} kcal/mol/angstrom, on other molecules {last.force_error:.2f}. Whether"
            " more labels would help cannot be said: give more --updates."
        )
    help_ = "would still help a lot" if fewer >= HELPS else "would not help a lot"
    return (
        f"More initial labels {help_}: by the fit {a:.3g} n^-{b:.2f}, {2 * n} instead of {n} would lower the force"
        f" error on molecules that were not trained on from {a * n**-b:.2f} to {a * (2 * n) ** -b:.2f}"
        f" kcal/mol/angstrom, by {100 * fewer:.0f} % (the criterion is {100 * HELPS:.0f} %)."
    )


def write_curve(path: str | Path, points: Sequence[Point]) -> None:
    """CSV with a row per subset."""
    with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows([f"{value:.6g}" for value in astuple(point)] for point in points)
