"""The ASE calculator: units, forces against differences, and ASE's optimizers, dynamics and vibrations with it."""

import logging
import subprocess
import sys

import ase.units
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, BFGSLineSearch
from ase.vibrations import Vibrations

import golf
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_EV
from golf.nnp.potential import load
from golf.nnp.published import import_checkpoint
from support import REPOSITORY


@pytest.fixture(scope="module")
def model(reference_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "golf-1k.pt"
    import_checkpoint(reference_data / "checkpoints" / "GOLF-1k").save(path)
    return path


@pytest.fixture
def double(model):
    return golf.Calculator(model, device="cpu", dtype="float64")


@pytest.fixture
def methanol(double):
    """At the minimum of the model."""
    atoms = molecule("CH3OH")
    atoms.calc = double
    assert BFGS(atoms, logfile=None).run(fmax=1e-5, steps=300)
    return atoms


def energies(model, atoms, positions):
    """eV, of geometries [n, atoms, 3], by one call of the potential itself."""
    n, n_atoms = positions.shape[:2]
    numbers = torch.from_numpy(np.tile(atoms.numbers, n).astype(np.int64))
    offset = torch.arange(n + 1) * n_atoms
    flat = torch.from_numpy(positions.reshape(-1, 3))
    return load(model, dtype="float64").energy_and_forces(numbers, flat, offset)[0].numpy() * HARTREE_IN_EV


def test_importing_golf_is_light():
    code = (
        "import sys, golf; print({'torch', 'ase', 'numpy', 'rdkit'} & set(sys.modules)); golf.Calculator; print('ok')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert shown.stdout.split("\n")[:2] == ["set()", "ok"]
    with pytest.raises(AttributeError, match="no attribute 'Calculater'"):
        golf.Calculater  # noqa: B018


@pytest.mark.slow
def test_the_log_of_a_program_that_uses_golf_stays_as_it_was():
    imports = "import logging, golf, golf.nnp._schnetpack; golf.Calculator"
    code = f"{imports}; root = logging.getLogger(); print(root.level, root.handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == [str(logging.WARNING), "[]\n"]


def test_energy_is_the_total_energy_in_ev(model):
    atoms = molecule("CH3CH2OH")
    atoms.calc = golf.Calculator(model)
    # wB97X-D/def2-SVP of Psi4, which the model was trained on, of this geometry: -154.875705 Eh
    assert atoms.get_potential_energy() == pytest.approx(-154.875705 * ase.units.Hartree, abs=0.2)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert atoms.get_forces().shape == (9, 3)


def test_forces_are_minus_the_slope_of_the_energy(model, double):
    atoms = molecule("CH3CONH2")
    atoms.rattle(0.05, seed=3)
    atoms.calc = double
    n, h = 3 * len(atoms), 1e-5
    steps = np.eye(n).reshape(n, -1, 3) * h
    slope = (energies(model, atoms, atoms.positions + steps) - energies(model, atoms, atoms.positions - steps)) / (
        2 * h
    )
    np.testing.assert_allclose(atoms.get_forces().ravel(), -slope, rtol=0, atol=5e-6)
    single = golf.Calculator(model, dtype="float32")
    np.testing.assert_allclose(single.get_forces(atoms), atoms.get_forces(), rtol=0, atol=2e-4)
    assert np.abs(single.get_forces(atoms) - atoms.get_forces()).max() > 0.0


def test_optimizers_reach_the_same_minimum(model, methanol):
    other = molecule("CH3OH")
    other.calc = golf.Calculator(model, dtype="float64")
    assert BFGSLineSearch(other, logfile=None).run(fmax=1e-5, steps=300)
    assert other.get_potential_energy() == pytest.approx(methanol.get_potential_energy(), abs=1e-7)
    assert molecule("CH3OH").get_distance(0, 1) != pytest.approx(other.get_distance(0, 1), abs=1e-4)


def test_molecular_dynamics_conserves_the_energy(methanol):
    thermalize_momenta(methanol, temperature_K=600, rng=np.random.default_rng(1))
    total, kinetic = [], []
    dynamics = VelocityVerlet(methanol, timestep=0.25 * ase.units.fs)
    dynamics.attach(lambda: (total.append(methanol.get_total_energy()), kinetic.append(methanol.get_kinetic_energy())))
    dynamics.run(200)
    drift, exchanged = np.ptp(total), np.ptp(kinetic)
    assert exchanged > 0.05 and drift < 0.02 * exchanged


def test_vibrations_at_the_minimum(model, methanol, tmp_path):
    n, h = 3 * len(methanol), 5e-4
    vibrations = Vibrations(methanol, name=str(tmp_path / "vib"), delta=h)
    vibrations.run()
    hessian = vibrations.get_vibrations().get_hessian_2d()
    # the same from energies alone, which never sees a force
    e = np.eye(n).reshape(n, -1, 3) * h
    i, j = np.triu_indices(n)
    x = methanol.positions
    corners = [energies(model, methanol, x + a * e[i] + b * e[j]) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    second = np.zeros((n, n))
    second[i, j] = second[j, i] = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * h * h)
    np.testing.assert_allclose(hessian, second, rtol=0, atol=2e-3 * np.abs(second).max())

    wave_numbers = vibrations.get_frequencies()  # 1/cm; an imaginary part: a slope downhill
    assert np.abs(wave_numbers[:6]).max() < 30.0  # translations and rotations
    internal = wave_numbers[6:]
    assert len(internal) == n - 6 and np.abs(internal.imag).max() == 0.0 and internal.real.min() > 100.0
    assert 3500.0 < internal.real[-1] < 4600.0  # the O-H stretch, of a model that never saw so small a molecule


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (
            molecule("BF3"),
            r"BF3 has B, which .*\.pt does not cover \(it covers H C N O F S Cl Br\); train with",
        ),
        (Atoms("UO2", np.eye(3)), r"O2U has U, which .* does not cover \(it covers H C"),
        (Atoms("OH2", np.eye(3), cell=[9, 9, 9], pbc=True), "H2O is periodic, but the model is for molecules"),
        (Atoms("OH2", np.eye(3) * np.nan), "H2O: positions are not finite numbers"),
        (Atoms(), "the Atoms object is empty"),
    ],
)
def test_atoms_that_it_cannot_compute_are_refused(double, atoms, message):
    with pytest.raises(UserError, match=message):
        double.get_potential_energy(atoms)


