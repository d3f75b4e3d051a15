"""Records with open stereochemistry or several parts: which stereoisomers and which fragment are relaxed."""

import pytest
from rdkit import Chem

from golf.chem.conformers import AUTO, conformers_for
from golf.chem.fragments import largest_fragment
from golf.chem.isomers import stereoisomers
from golf.chem.parsing import from_smiles
from golf.io.pieces import Embedding, expected, pieces_of

ELEMENTS = (1, 6, 7, 8, 9, 11, 16, 17)


def isomers(smiles, most=32):
    found = stereoisomers(Chem.MolFromSmiles(smiles), most)
    return None if found is None else dict(zip(found.suffixes, map(Chem.MolToSmiles, found.mols), strict=True))


@pytest.mark.parametrize(
    ("smiles", "suffixes"),
    [
        ("CC(C)Cc1ccc(cc1)C(C)C(=O)O", ["R", "S"]),  # ibuprofen
        ("CC=CC(O)C", ["RE", "RZ", "SE", "SZ"]),
        ("C/C=C/C(O)C", ["R", "S"]),  # what is written stays
        ("CC(F)C(F)C", ["RR", "SR", "SS"]),  # one is a meso form
        ("OC1CCC(O)CC1", ["rr", "ss"]),  # cis and trans
        ("CCO", [""]),
        ("CC(F)=N", [""]),  # an imine's N-H turns over
        ("CP(=O)(O)CC", [""]),  # the proton of an acid moves
        ("C1CC2CCC1C2", [""]),  # norbornane: the other isomer is impossible
    ],
)
def test_isomers_are_named_by_what_was_open(smiles, suffixes):
    found = isomers(smiles)
    assert list(found) == suffixes and len(set(found.values())) == len(suffixes)
    flat = {Chem.MolToSmiles(Chem.MolFromSmiles(one), isomericSmiles=False) for one in found.values()}
    assert flat == {Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)}
    for one in found.values() if len(suffixes) > 1 else ():
        assert not [e for e in Chem.FindPotentialStereo(Chem.MolFromSmiles(one)) if str(e.specified) == "Unspecified"]


def test_more_isomers_than_the_limit_are_none():
    assert isomers("CC(F)C(Cl)C(O)C", 8) is not None and isomers("CC(F)C(Cl)C(O)C", 7) is None


@pytest.mark.parametrize(
    ("smiles", "kept", "removed"),
    [
        ("CC(=O)[O-].[Na+]", "CC(=O)[O-]", "[Na+]"),
        ("O.OC(=O)c1ccccc1.O", "O=C(O)c1ccccc1", "O.O"),
        ("CCO", "CCO", ""),
        ("C.O=S(=O)(O)O", "C", "O=S(=O)(O)O"),  # the organic one, though it is smaller
        ("CCO.CCO", "CCO", "CCO"),
    ],
)
def test_the_largest_fragment_is_kept(smiles, kept, removed):
    mol, rest = largest_fragment(from_smiles(smiles)[0])
    assert (Chem.MolToSmiles(mol), rest) == (kept, removed)


@pytest.mark.parametrize(
    ("smiles", "number"),
    [("C", 50), ("CCCCCCCCCC", 50), ("C" * 11, 200), ("C" * 15, 200), ("C" * 16, 300), ("c1ccccc1", 50)],
)
def test_rotatable_bonds_give_the_number_of_conformers(smiles, number):
    mol = Chem.MolFromSmiles(smiles)
    assert conformers_for(mol, AUTO) == conformers_for(Chem.AddHs(mol), AUTO) == number
    assert conformers_for(mol, 7) == 7


def test_records_become_isomers_and_fragments_with_their_names(tmp_path, caplog):
    path = tmp_path / "in.smi"
    path.write_text(
        "CC(O)C=O a\nCC(=O)O.CN salt\nCC(F)C(F)C(F)C many\nC1CC broken\nCCO b\nC[C@H](O)C=O c\nCC(F)CCl a\n"
    )
    settings = Embedding(2, largest_fragment=True, isomers=3)
    pieces = list(pieces_of(path, elements=ELEMENTS, size=1, embedding=settings))
    names = [name for piece in pieces for name in dict.fromkeys(piece.conformations.molecule)]
    assert names == ["a-R", "a-S", "salt", "b", "c", "a-R#7", "a-S#7"]
    assert [(out.line, out.reason.split(";")[0]) for piece in pieces for out in piece.left_out] == [
        (3, "it has more than 3 stereoisomers"),
        (4, "RDKit cannot read it as a molecule: unclosed ring for input: 'C1CC'"),
    ]
    properties = {}
    for piece in pieces:
        properties |= dict(zip(piece.conformations.molecule, piece.conformations.values["properties"], strict=True))
    assert properties["salt"] == '{"removed_fragments": "CN"}' and properties["b"] == properties["c"] == ""
    assert properties["a-S"] == '{"stereoisomer": "C[C@H](O)C=O"}'
    assert [piece.n_expected for piece in pieces] == [2] * 9
    assert "salt: only the largest fragment is used; see removed_fragments" in caplog.text
    plain = [
        piece.conformations.molecule for piece in pieces_of(path, elements=ELEMENTS, size=99, embedding=Embedding())
    ]
    assert plain == [["a", "many", "b", "c", "a#7"]]
    assert expected(path, 2) == 14 and expected(path, AUTO) is None
