"""Run the trainings of a study, from files to files.

A training may be killed at any time: called again, it resumes from its checkpoint.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from golf.core.conformations import ConformationSet, concatenate
from golf.core.errors import UserError
from golf.core.files import written_whole
from golf.core.hdf5 import read
from golf.core.level import LevelOfTheory
from golf.nnp.potential import Architecture, Provenance, load
from golf.training.loop import Schedule
from golf.training.recipe import (
    Machine,
    NothingToTrainOn,
    Outputs,
    TrainingOptions,
    check_level,
    continued,
    has_labels,
    new_potential,
    recorded_level,
    reference_energies,
    split_validation,
    train_to_file,
)

logger = logging.getLogger(__name__)


def reference_energies_to_file(labels: str, given: Mapping[str, float] | None, output: str) -> None:
    """Write the reference energies; see `reference_energies`."""
    energies = reference_energies(read(labels), given, labels)
    with written_whole(output) as temporary:
        temporary.write_text(json.dumps(energies, indent=2) + "\n", encoding="utf-8")


def split_of_study(
    labelled: ConformationSet, fraction: float, seed: int, by: str
) -> tuple[ConformationSet, ConformationSet | None]:
    """Split labels as `golf.training.recipe.split_validation` does, with errors that name the key.

    Raises:
        UserError: no molecules are left for training.
    """
    try:
        return split_validation(labelled, fraction, seed, by)
    except NothingToTrainOn as error:
        remedy = "split by conformation, or label more molecules"
        raise UserError(f"key training.validation_split: {error}; {remedy}") from None


def train_baseline(
    labels: str,
    reference_energies: str,
    outputs: Outputs,
    *,
    architecture: Architecture,
    options: TrainingOptions,
    config_sha256: str,
    seed: int,
    machine: Machine,
) -> None:
    """Train a new network on the initial labels."""
    labelled = read(labels)
    training, validation = split_of_study(labelled, options.validation_fraction, seed, options.validation_split)
    provenance = Provenance(recorded_level(labelled), config_sha256, seed)
    start = new_potential(
        training, json.loads(Path(reference_energies).read_text(encoding="utf-8-sig")), architecture, provenance
    )
    schedule = Schedule(options.learning_rate, options.updates, warmup_updates=options.warmup_updates)
    train_to_file(
        start,
        training,
        options.settings(options.updates, schedule, seed),
        outputs,
        machine,
        options,
        validation=validation,
    )


def start_from(model: str, conformations: str, level: LevelOfTheory, output: str) -> None:
    """Write the model that a study starts from instead of a baseline of its own; its training state is left behind.

    Raises:
        UserError: it has another level of theory, or lacks an element of the conformations.
    """
    potential = load(model)
    check_level(model, potential, level)
    potential.check_elements(read(conformations), conformations)
    potential.save(output)


def continue_baseline(
    labels: str,
    model: str,
    outputs: Outputs,
    *,
    updates: int,
    learning_rate: float,
    options: TrainingOptions,
    config_sha256: str,
    seed: int,
    machine: Machine,
) -> None:
    """Train the baseline on the initial labels alone, with the updates and learning rate of all GOLF rounds."""
    training, validation = split_of_study(read(labels), options.validation_fraction, seed, options.validation_split)
    settings = options.settings(updates, Schedule(learning_rate, updates), seed)
    start = continued(load(model), config_sha256, seed, training)
    train_to_file(start, training, settings, outputs, machine, options, model=model, validation=validation)


def train_round(
    initial_labels: str,
    new_labels: Sequence[str],
    model: str,
    outputs: Outputs,
    *,
    round_number: int,
    n_rounds: int,
    updates: int,
    learning_rate: float,
    initial_fraction: float,
    options: TrainingOptions,
    config_sha256: str,
    seed: int,
    machine: Machine,
) -> None:
    """Train for one round on the labels of all rounds so far, with a share of the initial ones in each batch.

    If no round has given a usable label, the initial ones alone are used.
    """
    initial, validation = split_of_study(
        read(initial_labels), options.validation_fraction, seed, options.validation_split
    )
    new = concatenate([read(path) for path in new_labels])
    schedule = Schedule(learning_rate, n_rounds * updates, first_update=(round_number - 1) * updates)
    start = continued(load(model), config_sha256, seed, initial, new)
    if not has_labels(new):
        logger.warning("round %d: no new label to train on; training continues with the initial ones", round_number)
        new, initial_fraction = initial, 0.0
    settings = options.settings(updates, schedule, seed, initial_fraction)
    train_to_file(start, new, settings, outputs, machine, options, model=model, initial=initial, validation=validation)
