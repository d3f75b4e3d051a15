"""The PySCF oracle against the real Psi4: dispersion, grid, labels; and its own ladder, ions, repetition, refusals."""

import json
import subprocess

import numpy as np
import pytest
from ase.build import molecule as ase_molecule
from pyscf import gto
from scipy.spatial import cKDTree

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.core.units import BOHR_IN_ANGSTROM
from golf.oracles.programs import dispersion
from golf.oracles.programs.interpreter import find_psi4
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request
from golf.oracles.programs.pyscf_worker import SCF_LADDER, Calculator, Grid, NotConverged

LEVEL = LevelOfTheory("pyscf", "wb97x-d", "def2-svp")
CHEAP = LevelOfTheory("pyscf", "hf", "sto-3g")

ASK_PSI4 = """
import json, sys
import psi4
psi4.core.set_output_file("psi4.out", False)
answers = []
for symbols, positions in json.load(sys.stdin):
    atoms = ["%s %r %r %r" % (symbol, *position) for symbol, position in zip(symbols, positions)]
    molecule = psi4.geometry("\\n".join([*atoms, "units bohr", "symmetry c1", "no_com", "no_reorient"]))
    attraction = psi4.core.Dispersion.build("chg", 1.0, 6.0)
    answer = [attraction.compute_energy(molecule), attraction.compute_gradient(molecule).to_array().tolist()]
    if "grid" in sys.argv:
        basis = psi4.core.BasisSet.build(molecule, "ORBITAL", "def2-svp", quiet=True)
        grid = psi4.core.DFTGrid.build(molecule, basis)
        blocks = grid.blocks()  # gone with the grid
        answer += [sum([list(getattr(block, part)().to_array()) for block in blocks], []) for part in "xyzw"]
    answers.append(answer)
json.dump(answers, open("answers.json", "w"))
"""


def ask_psi4(folder, structures, *options):
    psi4 = find_psi4(None)
    subprocess.run(
        [psi4.python, "-c", ASK_PSI4, *options],
        input=json.dumps([(symbols, np.asarray(positions).tolist()) for symbols, positions in structures]),
        text=True,
        check=True,
        cwd=folder,
        env=psi4.environment,
        stdout=subprocess.DEVNULL,
    )
    return json.loads((folder / "answers.json").read_text())


def turned(name):
    """A molecule without symmetry that lies on no axis."""
    atoms = ase_molecule(name)
    atoms.rattle(0.05, seed=1)
    atoms.euler_rotate(31, 47, 76)
    return atoms


def request(name, charge=0, multiplicity=1):
    atoms = turned(name)
    return Request(f"{name} {charge}", atoms.numbers.astype(np.uint8), atoms.positions, charge, multiplicity)


def setup(method="hf", basis="sto-3g", **keywords):
    return Calculator({"method": method, "basis": basis, "keywords": keywords, "threads": 1, "memory_mb": 1000})


@pytest.mark.psi4
def test_dispersion_of_every_element_is_that_of_psi4(tmp_path):
    """Each element beside carbon at three distances, and all at once; Psi4's constants are those of 2014."""
    rng = np.random.default_rng(5)
    structures = [
        (["C", symbol], [[0.0, 0.0, 0.0], [0.3, 0.2, distance]])
        for symbol in dispersion.SYMBOLS
        for distance in (2.5, 5.0, 9.0)
    ]
    structures.append((list(dispersion.SYMBOLS), rng.uniform(0, 40, (len(dispersion.SYMBOLS), 3))))
    for (symbols, positions), (energy, gradient) in zip(structures, ask_psi4(tmp_path, structures), strict=True):
        numbers = np.array([gto.charge(symbol) for symbol in symbols])
        ours, slope = dispersion.energy_and_gradient(numbers, np.asarray(positions))
        assert ours == pytest.approx(energy, rel=2e-6), symbols
        np.testing.assert_allclose(slope, gradient, rtol=1e-5, atol=2e-9)


