"""Distances between conformations: RMSD of heavy atoms, aligned, with symmetry."""

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
"""With fewer heavy atoms these have no shape (H2O2, methane): there all atoms are compared."""

MAX_MATCHES = 10_000
"""Permutations of equivalent atoms that are tried; beyond it the RMSD is an upper bound."""


def rmsd_to_minima(
    ends: ConformationSet, has_end: NDArray, minima: ConformationSet, has_minimum: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RMSD between the ends of relaxations and DFT minima of the same molecules.

    Heavy atoms only, after the best alignment, and over all permutations of atoms that are equivalent in the molecular
    graph (RDKit's GetBestRMS); the atoms at the end of a conjugated group, as in a carboxylate, count as equivalent.

    Args:
        ends: n ends of relaxations.
        has_end: whether a relaxation has a geometry that counts, [n].
        minima: DFT minima from the same starts in the same order.
        has_minimum: whether the DFT optimization found one, [n]. Where it did not, the end does not count, either.

    Returns:
        Own: RMSD between the end and the minimum from the same start [n] angstrom, NaN where one of them is missing.
        Nearest: smallest RMSD between the minimum and any end of the molecule that counts [n] angstrom, NaN where there
        is no minimum, or no end of the molecule.

    Raises:
        UserError: two different molecules have one name.
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
    """RMSD of each of the generated ends to each of the minima of one molecule, [n_generated, n_minima] angstrom."""
    probes = [compared(ends.mapped_smiles[i], ends.position[ends.rows(i)]) for i in generated]
    references = [compared(minima.mapped_smiles[i], minima.position[minima.rows(i)]) for i in members]
    distances = np.empty((len(probes), len(references)))
    for row, probe in enumerate(probes):
        for column, reference in enumerate(references):
            try:
                distances[row, column] = _rmsd(probe, reference)
            except RuntimeError:
                raise UserError(
                    f"{ends.id[generated[row]]} and {minima.id[members[column]]} are both called "
                    f"{ends.molecule[generated[row]]} but are not the same molecule; give them names of their own"
                ) from None
    return distances


def _rmsd(probe: Chem.Mol, reference: Chem.Mol) -> float:
    return rdMolAlign.GetBestRMS(probe, reference, maxMatches=MAX_MATCHES)


def compared(smiles: str, positions: NDArray) -> Chem.Mol:
    """The atoms of a conformation that are compared: heavy ones, or all where there are few of them.

    Args:
        smiles: mapped SMILES.
        positions: [n, 3] angstrom.
    """
    mol = molecule(smiles, positions)
    if mol.GetNumHeavyAtoms() < FEWEST_HEAVY_ATOMS:
        return mol
    # Not RemoveHs: that keeps hydrogens of some kinds, such as isotopes.
    return Chem.RemoveAllHs(mol, sanitize=False)
