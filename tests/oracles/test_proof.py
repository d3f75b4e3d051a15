"""What is found before the first label: versions known to be wrong, wrong energies, forces of something else."""

import json
import logging
import subprocess

import numpy as np
import pytest

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.oracles import proof
from golf.oracles.programs import known_faults
from golf.oracles.programs.interpreter import find_psi4
from golf.oracles.programs.known_faults import Fault, doubtful_elements, refuse_wrong_version
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request
from golf.oracles.proof import prove
from golf.oracles.spin import warn_of_spin

DEFAULT = LevelOfTheory("psi4", "wb97x-d", "def2-svp")

ASK_PSI4 = """
import json, psi4
psi4.core.set_output_file("psi4.out", False)
from psi4.driver.procrouting.dft import build_superfunctional_from_dictionary as build, functionals
found = {name: bool(build(one, 1, 1, True)[0].is_x_lrc()) for name, one in functionals.items()}
json.dump(found, open("found.json", "w"))
"""


@pytest.mark.parametrize(
    "version",
    ["1.4", "1.4.0", "1.4.1", "v1.4", "1.4a1", "1.4a2.dev77", "1.4rc3", "1.4+6ce35a5", "1.5a1.dev12", "1.5rc1"],
)
@pytest.mark.parametrize("method", ["wb97x-d", "wB97M-V", "CAM-B3LYP", "lrc-wpbe"])
def test_psi4_1_4_is_refused_for_range_separated_functionals(version, method):
    with pytest.raises(UserError, match=r"psi4 1\.|psi4 v1\.") as caught:
        refuse_wrong_version(LevelOfTheory("psi4", method, "def2-svp"), version)
    assert "install Psi4 1.5 or newer" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["1.3.2", "1.5", "1.5.0", "1.6.1", "1.9.1", "1.10a1.dev2", "1.40"])
def test_other_versions_are_not_refused(version):
    refuse_wrong_version(DEFAULT, version)


def test_other_methods_of_a_wrong_version_are_computed():
    refuse_wrong_version(LevelOfTheory("psi4", "b3lyp", "def2-svp"), "1.4.1")
    refuse_wrong_version(LevelOfTheory("pyscf", "wb97x-d", "def2-svp"), "1.4.1")
    with pytest.raises(UserError):
        refuse_wrong_version(LevelOfTheory("psi4", "b3lyp", "def2-svp", {"DFT_OMEGA": 0.3}), "1.4.1")


@pytest.mark.psi4
def test_the_names_of_range_separated_functionals_are_those_of_psi4(tmp_path):
    psi4 = find_psi4(None)
    subprocess.run(
        [psi4.python, "-c", ASK_PSI4], check=True, cwd=tmp_path, env=psi4.environment, stdout=subprocess.DEVNULL
    )
    found = json.loads((tmp_path / "found.json").read_text())
    named = {name: bool(known_faults._RANGE_SEPARATED.search(name)) for name in found}
    assert named == found and sum(found.values()) > 40


@pytest.mark.psi4
def test_a_wrong_version_is_refused_by_every_pool(monkeypatch, tmp_path):
    fault = known_faults.FAULTS[0]
    row = Fault(
        "psi4", known_faults.re.compile(""), known_faults.re.compile("^hf$"), "", frozenset(), "x", fault.remedy
    )
    monkeypatch.setattr(known_faults, "FAULTS", (row,))
    with pytest.raises(UserError, match=r"oracle\.method 'hf': psi4 .* computes x; install"):
        OraclePool(LevelOfTheory("psi4", "hf", "sto-3g"), scratch=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_iodine_behind_a_core_potential_is_warned_of_once(monkeypatch, caplog):
    assert set(doubtful_elements(DEFAULT, "1.3.2")) == {53} and not doubtful_elements(DEFAULT, "1.9.1")
    assert not doubtful_elements(LevelOfTheory("psi4", "b3lyp", "def2-svp"), "1.3.2")
    row = known_faults.FAULTS[1]
    monkeypatch.setattr(known_faults, "FAULTS", (Fault("ase", known_faults.re.compile(""), known_faults.re.compile(""),
                                                       "", row.elements, row.what, row.remedy),))  # fmt: skip
    iodide = Request("HI", np.array([1, 53], np.uint8), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.6]]), 0, 1)
    with OraclePool(LevelOfTheory("ase", "tblite:GFN2-xTB", "none")) as oracle:
        assert oracle.compute(iodide).status == oracle.compute(iodide).status == Status.OK
    assert caplog.text.count("dispersion coefficients of manganese") == 1


