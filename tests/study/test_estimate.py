"""`golf estimate` and `golf status` on the files of a tiny study, with labels of real Psi4."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from golf.cli.main import main
from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.core.labels import unlabelled
from golf.evaluation.hours import hours_spent
from golf.oracles.costs import label_costs
from golf.oracles.labeling import label_to_file, read_batch
from golf.oracles.settings import pool_settings, processes_on
from golf.study import config as golf_config
from golf.study.budget import duration, label_parts, network
from golf.study.dataset import prepare
from golf.study.estimate import table
from golf.study.forecast import Model, calibrated
from golf.study.plan import Source
from golf.study.workload import workload
from support import REPOSITORY
from support.terminal import on_a_terminal

SMILES = "O water\nCO methanol\nOO hydrogen_peroxide\n"


def study(folder, **changes):
    """The configuration of a study of 2 molecules with 3 conformers, and a third one for the test set alone."""
    (folder / "molecules.smi").write_text(SMILES)
    config = {
        "results_dir": str(folder / "results"),
        "dataset": {
            "train": str(folder / "molecules.smi"),
            "conformers": 3,
            "prune_rmsd": 0.0,
            "test_molecules": ["hydrogen_peroxide"],
            "test_conformers": 1,
        },
        "oracle": {"method": "hf", "basis": "sto-3g", "batch_size": 3},
        "golf": {"rounds": 2, "labels_per_round": 4},
    }
    for section, values in changes.items():
        config.setdefault(section, {}).update(values)
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    return golf_config.read_config(folder / "study.yaml")


def check_oracle(config, level, basis):
    path = Path(config["results_dir"]) / "dataset/oracle.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(level.attrs() | basis.to_json()))


def row(text, name):
    """The numbers in the line that begins with a name."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return [float(number) for number in re.findall(r"[\d.]+", line.removeprefix(name))]


@pytest.fixture(scope="module")
def begun(psi4, tmp_path_factory, cheap_level, cheap_basis):
    """A study that was killed in its initial labels: batch 0 is complete, batch 1 has one label in its journal."""
    folder = tmp_path_factory.mktemp("study")
    config = study(folder)
    results = folder / "results"
    check_oracle(config, cheap_level, cheap_basis)
    stamp = {"config_sha256": golf_config.sha256(config)}
    dataset = prepare(Source(**config["dataset"]), cheap_level, elements=[1, 6, 8], seed=1)
    position = dataset.train.position.copy()
    position[dataset.train.rows(3)] = 0.0  # methanol/0000, in batch 0: atoms on top of each other: Psi4 refuses
    write(results / "dataset/train.h5", dataset.train.with_columns(position=position), **stamp)
    write(results / "dataset/test.h5", dataset.test, **stamp)
    write(results / "dataset/reference.h5", dataset.reference, **stamp)
    (results / "config.yaml").write_text(yaml.safe_dump(config))
    stage = results / "labels/initial"
    for index in range(2):
        part = read_batch(results / "dataset/train.h5", index, 2, cheap_basis)
        label_to_file(part, stage / f"{index}.h5", level=cheap_level, n_workers=1, attrs=stamp)
    (stage / "1.h5").unlink()
    lines = (stage / "1.journal.jsonl").read_bytes().splitlines(keepends=True)
    (stage / "1.journal.jsonl").write_bytes(lines[0] + lines[1][:100])
    return folder, config


