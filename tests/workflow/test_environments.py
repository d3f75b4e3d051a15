"""requirements.txt, the conda environments and the set-up name the same versions; the package has all its files."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from support import REPOSITORY


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return dict(without_marker(line).lower().split("==") for line in lines if line and not line.startswith("#"))


def without_marker(requirement: str) -> str:
    """name==version; a marker after it says on which machines the package is to be had."""
    return requirement.partition(" ; ")[0]


def test_every_requirement_is_an_exact_version() -> None:
    lines = [line for line in (REPOSITORY / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", without_marker(line)), f"{line}: not name==version"
    assert len(pins()) == len(lines)


@pytest.mark.parametrize("name", ["nnp", "report"])
def test_conda_environment_has_the_versions_of_requirements(name: str) -> None:
    environment = yaml.safe_load((REPOSITORY / "envs" / f"{name}.yaml").read_text())
    (packages,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    assert {without_marker(package).lower() for package in packages} <= {
        f"{name}=={version}" for name, version in pins().items()
    }


def test_schnetpack_after_the_conda_environment_has_the_same_version() -> None:
    script = (REPOSITORY / "envs" / "nnp.post-deploy.sh").read_text()
    assert f"schnetpack=={pins()['schnetpack']}" in script


def test_an_installed_package_has_every_file_it_needs(tmp_path: Path) -> None:
    """Built as pip builds it, and used where there is no clone."""
    clone, site = tmp_path / "clone", tmp_path / "site"
    for name in ("golf", "schemas"):
        shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(REPOSITORY / name, clone)

    def run(*command: str, cwd: Path, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, check=False, cwd=cwd, env=os.environ | variables
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-c", "from setuptools import build_meta; build_meta.build_wheel('..')", cwd=clone)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    here = {path.relative_to(clone) for path in (clone / "golf").rglob("*") if path.is_file()}
    assert here <= {path.relative_to(site) for path in site.rglob("*")}

    (tmp_path / "two.smi").write_text("O water\nCO methanol\n")
    dataset = "dataset: {train: two.smi, conformers: 2, test_conformers: 1}\n"
    (tmp_path / "study.yaml").write_text(f"{dataset}oracle: {{program: ase, method: tblite:GFN2-xTB}}\n")
    where = run("-c", "import golf; print(golf.__file__)", cwd=tmp_path, PYTHONPATH=str(site))
    assert where.strip() == str(site / "golf/__init__.py")
    told = run("-m", "golf.cli.main", "estimate", "study.yaml", cwd=tmp_path, PYTHONPATH=str(site))
    assert "initial labels" in told
