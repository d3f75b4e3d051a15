"""DFT minima, at a cheap level: against another optimizer, killed and resumed, and where they cannot be had."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS
from geometric.internal import DelocalizedInternalCoordinates

from golf.core import hdf5
from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.errors import UserError
from golf.core.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV
from golf.oracles import geometric as minimizer
from golf.oracles.journal import Journal
from golf.oracles.minima import batch, merge_optimizations, optimize_reference, optimize_to_file
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request, requests_from
from support import FINDABLE
from support.minima import LEVEL, METHANOL, starts

WATER = (np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.1], [0.0, 0.85, -0.4], [0.1, -0.8, -0.5]]))
HYDROGEN_CYANIDE = (np.array([6, 7, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.22], [0.0, 0.0, -1.0]]))


@pytest.fixture(scope="module")
def oracle(psi4):
    with OraclePool(LEVEL, n_workers=2, time_limit=120.0) as pool:
        yield pool


@pytest.fixture(scope="module")
def paid(tmp_path_factory) -> Path:
    """A journal that the tests of this module share, so that each gradient is computed once."""
    return tmp_path_factory.mktemp("reference") / "gradients.jsonl"


@pytest.fixture(scope="module")
def minima(oracle, paid) -> ConformationSet:
    with Journal(paid, LEVEL) as journal:
        return optimize_reference(
            starts(water=WATER, methanol=METHANOL, cyanide=HYDROGEN_CYANIDE), oracle, journal, max_steps=50
        )


def test_minima_and_what_is_recorded(minima, tmp_path):
    assert minima.values["status"].tolist() == [Status.OK] * 3
    assert minima.values["stop_reason"].tolist() == [StopReason.CONVERGED] * 3
    assert (minima.values["energy"] < minima.values["energy_first"] - 1e-3).all()
    assert minima.attrs["method"] == "hf" and minima.attrs["optimizer"].startswith("geomeTRIC")
    starting = starts(water=WATER, methanol=METHANOL, cyanide=HYDROGEN_CYANIDE).position
    assert np.array_equal(minima.atoms["initial_position"], starting)
    frames = minima.frames
    assert np.isfinite(frames.energy).all() and np.isfinite(frames.force).all()
    for i in range(3):
        mine = np.flatnonzero(frames.conformation == i)
        assert len(mine) == minima.values["n_force_evaluations"][i] == minima.values["n_steps"][i] + 1
        assert frames.energy[mine[0]] == minima.values["energy_first"][i]
        assert frames.energy[mine[-1]] == minima.values["energy"][i]
        last = slice(frames.offset[mine[-1]], frames.offset[mine[-1] + 1])
        assert np.array_equal(frames.position[last], minima.position[minima.rows(i)])
        assert np.array_equal(frames.force[last], minima.atoms["force"][minima.rows(i)])
        assert np.linalg.norm(frames.force[last], axis=1).max() < minimizer.FORCE_THRESHOLD
    hdf5.write(tmp_path / "reference.h5", minima)
    assert np.array_equal(hdf5.read(tmp_path / "reference.h5").position, minima.position)


class OracleCalculator(Calculator):
    """The same forces for ASE."""

    implemented_properties = ("energy", "forces")

    def __init__(self, oracle):
        super().__init__()
        self._oracle = oracle

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        label = self._oracle.compute(Request("ase", atoms.numbers.astype(np.uint8), atoms.positions.copy(), 0, 1))
        self.results = {"energy": label.energy * HARTREE_IN_EV, "forces": label.forces * HARTREE_IN_EV}


def test_ase_reaches_the_same_minimum(oracle, minima):
    atoms = Atoms(*WATER, calculator=OracleCalculator(oracle))
    BFGS(atoms, logfile=None).run(fmax=0.005, steps=40)
    assert atoms.get_potential_energy() / HARTREE_IN_EV == pytest.approx(minima.values["energy"][0], abs=1e-5)


def test_replay_asks_for_the_same_bits_and_pays_nothing(oracle, paid, minima, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = paid.read_bytes()
    with Journal(paid, LEVEL) as journal:
        again = optimize_reference(
            starts(water=WATER, methanol=METHANOL, cyanide=HYDROGEN_CYANIDE), oracle, journal, max_steps=50
        )
    assert paid.read_bytes() == before
    assert np.array_equal(again.position, minima.position)
    assert np.array_equal(again.values["energy"], minima.values["energy"])
    assert np.array_equal(again.values["wall_seconds"], minima.values["wall_seconds"])
    with Journal(paid, LEVEL) as journal:
        alone = optimize_reference(starts(methanol=METHANOL), oracle, journal, max_steps=50, n_parallel=1)
    assert paid.read_bytes() == before  # whoever else was optimized at the same time
    assert np.array_equal(alone.position, minima.position[minima.rows(1)])
    assert not list(tmp_path.iterdir())  # geomeTRIC leaves nothing behind


_PROGRAM = """
import sys
from golf.oracles.journal import Journal
from golf.oracles.minima import optimize_reference
from golf.oracles.programs.pool import OraclePool
from support.minima import LEVEL, METHANOL, starts
with OraclePool(LEVEL) as oracle, Journal(sys.argv[1], LEVEL) as journal:
    optimize_reference(starts(methanol=METHANOL), oracle, journal, max_steps=50)
