"""The tiny study through Snakemake, with real Psi4: undisturbed, killed again and again, and with wrong input."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from golf.core.conformations import Status
from golf.core.hdf5 import read
from golf.nnp.potential import load, load_training_state
from support import REPOSITORY

pytestmark = pytest.mark.study
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def tiny_config(**changes):
    """configs/tiny.yaml with paths that hold in any folder."""
    config = yaml.safe_load((REPOSITORY / "configs" / "tiny.yaml").read_text())
    config["dataset"]["train"] = str(REPOSITORY / config["dataset"]["train"])
    config["results_dir"] = "results"
    for key, value in changes.items():
        *sections, name = key.split("__")
        part = config
        for section in sections:
            part = part.setdefault(section, {})
        part[name] = value
    return config


def command(folder, config, *options):
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    files = ["--snakefile", REPOSITORY / "Snakefile", "--directory", folder, "--configfile", folder / "tiny.yaml"]
    return [str(part) for part in [SNAKEMAKE, *files, "--cores", "2", *options]]


def run(folder, config, *options):
    return subprocess.run(
        command(folder, config, *options), cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )


def journal_lines(folder):
    return [json.loads(line) for path in folder.rglob("*.journal.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def study(psi4, tmp_path_factory):
    """The tiny study, run once without any disturbance."""
    folder = tmp_path_factory.mktemp("study")
    done = run(folder, tiny_config())
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, done


def test_the_study_ends_in_a_table(study):
    folder, done = study
    with open(folder / "results/evaluation/summary.csv", newline="") as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    expected = "arm,n_test,n_labels,residual_energy_kcal_mol,percent_success,percent_optimized_mean"
    expected += ",percent_optimized_std,percent_diverged,coverage_percent,matching_angstrom"
    assert set(expected.split(",")) <= set(next(iter(rows.values())))
    assert list(rows) == ["mmff", "baseline", "golf", "random", "rdkit", "traj"]
    names = ("models/baseline_continued", "rounds/2", "random/2", "rdkit", "traj")
    with open(folder / "results/evaluation/summary_differences.csv", newline="") as stream:
        compared = [(row["arm"], row["other"]) for row in csv.DictReader(stream)]
    assert compared[:2] == [("golf", "baseline"), ("golf", "mmff")] and len(compared) == 5 + 4
    updates = {str(load_training_state(folder / "results" / name / "model.pt")["n_updates"]) for name in names}
    assert updates == {row["n_updates"] for row in rows.values()} - {"0"}  # only the labels differ
    n_labels = {arm: int(row["n_labels"]) for arm, row in rows.items()}
    assert n_labels["golf"] == n_labels["random"] == n_labels["rdkit"] == n_labels["baseline"] + 8
    assert n_labels["baseline"] < n_labels["traj"] <= n_labels["baseline"] + 6
    assert (folder / "results/evaluation/summary.txt").read_text().strip() in done.stdout + done.stderr
    assert (folder / "results/models/final.pt").is_file()


def test_the_study_has_figures_and_a_report(study):
    folder, _ = study
    for name in ("optimized_shares", "final_geometries", "labels_and_outcome"):
        assert "<svg" in (folder / f"results/figures/{name}.svg").read_text()
        assert (folder / f"results/figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    done = run(folder, tiny_config(), "--report", "report.html")
    assert done.returncode == 0, done.stderr[-5000:]
    report = (folder / "report.html").read_text()
    assert "labels_and_outcome.svg" in report and "summary_differences.csv" in report


def test_the_study_has_a_page_that_a_browser_shows(study, page):
    folder, _ = study
    browser = page()
    browser.open(folder / "results/report.html")
    arms = browser.evaluate("[...document.querySelectorAll('.arm h3')].map(one => one.textContent)")
    assert arms == ["golf", "mmff", "baseline", "random", "rdkit", "traj"]
    stages = browser.evaluate("[...document.querySelectorAll('#labels table tbody th')].map(one => one.textContent)")
    rounds = ["round 1", "round 2", "random round 1", "random round 2"]
    assert stages[:8] == ["initial labels", *rounds, "arm rdkit", "arm traj", "DFT minima"]
    browser.click("button.open")
    assert browser.evaluate("document.querySelectorAll('#viewer canvas').length") == 1
    assert not browser.problems and len(browser.requests) == 1


def test_every_file_of_conformations_carries_its_provenance(study):
    folder, _ = study
    files = list((folder / "results").rglob("*.h5"))
    assert len(files) > 15
    for path in files:
        conformations = read(path)
        assert conformations.attrs["seed"] == 3 and len(conformations.attrs["config_sha256"]) == 64, path
        with h5py.File(path) as file:
            assert file.attrs["created_by"].startswith("golf ")


def test_selected_conformations_get_labels_of_their_own(study):
    folder, _ = study
    paid = set()
    for round_number in (1, 2):
        selected = read(folder / f"results/rounds/{round_number}/selected.h5")
        labels = read(folder / f"results/rounds/{round_number}/labels.h5")
        assert len(selected) > 0 and labels.id == selected.id
        np.testing.assert_array_equal(labels.position, selected.position)
        assert (labels.values["status"] == Status.OK).all()
        paid |= {positions.tobytes() for positions in selected.positions_by_conformation()}
    starts = read(folder / "results/labels/initial.h5")
    assert not paid & {positions.tobytes() for positions in starts.positions_by_conformation()}


def test_the_labels_of_controls_are_what_they_should_be(study):
    """States of DFT optimizations have the labels of those; the states drawn at random are no golf round's."""
    folder, _ = study
    labels, selected = read(folder / "results/traj/labels.h5"), read(folder / "results/random/1/selected.h5")
    assert {name.rpartition("/")[2][:5] for name in labels.id} == {"traj-"} and (labels.values["status"] == 0).all()
    known = read(folder / "results/labels/initial.h5")
    positions = {xyz.tobytes() for xyz in known.positions_by_conformation()}
    assert not positions & {xyz.tobytes() for xyz in labels.positions_by_conformation()}
    assert (selected.values["n_steps"] > 0).all() and np.isnan(selected.values["surrogate_energy_last"]).all()
    with open(folder / "results/evaluation/trajectories.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["arm"], row["step"]) for row in rows[:3]] == [("baseline", "1"), ("baseline", "3"), ("baseline", "8")]
    assert {row["n"] for row in rows} == {"2"} and {row["n_unlabelled"] for row in rows} == {"0"}
    figures = {path.name for path in (folder / "results/figures").iterdir()}
    assert {
        f"{name}.{kind}" for name in ("trajectory_errors", "trajectory_progress") for kind in ("svg", "png")
    } <= figures


def test_models_of_others_are_arms_and_starts(study, tmp_path):
    """A study that starts from the model of another one, which is an arm of it, too. Labels come from its journals."""
    for journal in (study[0] / "results/labels").rglob("*.journal.jsonl"):
        copy = tmp_path / journal.relative_to(study[0])
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(journal, copy)
    theirs = str(study[0] / "results/models/final.pt")
    config = tiny_config(nnp__initial=theirs, evaluation__models={"theirs": theirs}, evaluation__arms=["golf"])
    config["golf"] |= {"rounds": 1, "labels_per_round": 2}
    config["evaluation"]["trajectory_conformations"] = 0
    done = run(tmp_path, config)
    assert done.returncode == 0, done.stderr[-5000:]
    with open(tmp_path / "results/evaluation/summary.csv", newline="") as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["golf", "theirs"] and rows["theirs"]["n_labels"] == rows["theirs"]["n_updates"] == "0"
    assert not list((tmp_path / "results").rglob("baseline_continued"))
    start, given = (load(path).state_dict() for path in (tmp_path / "results/models/baseline/model.pt", theirs))
    assert all((start[name] == given[name]).all() for name in given)
    (tmp_path / "missing").mkdir()
    missing = run(tmp_path / "missing", tiny_config(nnp__initial="nowhere.pt"), "-n")
    assert missing.returncode != 0 and "key nnp.initial: nowhere.pt: no such file" in missing.stderr


def test_a_second_run_has_nothing_to_do(study):
    folder, _ = study
    again = run(folder, tiny_config())
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr


def test_neither_new_code_nor_new_times_of_a_copy_plan_anything(study, tmp_path):
    """As after an upgrade of golf, and after `cp -r`."""
    folder, _ = study
    clone, copied = tmp_path / "clone", tmp_path / "copy"
    clone.mkdir()
    for name in ("Snakefile", "envs", "golf", "profiles", "report", "rules", "schemas", "workflow_scripts"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone / name)
    for script in [*(clone / "workflow_scripts").glob("*.py"), clone / "golf/core/units.py"]:
        script.write_text(script.read_text() + "# a comment\n")
    shutil.copytree(folder, copied, copy_function=shutil.copyfile)
    files = ["--snakefile", clone / "Snakefile", "--directory", copied, "--configfile", copied / "tiny.yaml"]
    again = subprocess.run(
        [str(part) for part in [SNAKEMAKE, *files, "--cores", "2", "-n"]],
        cwd=copied,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr, again.stdout[-3000:]


def test_another_machine_changes_nothing(study):
    folder, _ = study
    elsewhere = {"label_processes": 2, "train_threads": 2, "device": "cpu"}
    again = run(folder, tiny_config(resources=elsewhere, oracle__time_limit=99, training__checkpoint_seconds=5))
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr, again.stdout


def wait_until(condition, process, what):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, f"ended before {what}: {process.returncode}"
        assert time.monotonic() < deadline, f"never came to {what}"
        time.sleep(0.02)


def kill_in(folder, config, condition, what):
    """Start the study, SIGKILL Snakemake and all its children once the condition holds; the journal lines then."""
    with open(folder / "killed.log", "ab") as log:
        process = subprocess.Popen(
            command(folder, config), cwd=folder, stdout=log, stderr=log, start_new_session=True
        )  # fmt: skip
        wait_until(condition, process, what)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run(folder, config, "--unlock").returncode == 0
    return len(journal_lines(folder))


def test_killed_in_every_stage_it_ends_in_the_same_summary(study, tmp_path):
    undisturbed, _ = study
    # Checkpoints after every update, so that the kill comes in the middle of a training that has one.
    config = tiny_config(training__checkpoint_seconds=1e-6)
    results = tmp_path / "results"

    def lines_of(pattern):
        return sum(path.read_bytes().count(b"\n") for path in results.glob(pattern))

    stages = {
        "labelling": lambda: lines_of("labels/initial/*.journal.jsonl") >= 3,
        "training": (results / "models/baseline/model.checkpoint.pt").exists,
        "a reference optimization": lambda: lines_of("evaluation/reference/*.journal.jsonl") >= 4,
    }
    n_lines = [kill_in(tmp_path, config, condition, what) for what, condition in stages.items()]
    assert n_lines == sorted(n_lines) and n_lines[0] >= 3
    done = run(tmp_path, config)
    assert done.returncode == 0, done.stderr[-5000:]

    for name in ("summary.csv", "summary_by_molecules.csv", "summary_differences.csv"):
        path = Path("results/evaluation") / name
        assert (tmp_path / path).read_text() == (undisturbed / path).read_text()
    keys = [line["key"] for line in journal_lines(tmp_path)]
    assert len(keys) == len(set(keys)), "a DFT call was repeated"
    assert set(keys) == {line["key"] for line in journal_lines(undisturbed)}
    for name in ("rounds/1/selected.h5", "rounds/2/selected.h5"):
        ours, theirs = read(results / name), read(undisturbed / "results" / name)
        assert ours.id == theirs.id
        np.testing.assert_array_equal(ours.position, theirs.position)
    for name in ("rounds/1/labels.h5", "rounds/2/labels.h5"):
        np.testing.assert_allclose(
            read(results / name).values["energy"], read(undisturbed / "results" / name).values["energy"], atol=1e-9
        )


def test_results_of_another_config_are_refused(study):
    folder, _ = study
    done = run(folder, tiny_config(golf__rounds=1), "-n")
    assert done.returncode != 0
    assert "holds results of another config (golf.rounds: 2 there, 1 here)" in done.stderr


def test_no_rounds_is_the_baseline_alone_in_a_folder_of_any_name(study, tmp_path):
    results = tmp_path / "my $results"
    for journal in (study[0] / "results").rglob("*.journal.jsonl"):
        copy = results / journal.relative_to(study[0] / "results")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(journal, copy)
    done = run(tmp_path, tiny_config(results_dir=results.name, golf__rounds=0, evaluation__arms=["baseline", "golf"]))
    assert done.returncode == 0, done.stderr[-5000:]
    with open(results / "evaluation/summary.csv", newline="") as stream:
        assert [row["arm"] for row in csv.DictReader(stream)] == ["baseline"]
    assert not list((results / "rounds").rglob("*.pt"))
    final, baseline = (results / "models" / name for name in ("final.pt", "baseline/model.pt"))
    assert final.read_bytes() == baseline.read_bytes()


def test_any_number_of_rounds_and_labels_plans(tmp_path):
    config = tiny_config(golf__rounds=30, golf__labels_per_round=100, oracle__batch_size=7)
    config["evaluation"]["arms"] = ["mmff", "baseline", "golf"]
    done = run(tmp_path, config, "-n")
    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    assert counts["train_round"] == "30" and int(counts["label_batch"]) >= 30 * 15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"golf__round": 2}, "unknown key golf.round; did you mean golf.rounds?"),
        ({"dataset__train": "nowhere.smi"}, "dataset.train: nowhere.smi: no such file"),
        ({"nnp__cutoff": -1}, "key nnp.cutoff: -1 is less than or equal to the minimum of 0"),
    ],
)
def test_mistakes_in_the_config_are_found_before_any_job(tmp_path, changes, message):
    done = run(tmp_path, tiny_config(**changes))
    assert done.returncode != 0 and not (tmp_path / "results").exists()
    assert [line for line in done.stderr.splitlines() if message in line], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.psi4
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"oracle__method": "hff"}, "oracle.method 'hff' cannot be computed by Psi4"),
        ({"oracle__basis": "sto-4gg"}, "oracle.basis 'sto-4gg' does not cover H Li"),
        ({"oracle__program": "pyscf", "oracle__method": "hff"}, "oracle.method 'hff' cannot be computed by PySCF"),
        ({"oracle__python": sys.executable}, "oracle.python"),
    ],
)
def test_an_impossible_oracle_is_found_before_the_first_batch(tmp_path, changes, message):
    done = run(tmp_path, tiny_config(**changes), "results/labels/initial.h5")
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("ERROR") and message in line], done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "results").rglob("*.journal.jsonl"))
    assert not (tmp_path / "results/dataset/oracle.json").exists()


