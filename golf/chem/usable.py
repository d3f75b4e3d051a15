"""Check whether a molecule can be studied: no query atoms, known bond orders, closed shells, MMFF94 parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers, rdqueries

from golf.core.elements import SYMBOLS

ORDERS = frozenset(
    {
        Chem.BondType.SINGLE,
        Chem.BondType.DOUBLE,
        Chem.BondType.TRIPLE,
        Chem.BondType.AROMATIC,
        Chem.BondType.DATIVE,
    }
)
"""Bond types with a definite number of electrons."""

TRIPLETS = ("O=O", "S=S", "[Se]=[Se]", "O=S")
"""Molecules that are drawn with closed shells but have a triplet ground state (Huber and Herzberg, Constants of
Diatomic Molecules, 1979)."""

_AFTER_NEON = rdqueries.AtomNumGreaterQueryAtom(10)
"""Query for elements that can have more than four ligands, or a d shell."""

ARRANGEMENTS = {
    Chem.ChiralType.CHI_SQUAREPLANAR: "@SP",
    Chem.ChiralType.CHI_TRIGONALBIPYRAMIDAL: "@TB",
    Chem.ChiralType.CHI_OCTAHEDRAL: "@OH",
}
"""SMILES symbols of non-tetrahedral stereochemistry with four to six ligands."""

OPEN_D_SHELLS = frozenset([*range(21, 30), *range(39, 48), *range(57, 80), *range(89, 112)])
"""Atomic numbers of metals whose d or f shell may be open; these exclude zinc, cadmium and mercury."""


def query_problem(mol: Chem.Mol) -> str:
    """Describe a query atom or a bond of unknown order; "" if there is none."""
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 0 or atom.HasQuery():
            return f"atom {atom.GetIdx() + 1} is an attachment point or query atom; write an element"
    for bond in mol.GetBonds():
        if bond.GetBondType() not in ORDERS or bond.HasQuery():
            ends = f"atoms {bond.GetBeginAtomIdx() + 1} and {bond.GetEndAtomIdx() + 1}"
            return f"a bond of unknown order ({ends}); write a single, double, triple or aromatic one"
        if bond.GetBondType() == Chem.BondType.AROMATIC and not bond.IsInRing():
            ends = f"atoms {bond.GetBeginAtomIdx() + 1} and {bond.GetEndAtomIdx() + 1}"
            return f"an aromatic bond outside a ring ({ends}); write a single or double one"
    return ""


def spin_problem(mol: Chem.Mol) -> str:
    """Return why a molecule without radical centers is not a closed shell; "" if it can be one."""
    electrons = sum(atom.GetAtomicNum() + atom.GetTotalNumHs() for atom in mol.GetAtoms()) - Chem.GetFormalCharge(mol)
    if electrons % 2:
        return f"it has an odd number of electrons ({electrons}); only closed shells are covered"
    if mol.GetNumAtoms() == 1 and mol.GetAtomWithIdx(0).GetAtomicNum() in OPEN_D_SHELLS:
        return "it is a single metal atom, which may have open shells; only closed shells are covered"
    if Chem.MolToSmiles(mol, isomericSmiles=False) in TRIPLETS:
        return "its ground state is a triplet; only closed shells are covered"
    return ""


def unkept_stereo(mol: Chem.Mol) -> str:
    """Return why ETKDG may embed another stereoisomer than the molecule's; "" if it does not."""
    for atom in mol.GetAtomsMatchingQuery(_AFTER_NEON):  # 20 times faster than a loop over all atoms
        if atom.GetChiralTag() in ARRANGEMENTS:
            what = f"atom {atom.GetIdx() + 1} ({ARRANGEMENTS[atom.GetChiralTag()]})"
            return f"ETKDG does not keep the order of the ligands of {what}; give a geometry (SDF)"
    return ""


