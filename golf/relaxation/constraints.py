"""Frozen atoms, and a harmonic restraint to the input geometry, in relaxations.

Frozen atoms feel no force and do not move at all. The restraint adds 1/2 K d^2 for each restrained atom at distance d
from its input position; it steers the relaxation and is in no energy or force that is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from golf.chem.molecules import molecule
from golf.chem.usable import LeftOut
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.io.pieces import Piece

HEAVY = "heavy"
"""Word for all atoms except hydrogens."""

MOST_MATCHES = 100_000
"""Limit of matches of a pattern in one molecule."""


@dataclass(frozen=True)
class Constraints:
    """What holds atoms where they are in the input.

    Attributes:
        freeze: `HEAVY`, or a SMARTS pattern: all atoms of all matches are frozen; "": none is.
        stiffness: K in hartree/angstrom^2, of all heavy atoms that are not frozen; 0: no restraint.

    Raises:
        UserError: the pattern cannot be parsed.
    """

    freeze: str = ""
    stiffness: float = 0.0

    def __post_init__(self) -> None:
        if self.freeze not in ("", HEAVY):
            _pattern(self.freeze)

    @property
    def described(self) -> dict[str, Any]:
        """Attributes that record the constraints in a file of relaxed conformations."""
        attrs: dict[str, Any] = {"relaxation_frozen": self.freeze} if self.freeze else {}
        if self.stiffness:
            attrs["relaxation_restraint"] = self.stiffness * HARTREE_IN_KCAL_PER_MOL
        return attrs

    def frozen(self, smiles: str) -> NDArray[np.bool_]:
        """Return which atoms [n] of a mapped SMILES are frozen."""
        return _frozen(smiles, self.freeze)

    def stiffnesses(self, smiles: str) -> NDArray[np.float64]:
        """Return K of each atom [n] in hartree/angstrom^2; 0 for those that are not restrained."""
        restrained = _frozen(smiles, HEAVY) & ~self.frozen(smiles)
        return np.where(restrained, self.stiffness, 0.0)


def matching(pieces: Iterable[Piece], constraints: Constraints) -> Iterator[Piece]:
    """Yield pieces without the conformations in which the pattern matches nothing, which are left out."""
    for piece in pieces:
        conformations = piece.conformations
        found = [bool(constraints.frozen(smiles).any()) for smiles in conformations.mapped_smiles]
        if all(found) or not constraints.freeze:
            yield piece
            continue
        reason = f"no atom of it is matched by --freeze {constraints.freeze}"
        unmatched = [
            LeftOut(piece.lines[i], conformations.id[i], conformations.mapped_smiles[i], reason)
            for i, matched in enumerate(found)
            if not matched
        ]
        yield replace(
            piece,
            conformations=conformations.subset(np.array(found, dtype=bool)),
            left_out=sorted([*piece.left_out, *unmatched], key=lambda out: out.line),
            lines=[line for line, matched in zip(piece.lines, found, strict=True) if matched],
        )


@lru_cache(maxsize=4096)
def _frozen(smiles: str, freeze: str) -> NDArray[np.bool_]:
    mol = molecule(smiles)
    frozen = np.zeros(mol.GetNumAtoms(), dtype=bool)
    if freeze == HEAVY:
        frozen[[atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]] = True
    elif freeze:
        for match in mol.GetSubstructMatches(_pattern(freeze), maxMatches=MOST_MATCHES):
            frozen[list(match)] = True
    frozen.flags.writeable = False
    return frozen


@lru_cache(maxsize=16)
def _pattern(smarts: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        pattern = Chem.MolFromSmarts(smarts)
    if pattern is None or not pattern.GetNumAtoms():
        raise UserError(f"--freeze {smarts}: not a SMARTS pattern; correct it, or write {HEAVY}")
    return pattern
