"""What a molecule has that no calculation here can take as it is: query atoms, unknown bonds, open shells."""

from __future__ import annotations

from rdkit import Chem
from rdkit.Chem import rdqueries

ORDERS = frozenset(
    {
        Chem.BondType.SINGLE,
        Chem.BondType.DOUBLE,
        Chem.BondType.TRIPLE,
        Chem.BondType.AROMATIC,
        Chem.BondType.DATIVE,
    }
)
"""Bonds that say how many electrons they have."""

TRIPLETS = ("O=O", "S=S", "[Se]=[Se]", "O=S")
"""Molecules that are drawn with closed shells and whose ground state is a triplet (Huber and Herzberg, Constants of
Diatomic Molecules, 1979)."""

_AFTER_NEON = rdqueries.AtomNumGreaterQueryAtom(10)
"""Elements that can have more than four ligands, or a d shell."""

ARRANGEMENTS = {
    Chem.ChiralType.CHI_SQUAREPLANAR: "@SP",
    Chem.ChiralType.CHI_TRIGONALBIPYRAMIDAL: "@TB",
    Chem.ChiralType.CHI_OCTAHEDRAL: "@OH",
}
"""Stereochemistry of four to six ligands that is not tetrahedral, as SMILES have it."""

OPEN_D_SHELLS = frozenset([*range(21, 30), *range(39, 48), *range(57, 80), *range(89, 112)])
"""Atomic numbers of metals whose d or f shell may be open; zinc, cadmium and mercury are not among them."""


def query_problem(mol: Chem.Mol) -> str:
    """Return what a record leaves open about atoms and bonds; "" if nothing."""
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 0 or atom.HasQuery():
            return f"atom {atom.GetIdx() + 1} is an attachment point or query atom; write an element"
    for bond in mol.GetBonds():
        if bond.GetBondType() not in ORDERS or bond.HasQuery():
            ends = f"atoms {bond.GetBeginAtomIdx() + 1} and {bond.GetEndAtomIdx() + 1}"
            return f"a bond of unknown order ({ends}); write a single, double, triple or aromatic one"
        if bond.GetBondType() == Chem.BondType.AROMATIC and not bond.IsInRing():
            ends = f"atoms {bond.GetBeginAtomIdx() + 1} and {bond.GetEndAtomIdx() + 1}"
            return f"an aromatic bond that is in no ring ({ends}); write a single or double one"
    return ""


def spin_problem(mol: Chem.Mol) -> str:
    """Return why a molecule without radical centers is not a closed shell; "" if it may be one."""
    electrons = sum(atom.GetAtomicNum() + atom.GetTotalNumHs() for atom in mol.GetAtoms()) - Chem.GetFormalCharge(mol)
    if electrons % 2:
        return f"it has an odd number of electrons ({electrons}); only closed shells are covered"
    if mol.GetNumAtoms() == 1 and mol.GetAtomWithIdx(0).GetAtomicNum() in OPEN_D_SHELLS:
        return "it is a single metal atom, whose shells are not known to be closed; only closed shells are covered"
    if Chem.MolToSmiles(mol, isomericSmiles=False) in TRIPLETS:
        return "its ground state is a triplet; only closed shells are covered"
    return ""


def unkept_stereo(mol: Chem.Mol) -> str:
    """Return why a geometry that is made for a molecule may be another stereoisomer; "" if that is kept."""
    for atom in mol.GetAtomsMatchingQuery(_AFTER_NEON):  # 20 times as fast as a loop over all atoms
        if atom.GetChiralTag() in ARRANGEMENTS:
            what = f"atom {atom.GetIdx() + 1} ({ARRANGEMENTS[atom.GetChiralTag()]})"
            return f"the order of the ligands of {what} is not kept by ETKDG; give a geometry (SDF)"
    return ""


def has_open_d_shell(mol: Chem.Mol) -> bool:
    """Tell whether a molecule has a metal whose spin state its bonds do not say."""
    return any(atom.GetAtomicNum() in OPEN_D_SHELLS for atom in mol.GetAtomsMatchingQuery(_AFTER_NEON))
