"""Vibrations and free energies against ase.vibrations and ase.thermochemistry, on molecules relaxed by ASE's EMT.

(EMT has saddle points at some of these, so that imaginary modes are compared as well.)
"""

import ase.data
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.thermochemistry import HarmonicThermo, IdealGasThermo, MSRRHOThermo
from ase.vibrations import VibrationsData

from golf.chem.thermochemistry import (
    HARTREE_IN_PER_CM,
    boltzmann_weights,
    is_linear,
    thermochemistry,
    vibrations,
)
from golf.core.elements import MASSES
from golf.core.units import HARTREE_IN_EV

MOLECULES = {"CO2": 2, "C2H2": 2, "H2O": 2, "CH3OH": 1, "CH3CH2OH": 1, "C2H6": 6, "N2": 2}
"""Molecules and their symmetry numbers."""


@pytest.fixture(scope="module", params=list(MOLECULES))
def relaxed(request):
    """A molecule at its minimum and its Hessian in eV/angstrom^2, without what translates or rotates it."""
    atoms = molecule(request.param)
    atoms.calc = EMT()
    assert BFGS(atoms, logfile=None).run(fmax=1e-6, steps=2000)
    here, rows = atoms.positions.copy(), []
    for k in range(here.size):
        forces = []
        for step in (1e-4, -1e-4):
            atoms.positions = here + step * np.eye(here.size)[k].reshape(-1, 3)
            forces.append(atoms.get_forces().ravel())
        rows.append((forces[1] - forces[0]) / 2e-4)
    atoms.positions = here
    hessian = 0.5 * (np.array(rows) + np.array(rows).T)
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    centred = here - atoms.get_center_of_mass()
    moves = [np.tile(axis, len(here)) for axis in np.eye(3)] + [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd((roots * np.array(moves)).T, full_matrices=False)
    left = left[:, sizes > 1e-3]
    keep = np.eye(here.size) - left @ left.T
    weighted = keep @ (hessian / roots[:, None] / roots) @ keep
    return request.param, atoms, hessian, weighted * roots[:, None] * roots


def test_masses_are_those_of_ase():
    np.testing.assert_allclose(MASSES[1:], ase.data.atomic_masses[1:], rtol=1e-11)


def test_frequencies_and_motions_are_those_of_ase(relaxed):
    name, atoms, raw, hessian = relaxed
    found = vibrations(atoms.numbers, atoms.positions, raw / HARTREE_IN_EV)
    theirs = VibrationsData(atoms, hessian.reshape(len(atoms), 3, len(atoms), 3))
    n_internal = 3 * len(atoms) - (5 if is_linear(atoms.numbers, atoms.positions) else 6)
    complex_ones = theirs.get_frequencies()
    signed = complex_ones.real - complex_ones.imag
    expected = np.sort(signed[np.abs(signed) > 0.01])  # without translations and rotations
    assert len(found.frequencies) == n_internal
    assert is_linear(atoms.numbers, atoms.positions) == (name in ("CO2", "C2H2", "N2"))
    np.testing.assert_allclose(found.frequencies, expected, rtol=1e-6, atol=1e-3)
    if name == "H2O":  # no two modes of one frequency
        modes = theirs.get_modes()[-n_internal:].reshape(n_internal, -1)
        modes /= np.linalg.norm(modes, axis=1, keepdims=True)
        overlap = np.abs(np.sum(modes * found.motions.reshape(n_internal, -1), axis=1))
        np.testing.assert_allclose(overlap, 1.0, atol=1e-6)


@pytest.mark.parametrize("temperature", [100.0, 298.15, 1000.0])
def test_free_energies_are_those_of_ase(relaxed, temperature):
    name, atoms, raw, _ = relaxed
    found = vibrations(atoms.numbers, atoms.positions, raw / HARTREE_IN_EV)
    quanta = np.abs(found.frequencies) * units.invcm
    geometry = "linear" if is_linear(atoms.numbers, atoms.positions) else "nonlinear"
    sigma = MOLECULES[name]
    theirs = IdealGasThermo(quanta, geometry, 0.0, atoms=atoms, symmetrynumber=sigma, spin=1.0)
    mine = thermochemistry(
        atoms.numbers,
        atoms.positions,
        found.frequencies,
        temperature,
        multiplicity=3,
        symmetry_number=sigma,
        rotor_inertia=float(np.mean(atoms.get_moments_of_inertia())),
    )
    atol = 1e-6  # eV; their constants are of CODATA 2014
    assert mine.zero_point * HARTREE_IN_EV == pytest.approx(theirs.get_ZPE_correction(), abs=atol)
    assert mine.enthalpy * HARTREE_IN_EV == pytest.approx(theirs.get_enthalpy(temperature, verbose=False), abs=atol)
    gibbs = theirs.get_gibbs_energy(temperature, 101325.0, verbose=False)
    assert mine.rrho * HARTREE_IN_EV == pytest.approx(gibbs, rel=1e-6, abs=atol)
    vibrational = MSRRHOThermo(quanta, atoms, tau=100.0).get_entropy(temperature, verbose=False)
    harmonic = HarmonicThermo(quanta).get_entropy(temperature, verbose=False)
    difference = (mine.quasi_entropy - mine.entropy) * HARTREE_IN_EV * temperature
    assert difference == pytest.approx((vibrational - harmonic) * temperature, rel=1e-6, abs=2e-8)


def test_an_atom_only_translates():
    atoms = Atoms("Ar")
    found = vibrations(atoms.numbers, atoms.positions, np.zeros((3, 3)))
    assert found.frequencies.shape == (0,) and found.motions.shape == (0, 1, 3) and found.n_imaginary == 0
    mine = thermochemistry(atoms.numbers, atoms.positions, found.frequencies, 298.15)
    theirs = IdealGasThermo([], "monatomic", 0.0, atoms=atoms, symmetrynumber=1, spin=0.0)
    expected = theirs.get_gibbs_energy(298.15, 101325.0, verbose=False)
    assert mine.rrho * HARTREE_IN_EV == pytest.approx(expected, abs=1e-6) and mine.quasi_rrho == mine.rrho


def test_a_soft_mode_has_the_entropy_of_a_rotor():
    """Grimme 2012, figure 2: the harmonic entropy diverges, that of the rotor does not; above 300/cm they agree."""
    atoms = molecule("H2O")
    entropies = [thermochemistry(atoms.numbers, atoms.positions, np.array([nu]), 298.15) for nu in (2.0, 10.0, 400.0)]
    per_cal = 627509.474  # hartree/K to cal/(mol K)
    excess = [(one.entropy - one.quasi_entropy) * per_cal for one in entropies]
    assert excess[0] > excess[1] > 1.0 and abs(excess[2]) < 0.02
    zero, imaginary = (thermochemistry(atoms.numbers, atoms.positions, np.array([nu]), 298.15) for nu in (0.0, -20.0))
    assert np.isfinite([zero.rrho, zero.quasi_rrho, imaginary.rrho]).all()


def test_imaginary_modes_are_counted_beyond_the_noise():
    water = molecule("H2O")
    internal = vibrations(water.numbers, water.positions, np.eye(9))
    assert internal.n_imaginary == 0
    assert vibrations(water.numbers, water.positions, -np.eye(9)).n_imaginary == 3
    assert vibrations(water.numbers, water.positions, -1e-6 * np.eye(9)).n_imaginary == 0


def test_boltzmann_weights_are_of_each_molecule():
    kt = 300.0 * 3.1668115634556e-6
    free = np.array([-5.0, 7.0, -5.0 + kt * np.log(3.0), np.nan, 7.0])
    weights = boltzmann_weights(["a", "b", "a", "a", "b"], free, 300.0)
    np.testing.assert_allclose(weights, [0.75, 0.5, 0.25, np.nan, 0.5], rtol=1e-9)
    assert pytest.approx(units.Hartree / units.invcm, rel=1e-8) == HARTREE_IN_PER_CM
