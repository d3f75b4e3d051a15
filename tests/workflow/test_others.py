"""A study that trains nothing: potentials by name and ends of another program as arms beside MMFF, with real labels."""

import subprocess
import sys

import pandas
import pytest
import yaml

from golf.cli.main import main
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.study.config import validated
from golf.study.plan import RELATIVE, check_models
from support import REPOSITORY

CONFIG = """
seed: 3
results_dir: results
dataset: {train: molecules.smi, conformers: 1, test_molecules: [ethylamine], test_conformers: 1}
oracle: {program: ase, method: "tblite:GFN1-xTB"}
golf: {rounds: 0}
evaluation:
  arms: [mmff]
  models: {xtb: gfn2}
  geometries: {other: ends.sdf}
  trajectory_conformations: 1
"""


def snakemake(*arguments):
    command = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), "--configfile", "c.yaml"]
    return subprocess.run([*command, "--cores", "2", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.study
def test_potentials_and_ends_of_others_get_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "molecules.smi").write_text("CCN ethylamine\nNCCO aminoethanol\n")
    (tmp_path / "ends.sdf").write_text("not yet\n")
    done = snakemake("results/dataset/test.h5")
    assert done.returncode == 0, done.stderr
    assert main(["relax", "results/dataset/test.h5", "-m", "gfn1", "-o", "ends.sdf", "--force"]) == 0
    done = snakemake()
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv("results/evaluation/summary.csv").set_index("arm")
    assert [*table.index] == ["mmff", "xtb", "other"]
    # The ends of the oracle's own level are its minima; those of GFN2 are not, and those of MMFF less so
    e_res = table["residual_energy_kcal_mol"]
    assert abs(e_res["other"]) < 0.02 < e_res["xtb"] < e_res["mmff"]
    assert read("results/evaluation/xtb/relaxed.h5").values["n_force_evaluations"].min() > 3
    assert (tmp_path / "results" / "evaluation" / "xtb" / "trajectory.csv").is_file()
    assert "gfn2" in (tmp_path / "results" / "report.html").read_text()


def test_a_potential_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOLF_MODELS", str(tmp_path / "nothing"))
    (tmp_path / "molecules.smi").write_text("CCN ethylamine\nNCCO aminoethanol\n")
    typo = f"GFN2: no such file; give a model file of golf, {RELATIVE} (or did you mean the potential gfn2?)"
    for given, message in (
        ("GFN2", f"key evaluation.models.xtb: {typo}"),
        ("gfn2", "key evaluation.geometries.other: ends.sdf: no such file; give a file of geometries"),
        ("golf-10k", "key evaluation.models.xtb: potential golf-10k is not on this machine; run: golf models download"),
        ("golf-99k", "key evaluation.models.xtb: golf-99k: no such file"),
        ("ase:EMT", "key evaluation.models.xtb: potential 'ase:EMT': not an import path"),
    ):
        config = validated(yaml.safe_load(CONFIG.replace("gfn2", given)), "c.yaml")
        with pytest.raises(UserError) as error:
            check_models(config)
        assert str(error.value).startswith(message)


def test_names_of_arms_are_not_used_twice():
    for wrong, message in (("mmff: ends.sdf", "built-in arm"), ("xtb: ends.sdf", "an arm of evaluation.models")):
        with pytest.raises(UserError, match=rf"key evaluation\.geometries: \w+ is the name of .*{message}"):
            validated(yaml.safe_load(CONFIG.replace("other: ends.sdf", wrong)), "c.yaml")
