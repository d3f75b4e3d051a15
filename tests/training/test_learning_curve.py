"""`golf learning-curve`: the fit against made-up errors, the criterion, and real trainings on subsets."""

import csv
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from golf.cli.main import main
from golf.core import hdf5
from golf.training.learning_curve import Point, power_law, verdict
from golf.training.recipe import split_validation
from support import REPOSITORY
from support.mmff_labels import labelled_conformers

LEVEL = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}
SMALL = """
dataset: {train: elsewhere.smi}
nnp: {n_atom_basis: 16, n_interactions: 2, n_rbf: 8, cutoff: 4.0}
training: {batch_size: 8, learning_rate: 3.0e-3, validation_interval: 50}
"""


def points(a, b, *sizes, on_own_labels=0.1):
    return [Point(n / sizes[-1], n, a * n**-b, 1.0, on_own_labels * a * n**-b) for n in sizes]


def test_the_fit_finds_the_law_that_made_the_errors():
    assert power_law(points(30.0, 0.4, 50, 100, 200)) == pytest.approx((30.0, 0.4))
    noisy = [replace(p, force_error=p.force_error * f) for p, f in zip(points(30, 0.4, 50, 800), (1.1, 0.9))]
    assert power_law(noisy)[1] == pytest.approx(0.4 + np.log(1.1 / 0.9) / np.log(16))


@pytest.mark.parametrize(
    ("b", "says"),
    [
        # 30 * 200^-0.4 = 3.60; 30 * 400^-0.4 = 2.73, which is 2^-0.4 = 0.758 of it
        (
            0.4,
            "would still help a lot: by the fit 30 n.-0.40, 400 instead of 200 labels .* from 3.60 to 2.73 .*24 %",
        ),
        (0.153, "would still help a lot"),
        (0.151, "would not help a lot"),
    ],
)
def test_more_labels_help_where_twice_as_many_remove_a_tenth(b, says):
    sentence = verdict(points(30.0, b, 50, 100, 200))
    assert re.search(says, sentence) and sentence.count(". ") == 0 and sentence.endswith(".")


def test_a_network_that_has_not_learned_its_labels_says_nothing_about_more_of_them():
    sentence = verdict(points(30.0, 0.1, 50, 100, 200, on_own_labels=0.9))
    assert "has not learned its 200 labels" in sentence and "train for more updates" in sentence
    assert "would still help a lot" in verdict(points(30.0, 0.4, 50, 100, 200, on_own_labels=0.9))


