"""Vibrations at the ends of relaxations, and kicks out of saddle points that were not noticed otherwise."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from golf.chem.thermochemistry import thermochemistry, vibrations
from golf.core.conformations import ConformationSet, StopReason
from golf.core.units import hartree
from golf.io.identity import derived_bonds
from golf.nnp.parallel import ThreadedPotential
from golf.nnp.potential import Architecture, Potential
from golf.nnp.provider import Molecules
from golf.potentials.hessians import central_differences, hessian_of
from golf.relaxation import vibrations as module
from golf.relaxation.relax import relax
from golf.relaxation.vibrations import VibrationCounts, with_vibrations
from support.mmff_labels import ELEMENT_ENERGIES
from support.mmff_potential import MMFFPotential, Springs, conformers


def eclipsed_ethane():
    atoms = molecule("C2H6")  # along z
    half = atoms.positions[:, 2] > 0.0
    turn = Atoms("X" * int(half.sum()), atoms.positions[half])
    turn.rotate(60.0, "z")
    atoms.positions[half] = turn.positions
    smiles = derived_bonds(atoms.numbers, atoms.positions, 0)
    return ConformationSet.build([("ethane/0", "ethane", smiles, 0, 1, atoms.numbers, atoms.positions)])


LIMITS = {"force_threshold": hartree(0.02), "max_steps": 300, "slots": 4}


def relaxed_by(potential, **limits):
    return lambda starts: relax(starts, potential, **(LIMITS | limits), advance=lambda: None)


@pytest.fixture
def saddle_point(monkeypatch):
    """Eclipsed ethane by MMFF, whose symmetry nobody has noticed."""
    monkeypatch.setattr("golf.relaxation.relax.is_symmetric", lambda *_: False)
    potential = MMFFPotential()
    end = relaxed_by(potential)(eclipsed_ethane())
    assert end.values["stop_reason"][0] == StopReason.CONVERGED
    return potential, end


def test_an_imaginary_mode_is_left_by_a_kick(saddle_point):
    potential, end = saddle_point
    found = with_vibrations(end, potential, relaxed_by(potential), temperature=298.15)
    usual = relaxed_by(potential)(conformers(["CC"], 1))
    energy = found.values["nnp_energy_last"][0]
    assert energy == pytest.approx(usual.values["nnp_energy_last"][0], abs=hartree(0.01))
    assert energy < end.values["nnp_energy_last"][0] - hartree(1.0)
    assert found.values["n_imaginary"].tolist() == [0] and found.values["n_kicks"].tolist() == [1]
    assert found.values["lowest_frequency"][0] > 40.0 and found.attrs["temperature"] == 298.15
    for name in ("n_steps", "n_force_evaluations"):
        assert found.values[name][0] > end.values[name][0]
    for name in ("nnp_energy_first",):
        assert found.values[name][0] == end.values[name][0]
    np.testing.assert_array_equal(found.atoms["initial_position"], end.atoms["initial_position"])
    energies, forces = potential.evaluate(Molecules.of(found), torch.from_numpy(found.position))
    np.testing.assert_allclose(found.atoms["nnp_force"], forces.numpy(), atol=1e-12)
    hessian = central_differences(potential, Molecules.of(found), found.position)
    frequencies = vibrations(found.number, found.position, hessian).frequencies
    thermal = thermochemistry(found.number, found.position, frequencies, 298.15)
    assert found.values["free_energy"][0] == pytest.approx(float(energies[0]) + thermal.quasi_rrho, abs=1e-9)
    assert [*VibrationCounts.of(found).lines()] == [
        "1 end had an imaginary mode and was relaxed again from beside it; see n_kicks"
    ]


def test_a_saddle_point_that_is_not_left_is_said(saddle_point, monkeypatch):
    potential, end = saddle_point
    monkeypatch.setattr(module, "KICKS", 0)
    found = with_vibrations(end, potential, relaxed_by(potential), temperature=298.15)
    assert found.values["n_imaginary"].tolist() == [1] and found.values["lowest_frequency"][0] < -40.0
    assert np.isnan(found.values["free_energy"]).all() and found.values["n_kicks"].tolist() == [0]
    np.testing.assert_array_equal(found.position, end.position)
    (line,) = VibrationCounts.of(found).lines()
    assert line == "warning: 1 end still has imaginary modes and no free energy; see n_imaginary"


def test_what_did_not_converge_or_is_not_the_molecule_has_no_free_energy():
    potential = MMFFPotential()
    starts = conformers(["CO", "CCO"], 1)
    end = relaxed_by(potential)(starts)
    torn = end.position.copy()
    torn[end.rows(1)][0] += 40.0
    stopped = end.with_columns(position=torn, values={"stop_reason": [StopReason.STEP_LIMIT, StopReason.CONVERGED]})
    monkey = relaxed_by(potential, max_steps=1)
    found = with_vibrations(stopped, potential, monkey, temperature=300.0)
    assert np.isnan(found.values["free_energy"]).all() and np.isnan(found.values["lowest_frequency"][0])
    assert found.values["n_imaginary"][0] == -1 and found.values["n_kicks"][0] == 0
    without = with_vibrations(end, potential, monkey)
    assert "free_energy" not in without.values and without.values["n_imaginary"].tolist() == [0, 0]


def test_an_atom_has_a_free_energy_and_no_frequency():
    atom = ConformationSet.build([("neon/0", "neon", "[Ne:1]", 0, 1, np.array([10]), np.zeros((1, 3)))])
    potential = Springs()
    found = with_vibrations(relaxed_by(potential)(atom), potential, relaxed_by(potential), temperature=298.15)
    assert found.values["n_imaginary"].tolist() == [0] and np.isnan(found.values["lowest_frequency"][0])
    assert found.values["free_energy"][0] == pytest.approx(
        hartree(-8.938), abs=hartree(0.003)
    )  # 2.5 k T - T 146.22 J/(mol K)


def test_the_hessian_is_that_of_the_network_or_of_central_differences():
    torch.manual_seed(1)
    network = Potential(Architecture(n_atom_basis=8, n_interactions=2, n_rbf=6, cutoff=4.0), ELEMENT_ENERGIES)
    water = conformers(["O"], 1)
    exact = network.hessian(torch.from_numpy(water.number).long(), torch.from_numpy(water.position)).numpy()
    one = Molecules.of(water)
    with ThreadedPotential(network, 1) as threaded:
        np.testing.assert_array_equal(hessian_of(threaded, one, water.position), exact)
    springs = hessian_of(Springs(), one, water.position)
    np.testing.assert_allclose(springs, 0.1 * np.eye(9), atol=1e-12)
