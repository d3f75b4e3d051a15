"""Find the atoms that a SMARTS pattern matches, within a limit of time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from golf.chem import limited
from golf.chem.molecules import molecule

MOST_MATCHES = 100_000
"""Limit of matches of a pattern in one molecule."""

SECONDS = 10.0
"""Limit of the processor time to match a pattern; it takes milliseconds, but hours if many atoms may be any atom."""


def is_pattern(smarts: str) -> bool:
    """Tell whether a text is a SMARTS pattern with at least one atom."""
    with rdBase.BlockLogs():
        pattern = Chem.MolFromSmarts(smarts)
    return pattern is not None and pattern.GetNumAtoms() > 0


@lru_cache(maxsize=4096)
def matched_atoms(smiles: str, smarts: str) -> NDArray[np.bool_]:
    """Return which atoms [n] of a mapped SMILES, hydrogens included, are in a match of a pattern.

    Raises:
        NotFinished: the time limit was reached.
    """
    matched = np.zeros(molecule(smiles).GetNumAtoms(), dtype=bool)
    matched[limited.call(atoms_in_matches, smiles, smarts, seconds=SECONDS)] = True
    matched.flags.writeable = False
    return matched


def atoms_in_matches(smiles: str, smarts: str) -> list[int]:
    """Return the atoms in the matches of a pattern, which may take very long."""
    matches = molecule(smiles).GetSubstructMatches(Chem.MolFromSmarts(smarts), maxMatches=MOST_MATCHES)
    return sorted({atom for match in matches for atom in match})
