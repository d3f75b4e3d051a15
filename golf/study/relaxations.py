"""Run the network's relaxations of a study, from files to files: the selection of a round and the test set."""

from __future__ import annotations

from typing import cast

import numpy as np

from golf.chem.mmff import MMFFSurrogate, Variant
from golf.core.conformations import ConformationSet
from golf.core.hdf5 import read, write
from golf.core.level import LevelOfTheory
from golf.nnp.parallel import ThreadedPotential
from golf.nnp.potential import load, pick_device
from golf.potentials.load import load_potential
from golf.relaxation.engine import Optimizer
from golf.relaxation.relax import relax
from golf.study.selection import select_conformations
from golf.study.settings import OptimizerSettings, Relaxation, Selection
from golf.study.trainings import split_of_study
from golf.training.recipe import Machine, check_level


def _optimizer(settings: OptimizerSettings) -> Optimizer:
    return Optimizer(settings.name, settings.max_step_length, settings.history, cast(Variant, settings.variant))


def select_round(
    labels: str,
    model: str,
    output: str,
    *,
    round_number: int,
    variant: Variant | None,
    validation_fraction: float,
    validation_split: str,
    machine: Machine,
    config_sha256: str,
    seed: int,
    selection: Selection,
) -> None:
    """Write the conformations that a round sends to the oracle.

    Args:
        variant: of the surrogate; None: states are drawn at random instead.
    """
    starts = training_starts(
        labels, validation_fraction=validation_fraction, validation_split=validation_split, seed=seed
    )
    with ThreadedPotential(load(model, pick_device(machine.device)), machine.threads) as potential:
        selected, _ = select_conformations(
            potential,
            None if variant is None else MMFFSurrogate(variant),
            starts,
            seed=seed,
            round_number=round_number,
            n_select=selection.n_select,
            iterations_per_step=selection.iterations_per_step,
            max_steps=selection.max_steps,
            force_threshold=selection.force_threshold,
            slots=selection.slots,
            optimizer=_optimizer(selection.optimizer),
        )
    write(output, selected, config_sha256=config_sha256, seed=seed)


def training_starts(labels: str, *, validation_fraction: float, validation_split: str, seed: int) -> ConformationSet:
    """Return the conformations of a file from which new ones may be derived.

    If validation is by molecule, validation molecules are left out.
    """
    labelled = read(labels)
    if validation_split == "conformation":
        return labelled
    return split_of_study(labelled, validation_fraction, seed, validation_split)[0]


def relax_test(
    test: str,
    model: str,
    output: str,
    *,
    variant: Variant,
    machine: Machine,
    level: LevelOfTheory | None,
    relaxation: Relaxation,
    n_kept: int,
    config_sha256: str,
    seed: int,
) -> None:
    """Write the test set relaxed with a model or another potential.

    Args:
        model: model file, or name of a potential.
        level: of the oracle, which a model of this study has to be of; None: a potential of others, of any level,
            because its ends are labelled by the oracle.
        n_kept: conformations, evenly spread over the test set, whose states are kept.
    """
    conformations = read(test)
    kept = np.unique(np.linspace(0, len(conformations) - 1, min(n_kept, len(conformations))).round().astype(int))
    with load_potential(model, device=machine.device, cores=machine.threads) as potential:
        if level is not None and potential.network is not None:
            check_level(model, potential.network, level)
        potential.check(conformations, test)
        relaxed = relax(
            conformations,
            potential,
            surrogate=MMFFSurrogate(variant),
            force_threshold=relaxation.force_threshold,
            max_steps=relaxation.max_steps,
            iterations_per_step=relaxation.iterations_per_step,
            slots=relaxation.slots,
            optimizer=_optimizer(relaxation.optimizer),
            keep_steps=relaxation.keep_steps,
            keep_of=kept.tolist(),
        )
    write(output, relaxed, config_sha256=config_sha256, seed=seed)