@pytest.mark.parametrize(
    ("b", "own", "says"),
    [
        # 2 * 200^0.2 = 5.77, of which a tenth on the labels
        (
            -0.2,
            0.1,
            "of more or other molecules are needed: .* error 0.58 kcal.* is 5.77 and does not fall from 50",
        ),
        (-1e-6, 0.49, "of more or other molecules are needed: .* error 0.98 kcal.* is 2.00 "),
        (
            -1e-6,
            0.51,
            "does not fall from 50 to 200 labels, so the benefit .*: train for more updates",
        ),
        (-0.2, 0.9, "does not fall .*: train for more updates"),
    ],
)
def test_an_error_that_does_not_fall_is_of_the_molecules_or_of_the_training(b, own, says):
    sentence = verdict(points(2.0, b, 50, 100, 200, on_own_labels=own))
    assert re.search(says, sentence) and sentence.count(". ") == 0 and sentence.endswith(".")
    assert ("more updates" in sentence) == (own > 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("curve")
    labelled = labelled_conformers(["OC=O", "CCO", "CO", "CC=O", "COC"], 12).with_columns(**LEVEL)
    hdf5.write(path / "labels.h5", labelled)
    (path / "small.yaml").write_text(SMALL)
    return path


def curve(folder, output, *options):
    arguments = ["learning-curve", folder / "labels.h5", "-o", folder / output, "--config", folder / "small.yaml"]
    return main([str(argument) for argument in (*arguments, "--cores", 1, *options)])


@pytest.mark.slow
def test_errors_on_other_molecules_fall_with_labels(folder, capsys):
    options = ("--fractions", 0.1, 1, 0.3, "--updates", 150)
    assert curve(folder, "curve.csv", *options) == 0
    said = capsys.readouterr().out.splitlines()
    with open(folder / "curve.csv") as file:
        rows = list(csv.DictReader(file))
    training, validation = split_validation(hdf5.read(folder / "labels.h5"), 0.2, 1, "molecule")
    assert len(set(validation.molecule)) == 1 and len(training) == 48
    assert [int(row["n_labels"]) for row in rows] == [5, 14, 48]
    found = [float(row["validation_force_mae_kcal_per_mol_angstrom"]) for row in rows]
    assert found[0] > found[2] > 0.0
    own = [float(row["training_force_mae_kcal_per_mol_angstrom"]) for row in rows]
    assert 0.0 < own[0] < found[0], "five labels are learned by heart"
    assert said[-1].startswith("More initial labels ") and len(said) == 4 and not (folder / "curve.work").exists()
    before = (folder / "curve.csv").read_text()
    assert curve(folder, "curve.csv", *options) == 2 and "exists" in capsys.readouterr().err
    assert curve(folder, "curve.csv", *options, "--force") == 0 and (folder / "curve.csv").read_text() == before


def test_a_finished_subset_is_not_trained_again(folder, capsys, caplog):
    caplog.set_level("INFO")
    assert curve(folder, "part.csv", "--fractions", 0.2, 0.4, "--updates", 3, "--learning-rate", 1e30) == 2
    assert "training on 10 labels: the loss of update" in capsys.readouterr().err
    assert curve(folder, "part.csv", "--fractions", 0.2, 0.4, "--updates", 3) == 0
    assert not (folder / "part.work").exists()


@pytest.mark.slow
def test_an_interrupted_curve_says_so_and_goes_on(folder):
    arguments = ["learning-curve", folder / "labels.h5", "-o", folder / "cut.csv", "--config", folder / "small.yaml"]
    arguments = [str(argument) for argument in (*arguments, "--fractions", 0.5, 1, "--updates", 60, "--cores", 1)]
    command = [sys.executable, "-m", "golf.cli.main", *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not (folder / "cut.work" / "24.csv").exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.splitlines()[-1].startswith(
        "golf: interrupted; run the same command again"
    )
    assert main(arguments) == 0 and not (folder / "cut.work").exists()
    assert main([*arguments[:3], str(folder / "whole.csv"), *arguments[4:]]) == 0
    assert (folder / "cut.csv").read_text() == (folder / "whole.csv").read_text()


def test_wrong_input_is_one_line_and_status_2(folder, capsys):
    hdf5.write(folder / "one.h5", labelled_conformers(["CCO"], 4).with_columns(**LEVEL))
    (folder / "empty.h5").write_bytes(b"")
    labels, out = folder / "labels.h5", ("-o", folder / "out.csv")
    for message, arguments in {
        "nowhere.h5: no such file": (folder / "nowhere.h5", *out),
        "empty.h5: not a readable HDF5 file": (folder / "empty.h5", *out),
        "error: --validation-fraction 0.2: 1 of 1 molecules for validation leaves none to train on; give labels of": (
            folder / "one.h5",
            *out,
        ),
        "error: --updates: 0 is less than": (labels, *out, "--updates", 0),
        "--fractions: needs at least two numbers above 0": (labels, *out, "--fractions", 1),
        "--fractions: needs at least two numbers above 0 and": (labels, *out, "--fractions", 0.5, 1.5),
        "subsets of 0, 48 of 48 labels: sizes must differ": (labels, *out, "--fractions", 0.001, 1),
        "subsets of 24, 24 of 48 labels: sizes must differ": (labels, *out, "--fractions", 0.5, 0.501),
        "needs validation molecules": (labels, *out, "--validation-fraction", 0),
        "out.txt: unknown suffix": (labels, "-o", folder / "out.txt"),
        "missing does not exist or is not": (labels, "-o", folder / "missing" / "out.csv"),
    }.items():
        assert main(["learning-curve", *map(str, arguments)]) == 2
        printed = capsys.readouterr().err
        assert message in printed and printed.count("\n") == 1, printed
        assert not list(folder.glob("out.*"))
