"""Time limits that follow from predicted costs: their size, what they learn, busy machines, repeated timeouts."""

import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
from ase.build import molecule as ase_molecule

from golf.core.conformations import ConformationSet, Status
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.oracles import limits as limits_module
from golf.oracles.costs import Basis
from golf.oracles.journal import Journal
from golf.oracles.labeling import label, label_to_file, learn_from_journal
from golf.oracles.limits import LEAST_SECONDS, TimeLimits
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request, requests_from

LEVEL = LevelOfTheory("psi4", "wb97x-d", "def2-svp")
SVP = Basis({1: 5, 6: 14, 8: 14})
NOTHING = Basis({1: 0, 6: 0, 8: 0})


def request(name, repeat=1):
    atoms = ase_molecule(name)
    numbers = np.tile(atoms.numbers.astype(np.uint8), repeat)
    return Request(name, numbers, np.tile(atoms.positions, (repeat, 1)), 0, 1)


def limits(level=LEVEL, basis=SVP, factor=10.0, most=3600.0):
    return TimeLimits(level, basis, threads=1, factor=factor, most=most)


def test_a_limit_is_a_multiple_of_the_prediction_within_bounds():
    found = limits(most=36000.0)
    large = request("C6H6", 4)
    assert found.seconds(request("CH3OH")) == LEAST_SECONDS
    assert found.seconds(large) == pytest.approx(10 * found.predicted(large)) and found.seconds(large) > LEAST_SECONDS
    assert limits(most=700.0).seconds(large) == 700.0 and limits(most=60.0).seconds(request("CH3OH")) == 60.0


def test_labels_that_took_longer_raise_it_and_faster_ones_do_not_lower_it():
    large, plain = request("C6H6", 4), limits(most=1e6)
    slow, fast = limits(most=1e6), limits(most=1e6)
    for name in ("C6H6", "CH3OH", "H2O"):
        slow.learn(request(name), 8 * slow.predicted(request(name)))
        fast.learn(request(name), 0.2 * fast.predicted(request(name)))
    assert slow.seconds(large) == pytest.approx(8 * plain.seconds(large)) and fast.seconds(large) == plain.seconds(
        large
    )


@pytest.mark.parametrize(
    "level",
    [LevelOfTheory("psi4", "ccsd(t)", "def2-svp"), LevelOfTheory("psi4", "hf", "def2-svp", {"scf_type": "pk"}),
     LevelOfTheory("ase", "tblite:GFN2-xTB", "none")],
)  # fmt: skip
def test_of_what_the_costs_were_not_fitted_to_nothing_is_predicted_before_it_is_measured(level):
    large, found = request("C6H6", 4), limits(level, most=1e6)
    assert found.seconds(large) == 1e6
    for name in ("C6H6", "CH3OH", "H2O"):
        found.learn(request(name), 30 * found.predicted(request(name)))
    assert found.seconds(large) == pytest.approx(300 * found.predicted(large))


def journalled(folder, level, *outcomes):
    """An open journal with labels of methanol."""
    with Journal(folder / "a.journal.jsonl", level) as journal:
        for status, seconds in outcomes:
            journal.append(request("CH3OH"), Label.failed(6, status, "no result", seconds))
    return Journal(folder / "a.journal.jsonl", level)


def test_what_timed_out_twice_is_tried_again_only_with_more_time(tmp_path):
    with journalled(tmp_path, LEVEL, (Status.TIMED_OUT, 601.0)) as journal:
        assert journal.get(request("CH3OH"), 600.0) is None, "once may be the machine's fault"
    with journalled(tmp_path, LEVEL, (Status.CRASHED, 5.0), (Status.TIMED_OUT, 602.0)) as journal:
        found = journal.get(request("CH3OH"), 600.0)
        assert found.status == Status.TIMED_OUT and found.forces.shape == (6, 3) and np.isnan(found.energy)
        assert journal.get(request("CH3OH"), 1200.0) is None and journal.get(request("CH3OH")) is None


@pytest.mark.psi4
def test_a_label_that_times_out_under_its_own_limit_says_so_and_is_given_up_after_the_second_run(tmp_path, monkeypatch):
    monkeypatch.setattr(limits_module, "LEAST_SECONDS", 3.0)
    benzene = ase_molecule("C6H6")
    one = ConformationSet.build(
        [("benzene/0", "benzene", "", 0, 1, benzene.numbers.astype(np.uint8), benzene.positions)]
    )
    settings = {"level": LevelOfTheory("psi4", "wb97x-d", "def2-tzvp"), "n_workers": 1, "time_limit": 300.0}
    said = []
    for _ in range(3):  # tens of seconds of processor time would be needed
        own = limits(settings["level"], NOTHING, factor=1.0)
        said.append(label_to_file(one, tmp_path / "a.h5", limits=own, **settings).values["message"][0])
    expected = "no result within 3 s of processor time, 1 times the predicted 1.74 s, at least 3 s"
    assert said == [expected] * 3
    assert (tmp_path / "a.journal.jsonl").read_text().count("timed_out") == 2, "the third run took it from the journal"


@pytest.mark.psi4
def test_a_starved_process_gets_the_processor_time_of_its_limit(monkeypatch):
    """Stopped nine tenths of the time, as on a busy node: the work takes longer than the limit of 6 s."""
    monkeypatch.setattr(limits_module, "LEAST_SECONDS", 6.0)
    level = LevelOfTheory("psi4", "hf", "def2-tzvp")
    with OraclePool(level, time_limit=300.0, limits=limits(level, NOTHING, factor=1.0)) as oracle:
        found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "psi4_worker"], capture_output=True, check=True)
        done = threading.Event()

        def starve():
            while not done.is_set():
                for number, seconds in ((signal.SIGSTOP, 0.27), (signal.SIGCONT, 0.03)):
                    os.kill(int(found.stdout), number)
                    time.sleep(seconds)

        thread = threading.Thread(target=starve)
        thread.start()
        started = time.monotonic()
        try:
            computed = oracle.compute(request("CH3OH"))
        finally:
            done.set()
            thread.join()
    assert computed.status == Status.OK, computed.message
    assert time.monotonic() - started > 6.0


@pytest.mark.psi4
def test_labels_that_cannot_be_done_in_time_are_said_before_they_are_tried(tmp_path, caplog):
    level = LevelOfTheory("psi4", "hf", "sto-3g")
    water = ase_molecule("H2O")
    one = ConformationSet.build([("water/0", "water", "", 0, 1, water.numbers.astype(np.uint8), water.positions)])
    heavy = Basis({1: 900, 8: 900})
    own = TimeLimits(level, heavy, threads=1, factor=10.0, most=60.0)
    with (
        OraclePool(level, time_limit=60.0, limits=own) as oracle,
        Journal(tmp_path / "a.journal.jsonl", level) as journal,
    ):
        learn_from_journal(oracle, journal, requests_from(one))
        assert label(one, oracle, journal).values["status"].tolist() == [Status.OK]
    assert "1 of 1 conformations are predicted to take longer than oracle.time_limit allows (water/0: " in caplog.text