def has_open_d_shell(mol: Chem.Mol) -> bool:
    """Tell whether a molecule has a metal whose spin state does not follow from its bonds."""
    return any(atom.GetAtomicNum() in OPEN_D_SHELLS for atom in mol.GetAtomsMatchingQuery(_AFTER_NEON))


UNREADABLE = "RDKit cannot read it as a molecule"

RADICAL = "it is a radical; only closed shells are covered"

BARE = f"{RADICAL} (an atom in brackets has only the hydrogens written there, as in [CH3])"

PROPERTIES = "properties"
"""Name of the column with the properties of the record that a conformation comes from (JSON)."""


@dataclass(frozen=True)
class Molecule:
    """A molecule of an input file, with explicit hydrogens, and with conformers if the file has geometries.

    Attributes:
        line: line of its record, from 1; number of the record in an SDF.
        properties: of its records, in the order of the conformers; one record if the file has no geometries.
    """

    name: str
    mol: Chem.Mol
    line: int
    properties: list[Mapping[str, str]] = field(default_factory=list)


def structure_problem(mol: Chem.Mol | None) -> str:
    """Return why a record is not one molecule; "" if it is."""
    if mol is None:
        return UNREADABLE
    if mol.GetNumAtoms() == 0:
        return "it has no atoms"
    problem = query_problem(mol)
    if problem:
        return problem
    if len(Chem.GetMolFrags(mol)) > 1:
        return "it has several disconnected parts (a salt or solvate); keep the one to be studied"
    if sum(atom.GetAtomicNum() + atom.GetTotalNumHs() for atom in mol.GetAtoms()) <= Chem.GetFormalCharge(mol):
        return "it has no electrons"
    return ""


def is_radical(mol: Chem.Mol) -> bool:
    """Tell whether an atom has an unpaired electron."""
    return any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())


def shell_problem(mol: Chem.Mol | None) -> str:
    """Return why a record is not one closed-shell molecule; "" if it is."""
    problem = structure_problem(mol)
    if problem or mol is None:
        return problem
    if is_radical(mol):
        return BARE if any(_is_bare(atom) for atom in mol.GetAtoms()) else RADICAL
    return spin_problem(mol)


def _is_bare(atom: Chem.Atom) -> bool:
    """Tell whether an atom is written like "[C]" or "[#6]", which many take for one with implicit hydrogens."""
    return atom.GetNumRadicalElectrons() > 0 and atom.GetTotalNumHs() == 0 and atom.GetAtomicNum() in (5, 6, 7, 8)


def unusable(mol: Chem.Mol | None, elements: Collection[int] | None = None) -> str:
    """Return why a molecule cannot be studied; "" if it can.

    Args:
        elements: atomic numbers covered by the oracle and the reference energies; None for all that MMFF94 covers.
    """
    problem = shell_problem(mol)
    if problem or mol is None:
        return problem
    if problem := mmff_problem(mol):
        return problem
    numbers = {atom.GetAtomicNum() for atom in Chem.AddHs(mol).GetAtoms()}
    if elements is not None and not numbers <= set(elements):
        without = " ".join(SYMBOLS[z] for z in sorted(numbers - set(elements)))
        return f"there is no basis or reference energy for {without}"
    return ""


def mmff_problem(mol: Chem.Mol) -> str:
    """Return that MMFF94 has no parameters for a molecule; "" if it has."""
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(Chem.AddHs(mol)):
        return ""
    return f"MMFF94 has no parameters for it (elements {' '.join(sorted({a.GetSymbol() for a in mol.GetAtoms()}))})"


@dataclass(frozen=True)
class LeftOut:
    """A record that cannot be used.

    Attributes:
        line: line of the record, from 1; number of the record in an SDF.
        name: of the molecule, preceded by the place for frames and rows of a database ("frame 2, line 12, ethanol").
        text: the record, or its SMILES.
        reason: why it cannot be used, worded to follow the place of the record.
    """

    line: int
    name: str
    text: str
    reason: str