@pytest.mark.psi4
def test_the_grid_is_that_of_psi4(tmp_path):
    atoms = turned("CH3SCH3")
    positions = atoms.positions / BOHR_IN_ANGSTROM
    (answer,) = ask_psi4(tmp_path, [(atoms.get_chemical_symbols(), positions)], "grid")
    x, y, z, weights = map(np.array, answer[2:])
    mol = gto.M(atom=list(zip(atoms.get_chemical_symbols(), positions, strict=True)), unit="bohr", basis="def2-svp")
    grid = Grid(mol)
    grid.build(with_non0tab=False)
    distance, nearest = cKDTree(grid.coords).query(np.stack([x, y, z], axis=1))
    assert distance.max() < 1e-6 and np.abs(grid.weights[nearest] - weights).max() < 1e-6
    left_out = np.delete(np.arange(len(grid.coords)), nearest)  # by Psi4: too far from all atoms for any function
    far = np.linalg.norm(grid.coords[left_out, None] - positions, axis=2).min(axis=1)
    assert len(left_out) < 0.1 * len(grid.coords) and far[grid.weights[left_out] != 0].min() > 7.0


@pytest.mark.psi4
def test_labels_agree_with_psi4():
    """Five molecules, two charged and one of those a radical, to 2e-4 hartree and 5e-4 hartree/angstrom."""
    requests = [request(*which) for which in (("H2O",), ("CH3OH",), ("CH3Cl",), ("HCOOH", -1, 2), ("CH3CHO", 1, 2))]
    with OraclePool(LevelOfTheory("psi4", "wb97x-d", "def2-svp"), n_workers=2) as oracle:
        theirs = {done.id: label for done, label in oracle.stream(requests)}
    with OraclePool(LEVEL, n_workers=2) as oracle:
        ours = {done.id: label for done, label in oracle.stream(requests)}
    for one in requests:
        assert ours[one.id].status == theirs[one.id].status == Status.OK, ours[one.id].message
        assert abs(ours[one.id].energy - theirs[one.id].energy) < 2e-4
        assert np.abs(ours[one.id].forces - theirs[one.id].forces).max() < 5e-4


@pytest.mark.psi4
def test_iodine_has_the_dispersion_of_iodine():
    """With a core potential Psi4 1.3.2 takes the coefficients of the element with iodine's 25 electrons, manganese."""
    numbers, positions = np.array([1, 53]), np.array([[0.0, 0.0, 0.0], [0.3, 0.4, 1.55]])
    iodide = Request("HI", numbers.astype(np.uint8), positions, 0, 1)
    energies = []
    for program in ("psi4", "pyscf"):
        with OraclePool(LevelOfTheory(program, "wb97x-d", "def2-svp")) as oracle:
            energies.append(oracle.compute(iodide).energy)
    right, wrong = (dispersion.energy_and_gradient(np.array([1, z]), positions / BOHR_IN_ANGSTROM)[0] for z in (53, 25))
    mistakes = [abs(energies[1] - right - (energies[0] - dispersed)) for dispersed in (right, wrong)]
    assert min(mistakes) < 1e-6 < abs(right - wrong)


@pytest.mark.psi4
@pytest.mark.parametrize("method", ["hf", "pbe", "b3lyp"])
def test_other_methods_agree_with_psi4(method):
    water = request("H2O")
    with OraclePool(LevelOfTheory("psi4", method, "def2-svp")) as oracle:
        theirs = oracle.compute(water)
    with OraclePool(LevelOfTheory("pyscf", method, "def2-svp")) as oracle:
        ours = oracle.compute(water)
    assert abs(ours.energy - theirs.energy) < 2e-4 and np.abs(ours.forces - theirs.forces).max() < 5e-4


