"""Files of labels merged into one: each geometry once, one level, ids unique, and how each label came about kept."""

import json
from dataclasses import replace

import numpy as np
import pytest

from golf.cli.main import main
from golf.core import hdf5
from golf.core.conformations import ConformationSet, Status
from golf.core.labels import LABEL_COLUMNS
from golf.io.convert import convert
from golf.training.own_labels import read_labels
from support.mmff_labels import labelled_conformers

LEVEL = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def whole() -> ConformationSet:
    whole = labelled_conformers(["OC=O", "CO", "O"], 4)
    times = np.arange(len(whole), dtype=float)
    steps = ["" if i % 2 else "soscf" for i in range(len(whole))]
    values = {"wall_seconds": times, "scf_iterations": times, "recovery": steps, "message": [""] * len(whole)}
    return whole.with_columns(values=values, **LEVEL)


@pytest.fixture
def halves(whole, tmp_path):
    """Two files that share four conformations, written with different versions of the program."""
    for name, rows, version in (("a.h5", range(8), "1.8"), ("b.h5", range(4, 12), "1.9")):
        hdf5.write(tmp_path / name, whole.subset(list(rows)), program_version=version, seed=3)
    return tmp_path / "a.h5", tmp_path / "b.h5"


def test_two_files_are_one(whole, halves, tmp_path, capsys):
    assert run("merge", *halves, "-o", tmp_path / "all.h5") == 0
    said = capsys.readouterr().err
    assert "all.h5: 12 conformations of 2 files, 12 labels" in said and "4 conformations left out" in said
    merged = hdf5.read(tmp_path / "all.h5")
    assert merged.id == whole.id and merged.molecule == whole.molecule
    for name in ("position", "charge", "number"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    np.testing.assert_array_equal(merged.atoms["force"], whole.atoms["force"])
    for name in LABEL_COLUMNS:
        np.testing.assert_array_equal(merged.values[name], whole.values[name])
    assert merged.attrs["program_version"] == "mixed" and merged.attrs["method"] == "hf"
    sources = json.loads(merged.attrs["merged_from"])
    assert [source["program_version"] for source in sources] == ["1.8", "1.9"] and sources[0]["seed"] == 3


def test_pieces_do_not_matter(halves, tmp_path, monkeypatch):
    run("merge", *halves, "-o", tmp_path / "all.h5")
    monkeypatch.setattr("golf.io.merge.PIECE", 3)
    run("merge", *halves, "-o", tmp_path / "pieces.h5")
    one, other = hdf5.read(tmp_path / "all.h5"), hdf5.read(tmp_path / "pieces.h5")
    assert one.id == other.id
    np.testing.assert_array_equal(one.position, other.position)


def test_a_label_takes_the_place_of_a_failure(whole, tmp_path, capsys):
    status = np.full(len(whole), Status.OK)
    status[2] = Status.TIMED_OUT
    failed = whole.with_columns(values={"status": status, "energy": np.where(status, np.nan, whole.values["energy"])})
    hdf5.write(tmp_path / "failed.h5", failed)
    hdf5.write(tmp_path / "later.h5", whole.subset([2]))
    assert run("merge", tmp_path / "failed.h5", tmp_path / "later.h5", "-o", tmp_path / "all.h5") == 0
    merged = hdf5.read(tmp_path / "all.h5")
    assert sorted(merged.id) == sorted(whole.id) and (merged.values["status"] == Status.OK).all()
    assert "12 conformations of 2 files, 12 labels" in capsys.readouterr().err


def test_names_that_are_taken_are_made_unique(whole, tmp_path, capsys):
    """Other geometries under the same ids, and another molecule under the same name."""
    moved = whole.with_columns(position=whole.position + 1.0)
    formic = whole.subset([i for i, name in enumerate(whole.molecule) if name == "OC=O"])
    other = replace(formic, id=[f"O/{k:04d}" for k in range(4)], molecule=["O"] * 4)
    other = other.with_columns(position=other.position + 2.0)
    for name, part in (("a.h5", whole), ("b.h5", moved), ("c.h5", other)):
        hdf5.write(tmp_path / name, part)
    files = [tmp_path / name for name in ("a.h5", "b.h5", "c.h5")]
    assert run("merge", *files, "-o", tmp_path / "all.h5") == 0
    merged = hdf5.read(tmp_path / "all.h5")
    assert merged.id[:12] == whole.id and merged.id[12:24] == [f"{id}#2" for id in whole.id]
    assert merged.molecule[12:24] == whole.molecule
    assert merged.molecule[24:] == ["O#c"] * 4 and merged.id[24] == "O#c/0000"
    assert "and 15 more: the name is taken; renamed to OC=O/0000#2" in capsys.readouterr().err
    assert read_labels(*files).id == merged.id


def test_different_labels_of_one_geometry_are_worth_a_word(whole, tmp_path, capsys):
    hdf5.write(tmp_path / "a.h5", whole)
    hdf5.write(tmp_path / "b.h5", whole.with_columns(values={"energy": whole.values["energy"] + 1e-3}))
    assert run("merge", tmp_path / "a.h5", tmp_path / "b.h5", "-o", tmp_path / "all.h5") == 0
    assert "labels of one geometry differ by up to 0.001 hartree; the first is kept" in capsys.readouterr().err
    np.testing.assert_array_equal(hdf5.read(tmp_path / "all.h5").values["energy"], whole.values["energy"])


def test_columns_that_some_files_lack(whole, tmp_path, capsys):
    """Labels from elsewhere have no times; a column that is not a label's is dropped."""
    bare = {name: whole.values[name] for name in ("energy", "status")}
    hdf5.write(tmp_path / "a.h5", whole.with_columns(values={"start_id": whole.id}).subset([0, 1]))
    hdf5.write(tmp_path / "b.h5", replace(whole, values=bare).subset([2, 3]))
    assert run("merge", tmp_path / "a.h5", tmp_path / "b.h5", "-o", tmp_path / "all.h5") == 0
    assert "not kept, because not all files have it: start_id" in capsys.readouterr().err
    merged = hdf5.read(tmp_path / "all.h5")
    assert merged.values["wall_seconds"].tolist() == [0.0, 1.0, 0.0, 0.0] and "start_id" not in merged.values


def test_what_cannot_be_merged_is_one_line(whole, halves, tmp_path, capsys):
    hdf5.write(tmp_path / "mp2.h5", whole, method="mp2")
    hdf5.write(tmp_path / "bare.h5", whole.bare())
    hdf5.write(tmp_path / "no_level.h5", replace(whole, attrs={}))
    (tmp_path / "text.h5").write_text("nothing")
    convert(halves[0], tmp_path / "a.extxyz")
    for name, message in {
        "mp2.h5": f"mp2.h5: its labels and those of {halves[0]} differ in method: hf and mp2; labels of different",
        "bare.h5": "bare.h5: has no labels; label it first",
        "no_level.h5": "no_level.h5: has no attribute program, so its level is unknown",
        "text.h5": "text.h5: not a readable HDF5 file",
        "absent.h5": "absent.h5: no such file",
        "a.extxyz": "a.extxyz: not a .h5 file of labels; make one with golf convert",
    }.items():
        assert run("merge", halves[0], tmp_path / name, "-o", tmp_path / "all.h5") == 2
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) == 1 and not (tmp_path / "all.h5").exists()
    assert run("merge", *halves, "-o", halves[1], "--force") == 2
    assert "the same file as the input" in capsys.readouterr().err
