"""Derive from labels what a potential needs before training: an energy per element, and the scale of forces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.labels import labelled_indices
from golf.nnp.batches import LabelledMolecules


def fit_reference_energies(conformations: ConformationSet, path: str | Path = "labels") -> dict[int, float]:
    """Fit an energy per element (hartree, by atomic number) to the labels with `Status.OK` by least squares.

    If the compositions do not determine the energies (for example, if all molecules are isomers), the solution closest
    to the same energy for every atom is returned. Elements without a label are absent.

    Args:
        conformations: labelled conformations.
        path: file of the conformations, for messages.

    Raises:
        UserError: there is no label.
    """
    labelled = conformations.subset(labelled_indices(conformations))
    if not len(labelled):
        raise UserError(f"{path}: no conformation has a label (status ok); label some first, or see why in `message`")
    elements, column = np.unique(labelled.number, return_inverse=True)
    molecule = np.repeat(np.arange(len(labelled)), labelled.n_atoms)
    counts = np.zeros((len(labelled), len(elements)))
    np.add.at(counts, (molecule, column), 1.0)
    energy = np.asarray(labelled.values["energy"], np.float64)
    mean = energy.sum() / counts.sum()
    deviation = np.linalg.lstsq(counts, energy - mean * counts.sum(axis=1), rcond=None)[0]
    return {int(z): float(mean + d) for z, d in zip(elements, deviation, strict=True)}


def force_scale(molecules: LabelledMolecules) -> float:
    """Return the root mean square force component, by which the network's output is scaled (`Potential.scale`)."""
    value = float(molecules.force.square().mean().sqrt()) if molecules.force.numel() else 0.0
    return value if value > 0.0 else 1.0
