"""Which oracle a level of theory gets: names, settings that contradict, missing packages, levels that never mix."""

import numpy as np
import pytest
from ase.build import molecule as ase_molecule

from golf.cli.main import main
from golf.cli.summary import describe
from golf.core.conformations import ConformationSet, Status
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.core.labels import take_over_labels
from golf.core.level import LevelOfTheory
from golf.oracles.labeling import label_to_file
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.registry import PROGRAMS
from golf.study.config import schema, validated
from golf.study.plan import level_of

PSI4, PYSCF = (LevelOfTheory(program, "hf", "sto-3g") for program in ("psi4", "pyscf"))


def water():
    atoms = ase_molecule("H2O")
    numbers = atoms.numbers.astype(np.uint8)
    return ConformationSet.build([("water/0000", "water", "", 0, 1, numbers, atoms.positions)])


def config(**oracle):
    return validated({"dataset": {"train": "molecules.smi"}, "oracle": oracle}, "config.yaml")


def test_the_schema_names_the_programs():
    assert schema()["properties"]["oracle"]["properties"]["program"]["enum"] == list(PROGRAMS)


@pytest.mark.parametrize(("program", "basis"), [("psi4", "def2-svp"), ("pyscf", "def2-svp"), ("ase", "none")])
def test_the_basis_that_is_not_given_is_the_programs(program, basis):
    assert level_of(config(program=program)).basis == basis
    assert config(program=program) == config(program=program, basis=basis)


@pytest.mark.parametrize(
    ("oracle", "message"),
    [
        (
            {"program": "ase", "basis": "def2-svp"},
            r"config\.yaml: key oracle\.basis: program ase does not use",
        ),
        ({"program": "pyscf", "basis": "none"}, r"key oracle\.basis: program pyscf needs a basis set, such as"),
        ({"program": "pyscf", "python": "python3"}, r"key oracle\.python: program pyscf runs in golf's own Python"),
        ({"program": "mopac"}, r"key oracle\.program: 'mopac' is not one of \['psi4', 'pyscf', 'ase'\]"),
    ],
)
def test_settings_that_a_program_does_not_have_are_refused(oracle, message):
    with pytest.raises(UserError, match=message):
        config(**oracle)


def test_an_unknown_program_is_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match=r"oracle\.program 'mopac': unknown; give one of psi4, pyscf, ase"):
        OraclePool(LevelOfTheory("mopac", "pm7", "none"))
    (tmp_path / "in.smi").write_text("O water\n")
    command = ["label", str(tmp_path / "in.smi"), "-o", str(tmp_path / "out.h5")]
    assert main([*command, "--program", "mopac"]) == 2
    assert main([*command, "--program", "ase", "--method", "tblite:GFN2-xTB", "--basis", "sto-3g"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "oracle.program 'mopac'" in first and "program ase does not use basis sets" in second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.smi"]


@pytest.mark.parametrize(
    ("package", "level"), [("pyscf", PYSCF), ("tblite", LevelOfTheory("ase", "tblite:GFN2-xTB", "none"))]
)
def test_a_missing_package_is_one_line_that_says_how_to_get_it(package, level, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")  # not to be imported
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match=rf"does not start with .*: .*{package}.* -m pip install {package}") as caught:
        OraclePool(level)
    assert "\n" not in str(caught.value)


@pytest.mark.psi4
def test_golf_label_computes_with_every_program(tmp_path):
    (tmp_path / "in.smi").write_text("O water\n")
    energies = {}
    levels = {"psi4": ["hf", "--basis", "sto-3g"], "pyscf": ["hf", "--basis", "sto-3g"], "ase": ["tblite:GFN2-xTB"]}
    for program, words in levels.items():
        output = tmp_path / f"{program}.h5"
        options = ["--program", program, "--method", *words, "--cores", "1"]
        assert main(["label", str(tmp_path / "in.smi"), "-o", str(output), *options]) == 0
        labelled = read(output)
        assert labelled.values["status"].tolist() == [Status.OK] and labelled.attrs["program"] == program
        energies[program] = labelled.values["energy"][0]
    assert energies["pyscf"] == pytest.approx(energies["psi4"], abs=2e-4) and energies["ase"] > -6.0
    assert "tblite:gfn2-xtb (ase 3." in describe(tmp_path / "ase.h5") and "tblite 0." in describe(tmp_path / "ase.h5")


@pytest.mark.psi4
def test_labels_of_another_program_are_refused(tmp_path):
    """Same method and basis, but Psi4's study does not take PySCF's label over, nor does it find it in a journal."""
    label_to_file(water(), tmp_path / "0.h5", level=PYSCF, n_workers=1)
    labelled = read(tmp_path / "0.h5")
    with pytest.raises(UserError, match=r"labels are hf/sto-3g \(pyscf.*\), the configured oracle is .* \(psi4\)"):
        take_over_labels(labelled, PSI4, "0.h5")
    assert take_over_labels(labelled, PYSCF, "0.h5").values["energy"] == labelled.values["energy"]
    anew = label_to_file(labelled.bare(), tmp_path / "0.h5", level=PSI4, n_workers=1)
    assert PSI4.matches(anew.attrs) and not PYSCF.matches(anew.attrs)
    assert anew.values["energy"][0] != labelled.values["energy"][0]
