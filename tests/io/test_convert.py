"""Conversions of labelled conformations: what other programs read, that nothing is lost, and what wrong files get."""

import gzip
from dataclasses import replace

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from rdkit import Chem

import golf
from golf.cli.main import main
from golf.core import hdf5
from golf.core.conformations import ConformationSet, Status
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_EV
from golf.io.convert import convert
from golf.io.identity import formal_charge
from golf.io.labelled import LabelledReader
from golf.training.own_labels import read_labels
from support.mmff_labels import labelled_conformers

LEVEL = {
    "program": "psi4",
    "method": "hf",
    "basis": "sto-3g",
    "keywords": '{"scf_type": "df"}',
    "program_version": "1.9",
}
FAILED = 3


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def part() -> ConformationSet:
    """Ions among them, with a conformation that failed, and every bit of a float64 in use."""
    part = labelled_conformers(["OC=O", "C[NH3+]", "CC(=O)[O-]", "CO"], 3)
    charges = np.array([formal_charge(smiles) for smiles in part.mapped_smiles], np.int8)
    random = np.random.default_rng(1)
    noise = random.normal(scale=1e-9, size=part.position.shape)
    status = part.values["status"].copy()
    status[FAILED] = Status.NOT_CONVERGED
    forces, energies = part.atoms["force"] + noise, part.values["energy"] + random.normal(scale=1e-9, size=len(part))
    forces[0] = 0.0, -0.0, 1e-300
    forces[part.rows(FAILED)], energies[FAILED] = np.nan, np.nan
    return replace(part, charge=charges).with_columns(
        position=part.position + noise,
        atoms={"force": forces},
        values={"energy": energies, "status": status, "message": ["no" if s else "" for s in status]},
        **LEVEL,
    )


@pytest.fixture
def labels(part, tmp_path):
    hdf5.write(tmp_path / "labels.h5", part)
    return tmp_path / "labels.h5"


def assert_same(again, part):
    for name in ("id", "molecule", "mapped_smiles"):
        assert getattr(again, name) == getattr(part, name)
    for name in ("charge", "multiplicity", "number", "position", "offset"):
        np.testing.assert_array_equal(getattr(again, name), getattr(part, name))
    np.testing.assert_array_equal(again.atoms["force"], part.atoms["force"])
    np.testing.assert_array_equal(again.values["energy"], part.values["energy"])
    assert (again.values["status"] == Status.OK).tolist() == (part.values["status"] == Status.OK).tolist()
    assert {name: again.attrs[name] for name in LEVEL} == LEVEL


@pytest.mark.parametrize("suffix", [".extxyz", ".db", ".xyz"])
@pytest.mark.parametrize("size", [5000, 5])
def test_there_and_back_to_the_last_bit(part, labels, tmp_path, suffix, size, capsys, monkeypatch):
    monkeypatch.setattr("golf.io.convert.PIECE", size)
    monkeypatch.setattr(LabelledReader.pieces, "__defaults__", (size,))
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.h5"
    assert run("convert", labels, there) == 0
    said = capsys.readouterr().err
    assert f"{there}: 12 conformations, 11 labels of hf/sto-3g (psi4 1.9, scf_type=df)" in said
    assert said.splitlines()[1:] == ["golf: not kept: why conformations have no label"]
    assert run("convert", there, back) == 0
    assert "not kept" not in capsys.readouterr().err
    assert_same(hdf5.read(back), part)
    assert_same(golf.read(there), part)


def test_ase_and_trainers_find_the_labels(part, labels, tmp_path):
    """MACE reads REF_energy (eV), REF_forces (eV/angstrom) and charge from what ASE reads."""
    convert(labels, tmp_path / "labels.extxyz")
    frames = ase.io.read(tmp_path / "labels.extxyz", ":")
    assert len(frames) == len(part)
    for i, atoms in enumerate(frames):
        assert atoms.info["charge"] == part.charge[i] and atoms.calc is None
        if i == FAILED:
            assert "REF_energy" not in atoms.info and "REF_forces" not in atoms.arrays
            continue
        assert atoms.info["REF_energy"] == pytest.approx(part.values["energy"][i] * HARTREE_IN_EV, rel=1e-15)
        np.testing.assert_allclose(
            atoms.arrays["REF_forces"], part.atoms["force"][part.rows(i)] * HARTREE_IN_EV, rtol=1e-14, atol=1e-300
        )
    convert(labels, tmp_path / "labels.db")
    with ase.db.connect(tmp_path / "labels.db") as database:
        rows = list(database.select(method="hf"))
        assert len(rows) == len(part) - 1 and database.count(total_charge=1) == 3
    assert rows[0].energy == pytest.approx(part.values["energy"][0] * HARTREE_IN_EV, rel=1e-15)