def test_a_cell_without_periodicity_does_not_matter(double):
    free, boxed = molecule("H2O"), molecule("H2O", vacuum=5.0)
    assert double.get_potential_energy(free) == pytest.approx(double.get_potential_energy(boxed), abs=1e-9)


def test_wrong_arguments_are_refused(model, tmp_path):
    with pytest.raises(UserError, match="dtype 'float16' is unknown; use float32 or float64"):
        golf.Calculator(model, dtype="float16")
    with pytest.raises(UserError, match=r"nowhere\.pt: no such file"):
        golf.Calculator(tmp_path / "nowhere.pt")


def test_atoms_at_one_place_are_refused(double):
    atoms = Atoms("H2O", [[0, 0, 0], [0, 0, 0], [0, 0, 1]], calculator=double)
    with pytest.raises(UserError, match="H2O: the energy is not finite; are two atoms at the same position"):
        atoms.get_potential_energy()
    assert double.name == "golf"


@pytest.mark.parametrize("name", ["gfn2", "mmff"])
def test_potentials_by_name_with_charge(name):
    """Ammonium, by charge in `Atoms.info`: forces are the slope of the energy, the Hessian is that of the forces."""
    calculator = golf.Calculator(name, cores=1)
    ion = Atoms(
        "NH4", 0.6 * np.array([(0, 0, 0), (1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)]), info={"charge": 1}
    )
    ion.calc = calculator
    force, h = ion.get_forces()[1, 0], 1e-3
    sides = []
    for step in (h, -h):
        ion.positions[1, 0] += step
        sides.append((ion.get_potential_energy(), ion.get_forces()[1, 0]))
        ion.positions[1, 0] -= step
    assert force == pytest.approx((sides[1][0] - sides[0][0]) / (2 * h), abs=1e-4)
    curvature = calculator.get_hessian(ion)[3, 3]
    assert curvature == pytest.approx((sides[1][1] - sides[0][1]) / (2 * h), rel=2e-3)
    as_cation = ion.get_potential_energy()
    if name == "gfn2":
        ion.info["charge"] = 0
        ion.info["spin"] = 2
        assert abs(ion.get_potential_energy() - as_cation) > 1.0
    calculator.close()
