"""Options of `golf relax` for isomers, fragments, conformers, constraints and strain; wrong ones get status 2."""

import csv

import numpy as np
import pytest
from rdkit import Chem

from golf.chem.conformers import further_conformers
from golf.cli.main import main
from golf.core.hdf5 import read, write
from golf.core.units import HARTREE_IN_KCAL_PER_MOL

QUICK = ("--max-steps", 2, "--optimizer", "lbfgs", "--cores", 1)


def golf(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def smiles(tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "in.smi"
    path.write_text("CCO ethanol\nCC(F)O fluoroethanol\nCO methanol\n")
    return path


@pytest.fixture(scope="module")
def geometries(model, smiles):
    path = smiles.with_name("in.sdf")
    assert golf("relax", smiles, "-m", model, "-o", path, *QUICK) == 0
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--freeze", "heavy"], "--freeze: needs the geometries of the input, but in.smi has none; give an .sdf"),
        (["--restrain", "10"], "--restrain: needs the geometries of the input, but in.smi has none"),
        (["--strain"], "--strain: needs the geometries of the input, but in.smi has none"),
        (["--max-isomers", "0"], "--max-isomers 0: must be positive"),
        (["--prune-energy", "1"], "--prune-energy: has no effect without --prune; give both"),
        (["--prune", "0.5", "--prune-energy", "-1"], "--prune-energy -1.0: must not be negative"),
    ],
)
def test_what_does_not_fit_smiles_is_refused(model, smiles, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(smiles.parent)
    assert golf("relax", smiles.name, "-m", model, "-o", tmp_path / "out.sdf", *QUICK, *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not [*tmp_path.iterdir()]


def test_a_number_of_conformers_is_a_number_or_auto(model, smiles, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        golf("relax", smiles, "-m", model, "-o", tmp_path / "out.sdf", "--conformers", "some")
    assert stopped.value.code == 2
    assert "argument --conformers: 'some' is neither a whole number nor auto" in capsys.readouterr().err


def test_an_empty_pattern_is_not_taken_for_no_pattern(model, smiles, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        golf("relax", smiles, "-m", model, "-o", tmp_path / "out.sdf", "--freeze", "")
    assert stopped.value.code == 2
    assert "argument --freeze: empty; write heavy or a SMARTS pattern" in capsys.readouterr().err


def test_help_has_the_defaults_that_there_are(capsys):
    with pytest.raises(SystemExit):
        golf("relax", "--help")
    shown = capsys.readouterr().out
    assert "(default: 500)" in shown and "(default: None)" not in shown and "(default: False)" not in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--freeze", "C(("], "--freeze C((: not a SMARTS pattern; correct it, or write heavy"),
        (
            ["--freeze", "[S]"],
            "in.sdf: has no molecules that can be relaxed (first: record 1 (ethanol/0000): no",
        ),
        (
            ["--freeze", "heavy", "--conformers", "2"],
            "--freeze: needs the geometries of the input, but --conf",
        ),
        (["--restrain", "0"], "--restrain 0.0: must be positive"),
        (["--restrain", "nan"], "--restrain nan: must be positive"),
        (
            ["--stereo", "all"],
            "--stereo all: in.sdf has geometries, each of one stereoisomer; give SMILES",
        ),
        (["--strain", "--prune", "0.5"], "--prune: selects conformers, but --strain keeps each geometry; drop one"),
        (["--strain", "--conformers", "0"], "--conformers 0: must be positive"),
    ],
)
def test_what_does_not_fit_geometries_is_refused(model, geometries, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(geometries.parent)
    assert golf("relax", geometries.name, "-m", model, "-o", tmp_path / "out.sdf", *QUICK, *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.sdf").exists()


def test_fragments_are_of_files_of_molecules(model, geometries, tmp_path, capsys):
    assert golf("relax", geometries, "-m", model, "-o", tmp_path / "a.h5", *QUICK) == 0
    command = ("relax", tmp_path / "a.h5", "-m", model, "-o", tmp_path / "b.h5", *QUICK)
    assert golf(*command, "--largest-fragment") == 2
    assert "--largest-fragment: is for .smi, .csv and .sdf; drop it for " in capsys.readouterr().err


def test_isomers_and_fragments_are_in_the_output(model, tmp_path, capsys):
    (tmp_path / "in.smi").write_text("CC(F)O.Cl salt\nCC(F)C(F)C(F)C(F)O many\n")
    options = ["--stereo", "all", "--max-isomers", 2, "--largest-fragment"]
    assert golf("relax", tmp_path / "in.smi", "-m", model, "-o", tmp_path / "out.sdf", *QUICK, *options) == 1
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf")))
    assert [mol.GetProp("_Name") for mol in mols] == ["salt-R/0000", "salt-S/0000"]
    assert [mol.GetProp("removed_fragments") for mol in mols] == ["Cl", "Cl"]
    assert [Chem.MolToSmiles(mol) for mol in mols] == [mol.GetProp("stereoisomer") for mol in mols]
    assert (
        "line 2 (many) is left out: it has more than 2 stereoisomers; write those that you mean"
        in capsys.readouterr().err
    )


def test_frozen_atoms_stay_and_what_matches_nothing_is_left_out(model, geometries, tmp_path):
    command = ("relax", geometries, "-m", model, "-o", tmp_path / "out.h5", "--max-steps", 3, "--cores", 1)
    assert golf(*command, "--freeze", "CC", "--restrain", 5) == 1
    ends = read(tmp_path / "out.h5")
    assert ends.id == ["ethanol/0000", "fluoroethanol/0000"]
    assert ends.attrs["relaxation_frozen"] == "CC" and ends.attrs["relaxation_restraint"] == pytest.approx(5.0)
    carbons, moved = ends.number == 6, np.abs(ends.position - ends.atoms["initial_position"]).max(axis=1)
    assert (moved[carbons] == 0.0).all() and (moved[~carbons] > 0.0).all()
    with open(tmp_path / "out.h5.left_out.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["line"], row["reason"]) == ("3", "no atom of it is matched by --freeze CC")


def test_auto_and_strain_write_their_columns_in_any_pieces(model, smiles, geometries, tmp_path, monkeypatch):
    monkeypatch.setattr("golf.chem.conformers.CONFORMERS_BY_ROTATABLE_BONDS", ((7, 3),))
    loose = ("--force-threshold", 1e9, "--cores", 1, "--optimizer", "lbfgs")  # every start is an end
    outputs = []
    for size in (1, 100):
        monkeypatch.setattr("golf.cli.relax.PIECE", size)
        monkeypatch.setattr("golf.cli.relax.SEARCH_PIECE", size)
        auto = ["--conformers", "auto", "--prune", 0.4, "--window", 1000]
        assert golf("relax", smiles, "-m", model, "-o", tmp_path / f"{size}.h5", *loose, *auto) == 0
        assert golf("relax", geometries, "-m", model, "-o", tmp_path / f"s{size}.sdf", *loose, "--strain") == 0
        assert golf("relax", geometries, "-m", model, "-o", tmp_path / f"s{size}.h5", *loose, "--strain") == 0
        outputs.append((read(tmp_path / f"{size}.h5"), read(tmp_path / f"s{size}.h5")))
    (one, strained), (other, _) = outputs
    assert one.id == other.id and set(one.values["n_conformers"] % 3) == {0} and one.values["n_conformers"].min() >= 6
    assert "search_complete" in one.values and (one.values["n_conformers"] <= 15).all()
    strain = strained.values["strain_energy"] * HARTREE_IN_KCAL_PER_MOL
    assert len(strained) == 3 and (strain >= 0.0).all()
    for i, mol in enumerate(Chem.SDMolSupplier(str(tmp_path / "s1.sdf"))):
        assert float(mol.GetProp("strain_energy_kcal_mol")) == pytest.approx(strain[i], abs=1e-3)
        assert mol.GetProp("n_conformers") == str(strained.values["n_conformers"][i])


@pytest.mark.parametrize("given", ["auto", "strain"])
def test_an_interrupted_search_is_resumed_and_ends_in_the_same(model, smiles, geometries, tmp_path, monkeypatch, given):
    monkeypatch.setattr("golf.chem.conformers.CONFORMERS_BY_ROTATABLE_BONDS", ((7, 2),))
    monkeypatch.setattr("golf.cli.relax.PIECE", 1)
    monkeypatch.setattr("golf.cli.relax.SEARCH_PIECE", 1)
    options = {"auto": ["--conformers", "auto", "--prune", 0.4], "strain": ["--strain"]}[given]
    path = smiles if given == "auto" else geometries
    command = ("relax", path, "-m", model, *options, "--max-steps", 3, "--force-threshold", 1e9, "--cores", 1)
    assert golf(*command, "-o", tmp_path / "whole.sdf") == 0
    written, searches = [], []

    def interrupted(part, *rest, **more):
        write(part, *rest, **more)
        written.append(part)
        raise KeyboardInterrupt

    def counted(*rest, **more):
        searches.append(rest)
        return further_conformers(*rest, **more)

    with monkeypatch.context() as once:
        once.setattr("golf.relaxation.library.write", interrupted)
        assert golf(*command, "-o", tmp_path / "out.sdf") == 130
    assert len(written) == 1 and written[0].is_file() and not (tmp_path / "out.sdf").exists()
    assert golf(*command, "-o", tmp_path / "out.sdf", "--seed", 2) == 2  # not with other conformers
    monkeypatch.setattr("golf.relaxation.search.further_conformers", counted)
    assert golf(*command, "-o", tmp_path / "out.sdf") == 0
    assert searches and "ethanol" not in {name for first, *_ in searches for name in first.molecule}
    assert (tmp_path / "out.sdf").read_text() == (tmp_path / "whole.sdf").read_text()
