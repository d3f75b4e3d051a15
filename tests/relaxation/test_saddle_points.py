"""Symmetric starts end in minima, and others cost no evaluation more."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from golf.core.conformations import ConformationSet, StopReason, concatenate
from golf.core.units import hartree
from golf.io.identity import derived_bonds
from golf.nnp.potential import Potential
from golf.nnp.provider import Molecules
from golf.nnp.published import import_checkpoint
from golf.relaxation.engine import Optimizer, RelaxationEngine
from golf.relaxation.relax import relax
from golf.relaxation.saddle_points import is_symmetric, way_down
from support.mmff_potential import conformers

X = (0.0, 0.0, 0.0), (1.42, 0.0, 0.0)
ECLIPSED = (1.724612, 0.910391, 0), (-0.372802, 1.024265, 0), (-0.372802, -0.512132, 0.887039)
STAGGERED = (1.724612, 0.910391, 0), (-0.372802, 0.512132, 0.887039), (-0.372802, -1.024265, 0)


def methanol(hydrogens):
    first, *others = hydrogens
    mirrored = next(one for one in others if one[2])
    return Atoms("COH4", [*X, first, *others, (mirrored[0], mirrored[1], -mirrored[2])])


def ring(n, radius, height=0.0):
    """Places [n, 3] around z."""
    angles = 2.0 * np.pi * np.arange(n) / n
    return np.stack([radius * np.cos(angles), radius * np.sin(angles), np.full(n, height)], axis=1)


def flat_biphenyl():
    carbons, hydrogens = (ring(6, radius) + [2.14, 0.0, 0.0] for radius in (1.39, 2.48))
    hydrogens = np.delete(hydrogens, 3, axis=0)
    return Atoms("C12H10", np.concatenate([carbons, -carbons, hydrogens, -hydrogens]))


def flat_cyclohexane():
    return Atoms("C6H12", np.concatenate([ring(6, 1.54), ring(6, 2.14, 0.88), ring(6, 2.14, -0.88)]))


def flat_methylamine():
    nitrogen = (1.4, 0.0, 0.0), (1.9, 0.86, 0.0), (1.9, -0.86, 0.0)
    methyl = (-0.372802, 0.0, 1.024265), (-0.372802, -0.887039, -0.512132), (-0.372802, 0.887039, -0.512132)
    return Atoms("CNH5", [(0.0, 0.0, 0.0), *nitrogen, *methyl])


def straight_water():
    return Atoms("OH2", [(0.0, 0.0, 0.0), (0.0, 0.0, 0.96), (0.0, 0.0, -0.96)])


def flat_ammonia():
    atoms = molecule("NH3")
    atoms.positions[:, 2] = 0.0
    return atoms


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


class Counted:
    """The potential, and how many molecules it was asked for at a time."""

    device = torch.device("cpu")

    def __init__(self, potential):
        self._potential, self.molecules = potential, []

    def evaluate(self, molecules, positions):
        self.molecules.append(len(molecules))
        return self._potential.evaluate(molecules, positions)


def without_a_look(starts, potential, **settings):
    """Relaxations that end where the engine ends."""
    relaxer = RelaxationEngine(starts, potential, None, iterations_per_step=1, **settings)
    return sorted(relaxer.run(range(len(starts))), key=lambda trajectory: trajectory.start)


def conformation(name, atoms):
    smiles = derived_bonds(atoms.numbers, atoms.positions, 0)
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


SADDLE_POINTS = [  # and conformers that are none
    (eclipsed_ethane(), "CC"),
    (flat_methylamine(), "CN"),
    (straight_water(), "O"),
    (flat_cyclohexane(), "C1CCCCC1"),
    (flat_biphenyl(), "c1ccccc1-c1ccccc1"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("atoms", "smiles"), SADDLE_POINTS, ids=[smiles for _, smiles in SADDLE_POINTS])
def test_saddle_points_are_left(potential, atoms, smiles):
    """Flat nitrogen of an amine and, with rounding, straight water bend by themselves."""
    limits = {"force_threshold": hartree(0.1), "max_steps": 500, "slots": 1, "optimizer": Optimizer("preconditioned")}
    end = relax(conformation(smiles, atoms), potential, **limits)
    assert end.values["stop_reason"][0] == StopReason.CONVERGED
    assert end.values["left_saddle_point"][0] or smiles in ("CN", "O")
    assert way_down(potential, Molecules.of(end), end.position) is None
    usual = relax(conformers([smiles], 1), potential, **limits)
    energies = [float(one.values["nnp_energy_last"][0]) for one in (end, usual)]
    assert energies[0] == pytest.approx(energies[1], abs=hartree(0.02))


def test_a_symmetric_end_at_the_step_limit_stays(potential):
    """Of flat ammonia, forces in its plane never come to rest; nobody takes that end for a minimum."""
    limits = {"force_threshold": hartree(0.1), "max_steps": 20, "slots": 1}
    (stuck,) = without_a_look(conformation("flat", flat_ammonia()), potential, **limits)
    end = relax(conformation("flat", flat_ammonia()), potential, **limits)
    assert end.values["stop_reason"][0] == StopReason.STEP_LIMIT and not end.values["left_saddle_point"][0]
    np.testing.assert_array_equal(end.position, stuck.last.positions)
    assert end.values["n_steps"][0] == 20


MINIMA = ["C6H6", "C2H6", "C2H4", "C2H2", "H2CO", "CH3OH", "HCN"]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "preconditioned"])
def test_symmetric_minima_stay_as_they_are(potential, optimizer):
    asked = Counted(potential)
    starts = concatenate([conformation(name, molecule(name)) for name in MINIMA])
    settings = {"force_threshold": hartree(0.1), "max_steps": 100, "slots": 4, "optimizer": Optimizer(optimizer)}
    ends = relax(starts, asked, **settings)
    assert not ends.values["left_saddle_point"].any()
    alone = without_a_look(starts, potential, **settings)
    np.testing.assert_array_equal(ends.position, np.concatenate([one.last.positions for one in alone]))
    assert sum(asked.molecules) == ends.values["n_force_evaluations"].sum()
    looks = ends.values["n_force_evaluations"] - [one.n_force_evaluations for one in alone]
    np.testing.assert_array_equal(looks, 6 * ends.n_atoms)


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
    asked = Counted(potential)
    ends = relax(starts, asked, force_threshold=hartree(0.5), max_steps=200, slots=4)
    assert sum(asked.molecules) == ends.values["n_force_evaluations"].sum()
    assert not ends.values["left_saddle_point"].any()
