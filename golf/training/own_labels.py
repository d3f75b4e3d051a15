"""A training outside of a study: on any labelled file, from new weights or from those of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.files import suffix_of
from golf.core.hdf5 import read
from golf.core.labels import labelled_indices
from golf.core.level import LEVEL_ATTRS, level_difference
from golf.core.wording import counted
from golf.io.sources import consistent
from golf.nnp.potential import Architecture, Potential, Provenance, load
from golf.training.loop import Schedule, TrainingDiverged, errors
from golf.training.recipe import (
    Machine,
    Outputs,
    TrainingOptions,
    continued,
    new_potential,
    reference_energies,
    split_validation,
    train_to_file,
)


def read_labels(path: str | Path) -> ConformationSet:
    """The conformations of a file that have a label (status ok).

    Raises:
        UserError: the file is missing, of another kind or level of theory not stated, none has a label, or one of
            them has numbers that are not finite; names it.
    """
    if suffix_of(path) != ".h5":
        raise UserError(f"{path}: not a labelled .h5 file; make one with golf label")
    everything = read(path)
    labelled = everything.subset(labelled_indices(everything))
    if not len(labelled):
        raise UserError(f"{path}: none of {len(everything)} conformations has a label (status ok); label some first")
    missing = [name for name in LEVEL_ATTRS if name not in labelled.attrs]
    if missing:
        raise UserError(f"{path}: has no attribute {missing[0]}, so its level of theory is not known; label it again")
    columns = {
        "positions": np.isfinite(labelled.position).all(axis=1),
        "forces": np.isfinite(labelled.atoms["force"]).all(axis=1),
        "energy": np.repeat(np.isfinite(labelled.values["energy"]), labelled.n_atoms),
    }
    for what, finite in columns.items():
        if not finite.all():
            i = int(np.searchsorted(labelled.offset, int(np.argmin(finite)), side="right")) - 1
            raise UserError(f"{path}: {labelled.id[i]}: {what} not finite numbers; remove it or label it again")
    for out in consistent(labelled)[1]:
        raise UserError(f"{path}: {out.name}: {out.reason}")
    return labelled


def level_of(labelled: ConformationSet) -> dict[str, str]:
    """Level of theory of the labels, as a model records it."""
    return {name: str(labelled.attrs[name]) for name in LEVEL_ATTRS}


def train_on_labels(
    path: str,
    outputs: Outputs,
    *,
    architecture: Architecture,
    given_energies: Mapping[str, float] | None,
    options: TrainingOptions,
    initial: str | None,
    config_sha256: str,
    seed: int,
    machine: Machine,
) -> str:
    """Train on the labels of a file; killed and called again, it goes on from its checkpoint.

    Args:
        architecture, given_energies: of a new network; without a meaning where there is an initial model.
        given_energies: hartree, by symbol; None: fitted to the labels.
        initial: model to start from, with its optimizer where it has one.

    Returns:
        One line on what was trained, and its errors on the validation set.

    Raises:
        UserError: the labels or the model cannot be used, or the training diverged.
    """
    labelled = read_labels(path)
    training, validation = split_validation(
        labelled,
        options.validation_fraction,
        seed,
        options.validation_split,
        where=path,
        remedy="give --by conformation, labels of more molecules, or a smaller --validation-fraction",
    )
    if initial is None:
        provenance = Provenance(level_of(labelled), config_sha256, seed)
        energies = reference_energies(labelled, given_energies, path)
        start = new_potential(training, energies, architecture, provenance)
    else:
        start = continued(_initial_model(initial, labelled, path), config_sha256, seed, training)
    schedule = Schedule(options.learning_rate, options.updates, warmup_updates=options.warmup_updates)
    settings = options.settings(options.updates, schedule, seed)
    try:
        trained = train_to_file(
            start, training, settings, outputs, machine, options, model=initial, validation=validation
        )
    except TrainingDiverged as error:
        raise UserError(f"{path}: {error}") from None
    said = f"{outputs.model}: {options.updates} updates on {_counted(training)}"
    if validation is None:
        return said
    force, energy = errors(trained, trained.molecules(validation))
    return (
        f"{said}; on {_counted(validation)} kept for validation, force error {force:.2f} kcal/mol/angstrom,"
        f" energy error {energy:.2f} kcal/mol (mean absolute)"
    )


def _initial_model(initial: str, labelled: ConformationSet, path: str) -> Potential:
    start = load(initial)
    difference = level_difference(start.provenance.level, labelled.attrs)
    if difference:
        raise UserError(
            f"{initial}: its training data and {path} differ in {difference}; labels of different levels do not mix, "
            "train a new model"
        )
    start.check_elements(labelled, path)
    return start


def _counted(part: ConformationSet) -> str:
    return f"{counted(len(part), 'label')} of {counted(len(set(part.molecule)), 'molecule')}"
