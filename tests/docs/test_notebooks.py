"""The notebooks run, and show what they print: the same words, and numbers that differ by no more than programs do."""

import re

import pytest

from support import REPOSITORY
from support.notebooks import printed, stored

NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"-?\d+\.\d+|\b\d+ steps")
CLOSE = 0.05  # kcal/mol, eV, angstrom; hartree are shown to 1e-3 and better


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_print_what_they_show(path):
    for found, shown in zip(printed(path), stored(path), strict=True):
        assert " ".join(NUMBER.sub("#", found).split()) == " ".join(NUMBER.sub("#", shown).split())
        numbers = [[float(text) for text in NUMBER.findall(part) if "steps" not in text] for part in (found, shown)]
        assert numbers[0] == pytest.approx(numbers[1], abs=CLOSE)


def test_the_pages_link_to_every_notebook():
    page = (REPOSITORY / "docs/python.md").read_text()
    assert len(NOTEBOOKS) == 2 and all(f"(notebooks/{path.name})" in page for path in NOTEBOOKS)
