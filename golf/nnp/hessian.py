"""Compute second derivatives of a potential's energy by finite differences of its forces in float64."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from golf.nnp.parallel import ThreadedPotential

if TYPE_CHECKING:
    from golf.nnp.potential import Potential

STEP = 1e-8
"""Displacement in angstrom. Largest errors in hartree/angstrom^2 of one-sided differences, for the published GOLF-1k
network and a molecule of 45 atoms, relative to exact second derivatives: 7e-8 with steps of 1e-8, 2e-7 with 3e-8, 5e-7
with 1e-7, 5e-6 with 1e-6. Two-sided differences with longer steps are worse (1e-5 with 1e-4, for water), because the
norms of vectors in PaiNN have a strong curvature within 1e-4."""

ASYMMETRY = 8e-7
"""Asymmetry in hartree/angstrom^2 above which two-sided differences are used: the curvature of untrained networks is so
strong that errors reach 1e-5. Errors are about as large as the asymmetry (GOLF-1k, 43 atoms: 5.0e-7 at 5.1e-7); with
two-sided differences they are 4e-8, in twice the time."""

ATOMS_AT_ONCE = 20_000
"""Atoms of displaced molecules in one batch, which bounds memory."""


def hessian(potential: Potential, numbers: Tensor, positions: Tensor, threads: int | None = None) -> Tensor:
    """Compute the Hessian [3 n, 3 n] of one molecule in hartree/angstrom^2; see `Potential.hessian`."""
    numbers = numbers.to(potential.device, torch.int64)
    here = positions.detach().to(potential.device, torch.float64)
    here = here - here.mean(dim=0)  # steps are more exact for smaller coordinates
    double = copy.deepcopy(potential).to(torch.float64)
    with ThreadedPotential(double, threads or torch.get_num_threads()) as threaded:
        at_rest = _forces(threaded, numbers, here[None])
        rows = _slopes(threaded, numbers, here, at_rest, STEP)
        if (rows - rows.T).abs().max() > ASYMMETRY:
            rows = 0.5 * (rows + _slopes(threaded, numbers, here, at_rest, -STEP))
    return 0.5 * (rows + rows.T)


def _slopes(potential: ThreadedPotential, numbers: Tensor, here: Tensor, at_rest: Tensor, step: float) -> Tensor:
    """Return the change of minus the forces [3 n, 3 n] per angstrom of each coordinate.

    Args:
        potential: energies and forces.
        numbers: [n] atomic numbers.
        here: [n, 3] angstrom.
        at_rest: [1, 3 n] hartree/angstrom, forces without a displacement.
        step: displacement in angstrom.
    """
    size = here.numel()
    moved = here.flatten().repeat(size, 1)
    moved.diagonal().add_(step)
    steps = moved.diagonal() - here.flatten()  # as rounded
    return (at_rest - _forces(potential, numbers, moved.view(size, -1, 3))) / steps[:, None]


def _forces(potential: ThreadedPotential, numbers: Tensor, geometries: Tensor) -> Tensor:
    """Return forces [m, 3 n] in hartree/angstrom at geometries [m, n, 3] (angstrom) of one molecule."""
    n = len(numbers)

    def of(part: Tensor) -> Tensor:
        offset = torch.arange(len(part) + 1, device=part.device) * n
        return potential.energy_and_forces(numbers.repeat(len(part)), part.flatten(0, 1), offset)[1].view(len(part), -1)

    return torch.cat([of(part) for part in geometries.split(max(1, ATOMS_AT_ONCE // n))])
