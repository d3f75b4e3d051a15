"""The Psi4 pool against Psi4 itself: labels, ladder, lost and hung children, wrong levels."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ase.build import molecule as ase_molecule

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.core.units import BOHR_IN_ANGSTROM
from golf.oracles.programs.interpreter import find_psi4
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.process import _scratch_prefix, remove_stale_scratch
from golf.oracles.programs.protocol import Request
from support import REPOSITORY

pytestmark = pytest.mark.psi4

CHEAP = LevelOfTheory("psi4", "hf", "sto-3g")
REAL = LevelOfTheory("psi4", "wb97x-d", "def2-svp")

DIRECT = """
import json, sys
import psi4
psi4.core.set_output_file("direct.out", False)
psi4.set_num_threads(1)
psi4.set_options({"basis": "sto-3g"})
results = []
for text in json.load(sys.stdin):
    psi4.core.clean()
    gradient, wavefunction = psi4.gradient("hf", molecule=psi4.geometry(text), return_wfn=True)
    results.append([wavefunction.energy(), gradient.to_array().tolist()])
json.dump(results, open("direct.json", "w"))
"""


def request(name, charge=0, multiplicity=1):
    atoms = ase_molecule(name)
    return Request(name, atoms.numbers.astype(np.uint8), atoms.positions, charge, multiplicity)


def children():
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "psi4_worker"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def test_labels_equal_psi4_called_directly(tmp_path):
    requests = [request("H2O"), request("CH3OH"), request("NH3")]
    inputs = []
    for one in requests:
        rows = [f"{z} {x!r} {y!r} {w!r}" for z, (x, y, w) in zip(one.numbers, one.positions.tolist(), strict=True)]
        symbols = {1: "H", 6: "C", 7: "N", 8: "O"}
        rows = [symbols[int(row.split()[0])] + row[row.index(" ") :] for row in rows]
        inputs.append("\n".join(["0 1", *rows, "units angstrom", "symmetry c1", "no_com", "no_reorient"]))
    psi4 = find_psi4(None)
    subprocess.run(
        [psi4.python, "-c", DIRECT],
        input=json.dumps(inputs),
        text=True,
        check=True,
        cwd=tmp_path,
        env=psi4.environment,
        stdout=subprocess.DEVNULL,
    )
    direct = json.loads((tmp_path / "direct.json").read_text())
    with OraclePool(CHEAP, n_workers=2) as oracle:
        labels = {done.id: label for done, label in oracle.stream(requests)}
    for one, (energy, gradient) in zip(requests, direct, strict=True):
        label = labels[one.id]
        assert label.status == Status.OK
        assert abs(label.energy - energy) < 1e-9
        assert np.abs(label.forces + np.array(gradient) / BOHR_IN_ANGSTROM).max() < 1e-7
        assert label.scf_iterations > 0 and label.wall_seconds > 0


def test_golden_values_at_the_real_level():
    """Energies that Psi4 1.3.2 and 1.5 gave for these geometries."""
    golden = {"CH3CH2OH": -154.875705282, "C6H6": -232.001357764}
    with OraclePool(REAL, n_workers=2) as oracle:
        for done, label in oracle.stream([request(name) for name in golden]):
            assert label.energy == pytest.approx(golden[done.id], abs=1e-6)


def test_forces_are_minus_the_derivative_of_the_energy():
    water, step = request("H2O"), 1e-3
    with OraclePool(LevelOfTheory("psi4", "hf", "sto-3g", {"d_convergence": 1e-9, "e_convergence": 1e-10})) as oracle:
        forces = oracle.compute(water).forces
        moved = [water.positions + sign * step * np.eye(9)[4].reshape(3, 3) for sign in (1, -1)]
        up, down = (oracle.compute(Request("w", water.numbers, x, 0, 1)).energy for x in moved)
    assert forces[1, 1] == pytest.approx(-(up - down) / (2 * step), abs=1e-5)


def test_ions_and_radicals_have_their_charge_and_spin():
    with OraclePool(CHEAP) as oracle:
        cation = oracle.compute(request("H2O", charge=1, multiplicity=2))
        neutral = oracle.compute(request("H2O"))
        impossible = oracle.compute(request("H2O", charge=1, multiplicity=1))
    assert cation.energy > neutral.energy + 0.2
    assert impossible.status == Status.FAILED and impossible.message
    assert np.isnan(impossible.energy) and np.isnan(impossible.forces).all()


def test_scf_ladder_recovers_and_says_how():
    with OraclePool(CHEAP) as oracle:
        plain = oracle.compute(request("H2O"))
    with OraclePool(LevelOfTheory("psi4", "hf", "sto-3g", {"maxiter": 2})) as oracle:
        recovered = oracle.compute(request("H2O"))
    assert plain.recovery == "" and recovered.recovery == "damped"
    assert recovered.energy == pytest.approx(plain.energy, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_rung_of_the_ladder_converges_to_the_same_energy(n, tmp_path):
    """Each rung is run by itself in Psi4: a keyword that this Psi4 does not know would make it useless."""
    script = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import psi4_worker as w\n"
        "c = w.Calculator(dict(method='hf', basis='sto-3g', keywords={}, threads=1, memory_mb=500))\n"
        "r = dict(symbols=['O','H','H'], positions=[[0,0,0],[0,.76,.58],[0,-.76,.58]], charge=0, multiplicity=1)\n"
        "e = [c.attempt(r, w.SCF_LADDER[i][1])['energy'] for i in (0, int(sys.argv[2]))]\n"
        "json.dump(e, open('energies.json', 'w'))\n"
    )
    psi4 = find_psi4(None)
    worker = str(REPOSITORY / "golf/oracles/programs")
    # The worker drops the first entry of the path, which is its own folder when it runs as a script.
    subprocess.run(
        [psi4.python, "-c", script, worker, str(n)],
        check=True,
        cwd=tmp_path,
        env=psi4.environment,
        stdout=subprocess.DEVNULL,
    )
    first, rung = json.loads((tmp_path / "energies.json").read_text())
    assert rung == pytest.approx(first, abs=1e-6)


def test_a_killed_child_loses_one_conformation_and_is_replaced():
    with OraclePool(REAL, n_workers=1) as oracle:
        killer = threading.Timer(1.0, lambda: os.kill(children()[0], signal.SIGKILL))
        killer.start()
        lost = oracle.compute(request("C6H6"))
        after = oracle.compute(request("H2"))
    assert lost.status == Status.CRASHED and "signal 9" in lost.message
    assert after.status == Status.OK


def test_a_hung_child_is_replaced_at_the_time_limit():
    level = LevelOfTheory("psi4", "wb97x-d", "def2-tzvp")  # 25 s for benzene, less than 1 s for H2
    with OraclePool(level, n_workers=1, time_limit=10.0) as oracle:
        started = time.monotonic()
        lost = oracle.compute(request("C6H6"))
        assert time.monotonic() - started < 40.0
        after = oracle.compute(request("H2"))
    assert lost.status == Status.TIMED_OUT and "10 s" in lost.message
    assert after.status == Status.OK


def test_a_stopped_child_counts_as_crashed_not_as_too_slow():
    with OraclePool(CHEAP, n_workers=1, time_limit=10.0) as oracle:
        os.kill(children()[0], signal.SIGSTOP)
        lost = oracle.compute(request("H2O"))
        after = oracle.compute(request("H2O"))
    assert lost.status == Status.CRASHED and "within 10 s, and the process was idle" in lost.message
    assert after.status == Status.OK


def test_a_failure_is_believed_only_of_a_fresh_child():
    with OraclePool(CHEAP, n_workers=1) as oracle:
        assert oracle.compute(request("H2")).status == Status.OK
        before = children()
        on_top = Request("H2", np.array([1, 1], np.uint8), np.zeros((2, 3)), 0, 1)
        assert oracle.compute(on_top).status == Status.FAILED and children() != before


def test_a_full_scratch_disk_is_not_laid_to_the_conformation(monkeypatch, tmp_path):
    monkeypatch.setattr("golf.oracles.programs.pool.SCRATCH_FULL", 1e18)  # no disk has so much left
    on_top = Request("H2", np.array([1, 1], np.uint8), np.zeros((2, 3)), 0, 1)
    with (
        OraclePool(CHEAP, scratch=str(tmp_path)) as oracle,
        pytest.raises(UserError, match=rf"{tmp_path}: Psi4 fails .* this disk is full; .* oracle\.scratch"),
    ):
        oracle.compute(on_top)


def test_a_child_that_has_grown_is_replaced(monkeypatch):
    monkeypatch.setattr(
        "golf.oracles.programs.pool.RECYCLE_FACTOR", 0.01
    )  # every label is one too many, and none is lost
    with OraclePool(CHEAP) as oracle:
        before = children()
        first, second = oracle.compute(request("H2O")), oracle.compute(request("H2O"))
        assert children() != before
    assert first.status == second.status == Status.OK and first.energy == second.energy


def test_children_and_their_folders_are_gone_after_use(tmp_path):
    with OraclePool(CHEAP, n_workers=2, scratch=str(tmp_path)) as oracle:
        oracle.compute(request("H2"))
        assert len(list(tmp_path.iterdir())) == 2 and len(children()) == 2
    assert not list(tmp_path.iterdir()) and not children()


def test_scratch_of_a_run_that_was_killed_is_swept(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    stale, own, other = (
        tmp_path / name
        for name in (f"{_scratch_prefix()}{int(gone.stdout)}-a", f"{_scratch_prefix()}{os.getpid()}-b", "golf-thesis")
    )
    for folder in (stale, own, other):
        folder.mkdir()
        (folder / "psi.180").write_bytes(b"integrals")
    remove_stale_scratch(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted([own, other])


@pytest.mark.parametrize(
    ("level", "numbers", "reason"),
    [
        (LevelOfTheory("psi4", "wb97x-dd", "sto-3g"), [1, 8], r"oracle\.method 'wb97x-dd'"),
        (LevelOfTheory("psi4", "hf", "sto-3gg"), [1, 8], r"oracle\.basis 'sto-3gg'"),
        (LevelOfTheory("psi4", "hf", "6-31g"), [1, 82], "does not cover Pb"),
        (LevelOfTheory("psi4", "hf", "sto-3g", {"no_such_option": 1}), [1], "(?i)no_such_option"),
    ],
)
def test_a_level_that_cannot_be_computed_is_found_before_the_first_label(level, numbers, reason):
    with OraclePool(level) as oracle, pytest.raises(UserError, match=reason) as caught:
        oracle.check(numbers)
    assert "\n" not in str(caught.value)


def test_a_level_that_can_be_computed_passes_the_check():
    with OraclePool(REAL) as oracle:
        oracle.check([1, 6, 7, 8, 9, 16])
