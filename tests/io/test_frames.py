"""Files of geometries as people have them: frames and rows are judged alone, and only what they say by a key counts."""

import shutil
import sqlite3
import subprocess
import sys

import ase.db
import h5py
import numpy as np
import pytest
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom

from golf.chem.molecules import mapped_smiles
from golf.chem.usable import LeftOut
from golf.cli.main import main
from golf.cli.summary import describe
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.io.formats import EXTXYZ, NABLADFT, count_conformations
from golf.io.identity import derived_bonds
from golf.io.pieces import Embedding, expected, pieces_of
from golf.io.read import read_conformations, read_structures, records_of
from golf.nnp.potential import Architecture, Potential
from golf.training.own_labels import read_labels
from support.mmff_labels import labelled_conformers

POSITIONS = [[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]
WATER = ("O 0 0 0.1173", "H 0 0.7572 -0.4692", "H 0 -0.7572 -0.4692")
ALL = [1, 6, 7, 8, 9, 16]


def frame(*rows, comment="", n=None):
    return "\n".join([str(len(rows) if n is None else n), comment, *rows]) + "\n"


def records(path, text, encoding="utf-8"):
    """Names and contents of the records of an .xyz with this text, which are as many as the plan has."""
    path.write_text(text, encoding=encoding)
    found = [one.content for one in records_of(path, EXTXYZ)]
    assert len(found) == expected(path, None) == sum(count_conformations(path, EXTXYZ).values())
    return found


def of(mol, order=None):
    """Atomic numbers and positions of a molecule, in another order of its atoms."""
    order = list(range(mol.GetNumAtoms())) if order is None else order
    return np.array([mol.GetAtomWithIdx(i).GetAtomicNum() for i in order]), mol.GetConformer().GetPositions()[order]


def embedded(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    return mol


def rows_of(mol, order=None):
    numbers, positions = of(mol, order)
    return [f"{number} {x:.6f} {y:.6f} {z:.6f}" for number, (x, y, z) in zip(numbers, positions, strict=True)]


# ------------------------------------------------------------------------------------------------------------ comments


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("molecule 2 charge 1 multiplicity 3", "O"),
        ("charge", "O"),
        ("energy: -5.07 gnorm: 0.0003 xtb: 6.6.1", "O"),
        ("name=007", "007"),
        ("name=1e3", "1e3"),
        ("name=T", "T"),
        ("name=2026-01-02 charge = 0", "2026-01-02"),
        ('name="water, heavy \\"drop\\""', 'water, heavy "drop"'),
        ("name='it is water'", "it is water"),
        ("name=a\\\\b", "a\\b"),
        ("name= charge=0", "O"),
        ("name=cis/trans", "cis/trans"),
        ("name=water/0007", "water"),
        ("note={charge=1 name=x} spin=1", "O"),
        ("smiles=O MOLECULE=x molecule=y", "y"),
    ],
)
def test_only_keys_with_values_count_and_values_are_text(tmp_path, comment, name):
    (content,) = records(tmp_path / "a.xyz", frame(*WATER, comment=comment))
    assert content[1:5] == (name, "[O:1]([H:2])[H:3]", 0, 1)


def test_a_smiles_in_a_comment_keeps_its_brackets_and_backslashes(tmp_path):
    mol = embedded("F/C=C\\Cl")
    (content,) = records(tmp_path / "a.xyz", frame(*rows_of(mol), comment="smiles=F/C=C\\Cl"))
    assert Chem.MolToSmiles(Chem.RemoveHs(Chem.MolFromSmiles(content[2]))) and "\\" in content[2]
    (content,) = records(tmp_path / "a.xyz", frame(*rows_of(embedded("[NH4+]")), comment="smiles=[NH4+]"))
    assert content[3] == 1


