"""What labels say of a potential before it is trained: an energy per element, and the size of forces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.labels import labelled_indices
from golf.nnp.batches import LabelledMolecules


def fit_reference_energies(conformations: ConformationSet, path: str | Path = "labels") -> dict[int, float]:
    """Energy per element (hartree, by atomic number) by least squares from the labels with `Status.OK`.

    Where the compositions do not determine the energies (isomers only, say), the solution closest to one energy per
    atom, whatever its element, is taken. Elements without a label are absent.

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
    """Root mean square force component: a scale that makes the network's task one of order 1 (`Potential.scale`)."""
    value = float(molecules.force.square().mean().sqrt()) if molecules.force.numel() else 0.0
    return value if value > 0.0 else 1.0
