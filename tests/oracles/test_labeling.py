"""Batches, journal, merge and `golf label`, with real Psi4 at a cheap level."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem

from golf.chem.conformers import conformations_of
from golf.chem.usable import Molecule
from golf.core.conformations import ConformationSet, Status, concatenate
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.core.labels import pending, take_over_labels, unlabelled
from golf.core.level import LevelOfTheory
from golf.oracles.costs import label_costs
from golf.oracles.labeling import journal_path, label_to_file, read_batch
from golf.oracles.merging import merge_labels
from support import REPOSITORY


@pytest.fixture(scope="module")
def conformations():
    names = {"water": "O", "methanol": "CO"}
    molecules = [
        Molecule(name, Chem.AddHs(Chem.MolFromSmiles(smiles)), i) for i, (name, smiles) in enumerate(names.items())
    ]
    return conformations_of(molecules, n_conformers=3, seed=4, prune_rmsd=0.0)[0]


@pytest.fixture(scope="module")
def labelled(psi4, conformations, cheap_level, tmp_path_factory):
    output = tmp_path_factory.mktemp("labels") / "all.h5"
    return label_to_file(conformations, output, level=cheap_level, n_workers=2, attrs={"seed": 4})


def merged_of(folder, conformations, parts):
    write(folder / "conformations.h5", conformations)
    for i, part in enumerate(parts):
        write(folder / f"part{i}.h5", part)
    merge_labels(folder / "conformations.h5", [folder / f"part{i}.h5" for i in range(len(parts))], folder / "merged.h5")
    return read(folder / "merged.h5")


@pytest.fixture
def batch(conformations, cheap_basis, tmp_path):
    """A batch of all conformations, by its index and the number of batches."""
    write(tmp_path / "unlabelled.h5", conformations)
    return lambda index, n_batches: read_batch(tmp_path / "unlabelled.h5", index, n_batches, cheap_basis)


def test_every_conformation_is_in_exactly_one_batch(conformations, batch, cheap_basis):
    parts = [batch(i, 4) for i in range(4)]
    assert sorted(name for part in parts for name in part.id) == sorted(conformations.id)
    costs = [label_costs(part.number, part.offset, cheap_basis) for part in parts]
    assert max(map(sum, costs)) - min(map(sum, costs)) <= max(map(max, costs))
    assert [part.molecule for part in parts] == [["methanol"]] * 3 + [["water"] * 3]
    assert batch(0, 1).molecule == ["methanol"] * 3 + ["water"] * 3, "longest first"
    assert len(batch(7, 8)) == 0


def test_batches_merge_to_what_one_batch_gives(conformations, batch, labelled, cheap_level, tmp_path):
    parts = [label_to_file(batch(i, 8), tmp_path / f"{i}.h5", level=cheap_level, n_workers=1) for i in (3, 4, 7)]
    assert [len(part) for part in parts] == [1, 1, 0]
    rest = [labelled.subset([i]) for i in range(2, 6)]
    merged = merged_of(tmp_path, conformations, [*parts, *rest])
    np.testing.assert_allclose(merged.values["energy"], labelled.values["energy"], atol=1e-9)
    np.testing.assert_allclose(merged.atoms["force"], labelled.atoms["force"], atol=1e-7)
    assert merged.attrs["method"] == "hf" and merged.attrs["basis"] == "sto-3g"
    with pytest.raises(UserError, match=r"4 conformations are not in any label batch \(first: water/0002\)"):
        merged_of(tmp_path, conformations, parts)


def test_batches_dealt_anew_pay_for_nothing_twice(conformations, batch, labelled, cheap_level, cheap_basis, tmp_path):
    write(tmp_path / "fewer", conformations.subset(range(1, 6)))
    for i in range(2):
        part = read_batch(tmp_path / "fewer", i, 2, cheap_basis)
        label_to_file(part, tmp_path / f"{i}.h5", level=cheap_level, n_workers=1)
    for i in range(3):  # one conformation more, in front, and another number of batches
        label_to_file(batch(i, 3), tmp_path / f"{i}.h5", level=cheap_level, n_workers=1)
    lines = [line for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == len(conformations)
    merged = merged_of(tmp_path, conformations, [read(tmp_path / f"{i}.h5") for i in range(3)])
    np.testing.assert_allclose(merged.values["energy"], labelled.values["energy"], atol=1e-9)


def test_labels_at_hand_are_not_computed_again(labelled, conformations, cheap_basis, tmp_path):
    half = concatenate([labelled.subset([0, 1, 2]), unlabelled(conformations.subset([3, 4, 5]))])
    write(tmp_path / "half.h5", half)
    assert pending(half).tolist() == [3, 4, 5]
    assert read_batch(tmp_path / "half.h5", 0, 1, cheap_basis).id == conformations.id[3:]


def test_equal_geometries_are_paid_for_once(conformations, labelled, cheap_level, tmp_path):
    twice = concatenate([conformations.subset([0, 3]), replace(conformations.subset([0]), id=["again"])])
    found = label_to_file(twice, tmp_path / "twice.h5", level=cheap_level, n_workers=2)
    assert len(journal_path(tmp_path / "twice.h5").read_text().splitlines()) == 2
    np.testing.assert_allclose(found.values["energy"], labelled.values["energy"][[0, 3, 0]], atol=1e-9)


def test_levels_do_not_mix(labelled, conformations):
    other = LevelOfTheory("psi4", "hf", "6-31g")
    with pytest.raises(UserError, match="set oracle to the level of the data"):
        take_over_labels(labelled, other, "d0.h5")


@pytest.mark.psi4
def test_a_failed_label_is_data(conformations, cheap_level, tmp_path):
    one = conformations.subset([0, 3])
    broken = one.with_columns(position=np.where(np.arange(len(one.position))[:, None] < 3, 0.0, one.position))
    found = label_to_file(broken, tmp_path / "a.h5", level=cheap_level, n_workers=1)
    assert found.values["status"].tolist() == [Status.FAILED, Status.OK]
    assert "too close" in found.values["message"][0] and np.isnan(found.values["energy"][0])
    assert read(tmp_path / "a.h5").values["message"][0] == found.values["message"][0]


def run_label(source, output, *options, **settings):
    command = [
        sys.executable,
        "-m",
        "golf.cli.main",
        "label",
        str(source),
        "-o",
        str(output),
        "--method",
        "hf",
        "--basis",
        "sto-3g",
    ]
    return subprocess.Popen([*command, *options], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **settings)


def wait_for_lines(path, n, process):
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < n:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on_from_its_journal(conformations, labelled, tmp_path, number):
    write(tmp_path / "in.h5", conformations)
    output = tmp_path / "out.h5"
    process = run_label(tmp_path / "in.h5", output, "--cores", "1", start_new_session=True)
    wait_for_lines(journal_path(output), 2, process)
    os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
    process.wait(timeout=20)
    assert not output.exists()
    finished = len(journal_path(output).read_text().splitlines())
    assert run_label(tmp_path / "in.h5", output, "--cores", "2").wait() == 0
    keys = [json.loads(line)["key"] for line in journal_path(output).read_text().splitlines()]
    assert len(keys) == len(set(keys)) == len(conformations) and 2 <= finished < len(keys)
    np.testing.assert_allclose(read(output).values["energy"], labelled.values["energy"], atol=1e-9)
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout == b""


@pytest.mark.psi4
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_at_once_end_it_like_the_first(conformations, tmp_path, first):
    """The second one used to interrupt the clean-up, within a lock."""
    random = np.random.default_rng(1)
    parts = [replace(conformations, id=[f"{name}/{k}" for name in conformations.id]) for k in range(40)]
    moved = [part.with_columns(position=random.normal(part.position, 0.01)) for part in parts]
    write(tmp_path / "in.h5", concatenate(moved))
    for pause in (0.0, 0.005, 0.02):
        output = tmp_path / f"{pause}.h5"
        process = run_label(tmp_path / "in.h5", output, "--cores", "2", start_new_session=True)
        wait_for_lines(journal_path(output), 1, process)
        started = time.monotonic()
        for number in (first, signal.SIGINT + signal.SIGTERM - first):
            process.send_signal(number)
            time.sleep(pause)
        errors = process.communicate(timeout=20)[1]
        assert time.monotonic() - started < 5 and process.returncode in (130, 143)
        assert "Traceback" not in errors and "lock" not in errors


def test_a_lost_process_costs_one_call_more_and_no_label(conformations, labelled, tmp_path):
    write(tmp_path / "in.h5", conformations)
    output = tmp_path / "out.h5"
    process = run_label(tmp_path / "in.h5", output, "--cores", "1")
    wait_for_lines(journal_path(output), 2, process)
    child = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "psi4_worker"], capture_output=True, check=True)
    os.kill(int(child.stdout), signal.SIGKILL)
    assert process.wait() == 0
    lines = [json.loads(line) for line in journal_path(output).read_text().splitlines()]
    (lost,) = [line for line in lines if line["status"] == "crashed"]
    assert "signal 9" in lost["message"] and len(lines) == len(conformations) + 1 and lines[-1]["id"] == lost["id"]
    np.testing.assert_allclose(read(output).values["energy"], labelled.values["energy"], atol=1e-9)


@pytest.mark.psi4
def test_label_from_smiles_writes_what_inspect_reads(tmp_path):
    (tmp_path / "in.smi").write_text("O water\n")
    process = run_label(tmp_path / "in.smi", tmp_path / "out.h5", "--conformers", "2", "--cores", "1")
    assert process.wait() == 0
    assert read(tmp_path / "out.h5").values["status"].tolist() == [Status.OK, Status.OK]
    shown = subprocess.run(
        [sys.executable, "-m", "golf.cli.main", "inspect", str(tmp_path / "out.h5")],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "hf/sto-3g" in shown.stdout and "ok 2" in shown.stdout


@pytest.mark.psi4
def test_a_method_that_psi4_lacks_is_one_line_and_leaves_nothing(conformations, tmp_path):
    write(tmp_path / "in.h5", conformations)
    process = run_label(tmp_path / "in.h5", tmp_path / "out.h5", "--cores", "1", "--method", "wb97xdd")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1 and "'wb97xdd'" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


def test_a_level_is_spelled_in_one_way():
    level = LevelOfTheory("psi4", "B3LYP-D3(BJ)", "def2-SVP")
    assert level.attrs()["method"] == "b3lyp-d3bj" and level.matches({**level.attrs(), "method": "b3lyp-d3(bj)"})
    given = ConformationSet.build([("a/0", "a", "", 0, 1, [2], np.zeros((1, 3)))]).with_columns(
        values={"status": [Status.OK], "energy": [-2.9]}, **{**level.attrs(), "method": "b3lyp-d3(bj)"}
    )
    assert take_over_labels(given, level, "a.h5").attrs["method"] == "b3lyp-d3bj"
