"""RMSD of heavy atoms between conformations, aligned, with symmetry taken into account."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolAlign

from golf.chem.molecules import molecule
from golf.core.conformations import ConformationSet
from golf.core.errors import UserError

FEWEST_HEAVY_ATOMS = 3
"""With fewer heavy atoms than this, all atoms are compared: one or two heavy atoms (methane, H2O2) have no shape."""

MAX_MATCHES = 10_000
"""Limit of permutations of equivalent atoms that are tried; beyond it the RMSD is an upper bound."""


def rmsd_to_minima(
    ends: ConformationSet, has_end: NDArray, minima: ConformationSet, has_minimum: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the RMSD between final geometries of relaxations and DFT minima of the same molecules.

    Heavy atoms only, after the best alignment, and over all permutations of atoms that are equivalent in the molecular
    graph (RDKit's GetBestRMS); the atoms at the end of a conjugated group, as in a carboxylate, count as equivalent.

    Args:
        ends: n final geometries of relaxations.
        has_end: whether a relaxation has a valid final geometry, [n].
        minima: DFT minima from the same starts in the same order.
        has_minimum: whether the DFT optimization found a minimum, [n]; if not, the final geometry is not used either.

    Returns:
        Own: RMSD between the final geometry and the minimum from the same start [n] angstrom; NaN if one is missing.
        Nearest: smallest RMSD between the minimum and any valid final geometry of the molecule [n] angstrom; NaN if
        there is no minimum or no final geometry.

    Raises:
        UserError: two different molecules have the same name.
    """
    has_end, has_minimum = np.asarray(has_end, np.bool_), np.asarray(has_minimum, np.bool_)
    own, nearest = np.full(len(ends), np.nan), np.full(len(ends), np.nan)
    names, index = np.unique(np.asarray(ends.molecule, dtype=str), return_inverse=True)
    for k in range(len(names)):
        members = np.flatnonzero((index == k) & has_minimum)
        generated = [int(i) for i in members if has_end[i]]
        if not generated:
            continue
        distances = _distances(ends, generated, minima, [int(i) for i in members])
        nearest[members] = distances.min(axis=0)
        for row, i in enumerate(generated):
            own[i] = distances[row, np.searchsorted(members, i)]
    return own, nearest


def _distances(
    ends: ConformationSet, generated: Sequence[int], minima: ConformationSet, members: Sequence[int]
) -> NDArray[np.float64]:
    """Compute the RMSD of final geometries to minima of one molecule, [n_generated, n_minima] angstrom."""
    probes = [compared(ends.mapped_smiles[i], ends.position[ends.rows(i)]) for i in generated]
    references = [compared(minima.mapped_smiles[i], minima.position[minima.rows(i)]) for i in members]
    distances = np.empty((len(probes), len(references)))
    for row, probe in enumerate(probes):
        for column, reference in enumerate(references):
            try:
                distances[row, column] = _rmsd(probe, reference)
            except RuntimeError:
                raise UserError(
                    f"{ends.id[generated[row]]} and {minima.id[members[column]]} are both named "
                    f"{ends.molecule[generated[row]]} but are not the same molecule; rename one"
                ) from None
    return distances


def _rmsd(probe: Chem.Mol, reference: Chem.Mol) -> float:
    return rdMolAlign.GetBestRMS(probe, reference, maxMatches=MAX_MATCHES)


def compared(smiles: str, positions: NDArray) -> Chem.Mol:
    """Return a molecule of the atoms to compare: heavy atoms, or all atoms if there are few heavy ones.

    Args:
        smiles: mapped SMILES.
        positions: [n, 3] angstrom.
    """
    mol = molecule(smiles, positions)
    if mol.GetNumHeavyAtoms() < FEWEST_HEAVY_ATOMS:
        return mol
    # Not RemoveHs, which keeps some hydrogens, such as isotopes.
    return Chem.RemoveAllHs(mol, sanitize=False)
