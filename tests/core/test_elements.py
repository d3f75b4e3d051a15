"""The table of symbols against ASE's and RDKit's."""

from ase.data import chemical_symbols
from rdkit import Chem

from golf.core.elements import SYMBOLS


def test_every_element_has_its_symbol():
    """A molecule with any element has to be named where it cannot be used."""
    assert chemical_symbols == SYMBOLS and len(SYMBOLS) == 119
    table = Chem.GetPeriodicTable()
    assert SYMBOLS[1:] == [table.GetElementSymbol(z) for z in range(1, 119)]
