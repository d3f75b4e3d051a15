"""`golf train` on labelled files: what it writes, that it goes on, what it refuses; and the split by molecule."""

import csv
import signal
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from golf.cli.main import main
from golf.core import hdf5
from golf.core.conformations import ConformationSet, Status
from golf.core.errors import UserError
from golf.io.convert import write
from golf.nnp.potential import load, load_training_state
from golf.study.relaxations import select_round
from golf.study.settings import OptimizerSettings, Selection
from golf.study.trainings import split_of_study
from golf.training.recipe import Machine, NothingToTrainOn, split_validation
from support import REPOSITORY
from support.mmff_labels import labelled_conformers

LEVEL = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}

SMALL = """
dataset: {train: elsewhere.smi}
nnp: {n_atom_basis: 8, n_interactions: 1, n_rbf: 6}
training: {updates: 10, batch_size: 4, learning_rate: 2.0e-3, validation_fraction: 0.25, validation_interval: 10}
"""


@pytest.fixture(scope="module")
def labelled() -> ConformationSet:
    return labelled_conformers(["OC=O", "CCO", "CO", "O"], 5).with_columns(**LEVEL)


@pytest.fixture
def folder(labelled, tmp_path):
    hdf5.write(tmp_path / "labels.h5", labelled)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def golf(*arguments):
    return main([str(argument) for argument in arguments])


def train(folder, output="model.pt", *options):
    return golf("train", folder / "labels.h5", "-o", folder / output, "--config", folder / "small.yaml", *options)


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def same_weights(one, other):
    return all(
        torch.equal(a, b) for a, b in zip(load(one).network.parameters(), load(other).network.parameters(), strict=True)
    )


def test_two_sections_of_any_file(folder, capsys):
    """The other sections need neither be there nor be right; the two are checked, and the names of all."""
    two = SMALL.replace("dataset: {train: elsewhere.smi}\n", "")
    models = []
    for i, text in enumerate((SMALL, two, two + "dataset: {old_key: 1}\ngolf: 3\n")):
        (folder / "some.yaml").write_text(text)
        models.append(folder / f"{i}.pt")
        arguments = ("train", folder / "labels.h5", "-o", models[-1], "--config", folder / "some.yaml", "--cores", 1)
        assert golf(*arguments) == 0
    assert same_weights(*models[:2]) and same_weights(*models[1:])
    capsys.readouterr()
    for text, message in {
        two.replace("n_rbf", "n_rfb"): "some.yaml: unknown key nnp.n_rfb; did you mean nnp.n_rbf?",
        two.replace("updates: 10", "updates: 0"): "some.yaml: key training.updates: 0 is less than",
        two.replace("training:", "trainig:"): "some.yaml: unknown key trainig; did you mean training?",
        "nnp: 3": "some.yaml: key nnp: 3 is not of type",
    }.items():
        (folder / "some.yaml").write_text(text)
        for command, output in (("train", "out.pt"), ("learning-curve", "out.csv")):
            line = (command, folder / "labels.h5", "-o", folder / output, "--config", folder / "some.yaml")
            assert golf(*line) == 2
            said = capsys.readouterr().err
            assert message in said and said.count("\n") == 1, said


def test_a_model_with_where_it_comes_from(folder, labelled, capsys):
    assert train(folder, "model.pt", "--updates", 20, "--seed", 3, "--cores", 1) == 0
    said = capsys.readouterr().out
    assert "20 updates on 15 labels of 4 molecules; mean absolute errors on 5 labels of " in said
    assert said.count("\n") == 1
    potential = load(folder / "model.pt")
    assert potential.provenance.level == LEVEL and potential.provenance.seed == 3 and potential.provenance.config_sha256
    assert potential.architecture.n_atom_basis == 8 and potential.elements == [1, 6, 8]
    rows = rows_of(folder / "model.csv")
    assert [int(row["step"]) for row in rows] == [10, 20]
    assert f"{float(rows[-1]['validation_force_mae_kcal_per_mol_angstrom']):.2f} kcal/mol/angstrom" in said
    assert train(folder, "other.pt", "--updates", 20, "--seed", 4, "--cores", 1) == 0
    assert not same_weights(folder / "model.pt", folder / "other.pt")