@pytest.mark.slow
@pytest.mark.parametrize("program", [pytest.param("psi4", marks=pytest.mark.psi4), "pyscf"])
def test_ethanol_at_the_default_level_is_held_against_its_known_energy(monkeypatch, program):
    with OraclePool(LevelOfTheory(program, "wB97X-D", "def2-SVP")) as oracle:
        label = oracle.compute(Request("ethanol", *proof.ETHANOL, 0, 1))
        monkeypatch.setattr(oracle, "compute", lambda request: label)  # the real one, computed once
        assert "correct are -154.875705" in prove(oracle, [1, 6, 8])
        monkeypatch.setattr(proof, "ETHANOL_ENERGY", proof.ETHANOL_ENERGY + 2e-4)
        with pytest.raises(
            UserError, match=r"computes ethanol -154\.8757.* correct are -154\.8755.*install another"
        ) as caught:
            prove(oracle, [1, 6, 8])
    assert "\n" not in str(caught.value)


WRONG = """
from ase.calculators.emt import EMT

class Half(EMT):
    def calculate(self, *arguments):
        super().calculate(*arguments)
        self.results["forces"] = 0.95 * self.results["forces"]

class Noisy(EMT):
    def calculate(self, *arguments):
        super().calculate(*arguments)
        self.results["energy"] += 2e-4 * (abs(hash(self.atoms.positions.tobytes())) % 1000 / 1000 - 0.5)  # eV
"""


def test_forces_that_are_not_the_derivative_are_refused_with_the_numbers(tmp_path, monkeypatch):
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    with (
        OraclePool(LevelOfTheory("ase", "wrong.Half", "none")) as oracle,
        pytest.raises(
            UserError, match=r"not the derivative .*: -?0\.\d+ hartree/angstrom from the energies, -?0\.\d+ from"
        ) as caught,
    ):
        prove(oracle, [1, 6, 8])
    assert "\n" not in str(caught.value)


def test_noise_of_single_precision_is_let_pass(tmp_path, monkeypatch):
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    with OraclePool(LevelOfTheory("ase", "wrong.Noisy", "none")) as oracle:
        assert "from the forces" in prove(oracle, [1, 6, 8])


@pytest.mark.parametrize(
    ("level", "covered"),
    [
        (("ase", "tblite:GFN2-xTB", "none"), [1, 6]),
        (("ase", "tblite:GFN2-xTB", "none"), [1]),
        (("pyscf", "hf", "sto-3g"), [1, 6, 7, 8]),
        pytest.param(("psi4", "hf", "sto-3g"), [1, 6, 7, 8], marks=pytest.mark.psi4),
    ],
)
def test_right_programs_pass(level, covered):
    with OraclePool(LevelOfTheory(*level)) as oracle:
        assert "from the forces" in prove(oracle, covered)


@pytest.mark.parametrize("method", ["b97_3c", "B97-3c", "gga_xc_b97_3c", "hf-3c", "hf3c", "pbeh-3c", "r2scan-3c"])
@pytest.mark.parametrize("program", ["psi4", "pyscf"])
def test_composite_methods_are_refused_however_they_are_spelled(program, method):
    with pytest.raises(UserError, match=r"key oracle\.method: .* composite \(3c\) methods"):
        OraclePool(LevelOfTheory(program, method, "def2-svp"))


def molecule(name, symbols, charge=0, multiplicity=1):
    numbers = np.array([{"O": 8, "Fe": 26, "C": 6, "H": 1}[symbol] for symbol in symbols.split()], np.uint8)
    return Request(name, numbers, np.arange(3.0 * len(numbers)).reshape(-1, 3), charge, multiplicity)


def test_molecules_that_are_no_closed_shells_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_spin([molecule("oxygen/0", "O O"), molecule("oxygen/1", "O O"), molecule("iron", "Fe C O")])
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("oxygen/0 and 1 more: computed without unpaired electrons (multiplicity 1)")
    assert "Fe often has unpaired electrons" in caplog.messages[1]
    caplog.clear()
    warn_of_spin([molecule("triplet", "O O", 0, 3), molecule("peroxide", "O O", -2), molecule("water", "O H H")])
    assert not caplog.messages
