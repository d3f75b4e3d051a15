"""What several test files need."""

import pytest

from golf.costs import Basis
from golf.oracles.base import LevelOfTheory


@pytest.fixture(scope="session")
def cheap_level():
    """HF/STO-3G: a label of a tiny molecule takes well under a second."""
    return LevelOfTheory("psi4", "hf", "sto-3g")


@pytest.fixture(scope="session")
def cheap_basis():
    """Basis functions of STO-3G, as Psi4 counts them (tests/test_costs.py)."""
    return Basis({1: 1, 6: 5, 7: 5, 8: 5, 17: 9, 35: 18})
