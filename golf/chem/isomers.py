"""List the stereoisomers of a molecule whose stereocenters and double bonds are not all specified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rdkit import Chem
from rdkit.Chem import EnumerateStereoisomers as Enumeration
from rdkit.Chem import rdCIPLabeler, rdDistGeom

from golf.chem.molecules import EMBEDDING_ATTEMPTS, has_mobile_proton, turns_over

STEREOISOMER = "stereoisomer"
"""Property: SMILES of the stereoisomer."""

MOST_ISOMERS = 32
"""Limit of stereoisomers of one molecule: five unspecified centers."""


@dataclass(frozen=True)
class Isomers:
    """The stereoisomers of a molecule.

    Attributes:
        mols: one molecule for each; only the molecule itself if nothing is unspecified.
        suffixes: what distinguishes their names, such as "R" or "SE"; "" if there is only one.
        n_impossible: how many more there would be if ETKDG could embed them.
    """

    mols: tuple[Chem.Mol, ...]
    suffixes: tuple[str, ...]
    n_impossible: int = 0


def stereoisomers(mol: Chem.Mol, most: int) -> Isomers | None:
    """Return the stereoisomers of a molecule without explicit hydrogens; None if there are more than `most`.

    What the molecule specifies stays. Like in `golf.chem.molecules.has_open_stereo`, imines with an N-H, and atoms that
    a moving proton inverts, make no isomers. Where the unspecified centers are in several rings, as bridgeheads are,
    isomers that ETKDG cannot embed are dropped. This may take long: call it with a time limit (`golf.chem.limited`).

    Suffixes are the CIP labels of what was unspecified, in the order of the atoms, then of the double bonds; if these
    do not distinguish all isomers, their numbers from 1.
    """
    found: dict[str, Chem.Mol] = {}
    options = Enumeration.StereoEnumerationOptions(onlyUnassigned=True, unique=True, tryEmbedding=False)
    for isomer in Enumeration.EnumerateStereoisomers(mol, options=options):
        plain = _without_mobile(isomer)
        found.setdefault(Chem.MolToSmiles(plain), plain)
        if len(found) > most:
            return None
    atoms, bonds = _open(mol)
    isomers = list(found.values())
    if len(isomers) < 2:
        return Isomers((mol,), ("",))
    if any(mol.GetRingInfo().NumAtomRings(atom) > 1 for atom in atoms):
        isomers = [isomer for isomer in isomers if _can_be_embedded(isomer)]
    n_impossible = len(found) - len(isomers)
    if len(isomers) < 2:  # if ETKDG embeds none, the molecule itself is left out with that reason
        return Isomers(tuple(isomers) or (mol,), ("",), n_impossible if isomers else 0)
    labels = [_labels(isomer, atoms, bonds) for isomer in isomers]
    if "" in labels or len(set(labels)) < len(labels):
        labels = [str(i) for i in range(1, len(labels) + 1)]
    order = sorted(range(len(isomers)), key=lambda i: (len(labels[i]), labels[i]))
    return Isomers(tuple(isomers[i] for i in order), tuple(labels[i] for i in order), n_impossible)


def _open(mol: Chem.Mol) -> tuple[list[int], list[int]]:
    """Return the unspecified stereocenters and double bonds."""
    unspecified = [e for e in Chem.FindPotentialStereo(mol) if e.specified == Chem.StereoSpecified.Unspecified]
    atoms = [e.centeredOn for e in unspecified if e.type == Chem.StereoType.Atom_Tetrahedral]
    return sorted(atoms), sorted(e.centeredOn for e in unspecified if e.type == Chem.StereoType.Bond_Double)


def _without_mobile(isomer: Chem.Mol) -> Chem.Mol:
    """Return an isomer without the stereochemistry that a moving proton inverts."""
    plain = Chem.Mol(isomer)
    for atom in plain.GetAtoms():
        if atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED and has_mobile_proton(atom):
            atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    for bond in plain.GetBonds():
        if bond.GetStereo() != Chem.BondStereo.STEREONONE and turns_over(bond):
            bond.SetStereo(Chem.BondStereo.STEREONONE)
    return plain


def _can_be_embedded(isomer: Chem.Mol) -> bool:
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed, parameters.maxIterations = 1, EMBEDDING_ATTEMPTS
    return rdDistGeom.EmbedMolecule(Chem.AddHs(isomer), parameters) >= 0


def _labels(isomer: Chem.Mol, atoms: Sequence[int], bonds: Sequence[int]) -> str:
    """Return the CIP labels of these atoms and double bonds, as far as they have any."""
    rdCIPLabeler.AssignCIPLabels(isomer)
    parts = [*map(isomer.GetAtomWithIdx, atoms), *map(isomer.GetBondWithIdx, bonds)]
    return "".join(part.GetProp("_CIPCode") for part in parts if part.HasProp("_CIPCode"))
