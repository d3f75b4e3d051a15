"""Select the conformers that make up ensembles: converged, intact, within an energy window, and distinct.

Two conformers are the same if their RMSD (heavy atoms, aligned, symmetry respected; golf/chem/rmsd.py) is small.
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
    """The criteria for the conformers of an ensemble.

    Attributes:
        prune: of conformers within this heavy-atom RMSD (angstrom) only the lowest is kept; 0: keep all.
        window: conformers up to this energy (kcal/mol) above the lowest are kept; infinity: keep all.
    """

    prune: float
    window: float


OUTCOMES = ("kept", "not_finite", "not_converged", "changed", "above_window", "pruned")
"""The possible outcomes for a conformer."""


def unfit_for_ensembles(relaxed: ConformationSet) -> list[str]:
    """Return for each conformer why it is unfit at any energy, as one of `OUTCOMES`; "" if it is fit."""

    def why(reason: int, change: str) -> str:
        if reason == StopReason.NOT_FINITE:
            return "not_finite"
        if reason != StopReason.CONVERGED:
            return "not_converged"
        return "changed" if change else ""

    return list(map(why, relaxed.values["stop_reason"], relaxed.values[CHANGED]))


def ensembles(relaxed: ConformationSet, which: Ensemble) -> tuple[ConformationSet, Counter[str]]:
    """Return the conformers in the ensemble of each molecule, lowest first, and the number of conformers by outcome.

    Conformers that have not converged are left out, and so are those that are no longer the molecule
    (golf.chem.integrity), because a network may give torn molecules energies far below all others.

    Args:
        relaxed: conformers with the column `golf.chem.integrity.CHANGED`; conformers of the same name are conformers of
            one molecule.
        which: criteria of the ensembles.

    Returns:
        The conformers, with molecules in the order in which they first appear, and the counts by `OUTCOMES`.
    """
    unfit = np.array(unfit_for_ensembles(relaxed), dtype=object)
    outcomes = Counter({name: int((unfit == name).sum()) for name in OUTCOMES})
    kept: list[int] = []
    for members in _members(relaxed.molecule):
        fit = members[unfit[members] == ""]
        energies = relaxed.values["nnp_energy_last"][fit] * HARTREE_IN_KCAL_PER_MOL
        order = np.argsort(energies, kind="stable")
        low = order[energies[order] - energies[order[:1]] <= which.window]
        own = fit[low].tolist()
        if which.prune > 0.0:
            own = _distinct(relaxed, fit[low], energies[low], which.prune)
        kept += own
        outcomes["kept"] += len(own)
        outcomes["above_window"] += len(fit) - len(low)
        outcomes["pruned"] += len(low) - len(own)
    return relaxed.subset(np.array(kept, dtype=np.int64)), outcomes


def _members(names: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Iterate over the rows of each name."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    return (np.array(own) for own in rows.values())


def _distinct(
    relaxed: ConformationSet, members: NDArray[np.int64], energies: NDArray[np.float64], prune: float
) -> list[int]:
    """Return the conformers of one molecule, by increasing energy, without those within `prune` of a lower one.

    Conformers are aligned with those nearest in energy first, because two relaxations into one minimum end at the same
    energy. Alignments that a lower bound of the RMSD rules out are skipped: sorted distances from the center are
    invariant to rotations and permutations of atoms, and their root mean square difference is at most the RMSD after
    the best rotation and permutation.
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
