"""This workflow as a module of another one, with a prefix."""

import subprocess
import sys

import pytest

from golf.core.hdf5 import read
from support import REPOSITORY
from support.environments import new_environment, required

CONFIG = """
golf:
  dataset: {train: my.smi, conformers: 2, test_molecules: [methane], test_conformers: 1}
  oracle: {program: ase, method: "tblite:GFN2-xTB"}
"""

SNAKEFILE = f"""
configfile: "config.yaml"

module golf:
    snakefile: "{REPOSITORY}/Snakefile"
    config: config["golf"]
    prefix: "study"

use rule * from golf as golf_*

rule count:
    default_target: True
    input: "study/results/dataset/train.h5"
    output: "count.txt"
    shell: "ls {{input}} > {{output}}"
"""


@pytest.fixture
def theirs(tmp_path):
    """The folder of a workflow that imports this one."""
    (tmp_path / "my.smi").write_text("O water\nCO methanol\nC methane\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def snakemake(folder, *arguments, python=sys.executable):
    return subprocess.run(
        [python, "-m", "snakemake", *arguments], capture_output=True, text=True, check=False, cwd=folder
    )


@pytest.mark.slow
def test_another_workflow_makes_the_data_set_of_a_study(theirs):
    """Results have the prefix, the molecules that the user names have not."""
    done = snakemake(theirs, "--cores", "1")
    assert done.returncode == 0, done.stderr[-5000:]
    assert sorted(set(read(theirs / "study/results/dataset/train.h5").molecule)) == ["methanol", "water"]
    assert (theirs / "count.txt").read_text() == "study/results/dataset/train.h5\n"
    assert not (theirs / "results").exists()
    again = snakemake(theirs, "--cores", "1")
    assert "Nothing to be done" in again.stdout + again.stderr
    # the configuration that is recorded there is compared with the next one
    (theirs / "config.yaml").write_text(CONFIG.replace("conformers: 2", "conformers: 3"))
    other = snakemake(theirs, "--cores", "1")
    assert other.returncode == 1 and "study/results: holds results of another config" in other.stderr


def test_another_workflow_plans_the_whole_study(theirs):
    """Local rules, captions and scripts are found from there."""
    planned = snakemake(theirs, "-n", "golf_all")
    assert planned.returncode == 0, planned.stderr[-5000:]
    text = planned.stdout + planned.stderr
    assert "localrule golf_merge_labels:" in text or "golf_merge_labels" in text
    assert "input: study/results/models/final.pt, study/results/evaluation/summary.csv" in text


def test_without_golf_one_line_says_what_to_install(theirs, tmp_path):
    """As from a remote repository: the rules alone, and a Python that has Snakemake but not golf."""
    rules = tmp_path / "rules of golf"
    rules.mkdir()
    for name in ("Snakefile", "rules"):
        (rules / name).symlink_to(REPOSITORY / name)
    (theirs / "Snakefile").write_text(SNAKEFILE.replace(str(REPOSITORY), str(rules)))
    python = new_environment(tmp_path / "venv", *required(["snakemake"]))
    done = snakemake(theirs, "-n", python=python)
    last = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 1 and len(last) == 1 and "Traceback" not in done.stderr, done.stderr
    assert "has no package golf," in last[0] and f"{python} -m pip install" in last[0]