def test_defaults_are_those_of_a_study(folder):
    labels, output = folder / "labels.h5", folder / "default.pt"
    assert golf("train", labels, "-o", output, "--updates", 1, "--validation-fraction", 0, "--batch-size", 2) == 0
    assert load(output).architecture.n_atom_basis == 128
    assert rows_of(folder / "default.csv")[-1]["validation_force_mae_kcal_per_mol_angstrom"] == ""


def test_a_training_goes_on_from_a_model(folder):
    assert train(folder, "a.pt") == 0 and train(folder, "b.pt", "--initial", folder / "a.pt") == 0
    assert load_training_state(folder / "b.pt")["n_updates"] == 20
    assert load(folder / "b.pt").reference_energies == load(folder / "a.pt").reference_energies
    assert not same_weights(folder / "a.pt", folder / "b.pt")


@pytest.mark.slow
def test_an_interrupted_training_goes_on(folder):
    (folder / "quick.yaml").write_text(SMALL.replace("training: {", "training: {checkpoint_seconds: 0.2, "))
    arguments = ["train", folder / "labels.h5", "-o", folder / "m.pt", "--config", folder / "quick.yaml"]
    arguments += ["--updates", 300, "--cores", 1]
    command = [sys.executable, "-m", "golf.cli.main", "-v", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not (folder / "m.checkpoint.pt").exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.splitlines()[-1].startswith(
        "golf: interrupted; run the same command again"
    )
    assert not (folder / "m.pt").exists()
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "m.checkpoint.pt: resumed after update" in again.stderr
    assert golf(*arguments[:3], folder / "undisturbed.pt", *arguments[4:]) == 0
    assert same_weights(folder / "m.pt", folder / "undisturbed.pt")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_training_stopped_before_its_first_checkpoint_can_be_typed_again(folder, number):
    arguments = ["train", folder / "labels.h5", "-o", folder / "m.pt", "--config", folder / "small.yaml"]
    arguments += ["--updates", 300, "--cores", 1]
    command = [sys.executable, "-m", "golf.cli.main", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not (folder / "m.csv").exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0 and not (folder / "m.pt").exists() and not (folder / "m.checkpoint.pt").exists()
    assert golf(*arguments) == 0
    assert golf(*arguments[:3], folder / "undisturbed.pt", *arguments[4:]) == 0
    assert same_weights(folder / "m.pt", folder / "undisturbed.pt")
    columns = [[row | {"seconds": ""} for row in rows_of(folder / f"{name}.csv")] for name in ("m", "undisturbed")]
    assert columns[0] == columns[1]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "learning-curve"])
