"""Distances between conformations: RMSD of heavy atoms, aligned, symmetry respected.

Of these come how far the ends of relaxations lie from DFT minima (coverage and matching in golf.evaluation.metrics are
means of it), and which conformers of an ensemble are the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from golf.chem.integrity import CHANGED
from golf.chem.rmsd import _rmsd, compared
from golf.core.conformations import ConformationSet, StopReason
from golf.core.units import HARTREE_IN_KCAL_PER_MOL


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
    (golf.chem.integrity): where a network leads nowhere, its energy may be far below others.

    Args:
        relaxed: conformers, with the column `golf.chem.integrity.CHANGED`; those of one name are of one molecule.

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
