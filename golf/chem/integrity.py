"""Check whether a geometry still is the molecule of its SMILES: all bonds intact and the same stereoisomer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from golf.chem.axes import axes_of
from golf.chem.molecules import HANDS, misfits, molecule, turns_over
from golf.core.conformations import ConformationSet

CHANGED = "changed_molecule"
"""Name of the column that describes how a geometry departs from its SMILES; "" if it does not."""

_CIS = {
    Chem.BondStereo.STEREOZ: True,
    Chem.BondStereo.STEREOCIS: True,
    Chem.BondStereo.STEREOE: False,
    Chem.BondStereo.STEREOTRANS: False,
}


def with_changes(relaxed: ConformationSet) -> ConformationSet:
    """Add the column `CHANGED`, which also says if the start (`initial_position`) departs from the SMILES as well."""
    starts = relaxed.atoms.get("initial_position")
    found = []
    for i, smiles in enumerate(relaxed.mapped_smiles):
        how = change(smiles, relaxed.position[relaxed.rows(i)])
        if not how and starts is not None:
            how = _turned_axis(smiles, starts[relaxed.rows(i)], relaxed.position[relaxed.rows(i)])
        in_input = bool(how) and starts is not None and change(smiles, starts[relaxed.rows(i)])
        found.append(f"{how} (and so it came)" if in_input else how)
    return relaxed.with_columns(values={CHANGED: found})


def _turned_axis(smiles: str, start: NDArray, end: NDArray) -> str:
    """Describe the first axis (`golf.chem.axes`) whose side a relaxation has changed; "" if there is none."""
    for axis in axes_of(smiles) if np.isfinite(end).all() and np.isfinite(start).all() else ():
        if axis.side_of(start) != axis.side_of(end):
            return f"the axis of atoms {axis.atoms[1] + 1} and {axis.atoms[2] + 1} has turned over"
    return ""


def change(smiles: str, positions: NDArray) -> str:
    """Describe how a geometry departs from its SMILES; "" if it does not. Atoms are numbered from 1.

    The limits of bond lengths are those of `golf.chem.molecules.misfits`. Stereocenters and double bonds that the
    SMILES leaves unspecified are not checked, and neither are imines with an N-H, which invert.

    Args:
        smiles: mapped SMILES.
        positions: [n, 3] angstrom.
    """
    if not np.isfinite(positions).all():
        return ""  # not a geometry; the stop reason tells
    mol = molecule(smiles, positions)
    torn = misfits(mol, positions[None])[0]
    if torn:
        return torn
    centers, double_bonds = _stereo(smiles)
    if centers:
        Chem.AssignAtomChiralTagsFromStructure(mol, replaceExistingTags=True)
        for center, hand in centers:
            now = mol.GetAtomWithIdx(center).GetChiralTag()
            if now in HANDS and now != hand:
                return f"the stereocenter {mol.GetAtomWithIdx(center).GetSymbol()}, atom {center + 1}, is inverted"
    for (a, i, j, b), is_cis in double_bonds:
        if (abs(rdMolTransforms.GetDihedralDeg(mol.GetConformer(), a, i, j, b)) < 90.0) != is_cis:
            return f"the double bond of atoms {i + 1} and {j + 1} has turned from {'Z to E' if is_cis else 'E to Z'}"
    return ""


@lru_cache(maxsize=4096)
def _stereo(smiles: str) -> tuple[list[tuple[int, Chem.ChiralType]], list[tuple[tuple[int, int, int, int], bool]]]:
    """Return stereocenters with their handedness, and double bonds as four atoms and whether the outer ones are cis."""
    mol = molecule(smiles)
    centers = [(atom.GetIdx(), atom.GetChiralTag()) for atom in mol.GetAtoms() if atom.GetChiralTag() in HANDS]
    double_bonds = []
    for bond in mol.GetBonds():
        outer = list(bond.GetStereoAtoms())
        if bond.GetStereo() in _CIS and len(outer) == 2 and not turns_over(bond):
            four = (outer[0], bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), outer[1])
            double_bonds.append((four, _CIS[bond.GetStereo()]))
    return centers, double_bonds