def test_a_full_disk_is_one_line(folder, command):
    """In a process of its own, whose files may be as large as the metrics but no model."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from golf.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    out = folder / ("model.pt" if command == "train" else "curve.csv")
    command_line = [sys.executable, "-c", code, command, str(folder / "labels.h5"), "-o", str(out)]
    done = subprocess.run(
        [*command_line, "--config", str(folder / "small.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and not out.exists(), done.stderr
    assert not list(folder.rglob("*.tmp*")) and not list(folder.rglob("*.pt"))
    last = done.stderr.splitlines()[-1]
    assert last.startswith("golf: error: ") and last.endswith(
        ".pt: file too large; free space (or raise the quota) and run the same command again"
    )
    assert "Traceback" not in done.stderr


def test_a_training_that_diverged_can_be_typed_again(folder, capsys):
    assert train(folder, "m.pt", "--learning-rate", 1e30) == 2
    assert "lower the learning rate" in capsys.readouterr().err and (folder / "m.csv").exists()
    assert train(folder, "m.pt") == 0
    (folder / "m.pt").unlink()
    (folder / "m.csv").write_text("")  # killed as it began the file
    assert train(folder, "m.pt") == 0 and len(rows_of(folder / "m.csv")) == 1


def changed(folder, name, change):
    """A copy of the labels, changed in place."""
    path = folder / f"{name}.h5"
    path.write_bytes((folder / "labels.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(name, row, value):
    def change(file):
        file[name][row] = value

    return change


def bad_inputs(folder, labelled):
    hdf5.write(folder / "bare.h5", labelled.bare())
    hdf5.write(folder / "none.h5", labelled.subset([]))
    hdf5.write(folder / "failed.h5", labelled.with_columns(values={"status": np.full(20, Status.FAILED)}))
    hdf5.write(folder / "other-level.h5", labelled.with_columns(method="wb97x-d"))
    hdf5.write(folder / "nitrogen.h5", labelled_conformers(["CN"], 3).with_columns(**LEVEL))
    (folder / "empty.h5").write_bytes(b"")
    (folder / "mols.smi").write_text("CO methanol\n")
    (folder / "there.pt").write_text("kept")
    (folder / "metrics.csv").write_text("kept")
    (folder / "text.pt").write_text("no model")
    third = labelled.id[2]
    row = int(labelled.offset[2])
    out = ("-o", folder / "out.pt", "--config", folder / "small.yaml")
    labels = folder / "labels.h5"
    nan_position = changed(folder, "nan-x", put("atoms/position", row, np.nan))
    nan_force = changed(folder, "nan-f", put("atoms/force", row, np.inf))
    nan_energy = changed(folder, "nan-e", put("conformation/energy", 2, np.nan))
    no_level = changed(folder, "no-level", lambda file: file.attrs.pop("basis"))
    return {
        "nowhere.h5: no such file": (folder / "nowhere.h5", *out),
        "empty.h5: not a readable HDF5 file": (folder / "empty.h5", *out),
        "mols.smi: not a file of labels (.h5 .hdf5 .db .extxyz .xyz); make one with golf label": (
            folder / "mols.smi",
            *out,
        ),
        "bare.h5: none of 20 conformations has a label": (folder / "bare.h5", *out),
        "none.h5: holds no conformations; give another file": (folder / "none.h5", *out),
        "failed.h5: none of 20 conformations has a label": (folder / "failed.h5", *out),
        f"nan-x.h5: {third}: positions not finite": (nan_position, *out),
        f"nan-f.h5: {third}: forces not finite": (nan_force, *out),
        f"nan-e.h5: {third}: energy not finite": (nan_energy, *out),
        "no-level.h5: has no attribute basis": (no_level, *out),
        "there.pt: already exists": (labels, "-o", folder / "there.pt"),
        "metrics.csv: already exists": (labels, "-o", folder / "metrics.pt"),
        "out.h5: unknown suffix": (labels, "-o", folder / "out.h5"),
        "missing does not exist or is not": (labels, "-o", folder / "missing" / "out.pt"),
        "text.pt: not a model file": (labels, *out, "--initial", folder / "text.pt"),
        "other-level.h5 differ in method: hf and wb97x-d; ": (
            folder / "other-level.h5",
            *out,
            "--initial",
            folder / "a.pt",
        ),
        "nitrogen.h5: conformation 'CN/0000' has N": (folder / "nitrogen.h5", *out, "--initial", folder / "a.pt"),
        "nitrogen.h5: 1 of 1 molecules for validation leaves none to train on; give --by conformation": (
            folder / "nitrogen.h5",
            *out,
            "--by",
            "molecule",
        ),
        "error: --updates: 0 is less than": (labels, *out, "--updates", 0),
        "error: --batch-size: -1 is less than": (labels, *out, "--batch-size", -1),
        "error: --validation-fraction: 1.0": (labels, *out, "--validation-fraction", 1),
        "error: --learning-rate: nan is not a finite": (labels, *out, "--learning-rate", "nan"),
        "error: --seed: -1 is less than": (labels, *out, "--seed", -1),
        "--cores 0: must be positive": (labels, *out, "--cores", 0),
        "nowhere.yaml: no such file": (labels, "-o", folder / "out.pt", "--config", folder / "nowhere.yaml"),
        "lower the learning rate": (labels, *out, "--learning-rate", 1e30),
    }


def test_wrong_input_is_one_line_and_status_2(folder, labelled, capsys):
    assert train(folder, "a.pt") == 0
    capsys.readouterr()
    for message, arguments in bad_inputs(folder, labelled).items():
        assert golf("train", *arguments) == 2, message
        printed = capsys.readouterr().err
        lines = [line for line in printed.splitlines() if line.startswith("golf: error: ")]
        assert len(lines) == 1 and message in lines[0] and "Traceback" not in printed, (message, printed)
        assert not (folder / "out.pt").exists()
        assert "learning rate" in message or not list(folder.glob("out.*"))
    assert (folder / "there.pt").read_text() == "kept" and (folder / "metrics.csv").read_text() == "kept"


@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5])
def test_a_split_by_molecule_keeps_all_of_a_molecule(labelled, fraction):
    status = np.full(len(labelled), Status.OK)
    status[0] = Status.FAILED
    labelled = labelled.with_columns(values={"status": status})
    training, validation = split_validation(labelled, fraction, 1, "molecule")
    assert len(set(validation.molecule)) == max(1, round(4 * fraction))
    assert not set(training.molecule) & set(validation.molecule)
    assert sorted(training.id + validation.id) == sorted(labelled.id)
    splits = {
        tuple(sorted(set(split_validation(labelled, fraction, seed, "molecule")[1].molecule))) for seed in range(9)
    }
    assert len(splits) > 1 and split_validation(labelled, fraction, 1, "molecule")[1].id == validation.id


def test_a_split_by_conformation_is_of_labels(labelled):
    training, validation = split_validation(labelled, 0.25, 1, "conformation")
    assert len(validation) == 5 and sorted(training.id + validation.id) == sorted(labelled.id)
    assert split_validation(labelled, 0.0, 1, "conformation")[1] is None
    assert split_validation(labelled, 0.0, 1, "molecule")[1] is None
    with pytest.raises(NothingToTrainOn, match="^4 of 4 molecules for validation leaves none to train on$"):
        split_validation(labelled, 0.9, 1, "molecule")
    with pytest.raises(UserError, match="^key training.validation_split: 4 of 4 .* on; split by conformation"):
        split_of_study(labelled, 0.9, 1, "molecule")


def test_a_round_starts_from_no_validation_molecule(folder, labelled):
    """Else its labels, and so the molecule, would be trained on."""
    assert train(folder, "model.pt") == 0
    _, validation = split_validation(labelled, 0.3, 1, "molecule")
    found = {}
    for split in ("molecule", "conformation"):
        select_round(
            str(folder / "labels.h5"),
            str(folder / "model.pt"),
            str(folder / "selected.h5"),
            round_number=1,
            variant="MMFF94",
            validation_fraction=0.3,
            validation_split=split,
            machine=Machine(1, "cpu"),
            config_sha256="",
            seed=1,
            selection=Selection(
                force_threshold=1e-4,
                slots=8,
                optimizer=OptimizerSettings("lbfgs", max_step_length=0.2, history=None, variant="MMFF94"),
                n_select=20,
                max_steps=2,
                iterations_per_step=1,
            ),
        )
        found[split] = set(hdf5.read(folder / "selected.h5").molecule)
    assert found["molecule"] and not found["molecule"] & set(validation.molecule)
    assert found["conformation"] & set(validation.molecule)


def test_several_files_train_as_one_does(labelled, folder, capsys):
    """A part as extended XYZ, and conformations that are in both: the same weights as from one file, bit for bit."""
    parts = [labelled.subset(list(range(8))), labelled.subset(list(range(6, len(labelled))))]
    for name, part in zip(("a.h5", "b.extxyz"), parts, strict=True):
        write(folder / name, part)
    options = ("--config", folder / "small.yaml", "--cores", 1)
    assert golf("train", folder / "a.h5", folder / "b.extxyz", "-o", folder / "two.pt", *options) == 0
    assert golf("train", folder / "labels.h5", "-o", folder / "one.pt", *options) == 0
    assert same_weights(folder / "one.pt", folder / "two.pt")
    assert load(folder / "two.pt").provenance.level == LEVEL


def test_files_that_cannot_be_trained_on_together(labelled, folder, capsys):
    write(folder / "mp2.h5", labelled.with_columns(method="mp2"))
    write(folder / "bare.extxyz", labelled.bare())
    write(folder / "level.extxyz", replace(labelled, attrs={}))
    (folder / "bad.extxyz").write_text("1\nenergy=-1\nHe 0 0 0\n")
    for name, message in {
        "mp2.h5": f"mp2.h5: its labels and those of {folder / 'labels.h5'} differ in method: hf and mp2",
        "bare.extxyz": "bare.extxyz: none of 20 conformations has a label (status ok); label some first",
        "level.extxyz": "level.extxyz: has no attribute program, so its level is unknown; give it with --level",
        "bad.extxyz": "bad.extxyz: frame 1, line 1: has energy but no forces; give both or neither",
    }.items():
        capsys.readouterr()
        assert golf("train", folder / "labels.h5", folder / name, "-o", folder / "new.pt") == 2
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) == 1 and not (folder / "new.pt").exists()
    level = ("--level", "psi4:hf/sto-3g", "--config", folder / "small.yaml", "--cores", 1)
    assert golf("train", folder / "labels.h5", folder / "level.extxyz", "-o", folder / "new.pt", *level) == 0
