"""The trainings of a study, from files to files.

A training may be killed at any time: called again, it goes on from its checkpoint.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from golf.batches import labelled_indices
from golf.conformations import ConformationSet, Status, concatenate
from golf.deadline import Deadline
from golf.domain import Domain
from golf.elements import SYMBOLS
from golf.errors import UserError
from golf.files import written_whole
from golf.hdf5 import read
from golf.locks import LockedFile
from golf.oracles.base import LEVEL_ATTRS, LevelOfTheory, level_difference
from golf.potential import (
    Architecture,
    Potential,
    Provenance,
    load,
    load_training_state,
    pick_device,
)
from golf.reference_energies import fit_reference_energies, force_scale
from golf.repulsion import Wall, shortest_distances
from golf.training import Schedule, Settings, train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """Section `training` of the configuration; see its schema."""

    updates: int
    batch_size: int
    learning_rate: float
    warmup_updates: int
    gradient_clip: float
    ema_decay: float
    force_weight: float
    energy_weight: float
    validation_fraction: float
    validation_split: str  # conformation or molecule
    validation_interval: int
    checkpoint_seconds: float

    def settings(self, n_updates: int, schedule: Schedule, seed: int, initial_fraction: float = 0.0) -> Settings:
        """Settings of one training."""
        return Settings(
            n_updates=n_updates,
            batch_size=self.batch_size,
            schedule=schedule,
            initial_fraction=initial_fraction,
            gradient_clip=self.gradient_clip,
            ema_decay=self.ema_decay,
            force_weight=self.force_weight,
            energy_weight=self.energy_weight,
            interval=self.validation_interval,
            seed=seed,
        )


@dataclass(frozen=True)
class Outputs:
    """Files of one training; its checkpoint and its lock lie beside the model."""

    model: str
    metrics: str

    @property
    def checkpoint(self) -> Path:
        """Where the training is resumed from."""
        return Path(self.model).with_suffix(".checkpoint.pt")

    @property
    def lock(self) -> Path:
        """Held by the one process that trains."""
        return Path(self.model).with_suffix(".lock")


@dataclass(frozen=True)
class Machine:
    """Where a training runs, and until when."""

    threads: int
    device: str  # auto, cpu or cuda
    deadline: Deadline = field(default_factory=Deadline)


def split_validation(
    labelled: ConformationSet,
    fraction: float,
    seed: int,
    by: str,
    *,
    where: str = "key training.validation_split",
    remedy: str = "split by conformation, or label more molecules",
) -> tuple[ConformationSet, ConformationSet | None]:
    """Training and validation part of the initial labels; the same split in every training of a study.

    Args:
        fraction: of the conformations, or of the molecules, that have a label.
        by: conformation, or molecule: then no conformation of a validation molecule is trained on, and there is at
            least one such molecule unless the fraction is 0.
        where, remedy: of the message where that fails; as given, those of a study.

    Raises:
        UserError: a split by molecule leaves none to train on.
    """
    good = np.flatnonzero(labelled.values["status"] == Status.OK)
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labelled), dtype=bool)
    if by == "conformation":
        mask[rng.permutation(good)[: round(fraction * len(good))]] = True
    elif fraction > 0.0:
        molecules = sorted({labelled.molecule[i] for i in good})
        n_validation = max(1, round(fraction * len(molecules)))
        if n_validation >= len(molecules):
            raise UserError(
                f"{where}: {n_validation} of {len(molecules)} molecules for validation leaves none to train on;"
                f" {remedy}"
            )
        mask = np.isin(labelled.molecule, rng.permutation(molecules)[:n_validation])
    return (labelled.subset(~mask), labelled.subset(mask)) if mask.any() else (labelled, None)


def reference_energies(
    labelled: ConformationSet, given: Mapping[str, float] | None, labels: str | Path
) -> dict[str, float]:
    """The energy of each element (hartree, by symbol): as given, or fitted to the labels.

    Raises:
        UserError: an element of the labels has no given energy, or there are no labels.
    """
    if given is None:
        return {SYMBOLS[z]: energy for z, energy in fit_reference_energies(labelled, labels).items()}
    missing = {SYMBOLS[z] for z in set(labelled.number.tolist())} - given.keys()
    if missing:
        raise UserError(f"key nnp.reference_energies: has no energy for {min(missing)}, which {labels} contains")
    return dict(given)


def reference_energies_to_file(labels: str, given: Mapping[str, float] | None, output: str) -> None:
    """Write the reference energies; see `reference_energies`."""
    energies = reference_energies(read(labels), given, labels)
    with written_whole(output) as temporary:
        temporary.write_text(json.dumps(energies, indent=2) + "\n", encoding="utf-8")


def new_potential(
    training: ConformationSet, energies: Mapping[str, float], architecture: Architecture, provenance: Provenance
) -> Potential:
    """A network with new weights, its scale, its wall and its domain those of the training set.

    Args:
        energies: hartree, by symbol.
    """
    torch.manual_seed(provenance.seed)
    potential = Potential(
        architecture, {SYMBOLS.index(symbol): x for symbol, x in energies.items()}, provenance=provenance
    )
    molecules = potential.molecules(training)
    potential.scale = force_scale(molecules)
    potential.domain = domain_of(potential, training)
    if potential.repulsion is not None:
        potential.repulsion = Wall(shortest_distances(molecules))
    return potential


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
    """A new network on the initial labels."""
    labelled = read(labels)
    training, validation = split_validation(labelled, options.validation_fraction, seed, options.validation_split)
    provenance = Provenance({name: str(labelled.attrs[name]) for name in LEVEL_ATTRS}, config_sha256, seed)
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
        UserError: it is of another level of theory, or does not know an element of the conformations.
    """
    potential = load(model)
    check_level(model, potential, level)
    potential.check_elements(read(conformations), conformations)
    potential.save(output)


