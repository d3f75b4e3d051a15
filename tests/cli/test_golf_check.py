"""`golf check`: what GFN2-xTB says about ends of GFN1-xTB, as DFT would about those of a potential."""

import csv
import io
import re
import sys

import numpy as np
import pytest

from golf.chem.molecules import molecule
from golf.cli.main import main
from golf.core import hdf5
from golf.core.conformations import Status
from golf.core.level import LevelOfTheory
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.io.read import read_structures
from golf.io.sdf import record_text
from golf.oracles.minima import optimize_to_file
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import requests_from
from golf.relaxation import oracle_check

GFN1 = LevelOfTheory("ase", "tblite:GFN1-xTB", "none")
GFN2 = LevelOfTheory("ase", "tblite:GFN2-xTB", "none")
BY_GFN2 = ("--program", "ase", "--method", "tblite:GFN2-xTB", "--cores", "1")


def golf(*arguments):
    """The command in this process; returns its exit status."""
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Two conformers each of ethanol and formamide, and methanol, at minima of GFN1-xTB."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "in.smi").write_text("CCO ethanol\nOC=O formic\n")
    (folder / "one.smi").write_text("CO methanol\n")
    starts = [read_structures(folder / "in.smi", conformers=2), read_structures(folder / "one.smi")]
    found = optimize_to_file(starts[0], folder / "ends.h5", level=GFN1, n_workers=2)
    assert (found.values["status"] == Status.OK).all()
    optimize_to_file(starts[1], folder / "single.h5", level=GFN1, n_workers=1)
    return folder


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def checked(ends, tmp_path_factory):
    out = tmp_path_factory.mktemp("checked") / "check.csv"
    assert golf("check", ends / "ends.h5", "-o", out, *BY_GFN2) == 0
    return out


def test_numbers_are_those_of_direct_computations(ends, checked):
    rows, relaxed = table(checked), hdf5.read(ends / "ends.h5")
    assert [row["id"] for row in rows] == relaxed.id
    with OraclePool(GFN2, n_workers=2) as oracle:
        labels = [oracle.compute(request) for request in requests_from(relaxed)]
    energies = np.array([label.energy for label in labels])
    difference = (relaxed.values["energy"] - energies) * HARTREE_IN_KCAL_PER_MOL
    for i, row in enumerate(rows):
        assert float(row["energy_hartree"]) == pytest.approx(energies[i], abs=1e-7)
        largest = np.linalg.norm(labels[i].forces, axis=1).max() * HARTREE_IN_KCAL_PER_MOL
        assert float(row["largest_force_kcal_mol_angstrom"]) == pytest.approx(largest, abs=1e-3)
        of_molecule = [k for k in range(4) if relaxed.molecule[k] == relaxed.molecule[i]]
        error = difference[i] - difference[of_molecule].mean()
        assert float(row["energy_error_kcal_mol"]) == pytest.approx(error, abs=2e-3)
        assert row["e_loc_from"] == "estimate" and 0.02 < float(row["e_loc_kcal_mol"]) < 0.6
        assert row["status"] == "ok" and row["n_gradients"] == "0"


