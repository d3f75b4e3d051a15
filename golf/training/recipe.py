"""What every training starts from and writes: validation split, reference energies, new or continued network, files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from golf.core.conformations import ConformationSet, Status
from golf.core.deadline import Deadline
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.labels import labelled_indices
from golf.core.level import LevelOfTheory, level_difference
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


def check_level(model: str, potential: Potential, level: LevelOfTheory) -> None:
    """Raise UserError where the potential of a file was trained on labels of another level than the oracle's."""
    difference = level_difference(potential.provenance.level, level.attrs())
    if difference:
        raise UserError(
            f"{model}: its training data and the oracle differ in {difference}; give a model of the oracle's level "
            "of theory"
        )


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
        sets: further arguments of `golf.training.loop.train`.
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
