"""The parts that all trainings share: validation split, reference energies, new or continued network, output files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from golf.core.conformations import ConformationSet, Status
from golf.core.deadline import Deadline
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.labels import labelled_indices
from golf.core.level import LEVEL_ATTRS, LevelOfTheory, level_difference
from golf.core.locks import LockedFile
from golf.nnp.domain import Domain
from golf.nnp.potential import (
    Architecture,
    Potential,
    Provenance,
    load_training_state,
    pick_device,
)
from golf.nnp.reference_energies import fit_reference_energies, force_scale
from golf.nnp.repulsion import Wall, shortest_distances
from golf.training.loop import Schedule, Settings, train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """Section `training` of the configuration; see schemas/config.schema.yaml."""

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
        """Return the settings of one training of `n_updates` updates."""
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
    """Output files of one training; its checkpoint and its lock are beside the model."""

    model: str
    metrics: str

    @property
    def checkpoint(self) -> Path:
        """File from which the training resumes."""
        return Path(self.model).with_suffix(".checkpoint.pt")

    @property
    def lock(self) -> Path:
        """Lock that the training process holds."""
        return Path(self.model).with_suffix(".lock")


@dataclass(frozen=True)
class Machine:
    """The threads and the device on which the network runs, and the deadline."""

    threads: int
    device: str  # auto, cpu or cuda
    deadline: Deadline = field(default_factory=Deadline)


class NothingToTrainOn(Exception):
    """The validation split leaves no molecules for training; callers add which setting to change."""


def split_validation(
    labelled: ConformationSet, fraction: float, seed: int, by: str
) -> tuple[ConformationSet, ConformationSet | None]:
    """Split labelled conformations into a training and a validation set, the same way in every training of a study.

    Args:
        labelled: conformations; those without a label are never in the validation set.
        fraction: share of the conformations, or of the molecules, with a label that is held out.
        seed: seed of the split.
        by: "conformation"; or "molecule": then no conformation of a validation molecule is trained on, and at least one
            molecule is held out unless the fraction is 0.

    Returns:
        The training set and the validation set; None instead of an empty validation set.

    Raises:
        NothingToTrainOn: a split by molecule leaves none to train on.
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
            raise NothingToTrainOn(
                f"{n_validation} of {len(molecules)} molecules for validation leaves none to train on"
            )
        mask = np.isin(labelled.molecule, rng.permutation(molecules)[:n_validation])
    return (labelled.subset(~mask), labelled.subset(mask)) if mask.any() else (labelled, None)


def reference_energies(
    labelled: ConformationSet, given: Mapping[str, float] | None, labels: str | Path
) -> dict[str, float]:
    """Return the energy of each element in hartree by symbol: the given ones, or fitted to the labels.

    Args:
        labelled: labelled conformations.
        given: energies in hartree by symbol; None: fit them.
        labels: file of `labelled`, for messages.

    Raises:
        UserError: an element of the labels has no given energy, or there are no labels.
    """
    if given is None:
        return {SYMBOLS[z]: energy for z, energy in fit_reference_energies(labelled, labels).items()}
    missing = {SYMBOLS[z] for z in set(labelled.number.tolist())} - given.keys()
    if missing:
        raise UserError(f"key nnp.reference_energies: has no energy for {min(missing)}, which {labels} contains")
    return dict(given)


def new_potential(
    training: ConformationSet, energies: Mapping[str, float], architecture: Architecture, provenance: Provenance
) -> Potential:
    """Return a network with new weights whose scale, repulsive wall and domain follow from the training set.

    Args:
        training: labelled conformations.
        energies: reference energies in hartree by symbol.
        architecture: architecture of the network.
        provenance: level of theory, configuration and seed to record.
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


def check_level(model: str, potential: Potential, level: LevelOfTheory) -> None:
    """Raise a UserError if the model of a file was trained on labels of another level of theory than the oracle's."""
    difference = level_difference(potential.provenance.level, level.attrs())
    if difference:
        raise UserError(
            f"{model}: its training data and the oracle differ in {difference}; give a model of the oracle's level "
            "of theory"
        )


def recorded_level(labelled: ConformationSet) -> dict[str, str]:
    """Return the level of theory of labels as the attributes that a model records."""
    return {name: str(labelled.attrs[name]) for name in LEVEL_ATTRS}


def has_labels(conformations: ConformationSet) -> bool:
    """Tell whether any conformation has a label."""
    return "status" in conformations.values and bool((conformations.values["status"] == Status.OK).any())


def continued(potential: Potential, config_sha256: str, seed: int, *training: ConformationSet) -> Potential:
    """Prepare a potential for further training: update its provenance, and widen its domain by the training sets."""
    potential.provenance = replace(potential.provenance, config_sha256=config_sha256, seed=seed)
    if potential.domain is not None:
        for part in training:
            potential.domain |= domain_of(potential, part)
    return potential


def domain_of(potential: Potential, conformations: ConformationSet) -> Domain:
    """Return the domain of the conformations that have a label."""
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
    initial: ConformationSet | None = None,
    validation: ConformationSet | None = None,
) -> Potential:
    """Train a potential, save it with its training state, and return it.

    Args:
        start: where to start.
        main: training set from which most of a batch is drawn.
        settings: settings of this training.
        outputs: output files.
        machine: threads, device and deadline.
        options: source of the interval between checkpoints.
        model: file that `start` comes from, whose optimizer state is continued; None: start a new optimizer.
        initial: initial labels, of which `settings.initial_fraction` of a batch is drawn.
        validation: labels that are held out.
    """
    # A process that waits here resumes from the last checkpoint of a job that has outlived its Snakemake.
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
            initial=initial,
            validation=validation,
        )
        potential.save(outputs.model, state)
        return potential
