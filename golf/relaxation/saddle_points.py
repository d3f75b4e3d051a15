"""Find and leave saddle points in which symmetric starts end, because forces never break a mirror plane or an axis.

A planar methylamine, an eclipsed methanol or a flat biphenyl relaxes to the saddle point that has its symmetry, and
counts as converged. Therefore the curvature is checked at the ends of symmetric starts: where the energy falls off to a
side, the relaxation continues from there. (Perturbing the start by 0.01 angstrom is not enough: 3 of 4 relaxations of
eclipsed methanol still ended 0.90 kcal/mol too high.) Ends at the step limit are not minima and stay as they are. ETKDG
conformers are seldom so symmetric (flat benzene is); for other conformers the check costs no evaluations.

A minimum of the network counts as one, even if DFT has none there. Networks that were never trained on flat geometries
may have a sharp minimum at one: the published GOLF-1k has one for ammonia, 6 kcal/mol below the pyramid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from golf.core.motions import internal_motions
from golf.core.units import hartree
from golf.nnp.provider import ForceProvider, Molecules
from golf.potentials.hessians import central_differences

TOLERANCE = 3e-4
"""Tolerance of a symmetry in angstrom. Files of four decimals keep a symmetry to 1e-4; ETKDG conformers miss it by
about 1e-3 to 1e-2."""

FALLS = hartree(0.3)
"""Negative curvature in hartree/angstrom^2 below which the energy counts as flat. The torsion at methanol's saddle
point has 5 kcal/mol/angstrom^2."""

ASIDE = 0.25
"""Distance from the saddle point, in angstrom by the atom that moves most, at which the relaxation continues."""

LOWER = hartree(0.001)
"""Fall in energy (hartree, well above rounding) that counts as having left a saddle point."""

TRIES = 4
"""How often a relaxation continues: planar cyclohexane has three falling directions, and may pass through saddle points
of lower symmetry."""


def is_symmetric(numbers: NDArray, positions: NDArray) -> bool:
    """Tell whether a geometry is symmetric: it is flat, or two atoms have the same distances to all others.

    Molecules of two atoms, and nonlinear ones of three, have no motion that a symmetry could hide.

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


def way_down(
    potential: ForceProvider, molecule: Molecules, positions: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return positions [n, 3] in angstrom beside a saddle point, where the energy falls off; None at a minimum.

    This takes `evaluations(n)` evaluations of the molecule.

    Args:
        potential: energies and forces.
        molecule: a single molecule.
        positions: [n, 3] angstrom, where the forces vanish.
    """
    motions = internal_motions(positions)
    curvatures, modes = np.linalg.eigh(motions.T @ central_differences(potential, molecule, positions) @ motions)
    falling = motions @ modes[:, curvatures < -FALLS]  # [3 n, m]
    if not falling.shape[1]:
        return None
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=falling.shape[1])
    return moved(positions, falling @ signs)


def evaluations(n_atoms: int) -> int:
    """Return the number of evaluations that `way_down` takes."""
    return 6 * n_atoms


def moved(positions: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move positions [n, 3] along a direction [3 n] until an atom has moved by `ASIDE`."""
    steps = direction.reshape(-1, 3)
    return positions + steps * (ASIDE / np.linalg.norm(steps, axis=1).max())
