"""From SMILES and SDF to training and test sets: what is kept, what is left out, and what is refused."""

import csv
import re
from functools import partial

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolAlign, rdMolTransforms

from golf.chem.conformers import conformations_of, embed
from golf.chem.molecules import mapped_smiles, molecule
from golf.chem.usable import structure_problem
from golf.core.conformations import Status
from golf.core.elements import MMFF_NUMBERS
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.core.labels import unlabelled
from golf.core.level import LevelOfTheory
from golf.io.records import read_molecules, read_records, write_left_out
from golf.study.dataset import prepare, usable_elements
from golf.study.plan import size
from support import data_sets

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")


source = partial(data_sets.source, max_left_out=0.5)


def prepared(chosen, level, seed, elements=MMFF_NUMBERS):
    return prepare(chosen, level, elements=elements, seed=seed)


def smiles_file(tmp_path, *lines):
    path = tmp_path / "molecules.smi"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_follow_the_mapped_smiles():
    mol = Chem.AddHs(Chem.MolFromSmiles("OC[C@H](F)N"))
    again = molecule(mapped_smiles(mol))
    assert [a.GetAtomicNum() for a in again.GetAtoms()] == [a.GetAtomicNum() for a in mol.GetAtoms()]
    bonds = [{tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in m.GetBonds()} for m in (mol, again)]
    assert bonds[0] == bonds[1]
    assert Chem.MolToSmiles(Chem.RemoveHs(again)) == Chem.MolToSmiles(Chem.MolFromSmiles("OC[C@H](F)N"))


def test_what_cannot_be_studied_is_left_out_of_an_h5_too(tmp_path):
    (tmp_path / "in.smi").write_text("CCO ethanol\nFS(F)(F)(F)(F)c1ccccc1 sf5\n")
    molecules, _ = read_molecules(tmp_path / "in.smi", problem=structure_problem)
    part, failed = conformations_of(molecules, n_conformers=4, seed=1, prune_rmsd=0.0)
    assert len(part) == 8 and not failed
    write(tmp_path / "in.h5", part)
    dataset = prepared(source(tmp_path / "in.h5"), LEVEL, seed=1)
    assert set(dataset.train.molecule) == {"ethanol"} and len(dataset.train) == 3
    assert [(out.name, out.reason[:26]) for out in dataset.left_out] == [("sf5", "MMFF94 has no parameters f")]


def test_split_by_molecule_and_by_conformation(tmp_path):
    path = smiles_file(tmp_path, "CCO ethanol", "FCO fluoromethanol", "FCCF difluoroethane")
    chosen = source(path, conformers=4, test_molecules=["fluoromethanol"], test_conformers=2)
    dataset = prepared(chosen, LEVEL, seed=5)
    assert {name: dataset.train.molecule.count(name) for name in set(dataset.train.molecule)} == {
        "ethanol": 4, "difluoroethane": 4,
    }  # fmt: skip
    assert {name: dataset.test.molecule.count(name) for name in set(dataset.test.molecule)} == {
        "ethanol": 2, "difluoroethane": 2, "fluoromethanol": 2,
    }  # fmt: skip
    assert not set(dataset.train.id) & set(dataset.test.id)
    assert (dataset.train.values["status"] == Status.NOT_COMPUTED).all() and len(dataset.reference) == 0
    again = prepared(chosen, LEVEL, seed=5)
    np.testing.assert_array_equal(again.train.position, dataset.train.position)
    other = prepared(chosen, LEVEL, seed=6)
    assert np.abs(other.train.position - dataset.train.position).max() > 0.1


def test_conformers_do_not_depend_on_the_rest_of_the_file(tmp_path):
    alone = prepared(source(smiles_file(tmp_path, "CCO ethanol")), LEVEL, seed=5).train
    second = prepared(source(smiles_file(tmp_path, "CO methanol", "CCO ethanol")), LEVEL, seed=5).train
    np.testing.assert_array_equal(
        alone.position, second.subset([i for i, name in enumerate(second.molecule) if name == "ethanol"]).position
    )


