"""Second derivatives for positions, by every way there is, against autograd through plain tensor operations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from torch.autograd.functional import hessian, jacobian

import golf
from golf.core.units import HARTREE_IN_EV
from golf.nnp.batches import batch_of
from golf.nnp.export import export
from golf.nnp.kernels import kernels
from golf.nnp.networks import scalar_features
from golf.nnp.parallel import ThreadedPotential
from golf.nnp.potential import Architecture, Potential
from golf.nnp.published import import_checkpoint
from support.mmff_labels import ELEMENT_ENERGIES
from support.mmff_potential import conformers

TOLERANCE = {"rtol": 0, "atol": 1e-6}  # hartree/angstrom^2


def potentials():
    torch.manual_seed(2)
    small = {"n_atom_basis": 16, "n_interactions": 3, "n_rbf": 8, "cutoff": 3.0}
    walls = {"H-H": 1.95, "C-H": 1.25, "H-O": 1.2}  # long enough to be felt
    yield Potential(Architecture("painn", **small), ELEMENT_ENERGIES)
    yield Potential(Architecture("schnet", **small), ELEMENT_ENERGIES)
    yield Potential(Architecture("painn", **small, repulsion="wall"), ELEMENT_ENERGIES, shortest_distances=walls)


@pytest.fixture(scope="module")
def water():
    """Atomic numbers, positions [3, 3] and offset."""
    part = conformers(["O"], 1)
    return torch.from_numpy(part.number).long(), torch.from_numpy(part.position), torch.from_numpy(part.offset)


def by_autograd(potential, numbers, positions, offset):
    """Second derivatives of the energy, [3 n, 3 n]."""
    size = positions.numel()
    return hessian(lambda x: potential.energy_and_forces(numbers, x, offset)[0][0], positions).view(size, size)


@pytest.mark.parametrize("potential", list(potentials()), ids=["painn", "schnet", "wall"])
def test_every_way_gives_the_second_derivatives(potential, water, without_kernels, tmp_path):
    numbers, positions, offset = water
    single, potential = potential, potential.double().requires_grad_(False)
    size = positions.numel()
    assert kernels(torch.float64) is not None

    def forces(x, of=potential):
        return of.energy_and_forces(numbers, x, offset)[1]

    found = {
        "hessian": potential.hessian(numbers, positions),
        "energy twice": by_autograd(potential, numbers, positions, offset),
        "forces once": -jacobian(forces, positions).view(size, size),
        "functions": torch.func.hessian(lambda x: potential.energy_and_forces(numbers, x, offset)[0][0])(
            positions
        ).view(size, size),
    }
    with ThreadedPotential(potential, 2) as threaded:
        found["threads, energy twice"] = by_autograd(threaded, numbers, positions, offset)
    export(potential, tmp_path / "exported.pt")
    exported = torch.jit.load(tmp_path / "exported.pt")
    x = positions.clone().requires_grad_()
    with torch.jit.optimized_execution(False):
        exported_row = -torch.autograd.grad(exported(numbers, x)[1][1, 2], x)[0].flatten()

    without_kernels()
    expected = by_autograd(potential, numbers, positions, offset)
    h = 1e-6  # and that is the slope of the forces
    moved = positions.clone()
    moved[1, 2] += h
    row = (forces(positions) - forces(moved)).flatten() / h
    torch.testing.assert_close(row, expected[5], rtol=0, atol=1e-4)
    torch.testing.assert_close(exported_row, expected[5], **TOLERANCE)
    for way, second in found.items():
        torch.testing.assert_close(second, expected, **TOLERANCE, msg=lambda text, way=way: f"{way}: {text}")
    assert single.hessian(numbers, positions).dtype == torch.float64


def test_features_are_differentiated_twice_for_the_vectors_of_pairs(water, without_kernels):
    """The loops of golf/nnp/kernels.c have no such derivative and said nothing of it."""
    potential = next(potentials()).double()
    numbers, positions, offset = water
    batch = batch_of(numbers, positions, offset, 3.0)

    def energy(vectors):
        return scalar_features(potential.network.representation, replace(batch, vectors=vectors)).square().sum()

    found = hessian(energy, batch.vectors)
    without_kernels()
    expected = hessian(energy, batch.vectors)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_hessian_of_a_published_model_in_single_precision(reference_data, without_kernels):
    potential = import_checkpoint(reference_data / "checkpoints" / "GOLF-1k")
    part = conformers(["CC(N)=O"], 1)
    numbers, positions = torch.from_numpy(part.number).long(), torch.from_numpy(part.position) + 100.0
    found = potential.hessian(numbers, positions)
    assert torch.equal(found, found.T) and potential.dtype == torch.float32
    without_kernels()
    expected = by_autograd(potential.double(), numbers, positions, torch.from_numpy(part.offset))
    assert expected.abs().max() > 1.0
    torch.testing.assert_close(found, expected, **TOLERANCE)


def test_without_a_gradient_wanted_there_is_no_graph(water):
    numbers, positions, offset = water
    potential = next(potentials())
    with ThreadedPotential(potential, 2) as threaded:
        for one in (potential, threaded):
            assert not any(result.requires_grad for result in one.energy_and_forces(numbers, positions, offset))
            asked = positions.clone().requires_grad_()
            with torch.no_grad():
                assert not any(result.requires_grad for result in one.energy_and_forces(numbers, asked, offset))
            assert all(result.requires_grad for result in one.energy_and_forces(numbers, asked, offset))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_calculator_gives_ase_the_hessian(dtype, tmp_path):
    next(potentials()).save(tmp_path / "model.pt")
    atoms = molecule("CH3OH")
    atoms.calc = golf.Calculator(tmp_path / "model.pt", device="cpu", dtype=dtype)
    found = atoms.calc.get_hessian(atoms)  # eV/angstrom^2
    assert found.shape == (18, 18) and np.array_equal(atoms.calc.get_property("hessian", atoms), found)
    assert atoms.get_potential_energy() and "hessian" in atoms.calc.results, "nothing was computed again"
    double = golf.Calculator(tmp_path / "model.pt", device="cpu", dtype="float64")
    forces = []
    for step in (1e-5, -1e-5):
        moved = molecule("CH3OH")
        moved.positions[1, 0] += step
        forces.append(double.get_forces(moved).ravel())
    np.testing.assert_allclose(found[3], (forces[1] - forces[0]) / 2e-5, rtol=0, atol=2e-6 * HARTREE_IN_EV)
    atoms.positions[0, 0] += 0.1
    assert np.abs(atoms.calc.get_hessian(atoms) - found).max() > 1e-3
