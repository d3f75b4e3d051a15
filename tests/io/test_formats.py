"""Sources of a study in formats of others: nablaDFT's databases, and what holds for all of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.units import Hartree
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from golf.cli.main import main
from golf.cli.summary import describe
from golf.core.conformations import Status
from golf.core.elements import MMFF_NUMBERS
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.core.level import LevelOfTheory
from golf.io.formats import LEVELS, NABLADFT, SUFFIXES, count_records
from golf.io.pieces import Embedding, pieces_of
from golf.io.plausibility import check_labels
from golf.io.read import read_conformations, read_structures
from golf.io.records import read_records
from golf.oracles.merging import merge_labels
from golf.study.dataset import prepare
from golf.study.plan import size
from support.data_sets import (
    LEVEL_KEYS,
    OTHER,
    REPOSITORY,
    frames,
    prepared,
    source,
    write_spice,
    written,
)


def test_nabladft_labels_are_used_at_their_level(reference_data, tmp_path):
    path = reference_data / "data/nabladft_sample.db"
    chosen = {"test_molecules": ["79947", "87045"]}
    dataset = prepared(path, LEVELS[NABLADFT], **chosen)
    assert size(source(path, **chosen), LEVELS[NABLADFT]).initial_labels == 0
    assert len(dataset.train) == 58 and sorted(dataset.test.molecule) == ["79947", "87045"]
    with ase.db.connect(path) as database:
        row = next(row for row in database.select() if f"{row.moses_id}/{row.conformation_id}" == dataset.train.id[0])
        atoms = np.array(database.metadata["atomrefs"]["energy"])
    assert dataset.train.values["energy"][0] == pytest.approx(
        row.data["energy"][0] + atoms[row.numbers].sum(), abs=1e-9
    )
    np.testing.assert_array_equal(dataset.train.atoms["force"][dataset.train.rows(0)], row.data["forces"])
    write(tmp_path / "train.h5", dataset.train)
    merge_labels(tmp_path / "train.h5", [], tmp_path / "labels.h5", max_force_norm=1.0)
    labels = read(tmp_path / "labels.h5")
    assert (labels.values["status"] == Status.OK).any() and LEVELS[NABLADFT].matches(labels.attrs)
    assert labels.attrs["program_version"] == "1.5"


def test_nabladft_of_another_level_is_refused_or_labelled_anew(reference_data):
    path = reference_data / "data/nabladft_sample.db"
    with pytest.raises(
        UserError, match=r"labels are wb97x-d/def2-svp .*configured oracle is hf/sto-3g .*dataset\.relabel"
    ):
        prepared(path, OTHER, test_molecules=["79947"])
    dataset = prepared(path, OTHER, test_molecules=["79947"], relabel=["wB97X-D/def2-SVP"])
    assert (dataset.train.values["status"] == Status.NOT_COMPUTED).all()
    assert np.isnan(dataset.train.values["energy"]).all() and "method" not in dataset.train.attrs


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"energy": Hartree}, r"energies are 1\.\d+ times those of the atoms, .*not in the stated unit"),
        ({"forces": -1.0}, r"forces point against those of MMFF \(mean cosine -0\.9\d over 10 .*they are gradients"),
    ],
)
def test_nabladft_in_electronvolt_or_with_gradients_is_refused(reference_data, tmp_path, scale, message):
    with (
        ase.db.connect(reference_data / "data/nabladft_sample.db") as given,
        ase.db.connect(tmp_path / "wrong.db") as database,
    ):
        database.metadata = given.metadata
        for row in given.select(limit=10):
            data = {name: np.array(values) * scale.get(name, 1.0) for name, values in row.data.items()}
            database.write(row.toatoms(), data=data, **row.key_value_pairs)
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "wrong.db", LEVELS[NABLADFT])


def test_nabladft_may_have_total_energies(reference_data, tmp_path):
    sample = reference_data / "data/nabladft_sample.db"
    with ase.db.connect(sample) as given, ase.db.connect(tmp_path / "total.db") as database:
        database.metadata = given.metadata
        atoms = np.array(given.metadata["atomrefs"]["energy"])
        for row in given.select(limit=5):
            data = dict(row.data) | {"energy": np.ravel(row.data["energy"]) + atoms[row.numbers].sum()}
            database.write(row.toatoms(), data=data, **row.key_value_pairs)
    total, formation = read_conformations(tmp_path / "total.db", NABLADFT)[0], read_conformations(sample, NABLADFT)[0]
    np.testing.assert_allclose(total.values["energy"], formation.values["energy"][:5], rtol=1e-12)


def test_each_set_has_its_own_format(reference_data, labelled, tmp_path):
    """Training data in a database, test data as SMILES or with DFT minima."""
    database = reference_data / "data/nabladft_sample.db"
    (tmp_path / "test.smi").write_text("CCO ethanol\nCCN ethylamine\n")
    dataset = prepared(database, LEVELS[NABLADFT], test=str(tmp_path / "test.smi"), test_conformers=2)
    assert len(dataset.train) == 60 and dataset.test.molecule == ["ethanol"] * 2 + ["ethylamine"] * 2
    dataset = prepared(database, LEVELS[NABLADFT], test=str(written(tmp_path, frames(labelled))), relabel=["unknown"])
    assert len(dataset.test) == 12 and len(dataset.reference) == 0
    dataset = prepared(database, LEVELS[NABLADFT], test=str(REPOSITORY / "data/test.h5"))
    assert len(dataset.reference) == len(dataset.test)


def test_minima_of_another_level_are_dropped_and_their_starts_kept():
    level = LevelOfTheory("psi4", "hf", "sto-3g")
    path = REPOSITORY / "data/test.h5"
    chosen = {"test": str(path), "relabel": ["wb97x-d/def2-svp"]}
    dataset = prepared(REPOSITORY / "data/initial.h5", level, **chosen)
    assert len(dataset.reference) == 0 and len(dataset.test) == len(read(path))
    np.testing.assert_array_equal(dataset.test.position, read(path).atoms["initial_position"])


SDF = "{}\n     golf\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"


@pytest.mark.parametrize(
    ("name", "text", "n"),
    [
        ("comments.smi", "# a note\nCO a\n\n#CO b\n #C c\n   \nCCO", 3),
        ("bom.smi", "\ufeff# a note\r\nCO a\r\n", 1),
        ("old.smi", "CO a\rCCO b\r", 2),
        ("page.smi", "CO a\x0cb\nCCO c\u2028d\n", 2),
        ("numbered.csv", "name,smiles\n#1,CO\n#2,CCO\n", 2),
        ("blank.csv", "smiles,name\nCO,a\n\n\nCCO,b\n,\n", 3),
        ("quoted.csv", '\ufeffsmiles,name,note\nCO,a,"two\nlines"\nCCO,b,"a\n\n#b"\n', 2),
        ("header.csv", "smiles,name", 0),
        ("semicolons.csv", '\ufeffSMILES;note\nCO;"two\nlines"\nCCO;b, c\n', 2),
        ("tabs.csv", 'smiles\tnote\nCO\t"two\n\nlines"\nCCO\tb;c\n', 2),
        ("ended.sdf", f"{SDF.format('a')}$$$$\n{SDF.format('b')}$$$$\n\n", 2),
        ("open.sdf", f"{SDF.format('a')}$$$$\n{SDF.format('b')}> <price>\n9 $$$$\n", 2),
    ],
)
def test_as_many_records_are_planned_as_will_be_read(tmp_path, name, text, n):
    (tmp_path / name).write_bytes(text.encode())
    assert count_records(tmp_path / name) == len(list(read_records(tmp_path / name))) == n


def test_a_csv_whose_names_begin_with_a_number_sign_is_planned(tmp_path):
    """`prepared` compares what there is with the plan."""
    (tmp_path / "a.csv").write_text("name,smiles\n#1,CO\n#2,CCO\n")
    assert len(prepared(tmp_path / "a.csv", OTHER).train) == size(source(tmp_path / "a.csv"), OTHER).initial_labels


def test_a_table_that_cannot_be_read_is_refused_while_planning(tmp_path):
    (tmp_path / "a.csv").write_text(f"smiles,name\n{'C' * 200_000},long\n")
    with pytest.raises(UserError, match=r"a\.csv: cannot be read as \.csv: field larger than field limit"):
        size(source(tmp_path / "a.csv"), OTHER)


def test_unknown_formats_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(
        UserError,
        match=r"dataset\.train: .*a\.npz: unknown suffix '\.npz'; give one of \.smi .*\(in a study: or set data",
    ):
        size(source(tmp_path / "a.npz"), OTHER)
    (tmp_path / "text.db").write_text("not a database\n" * 100)
    with pytest.raises(UserError, match=r"text\.db: not an ASE database"):
        size(source(tmp_path / "text.db"), OTHER)
    with pytest.raises(UserError, match=r"dataset\.subsets is for SPICE files"):
        prepare(source(REPOSITORY / "data/initial.h5", subsets=["x"]), OTHER, elements=MMFF_NUMBERS, seed=1)


def test_the_command_line_reads_and_describes_them(reference_data, labelled, tmp_path, capsys):
    path = write_spice(tmp_path / "SPICE.hdf5", labelled)
    assert len(read_structures(path)) == 13
    text = describe(path)
    assert "13 of 4 molecules" in text and "wb97m-d3bj/def2-tzvppd (psi4)" in text and "Dataset v1.2: 12 of 3" in text
    assert main(["inspect", str(reference_data / "data/nabladft_sample.db")]) == 0
    shown = capsys.readouterr().out
    assert "60 of 60 molecules" in shown and "wb97x-d/def2-svp (psi4 1.5)" in shown
    assert "12 of 3 molecules" in describe(written(tmp_path, frames(labelled, **LEVEL_KEYS)))
    with ase.db.connect(tmp_path / "plain.db") as database:
        for atoms in frames(labelled.subset([0, 1])):
            database.write(Atoms(atoms.numbers, atoms.positions))
    assert len(read_structures(tmp_path / "plain.db")) == 2


def in_every_format(folder, labelled, suffix):
    """Some conformations in a file of this suffix."""
    path = folder / f"data{suffix}"
    if suffix == ".hdf5":
        return write_spice(path, labelled)
    if suffix == ".h5":
        write(path, labelled)
    elif suffix == ".db":
        with ase.db.connect(path) as database:
            for atoms in frames(labelled):
                database.write(Atoms(atoms.numbers, atoms.positions))
    elif suffix == ".sdf":
        mol = Chem.AddHs(Chem.MolFromSmiles("CO"))
        rdDistGeom.EmbedMultipleConfs(mol, 2, randomSeed=1)
        with Chem.SDWriter(path) as writer:
            for conformer in range(2):
                writer.write(mol, confId=conformer)
    elif suffix in (".xyz", ".extxyz"):
        ase.io.write(path, list(frames(labelled)), format="extxyz")
    else:
        path.write_text({".smi": "CO a\nCCO b\n", ".csv": "smiles,name,note\nCO,a,x\nCCO,b,y\n"}[suffix])
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_in_capitals_is_the_same(labelled, tmp_path, suffix):
    small = in_every_format(tmp_path, labelled, suffix)
    (tmp_path / "capitals").mkdir()
    large = Path(shutil.copy(small, tmp_path / "capitals" / f"data{suffix.upper()}"))
    assert large.suffix != suffix and size(source(large), OTHER) == size(source(small), OTHER)
    assert describe(large) == describe(small).replace(str(small), str(large))
    assert read_structures(large).id == read_structures(small).id
    found = [[piece.conformations.id for piece in pieces_of(path, **PIECES)] for path in (small, large)]
    assert found[0] == found[1] and any(found[0])


PIECES = {"elements": MMFF_NUMBERS, "size": 100, "embedding": Embedding(None, 0.0, seed=1, threads=1)}


def test_the_plan_needs_neither_rdkit_nor_ase(labelled, reference_data, tmp_path):
    spice = write_spice(tmp_path / "SPICE.hdf5", labelled)
    shutil.copy(reference_data / "data/nabladft_sample.db", tmp_path / "a.db")
    code = (
        "import sys; from golf.io.formats import *; from golf.study.plan import size\n"
        f"print(sum(count_conformations({str(spice)!r}, SPICE).values()),"
        f" sum(count_conformations({str(tmp_path / 'a.db')!r}, NABLADFT).values()),"
        " {'torch', 'rdkit', 'ase'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert shown.stdout.strip() == "13 60 set()"


def test_energies_of_valence_electrons_alone_are_no_mistake_of_units(labelled):
    """GFN2-xTB has some 5 hartree for methanol, where DFT has 115."""
    scaled = labelled.with_columns(values={"energy": labelled.values["energy"] / 27.2}, program="ase")
    check_labels(scaled, "xtb.h5")
    with pytest.raises(UserError, match="energies are"):
        check_labels(scaled.with_columns(program="psi4"), "dft.h5")