def test_other_keys(part, labels, tmp_path):
    keys = ("--energy-key", "dft_energy", "--forces-key", "dft_forces")
    assert run("convert", labels, tmp_path / "a.extxyz", *keys) == 0
    assert ase.io.read(tmp_path / "a.extxyz").arrays["dft_forces"].shape == (6, 3)
    assert run("convert", tmp_path / "a.extxyz", tmp_path / "b.h5", *keys) == 0
    assert_same(hdf5.read(tmp_path / "b.h5"), part)
    assert_same(golf.read(tmp_path / "a.extxyz", energy_key="dft_energy", forces_key="dft_forces"), part)


def test_a_label_that_another_program_changed_is_read_as_it_is_now(labels, tmp_path):
    convert(labels, tmp_path / "labels.db")
    with ase.db.connect(tmp_path / "labels.db") as database:
        atoms = database.get(1).toatoms()
        atoms.calc.results["energy"] -= 1.0
        database.update(1, atoms)
    before, after = (golf.read(path).values["energy"][0] for path in (labels, tmp_path / "labels.db"))
    assert after == pytest.approx(before - 1.0 / HARTREE_IN_EV, abs=1e-12)


def test_an_sdf_has_the_molecules_and_energies_and_says_what_it_lacks(part, labels, tmp_path, capsys):
    assert run("convert", labels, tmp_path / "out.sdf") == 0
    assert "not kept: force, positions beyond 4 decimals, why" in capsys.readouterr().err
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False))
    assert [mol.GetProp("id") for mol in mols] == part.id and [mol.GetProp("_Name") for mol in mols] == part.molecule
    assert float(mols[0].GetProp("REF_energy_hartree")) == part.values["energy"][0]
    assert [Chem.GetFormalCharge(mol) for mol in mols] == part.charge.tolist()
    assert run("convert", tmp_path / "out.sdf", tmp_path / "again.h5") == 0
    again = hdf5.read(tmp_path / "again.h5")
    np.testing.assert_allclose(again.position, part.position, atol=6e-5)
    assert "status" not in again.values


def test_labels_without_a_level_need_one(tmp_path, capsys):
    """EMT's energies of methanol, as ASE writes them; the level is only known to who made them."""
    atoms = Atoms("CO", [(0, 0, 0), (0, 0, 1.13)])
    atoms.calc = EMT()
    atoms.get_forces()
    atoms.info["smiles"] = "[C-]#[O+]"
    ase.io.write(tmp_path / "emt.extxyz", atoms)
    assert run("convert", tmp_path / "emt.extxyz", tmp_path / "a.h5") == 0
    assert "do not state their level of theory; give it with --level" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"emt.extxyz: has no attribute program.*give it with --level"):
        read_labels(tmp_path / "emt.extxyz")
    assert run("convert", tmp_path / "emt.extxyz", tmp_path / "b.h5", "--level", "ase:ase.calculators.emt.EMT") == 0
    labelled = hdf5.read(tmp_path / "b.h5")
    assert (labelled.attrs["program"], labelled.attrs["basis"]) == ("ase", "none")
    assert labelled.values["energy"][0] == pytest.approx(atoms.get_potential_energy() / HARTREE_IN_EV, rel=1e-9)


def test_relaxed_conformations_keep_predictions_apart_from_labels(part, tmp_path):
    n = len(part)
    relaxed = part.with_columns(
        atoms={"nnp_force": np.nan_to_num(part.atoms["force"]) + 1.0},
        values={"nnp_energy_last": np.full(n, -1.0), "relative_energy": np.zeros(n), "largest_force": np.zeros(n),
                "stop_reason": np.zeros(n), "n_steps": np.full(n, 7)},
    )  # fmt: skip
    golf.write(tmp_path / "both.extxyz", relaxed)
    atoms = ase.io.read(tmp_path / "both.extxyz", 0)
    assert atoms.get_potential_energy() == pytest.approx(-HARTREE_IN_EV)
    assert atoms.info["REF_energy"] == pytest.approx(part.values["energy"][0] * HARTREE_IN_EV)
    assert_same(golf.read(tmp_path / "both.extxyz"), part)


def test_what_is_not_read_is_said(labels, tmp_path, capsys):
    convert(labels, tmp_path / "a.extxyz")
    frames = ase.io.read(tmp_path / "a.extxyz", ":")
    for atoms in frames:
        atoms.info["dipole"] = np.array([1.0, 0.0, 0.0])
        atoms.arrays["masses_of_mine"] = np.ones(len(atoms))
    ase.io.write(tmp_path / "b.extxyz", frames)
    assert run("convert", tmp_path / "b.extxyz", tmp_path / "b.h5") == 0
    assert "golf: not kept: dipole (not read), masses_of_mine (not read)" in capsys.readouterr().err


