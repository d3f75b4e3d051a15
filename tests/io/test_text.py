"""Text as people have it: encodings, control characters, tables and SDF files of other programs."""

import ast
import csv
import os
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from golf.chem.molecules import mapped_smiles
from golf.cli.main import main
from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.io.formats import count_records
from golf.io.read import records_of
from golf.io.records import read_molecules, read_records
from golf.io.sdf import record_text
from golf.io.write import write_structures
from support import REPOSITORY


def molfile(name, smiles="CCO"):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    mol.SetProp("_Name", name)
    return Chem.MolToMolBlock(mol)


def read_again(path):
    return list(Chem.SDMolSupplier(str(path), removeHs=False))


# ----------------------------------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("suffix", [".smi", ".csv", ".sdf"])
def test_letters_are_read_in_every_encoding(tmp_path, encoding, suffix, caplog):
    texts = {".smi": "CCO Äthanol\n", ".csv": "smiles,name\nCCO,Äthanol\n", ".sdf": f"{molfile('Äthanol')}$$$$\n"}
    path = tmp_path / f"in{suffix}"
    path.write_bytes(texts[suffix].encode(encoding))
    ((molecule,), left_out) = read_molecules(path)
    assert (molecule.name, left_out, count_records(path)) == ("Äthanol", [], 1)
    assert ["is not UTF-8" in record.getMessage() for record in caplog.records] == [True] * (encoding == "latin-1")


def test_utf16_without_a_mark_is_named(tmp_path):
    (tmp_path / "in.smi").write_bytes("CCO ethanol\nOCCO glycol\n".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"in\.smi: UTF-16 .*save it as UTF-8"):
        read_molecules(tmp_path / "in.smi")


def test_control_characters_do_not_reach_the_terminal(model, tmp_path, capfd, caplog):
    (tmp_path / "in.smi").write_bytes(b"CCO eth\x1b[31manol\nC1CC bro\x00ken\x07\n")
    options = ["-m", str(model), "-o", str(tmp_path / "o.sdf"), "--max-steps", "1"]
    assert main(["relax", str(tmp_path / "in.smi"), *options]) == 1
    out, err = capfd.readouterr()
    assert not set(out + err) & {"\x00", "\x1b", "\x07"}
    assert "line 1 has control characters" in caplog.text and "bro\ufffdken\ufffd" in err


def test_every_file_is_opened_with_its_encoding():
    """In the locale's encoding a name of a molecule would end a run under LANG=C."""
    lacking = []
    for folder in ("golf", "workflow_scripts", "benchmarks"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _opens_text(node):
                    lacking.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert not lacking


def _opens_text(call):
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name == "open" and isinstance(call.func, ast.Name):
        modes = [a.value for a in call.args[1:2] if isinstance(a, ast.Constant)]
        return not any("b" in mode for mode in modes)
    is_text = any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords)
    return name in ("read_text", "write_text", "FileHandler") or is_text


