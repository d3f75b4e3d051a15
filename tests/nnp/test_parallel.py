"""Chunks of a batch on threads: the same numbers whatever the number of threads."""

import numpy as np
import pytest
import torch

from golf.nnp.parallel import ATOMS_PER_CHUNK, ThreadedPotential, chunks, shares
from golf.nnp.potential import Architecture, Potential
from support.mmff_labels import ELEMENT_ENERGIES
from support.mmff_potential import conformers


@pytest.fixture(scope="module")
def molecules():
    part = conformers(["OC=O", "CCO", "NCO", "FCCF", "CCCCC"], 16)
    return torch.from_numpy(part.number).long(), torch.from_numpy(part.position), torch.from_numpy(part.offset)


@pytest.fixture(scope="module")
def potential():
    torch.manual_seed(2)
    return Potential(Architecture(n_atom_basis=16, n_interactions=2, n_rbf=8), ELEMENT_ENERGIES).requires_grad_(False)


def test_the_number_of_threads_changes_nothing(potential, molecules):
    results = []
    for threads in (1, 2, 3):
        with ThreadedPotential(potential, threads) as threaded:
            results.append(threaded.energy_and_forces(*molecules))
    for energies, forces in results[1:]:
        assert torch.equal(energies, results[0][0]) and torch.equal(forces, results[0][1])
    whole = potential.energy_and_forces(*molecules)
    torch.testing.assert_close(results[0], whole, rtol=0.0, atol=2e-5)


def test_torch_has_its_threads_back(potential, molecules):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with ThreadedPotential(potential, 2) as threaded:
            threaded.energy_and_forces(*molecules)
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_thread_arrives(potential, molecules):
    numbers, positions, offset = molecules
    with ThreadedPotential(potential, 2) as threaded, pytest.raises(IndexError):
        threaded.energy_and_forces(numbers + 1000, positions, offset)


@pytest.mark.parametrize("sizes", [[5] * 100, [400, 3, 3, 3], [3, 3, 400, 3], [1], [700], list(range(1, 60))])
def test_pieces_hold_every_molecule_once_and_are_of_like_size(sizes):
    offset = np.cumsum([0, *sizes])
    found = chunks(offset)
    assert [first for first, _ in found] == [0, *(last for _, last in found[:-1])] and found[-1][1] == len(sizes)
    atoms = [offset[last] - offset[first] for first, last in found]
    assert max(atoms) < 1.5 * ATOMS_PER_CHUNK + max(sizes) and min(atoms) > 0


def test_nothing_to_compute(potential):
    none = torch.zeros(0, dtype=torch.int64)
    with ThreadedPotential(potential, 2) as threaded:
        energies, forces = threaded.energy_and_forces(
            none, torch.zeros(0, 3, dtype=torch.float64), torch.zeros(1).long()
        )
    assert energies.shape == (0,) and forces.shape == (0, 3)


@pytest.mark.parametrize("n", [2, 3])
def test_copies_share_a_batch(potential, molecules, n):
    """As on several GPUs, each with a copy of the potential."""
    cpu = torch.device("cpu")
    with ThreadedPotential(potential, 1, [cpu] * n) as threaded:
        assert len({id(one) for one in threaded._copies}) == n
        shared = threaded.energy_and_forces(*molecules)
        one = (molecules[0][:5], molecules[1][:5], torch.tensor([0, 5]))  # fewer molecules than copies
        torch.testing.assert_close(threaded.energy_and_forces(*one), potential.energy_and_forces(*one))
    torch.testing.assert_close(shared, potential.energy_and_forces(*molecules), rtol=0.0, atol=2e-5)


def test_shares_hold_every_molecule_once():
    offset = np.cumsum([0, 3, 9, 9, 1, 20, 2])
    assert shares(offset, 2) == [(0, 4), (4, 6)]
    assert shares(offset, 100)[0][0] == 0 and shares(offset, 100)[-1][1] == 6
