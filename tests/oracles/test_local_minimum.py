"""The estimate of the energy above a minimum: exact on a paraboloid, and against real minima of GFN2-xTB."""

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.vibrations import Vibrations
from tblite.ase import TBLite

from golf.core.deadline import Deadline, OutOfTime
from golf.core.level import LevelOfTheory
from golf.core.motions import internal_motions
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL, hartree
from golf.oracles.geometric import FORCE_THRESHOLD, Optimization, optimize
from golf.oracles.local_minimum import (
    CHEAP_LEVEL,
    FLOOR,
    energy_above_minimum,
    hessians,
)
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request

GFN1 = LevelOfTheory("ase", "tblite:GFN1-xTB", "none")


def request(name):
    atoms = ase_molecule(name)
    return Request(name, atoms.numbers.astype(np.uint8), atoms.positions, 0, 1)


def paraboloid(positions, lowest=0.05):
    """A Hessian with the given lowest curvature and none along translations and rotations."""
    basis = internal_motions(positions)
    random = np.random.default_rng(3)
    turned = np.linalg.qr(random.normal(size=(basis.shape[1],) * 2))[0]
    values = np.geomspace(lowest, 1.0, basis.shape[1])
    return basis @ (turned * values) @ turned.T @ basis.T


def test_exact_on_a_paraboloid_whatever_the_rigid_part_of_the_forces():
    one = request("CH3OH")
    hessian = paraboloid(one.positions)
    away = np.random.default_rng(1).normal(size=one.positions.size) * 0.05
    forces = -(hessian @ away).reshape(-1, 3)
    expected = 0.5 * away @ hessian @ away
    assert energy_above_minimum(one.positions, forces, hessian) == pytest.approx(expected, rel=1e-10)
    pulled = forces + [0.3, -0.1, 0.2] + np.cross([0.1, 0.2, -0.3], one.positions - one.positions.mean(axis=0))
    assert energy_above_minimum(one.positions, pulled, hessian) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("name", "n_motions"), [("H2O", 3), ("CO2", 4), ("N2", 1), ("CH3OH", 12)])
def test_motions_of_linear_and_other_molecules(name, n_motions):
    basis = internal_motions(request(name).positions)
    assert basis.shape == (3 * len(request(name).numbers), n_motions)
    np.testing.assert_allclose(basis.T @ basis, np.eye(n_motions), atol=1e-12)


def test_one_atom_is_at_its_minimum():
    assert energy_above_minimum(np.zeros((1, 3)), np.full((1, 3), 0.1), np.zeros((3, 3))) == 0.0


def test_soft_and_falling_modes_have_the_curvature_of_the_floor():
    one = request("H2O")
    basis = internal_motions(one.positions)
    forces = (basis[:, 0] * 0.01).reshape(-1, 3)
    for curvature, used in ((1e-7, FLOOR), (-1e-7, FLOOR), (-10 * FLOOR, 10 * FLOOR)):
        hessian = basis @ np.diag([curvature, 1.0, 1.0]) @ basis.T
        assert energy_above_minimum(one.positions, forces, hessian) == pytest.approx(0.5 * 0.01**2 / used)


def test_hessians_are_those_of_ase(tmp_path):
    one = request("CH3OH")
    found = hessians([one], n_workers=2, folder=tmp_path)
    assert not found.reasons
    atoms = Atoms(one.numbers, one.positions, calculator=TBLite(method="GFN2-xTB", verbosity=0))
    vibrations = Vibrations(atoms, name=str(tmp_path / "vibrations"), delta=0.01)
    vibrations.run()
    theirs = vibrations.get_vibrations().get_hessian_2d() / HARTREE_IN_EV
    np.testing.assert_allclose(found.of[0], theirs, atol=2e-3 * np.abs(theirs).max())
    (kept,) = tmp_path.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:200])  # cut off: computed again
    np.testing.assert_array_equal(hessians([one], n_workers=1, folder=tmp_path).of[0], found.of[0])
    np.save(kept, found.of[0] + 1.0)
    np.testing.assert_array_equal(hessians([one], n_workers=1, folder=tmp_path).of[0], found.of[0] + 1.0)


def test_the_end_of_the_job_is_one_line_and_finished_hessians_are_kept(tmp_path):
    hydrogen, water = request("H2"), request("H2O")
    hessians([hydrogen], n_workers=1, folder=tmp_path)
    with pytest.raises(OutOfTime, match=r"^time limit: .*; 1 of 2 Hessians are done and kept in .*; run again"):
        hessians([hydrogen, water], n_workers=1, folder=tmp_path, deadline=Deadline(0.0))
    assert len(list(tmp_path.iterdir())) == 1


def test_what_has_no_hessian_is_said():
    water, fluoride = request("H2O"), request("HF")
    absent = hessians([water], n_workers=1, level=LevelOfTheory("ase", "no_such_package.Calculator", "none"))
    assert not absent.of and "No module named 'no_such_package'" in absent.reasons[0]
    metals = LevelOfTheory("ase", "ase.calculators.emt.EMT", "none")
    some = hessians([water, fluoride], n_workers=1, level=metals)
    assert list(some.of) == [0] and some.reasons == {1: "ase.calculators.emt.EMT has no parameters of F"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "error"), [("CH3CH2OH", 0.03), ("HCOOH", 0.03), ("CH3CONH2", 0.25)])
def test_estimate_against_true_energies_above_minima_of_gfn2(name, error):
    """GFN2 has the part of the oracle, GFN1 that of the cheap method: its Hessian, and the end from which GFN2 goes on.

    The two differ by a factor of two in the curvature along which the nitrogen of acetamide becomes pyramidal, and so
    does the estimate from the energy.
    """
    with OraclePool(GFN1) as cheap, OraclePool(CHEAP_LEVEL) as oracle:
        relaxation = Optimization(request(name), cheap.compute)
        optimize(relaxation, 100, FORCE_THRESHOLD)
        end = dataclasses.replace(request(name), positions=relaxation.final)
        hessian = hessians([end], n_workers=1, level=GFN1).of[0]
        to_minimum = Optimization(end, oracle.compute, hessian=hessian)
        optimize(to_minimum, 100, FORCE_THRESHOLD / 4)
        guessed = Optimization(end, oracle.compute)
        optimize(guessed, 100, FORCE_THRESHOLD / 4)
    assert len(to_minimum.labels) < len(guessed.labels)
    true = to_minimum.labels[0].energy - to_minimum.labels[to_minimum.last].energy
    estimate = energy_above_minimum(end.positions, to_minimum.labels[0].forces, hessian)
    assert 0.03 < true * HARTREE_IN_KCAL_PER_MOL < 1.0
    assert estimate == pytest.approx(true, abs=hartree(error))