def test_estimates_are_the_energies_that_optimizations_gain(ends, checked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(oracle_check, "VALID_BELOW", 0.0)
    out = tmp_path / "check.csv"
    assert golf("check", ends / "ends.h5", "-o", out, "--optimize", *BY_GFN2) == 0
    assert "cost of --optimize, if no estimate is valid: the time that ASE takes" in capsys.readouterr().err
    for row, before in zip(table(out), table(checked), strict=True):
        assert row["e_loc_from"] == "optimization" and int(row["n_gradients"]) > 2
        assert float(row["e_loc_kcal_mol"]) == pytest.approx(float(before["estimate_kcal_mol"]), abs=0.03)
    labels = hdf5.read(tmp_path / "check.labels.h5")
    n = sum(int(row["n_gradients"]) for row in table(out))
    assert len(labels) == n and (labels.values["status"] == Status.OK).all() and GFN2.matches(labels.attrs)
    assert len(set(labels.id)) == n and np.isfinite(labels.atoms["force"]).all()
    assert not list(tmp_path.glob("*.hessians"))
    # and a network is trained on them
    assert golf("train", tmp_path / "check.labels.h5", "-o", tmp_path / "m.pt", "--updates", 2, "--batch-size", 4) == 0


def test_the_same_command_pays_for_nothing_twice(ends, checked, capsys):
    journal = checked.with_suffix(".labels.journal.jsonl")
    before, rows = journal.read_bytes(), checked.read_bytes()
    assert golf("check", ends / "ends.h5", "-o", checked, *BY_GFN2) == 2  # exists
    assert "already exists" in capsys.readouterr().err
    assert golf("check", ends / "ends.h5", "-o", checked, "--force", *BY_GFN2) == 0
    assert journal.read_bytes() == before and checked.read_bytes() == rows
    said = capsys.readouterr()
    assert "4 of 4 geometries are drawn (seed 1) and labelled at tblite:gfn2-xtb" in said.err
    assert re.search(r"E_loc below 1 kcal/mol, % +100 +15\.8 to 100 +- +- +4 +2\n", said.out)
    assert "without the mean difference of each molecule" in said.out
    assert {path.name for path in checked.parent.iterdir()} == {
        "check.csv", "check.svg", "check.png", "check.labels.h5", "check.labels.journal.jsonl",
    }  # fmt: skip
    assert "share of the ends below" in (checked.with_suffix(".svg")).read_text()


def test_one_conformation_of_each_molecule_gives_no_error_of_energies(ends, tmp_path, monkeypatch, capsys):
    """And without a valid estimate there is no E_loc; both are said."""
    monkeypatch.setattr(oracle_check, "VALID_BELOW", 0.0)
    monkeypatch.setattr("golf.oracles.local_minimum.VALID_BELOW", 0.0)
    assert golf("check", ends / "single.h5", "-o", tmp_path / "check.csv", *BY_GFN2) == 0
    said = capsys.readouterr().out
    assert "no molecule has two conformations here" in said and "error of energies, kcal/mol" not in said
    assert "1 end without E_loc: estimated above 0 kcal/mol" in said and "--optimize finds their minima" in said
    (row,) = table(tmp_path / "check.csv")
    assert row["e_loc_kcal_mol"] == "" and float(row["estimate_kcal_mol"]) > 0.02


def test_an_sdf_of_another_program_without_energies_from_standard_input(ends, tmp_path, capsys, monkeypatch):
    relaxed = hdf5.read(ends / "single.h5")
    text = record_text(molecule(relaxed.mapped_smiles[0], relaxed.position), "methanol", {})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert golf("check", "-", "-o", tmp_path / "check.csv", *BY_GFN2) == 0
    said = capsys.readouterr().out
    assert said.startswith("1 of 1 geometries of stdin.sdf (seed 1), labelled at tblite:gfn2-xtb")
    assert "error of energies: the input has no energies" in said and "error of forces, kcal" not in said


def test_samples_are_seeded_and_take_molecules_first():
    names = [f"m{i}" for i in range(10) for _ in range(5)]
    drawn = oracle_check.draw(names, 8, per_molecule=2, seed=1)
    assert drawn.tolist() == oracle_check.draw(names, 8, per_molecule=2, seed=1).tolist()
    assert drawn.tolist() != oracle_check.draw(names, 8, per_molecule=2, seed=2).tolist()
    chosen = [names[i] for i in drawn]
    assert len(chosen) == 8 and {chosen.count(name) for name in chosen} == {2}
    assert len({names[i] for i in oracle_check.draw(names, 10, per_molecule=1, seed=1)}) == 10
    assert oracle_check.draw(names, 99, per_molecule=1, seed=1).tolist() == list(range(50))
    assert len(oracle_check.draw(names, 12, per_molecule=1, seed=1)) == 12


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("in.smi", "-o", "out.csv"), r"in\.smi: has no geometries"),
        (("absent.sdf", "-o", "out.csv"), r"absent\.sdf: no such file"),
        (("ends.h5", "-o", "out.h5"), r"out\.h5: unknown suffix '\.h5'; give one of \.csv"),
        (("ends.h5", "-o", "out.csv", "-n", "0"), r"--sample 0: must be positive"),
        (("ends.h5", "-o", "out.csv", "--seed", "-1"), r"--seed -1: must not be negative"),
        (("ends.h5", "-o", "out.csv", "--per-molecule", "0"), r"--per-molecule 0: must be positive"),
        (("ends.h5", "-o", "out.csv", "--keywords", "[1]"), r"--keywords \[1\]: not a JSON object"),
        (("mine.labels.h5", "-o", "mine.csv", "-f"), r"mine\.labels\.h5: the input, which would be replaced"),
        (("ends.h5", "-o", "out.csv", "--method", "no_such.Calculator"), r"No module named 'no_such'"),
    ],
)
def test_wrong_input_is_one_line(ends, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(ends)
    (ends / "mine.labels.h5").write_bytes((ends / "ends.h5").read_bytes())
    assert golf("check", *arguments, "--program", "ase", *(() if "--method" in arguments else BY_GFN2[2:])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(reason, line) and not list(ends.glob("out*"))


def test_elements_that_the_oracle_lacks_are_not_drawn(ends, tmp_path, capsys):
    """EMT knows H C N O; of two molecules one remains."""
    (tmp_path / "two.xyz").write_text(
        "3\nname=water\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n2\nname=fluoride\nH 0 0 0\nF 0.92 0 0\n"
    )
    emt = ("--program", "ase", "--method", "ase.calculators.emt.EMT", "--cores", "1")
    assert golf("check", tmp_path / "two.xyz", "-o", tmp_path / "check.csv", *emt) == 0
    said = capsys.readouterr()
    assert "1 of 2 geometries are not drawn (fluoride/0000: ase.calculators.emt.emt (ase) does not cover F)" in said.err
    assert [row["id"] for row in table(tmp_path / "check.csv")] == ["water/0000"]


@pytest.mark.slow
def test_dft_of_a_tiny_molecule_by_psi4(psi4, ends, tmp_path, capsys):
    out = tmp_path / "check.csv"
    assert golf("check", ends / "single.h5", "-o", out, "--method", "hf", "--basis", "sto-3g", "--optimize") == 0
    said = capsys.readouterr()
    assert re.search(r"cost: about \d+ s of processor time, \d+ s with 1 process", said.err)
    (row,) = table(out)
    assert row["e_loc_from"] == "optimization" and 1.0 < float(row["e_loc_kcal_mol"]) < 6.0
