"""What labels are predicted to take, how they are packed into batches, and what jobs ask for."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from golf.core.conformations import ConformationSet, Status
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.hdf5 import write
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.oracles.costs import Basis, label_costs, longest_wall, members, n_gradients, pack, read_basis
from golf.oracles.journal import Journal
from golf.oracles.labeling import read_batch
from golf.oracles.programs.interpreter import find_psi4
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import requests_from
from golf.study.config import validated
from golf.study.forecast import MARGIN, START_MINUTES, JobTimes, calibrated, job_minutes

LEVEL = LevelOfTheory("psi4", "wb97x-d", "def2-svp")
SVP = Basis({1: 5, 6: 14, 7: 14, 8: 14, 9: 14, 16: 18, 53: 26}, frozenset({53}))
MOLECULES = {"water": "OHH", "methanol": "COHHHH", "benzene": "CCCCCCHHHHHH", "iodomethane": "CIHHH"}
NBF = """
import psi4, sys
psi4.core.set_output_file("psi4.out", False)
for symbols in sys.argv[2:]:
    atoms = [f"{symbol} 0 0 {3 * i}" for i, symbol in enumerate(symbols)]
    molecule = psi4.geometry("\\n".join([*atoms, "symmetry c1", "no_com", "no_reorient"]))
    print(psi4.core.BasisSet.build(molecule, "ORBITAL", sys.argv[1], quiet=True).nbf())