@pytest.mark.psi4
def test_estimate_needs_no_results(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study(tmp_path)
    assert main(["estimate", "study.yaml", "--jobs", "2"]) == 0
    shown = capsys.readouterr().out
    assert row(shown, "initial labels")[0] == 6 and row(shown, "round labels")[0] == 8
    assert row(shown, "test labels")[0] == 9 and row(shown, "DFT minima")[0] == 3 and row(shown, "sum")[0] == 26
    assert "no wall times yet" in shown and "asked now" in shown and "rough figure" in shown
    assert not (tmp_path / "results").exists()


def test_molecules_that_will_time_out_are_named_with_what_to_set(
    tmp_path, capsys, monkeypatch, cheap_level, cheap_basis
):
    monkeypatch.chdir(tmp_path)
    config = study(tmp_path, oracle={"time_limit": 0.2})
    check_oracle(config, cheap_level, cheap_basis)
    assert main(["estimate", "study.yaml", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Labels of 1 of 3 molecules will time out at oracle.time_limit, 0.2 s:\n  methanol (6 atoms, 0 s)\n" in shown
    assert "Set oracle.time_limit to 600, or raise resources.label_threads" in shown
    study(tmp_path, oracle={"time_limit": 60})
    assert main(["estimate", "study.yaml", "--jobs", "1"]) == 0
    assert "time out" not in capsys.readouterr().out


def test_equal_conformers_are_not_known_yet(tmp_path, capsys, monkeypatch, cheap_level, cheap_basis):
    monkeypatch.chdir(tmp_path)
    said = {}
    for prune_rmsd in (0.0, 0.1):
        config = study(tmp_path, dataset={"prune_rmsd": prune_rmsd}, evaluation={"trajectory_conformations": 2})
        check_oracle(config, cheap_level, cheap_basis)
        assert main(["estimate", "study.yaml", "--jobs", "1"]) == 0
        said[prune_rmsd] = capsys.readouterr().out
    assert "; 6 training and 3 test conformations\n" in said[0.0]
    assert "; at most 6 training and 3 test conformations; equal conformers will be dropped\n" in said[0.1]
    assert re.search(r"^trajectory states .* at most, along the test", said[0.1], re.MULTILINE)


def test_a_missing_data_set_is_looked_for_from_here(tmp_path, capsys, cheap_level, cheap_basis):
    config = study(tmp_path)
    check_oracle(config, cheap_level, cheap_basis)
    (tmp_path / "molecules.smi").unlink()
    assert main(["estimate", str(tmp_path / "study.yaml")]) == 2
    said = capsys.readouterr().err
    assert "dataset.train: " in said and "no such file; paths in a configuration are relative to the folder" in said


def test_what_is_estimated_adds_up(tmp_path, cheap_level, cheap_basis):
    config = study(tmp_path, resources={"label_processes": 2, "label_threads": 3})
    work = workload(config, cheap_basis)
    model = Model(scale=1e-5, source="ten times slower")  # 10 s where 1 s is predicted
    parts = {part.name: part for part in label_parts(config, work, model)}
    water, methanol, peroxide = (
        int(label_costs(np.array(numbers), np.array([0, len(numbers)]), cheap_basis)[0])
        for numbers in ([8, 1, 1], [6, 8, 1, 1, 1, 1], [8, 8, 1, 1])
    )
    initial = 3e-5 * (water + methanol)
    assert parts["initial labels"].core_hours(3) == pytest.approx(initial * 3 / 3600)
    assert parts["round labels"].core_hours(1) == pytest.approx(8e-5 * (water + methanol) / 2 / 3600)
    assert parts["test labels"].core_hours(1) == pytest.approx(3e-5 * (water + methanol + peroxide) / 3600)
    alone, many = (parts["initial labels"].wall_hours(1, jobs) for jobs in (1, 100))
    assert alone == pytest.approx(initial / 3600) and initial / 3600 / 2 <= many < alone
    lines = list(table(list(parts.values()), network(config, work), 3, 2, 1))
    assert row("\n".join(lines), "sum")[2] == pytest.approx(
        sum(row("\n".join(lines), name)[3] for name in parts), abs=0.02
    )


def test_fewer_labels_cost_less(tmp_path, cheap_basis):
    model = Model(1e-3, "")
    hours = []
    for rounds in (0, 1, 4):
        config = study(tmp_path, golf={"rounds": rounds})
        hours.append(sum(part.core_hours(1) for part in label_parts(config, workload(config, cheap_basis), model)))
    assert hours[0] < hours[1] < hours[2]


def test_estimate_takes_the_wall_times_that_are_there(begun, capsys, cheap_basis, cheap_level):
    folder, config = begun
    assert main(["estimate", str(folder / "study.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "wall times of labels in" in shown and "oracle.json" in shown and "train.h5 and test.h5" in shown
    model = calibrated(config, cheap_basis)
    seconds = read(folder / "results/labels/initial/0.h5").values["wall_seconds"]
    assert model.n_measured == 2 and seconds.min() / 10 < model.scale * 1e6 < seconds.max() * 10


def test_status_says_what_is_done_failed_and_left(begun, capsys):
    folder, _ = begun
    assert main(["status", str(folder / "study.yaml"), "--cores", "1"]) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.startswith("initial labels"))
    assert "begun" in line and "3 of 6" in line and line.endswith("failed 1")
    for name, planned in (("round 1", 4), ("round 2", 4), ("ends of golf", 3), ("DFT minima", 3)):
        assert re.search(rf"^{name} +to come +0 of {planned} ", shown, re.MULTILINE), shown
    assert re.search(r"^sum +3 of 26 ", shown, re.MULTILINE)
    assert "Baseline to come, 0 of 2 rounds trained" in shown


def test_status_and_report_count_the_same_hours(begun, capsys):
    """Benchmark files as Snakemake lays them out; labels and the rest are not counted."""
    folder, _ = begun
    benchmarks = folder / "results/benchmarks"
    training = ["train_baseline", "continue_baseline", "train_round/rounds/1", "train_round/random/2"]
    relaxation = ["relax_round/rounds/1", "relax_round/random/1", "relax_test/golf", "minimize_test"]
    others = ["label_batch/labels/initial/0", "evaluate_arm/mmff", "optimize_batch/evaluation/reference/0"]
    for name in [*training, "train_control/rdkit", *relaxation, *others]:
        path = benchmarks / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\th:m:s\tmax_rss\n900.0\t0:15:00\t-\n")
    assert hours_spent(benchmarks) == {"training": 1.25, "relaxation": 1.0}
    assert main(["status", str(folder / "study.yaml")]) == 0
    shutil.rmtree(benchmarks)
    assert "training and relaxations 2.25 h so far" in capsys.readouterr().out


def test_status_counts_the_merged_file_once_it_is_there(begun, capsys):
    folder, _ = begun
    batches = [read(folder / "results/labels/initial/0.h5")]
    merged = read(folder / "results/dataset/train.h5")
    values = {name: column.copy() for name, column in merged.values.items()}
    for i, id in enumerate(merged.id):
        values["status"][i] = Status.REJECTED
        for j in np.flatnonzero(np.array(batches[0].id) == id):
            for name, column in values.items():
                column[i] = batches[0].values[name][j]
    path = folder / "results/labels/initial.h5"
    write(path, merged.with_columns(values=values))
    assert main(["status", str(folder / "study.yaml")]) == 0
    path.unlink()
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("initial labels"))
    assert "done" in line and "6 of 6" in line and "failed 1, rejected 4" in line
    hours = [float(number) for number in re.findall(r"\d+\.\d+", line)]
    assert hours[1] == 0.0, "nothing is left of a stage that is done"


def test_status_is_watched_on_a_terminal(begun):
    folder, _ = begun
    command = (sys.executable, "-m", "golf.cli.main", "status", folder / "study.yaml", "--cores", "1", "--watch", "0.1")
    shown, code = on_a_terminal(command, interrupt_after="Ctrl-C to leave")
    first, second, *_ = shown.split("\x1b[H\x1b[2J")[1:]
    for drawing in (first, second):
        assert re.search(r"^sum +3 of 26 ", drawing, re.MULTILINE) and "every 0.1 s" in drawing
    assert code == 130 and shown.rstrip().endswith("golf: interrupted")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr == "golf: error: stdout is not a terminal; drop --watch\n"


def test_watching_ends_with_the_study(tmp_path, cheap_level, cheap_basis):
    """A study of the MMFF arm alone, which trains nothing; all of its files are there."""
    config = study(tmp_path, golf={"rounds": 0}, evaluation={"arms": ["mmff"]})
    results = tmp_path / "results"
    check_oracle(config, cheap_level, cheap_basis)
    dataset = prepare(Source(**config["dataset"]), cheap_level, elements=[1, 6, 8], seed=1)
    files = {
        "evaluation/mmff/labels": dataset.test,
        "evaluation/reference": dataset.test,
    }
    for name, part in files.items():
        labelled = unlabelled(part).with_columns(values={"status": [Status.FAILED] * len(part)})
        write(results / f"{name}.h5", labelled)
    write(results / "dataset/train.h5", dataset.train)
    write(results / "evaluation/mmff/relaxed.h5", dataset.test)
    command = (sys.executable, "-m", "golf.cli.main", "status", tmp_path / "study.yaml", "--watch", "0.1")
    shown, _ = on_a_terminal(command, interrupt_after="Ctrl-C to leave")
    assert f"failed {len(dataset.test)}" in shown  # the summary is missing yet
    (results / "evaluation/summary.csv").write_text("arm\n")
    shown, code = on_a_terminal(command)
    assert code == 0 and shown.count("\x1b[2J") == 1 and shown.rstrip().endswith(", done")


def test_status_of_another_study_is_refused(begun, capsys):
    folder, _ = begun
    text = (folder / "study.yaml").read_text()
    (folder / "other.yaml").write_text(text.replace("rounds: 2", "rounds: 3"))
    assert main(["status", str(folder / "other.yaml")]) == 2
    assert "golf.rounds: 2 there, 3 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset/oracle.json", '{"basis_fun', "oracle.json: damaged; remove it"),
        ("config.yaml", "rounds: [", "config.yaml: damaged"),
        ("config.yaml", "", "config.yaml: damaged"),
        ("labels/initial/0.h5", None, "0.h5: not a readable HDF5 file"),
    ],
)
def test_damaged_files_are_one_line(begun, tmp_path, capsys, name, content, message):
    folder, config = begun
    results = tmp_path / "results"
    shutil.copytree(folder / "results", results)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config | {"results_dir": str(results)}))
    if content is None:
        whole = (results / name).read_bytes()
        content_bytes = whole[: len(whole) // 3] + bytes(len(whole) // 2) + whole[-100:]
    else:
        content_bytes = content.encode()
    (results / name).write_bytes(content_bytes)
    assert main(["status", str(tmp_path / "study.yaml")]) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1, errors


def test_metrics_that_are_being_written_are_passed_over(begun, capsys):
    folder, config = begun
    metrics = Path(config["results_dir"]) / "models/baseline/metrics.csv"
    metrics.parent.mkdir(parents=True)
    metrics.write_text("step,learning_rate,loss,seconds\n500,0.1")
    assert main(["status", str(folder / "study.yaml")]) == 0
    assert "a rough figure" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["water", "methanol", "hydrogen_peroxide"], "holds all 3 molecules of"),
        (["benzene"], "'benzene' is not in"),
    ],
)
def test_test_molecules_that_cannot_be(tmp_path, cheap_basis, names, message):
    with pytest.raises(UserError, match=message):
        workload(study(tmp_path, dataset={"test_molecules": names}), cheap_basis)


