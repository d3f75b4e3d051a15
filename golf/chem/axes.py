"""Axial stereochemistry, which RDKit does not mark: allenes, longer cumulenes and hindered biaryls.

An axis is described by the dihedral angle of four atoms: the sign is the handedness of an allene or biaryl, the
magnitude tells cis from trans in a cumulene with an odd number of double bonds. RDKit keeps the handedness of a biaryl
that the input states (CXSMILES wU, wD). It discards what a SMILES states about allenes and cumulenes, so that is read
here.

SMILES of allenes and cumulenes: OpenSMILES specification 1.0, sections 3.8.4 and 3.8.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from golf.chem.molecules import molecule

STATED = "_golf_axes"
"""Property of a molecule: axes whose side the SMILES states (JSON: atoms of the dihedral angle, and side)."""

HINDERING = 3
"""Number of ortho substituents of a biaryl from which on it does not rotate at room temperature."""

SMALL_RING = 9
"""A cumulene in a smaller ring has only one possible side."""

_ATROPISOMERS = (Chem.BondStereo.STEREOATROPCW, Chem.BondStereo.STEREOATROPCCW)


@dataclass(frozen=True)
class Axis:
    """A stereogenic axis.

    Attributes:
        atoms: a, i, j, b; i and j are the ends of the axis, a and b one substituent of each.
        is_hand: whether the sign of the dihedral angle distinguishes the isomers; else they are cis and trans.
        stated: whether the input states the side and RDKit keeps it.
        side: the side that the SMILES states, True for a positive angle or cis; None if it states none.
    """

    atoms: tuple[int, int, int, int]
    is_hand: bool
    stated: bool = False
    side: bool | None = None

    def side_of(self, positions: NDArray) -> bool:
        """Return the side of the axis in a geometry [n_atoms, 3]."""
        conformer = Chem.Conformer(len(positions))
        conformer.SetPositions(np.asarray(positions, np.float64))
        angle = rdMolTransforms.GetDihedralDeg(conformer, *self.atoms)
        return angle > 0.0 if self.is_hand else abs(angle) < 90.0


def axes(mol: Chem.Mol) -> list[Axis]:
    """Find the stereogenic axes of a molecule with explicit hydrogens."""
    known = {(i, j): (a, b, side) for a, i, j, b, side in _stated(mol)}
    chains = list(_cumulenes(mol))
    bonds = [bond for bond in mol.GetBonds() if bond.GetStereo() in _ATROPISOMERS or _is_hindered(bond)]
    if not chains and not bonds:  # as in most molecules; ranks take longer than everything else here
        return []
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    found = []
    for chain in chains:
        i, j = chain[0], chain[-1]
        ends = [_substituents(mol, end, inner, ranks) for end, inner in ((i, chain[1]), (j, chain[-2]))]
        if all(ends):
            a, b, side = known.get((i, j), (ends[0][0], ends[1][0], None))
            found.append(Axis((a, i, j, b), len(chain) % 2 == 1, side=side))
    for bond in bonds:
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        ends = [_substituents(mol, end, other, ranks) for end, other in ((i, j), (j, i))]
        if all(ends):
            found.append(Axis((ends[0][0], i, j, ends[1][0]), True, bond.GetStereo() in _ATROPISOMERS))
    return found


@lru_cache(maxsize=4096)
def axes_of(smiles: str) -> tuple[Axis, ...]:
    """Find the stereogenic axes of the molecule of a mapped SMILES."""
    return tuple(axes(molecule(smiles)))


def _stated(mol: Chem.Mol) -> list[tuple[int, int, int, int, bool]]:
    return [tuple(one) for one in json.loads(mol.GetProp(STATED))] if mol.HasProp(STATED) else []


def _substituents(mol: Chem.Mol, end: int, inner: int, ranks: Sequence[int]) -> list[int]:
    """Return the two substituents of an end, a heavy atom first; empty unless there are two that differ."""
    others = [atom for atom in mol.GetAtomWithIdx(end).GetNeighbors() if atom.GetIdx() != inner]
    others.sort(key=lambda atom: (atom.GetAtomicNum() == 1, -ranks[atom.GetIdx()]))
    differ = len(others) == 2 and ranks[others[0].GetIdx()] != ranks[others[1].GetIdx()]
    return [atom.GetIdx() for atom in others] if differ else []


def _cumulenes(mol: Chem.Mol) -> Iterator[list[int]]:
    """Yield the atoms of each chain of two or more double bonds, from the end with the lower index."""
    doubles: dict[int, list[int]] = {}
    for bond in mol.GetBonds():
        if bond.GetBondType() == Chem.BondType.DOUBLE and not _in_small_ring(mol, bond):
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            doubles.setdefault(i, []).append(j)
            doubles.setdefault(j, []).append(i)
    inner = {i for i, others in doubles.items() if len(others) == 2 and mol.GetAtomWithIdx(i).GetDegree() == 2}
    for start in sorted(set(doubles) - inner):
        for following in doubles[start]:
            chain = [start, following]
            while chain[-1] in inner:
                chain.append(next(i for i in doubles[chain[-1]] if i != chain[-2]))
            if len(chain) > 2 and chain[0] < chain[-1]:
                yield chain


def _in_small_ring(mol: Chem.Mol, bond: Chem.Bond) -> bool:
    return any(len(ring) < SMALL_RING and bond.GetIdx() in ring for ring in mol.GetRingInfo().BondRings())


def _is_hindered(bond: Chem.Bond) -> bool:
    """Tell whether a bond joins two aromatic rings and has at least `HINDERING` ortho substituents."""
    if bond.GetBondType() != Chem.BondType.SINGLE or bond.IsInRing():
        return False
    ends = (bond.GetBeginAtom(), bond.GetEndAtom())
    if not all(end.GetIsAromatic() for end in ends):
        return False
    beside = [
        atom for end, other in (ends, ends[::-1]) for atom in end.GetNeighbors() if atom.GetIdx() != other.GetIdx()
    ]
    taken = sum(
        any(
            other.GetAtomicNum() > 1 and not atom.GetOwningMol().GetBondBetweenAtoms(*pair).GetIsAromatic()
            for other in atom.GetNeighbors()
            if (pair := (atom.GetIdx(), other.GetIdx()))
        )
        or atom.GetOwningMol().GetRingInfo().NumAtomRings(atom.GetIdx()) > 1
        for atom in beside
    )
    return taken >= HINDERING


def with_stated_axes(mol: Chem.Mol, smiles: str) -> Chem.Mol:
    """Add what a SMILES states about allenes and cumulenes to its molecule, as the property `STATED`."""
    parameters = Chem.SmilesParserParams()
    parameters.sanitize = parameters.removeHs = False
    written = Chem.MolFromSmiles(smiles, parameters) if "=C" in smiles or "=[" in smiles else None
    if written is None or written.GetNumAtoms() != mol.GetNumAtoms():  # hydrogens as atoms
        return mol
    stated = [one for chain in _cumulenes(mol) if (one := _read_axis(mol, written, chain)) is not None]
    if stated:
        mol.SetProp(STATED, json.dumps(stated))
    return mol


def _read_axis(mol: Chem.Mol, written: Chem.Mol, chain: list[int]) -> tuple[int, int, int, int, bool] | None:
    i, j = chain[0], chain[-1]
    if any(mol.GetAtomWithIdx(end).IsInRing() for end in (i, j)):  # ring closures change the order of neighbors
        return None
    if len(chain) % 2 == 0:
        return _read_directions(written, chain)
    center = written.GetAtomWithIdx(chain[len(chain) // 2])
    anticlockwise = _anticlockwise(center)
    firsts = [_first_neighbor(mol, end, inner) for end, inner in ((i, chain[1]), (j, chain[-2]))]
    if anticlockwise is None or not all(firsts):
        return None
    (a, a_first), (b, b_first) = firsts[0] or (0, True), firsts[1] or (0, True)
    return a, i, j, b, anticlockwise == (a_first == b_first)


def _anticlockwise(center: Chem.Atom) -> bool | None:
    """Tell whether the ligands of an allene are written anticlockwise ("@"); None if it is not stated."""
    tag = center.GetChiralTag()
    if tag == Chem.ChiralType.CHI_ALLENE and center.HasProp("_chiralPermutation"):
        return center.GetIntProp("_chiralPermutation") == 1
    return {Chem.ChiralType.CHI_TETRAHEDRAL_CCW: True, Chem.ChiralType.CHI_TETRAHEDRAL_CW: False}.get(tag)


def _first_neighbor(mol: Chem.Mol, end: int, inner: int) -> tuple[int, bool] | None:
    """Return a heavy substituent of an end, and whether it is the first of the two as written; None if there is none.

    In a SMILES the order is: an atom written before the end, an implicit hydrogen of the end, atoms written after it.
    """
    others = sorted(atom.GetIdx() for atom in mol.GetAtomWithIdx(end).GetNeighbors() if atom.GetIdx() != inner)
    if len(others) == 2:
        return others[0], True
    return (others[0], others[0] < end) if others and mol.GetAtomWithIdx(end).GetTotalNumHs() == 1 else None


def _read_directions(written: Chem.Mol, chain: list[int]) -> tuple[int, int, int, int, bool] | None:
    """Read "/" and "\\" at the ends of a cumulene, as a, i, j, b, and whether a and b are on the same side."""
    found = []
    for end, inner in ((chain[0], chain[1]), (chain[-1], chain[-2])):
        for bond in written.GetAtomWithIdx(end).GetBonds():
            other = bond.GetOtherAtomIdx(end)
            if other != inner and bond.GetBondDir() in (Chem.BondDir.ENDUPRIGHT, Chem.BondDir.ENDDOWNRIGHT):
                rises = bond.GetBondDir() == Chem.BondDir.ENDUPRIGHT
                found.append((other, rises == (bond.GetBeginAtomIdx() == end)))  # whether it is above its end
                break
    if len(found) < 2:
        return None
    (a, a_above), (b, b_above) = found
    return a, chain[0], chain[-1], b, a_above == b_above
