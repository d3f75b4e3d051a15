"""Find test starts that are also training conformations, up to symmetry, mirror images and small differences.

Nuclei and total charge determine the energy of a geometry. So two conformations are compared over all atoms, after the
best superposition with reflections allowed, and over all permutations of atoms that preserve elements and bonds. Bond
orders, formal charges and stereocenters of the SMILES do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from golf.chem.molecules import molecule, skeleton
from golf.core.conformations import ConformationSet

IDENTICAL = 1e-4
"""angstrom; RMSD up to which two conformations are identical. An SDF has four decimals, errors of up to 5e-5."""

MAX_PERMUTATIONS = 1_000
"""Limit of permutations of all atoms. Beyond it only heavy atoms are permuted, with the nearest hydrogens assigned."""

MAX_TRIED = 30
"""Limit of training conformations superposed on one test conformation, those with the lowest bounds of the RMSD first.

It bounds the cost if many training conformations are about as far away as the threshold; a match may then be missed.
"""

_APART = 1e4  # angstrom, more than any distance: separates classes in a sort
_AT_ONCE = 512  # conformations whose distances are in memory at a time


@dataclass(frozen=True)
class Nearest:
    """The training conformation that matches each of n test conformations.

    Attributes:
        train: [n] index of the training conformation; -1 if none matches.
        rmsd: [n] angstrom; NaN if none matches. An upper bound if there are too many permutations to try all.
    """

    train: NDArray[np.int64]
    rmsd: NDArray[np.float64]


def equal_training(test: ConformationSet, train: ConformationSet, threshold: float) -> Nearest:
    """Find for each test conformation a training conformation with an RMSD of at most `threshold` angstrom.

    Of several matches it is not always the nearest, but one within `IDENTICAL` takes precedence. Lower bounds of the
    RMSD from sorted distances (`_Graph.bounds`) exclude most candidates; at most `MAX_TRIED` are superposed.
    """
    found = Nearest(np.full(len(test), -1, np.int64), np.full(len(test), np.nan))
    of_test, of_train = _by_graph(test), _by_graph(train)
    for key, rows in of_test.items():
        if key not in of_train:
            continue
        graph = _graph(key[0])
        candidates = np.array(of_train[key])
        known = np.stack([_canonical(train, k) for k in candidates.tolist()])
        radii = graph.radii(known)
        for i in rows:
            start = _canonical(test, i)
            order, bounds = graph.bounds(start, known, radii, threshold)
            for place, k in enumerate(order[:MAX_TRIED]):
                rmsd = graph.rmsd(start, known[k], threshold)
                if rmsd <= threshold and not found.rmsd[i] <= rmsd:
                    found.train[i], found.rmsd[i] = candidates[k], rmsd
                following = bounds[place + 1] if place + 1 < len(order) else np.inf
                if found.train[i] >= 0 and following > IDENTICAL:
                    break
    return found


Key = tuple[str, int, int]  # SMILES of the graph, total charge, multiplicity


def _by_graph(conformations: ConformationSet) -> dict[Key, list[int]]:
    rows: dict[Key, list[int]] = {}
    for i, smiles in enumerate(conformations.mapped_smiles):
        key = (_order(smiles)[0], int(conformations.charge[i]), int(conformations.multiplicity[i]))
        rows.setdefault(key, []).append(i)
    return rows


def _canonical(conformations: ConformationSet, i: int) -> NDArray[np.float64]:
    """Return centered positions in the atom order of the graph's SMILES, [n_atoms, 3] angstrom."""
    positions = conformations.position[conformations.rows(i)][_order(conformations.mapped_smiles[i])[1]]
    return positions - positions.mean(axis=0)


@lru_cache(maxsize=4096)
def _order(smiles: str) -> tuple[str, NDArray[np.int64]]:
    """Return the SMILES of elements and bonds alone, and the row of each of its atoms in the mapped SMILES."""
    graph = skeleton(molecule(smiles))
    graph.UpdatePropertyCache(strict=False)
    text = Chem.MolToSmiles(graph)
    order = list(graph.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])
    return text, np.array(order, dtype=np.int64)


@lru_cache(maxsize=256)
def _graph(smiles: str) -> _Graph:
    return _Graph(smiles)