"""


def conformations(names, **values) -> ConformationSet:
    """Conformations whose geometries are of no concern: atoms on a line, each line a little longer."""
    rows = []
    for i, name in enumerate(names):
        numbers = [SYMBOLS.index(symbol) for symbol in MOLECULES[name]]
        positions = np.arange(len(numbers))[:, None] * np.array([0.0, 0.0, 1.0 + i / 100])
        rows.append((f"{name}/{i:04d}", name, "", 0, 1, numbers, positions))
    built = ConformationSet.build(rows)
    force = {"force": np.zeros_like(built.position)} if values else {}
    return built.with_columns(atoms=force, values=values)


def labelled(names, seconds, level=LEVEL, **changes) -> ConformationSet:
    n = len(names)
    columns = {"energy": np.zeros(n), "status": np.full(n, Status.OK), "message": [""] * n}
    columns |= {"wall_seconds": seconds, "scf_iterations": np.full(n, 9), "recovery": [""] * n}
    return conformations(names, **(columns | changes)).with_columns(**level.attrs(), program_version="1.3.2")


def costs_of(part: ConformationSet):
    return label_costs(part.number, part.offset, SVP)


@pytest.fixture(scope="module")
def oracle_json(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle") / "oracle.json"
    path.write_text(json.dumps(LEVEL.attrs() | SVP.to_json()))
    return str(path)


@pytest.mark.psi4
@pytest.mark.parametrize("basis", ["def2-svp", "sto-3g"])
def test_basis_functions_are_those_of_psi4(basis, tmp_path, cheap_basis):
    with OraclePool(LevelOfTheory("psi4", "hf", basis)) as oracle:
        found = oracle.basis([1, 6, 7, 8, 17, 35, 53])
    interpreter = find_psi4(None)
    shown = subprocess.run(
        [interpreter.python, "-c", NBF, basis, *MOLECULES.values()],
        cwd=tmp_path, env=interpreter.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours = [sum(found.functions[SYMBOLS.index(symbol)] for symbol in symbols) for symbols in MOLECULES.values()]
    assert ours == [int(line) for line in shown.stdout.split()[-len(MOLECULES) :]]
    assert found.with_ecp == (frozenset({53}) if basis == "def2-svp" else frozenset())
    if basis == "sto-3g":
        assert {z: found.functions[z] for z in cheap_basis.functions} == cheap_basis.functions
    else:
        assert {z: found.functions[z] for z in (1, 6, 7, 8, 53)} == {z: SVP.functions[z] for z in (1, 6, 7, 8, 53)}
    path = tmp_path / "oracle.json"
    path.write_text(json.dumps(found.to_json()))
    assert read_basis(path) == found


def test_predictions_are_what_was_measured():
    """Seconds of one thread on an idle core (golf/oracles/costs.py); heavy elements take far longer."""
    seconds = costs_of(conformations(["water", "methanol", "benzene"])) / 1e6
    assert seconds == pytest.approx([0.75, 2.2, 9.4], rel=0.2)
    plain = Basis(SVP.functions)
    iodomethane = conformations(["iodomethane"])
    assert costs_of(iodomethane)[0] > 5 * label_costs(iodomethane.number, iodomethane.offset, plain)[0]


def test_an_element_without_basis_functions_is_named():
    with pytest.raises(UserError, match="the basis set does not cover C"):
        label_costs(np.array([8, 6]), np.array([0, 2]), Basis({8: 5}))


def test_gradients_of_an_optimization():
    assert n_gradients(np.array([8, 30])).tolist() == [14, 30]


def test_packing_is_near_the_best_division():
    random = np.random.default_rng(5)
    cuts = [np.sort(random.integers(1, 100_000, 12)) for _ in range(40)]
    perfect = np.concatenate([np.diff(np.concatenate([[0], cut, [100_000]])) for cut in cuts])  # 40 bins of 100,000
    items = random.permutation(perfect)
    loads = np.bincount(pack(items, 40), items, 40)
    assert loads.sum() == 4_000_000 and loads.max() <= 4 / 3 * 100_000
    assert np.bincount(np.arange(len(items)) % 40, items, 40).max() > 4 / 3 * 100_000, "dealt out like cards"
    few = np.array([7, 5, 5])
    assert np.bincount(pack(few, 2), few).max() <= few.mean() * 3 / 2 + few.max()


def test_every_item_is_in_one_bin_and_always_in_the_same():
    items = np.random.default_rng(6).integers(1, 50, 1000)  # many ties
    together = [members(items, index, 7) for index in range(7)]
    assert sorted(np.concatenate(together).tolist()) == list(range(1000))
    assert all((np.diff(items[part]) <= 0).all() for part in together), "longest first"
    code = "import numpy, golf.oracles.costs as c; i = numpy.random.default_rng(6).integers(1, 50, 1000); print(c.pack(i, 7).sum(), c.members(i, 3, 7).tolist())"  # noqa: E501
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert elsewhere.strip() == f"{pack(items, 7).sum()} {together[3].tolist()}"


def test_half_a_million_conformations_are_packed_in_seconds():
    items = np.random.default_rng(7).integers(10**7, 10**9, 500_000)
    started = time.process_time()
    loads = np.bincount(pack(items, 10_000), items, 10_000)
    assert time.process_time() - started < 10
    assert loads.max() / loads.mean() < 1.01


def test_the_longest_item_is_the_least_that_a_batch_takes():
    seconds, bins = np.array([10.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1])
    assert longest_wall(seconds, bins, 3, 4).tolist() == [10.0, 3.0, 0.0]
    assert longest_wall(seconds, bins, 3, 1).tolist() == [11.0, 6.0, 0.0]


def study(results, train, method=LEVEL.method, n_workers=2):
    """The configuration of a study at `LEVEL`."""
    oracle = {"program": LEVEL.program, "method": method, "basis": LEVEL.basis, "time_limit": 600}
    resources = {"label_processes": n_workers, "label_threads": 1}
    sections = {"dataset": {"train": str(train)}, "oracle": oracle, "resources": resources}
    return validated(sections | {"results_dir": str(results)}, "study.yaml")


def test_calibration_finds_the_scale_of_the_machine(tmp_path):
    names = ["water", "methanol", "benzene"] * 20
    predicted = costs_of(conformations(names)) / 1e6
    noise = np.random.default_rng(8).lognormal(0.0, 0.2, len(names))
    data = tmp_path / "data.h5"
    config = study(tmp_path / "results", data)
    nothing = calibrated(config, SVP)
    assert nothing.n_measured == 0 and nothing.seconds(np.array([2_000_000])) == pytest.approx([2.0])

    status = np.full(len(names), Status.OK)
    status[::10] = Status.TIMED_OUT
    seconds = np.where(status == Status.OK, 3.0 * predicted * noise, 1e6)
    write(data, labelled(names, seconds, status=status))
    brought = calibrated(config, SVP)
    assert brought.n_measured == 54 and brought.scale * 1e6 == pytest.approx(3.0, rel=0.1)
    assert calibrated(study(tmp_path / "results", data, method="hf"), SVP).n_measured == 0

    stage = tmp_path / "results/labels/initial"
    write(tmp_path / "results/dataset/train.h5", conformations(names))
    write(stage / "0.h5", labelled(names[:30], 0.5 * predicted[:30]))
    with Journal(stage / "1.journal.jsonl", LEVEL) as journal:  # a batch that is being computed
        for i, request in enumerate(requests_from(conformations(names))[30:50], start=30):
            journal.append(request, Label(0.0, np.zeros((len(request.numbers), 3)), wall_seconds=0.5 * predicted[i]))
    own = calibrated(config, SVP)
    assert own.n_measured == 50 and own.scale * 1e6 == pytest.approx(0.5)


def job_times(tmp_path, n_workers=2):
    return JobTimes(study(tmp_path, tmp_path / "data.h5", n_workers=n_workers))


def test_a_job_asks_for_its_predicted_time(tmp_path, oracle_json):
    path = tmp_path / "train.h5"
    everything = conformations(["water"] * 300 + ["benzene"] * 301)
    write(path, everything)
    seconds = [float(costs_of(read_batch(path, i, 3, SVP)).sum()) / 1e6 for i in range(3)]
    assert max(seconds) - min(seconds) < 10 and sum(seconds) == pytest.approx(costs_of(everything).sum() / 1e6)
    times = job_times(tmp_path)
    minutes = [times.label_batch(str(path), oracle_json, i, 3, 1) for i in range(3)]
    assert minutes == [np.ceil(START_MINUTES + 2 * MARGIN * s / 2 / 60) for s in seconds]
    assert job_times(tmp_path, n_workers=8).label_batch(str(path), oracle_json, 0, 3, 1) < minutes[0]
    assert times.label_batch(str(path), oracle_json, 700, 701, 1) == START_MINUTES, "an empty batch"


def test_a_retry_asks_for_more(tmp_path, oracle_json):
    path = str(tmp_path / "train.h5")
    write(path, conformations(["benzene"] * 100))
    first, second, third = (job_times(tmp_path).label_batch(path, oracle_json, 0, 1, attempt) for attempt in (1, 2, 3))
    assert second >= 2 * first - 1 + 600 / 60, "room for a conformation that hangs until its time limit"
    assert third - second >= first - 1
    model = calibrated(study(tmp_path, path), SVP)
    assert job_minutes(3600.0, model, 1, 600.0) == START_MINUTES + 2 * MARGIN * 60


def test_the_time_of_an_unknown_batch_is_yet_to_be_determined(tmp_path, oracle_json):
    """Snakemake does so where FileNotFoundError names a file of the job's input."""
    path, oracle = str(tmp_path / "train.h5"), tmp_path / "oracle.json"
    with pytest.raises(FileNotFoundError) as missing:
        job_times(tmp_path).label_batch(path, oracle_json, 0, 1, 1)
    assert missing.value.filename == path
    write(path, conformations(["water"]))
    oracle.write_text(json.dumps(LEVEL.attrs() | {"elements": [1, 8]}))  # of a golf that did not count
    with pytest.raises(FileNotFoundError) as old:
        job_times(tmp_path).label_batch(path, str(oracle), 0, 1, 1)
    assert old.value.filename == str(oracle)


