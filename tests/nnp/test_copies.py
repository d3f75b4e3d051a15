"""Displaced copies of a molecule evaluated together, against their evaluation as different molecules."""

import pytest
import torch

from golf.nnp.potential import Architecture, Potential
from support.mmff_labels import ELEMENT_ENERGIES

STEP = 1e-6  # angstrom

MOLECULES = {
    "water": ([8, 1, 1], [[0.0, 0.0, 0.1], [0.0, 0.76, -0.5], [0.0, -0.76, -0.5]]),
    "atoms without pairs": ([8, 1], [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]),
    "a pair at the cutoff": ([6, 8, 1], [[0.0, 0.0, 0.0], [1.2, 0.0, 0.0], [3.0 - STEP / 2, 0.0, 0.0]]),
}


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("representation", ["painn", "schnet"])
def test_forces_of_copies_change_as_those_of_different_molecules(name, representation):
    torch.manual_seed(3)
    architecture = Architecture(representation, n_atom_basis=16, n_interactions=3, n_rbf=8, cutoff=3.0)
    potential = Potential(architecture, ELEMENT_ENERGIES).double().requires_grad_(False)
    numbers, here = torch.tensor(MOLECULES[name][0]), torch.tensor(MOLECULES[name][1], dtype=torch.float64)
    size = here.numel()
    moved = here.flatten().repeat(size + 1, 1)
    moved[1:].diagonal().add_(STEP)
    offset = torch.arange(size + 2) * len(numbers)
    arguments = (numbers.repeat(size + 1), moved.view(-1, 3), offset)
    energies, forces = potential.energy_and_forces(*arguments, copies=True)
    plain_energies, plain_forces = potential.energy_and_forces(*arguments)
    torch.testing.assert_close(energies, plain_energies, rtol=0, atol=1e-10)
    forces, plain_forces = (found.view(size + 1, size) for found in (forces, plain_forces))
    torch.testing.assert_close(forces[0], plain_forces[0], rtol=0, atol=1e-13)
    slopes, plain = ((found[1:] - found[0]) / STEP for found in (forces, plain_forces))
    torch.testing.assert_close(slopes, plain, rtol=0, atol=3e-7 * max(1.0, float(plain.abs().max())))