def test_the_newest_training_is_that_of_the_highest_round(tmp_path, cheap_basis):
    """Round 10 comes after round 9."""
    config = study(tmp_path)
    for name in ("9", "10"):
        metrics = Path(config["results_dir"], "rounds", name, "metrics.csv")
        metrics.parent.mkdir(parents=True)
        metrics.write_text(f"step,seconds\n100,{100 * int(name)}\n")
    assert network(config, workload(config, cheap_basis)).source.endswith("rounds/10/metrics.csv")


def test_a_machine_with_fewer_cores_than_processes(tmp_path):
    config = study(tmp_path, resources={"label_processes": 16, "label_threads": 2})
    assert [processes_on(config, cores) for cores in (1, 2, 7, 64)] == [1, 1, 3, 16]
    assert pool_settings(config, 7)["n_workers"] == 3 and pool_settings(config)["n_workers"] == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["estimate", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["estimate", "typo.yaml"], "unknown key golf.round; did you mean golf.rounds?"),
        (["estimate", "broken.yaml"], "broken.yaml: not YAML"),
        (["estimate", "study.yaml", "--jobs", "0"], "--jobs 0: must be positive"),
        pytest.param(
            ["estimate", "public.yaml"],
            "there.h5: is not there yet; run the study, which downloads it first",
            marks=pytest.mark.psi4,
        ),
        (["status"], "config.yaml: no such file"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    study(tmp_path)
    (tmp_path / "typo.yaml").write_text((tmp_path / "study.yaml").read_text().replace("rounds:", "round:"))
    (tmp_path / "broken.yaml").write_text("dataset: [")
    public = {"url": "https://example.org/there.h5", "to": "there.h5"}
    (tmp_path / "public.yaml").write_text(yaml.safe_dump({"dataset": {"train": "there.h5", "download": [public]}}))
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1


def test_durations_are_said_as_people_do():
    assert [duration(hours) for hours in (0.2, 1.5, 100.0)] == ["12 min", "1 h 30 min", "4.2 days"]