@pytest.mark.parametrize("smiles", ["CC(=O)[O-]", "C[N+](=O)[O-]", "C[C@H](O)CN", "CN=[N+]=[N-]"])
def test_a_smiles_whose_atoms_are_in_another_order_is_found_again(tmp_path, smiles):
    mol = embedded(smiles)
    order = np.random.default_rng(1).permutation(mol.GetNumAtoms()).tolist()
    (content,) = records(tmp_path / "a.xyz", frame(*rows_of(mol, order), comment=f"smiles={smiles}"))
    back = Chem.MolFromSmiles(content[2])
    for atom in back.GetAtoms():
        atom.SetAtomMapNum(0)
    assert Chem.MolToSmiles(Chem.RemoveHs(back)) == Chem.CanonSmiles(smiles)
    assert content[3] == Chem.GetFormalCharge(mol)


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("multiplicity=0", "multiplicity is 0; it is the number of unpaired electrons plus 1"),
        ("spin=2", "multiplicity .spin. is 2, which 10 electrons cannot have"),
        ("mult=1 spin=3", "mult=1 and spin=3 contradict each other"),
        ("charge=0.5", "charge is 0.5, not a whole number"),
        ("charge=minus", "charge is minus, not a whole number"),
        ("Charge=1", "no bonds can be derived for charge 1: it has an odd number of electrons"),
        ("charge=1 smiles=O", "charge is 1, but that of its SMILES is 0"),
        ("smiles=CO", "its atoms are not in the order of its SMILES"),
        ("smiles=C1CC", "RDKit cannot parse its SMILES 'C1CC'"),
    ],
)
def test_what_contradicts_itself_is_left_out(tmp_path, comment, reason):
    first, second = records(tmp_path / "a.xyz", frame(*WATER, comment=comment) + frame(*WATER))
    assert (
        isinstance(first, LeftOut)
        and first.name.startswith("frame 1, line 1")
        and reason.replace(".", "") in (first.reason.replace("(", "").replace(")", "").replace(".", ""))
    )
    assert second[1] == "O"


@pytest.mark.parametrize("smiles", ["CC~O", "*C", "[*:1]C"])
def test_a_smiles_that_leaves_bonds_or_atoms_open_is_no_molecule(tmp_path, smiles):
    out, _ = records(tmp_path / "a.xyz", frame(*WATER, comment=f"smiles={smiles}") + frame(*WATER))
    assert "unknown order" in out.reason or "attachment point or query atom" in out.reason


def test_spins_are_read(tmp_path):
    oxygen = ("O 0 0 0", "O 0 0 1.21")
    comments = ["", "multiplicity=3", "spin=3", "spin=2", "spin=0"]
    found = records(tmp_path / "a.xyz", "".join(frame(*oxygen, comment=comment) for comment in comments))
    assert [content[4] for content in found if not isinstance(content, LeftOut)] == [1, 3, 3, 1]
    assert isinstance(found[3], LeftOut)
    (piece,) = pieces_of(tmp_path / "a.xyz", elements=ALL, size=9, embedding=Embedding())
    assert not len(piece.conformations) and len(piece.left_out) == 5
    assert "its ground state is a triplet" in piece.left_out[0].reason
    (tmp_path / "a.xyz").write_text(frame(*oxygen))
    with pytest.raises(UserError, match="its ground state is a triplet"):
        read_structures(tmp_path / "a.xyz")
    columns = "Properties=species:S:1:pos:R:3:initial_magmoms:R:1"
    (content,) = records(tmp_path / "a.xyz", frame("O 0 0 0 1.0", "O 0 0 1.21 1.0", comment=columns))
    assert content[4] == 3


# -------------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    "rows",
    [
        ("8 0 0 0.1173", "1 0 0.7572 -0.4692", "1 0 -0.7572 -0.4692"),
        ("O 0.0D+00 0.0d0 1.173D-01", "H 0 7.572D-1 -0.4692", "H 0 -0.7572D+00 -0.4692"),
        ("O\t0.0\t 0.0\t 1.173*^-1\t-0.4", "H 0 0.7572 -4692.*^-4 0.2", "H 0 -0.7572 -0.4692 0.2"),
        ("o 0 0 0.1173", "h 0 0.7572 -0.4692", "h 0 -0.7572 -0.4692"),
    ],
)
def test_atoms_as_programs_write_them(tmp_path, rows):
    (content,) = records(tmp_path / "a.xyz", frame(*rows))
    assert content[2] == "[O:1]([H:2])[H:3]"
    np.testing.assert_allclose(content[6], POSITIONS, atol=1e-12)


