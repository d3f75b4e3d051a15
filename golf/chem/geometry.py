"""Check whether coordinates can be the geometry of a molecule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from golf.chem.molecules import molecule
from golf.core.errors import UserError

OVERLAP = 0.4
"""angstrom; the shortest bond, that of H2, is 0.74."""

FLAT = 0.02
"""angstrom; root mean square distance from a plane below which a geometry is flat. Drawings have four decimals."""

TETRAHEDRAL = 4  # an atom with this many neighbors is never in one plane with all of them


def geometry_problem(smiles: str, positions: NDArray) -> str:
    """Return why positions cannot be a geometry of the molecule of a mapped SMILES; "" if they can.

    Args:
        positions: [n_atoms, 3] angstrom.
    """
    if not np.isfinite(positions).all():
        return "positions are not finite numbers"
    squares = np.square(positions[:, None] - positions).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    if len(positions) and squares.min() < OVERLAP**2:
        i, j = sorted(np.unravel_index(squares.argmin(), squares.shape))
        return f"two atoms at the same position (atoms {i + 1} and {j + 1})"
    if _is_flat(positions) and _has_tetrahedral_atom(smiles):
        return "its geometry is flat, as in a drawing, but the molecule is not; embed it (--conformers), or correct it"
    return ""


def _is_flat(positions: NDArray) -> bool:
    """Tell whether all atoms are in one plane."""
    if len(positions) <= TETRAHEDRAL:
        return False
    centered = positions - positions.mean(axis=0)
    return float(np.linalg.svd(centered, compute_uv=False)[-1]) < FLAT * np.sqrt(len(positions))


def _has_tetrahedral_atom(smiles: str) -> bool:
    try:
        return any(atom.GetDegree() >= TETRAHEDRAL for atom in molecule(smiles).GetAtoms())
    except UserError:  # reported where the SMILES is read
        return False
