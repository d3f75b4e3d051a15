"""What several test files need: where the reference data are, and a cheap level of theory."""

import os
from pathlib import Path

import pytest

from golf.oracles.base import LevelOfTheory

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def cheap_level():
    """HF/STO-3G: a label of a tiny molecule takes well under a second."""
    return LevelOfTheory("psi4", "hf", "sto-3g")


@pytest.fixture(scope="session")
def reference_data():
    """Published conformations, labels and weights; GOLF_REFERENCE_DATA says where they are."""
    folder = Path(os.environ.get("GOLF_REFERENCE_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.fail(
            f"no reference data in {folder}: set GOLF_REFERENCE_DATA to the folder that holds data/ and checkpoints/"
        )
    return folder