BAD_FRAMES = {
    "line 9: 'xx' is not a number": frame("O 0 0 0", "H 0 xx 0.9", "H 0 0 0.9"),
    "line 8: '1_0' is not a number": frame("O 0 0 1_0", "H 0 0 0.9", "H 0 0.9 0"),
    "line 10: 'X' is a ghost or dummy atom; remove it": frame(*WATER[:2], "X 0 0 3"),
    "line 10: 'Gh(O)' is a ghost or dummy atom": frame(*WATER[:2], "Gh(O) 0 0 3"),
    "line 10: '@O' is a ghost or dummy atom": frame(*WATER[:2], "@O 0 0 3"),
    "line 10: 'O-Bq' is a ghost or dummy atom": frame(*WATER[:2], "O-Bq 0 0 3"),
    "line 10: '0' is a ghost or dummy atom": frame(*WATER[:2], "0 0 0 3"),
    "line 10: 'C1' is not the symbol of an element": frame(*WATER[:2], "C1 0 0 3"),
    "line 10: has 3 columns, but species:S:1:pos:R:3 has 4": frame(*WATER[:2], "H 0 0"),
    "has fewer than 5 atoms (3)": frame(*WATER, n=5),
    "has more atoms than the stated 2": frame(*WATER, n=2),
    "has no atoms": "0\n\n",
    "'three' is not a number of atoms": frame(*WATER, n="three"),
    "positions are not finite numbers": frame("O 0 0 nan", *WATER[1:]),
    "Properties species:S:1 lacks species, or pos of": frame(*WATER, comment="Properties=species:S:1"),
    "no bonds can be derived for charge 0: ": frame("C 0 0 0", "C 9 9 9"),
}


@pytest.mark.parametrize("reason", BAD_FRAMES)
def test_a_bad_frame_is_left_out_with_its_place_and_the_others_are_read(tmp_path, reason):
    good = frame(*WATER, comment="name=good")
    first, bad, last = records(tmp_path / "a.xyz", good + BAD_FRAMES[reason] + "\n" + good)
    assert first[0] == "good/0000" and last[0] == "good/0001"
    assert bad.line == 2 and bad.name == "frame 2, line 6" and reason in bad.reason


def test_a_frame_of_qm9_may_be_followed_by_another(tmp_path):
    qm9 = frame(*WATER, comment="gdb 3\t799.5\t437.9\t") + "1671.4\t3803.0\t3907.6\nO\tO\nInChI=1S/H2O\tInChI=1S/H2O\n"
    assert [content[0] for content in records(tmp_path / "a.xyz", qm9 * 2)] == ["O/0000", "O/0001"]


def test_a_comment_in_latin_1_is_no_obstacle(tmp_path):
    (content,) = records(tmp_path / "a.xyz", frame(*WATER, comment="Energie in \u00c5 und \u00b0"), "latin-1")
    assert content[1] == "O"


def test_a_file_of_another_kind_is_refused_as_a_whole(tmp_path):
    (tmp_path / "a.xyz").write_text("Dear colleague,\n\n3\n")
    with pytest.raises(UserError, match=r"a\.xyz: frame 1: 'Dear colleague,' is not a number of atoms, so this"):
        list(records_of(tmp_path / "a.xyz", EXTXYZ))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pt"
    Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5, 6: -37.8, 8: -74.9}).save(path)
    return path


def test_golf_relax_does_the_frames_that_are_good(tmp_path, model, capsys):
    bad = BAD_FRAMES["line 10: 'X' is a ghost or dummy atom; remove it"]
    (tmp_path / "a.xyz").write_text(frame(*WATER) + bad + frame(*WATER))
    line = ["relax", str(tmp_path / "a.xyz"), "-m", str(model), "-o", str(tmp_path / "out.sdf"), "--max-steps", "1"]
    assert main(line) == 1
    assert "frame 2, line 6 is left out: line 10: 'X' is a ghost" in capsys.readouterr().err
    assert (tmp_path / "out.sdf").read_text().count("$$$$") == 2


