"""Whether a geometry is still the molecule of its SMILES: torn bonds, inverted stereocenters, turned double bonds."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms

from golf.chem.integrity import CHANGED, change, with_changes
from golf.chem.molecules import mapped_smiles
from golf.core.conformations import ConformationSet

MIRROR = np.array([1.0, 1.0, -1.0])


def embedded(smiles, n=4):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert len(rdDistGeom.EmbedMultipleConfs(mol, n, randomSeed=3)) == n
    return mol, [conformer.GetPositions() for conformer in mol.GetConformers()]


@pytest.mark.parametrize(
    ("smiles", "center"),
    [("C[C@H](F)O", "C, atom 2"), ("C[S@](=O)CC", "S, atom 2"), ("C[C@@H](N)C(=O)N[C@@H](C)C(=O)O", "C, atom 2")]
    + [("CC[C@]12CCCC1=CCCC2", "C, atom 3"), ("CCO", ""), ("CC(F)O", ""), ("C/C=C\\C(=O)O", "")],
)
def test_a_mirror_image_has_other_stereocenters(smiles, center):
    mol, geometries = embedded(smiles)
    for positions in geometries:
        assert change(mapped_smiles(mol), positions) == ""
        mirrored = f"the stereocenter {center}, is inverted" if center else ""
        assert change(mapped_smiles(mol), positions * MIRROR) == mirrored


@pytest.mark.parametrize(
    ("smiles", "from_to", "kept", "turned"),
    [(f"C/C=C{mark}C(=O)O", *rest) for mark, *rest in (("\\", "Z to E", 80, 100), ("/", "E to Z", 100, 80))]
    + [(f"C/N=N{mark}C", *rest) for mark, *rest in (("\\", "Z to E", 80, 100), ("/", "E to Z", 100, 80))],
)
def test_a_double_bond_that_has_turned(smiles, from_to, kept, turned):
    mol, geometries = embedded(smiles)
    assert {change(mapped_smiles(mol), positions) for positions in geometries} == {""}
    bond = next(bond for bond in mol.GetBonds() if bond.GetStereo() != Chem.BondStereo.STEREONONE)
    i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    a, b = bond.GetStereoAtoms()
    how = f"the double bond of atoms {i + 1} and {j + 1} has turned from {from_to}"
    for degrees, said in ((kept, ""), (turned, how)):
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), a, i, j, b, degrees)
        assert change(mapped_smiles(mol), mol.GetConformer().GetPositions()) == said


def test_a_bond_that_is_torn_or_crushed():
    mol, (positions, *_) = embedded("CO")
    for factor, changed in (
        (1.0, ""),
        (1.25, ""),
        (1.6, "bonded in its SMILES, are 2.2"),
        (0.5, "bonded in its SMILES"),
    ):
        moved = positions.copy()
        moved[1] = positions[0] + factor * (positions[1] - positions[0])
        moved[5] += moved[1] - positions[1]
        assert changed in change(mapped_smiles(mol), moved) and bool(changed) == bool(change(mapped_smiles(mol), moved))


def test_what_is_no_geometry_is_not_judged():
    mol, (positions, *_) = embedded("C[C@H](F)O")
    assert change(mapped_smiles(mol), positions * np.nan) == ""


def test_an_imine_with_a_hydrogen_turns_over():
    (one, geometries), (other, _) = (embedded(smiles) for smiles in ("[H]/N=C(/C)N", "[H]/N=C(\\C)N"))
    assert mapped_smiles(one) != mapped_smiles(other)
    assert [change(mapped_smiles(other), positions) for positions in geometries] == [""] * 4


def test_what_the_input_was_no_better_in_is_said():
    mol, (positions, *_) = embedded("C[C@H](F)O")
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    ends = ConformationSet.build([("a/0", "a", mapped_smiles(mol), 0, 1, numbers, positions * MIRROR)])
    how = "the stereocenter C, atom 2, is inverted"
    for start, said in ((positions, how), (positions * MIRROR, f"{how} (and so it came)")):
        found = with_changes(ends.with_columns(atoms={"initial_position": start}))
        assert found.values[CHANGED].tolist() == [said]


def test_atoms_have_the_numbers_of_the_mapped_smiles():
    mol, (positions, *_) = embedded("ClCl")
    assert mapped_smiles(mol) == "[Cl:1][Cl:2]"
    assert change(mapped_smiles(mol), positions * 3.0).startswith("atoms 1 and 2, bonded in its SMILES, are ")
