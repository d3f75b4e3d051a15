"""Distances between conformations: RMSD of heavy atoms, aligned, symmetry respected.

Of these come how far the ends of relaxations lie from DFT minima (coverage and matching in golf.metrics are means of
it), and which conformers of an ensemble are the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolAlign

from golf.chemistry import molecule
from golf.conformations import ConformationSet, StopReason
from golf.errors import UserError
from golf.integrity import CHANGED
from golf.units import HARTREE_IN_KCAL_PER_MOL

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


@dataclass(frozen=True)
class Ensemble:
    """Which conformers make an ensemble.

    Attributes:
        prune: angstrom; of conformers within it (heavy-atom RMSD) the lowest is kept; 0: all are.
        window: kcal/mol above the lowest conformer up to which they are kept; infinity: all are.
    """

    prune: float
    window: float


OUTCOMES = ("kept", "not_finite", "not_converged", "changed", "above_window", "pruned")
"""What becomes of the conformers of an ensemble."""


def unfit_for_ensembles(relaxed: ConformationSet) -> list[str]:
    """Of each conformer why it is in no ensemble, whatever its energy is, as one of `OUTCOMES`; empty: it may be."""

    def why(reason: int, change: str) -> str:
        if reason == StopReason.NOT_FINITE:
            return "not_finite"
        if reason != StopReason.CONVERGED:
            return "not_converged"
        return "changed" if change else ""

    return list(map(why, relaxed.values["stop_reason"], relaxed.values[CHANGED]))


def ensembles(relaxed: ConformationSet, which: Ensemble) -> tuple[ConformationSet, Counter[str]]:
    """The conformers that make up the ensemble of each molecule, the lowest first, and how many have which outcome.

    A conformer that has not converged is in none, and neither is one that is not the molecule any more
    (golf.integrity): where a network leads nowhere, its energy may be far below others.

    Args:
        relaxed: conformers, with the column `golf.integrity.CHANGED`; those of one name are of one molecule.

    Returns:
        Molecules in the order in which they first appear.
    """
    unfit = np.array(unfit_for_ensembles(relaxed), dtype=object)
    outcomes = Counter({name: int((unfit == name).sum()) for name in OUTCOMES})
    kept: list[int] = []
    for members in _members(relaxed.molecule):
        whole = members[unfit[members] == ""]
        energies = relaxed.values["nnp_energy_last"][whole] * HARTREE_IN_KCAL_PER_MOL
        order = np.argsort(energies, kind="stable")
        low = order[energies[order] - energies[order[:1]] <= which.window]
        own = whole[low].tolist()
        if which.prune > 0.0:
            own = _distinct(relaxed, whole[low], energies[low], which.prune)
        kept += own
        outcomes["kept"] += len(own)
        outcomes["above_window"] += len(whole) - len(low)
        outcomes["pruned"] += len(low) - len(own)
    return relaxed.subset(np.array(kept, dtype=np.int64)), outcomes


def _members(names: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Rows of each name."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    return (np.array(own) for own in rows.values())


def _distinct(
    relaxed: ConformationSet, members: NDArray[np.int64], energies: NDArray[np.float64], prune: float
) -> list[int]:
    """Conformers of one molecule, in the order of their energies, without those within `prune` of one before.

    An alignment is tried with the nearest in energy first, which two ends in one minimum have in common, and with those
    only that a lower bound of the RMSD does not rule out: sorted distances from the center, which neither rotations nor
    permutations of atoms change, differ by no more (root mean square) than the atoms do after the best of both.
    """
    kept: list[int] = []
    mols: list[Chem.Mol] = []
    radii: list[NDArray[np.float64]] = []
    kept_energies: list[float] = []
    for i, energy in zip(members.tolist(), energies.tolist(), strict=True):
        mol = compared(relaxed.mapped_smiles[i], relaxed.position[relaxed.rows(i)])
        positions = mol.GetConformer().GetPositions()
        own = np.sort(np.linalg.norm(positions - positions.mean(axis=0), axis=1))
        if kept:
            bound = np.sqrt(np.square(np.array(radii) - own).mean(axis=1))
            near = np.flatnonzero(bound < prune)
            near = near[np.argsort(np.abs(np.array(kept_energies)[near] - energy), kind="stable")]
            if any(_rmsd(mol, mols[k]) < prune for k in near):
                continue
        kept.append(i)
        mols.append(mol)
        radii.append(own)
        kept_energies.append(energy)
    return kept