def test_forces_are_minus_the_derivative_of_the_energy():
    one, step = request("CH3OH"), 2e-4
    push = np.random.default_rng(2).normal(size=one.positions.shape)
    with OraclePool(CHEAP) as oracle:
        forces = oracle.compute(one).forces
        up, down = (
            oracle.compute(Request("x", one.numbers, one.positions + sign * step * push, 0, 1)).energy
            for sign in (1, -1)
        )
    assert (forces * push).sum() == pytest.approx(-(up - down) / (2 * step), abs=1e-5)


@pytest.mark.slow
def test_the_same_geometry_gives_the_same_bits_whatever_was_computed_before():
    """With so little memory PySCF itself would cut its arrays differently in a process that has grown."""
    methanol, level = request("CH3OH"), LevelOfTheory("pyscf", "pbe", "def2-svp")
    with OraclePool(level, memory_mb=250) as oracle:
        first = oracle.compute(methanol)
        oracle.compute(request("C6H6"))
        again = oracle.compute(methanol)
    with OraclePool(level, memory_mb=250) as oracle:
        elsewhere = oracle.compute(methanol)
    for label in (again, elsewhere):
        assert label.energy == first.energy
        np.testing.assert_array_equal(label.forces, first.forces)


@pytest.mark.slow
def test_an_energy_does_not_depend_on_how_the_molecule_lies():
    one = request("CH3OH")
    about = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    with OraclePool(LevelOfTheory("pyscf", "pbe", "sto-3g")) as oracle:
        here, there = oracle.compute(one), oracle.compute(Request("x", one.numbers, one.positions @ about + 3.0, 0, 1))
    assert there.energy == pytest.approx(here.energy, abs=1e-8)
    np.testing.assert_allclose(there.forces, here.forces @ about, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CH4", "C2H6", "CO2"])
def test_nor_does_that_of_a_molecule_with_equal_moments(name):
    """Coordinates as a file has them, with six decimals: their rounding must not choose the axes."""
    atoms = ase_molecule(name)
    about = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    here, there = (np.round(positions, 6) for positions in (atoms.positions, atoms.positions @ about + 3.0))
    numbers = atoms.numbers.astype(np.uint8)
    with OraclePool(LevelOfTheory("pyscf", "pbe", "sto-3g")) as oracle:
        energies = [oracle.compute(Request("x", numbers, positions, 0, 1)).energy for positions in (here, there)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-6)


def test_polarization_functions_in_parentheses_are_computed():
    energies = []
    for basis in ("6-31g(d)", "6-31G*"):
        with OraclePool(LevelOfTheory("pyscf", "hf", basis)) as oracle:
            oracle.check([1, 6, 7, 8])
            energies.append(oracle.compute(request("H2O")).energy)
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


def test_scf_ladder_recovers_and_says_how():
    with OraclePool(CHEAP) as oracle:
        plain = oracle.compute(request("H2O"))
    with OraclePool(LevelOfTheory("pyscf", "hf", "sto-3g", {"max_cycle": 2})) as oracle:
        recovered = oracle.compute(request("H2O"))
    assert plain.recovery == "" and recovered.recovery == "damped"
    assert plain.scf_iterations > 2 and recovered.energy == pytest.approx(plain.energy, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hf", "pbe"])
@pytest.mark.parametrize(("charge", "multiplicity"), [(0, 1), (1, 2)])
def test_every_rung_of_the_ladder_converges_to_the_same_energy(method, charge, multiplicity):
    calculator, water = setup(method), ase_molecule("H2O")
    mol = calculator.molecule(water.get_chemical_symbols(), water.positions, charge, multiplicity)
    rungs = [calculator.attempt(mol, **settings) for _, settings in SCF_LADDER]
    for rung in rungs:
        assert rung["energy"] == pytest.approx(rungs[0]["energy"], abs=1e-7)
        np.testing.assert_allclose(rung["gradient"], rungs[0]["gradient"], atol=1e-5)


def test_what_converges_on_no_rung_is_a_status(monkeypatch):
    calculator = setup(max_cycle=1)
    monkeypatch.setattr("golf.oracles.programs.pyscf_worker.SCF_LADDER", (("", {}), ("again", {"max_cycle": 2})))
    water = {"symbols": ["O", "H", "H"], "positions": ase_molecule("H2O").positions, "charge": 0, "multiplicity": 1}
    answer = calculator.compute(water)
    assert answer["status"] == "NOT_CONVERGED"
    assert answer["message"] == "SCF did not converge (default: not in 1 iterations; again: not in 2 iterations)"
    with pytest.raises(NotConverged):
        calculator.attempt(calculator.molecule(["O"], [[0.0, 0.0, 0.0]], 0, 3))


def test_ions_and_radicals_have_their_charge_and_spin():
    with OraclePool(CHEAP) as oracle:
        cation, neutral = oracle.compute(request("H2O", 1, 2)), oracle.compute(request("H2O"))
        impossible = oracle.compute(request("H2O", 1, 1))
    assert cation.energy > neutral.energy + 0.2
    assert impossible.status == Status.FAILED and "not consistent" in impossible.message
    assert np.isnan(impossible.forces).all()


@pytest.mark.psi4
def test_basis_functions_are_those_of_psi4():
    with OraclePool(LevelOfTheory("psi4", "hf", "def2-svp")) as oracle:
        theirs = oracle.basis([1, 6, 8, 17, 35, 53])
    with OraclePool(LEVEL) as oracle:
        ours = oracle.basis([1, 6, 8, 17, 35, 53, 82])
    assert ours.functions == theirs.functions
    assert ours.with_ecp == frozenset()  # iodine's is differentiated analytically: it costs no more than the rest


def test_a_core_potential_is_used():
    iodide = setup(basis="def2-svp").molecule(["I", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.6]], 0, 1)
    assert iodide.nelectron == 26


def test_keywords_are_attributes_of_the_field():
    calculator = setup("pbe", **{"grids.atom_grid": [30, 110], "conv_tol": 1e-6})
    field = calculator.field(calculator.molecule(["H", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.7]], 0, 1))
    assert field.grids.atom_grid == (30, 110) and field.conv_tol == 1e-6


