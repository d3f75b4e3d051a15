"""Select the conformers that make up ensembles: converged, intact, within an energy window, and distinct.

Two conformers are the same if their RMSD (heavy atoms, aligned, symmetry respected; golf/chem/rmsd.py) is small and
their energies agree. Mirror images have the same energy and a large RMSD: they are two conformers. Rotamers of a
hydroxyl have an RMSD near zero and different energies: they are two as well.
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

SAME_ENERGY = 0.1
"""Difference of energies in kcal/mol up to which two relaxations may have ended in one minimum.

`python benchmarks/conformers.py`: 537 pairs of relaxations into one minimum, to the default threshold of `golf relax`,
ended 0.0005 kcal/mol apart in the median and 0.05 at most. Of 728 pairs in different minima within 0.5 angstrom, this
tolerance tells 26 % apart.
"""


@dataclass(frozen=True)
class Ensemble:
    """The criteria for the conformers of an ensemble.

    Attributes:
        prune: of conformers within this heavy-atom RMSD (angstrom) and `same_energy` only the lowest is kept; 0: keep
            all.
        window: conformers up to this energy (kcal/mol) above the lowest are kept; infinity: keep all.
        same_energy: see `SAME_ENERGY`; infinity: the RMSD alone decides.
    """

    prune: float
    window: float
    same_energy: float = SAME_ENERGY


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
            own = _distinct(relaxed, fit[low], energies[low], which)
        kept += own
        outcomes["kept"] += len(own)
        outcomes["above_window"] += len(fit) - len(low)
        outcomes["pruned"] += len(low) - len(own)
    return relaxed.subset(np.array(kept, dtype=np.int64)), outcomes


def with_new_minima(relaxed: ConformationSet, n_known: int, which: Ensemble) -> set[str]:
    """Return the molecules for which conformers from row `n_known` on are in minima that those before are not in.

    Minima above the window do not count, and neither do conformers that are unfit.
    """
    unfit = np.array(unfit_for_ensembles(relaxed), dtype=object)
    found = set()
    for members in _members(relaxed.molecule):
        fit = members[unfit[members] == ""]
        energies = relaxed.values["nnp_energy_last"][fit] * HARTREE_IN_KCAL_PER_MOL
        low = energies <= energies.min(initial=np.inf) + which.window
        known = _Known(which)
        for i, energy in zip(fit[low].tolist(), energies[low].tolist(), strict=True):  # in order: known ones come first
            is_new = known.add(relaxed.mapped_smiles[i], relaxed.position[relaxed.rows(i)], energy)
            if is_new and i >= n_known:
                found.add(relaxed.molecule[i])
                break
    return found


def _members(names: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Iterate over the rows of each name."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    return (np.array(own) for own in rows.values())


def _distinct(
    relaxed: ConformationSet, members: NDArray[np.int64], energies: NDArray[np.float64], which: Ensemble
) -> list[int]:
    """Return the conformers of one molecule, by increasing energy, without those that equal a lower one."""
    known = _Known(which)
    return [
        i
        for i, energy in zip(members.tolist(), energies.tolist(), strict=True)
        if known.add(relaxed.mapped_smiles[i], relaxed.position[relaxed.rows(i)], energy)
    ]


class _Known:
    """The distinct conformers of one molecule so far.

    Only conformers of about the same energy are aligned, those nearest in energy first, because two relaxations into
    one minimum end at the same energy. Of these, alignments that a lower bound of the RMSD rules out are skipped:
    sorted distances from the center are invariant to rotations and permutations of atoms, and their root mean square
    difference is at most the RMSD after the best rotation and permutation.
    """

    def __init__(self, which: Ensemble) -> None:
        self._which = which
        self._mols: list[Chem.Mol] = []
        self._radii: list[NDArray[np.float64]] = []
        self._energies: list[float] = []

    def add(self, smiles: str, positions: NDArray[np.float64], energy: float) -> bool:
        """Add a conformer, unless it equals one that is known; tell whether it was added.

        Args:
            smiles: mapped SMILES.
            positions: [n, 3] angstrom.
            energy: kcal/mol.
        """
        mol = compared(smiles, positions)
        positions = mol.GetConformer().GetPositions()
        radii = np.sort(np.linalg.norm(positions - positions.mean(axis=0), axis=1))
        apart = np.abs(np.array(self._energies) - energy)
        near = np.flatnonzero(apart <= self._which.same_energy)
        if len(near):
            bounds = np.sqrt(np.square(np.array([self._radii[k] for k in near]) - radii).mean(axis=1))
            near = near[bounds < self._which.prune]
        for k in near[np.argsort(apart[near], kind="stable")]:
            if _rmsd(mol, self._mols[k]) < self._which.prune:
                return False
        self._mols.append(mol)
        self._radii.append(radii)
        self._energies.append(energy)
        return True