def test_pruning_drops_near_duplicates():
    """Their distances by RDKit's alignment, each atom on itself."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CCCCO"))
    every, pruned = embed(mol, 20, seed=1), embed(mol, 20, seed=1, prune_rmsd=1.0)
    assert len(every) == 20 and 1 < len(pruned) < 20
    for positions in pruned:
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(positions)
        mol.AddConformer(conformer, assignId=True)
    pairs = [(i, j) for i in range(len(pruned)) for j in range(i)]
    assert min(rdMolAlign.AlignMol(Chem.Mol(mol), mol, prbCid=i, refCid=j) for i, j in pairs) > 0.99


def test_conformers_that_differ_in_hydrogens_are_different_starts(tmp_path, caplog):
    """Ethanol has one arrangement of its heavy atoms; trans and gauche differ in the hydroxyl alone."""
    caplog.set_level("INFO")
    path = smiles_file(tmp_path, "CCO ethanol")
    train = prepared(source(path, conformers=20, prune_rmsd=0.1), LEVEL, seed=1).train
    assert len(train) > 15
    mol = molecule(train.mapped_smiles[0])
    torsion = next(
        (carbon.GetIdx(), other.GetIdx(), oxygen.GetIdx(), hydrogen.GetIdx())
        for oxygen in mol.GetAtoms() if oxygen.GetSymbol() == "O"
        for other in oxygen.GetNeighbors() if other.GetSymbol() == "C"
        for carbon in other.GetNeighbors() if carbon.GetSymbol() == "C"
        for hydrogen in oxygen.GetNeighbors() if hydrogen.GetSymbol() == "H"
    )  # fmt: skip
    for i in range(len(train)):
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(train.position[train.rows(i)])
        mol.AddConformer(conformer, assignId=True)
    angles = [abs(rdMolTransforms.GetDihedralDeg(conformer, *torsion)) for conformer in mol.GetConformers()]
    assert min(angles) < 90.0 and max(angles) > 150.0, "gauche and trans"
    same = list(enumerate(range(mol.GetNumAtoms())))
    distances = [rdMolAlign.AlignMol(Chem.Mol(mol), mol, i, j, same) for i in range(len(train)) for j in range(i)]
    assert min(distances) > 0.099
    dropped = re.search(r"molecules\.smi: 21 conformers asked for, (\d) dropped", caplog.text)
    assert int(dropped[1]) == 20 - len(train) and "WARNING" not in caplog.text


def test_many_equal_conformers_are_a_warning(tmp_path, caplog):
    path = smiles_file(tmp_path, "CCO ethanol")
    (tmp_path / "test.smi").write_text("CO methanol\n")
    chosen = source(path, test=str(tmp_path / "test.smi"), conformers=20, test_conformers=2, prune_rmsd=1.0)
    dataset = prepared(chosen, LEVEL, seed=1)
    n = len(dataset.train)
    assert 0 < n < 10
    ending = "dropped (within dataset.prune_rmsd 1 angstrom of another one, or not embedded)"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{path}: 20 conformers asked for, {20 - n} {ending}"
    ]


def test_what_is_left_out_has_line_and_reason(tmp_path):
    lines = ["CCO ethanol", "CC(=O)[O-].[Na+] salt", "C(C broken", "C[Si](C)(C)C tms", "[CH3] radical", "CO methanol"]
    path = smiles_file(tmp_path, *lines, "OB(O)C boronic", "CN amine")
    dataset = prepared(source(path, max_left_out=0.7), LEVEL, seed=1)
    found = {out.name: (out.line, out.reason) for out in dataset.left_out}
    assert {name: line for name, (line, _) in found.items()} == {"salt": 2, "broken": 3, "radical": 5, "boronic": 7}
    assert "disconnected" in found["salt"][1] and "RDKit cannot read" in found["broken"][1]
    assert "MMFF94 has no parameters" in found["boronic"][1] and "radical" in found["radical"][1]
    write_left_out(tmp_path / "left_out.csv", dataset.left_out)
    with open(tmp_path / "left_out.csv", newline="") as stream:
        assert [row["line"] for row in csv.DictReader(stream)] == ["2", "3", "5", "7"]


def test_elements_without_basis_or_reference_energy_are_left_out(tmp_path):
    path = smiles_file(tmp_path, "CO methanol", "FCO fluoromethanol", "CI iodomethane")
    elements = usable_elements([1, 6, 8, 9], {"H": -0.5, "C": -38.0, "O": -75.0})
    dataset = prepared(source(path, max_left_out=0.7), LEVEL, 1, elements)
    assert {out.name: out.reason for out in dataset.left_out} == {
        "fluoromethanol": "there is no basis or reference energy for F",
        "iodomethane": "there is no basis or reference energy for I",
    }


def test_bad_smiles_in_line_7_is_named(tmp_path):
    path = smiles_file(tmp_path, *[f"{'C' * i}O alcohol{i}" for i in range(1, 7)], "C1CC broken")
    with pytest.raises(UserError, match=r"molecules\.smi: 1 of 7 .*max_left_out 0\.1 .* 7 \(broken\): RDKit cannot"):
        prepared(source(path, max_left_out=0.1), LEVEL, seed=1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no molecules"),
        (["# only a comment"], "holds no molecules"),
        (["CO a", "CCO b", "CO a"], r"line 3: name 'a' is already used in line 1"),
    ],
)
def test_unusable_files_are_refused(tmp_path, lines, message):
    with pytest.raises(UserError, match=rf"molecules\.smi: .*{message}"):
        prepared(source(smiles_file(tmp_path, *lines)), LEVEL, seed=1)


def test_missing_files_suffixes_and_names_are_refused(tmp_path):
    relative = r"no such file; paths in a configuration are relative to the folder where the command is typed"
    for asked in (size, partial(prepared, seed=1)):
        with pytest.raises(UserError, match=rf"dataset\.train: .*nowhere\.smi: {relative}"):
            asked(source(tmp_path / "nowhere.smi"), LEVEL)
    chosen = source(smiles_file(tmp_path, "CO methanol"), test=str(tmp_path / "nowhere.smi"))
    with pytest.raises(UserError, match=rf"dataset\.test: .*nowhere\.smi: {relative}"):
        prepared(chosen, LEVEL, seed=1)
    (tmp_path / "molecules.mol2").write_text("x")
    with pytest.raises(UserError, match=r"unknown suffix '\.mol2'"):
        size(source(tmp_path / "molecules.mol2"), LEVEL)
    (tmp_path / "table.csv").write_text("structure,name\nCO,methanol\n")
    with pytest.raises(
        UserError, match=r"table\.csv: has no column 'smiles' \(found: structure, name\); rename one .*dataset"
    ):
        prepared(source(tmp_path / "table.csv"), LEVEL, seed=1)
    with pytest.raises(UserError, match=r"dataset\.test_molecules: 'water' is not in"):
        prepared(source(smiles_file(tmp_path, "CO methanol"), test_molecules=["water"]), LEVEL, seed=1)
    path = smiles_file(tmp_path, "CO methanol", "CF fluoromethane")
    with pytest.raises(UserError, match=r"test conformation fluoromethane/0000 has F, which no training molecule has"):
        prepared(source(path, test_molecules=["fluoromethane"]), LEVEL, seed=1)


def test_text_files_as_people_write_them(tmp_path, caplog):
    (tmp_path / "a.smi").write_bytes("\ufeffCO\tmethanol\t0.5\r\nCCO\r\n".encode())
    molecules, _ = read_molecules(tmp_path / "a.smi")
    assert [one.name for one in molecules] == ["methanol", "mol2"]
    (tmp_path / "latin.csv").write_bytes("smiles,name\nCO,m\xe9thanol\n".encode("latin-1"))
    (tmp_path / "latin.smi").write_bytes("CO m\xe9thanol\nC methane\n".encode("latin-1"))
    for name, line in (("latin.csv", 2), ("latin.smi", 1)):
        molecules, _ = read_molecules(tmp_path / name)
        assert molecules[0].name == "m\xe9thanol"
        assert caplog.records[-1].getMessage().startswith(f"{tmp_path / name}: line {line} is not UTF-8; its")


def test_the_largest_molecules_are_embedded_too():
    peptide = Chem.AddHs(Chem.MolFromSequence("G" * 25))
    assert embed(peptide, 2, seed=1).shape == (2, 178, 3)


@pytest.mark.parametrize("text", ["SMILES,Name\nCO,a\n", "Name;smiles;n\na;CO;1,5\n", "smiles\tNAME\nCO\ta\n"])
def test_tables_of_other_programs(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(f"\ufeff{text}".encode())
    molecules, left_out = read_molecules(tmp_path / "a.csv")
    assert [(one.name, Chem.MolToSmiles(Chem.RemoveHs(one.mol))) for one in molecules] == [("a", "CO")]
    assert not left_out and [dict(one) for one in molecules[0].properties] in ([{}], [{"n": "1,5"}])


def test_the_column_that_is_written_the_same_way_comes_first(tmp_path):
    (tmp_path / "a.csv").write_text("SMILES,smiles,name\nC,CO,a\n")
    assert [Chem.MolToSmiles(record.mol) for record in read_records(tmp_path / "a.csv")] == ["CO"]
    shouted = read_records(tmp_path / "a.csv", smiles_column="SMILES")
    assert [Chem.MolToSmiles(record.mol) for record in shouted] == ["C"]


@pytest.mark.parametrize(("cut", "n_warnings"), [("", 0), ("$$$$\n", 1), ("1.5\n\n$$$$\n", 1)])
def test_an_sdf_that_is_cut_off_is_said(tmp_path, caplog, cut, n_warnings):
    mols = [Chem.AddHs(Chem.MolFromSmiles(smiles)) for smiles in ("CO", "CCO")]
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for mol in mols:
            rdDistGeom.EmbedMolecule(mol, randomSeed=3)
            mol.SetProp("price", "1.5")
            writer.write(mol)
    whole = (tmp_path / "a.sdf").read_text()
    assert whole.endswith("1.5\n\n$$$$\n")
    (tmp_path / "a.sdf").write_text(whole.removesuffix(cut))
    assert len(read_molecules(tmp_path / "a.sdf")[0]) == 2
    said = f"{tmp_path / 'a.sdf'}: the last record does not end with $$$$; the file may be cut off"
    assert [record.getMessage() for record in caplog.records] == [said] * n_warnings


def test_csv_with_named_columns_and_charge(tmp_path):
    (tmp_path / "table.csv").write_text("who,structure\nammonium,C[NH3+]\nacetate,CC(=O)[O-]\n")
    dataset = prepared(source(tmp_path / "table.csv", smiles_column="structure", name_column="who"), LEVEL, seed=1)
    charges = dict(zip(dataset.train.molecule, dataset.train.charge.tolist(), strict=True))
    assert charges == {"ammonium": 1, "acetate": -1} and (dataset.train.multiplicity == 1).all()


def test_sdf_geometries_are_kept(tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("OCCF"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=3)
    mol.SetProp("_Name", "fluoroethanol")
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        writer.write(mol)
    molecules, left_out = read_molecules(tmp_path / "a.sdf")
    kept, failed = conformations_of(molecules, n_conformers=0, seed=1, prune_rmsd=0.0)
    assert not left_out and not failed and kept.id == ["fluoroethanol/0000"]
    np.testing.assert_allclose(kept.position, mol.GetConformer().GetPositions(), atol=1e-4)


def test_records_of_an_sdf_with_one_name_are_conformers_of_one_molecule(tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("OCCF"))
    rdDistGeom.EmbedMultipleConfs(mol, 3, randomSeed=3)
    mol.SetProp("_Name", "fluoroethanol")
    shuffled = Chem.RenumberAtoms(mol, list(reversed(range(mol.GetNumAtoms()))))
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for one, conformer in ((mol, 0), (shuffled, 1), (mol, 2)):
            writer.write(one, confId=conformer)
    chosen = source(tmp_path / "a.sdf", conformers=0)
    dataset = prepared(chosen, LEVEL, seed=1)
    assert len(dataset.train) == 2 and len(dataset.test) == 1 and size(chosen, LEVEL).initial_labels == 3
    second = dataset.train.position[dataset.train.rows(1)]
    expected = mol.GetConformer(1).GetPositions()
    distances = [np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=None) for x in (second, expected)]
    np.testing.assert_allclose(*distances, atol=1e-3)  # whatever the order of rows
    for bond in molecule(dataset.train.mapped_smiles[1]).GetBonds():
        assert np.linalg.norm(second[bond.GetBeginAtomIdx()] - second[bond.GetEndAtomIdx()]) < 1.7


def test_labels_that_come_with_the_data_are_kept_at_their_level(tmp_path):
    bare = prepared(source(smiles_file(tmp_path, "CO methanol")), LEVEL, seed=1).train
    status = np.array([Status.OK, Status.NOT_COMPUTED, Status.OK])
    write(tmp_path / "d0.h5", bare.with_columns(values={"status": status}, **LEVEL.attrs()))
    chosen = source(tmp_path / "d0.h5")
    assert size(chosen, LEVEL).initial_labels == 1
    assert prepared(chosen, LEVEL, seed=1).test.values["status"].tolist() == [Status.OK]  # its DFT start is paid for
    assert prepared(chosen, LEVEL, seed=1).train.values["status"].tolist() == [Status.OK, Status.NOT_COMPUTED]
    unknown = source(tmp_path / "d0.h5", test_molecules=["water"])
    with pytest.raises(UserError, match=r"dataset\.test_molecules: 'water' is not in"):
        prepared(unknown, LEVEL, seed=1)
    with pytest.raises(UserError, match=r"d0\.h5: labels are hf/sto-3g .*configured oracle is wb97x-d/def2-svp"):
        prepared(chosen, LevelOfTheory("psi4", "wb97x-d", "def2-svp"), seed=1)


def test_size_bounds_what_is_prepared(tmp_path):
    chosen = source(smiles_file(tmp_path, "CCO ethanol", "", "# note", "FCO fluoromethanol"))
    bound, dataset = size(chosen, LEVEL), prepared(chosen, LEVEL, seed=1)
    assert bound.initial_labels >= len(dataset.train) and bound.test_conformations >= len(dataset.test)


def test_files_round_trip_through_prepared(tmp_path):
    train = prepared(source(smiles_file(tmp_path, "CO methanol")), LEVEL, seed=1).train
    write(tmp_path / "train.h5", train)
    assert unlabelled(read(tmp_path / "train.h5")).id == train.id


def test_one_molecule_under_two_names_is_no_test_molecule(tmp_path):
    """The ETKDG seed depends on the molecule alone, so both names get the same geometries."""
    (tmp_path / "a.smi").write_text("CO methanol\nCCO ethanol\nCO carbinol\n")
    with pytest.raises(UserError, match="'carbinol/0000' is the training conformation 'methanol/0000'"):
        prepare(source(tmp_path / "a.smi", test_molecules=["carbinol"]), LEVEL, elements=[1, 6, 8], seed=1)


def test_stereoisomers_under_one_name_are_not_conformers(tmp_path):
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for smiles in ("C/C=C/C", "C/C=C\\C"):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            rdDistGeom.EmbedMolecule(mol, randomSeed=1)
            mol.SetProp("_Name", "butene")
            writer.write(mol)
    with pytest.raises(UserError, match="name 'butene' is already used in record 1"):
        read_molecules(tmp_path / "a.sdf")