def test_labels_are_looked_at_only_where_they_are_used(tmp_path):
    text = frame(*WATER, comment="energy=-76.4")  # no forces
    (tmp_path / "a.extxyz").write_text(text)
    assert len(read_structures(tmp_path / "a.extxyz")) == 1
    conformations, left_out = read_conformations(tmp_path / "a.extxyz", EXTXYZ)
    assert not len(conformations) and "has energy but no forces" in left_out[0].reason


# ----------------------------------------------------------------------------------------------- what no geometry is


def test_drawings_and_atoms_at_one_place_are_no_geometries(tmp_path):
    flat = Chem.AddHs(Chem.MolFromSmiles("CO"))
    rdDepictor.Compute2DCoords(flat)
    flat.GetConformer().SetPositions(0.8 * flat.GetConformer().GetPositions())  # bonds of 1.2 angstrom
    on_top = ("O 0 0 0.1173", "H 0 0.7572 -0.4692", "H 0 0.7572 -0.4692")
    text = frame(*rows_of(flat), comment=f'mapped_smiles="{mapped_smiles(flat)}"') + frame(*WATER)
    text += frame(*on_top, comment='mapped_smiles="[O:1]([H:2])[H:3]"')
    (tmp_path / "a.xyz").write_text(text)
    (piece,) = pieces_of(tmp_path / "a.xyz", elements=ALL, size=9, embedding=Embedding())
    reasons = [out.reason.partition(",")[0] for out in piece.left_out]
    assert reasons == ["its geometry is flat", "two atoms at the same position (atoms 2 and 3)"]
    assert len(piece.conformations) == 1
    with pytest.raises(UserError, match="its geometry is flat, as in a drawing"):
        read_structures(tmp_path / "a.xyz")


def test_bonds_that_are_not_found_in_time_are_given_up():
    """With a wrong charge RDKit tries all combinations of valences of six sulfurs."""
    numbers, positions = of(embedded("CS(=O)(=O)N" * 6 + "C"))
    with pytest.raises(UserError, match="its bonds could not be derived within 0.5 s; state its charge"):
        derived_bonds(numbers, positions, 2, timeout=0.5)
    assert derived_bonds(np.array([8, 1, 1]), np.array(POSITIONS), 0)


# ----------------------------------------------------------------------------------------------------------- databases


def acetate(**arrays):
    numbers, positions = of(embedded("CC(=O)[O-]"))
    return Atoms(numbers, positions, **arrays)


def test_charges_and_names_of_rows_of_a_database(tmp_path):
    charges = np.array([-0.3, 0.2, -0.4, -0.499, 0.0, 0.0, 0.0])
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(acetate(charges=charges), name="initial charges")
        database.write(acetate(charges=charges + 0.4), name="key", charge=-1.0)
        database.write(acetate(), name="data", data={"charge": -1})
        database.write(acetate(), smiles="CC(=O)[O-]")
        database.write(acetate(), name="nothing")
        database.write(acetate(), name="half", charge=0.5)
        database.write(Atoms("X"), name="ghost")
    found = [one.content for one in records_of(tmp_path / "a.db", NABLADFT)]
    good = [content for content in found if not isinstance(content, LeftOut)]
    assert [content[1] for content in good] == ["initial charges", "key", "data", "a-4"]
    assert {content[3] for content in good} == {-1}
    reasons = {out.name: out.reason for out in found if isinstance(out, LeftOut)}
    assert "odd number of electrons" in reasons["row 5, nothing"]
    assert reasons["row 6, half"] == "charge is 0.5, not a whole number; correct it"
    assert "ghost or dummy atom" in reasons["row 7, ghost"]