class _Graph:
    """Elements and bonds of a molecule, its equivalent atoms, and distances invariant to their permutation."""

    def __init__(self, smiles: str) -> None:
        parameters = Chem.SmilesParserParams()
        parameters.removeHs = parameters.sanitize = False
        mol = Chem.MolFromSmiles(smiles, parameters)
        mol.UpdatePropertyCache(strict=False)
        self._n = mol.GetNumAtoms()
        classes = np.array(Chem.CanonicalRankAtoms(mol, breakTies=False), dtype=np.float64)
        self._classes = classes
        self._first, self._second = np.triu_indices(self._n, 1)
        low, high = (pick(classes[self._first], classes[self._second]) for pick in (np.minimum, np.maximum))
        self._pairs = np.unique(np.stack([low, high]), axis=1, return_inverse=True)[1].ravel().astype(np.float64)
        found = mol.GetSubstructMatches(mol, uniquify=False, maxMatches=MAX_PERMUTATIONS + 1)
        heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
        self._by_heavy_atoms = len(found) > MAX_PERMUTATIONS and len(heavy) > 2
        if self._by_heavy_atoms:
            self._heavy = np.array(heavy)
            alone = Chem.RWMol(mol)
            for index in sorted(set(range(self._n)) - set(heavy), reverse=True):
                alone.RemoveAtom(index)
            matches = alone.GetSubstructMatches(alone, uniquify=False, maxMatches=MAX_PERMUTATIONS)
            both = [self._heavy[list(match)] for match in matches]
            self._permutations = np.array([one for one in both if (classes[one] == classes[self._heavy]).all()])
            self._hydrogens = [
                [other.GetIdx() for other in mol.GetAtomWithIdx(index).GetNeighbors() if other.GetAtomicNum() == 1]
                for index in heavy
            ]
        else:
            self._permutations = np.array(found[:MAX_PERMUTATIONS])

    def radii(self, positions: NDArray) -> NDArray[np.float64]:
        """Return distances from the center, sorted within each class of equivalent atoms, [..., n_atoms] angstrom."""
        return np.sort(np.linalg.norm(positions, axis=-1) + _APART * self._classes, axis=-1)

    def bounds(
        self, start: NDArray, known: NDArray, radii: NDArray, threshold: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the known conformations whose RMSD may be within the threshold, as indices and ascending lower bounds.

        Superposition and permutation change neither the sorted distances of equivalent atoms from the center nor the
        sorted distances d of equivalent pairs. With displacements v of n centered atoms, |d - d'| <= |v_i - v_j|, and
        sum_{i<j} |v_i - v_j|^2 = n sum_i |v_i|^2, so RMSD^2 >= sum_{i<j} (d - d')^2 / n^2.
        """
        close = np.flatnonzero(np.sqrt(np.square(radii - self.radii(start)).mean(axis=1)) <= threshold)
        own = self._distances(start)
        bound = np.empty(len(close))
        for first in range(0, len(close), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            difference = self._distances(known[close[some]]) - own
            bound[some] = np.sqrt(np.square(difference).sum(axis=1)) / self._n
        order = np.argsort(bound, kind="stable")
        order = order[bound[order] <= threshold]
        return close[order], bound[order]

    def _distances(self, positions: NDArray) -> NDArray[np.float64]:
        lengths = np.linalg.norm(positions[..., self._first, :] - positions[..., self._second, :], axis=-1)
        return np.sort(lengths + _APART * self._pairs, axis=-1)

    def rmsd(self, start: NDArray, known: NDArray, threshold: float) -> float:
        """Return the RMSD after the best superposition, reflection and permutation; infinity above the threshold."""
        if not self._by_heavy_atoms:
            rmsd = float(_superposed(start, known[self._permutations]).min())
            return rmsd if rmsd <= threshold else np.inf
        heavy = _centered(start[self._heavy])
        of_heavy = _superposed(heavy, _centered(known[self._permutations])) * np.sqrt(len(self._heavy) / self._n)
        best = np.inf
        for permutation in self._permutations[of_heavy <= threshold]:
            for mirror in (1.0, -1.0):
                best = min(best, self._with_hydrogens(start, mirror * known, permutation))
        return best if best <= threshold else np.inf

    def _with_hydrogens(self, start: NDArray, known: NDArray, permutation: NDArray) -> float:
        """Return the RMSD with heavy atoms permuted as given and each hydrogen matched to the nearest."""
        target, source = start[self._heavy], known[permutation]
        u, _, v = np.linalg.svd(_centered(source).T @ _centered(target))
        u[:, -1] *= np.sign(np.linalg.det(u @ v))
        turned = (known - source.mean(axis=0)) @ (u @ v) + target.mean(axis=0)
        chosen = np.arange(self._n)
        chosen[self._heavy] = permutation
        parents = {int(index): place for place, index in enumerate(self._heavy)}
        for own, index in zip(self._hydrogens, permutation.tolist(), strict=True):
            theirs = self._hydrogens[parents[index]]
            orders = list(permutations(theirs))
            costs = [np.square(start[own] - turned[list(order)]).sum() for order in orders]
            chosen[own] = orders[int(np.argmin(costs))]
        return float(_superposed(start, known[chosen]))


def _centered(positions: NDArray) -> NDArray[np.float64]:
    return positions - positions.mean(axis=-2, keepdims=True)


def _superposed(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """Return the RMSD [...] of centered positions [..., n, 3] after the best proper or improper rotation (Kabsch)."""
    overlap = np.swapaxes(second, -1, -2) @ first
    gained = 2.0 * np.linalg.svd(overlap, compute_uv=False).sum(axis=-1)
    squares = np.square(first).sum(axis=(-1, -2)) + np.square(second).sum(axis=(-1, -2)) - gained
    return np.sqrt(np.maximum(squares, 0.0) / first.shape[-2])
