"""`golf relax --vibrations` and `--temperature`, with MMFF."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read as read_ase
from rdkit import Chem

from golf.chem.thermochemistry import BOLTZMANN
from golf.cli.main import main
from golf.core.conformations import StopReason
from golf.core.hdf5 import read


def golf(*arguments):
    """The command in this process; returns its exit status."""
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def smiles(tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "molecules.smi"
    path.write_text("OCCO glycol\nCO methanol\n")
    return path


def test_weights_are_of_free_energies_in_all_formats(smiles, tmp_path, capsys):
    options = ("--conformers", 4, "--seed", 3, "--force-threshold", 0.02, "--temperature", 310)
    for suffix in ("h5", "sdf", "extxyz"):
        assert golf("relax", smiles, "-m", "mmff", "-o", tmp_path / f"out.{suffix}", *options) == 0
    relaxed = read(tmp_path / "out.h5")
    free, weights = relaxed.values["free_energy"], relaxed.values["boltzmann_weight"]
    assert relaxed.attrs["temperature"] == 310.0 and relaxed.values["n_imaginary"].tolist() == [0] * len(relaxed)
    assert (relaxed.values["lowest_frequency"] > 30.0).all()
    for name in ("glycol", "methanol"):
        rows = np.array(relaxed.molecule) == name
        expected = np.exp(-(free[rows] - free[rows].min()) / (310.0 * BOLTZMANN))
        np.testing.assert_allclose(weights[rows], expected / expected.sum(), rtol=1e-9)
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False))
    found = [float(mol.GetProp("boltzmann_weight")) for mol in mols]
    np.testing.assert_allclose(found, weights, atol=1e-6)
    assert float(mols[0].GetProp("free_energy_hartree")) == pytest.approx(free[0], abs=1e-8)
    assert mols[0].GetProp("n_imaginary") == "0" and mols[0].GetProp("n_kicks") == "0"
    frames = read_ase(tmp_path / "out.extxyz", index=":")
    assert [frame.info["boltzmann_weight"] for frame in frames] == pytest.approx(found)
    assert frames[0].info["lowest_frequency_per_cm"] == pytest.approx(relaxed.values["lowest_frequency"][0], abs=0.01)


def test_what_did_not_converge_has_no_free_energy(smiles, tmp_path):
    output = tmp_path / "out.h5"
    assert golf("relax", smiles, "-m", "mmff", "-o", output, "--max-steps", 1, "--temperature", 298.15) == 0
    relaxed = read(output)
    assert (relaxed.values["stop_reason"] == StopReason.STEP_LIMIT).all()
    assert (relaxed.values["n_imaginary"] == -1).all()
    assert np.isnan([relaxed.values[name] for name in ("free_energy", "boltzmann_weight", "lowest_frequency")]).all()
    again = tmp_path / "out.sdf"
    assert golf("relax", smiles, "-m", "mmff", "-o", again, "--max-steps", 1, "--temperature", 298.15) == 0
    assert "free_energy" not in again.read_text() and "n_imaginary" not in again.read_text()


def nearly_eclipsed_ethane(path):
    """Without the symmetry that a relaxation looks at by itself."""
    atoms = molecule("C2H6")  # along z
    half = atoms.positions[:, 2] > 0.0
    turn = Atoms("X" * int(half.sum()), atoms.positions[half])
    turn.rotate(60.0, "z")
    atoms.positions[half] = turn.positions
    atoms.positions += np.random.default_rng(2).normal(scale=1e-3, size=atoms.positions.shape)
    atoms.write(path, format="extxyz")


@pytest.mark.parametrize("ensemble", [(), ("--prune", "0.5")])
def test_an_end_with_an_imaginary_mode_is_left(ensemble, tmp_path, capsys):
    nearly_eclipsed_ethane(tmp_path / "ethane.extxyz")
    run = ("relax", tmp_path / "ethane.extxyz", "-m", "mmff", "--optimizer", "lbfgs", *ensemble)
    assert golf(*run, "-o", tmp_path / "plain.h5") == 0
    capsys.readouterr()
    assert golf(*run, "-o", tmp_path / "kicked.h5", "--vibrations") == 0
    printed = capsys.readouterr().err
    assert "golf: 1 end had an imaginary mode and was relaxed again from beside it; see n_kicks\n" in printed
    plain, kicked = read(tmp_path / "plain.h5"), read(tmp_path / "kicked.h5")
    assert "n_kicks" not in plain.values and "free_energy" not in kicked.values
    assert kicked.values["n_kicks"].tolist() == [1] and kicked.values["n_imaginary"].tolist() == [0]
    assert (plain.values["nnp_energy_last"] - kicked.values["nnp_energy_last"])[0] * 627.5 > 2.0


@pytest.mark.parametrize("kelvin", ["-5", "0", "nan", "inf"])
def test_a_temperature_is_positive(kelvin, smiles, tmp_path, capsys):
    assert golf("relax", smiles, "-m", "mmff", "-o", tmp_path / "out.h5", f"--temperature={kelvin}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--temperature {float(kelvin)}: must be " in line and not [*tmp_path.iterdir()]


def test_properties_of_an_earlier_run_are_not_kept_as_those_of_the_input(smiles, tmp_path):
    first, second = tmp_path / "first.sdf", tmp_path / "second.sdf"
    assert golf("relax", smiles, "-m", "mmff", "-o", first, "--temperature", 298.15) == 0
    assert golf("relax", first, "-m", "mmff", "-o", second) == 0
    assert "free_energy" in first.read_text() and "free_energy" not in second.read_text()
    assert not (tmp_path / "second.sdf.left_out.csv").exists()


@pytest.mark.parametrize("option", [("--freeze", "heavy"), ("--restrain", "5"), ("--strain",)])
def test_ends_that_are_no_minima_have_no_vibrations(option, tmp_path, capsys):
    nearly_eclipsed_ethane(tmp_path / "in.extxyz")
    run = ("relax", tmp_path / "in.extxyz", "-m", "mmff", "-o", tmp_path / "out.h5", *option)
    assert golf(*run, "--vibrations") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--vibrations: " in line and option[0] in line and "drop one of them" in line
    assert not (tmp_path / "out.h5").exists()
