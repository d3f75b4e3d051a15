"""What several test files need."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from golf.core.level import LevelOfTheory
from golf.nnp import kernels
from golf.nnp.potential import Architecture, Potential
from golf.oracles.costs import Basis
from golf.oracles.programs.interpreter import find_psi4
from support import REPOSITORY
from support.browser import Page
from support.data_sets import labelled_part

MARKERS = {"psi4": "psi4", "chromium": "browser", "slurm": "slurm"}
"""Fixtures that start something, and the marker of all tests that have them, directly or not."""


def pytest_collection_modifyitems(items):
    for item in items:
        for fixture, marker in MARKERS.items():
            if fixture in item.fixturenames:
                item.add_marker(marker)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Hide Psi4 from a test without its marker, so that no marker is forgotten."""
    with pytest.MonkeyPatch.context() as environment:
        if item.get_closest_marker("psi4") is None:
            environment.setenv("GOLF_PSI4_PYTHON", "/only/for/tests/marked/psi4")
        return (yield)


@pytest.fixture(scope="session")
def psi4():
    """The Python that has Psi4."""
    return find_psi4()


@pytest.fixture(scope="session")
def cheap_level():
    """HF/STO-3G: a label of a tiny molecule takes well under a second."""
    return LevelOfTheory("psi4", "hf", "sto-3g")


@pytest.fixture(scope="session")
def cheap_basis():
    """Basis functions of STO-3G, as Psi4 counts them (tests/oracles/test_costs.py)."""
    return Basis({1: 1, 6: 5, 7: 5, 8: 5, 17: 9, 35: 18})


REFERENCE = Path(os.environ.get("GOLF_REFERENCE_DATA", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def reference_data():
    """Folder of published conformations and weights (data/ and checkpoints/)."""
    if not (REFERENCE / "checkpoints").is_dir():
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent(f"{REFERENCE}: no published data and checkpoints there; set GOLF_REFERENCE_DATA")
    return REFERENCE


@pytest.fixture(scope="session")
def labelled():
    """Real conformations of three molecules, four each, with DFT labels at nablaDFT's level."""
    return labelled_part()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A real network of H C N O F, small and untrained: for tests in which its predictions are of no concern."""
    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.manual_seed(1)
    energies = dict.fromkeys((1, 6, 7, 8, 9), -0.5)
    Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=6), energies).save(path)
    return path


@pytest.fixture
def without_kernels(monkeypatch):
    """Call it to have the tensor operations from then on."""

    def off():
        monkeypatch.setenv(kernels.SWITCH, "off")
        monkeypatch.setattr(kernels, "_FOUND", {})

    return off


@pytest.fixture(scope="session")
def chromium():
    """The browser; where it is missing a test says so, and in CI fails."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent(f"none of {', '.join(names)} is installed; type: sudo apt-get install chromium")
    return found


@pytest.fixture
def page(tmp_path_factory, chromium):
    """Call it with a width in pixels to have a page of headless Chromium."""
    opened = []

    def new(width=1280, dark=False):
        opened.append(Page(chromium, tmp_path_factory.mktemp("profile"), width, dark=dark))
        return opened[-1]

    yield new
    for one in opened:
        one.close()