def test_a_database_with_other_labels_has_geometries(tmp_path, model):
    with ase.db.connect(tmp_path / "a.db") as database:
        database.metadata = {"_property_unit_dict": {"energy": "kcal/mol"}, "_distance_unit": "Ang", "atomrefs": {}}
        database.write(Atoms("OH2", POSITIONS), data={"energy": 1.0})
    line = ["relax", str(tmp_path / "a.db"), "-m", str(model), "-o", str(tmp_path / "out.sdf"), "--max-steps", "1"]
    assert main(line) == 0 and (tmp_path / "out.sdf").read_text().count("$$$$") == 1
    assert len(read_structures(tmp_path / "a.db")) == 1
    assert "labels                cannot be used: does not state the units" in describe(tmp_path / "a.db")


def test_geometries_of_nabladft_need_no_labels(reference_data, tmp_path):
    with ase.db.connect(reference_data / "data/nabladft_sample.db") as given:
        rows = list(given.select(limit=2))
    with ase.db.connect(tmp_path / "a.db") as database:
        for row in rows:
            database.write(row.toatoms(), **row.key_value_pairs)
    assert read_structures(tmp_path / "a.db").id == [f"{row.moses_id}/{row.conformation_id}" for row in rows]


def test_another_database_of_sqlite_is_refused_and_stays_as_it_is(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE molecules (id INTEGER)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"other\.db: not an ASE database \(it has no table systems\)"):
        read_structures(path)
    assert path.read_bytes() == before


HOLD = {
    ".db": "import sqlite3; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE')",
    ".h5": "import h5py; f = h5py.File(sys.argv[1], 'r+')",
}


@pytest.mark.parametrize("suffix", HOLD)
def test_a_file_that_another_process_has_locked_is_said_to_be(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("golf.io.formats.LOCK_SECONDS", 0.2)
    path = tmp_path / f"a{suffix}"
    if suffix == ".db":
        with ase.db.connect(path) as database:
            database.write(acetate(), name="acetate", charge=-1)
    else:
        write(path, labelled_conformers(["CO"], 1))
    code = f"import sys; {HOLD[suffix]}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"a\{suffix}: locked by another process, which is writing to it; wait"):
            read_structures(path)
        holder.communicate("")
    assert len(read_structures(path)) == 1


# ----------------------------------------------------------------------------------------------------------- own files


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.h5"
    level = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}
    write(path, labelled_conformers(["CO", "O"], 2).with_columns(**level))
    return path


def changed(path, column, value):
    copy = shutil.copy(path, path.with_name("changed.h5"))
    with h5py.File(copy, "r+") as file:
        file[column][0] = value
    return path.with_name("changed.h5")


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("conformation/charge", 1, "charge is 1, but that of its SMILES is 0; correct one"),
        ("conformation/multiplicity", 0, "multiplicity is 0"),
        ("conformation/multiplicity", 2, r"multiplicity \(spin\) is 2, which 18 electrons cannot have"),
        ("atoms/number", 8, "its atoms are not those of its SMILES, in this order"),
    ],
)
def test_an_h5_that_contradicts_its_smiles_is_refused(labels, column, value, reason):
    path = changed(labels, column, value)
    for reading in (read_structures, read_labels):
        with pytest.raises(UserError, match=f"changed.h5: .*methanol/0000.*{reason}|changed.h5: .*{reason}"):
            reading(path)
    (piece,) = pieces_of(path, elements=ALL, size=9, embedding=Embedding())
    assert len(piece.conformations) == 3 and len(piece.left_out) == 1 and piece.left_out[0].line == 1
    assert len(read_conformations(path, "golf")[1]) == 1
    assert "cannot be used        1, first " in describe(path)


@pytest.mark.parametrize("column", ["conformation/molecule", "conformation/charge", "atoms/position", "atoms/offset"])
def test_an_h5_without_a_column_is_refused_by_its_name(labels, model, column, capsys):
    path = shutil.copy(labels, labels.with_name("missing.h5"))
    with h5py.File(path, "r+") as file:
        del file[column]
    for reading in (read, read_structures, describe):
        with pytest.raises(UserError, match=rf"missing\.h5: has no column {column} \(docs/hdf5\.md\)"):
            reading(path)
    assert main(["relax", str(path), "-m", str(model), "-o", str(labels.with_name("out.sdf"))]) == 2
    assert f"missing.h5: has no column {column}" in capsys.readouterr().err
