"""Compute second derivatives of a potential's energy by finite differences of its forces in float64."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from golf.nnp.parallel import one_core_each

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
two-sided differences they are 4e-8, in twice the time. Where the asymmetry remains, because second derivatives are so
large that 1e-7 of them is too much, everything is computed in float64."""

COPIES = 16
"""Copies of the molecule in one batch of a CPU thread, the first not displaced; batches of 12 and 22 take 10 % longer
or as long."""

ATOMS_ON_GPU = 20_000
"""Atoms of displaced molecules in one batch on a GPU, which bounds memory."""


def hessian(potential: Potential, numbers: Tensor, positions: Tensor, threads: int | None = None) -> Tensor:
    """Compute the Hessian [3 n, 3 n] of one molecule in hartree/angstrom^2; see `Potential.hessian`."""
    numbers = numbers.to(potential.device, torch.int64)
    here = positions.detach().to(potential.device, torch.float64)
    here = here - here.mean(dim=0)  # steps are more exact for smaller coordinates
    double = copy.deepcopy(potential).to(torch.float64).requires_grad_(False)
    threads = 1 if potential.device.type != "cpu" else threads or torch.get_num_threads()
    with one_core_each(threads) as pool:
        slopes = partial(_slopes, double, numbers, here, pool)
        rows = slopes(STEP, copies=True)
        if _asymmetry(rows) > ASYMMETRY:
            rows = 0.5 * (rows + slopes(-STEP, copies=True))
        if _asymmetry(rows) > ASYMMETRY:
            rows = 0.5 * (slopes(STEP, copies=False) + slopes(-STEP, copies=False))
    return 0.5 * (rows + rows.T)


def _asymmetry(rows: Tensor) -> float:
    return float((rows - rows.T).abs().max())


def _slopes(
    potential: Potential, numbers: Tensor, here: Tensor, pool: ThreadPoolExecutor, step: float, *, copies: bool
) -> Tensor:
    """Return the change of minus the forces [3 n, 3 n] per angstrom of each coordinate.

    Args:
        potential: potential in float64.
        numbers: [n] atomic numbers.
        here: [n, 3] angstrom.
        pool: threads.
        step: displacement in angstrom.
        copies: products of matrices are in float32 as far as golf/nnp/copies.py allows, to 1e-7 of the result.
    """

    def of(coordinates: Tensor) -> Tensor:
        moved = here.flatten().repeat(len(coordinates) + 1, 1)
        displaced = torch.arange(1, len(moved), device=here.device)
        moved[displaced, coordinates] += step
        steps = (moved[displaced, coordinates] - here.flatten()[coordinates]).unsqueeze(1)  # as rounded
        offset = torch.arange(len(moved) + 1, device=here.device) * len(numbers)
        all_numbers, positions = numbers.repeat(len(moved)), moved.view(-1, 3)
        forces = potential.energy_and_forces(all_numbers, positions, offset, copies=copies)[1].view(len(moved), -1)
        return (forces[0] - forces[1:]) / steps

    at_once = COPIES if potential.device.type == "cpu" else max(2, ATOMS_ON_GPU // len(numbers))
    return torch.cat([*pool.map(of, torch.arange(here.numel(), device=here.device).split(at_once - 1))])