def check_level(model: str, potential: Potential, level: LevelOfTheory) -> None:
    """Raise UserError where the potential of a file was trained on labels of another level than the oracle's."""
    difference = level_difference(potential.provenance.level, level.attrs())
    if difference:
        raise UserError(
            f"{model}: its training data and the oracle differ in {difference}; give a model of the oracle's level "
            "of theory"
        )


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
    """As many further updates as the GOLF rounds have, at their learning rate, on the initial labels alone."""
    training, validation = split_validation(read(labels), options.validation_fraction, seed, options.validation_split)
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
    """One GOLF round's training: batches of the labels of all rounds so far, with a share of the initial ones.

    Where no round has brought a label that can be trained on, the initial ones alone are used.
    """
    initial, validation = split_validation(
        read(initial_labels), options.validation_fraction, seed, options.validation_split
    )
    new = concatenate([read(path) for path in new_labels])
    schedule = Schedule(learning_rate, n_rounds * updates, first_update=(round_number - 1) * updates)
    start = continued(load(model), config_sha256, seed, initial, new)
    if not has_labels(new):
        logger.warning("round %d: no new label to train on; training goes on with the initial ones", round_number)
        new, initial_fraction = initial, 0.0
    settings = options.settings(updates, schedule, seed, initial_fraction)
    train_to_file(start, new, settings, outputs, machine, options, model=model, initial=initial, validation=validation)


def has_labels(conformations: ConformationSet) -> bool:
    """Whether there is anything to train on."""
    return "status" in conformations.values and bool((conformations.values["status"] == Status.OK).any())


def continued(potential: Potential, config_sha256: str, seed: int, *training: ConformationSet) -> Potential:
    """A potential that training goes on with: stamped as of now, its domain widened by that of the training sets."""
    potential.provenance = replace(potential.provenance, config_sha256=config_sha256, seed=seed)
    if potential.domain is not None:
        for part in training:
            potential.domain |= domain_of(potential, part)
    return potential


def domain_of(potential: Potential, conformations: ConformationSet) -> Domain:
    """What those of the conformations have that have a label."""
    labelled = conformations.subset(labelled_indices(conformations))
    return Domain.of(labelled, shortest_distances(potential.molecules(labelled)))


def train_to_file(
    start: Potential,
    main: ConformationSet,
    settings: Settings,
    outputs: Outputs,
    machine: Machine,
    options: TrainingOptions,
    *,
    model: str | None = None,
    **sets: Any,
) -> Potential:
    """Train a potential, save it with its training state, and return it.

    Args:
        model: file that `start` comes from, whose optimizer goes on; None: a new one.
        sets: further arguments of `golf.training.train`.
    """
    # Who waits here for a job that has outlived its Snakemake goes on from that one's last checkpoint.
    with LockedFile(outputs.lock, machine.deadline):
        potential, state = train(
            start,
            main,
            settings,
            checkpoint=outputs.checkpoint,
            metrics=outputs.metrics,
            state=None if model is None else load_training_state(model),
            checkpoint_seconds=options.checkpoint_seconds,
            threads=machine.threads,
            device=pick_device(machine.device),
            **sets,
        )
        potential.save(outputs.model, state)
        return potential
