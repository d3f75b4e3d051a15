"""The page of potentials lists what the catalog has, with its elements, charge and licence."""

import re

from golf.potentials.catalog import CATALOG
from support import REPOSITORY


def test_the_table_is_that_of_the_catalog():
    page = (REPOSITORY / "docs/potentials.md").read_text()
    rows = {}
    for line in page.splitlines():
        if line.startswith("| `") and not line.startswith("| `ase:"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            for name in re.findall(r"`([^`]+)`", cells[0]):
                rows[name] = cells[1:]
    assert rows.keys() == CATALOG.keys()
    for name, (_, elements, charged, _, licence) in rows.items():
        card = CATALOG[name]
        assert elements == card.words().replace("-", " to "), name
        assert charged == ("yes" if card.takes_charge else "no"), name
        assert card.licence.startswith(licence), name
