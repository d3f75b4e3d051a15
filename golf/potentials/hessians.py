"""Second derivatives of any potential: golf's own networks in float64, others by central differences of forces."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from golf.nnp.potential import Potential
from golf.nnp.provider import ForceProvider, Molecules

STEP = 0.01
"""Displacement in angstrom, as in ASE, at which the rounding of forces in float32 is 0.03 kcal/mol/angstrom^2."""

ATOMS_AT_ONCE = 2048
"""Atoms of displaced molecules in one batch, which bounds memory: fewer than the 128 slots of a relaxation hold."""


def hessian_of(potential: ForceProvider, molecule: Molecules, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the Hessian [3 n, 3 n] in hartree/angstrom^2, as exactly as the potential allows.

    The attribute `network` of a loaded potential, if it has one, is the network that it evaluates.

    Args:
        potential: energies and forces.
        molecule: a single molecule.
        positions: [n, 3] angstrom.
    """
    network = potential if isinstance(potential, Potential) else getattr(potential, "network", None)
    if isinstance(network, Potential):
        return network.hessian(molecule.numbers, torch.from_numpy(positions)).cpu().numpy()
    return central_differences(potential, molecule, positions)


def central_differences(
    potential: ForceProvider, molecule: Molecules, positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the Hessian [3 n, 3 n] in hartree/angstrom^2 by 6 n evaluations in batches; arguments of `hessian_of`."""
    n, size = len(positions), positions.size
    steps = STEP * np.eye(size).reshape(size, n, 3)
    moved = np.stack([positions + steps, positions - steps], axis=1).reshape(2 * size, n, 3)  # in pairs
    at_once = max(1, ATOMS_AT_ONCE // n)
    parts = [_forces(potential, molecule, moved[k : k + at_once]) for k in range(0, len(moved), at_once)]
    plus, minus = np.concatenate(parts).reshape(size, 2, size).swapaxes(0, 1)
    rows = (minus - plus) / (2.0 * STEP)
    return 0.5 * (rows + rows.T)


def _forces(potential: ForceProvider, molecule: Molecules, geometries: NDArray) -> NDArray[np.float64]:
    """Return forces [m, n, 3] in hartree/angstrom at geometries [m, n, 3] (angstrom) of one molecule."""
    m, n = geometries.shape[:2]
    positions = torch.from_numpy(geometries.reshape(m * n, 3)).to(potential.device)
    _, forces = potential.evaluate(molecule.repeated(m), positions)
    return forces.to(torch.float64).cpu().numpy().reshape(geometries.shape)
