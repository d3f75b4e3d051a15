"""Geometries that are none: what keeps the positions of a molecule from being a start of a relaxation or a label."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from golf.chemistry import molecule

OVERLAP = 0.4
"""angstrom; no two nuclei of a molecule are nearer: the shortest bond, that of hydrogen, is 0.74."""

FLAT = 1e-3
"""angstrom from the best plane: drawings are exactly flat, relaxed molecules with such atoms are off by 0.5."""

TETRAHEDRAL = (5, 6, 7, 14, 15)
"""Atomic numbers of elements whose four neighbours are never in one plane; those of a metal or of xenon may be."""


def geometry_problem(smiles: str, positions: NDArray) -> str:
    """Describe why positions are not a geometry of a molecule; empty if they may be one.

    Args:
        smiles: mapped SMILES.
        positions: [n, 3] angstrom.
    """
    if not np.isfinite(positions).all():
        return "positions that are not finite numbers"
    atom = _never_flat(smiles)
    if atom >= 0 and _flatness(positions) < FLAT:
        return f"it is flat, as a drawing is, though atom {atom} has four neighbours; give a 3D geometry"
    distances = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.fill_diagonal(distances, np.inf)
    i, j = divmod(int(np.argmin(distances)), len(positions))
    if distances[i, j] < OVERLAP:
        return f"atoms {i} and {j} are at the same position, or nearly so ({distances[i, j]:.2f} angstrom apart)"
    return ""


@lru_cache(maxsize=4096)
def _never_flat(smiles: str) -> int:
    """The first atom that cannot lie in one plane with all of its four neighbours; -1: there is none."""
    tetrahedral = (atom for atom in molecule(smiles).GetAtoms() if atom.GetAtomicNum() in TETRAHEDRAL)
    return next((atom.GetIdx() for atom in tetrahedral if atom.GetDegree() == 4), -1)


def _flatness(positions: NDArray) -> float:
    """The largest distance in angstrom of an atom from the plane that fits best."""
    centred = positions - positions.mean(axis=0)
    normal = np.linalg.svd(centred, full_matrices=False)[2][-1] if len(positions) > 3 else np.zeros(3)
    return float(np.abs(centred @ normal).max())
