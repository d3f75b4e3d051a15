"""What several test files need."""

import pytest

from golf.oracles.base import LevelOfTheory


@pytest.fixture(scope="session")
def cheap_level():
    """HF/STO-3G: a label of a tiny molecule takes well under a second."""
    return LevelOfTheory("psi4", "hf", "sto-3g")
