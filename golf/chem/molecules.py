"""RDKit molecules in the row order of a conformation: mapped SMILES, open stereochemistry, bond lengths."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from golf.core.errors import UserError

MAX_STRETCH = 1.3
"""Largest length of a bond, in units of the sum of covalent radii."""

MIN_STRETCH = 0.6
"""Smallest length of a bond, in the same units; lengths in angstrom that are read as bohr are below it."""

MAX_BRIDGEHEADS = 4
"""Limit of unspecified bridgeheads whose stereoisomers are all tried; with more, the stereoisomer counts as open."""

EMBEDDING_ATTEMPTS = 10
"""Attempts to embed an isomer that may be impossible; possible isomers of bridged rings need one or two."""

HANDS = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)


def mapped_smiles(mol: Chem.Mol) -> str:
    """Return the SMILES with explicit hydrogens and atom-map numbers 1..n, which give the row order of `mol`."""
    copy = Chem.Mol(mol)
    for atom in copy.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    return Chem.MolToSmiles(copy)


@lru_cache(maxsize=4096)
def _template(smiles: str) -> Chem.Mol:
    parameters = Chem.SmilesParserParams()
    parameters.removeHs = False
    mol = Chem.MolFromSmiles(smiles, parameters)
    if mol is None or not mol.GetNumAtoms():
        raise UserError(f"mapped SMILES {smiles!r} cannot be parsed by RDKit; make the file again")
    numbers = [atom.GetAtomMapNum() for atom in mol.GetAtoms()]
    if sorted(numbers) != list(range(1, mol.GetNumAtoms() + 1)):
        raise UserError(f"mapped SMILES {smiles!r} does not number its atoms 1..{mol.GetNumAtoms()}")
    mol = Chem.RenumberAtoms(mol, [int(i) for i in np.argsort(numbers)])
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    return mol


@lru_cache(maxsize=4096)
def canonical_smiles(smiles: str) -> str:
    """Return the canonical SMILES of the molecule of a mapped SMILES, independent of its atom order.

    The side of an imine's N-H is dropped, because it inverts.
    """
    mol = molecule(smiles)
    for bond in mol.GetBonds():
        if bond.GetStereo() != Chem.BondStereo.STEREONONE and turns_over(bond):
            bond.SetStereo(Chem.BondStereo.STEREONONE)
            for end in (bond.GetBeginAtom(), bond.GetEndAtom()):
                for other in end.GetBonds():
                    other.SetBondDir(Chem.BondDir.NONE)
    return Chem.MolToSmiles(Chem.RemoveHs(mol))


def turns_over(bond: Chem.Bond) -> bool:
    """Tell whether a double bond is that of an imine with an N-H, whose two forms are one compound."""
    ends = (bond.GetBeginAtom(), bond.GetEndAtom())
    return any(end.GetSymbol() == "N" and end.GetTotalNumHs(includeNeighbors=True) for end in ends)


def has_open_stereo(mol: Chem.Mol) -> bool:
    """Tell whether a stereocenter or double bond of a molecule is unspecified, so that it may be several stereoisomers.

    The N-H of an imine does not count, because it inverts, and neither do nitrogens with a hydrogen and acids of
    phosphorus and sulfur, whose protons move. Bridgeheads constrain each other: norbornane has two and is one compound.
    """
    unspecified = [e for e in Chem.FindPotentialStereo(mol) if e.specified == Chem.StereoSpecified.Unspecified]
    if any(
        e.type == Chem.StereoType.Bond_Double and not turns_over(mol.GetBondWithIdx(e.centeredOn)) for e in unspecified
    ):
        return True
    centers = [e.centeredOn for e in unspecified if e.type == Chem.StereoType.Atom_Tetrahedral]
    centers = [i for i in centers if not has_mobile_proton(mol.GetAtomWithIdx(i))]
    bridgeheads = 0 < len(centers) <= MAX_BRIDGEHEADS and all(mol.GetRingInfo().NumAtomRings(i) > 1 for i in centers)
    return _several_stereoisomers(mol, centers) if bridgeheads else bool(centers)


def _several_stereoisomers(mol: Chem.Mol, centers: Sequence[int]) -> bool:
    """Tell whether more than one of the isomers of these stereocenters can be embedded."""
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed, parameters.maxIterations = 1, EMBEDDING_ATTEMPTS
    found: dict[str, bool] = {}
    for hands in product(HANDS, repeat=len(centers)):
        isomer = Chem.Mol(mol)
        for center, hand in zip(centers, hands, strict=True):
            isomer.GetAtomWithIdx(center).SetChiralTag(hand)
        Chem.AssignStereochemistry(isomer, cleanIt=True, force=True)
        smiles = Chem.MolToSmiles(isomer)
        if smiles not in found:
            found[smiles] = rdDistGeom.EmbedMolecule(Chem.AddHs(isomer), parameters) >= 0
        if sum(found.values()) > 1:
            return True
    return False


def has_mobile_proton(atom: Chem.Atom) -> bool:
    """Tell whether an atom is a nitrogen with a hydrogen, or the phosphorus or sulfur of an acid."""
    acid = atom.GetSymbol() in ("P", "S") and any(
        other.GetSymbol() == "O" and other.GetTotalNumHs(includeNeighbors=True) for other in atom.GetNeighbors()
    )
    return acid or (atom.GetSymbol() == "N" and atom.GetTotalNumHs(includeNeighbors=True) > 0)


def molecule(smiles: str, positions: NDArray | None = None) -> Chem.Mol:
    """Return the molecule of a mapped SMILES, with atoms in row order and without atom-map numbers.

    Args:
        smiles: mapped SMILES, see `mapped_smiles`.
        positions: [n, 3] angstrom; if given, they become the only conformer of the molecule.

    Raises:
        UserError: the SMILES cannot be parsed or its atom-map numbers are not 1..n.
    """
    mol = Chem.Mol(_template(smiles))
    if positions is not None:
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(np.asarray(positions, dtype=np.float64))
        mol.AddConformer(conformer, assignId=True)
    return mol


def misfit(mol: Chem.Mol, numbers: NDArray, positions: NDArray) -> str:
    """Describe why rows of atoms are not those of a molecule in this order; "" if they can be.

    Elements must agree, and the distance of bonded atoms must be that of a bond.

    Args:
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom.
    """
    if [atom.GetAtomicNum() for atom in mol.GetAtoms()] != numbers.tolist():
        return "its atoms are not in the order of its SMILES (other elements); correct or remove it"
    return misfits(mol, positions[None])[0]


def misfits(mol: Chem.Mol, positions: NDArray) -> list[str]:
    """Describe, for each of m geometries, the bond that deviates most from the limits; "" if all bonds are within them.

    Args:
        positions: [m, n, 3] angstrom.
    """
    bonds = np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()], np.int64)
    if not len(bonds):
        return [""] * len(positions)
    i, j = bonds.T
    radii = np.array([Chem.GetPeriodicTable().GetRcovalent(atom.GetAtomicNum()) for atom in mol.GetAtoms()])
    lengths = np.linalg.norm(positions[:, i] - positions[:, j], axis=2)  # [m, n_bonds]
    stretch = lengths / (radii[i] + radii[j])
    excess = np.maximum(stretch / MAX_STRETCH, MIN_STRETCH / np.maximum(stretch, 1e-9))
    problems = []
    for k, bond in enumerate(np.argmax(excess, axis=1)):
        apart = (
            f"atoms {i[bond] + 1} and {j[bond] + 1}, bonded in its SMILES, are {lengths[k, bond]:.2f} angstrom apart"
        )
        problems.append(apart if excess[k, bond] > 1.0 else "")
    return problems


def skeleton(mol: Chem.Mol) -> Chem.Mol:
    """Return a molecule with only the elements and the connectivity, in the same atom order."""
    bonded = Chem.RWMol()
    for atom in mol.GetAtoms():
        bare = Chem.Atom(atom.GetAtomicNum())
        bare.SetNoImplicit(True)
        bonded.AddAtom(bare)
    for bond in mol.GetBonds():
        bonded.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return bonded.GetMol()
