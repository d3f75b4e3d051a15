"""Saddle points that a symmetric start ends in: forces never leave a mirror plane or an axis that atoms share.

A planar methylamine, an eclipsed methanol or a flat biphenyl relaxes to the saddle point that has its symmetry, and
passes for converged. So ends of symmetric starts are looked at: where the energy falls off to a side, the relaxation
goes on from there. (Shaking the start by 0.01 angstrom is not enough: 3 of 4 relaxations of eclipsed methanol still
ended 0.90 kcal/mol up.) An end at the step limit does not pass for a minimum, and stays as it is. Conformers that ETKDG
makes are seldom so symmetric (flat benzene is), and others cost no evaluation more.

What the network itself takes for a minimum stays one. Networks that have never seen a flat geometry may have a sharp
minimum there: the published GOLF-1k has one for ammonia, 6 kcal/mol below the pyramid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from golf.core.units import hartree

if TYPE_CHECKING:
    from golf.relaxation.engine import ForceProvider

TOLERANCE = 3e-4
"""angstrom: files of four decimals keep a symmetry to 1e-4, conformers of ETKDG miss it by some 1e-3 to 1e-2."""

STEP = 0.01
"""angstrom, for second derivatives: the rounding of float32 makes 0.03 kcal/mol/angstrom^2 of them."""

FALLS = hartree(0.3)
"""hartree/angstrom^2: less is flat. The torsion of methanol's saddle point has 5 kcal/mol/angstrom^2."""

ASIDE = 0.25
"""angstrom: how far from a saddle point the relaxation goes on, by the atom that moves most."""

LOWER = hartree(0.001)
"""hartree: a saddle point has been left where the new end is lower by more than this, which is above rounding."""

ATOMS_AT_ONCE = 2048
"""Of displaced molecules, so that memory is bounded: less than the 128 slots of a relaxation have."""

TRIES = 4
"""A planar cyclohexane falls off in three directions, and may come to a saddle point of less symmetry first."""


def is_symmetric(numbers: NDArray, positions: NDArray) -> bool:
    """Tell whether a geometry has a symmetry: it is flat, or two atoms see the others at the same distances.

    Molecules of two atoms, and of three unless they are linear, have no motion that a symmetry could hide.

    Args:
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom.
    """
    n = len(numbers)
    if n < 3:
        return False
    extents = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False) / np.sqrt(n)  # [3], falling
    if n == 3:
        return bool(extents[1] < TOLERANCE)
    if extents[2] < TOLERANCE:
        return True
    distances = np.linalg.norm(positions[:, None] - positions, axis=2)  # [n, n]
    partners = np.sort(distances + 1e4 * numbers, axis=1)  # by element, then by distance
    order = np.lexsort((distances @ numbers, numbers))
    same_element = np.diff(numbers[order].astype(np.int64)) == 0
    differences = np.abs(np.diff(partners[order], axis=0)).max(axis=1)
    return bool((same_element & (differences < TOLERANCE)).any())


def way_down(potential: ForceProvider, numbers: NDArray, positions: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Find positions [n, 3] aside of a saddle point, towards where the energy falls off; None at a minimum.

    That takes `evaluations(n)` evaluations of the molecule.

    Args:
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom, without forces.
    """
    motions = _internal(positions)
    curvatures, modes = np.linalg.eigh(motions.T @ _second_derivatives(potential, numbers, positions) @ motions)
    falling = motions @ modes[:, curvatures < -FALLS]  # [3 n, m]
    if not falling.shape[1]:
        return None
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=falling.shape[1])
    return _moved(positions, falling @ signs)


def evaluations(n_atoms: int) -> int:
    """Count the evaluations that `way_down` takes."""
    return 6 * n_atoms


def _moved(positions: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions [n, 3] moved along a direction [3 n] until an atom is `ASIDE`."""
    steps = direction.reshape(-1, 3)
    return positions + steps * (ASIDE / np.linalg.norm(steps, axis=1).max())


def _second_derivatives(potential: ForceProvider, numbers: NDArray, positions: NDArray) -> NDArray[np.float64]:
    """[3 n, 3 n] hartree/angstrom^2, from differences of forces in both directions."""
    n, size = len(numbers), positions.size
    steps = STEP * np.eye(size).reshape(size, n, 3)
    moved = np.stack([positions + steps, positions - steps], axis=1).reshape(2 * size, n, 3)  # two by two
    at_once = max(1, ATOMS_AT_ONCE // n)
    parts = [_forces(potential, numbers, moved[k : k + at_once]) for k in range(0, len(moved), at_once)]
    plus, minus = np.concatenate(parts).reshape(size, 2, size).swapaxes(0, 1)
    rows = (minus - plus) / (2.0 * STEP)
    return 0.5 * (rows + rows.T)


def _forces(potential: ForceProvider, numbers: NDArray, geometries: NDArray) -> NDArray[np.float64]:
    """[m, n, 3] hartree/angstrom at geometries [m, n, 3] angstrom of one molecule."""
    m, n = geometries.shape[:2]
    elements = torch.from_numpy(np.tile(numbers.astype(np.int64), m)).to(potential.device)
    positions = torch.from_numpy(geometries.reshape(m * n, 3)).to(potential.device)
    _, forces = potential.energy_and_forces(elements, positions, n * torch.arange(m + 1, device=potential.device))
    return forces.to(torch.float64).cpu().numpy().reshape(geometries.shape)


def _internal(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal motions [3 n, m] of a molecule that neither move nor turn it as a whole."""
    centred = positions - positions.mean(axis=0)
    turns = [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    moves = np.stack([*(np.tile(axis, len(centred)) for axis in np.eye(3)), *turns], axis=1)  # [3 n, 6]
    basis, sizes, _ = np.linalg.svd(moves)
    return basis[:, int((sizes > TOLERANCE).sum()) :]  # a linear molecule has but two rotations
