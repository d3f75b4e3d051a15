"""Rigid and internal motions of molecules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALLEST = 3e-4
"""Singular values of rigid motions below this (angstrom) are zero: a linear molecule, bent by less than the digits of a
file, has two rotations. Those of other molecules are above 0.1."""


def internal_motions(
    positions: NDArray[np.float64], masses: NDArray[np.float64] | None = None, *, n_rigid: int | None = None
) -> NDArray[np.float64]:
    """Return orthonormal motions [3 n, m] of a molecule that neither translate nor rotate it.

    Args:
        positions: [n, 3] angstrom.
        masses: [n], for mass-weighted motions, which leave the center of mass and the angular momentum as they are;
            None: all atoms have the same weight.
        n_rigid: number of rigid motions; None: count them.
    """
    weights = np.ones(len(positions)) if masses is None else np.asarray(masses, np.float64)
    centred = positions - np.average(positions, axis=0, weights=weights)
    moves = [np.tile(axis, (len(positions), 1)) for axis in np.eye(3)] + [np.cross(axis, centred) for axis in np.eye(3)]
    rigid = np.stack([(np.sqrt(weights)[:, None] * move).ravel() for move in moves], axis=1)  # [3 n, 6]
    basis, sizes, _ = np.linalg.svd(rigid)
    return basis[:, int((sizes > SMALLEST).sum()) if n_rigid is None else n_rigid :]
