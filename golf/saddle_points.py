"""Saddle points that a symmetric start ends in: forces never leave a mirror plane or an axis that atoms share.

A planar ammonia, an eclipsed methanol or a flat biphenyl relaxes to the saddle point that has its symmetry, and passes
for converged. So ends of symmetric starts are looked at: where the energy falls off to a side, the relaxation goes on
from there. (Shaking the start by 0.01 angstrom is not enough: four of six relaxations of eclipsed methanol converged
before the shake had grown.) Conformers that ETKDG makes are seldom so symmetric
(flat benzene is), and others cost no evaluation more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from golf.units import hartree

if TYPE_CHECKING:
    from golf.slots import ForceProvider

TOLERANCE = 3e-4
"""angstrom: files of four decimals keep a symmetry to 1e-4, conformers of ETKDG miss it by some 1e-3 to 1e-2."""

STEP = 0.01
"""angstrom, for second derivatives: the rounding of float32 makes 0.03 kcal/mol/angstrom^2 of them."""

FALLS = hartree(0.3)
"""hartree/angstrom^2: less is flat. The torsion of methanol's saddle point has 5 kcal/mol/angstrom^2."""

ASIDE = 0.25
"""angstrom: how far from a saddle point the relaxation goes on, by the atom that moves most."""

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

    Args:
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom, without forces.
    """
    curvatures, modes = np.linalg.eigh(_internal(_second_derivatives(potential, numbers, positions), positions))
    falling = modes[:, curvatures < -FALLS]  # [3 n, m]
    if not falling.shape[1]:
        return None
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=falling.shape[1])
    direction = (falling @ signs).reshape(-1, 3)
    return positions + direction * (ASIDE / np.linalg.norm(direction, axis=1).max())


def _second_derivatives(potential: ForceProvider, numbers: NDArray, positions: NDArray) -> NDArray[np.float64]:
    """[3 n, 3 n] hartree/angstrom^2, from differences of forces in both directions."""
    n, size = len(numbers), positions.size
    steps = STEP * np.eye(size).reshape(size, n, 3)
    rows = np.empty((size, size))
    for k in range(size):  # both at a time: memory is that of two molecules
        pair = torch.from_numpy(np.concatenate([positions + steps[k], positions - steps[k]]))
        elements = torch.from_numpy(np.tile(numbers.astype(np.int64), 2))
        device = potential.device
        offset = torch.tensor([0, n, 2 * n], device=device)
        _, forces = potential.energy_and_forces(elements.to(device), pair.to(device), offset)
        plus, minus = forces.to(torch.float64).cpu().numpy().reshape(2, size)
        rows[k] = (minus - plus) / (2.0 * STEP)
    return 0.5 * (rows + rows.T)


def _internal(hessian: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take translations and rotations out of a Hessian [3 n, 3 n]: they have no curvature then."""
    centred = positions - positions.mean(axis=0)
    n = len(centred)
    turns = [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    moves = np.stack([*(np.tile(axis, n) for axis in np.eye(3)), *turns], axis=1)  # [3 n, 6]
    basis, sizes, _ = np.linalg.svd(moves, full_matrices=False)
    basis = basis[:, sizes > TOLERANCE]  # a linear molecule has but two rotations
    projector = np.eye(3 * n) - basis @ basis.T
    return projector @ hessian @ projector
