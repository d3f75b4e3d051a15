"""requirements.txt, the conda environments and the set-up name the same versions."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return dict(without_marker(line).lower().split("==") for line in lines if line and not line.startswith("#"))


def without_marker(requirement: str) -> str:
    """name==version; a marker after it says on which machines the package is to be had."""
    return requirement.partition(" ; ")[0]


def test_every_requirement_is_an_exact_version() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", without_marker(line)), f"{line}: not name==version"
    assert len(pins()) == len(lines)


@pytest.mark.parametrize("name", ["nnp", "report"])
def test_conda_environment_has_the_versions_of_requirements(name: str) -> None:
    environment = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())
    (packages,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    assert {without_marker(package).lower() for package in packages} <= {
        f"{name}=={version}" for name, version in pins().items()
    }


def test_schnetpack_after_the_conda_environment_has_the_same_version() -> None:
    script = (ROOT / "envs" / "nnp.post-deploy.sh").read_text()
    assert f"schnetpack=={pins()['schnetpack']}" in script
