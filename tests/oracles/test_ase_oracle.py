"""ASE calculators as oracles: GFN2-xTB against tblite's own interface, charges, elements, repetition, wrong names."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase.build import molecule as ase_molecule
from ase.calculators.emt import EMT
from tblite.interface import Calculator as Tblite

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.core.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV
from golf.oracles.programs import pool
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request
from support import REPOSITORY

XTB = LevelOfTheory("ase", "tblite:GFN2-xTB", "none")
METALS = LevelOfTheory("ase", "ase.calculators.emt.EMT", "none")


def request(name, charge=0, multiplicity=1):
    atoms = ase_molecule(name)
    atoms.rattle(0.05, seed=1)
    return Request(f"{name} {charge}", atoms.numbers.astype(np.uint8), atoms.positions, charge, multiplicity)


@pytest.mark.parametrize(("name", "charge", "multiplicity"), [("CH3OH", 0, 1), ("H2O", 1, 2), ("HCOOH", -1, 2)])
@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
def test_labels_equal_tblite_called_directly(method, name, charge, multiplicity):
    one = request(name, charge, multiplicity)
    direct = Tblite(method, one.numbers.astype(int), one.positions / BOHR_IN_ANGSTROM, charge, multiplicity - 1)
    direct.set("verbosity", 0)
    result = direct.singlepoint()
    with OraclePool(LevelOfTheory("ase", f"tblite:{method}", "none")) as oracle:
        label = oracle.compute(one)
    assert label.status == Status.OK, label.message
    assert label.energy == pytest.approx(float(result["energy"]), abs=1e-8)
    np.testing.assert_allclose(label.forces, -result["gradient"] / BOHR_IN_ANGSTROM, atol=1e-7)


def test_the_unit_of_energy_is_hartree_and_of_force_hartree_per_angstrom():
    one = request("H2O")
    atoms = ase_molecule("H2O")
    atoms.positions, atoms.calc = one.positions, EMT()
    with OraclePool(METALS) as oracle:
        label = oracle.compute(one)
    assert label.energy == pytest.approx(atoms.get_potential_energy() / HARTREE_IN_EV, rel=1e-7)
    np.testing.assert_allclose(label.forces, atoms.get_forces() / HARTREE_IN_EV, rtol=1e-7)


def test_charges_that_a_calculator_does_not_take_are_refused():
    with OraclePool(METALS) as oracle:
        ion, radical = oracle.compute(request("H2O", 1, 2)), oracle.compute(request("H2O", 0, 3))
    assert ion.status == radical.status == Status.FAILED
    assert "charge 1: ase.calculators.emt.EMT does not accept a charge" in ion.message
    assert "does not accept a multiplicity" in radical.message


def test_the_same_geometry_gives_the_same_bits_whatever_was_computed_before():
    with OraclePool(XTB) as oracle:
        first = oracle.compute(request("CH3OH"))
        oracle.compute(request("CH3CHO"))
        again = oracle.compute(request("CH3OH"))
    assert again.energy == first.energy
    np.testing.assert_array_equal(again.forces, first.forces)


def test_elements_are_those_of_which_a_diatomic_molecule_is_computed():
    with OraclePool(METALS) as oracle:
        assert set(oracle.basis([1, 6, 7, 8, 9, 17]).functions) == {1, 6, 7, 8}
        with pytest.raises(UserError, match=r"oracle\.method 'ase\.calculators\.emt\.EMT' does not cover F"):
            oracle.check([1, 9])
    with OraclePool(XTB) as oracle:
        oracle.check([1, 3, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 19, 20, 26, 29, 30, 35, 53])


def test_keywords_reach_the_calculator_and_a_failure_is_a_label():
    with OraclePool(LevelOfTheory("ase", "tblite:GFN2-xTB", "none", {"max_iterations": 1})) as oracle:
        label = oracle.compute(request("CH3OH"))
    assert label.status == Status.FAILED and label.message and np.isnan(label.energy)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("no_such_package.Calculator", r"No module named 'no_such_package'; .* -m pip install no_such_package"),
        ("ase.calculators.emt.EMTT", r"the module ase\.calculators\.emt has no EMTT"),
        (
            "gfn2",
            r"oracle\.method 'gfn2' is not the import path of an ASE calculator, such as ase\.calc",
        ),
    ],
)
def test_a_calculator_that_is_not_there_is_one_line(method, reason):
    with pytest.raises(UserError, match=rf"ASE does not start with .*{reason}") as caught:
        OraclePool(LevelOfTheory("ase", method, "none"))
    assert "\n" not in str(caught.value)
    assert ("pip install" in str(caught.value)) is ("." in method)  # a name without a module is not a package's


def test_a_method_that_the_calculator_does_not_know_fails_the_check():
    level = LevelOfTheory("ase", "tblite:GFN9-xTB", "none")
    with OraclePool(level) as oracle, pytest.raises(UserError, match=r"oracle\.method 'tblite:GFN9-xTB' ") as caught:
        oracle.check([1])
    assert "\n" not in str(caught.value)


UNDER_INIT = """
import os, sys
forker = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == forker:
    pass
os.execv(sys.executable, [sys.executable, "-m", "golf.oracles.programs.ase_worker"])
"""


def test_a_child_of_process_1_serves_it():
    """In a container golf may be process 1 itself; here process 1 adopts the child of one that has gone."""
    asked = [{"method": METALS.method, "basis": "none", "keywords": {}}, {"covered": ["Cu"]}]
    lines = "".join(json.dumps(line) + "\n" for line in asked)
    done = subprocess.run(
        [sys.executable, "-c", UNDER_INIT], input=lines, capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    ready, answer = map(json.loads, done.stdout.splitlines())
    assert ready["ready"] and answer["covered"] == {"Cu": [0, 0]}


@pytest.mark.slow
def test_each_element_has_a_time_limit_of_its_own(tmp_path, monkeypatch):
    """All of them together may take longer; of the one that is too slow the message says which."""
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "START_SECONDS", 3.0)
    with OraclePool(LevelOfTheory("ase", "slow.Slow", "none")) as oracle:
        assert set(oracle.basis([1, 6, 7, 8]).functions) == {1, 6, 7, 8}
        with pytest.raises(UserError, match=r"ASE does not answer about Cl within 3 s; choose another") as caught:
            oracle.basis([1, 17])
    assert "\n" not in str(caught.value)


SLOW = """
import time
from ase.calculators.emt import EMT

class Slow(EMT):
    def calculate(self, atoms=None, *rest):
        time.sleep(3600 if "Cl" in atoms.symbols else 1)
        super().calculate(atoms, *rest)
"""
