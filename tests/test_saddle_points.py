"""Symmetric starts end in minima, and others cost no evaluation more."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from mmff_potential import conformers

from golf.conformations import ConformationSet, StopReason
from golf.extxyz import derived_bonds
from golf.potential import Potential
from golf.published import import_checkpoint
from golf.relaxation import relax
from golf.saddle_points import is_symmetric, way_down
from golf.slots import Optimizer
from golf.units import hartree

X = (0.0, 0.0, 0.0), (1.42, 0.0, 0.0)
ECLIPSED = (1.724612, 0.910391, 0), (-0.372802, 1.024265, 0), (-0.372802, -0.512132, 0.887039)
STAGGERED = (1.724612, 0.910391, 0), (-0.372802, 0.512132, 0.887039), (-0.372802, -1.024265, 0)


def methanol(hydrogens):
    first, *others = hydrogens
    mirrored = next(one for one in others if one[2])
    return Atoms("COH4", [*X, first, *others, (mirrored[0], mirrored[1], -mirrored[2])])


def eclipsed_ethane():
    atoms = molecule("C2H6")  # along z
    half = atoms.positions[:, 2] > 0.0
    turn = Atoms("X" * int(half.sum()), atoms.positions[half])
    turn.rotate(60.0, "z")
    atoms.positions[half] = turn.positions
    return atoms


@pytest.fixture(scope="module")
def potential(reference_data) -> Potential:
    return import_checkpoint(reference_data / "checkpoints" / "GOLF-1k")


def conformation(name, atoms):
    smiles = derived_bonds(atoms, 0, name)
    return ConformationSet.build([(f"{name}/0", name, smiles, 0, 1, atoms.numbers, atoms.positions)])


@pytest.mark.parametrize("optimizer", ["lbfgs", "preconditioned"])
@pytest.mark.parametrize("threshold", [0.1, 0.5])  # kcal/mol/angstrom
def test_eclipsed_methanol_ends_where_staggered_methanol_does(potential, optimizer, threshold):
    """It passed for converged 0.9 kcal/mol up."""
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    starts = [conformation(name, methanol(hs)) for name, hs in (("e", ECLIPSED), ("s", STAGGERED))]
    starts[0] = starts[0].with_columns(position=(starts[0].position @ rotation).round(4))  # as in a file, in any frame
    limits = {"force_threshold": hartree(threshold), "max_steps": 500, "slots": 2}
    ends = [relax(start, potential, optimizer=Optimizer(optimizer), **limits) for start in starts]
    energies = [float(end.values["nnp_energy_last"][0]) for end in ends]
    assert energies[0] == pytest.approx(energies[1], abs=hartree(0.02))
    assert [bool(end.values["left_saddle_point"][0]) for end in ends] == [True, False]
    assert ends[0].values["stop_reason"][0] == StopReason.CONVERGED
    np.testing.assert_array_equal(ends[0].atoms["initial_position"], starts[0].position)
    again = relax(starts[0], potential, optimizer=Optimizer(optimizer), **limits)
    np.testing.assert_array_equal(again.position, ends[0].position)


@pytest.mark.parametrize(("name", "atoms"), [("C2H6", eclipsed_ethane())])
def test_no_end_of_a_symmetric_start_falls_off(potential, name, atoms):
    start = conformation(name, molecule(name)).with_columns(position=atoms.positions)
    end = relax(start, potential, force_threshold=hartree(0.1), max_steps=500, slots=1)
    assert end.values["stop_reason"][0] == StopReason.CONVERGED and end.values["left_saddle_point"][0]
    assert way_down(potential, end.number, end.position) is None


def test_what_is_symmetric():
    for name in ("CH3OH", "C6H6", "CO2", "C2H2", "H2CO", "CH4", "H2O2", "NH3"):
        assert is_symmetric(molecule(name).numbers, molecule(name).positions), name
    for name in ("H2", "H2O", "CO"):  # no motion that a symmetry could hide
        assert not is_symmetric(molecule(name).numbers, molecule(name).positions), name
    ordinary = conformers(["CCO", "OCC(F)CN", "CC(C)(C)C", "O=CNC", "CC#N"], 3)
    for i in range(len(ordinary)):
        rows = ordinary.rows(i)
        assert not is_symmetric(ordinary.number[rows], ordinary.position[rows]), ordinary.id[i]


def test_ordinary_starts_cost_no_evaluation_more(potential):
    starts = conformers(["CCO", "CC(N)=O"], 2)
    asked = []

    class Counted:
        device = torch.device("cpu")

        def energy_and_forces(self, numbers, positions, offset):
            asked.append(len(offset) - 1)
            return potential.energy_and_forces(numbers, positions, offset)

    ends = relax(starts, Counted(), force_threshold=hartree(0.5), max_steps=200, slots=4)
    assert sum(asked) == ends.values["n_force_evaluations"].sum() and not ends.values["left_saddle_point"].any()