FRAME = "1\nProperties=species:S:1:pos:R:3{} {}\nHe 0 0 0{}\n"
WRONG = {
    "a.abc": ("x", r"a\.abc: unknown suffix '\.abc'; give one of"),
    "a.smi": ("CO\n", r"a\.smi: SMILES have no geometries to convert; make some with golf relax"),
    "a.h5": ("nothing", r"a\.h5: not a readable HDF5 file"),
    "a.db": ("nothing", r"a\.db: not an ASE database"),
    "empty.extxyz": ("", r"empty\.extxyz: no conformations to write"),
    "no_energy.extxyz": (
        FRAME.format(":REF_forces:R:3", "", " 0 0 0"),
        r"no conformations to write \(first: frame 1, line 1: has REF_forces but no REF_energy; give both or neither",
    ),
    "two.extxyz": (
        FRAME.format(":REF_forces:R:3:forces:R:3", "energy=-80 REF_energy=-79", " 0 0 0 0 0 0"),
        r"REF_energy and energy, or the forces, are different labels; remove one",
    ),
    "keywords.extxyz": (
        FRAME.format(":forces:R:3", "energy=-79 program=psi4 method=hf basis=sto-3g keywords=df", " 0 0 0"),
        r"keywords 'df' is not a JSON object",
    ),
    "levels.extxyz": (
        "".join(FRAME.format(":forces:R:3", f"energy=-79 program=psi4 method={m} basis=x", " 0 0 0") for m in "ab"),
        r"frame 2, line 4: its label is of level b/x \(psi4\), but others are of a/x \(psi4\); split",
    ),
    "a.h5.gz": ("x", r"a\.h5\.gz: only text files are read compressed; decompress it"),
    "plain.extxyz.gz": (FRAME.format("", "", ""), r"plain\.extxyz\.gz: not compressed with gzip"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_one_line_and_leave_nothing(tmp_path, capsys, name):
    text, message = WRONG[name]
    (tmp_path / name).write_text(text)
    assert run("convert", tmp_path / name, tmp_path / "out.h5") == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    with pytest.raises(UserError, match=message):
        raise UserError(said)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_bad_frame_is_left_out_and_named(labels, tmp_path, capsys):
    convert(labels, tmp_path / "a.extxyz")
    text = (tmp_path / "a.extxyz").read_text()
    (tmp_path / "b.extxyz").write_text(text.replace("charge=1", "charge=0", 1))
    assert run("convert", tmp_path / "b.extxyz", tmp_path / "b.db") == 1
    assert "charge is 0, but that of its SMILES is 1" in capsys.readouterr().err
    assert "charge is 0" in (tmp_path / "b.db.left_out.csv").read_text()
    assert len(golf.read(tmp_path / "b.db")) == 11
    with pytest.raises(UserError, match=r"b.extxyz: frame 2, line 8.*charge is 0"):
        golf.read(tmp_path / "b.extxyz")
    left_out = []
    assert len(golf.read(tmp_path / "b.extxyz", left_out=left_out)) == 11 and len(left_out) == 1


@pytest.mark.parametrize("output", ["out.abc", "out.sdf.gz", "labels.h5"])
def test_wrong_outputs(labels, tmp_path, capsys, output):
    assert run("convert", labels, tmp_path / output) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("level", ["hf", ":hf/sto-3g", "psi4:", "psi4:/sto-3g"])
def test_a_level_is_program_method_basis(labels, tmp_path, capsys, level):
    assert run("convert", labels, tmp_path / "out.extxyz", "--level", level) == 2
    assert "write it as PROGRAM:METHOD/BASIS" in capsys.readouterr().err


def test_a_level_that_contradicts_the_file_is_refused(labels, tmp_path, capsys):
    convert(labels, tmp_path / "a.extxyz")
    for name in ("labels.h5", "a.extxyz"):
        assert run("convert", tmp_path / name, tmp_path / "out.db", "--level", "psi4:mp2/sto-3g") == 2
        assert "differ in method: mp2 and hf; correct one" in capsys.readouterr().err


def test_golf_write_and_read_of_molecules(part, tmp_path):
    with pytest.raises(UserError, match=r"out\.abc: unknown suffix '\.abc'; give one of \.h5"):
        golf.write(tmp_path / "out.abc", part)
    for suffix in (".h5", ".db", ".extxyz"):
        golf.write(tmp_path / f"out{suffix}", part)
        assert_same(golf.read(tmp_path / f"out{suffix}"), part)
    with gzip.open(tmp_path / "in.smi.gz", "wt") as stream:
        stream.write("CO methanol\nC1 broken\n")
    with pytest.raises(UserError, match=r"in\.smi\.gz: line 2 \(broken, C1\)"):
        golf.read(tmp_path / "in.smi.gz")
    left_out = []
    molecules = golf.read(tmp_path / "in.smi.gz", conformers=2, left_out=left_out)
    assert molecules.id == ["methanol/0000", "methanol/0001"] and [out.name for out in left_out] == ["broken"]