@pytest.mark.parametrize(
    ("level", "numbers", "reason"),
    [
        (LevelOfTheory("pyscf", "wb97x-dd", "sto-3g"), [1, 8], r"oracle\.method 'wb97x-dd' cannot be .* by PySCF"),
        (
            LevelOfTheory("pyscf", "wb97xd", "sto-3g"),
            [1, 8],
            r"PySCF does not add the correction .* HYB_GGA_XC_WB97X_D",
        ),
        (LevelOfTheory("pyscf", "b97-d", "sto-3g"), [1, 8], r"PySCF does not add the correction .* GGA_XC_B97_D"),
        (LevelOfTheory("pyscf", "wb97m_v", "sto-3g", {"nlc": 0}), [1], r"PySCF does not add .* HYB_MGGA_XC_WB97M_V"),
        (LevelOfTheory("pyscf", "b3lyp_d3bj", "sto-3g"), [1], r"'b3lyp_d3bj' cannot be computed by PySCF"),
        (LevelOfTheory("pyscf", "hf", "sto-3gg"), [1, 8], r"oracle\.basis 'sto-3gg' does not cover"),
        (LevelOfTheory("pyscf", "hf", "6-31g"), [1, 53], r"oracle\.basis '6-31g' does not cover I"),
        (LevelOfTheory("pyscf", "hf", "sto-3g", {"grids.lvl": 1}), [1], r"oracle\.keywords: .*no grids\.lvl"),
    ],
)
def test_a_level_that_cannot_be_computed_is_found_before_the_first_label(level, numbers, reason):
    with OraclePool(level) as oracle, pytest.raises(UserError, match=reason) as caught:
        oracle.check(numbers)
    assert "\n" not in str(caught.value)