def test_a_study_without_psi4_gets_labels_and_minima(tmp_path, monkeypatch):
    monkeypatch.setenv("GOLF_PSI4_PYTHON", "/no/such/python")  # an error where Psi4 is looked for
    config = yaml.safe_load((REPOSITORY / "configs" / "tiny-without-psi4.yaml").read_text())
    config["dataset"]["train"] = str(REPOSITORY / config["dataset"]["train"])
    targets = ["labels/initial.h5", "evaluation/reference.h5"]
    done = run(tmp_path, config | {"results_dir": "results"}, *(f"results/{name}" for name in targets))
    assert done.returncode == 0, done.stderr[-5000:]
    for name in targets:
        found = read(tmp_path / "results" / name)
        assert (found.values["status"] == Status.OK).all() and found.attrs["program"] == "ase"
        assert found.attrs["method"] == "tblite:gfn2-xtb" and found.attrs["basis"] == "none"


@pytest.mark.psi4
def test_too_many_unusable_molecules_stop_the_study(tmp_path):
    (tmp_path / "bad.smi").write_text("CO methanol\nC1CC broken\n")
    done = run(tmp_path, tiny_config(dataset__train=str(tmp_path / "bad.smi"), dataset__test_molecules=[]))
    assert done.returncode != 0 and "line 2 (broken): RDKit cannot read it" in done.stderr
    assert not (tmp_path / "results/dataset/train.h5").exists()