"""


def test_killed_optimization_resumes_where_it_was(oracle, minima, tmp_path):
    path = tmp_path / "gradients.jsonl"
    environment = os.environ | FINDABLE | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(path)], env=environment)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < 3):
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    n_paid = path.read_bytes().count(b"\n")
    n_whole = int(minima.values["n_force_evaluations"][1])
    assert 3 <= n_paid < n_whole
    with Journal(path, LEVEL) as journal:
        resumed = optimize_reference(starts(methanol=METHANOL), oracle, journal, max_steps=50)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == n_whole and len({line["key"] for line in lines}) == n_whole
    assert resumed.values["energy"][0] == pytest.approx(minima.values["energy"][1], abs=1e-8)


def test_label_that_comes_with_the_start_is_not_paid_again(oracle, paid, minima, tmp_path):
    frame = minima.frames.subset([0])
    labelled = starts(water=WATER).with_columns(
        atoms={"force": frame.force[:3]}, values={"energy": frame.energy[:1], "status": [Status.OK]}, **LEVEL.attrs()
    )
    path = tmp_path / "gradients.jsonl"
    with Journal(paid, LEVEL) as shared, Journal(path, LEVEL) as journal:
        for request in requests_from(_geometries(minima, 0))[1:]:
            journal.append(request, shared.get(request))
    before = path.read_bytes()
    with Journal(path, LEVEL) as journal:
        again = optimize_reference(labelled, oracle, journal)
    assert path.read_bytes() == before
    assert again.values["energy_first"][0] == frame.energy[0]
    assert np.array_equal(again.position, minima.position[minima.rows(0)])


def _geometries(minima: ConformationSet, i: int) -> ConformationSet:
    """Every geometry on the way to minimum i."""
    frames = minima.frames.subset([i])
    return ConformationSet.build(
        (f"frame/{k}", "", "", 0, 1, minima.number[minima.rows(i)], frames.position[frames.offset[k] :][:n])
        for k, n in enumerate(np.diff(frames.offset))
    )


def test_step_limit_is_said_and_gives_no_energy(oracle, paid, minima):
    with Journal(paid, LEVEL) as journal:
        short = optimize_reference(starts(methanol=METHANOL), oracle, journal, max_steps=2)
    assert short.values["status"][0] == Status.NOT_CONVERGED
    assert short.values["stop_reason"][0] == StopReason.STEP_LIMIT
    assert "no minimum within 2 steps" in short.values["message"][0]
    assert np.isnan(short.values["energy"][0]) and np.isnan(short.atoms["force"]).all()
    assert np.isfinite(short.position).all() and np.isfinite(short.frames.energy).all() and len(short.frames) == 3
    assert short.values["energy_first"][0] == minima.values["energy_first"][1]


def test_failed_gradient_ends_that_optimization_alone(oracle, paid, minima):
    both = starts(water=WATER, radical=WATER)
    both = dataclasses.replace(both, multiplicity=np.array([1, 2], np.uint8))  # ten electrons make no doublet
    with Journal(paid, LEVEL) as journal:
        result = optimize_reference(both, oracle, journal)
    assert result.values["status"].tolist() == [Status.OK, Status.FAILED]
    assert result.values["stop_reason"].tolist() == [StopReason.CONVERGED, StopReason.FAILED]
    assert result.values["message"][1].startswith("gradient 1: ")
    assert np.isnan(result.values["energy"][1]) and np.isnan(result.values["energy_first"][1])
    assert np.array_equal(result.position[result.rows(1)], WATER[1])
    assert set(result.frames.conformation) == {0}


class TiredCoordinates(DelocalizedInternalCoordinates):
    """Internal coordinates that break down at the third step, as near-linear ones do."""

    steps = 0

    def newCartesian(self, *arguments, **options):
        self.steps += 1
        if self.steps > 2:
            raise np.linalg.LinAlgError("SVD did not converge")
        return super().newCartesian(*arguments, **options)


def test_falls_back_to_cartesian_coordinates(oracle, paid, minima, monkeypatch):
    monkeypatch.setattr(minimizer, "COORDINATES", (TiredCoordinates, minimizer.COORDINATES[1]))
    with Journal(paid, LEVEL) as journal:
        result = optimize_reference(starts(water=WATER), oracle, journal)
    assert result.values["status"][0] == Status.OK
    assert result.values["message"][0] == "finished in Cartesian coordinates"
    assert result.values["energy"][0] == pytest.approx(minima.values["energy"][0], abs=1e-5)
    assert result.values["n_steps"][0] >= 3
    monkeypatch.setattr(minimizer, "COORDINATES", (TiredCoordinates, TiredCoordinates))
    with Journal(paid, LEVEL) as journal:
        result = optimize_reference(starts(water=WATER), oracle, journal)
    assert result.values["status"][0] == Status.FAILED
    assert result.values["message"][0] == "geomeTRIC failed: LinAlgError: SVD did not converge"


def test_one_atom_is_its_own_minimum(oracle, paid):
    with Journal(paid, LEVEL) as journal:
        result = optimize_reference(starts(helium=(np.array([2]), np.zeros((1, 3)))), oracle, journal)
    assert result.values["status"][0] == Status.OK and result.values["n_steps"][0] == 0
    assert np.abs(result.atoms["force"]).max() < 1e-6


def test_no_starts_give_no_minima(oracle, paid):
    with Journal(paid, LEVEL) as journal:
        empty = optimize_reference(starts(), oracle, journal)
    assert len(empty) == 0 and empty.frames is not None


def test_criteria_are_those_of_gaussian():
    limits = minimizer._criteria(4.5e-4 / BOHR_IN_ANGSTROM)
    expected = {"energy": 1e-6, "grms": 3e-4, "gmax": 4.5e-4, "drms": 1.2e-3, "dmax": 1.8e-3}
    assert limits == pytest.approx({f"convergence_{name}": value for name, value in expected.items()})


def test_batches_leave_out_what_is_known_and_come_together_in_order(minima, cheap_basis, tmp_path):
    test = starts(water=WATER, methanol=METHANOL, cyanide=HYDROGEN_CYANIDE)
    known = minima.subset([1])
    batches = [batch(test, known.id, index, 3, cheap_basis) for index in range(3)]
    assert [part.id for part in batches] == [["cyanide/0000"], ["water/0000"], []], "the longest in the first"
    optimize_to_file(batches[2], tmp_path / "2.h5", level=LEVEL, n_workers=4)
    parts = [minima.subset([2]), known, hdf5.read(tmp_path / "2.h5"), minima.subset([0])]
    merged = merge_optimizations(test, parts)
    assert merged.id == test.id
    assert np.array_equal(merged.position, minima.position)
    assert np.array_equal(merged.values["energy"], minima.values["energy"])
    assert np.array_equal(merged.frames.conformation, minima.frames.conformation)
    assert np.array_equal(merged.frames.position, minima.frames.position)
    assert merged.attrs["method"] == "hf"
    with pytest.raises(UserError, match="water/0000 is not in any batch"):
        merge_optimizations(test, parts[:3])
    with pytest.raises(UserError, match="differ in basis: sto-3g and def2-svp"):
        merge_optimizations(test, [*parts, known.with_columns(basis="def2-svp")])


def test_file_and_its_journal(paid, minima, tmp_path):
    shutil.copy(paid, tmp_path / "0.journal.jsonl")
    optimize_to_file(starts(water=WATER), tmp_path / "0.h5", level=LEVEL, n_workers=1, max_steps=50, attrs={"seed": 7})
    written = hdf5.read(tmp_path / "0.h5")
    assert written.attrs["seed"] == 7
    assert np.array_equal(written.position, minima.position[minima.rows(0)])
    assert (tmp_path / "0.journal.jsonl").read_bytes() == paid.read_bytes()