@pytest.mark.slow
def test_names_are_written_and_printed_in_any_locale(model, tmp_path):
    (tmp_path / "in.csv").write_text("smiles,name,note\nCCO,Äthanol 乙醇,µM\n", encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in (
        ["relax", "in.csv", "-m", str(model), "-o", "out.sdf", "--max-steps", "1"],
        ["inspect", "out.sdf"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "golf.cli.main", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    (mol,) = read_again(tmp_path / "out.sdf")
    assert (mol.GetProp("_Name"), mol.GetProp("note")) == ("Äthanol 乙醇/0000", "µM")


# -------------------------------------------------------------------------------------------------------------- tables


def test_a_table_that_says_its_delimiter(tmp_path):
    (tmp_path / "in.csv").write_bytes(b"sep=;\r\nname;smiles\r\nethanol;CCO\r\nglycol;OCCO\r\n")
    found = [(record.name, record.line, Chem.MolToSmiles(record.mol)) for record in read_records(tmp_path / "in.csv")]
    assert found == [("ethanol", 3, "CCO"), ("glycol", 4, "OCCO")] and count_records(tmp_path / "in.csv") == 2


def test_columns_of_one_name_and_without_one_are_kept(tmp_path):
    (tmp_path / "in.csv").write_text("smiles,name,value,value,\nCCO,a,1,2,3\n")
    (record,) = read_records(tmp_path / "in.csv")
    assert record.properties == {"value": "1", "value_2": "2", "column_5": "3"}


# ----------------------------------------------------------------------------------------------------------------- SDF


def test_an_sdf_out_of_specification_is_read_with_all_its_properties(tmp_path):
    ethanol = molfile("x")
    body, end = ethanol.removesuffix("M  END\n"), "M  END\n"
    records = {
        "blank line with a space": (ethanol + "> <id>\nA1\n \n> <note>\nsecond\n \n", {"id": "A1", "note": "second"}),
        "no blank line before the end": (ethanol + "> <id>\nA2\n", {"id": "A2"}),
        "blank line before M  END": (f"{body}\n{end}> <id>\nA3\n\n", {"id": "A3"}),
        "blank line after M  END": (f"{ethanol}\n> <id>\nA4\n\n", {"id": "A4"}),
        "no name": (ethanol + "> <>\nx\n\n> <id>\nA5\n\n", {"unnamed": "x", "id": "A5"}),
        "twice": (ethanol + "> <id>\nA6\nb\n\n> <id>\n\n", {"id": "A6\nb", "id_2": ""}),
        "in angles": (ethanol + ">  25 <a>b> DT12\n1\n\n", {"a>b": "1"}),
    }
    text = "".join(f"{name}{record.removeprefix('x')}$$$$\n" for name, (record, _) in records.items())
    (tmp_path / "in.sdf").write_text(text)
    found = {record.name: (record.mol and Chem.MolToSmiles(Chem.RemoveHs(record.mol)), record.properties)
             for record in read_records(tmp_path / "in.sdf")}  # fmt: skip
    assert found == {name: ("CCO", properties) for name, (_, properties) in records.items()}


def test_no_name_key_or_value_can_cut_a_record(tmp_path, model):
    with open(tmp_path / "in.csv", "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["smiles", "name", "<x>", "a\nb", "_private", "energy_hartree", "> <id>", "M  END"])
        table.writerow(["CCO", "two\nlines", "$$$$\n\n$$$$ x", "> <y>\n1", "p", "7", " ", "M  END"])
        table.writerow(["OCCO", "$$$$", "", "", "", "", "", ""])
    for output in ("out.sdf", "out.extxyz", "out.h5"):
        arguments = ["-m", str(model), "-o", str(tmp_path / output), "--max-steps", "1"]
        assert main(["relax", str(tmp_path / "in.csv"), *arguments]) == 0
    text = (tmp_path / "out.sdf").read_text(encoding="utf-8")
    assert sum(line.startswith("$$$$") for line in text.splitlines()) == 2
    one, other = read_again(tmp_path / "out.sdf")
    assert one.GetProp("_Name") == "two lines/0000" and other.GetProp("_Name").strip() == "$$$$/0000"
    assert one.GetProp("<x>") == " $$$$\n $$$$ x" and one.GetProp("a b") == "> <y>\n1"
    assert one.GetProp("_private") == "p"
    assert one.GetProp("input_energy_hartree") == "7" and float(one.GetProp("energy_hartree")) != 7
    for name in ("out.sdf", "out.extxyz", "out.h5"):
        again = ["-m", str(model), "-o", str(tmp_path / f"{name}.sdf"), "--max-steps", "1"]
        assert main(["relax", str(tmp_path / name), *again]) == 0
        names = [mol.GetProp("_Name").strip() for mol in read_again(tmp_path / f"{name}.sdf")]
        assert names == ["two lines/0000", "$$$$/0000"], name


def test_a_record_text_is_one_record_for_every_name():
    mol = Chem.MolFromMolBlock(molfile("x"), removeHs=False)
    text = record_text(mol, "a\r\nb\u2028c", {"": "1", "k": "2\x85\n\n3", "k ": "4"})
    supplier = Chem.SDMolSupplier()
    supplier.SetData(text)
    (again,) = supplier
    assert again.GetProp("_Name") == "a b c"
    assert {key: again.GetProp(key) for key in again.GetPropNames()} == {"unnamed": "1", "k": "2\n3", "k_2": "4"}


def test_columns_behind_the_name_are_properties(tmp_path):
    (tmp_path / "in.smi").write_text(
        "SMILES\tname\tprice\nCCO\tethyl alcohol\t1.50\tin stock\nCO methanol\nCN\tamine\t2\n"
    )
    first, second, third = read_records(tmp_path / "in.smi")
    assert (first.name, dict(first.properties)) == ("ethyl alcohol", {"price": "1.50", "column_4": "in stock"})
    assert (second.name, dict(second.properties)) == ("methanol", {})
    assert (third.name, dict(third.properties)) == ("amine", {"price": "2"})


def test_two_columns_that_could_be_the_name_are_said(tmp_path, caplog):
    (tmp_path / "in.csv").write_text("smiles,Name,name\nCCO,a,b\n")
    (record,) = read_records(tmp_path / "in.csv")
    assert record.name == "b" and dict(record.properties) == {"Name": "a"}
    assert "has columns 'name' and 'Name'; 'name' is read" in caplog.text


@pytest.mark.parametrize(
    "name", ["a\u00a0b", "a\u2028b", "a\x85b", "say 'x' \"y\"", "a=b", "[x] {y}", "C\\\\C", "a/b c"]
)
def test_any_name_comes_back_from_an_extxyz(name, tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("O"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    record = (f"{name}/0000", name, mapped_smiles(mol), 0, 1, np.array([8, 1, 1]), mol.GetConformer().GetPositions())
    columns = {"stop_reason": [0], "n_steps": [1], "left_saddle_point": [0]}
    columns |= {key: [0.0] for key in ("nnp_energy_last", "relative_energy", "largest_force")}
    relaxed = ConformationSet.build([record]).with_columns(values=columns, atoms={"nnp_force": np.zeros((3, 3))})
    with open(tmp_path / "out.extxyz", "w", encoding="utf-8") as stream:
        write_structures(stream, ".extxyz", relaxed)
    (again,) = records_of(tmp_path / "out.extxyz", "extxyz")
    assert again.name == name and ase.io.read(tmp_path / "out.extxyz").info["name"] == f"{name}/0000"
