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

from golf.chem import limited
from golf.chem.molecules import molecule
from golf.chem.patterns import is_pattern, matched_atoms
from golf.chem.usable import LeftOut
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.io.pieces import Piece

HEAVY = "heavy"
"""Word for all atoms except hydrogens."""


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
        if self.freeze not in ("", HEAVY) and not is_pattern(self.freeze):
            raise UserError(f"--freeze {self.freeze}: not a SMARTS pattern; correct it, or write {HEAVY}")

    @property
    def described(self) -> dict[str, Any]:
        """Attributes that record the constraints in a file of relaxed conformations."""
        attrs: dict[str, Any] = {"relaxation_frozen": self.freeze} if self.freeze else {}
        if self.stiffness:
            attrs["relaxation_restraint"] = self.stiffness * HARTREE_IN_KCAL_PER_MOL
        return attrs

    def frozen(self, smiles: str) -> NDArray[np.bool_]:
        """Return which atoms [n] of a mapped SMILES are frozen.

        Raises:
            NotFinished: the pattern could not be matched within a time limit.
        """
        if not self.freeze:
            return np.zeros_like(_heavy(smiles))
        return _heavy(smiles) if self.freeze == HEAVY else matched_atoms(smiles, self.freeze)

    def stiffnesses(self, smiles: str) -> NDArray[np.float64]:
        """Return K of each atom [n] in hartree/angstrom^2; 0 for those that are not restrained."""
        restrained = _heavy(smiles) & ~self.frozen(smiles)
        return np.where(restrained, self.stiffness, 0.0)


def matching(pieces: Iterable[Piece], constraints: Constraints) -> Iterator[Piece]:
    """Yield pieces without the conformations in which the pattern matches nothing, which are left out."""
    for piece in pieces:
        conformations = piece.conformations
        reasons = [
            _unmatched(constraints, smiles) if constraints.freeze else "" for smiles in conformations.mapped_smiles
        ]
        if not any(reasons):
            yield piece
            continue
        unmatched = [
            LeftOut(piece.lines[i], conformations.id[i], conformations.mapped_smiles[i], reason)
            for i, reason in enumerate(reasons)
            if reason
        ]
        yield replace(
            piece,
            conformations=conformations.subset(np.array([not reason for reason in reasons], dtype=bool)),
            left_out=sorted([*piece.left_out, *unmatched], key=lambda out: out.line),
            lines=[line for line, reason in zip(piece.lines, reasons, strict=True) if not reason],
        )


@lru_cache(maxsize=4096)
def _heavy(smiles: str) -> NDArray[np.bool_]:
    heavy = np.array([atom.GetAtomicNum() > 1 for atom in molecule(smiles).GetAtoms()], dtype=bool)
    heavy.flags.writeable = False
    return heavy


def _unmatched(constraints: Constraints, smiles: str) -> str:
    """Return why no atom of a mapped SMILES is frozen; "" if one is."""
    try:
        matched = constraints.frozen(smiles).any()
    except limited.NotFinished as error:
        return f"--freeze {constraints.freeze} could not be matched: {error}"
    return "" if matched else f"no atom of it is matched by --freeze {constraints.freeze}"
