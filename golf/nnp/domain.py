"""Describe the training data of a model by kinds of atoms and bonds, and detect molecules that are unlike them.

A kind of atom is given by its element, its formal charge, the elements of its neighbours, whether it is in a ring, and
the sizes of its rings of three and four atoms; a kind of bond by its elements and its order. Strained cages have kinds
of their own, because their atoms are in several small rings. docs/relax.md has how often molecules are found unlike the
training data, and the DFT results of such and other molecules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from golf.chem.molecules import molecule
from golf.core.conformations import ConformationSet
from golf.core.elements import SYMBOLS

STRAINED = 4
"""Largest ring whose size is part of a kind of atom."""

NEAREST = 0.9
"""Share of the shortest distance in training below which atoms are too close. In molecules held out of nablaDFT's
sample no known kind of bond was below 0.97 of it."""

NAMED = 2
"""Number of kinds that a reason lists."""

_ORDERS = {
    Chem.BondType.SINGLE: "single",
    Chem.BondType.DOUBLE: "double",
    Chem.BondType.TRIPLE: "triple",
    Chem.BondType.AROMATIC: "aromatic",
}


@lru_cache(maxsize=4096)
def kinds_of(smiles: str) -> frozenset[str]:
    """Return the kinds of atoms and bonds of a molecule, in words.

    Args:
        smiles: mapped SMILES.
    """
    mol = molecule(smiles)
    atoms = (_atom(atom, mol.GetRingInfo().AtomRingSizes(atom.GetIdx())) for atom in mol.GetAtoms())
    return frozenset([*atoms, *map(_bond, mol.GetBonds())])


def _atom(atom: Chem.Atom, rings: Iterable[int]) -> str:
    sizes = sorted(rings)
    strained = [str(size) for size in sizes if size <= STRAINED]
    charge = f"({atom.GetFormalCharge():+d})" if atom.GetFormalCharge() else ""
    neighbours = " ".join(sorted(neighbour.GetSymbol() for neighbour in atom.GetNeighbors()))
    word = f"{atom.GetSymbol()}{charge} bonded to {neighbours or 'nothing'}"
    if strained:
        return f"{word} in rings of {' and '.join(strained)}" if strained[1:] else f"{word} in a ring of {strained[0]}"
    return f"{word} in a ring" if sizes else word


def _bond(bond: Chem.Bond) -> str:
    ends = sorted([bond.GetBeginAtom().GetSymbol(), bond.GetEndAtom().GetSymbol()])
    return f"{_ORDERS.get(bond.GetBondType(), 'other')} bond {'-'.join(ends)}"


@dataclass(frozen=True)
class Domain:
    """The domain of a model: kinds of atoms and bonds in its training data, and shortest distances.

    Attributes:
        kinds: kinds of atoms and bonds, see the docstring of the module.
        shortest_distances: angstrom, by pair of elements ("H-O", in the order of atomic numbers), for pairs that occur
            as bonds, and H-H. For other pairs the shortest distance depends too much on the molecule.
    """

    kinds: frozenset[str]
    shortest_distances: Mapping[str, float]

    @classmethod
    def of(cls, training: ConformationSet, shortest_distances: Mapping[str, float]) -> Domain:
        """Return the domain of training conformations.

        Args:
            training: conformations.
            shortest_distances: shortest distance in angstrom for each pair of elements in these conformations.
        """
        kinds = frozenset[str]().union(*(kinds_of(smiles) for smiles in set(training.mapped_smiles)))
        bonded = {kind.rpartition(" ")[2] for kind in kinds if " bond " in kind} | {"H-H"}
        near = {
            pair: distance
            for pair, distance in shortest_distances.items()
            if "-".join(sorted(pair.split("-"))) in bonded
        }
        return cls(kinds, near)

    def __or__(self, other: Domain) -> Domain:
        """Return the union of two domains, for a training that continues with other data."""
        pairs = self.shortest_distances.keys() | other.shortest_distances.keys()
        both = (self.shortest_distances, other.shortest_distances)
        return Domain(
            self.kinds | other.kinds, {pair: min(part[pair] for part in both if pair in part) for pair in sorted(pairs)}
        )

    @cached_property
    def _nearest(self) -> NDArray[np.float64]:
        """Distances [Z, Z] in angstrom, by atomic numbers, below which atoms are too close."""
        nearest = np.zeros((len(SYMBOLS), len(SYMBOLS)))
        for pair, distance in self.shortest_distances.items():
            z_i, z_j = (SYMBOLS.index(symbol) for symbol in pair.split("-"))
            nearest[z_i, z_j] = nearest[z_j, z_i] = NEAREST * distance
        return nearest

    def unlike(self, smiles: str, numbers: NDArray, positions: NDArray) -> str:
        """Describe how a conformation is unlike the training data; "" if no difference was found.

        Args:
            smiles: mapped SMILES.
            numbers: [n] atomic numbers.
            positions: [n, 3] angstrom.
        """
        reasons = []
        new = sorted(kinds_of(smiles) - self.kinds, key=lambda kind: (" in rings of " not in kind, kind))
        if new:
            more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
            reasons.append(f"has {', '.join(new[:NAMED])}{more}, which no training molecule has")
        i, j = np.triu_indices(len(numbers), 1)
        distances = np.linalg.norm(positions[i] - positions[j], axis=1)
        close = np.flatnonzero(distances < self._nearest[numbers[i], numbers[j]])
        if len(close):
            pair = " and ".join(SYMBOLS[z] for z in sorted((numbers[i[close[0]]], numbers[j[close[0]]])))
            reasons.append(f"{pair} came closer to each other than any in training")
        return "; ".join(reasons)


def unlike_training(relaxed: ConformationSet, domain: Domain) -> ConformationSet:
    """Add the column `unlike_training`, which describes how each conformation is unlike the training data."""
    reasons = [
        domain.unlike(smiles, relaxed.number[rows], relaxed.position[rows])
        for smiles, rows in zip(relaxed.mapped_smiles, map(relaxed.rows, range(len(relaxed))), strict=True)
    ]
    return relaxed.with_columns(values={"unlike_training": reasons})
