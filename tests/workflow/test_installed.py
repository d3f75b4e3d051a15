"""golf installed from a wheel into a fresh environment, used in a folder that is not the clone."""

import json
import os
import re
import shutil
import subprocess
import zipfile
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from golf.core.packages import SCHNETPACK
from support import REPOSITORY
from support.environments import build_wheel, new_environment, pip, required

REQUIREMENTS = REPOSITORY / "requirements.txt"

EVERYTHING = """
import importlib, json, pkgutil, golf
names = [module.name for module in pkgutil.walk_packages(golf.__path__, "golf.")]
names = [name for name in names if ".workflow" not in name and not name.endswith(("_worker", ".dispersion"))]
for name in names:
    importlib.import_module(name)
print(json.dumps([golf.__file__, len(names)]))
"""
"""Import every module but those that run in Pythons of other programs."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def dependencies(wheel):
    """What the wheel requires, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    return [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """Call it with packages to have the Python of a fresh environment with them, all they require, and golf."""

    def made(*packages):
        python = new_environment(tmp_path_factory.mktemp("installed") / "venv", *packages)
        pip("install", "--no-deps", wheel, python=python)
        return python

    return made


@pytest.fixture(scope="module")
def python(environment, dependencies):
    """After the first two lines of README: golf, without SchNetPack."""
    return environment(*required(dependencies))


@pytest.fixture(scope="module")
def trainer(environment, dependencies):
    """After all three lines."""
    return environment(*required(dependencies), distribution("schnetpack"))


def lines_of_the_readme():
    """The three commands that install golf into an environment of the user's own."""
    text = (REPOSITORY / "README.md").read_text()
    return re.findall(r"^    python -m pip install (.*?)(?: +#.*)?$", text, re.MULTILINE)


def run(python, *arguments, cwd, **variables):
    """A command that is installed beside a Python, as of a shell without an activated environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [python.parent / arguments[0], *map(str, arguments[1:])],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment | variables,
    )


def test_the_three_lines_of_the_readme_are_what_is_tested():
    """The versions of requirements.txt, and golf in between."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE))
    torch, golf, schnetpack = lines_of_the_readme()
    assert torch == f"torch=={pins['torch']}"
    assert golf == "."
    assert schnetpack == f"--no-deps {SCHNETPACK}" and f"schnetpack=={pins['schnetpack']}" == SCHNETPACK


def test_dependencies_can_be_installed_together_in_the_versions_of_requirements(dependencies):
    """All but SchNetPack, which is why it has a line of its own; if that is no longer so, it need not."""
    pins = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", REQUIREMENTS.read_text(), re.MULTILINE)}
    found = {canonicalize_name(package.metadata["Name"]) for package in required(dependencies)}
    assert found - pins <= {"setuptools"}  # which comes with pip
    with pytest.raises(AssertionError, match=r"sympy<=1\.12|tensorboard|pre-commit"):
        list(required([*dependencies, SCHNETPACK]))


@pytest.mark.slow
def test_the_lines_bring_every_package_that_golf_imports(python, trainer, tmp_path):
    """In environments with nothing else; the only requirements that are not met are SchNetPack's."""
    without = run(python, "python", "-c", EVERYTHING, cwd=tmp_path)
    assert without.returncode == 1 and "No module named 'schnetpack'" in without.stderr, without.stderr
    done = run(trainer, "python", "-c", EVERYTHING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where, n_modules = json.loads(done.stdout)
    assert Path(where).is_relative_to(trainer.parent.parent) and n_modules > 100
    assert pip("check", python=python).returncode == 0
    faults = pip("check", python=trainer).stdout.splitlines()
    assert faults and all(line.startswith("schnetpack 2.1.1 ") for line in faults), faults


def test_the_workflow_is_in_the_wheel(python, tmp_path):
    """All files of the clone that Snakemake reads, in their layout."""
    site = next((python.parent.parent / "lib").glob("python*/site-packages"))
    folders = ("rules", "workflow_scripts", "envs", "profiles", "report", "slurm")
    tracked = subprocess.run(
        ["git", "ls-files", "Snakefile", *folders], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout.splitlines()
    assert len(tracked) > 50
    for name in tracked:
        assert (site / "golf/workflow" / name).read_bytes() == (REPOSITORY / name).read_bytes(), name
    assert (site / "golf/schemas/config.schema.yaml").is_file() and (site / "golf/py.typed").is_file()


def test_a_profile_is_written_where_there_is_none(python, tmp_path):
    """It has lines to edit, so nothing is submitted yet."""
    (tmp_path / "my.smi").write_text("O water\nCO methanol\n")
    (tmp_path / "my.yaml").write_text("dataset: {train: my.smi, conformers: 2, test_conformers: 1}\n")
    done = run(python, "golf", "run", "my.yaml", "--profile", "slurm", "-n", cwd=tmp_path)
    assert done.returncode == 2 and "slurm/config.yaml: written; edit the lines marked EDIT" in done.stderr
    assert (tmp_path / "slurm/config.yaml").read_bytes() == (REPOSITORY / "slurm/config.yaml").read_bytes()


@pytest.mark.study
@pytest.mark.psi4
def test_a_wheel_relaxes_a_molecule_and_runs_a_study(python, trainer, model, tmp_path):
    """Several minutes: configs/tiny.yaml with real Psi4."""
    (tmp_path / "one.smi").write_text("CO methanol\n")
    relaxed = run(python, "golf", "relax", "one.smi", "-m", model, "-o", "relaxed.sdf", cwd=tmp_path)
    assert relaxed.returncode == 0 and (tmp_path / "relaxed.sdf").stat().st_size > 0, relaxed.stderr

    (tmp_path / "tests").mkdir()
    shutil.copy(REPOSITORY / "tests/molecules.smi", tmp_path / "tests")
    shutil.copy(REPOSITORY / "configs/tiny.yaml", tmp_path)
    refused = run(python, "golf", "run", "tiny.yaml", "--cores", "2", cwd=tmp_path)
    assert refused.returncode == 2 and not (tmp_path / "results").exists()
    assert refused.stderr.endswith(f"type: {python} -m pip install --no-deps {SCHNETPACK}\n")

    done = run(trainer, "golf", "run", "tiny.yaml", "--cores", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert (tmp_path / "results/tiny/report.html").is_file() and (tmp_path / "results/tiny/models/final.pt").is_file()
    assert "E_res kcal/mol" in done.stdout
    again = run(trainer, "golf", "run", "tiny.yaml", "--cores", "2", cwd=tmp_path)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr
