"""Train outside of a study: on any labelled file, from new weights or from those of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from golf.chem.usable import LeftOut
from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.files import content_suffix, suffix_of
from golf.core.labels import labelled_indices
from golf.core.level import LEVEL_ATTRS, LevelOfTheory, level_difference
from golf.core.wording import and_more, counted
from golf.io.convert import read
from golf.io.merge import merged_sets
from golf.io.plausibility import check_labels
from golf.io.read import consistent
from golf.io.records import place_of
from golf.nnp.potential import Architecture, Potential, Provenance, load
from golf.training.loop import Schedule, TrainingDiverged, errors
from golf.training.recipe import (
    Machine,
    Outputs,
    TrainingOptions,
    continued,
    new_potential,
    recorded_level,
    reference_energies,
    split_validation,
    train_to_file,
)

LABELLED = (".h5", ".hdf5", ".db")
TEXTS = (".extxyz", ".xyz")
"""Suffixes of files that may have labels; text files may be compressed."""


def read_labels(*paths: str | Path, level: LevelOfTheory | None = None) -> ConformationSet:
    """Read the conformations of files that have a label (status ok), each geometry once.

    Args:
        paths: .h5, extended XYZ or ASE databases.
        level: level of theory of labels that do not state theirs.

    Raises:
        UserError: a file is missing or of another kind, does not state its level of theory, has no labels, or one of
            its labelled conformations is inconsistent or has values that are not finite; or the files differ in their
            level.
    """
    parts = [_labels_of(path, level) for path in paths]
    if len(parts) == 1:
        return parts[0]
    for path, part in zip(paths, parts, strict=True):
        if difference := level_difference(parts[0].attrs, part.attrs):
            raise UserError(
                f"{path}: its labels and those of {paths[0]} differ in {difference}; labels of different levels of "
                "theory must not be mixed"
            )
    return merged_sets(parts, [Path(path).stem for path in paths])


def _labels_of(path: str | Path, level: LevelOfTheory | None) -> ConformationSet:
    left_out: list[LeftOut] = []
    if suffix_of(path) not in LABELLED and content_suffix(path) not in TEXTS:
        raise UserError(f"{path}: not a file of labels ({' '.join((*LABELLED, *TEXTS))}); make one with golf label")
    everything = read(path, level=level, left_out=left_out)
    for out in left_out:
        raise UserError(f"{path}: {place_of(out, path)}: {out.reason}; correct or remove it")
    labelled = everything.subset(labelled_indices(everything))
    if not len(labelled):
        raise UserError(f"{path}: none of {len(everything)} conformations has a label (status ok); label some first")
    missing = [name for name in LEVEL_ATTRS if name not in labelled.attrs]
    if missing:
        remedy = "label it again" if suffix_of(path) == ".h5" else "give it with --level"
        raise UserError(f"{path}: has no attribute {missing[0]}, so its level is unknown; {remedy}")
    columns = {
        "positions": np.isfinite(labelled.position).all(axis=1),
        "forces": np.isfinite(labelled.atoms["force"]).all(axis=1),
        "energy": np.repeat(np.isfinite(labelled.values["energy"]), labelled.n_atoms),
    }
    for what, finite in columns.items():
        if not finite.all():
            i = int(np.searchsorted(labelled.offset, int(np.argmin(finite)), side="right")) - 1
            raise UserError(f"{path}: {labelled.id[i]}: {what} not finite; remove the conformation or label it again")
    for out in consistent(labelled)[1]:
        raise UserError(f"{path}: {out.name}: {out.reason}")
    if suffix_of(path) != ".h5":  # golf's own format states its units
        check_labels(labelled, str(path))
    return labelled


def train_on_labels(
    paths: Sequence[str | Path],
    outputs: Outputs,
    *,
    level: LevelOfTheory | None = None,
    architecture: Architecture,
    given_energies: Mapping[str, float] | None,
    options: TrainingOptions,
    initial: str | None,
    config_sha256: str,
    seed: int,
    machine: Machine,
) -> str:
    """Train on the labels of files; an interrupted training resumes from its checkpoint when called again.

    Args:
        paths: files of labelled conformations, see `read_labels`.
        outputs: output files.
        level: level of theory of labels that do not state theirs.
        architecture: architecture of a new network; ignored if an initial model is given.
        given_energies: reference energies in hartree by symbol; None: fit them. Ignored if an initial model is given.
        options: settings of the training.
        initial: model file to start from, with its optimizer state if it has one; None: start from new weights.
        config_sha256: hash of the configuration, to record in the model.
        seed: seed of weights, batches and split.
        machine: threads, device and deadline.

    Returns:
        One line that summarizes the training and its errors on the validation set.

    Raises:
        UserError: the labels or the model cannot be used, or the training diverged.
        NothingToTrainOn: the validation split leaves no molecules for training.
    """
    labelled = read_labels(*paths, level=level)
    path = f"{paths[0]}{and_more(len(paths))}"
    training, validation = split_validation(labelled, options.validation_fraction, seed, options.validation_split)
    if initial is None:
        provenance = Provenance(recorded_level(labelled), config_sha256, seed)
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
    summary = f"{outputs.model}: {options.updates} updates on {_counted(training)}"
    if validation is None:
        return summary
    force, energy = errors(trained, trained.molecules(validation))
    return (
        f"{summary}; mean absolute errors on {_counted(validation)} held out for validation: forces"
        f" {force:.2f} kcal/mol/angstrom, energies {energy:.2f} kcal/mol"
    )


def _initial_model(initial: str, labelled: ConformationSet, path: str) -> Potential:
    start = load(initial)
    difference = level_difference(start.provenance.level, labelled.attrs)
    if difference:
        raise UserError(
            f"{initial}: its training data and {path} differ in {difference}; train a new model, because labels of "
            "different levels of theory must not be mixed"
        )
    start.check_elements(labelled, path)
    return start


def _counted(part: ConformationSet) -> str:
    return f"{counted(len(part), 'label')} of {counted(len(set(part.molecule)), 'molecule')}"