def test_files_are_read_again_when_they_change_and_only_then(tmp_path, oracle_json):
    path, times = tmp_path / "train.h5", job_times(tmp_path)
    write(path, conformations(["benzene"] * 200))
    before = times.label_batch(str(path), oracle_json, 0, 1, 1)
    started = time.process_time()
    for _ in range(2000):
        times.label_batch(str(path), oracle_json, 0, 1, 1)
    assert time.process_time() - started < 2
    write(path, conformations(["benzene"] * 400))
    os.utime(path, ns=(1, 1))
    assert times.label_batch(str(path), oracle_json, 0, 1, 1) > 1.5 * before


def test_a_damaged_file_is_for_the_job_to_report(tmp_path, oracle_json):
    path = tmp_path / "train.h5"
    write(path, conformations(["benzene"] * 300))
    whole = path.read_bytes()
    assert job_times(tmp_path).label_batch(str(path), oracle_json, 0, 1, 1) > START_MINUTES
    path.write_bytes(whole[: len(whole) // 2])
    os.utime(path, ns=(1, 1))
    assert job_times(tmp_path).label_batch(str(path), oracle_json, 0, 1, 1) == START_MINUTES


def test_reference_jobs_leave_out_what_is_known(tmp_path, oracle_json):
    files = [str(tmp_path / f"{name}.h5") for name in ("test", "known")]
    test = conformations(["benzene"] * 4)
    write(files[0], test)
    minutes = []
    for known in ([], [0, 1]):
        write(files[1], test.subset(known))
        os.utime(files[1], ns=(len(known), len(known)))
        minutes.append(job_times(tmp_path, n_workers=1).optimization_batch(*files, oracle_json, 0, 1, 1))
    each = costs_of(test)[0] / 1e6 * n_gradients(np.array([12]))[0]
    assert minutes == [np.ceil(START_MINUTES + 2 * MARGIN * n * each / 60) for n in (4, 2)]
