"""`golf relax` and what wrong input gets: status 2, one line on stderr, nothing half-written."""

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import read as read_ase
from rdkit import Chem

from golf.chem.molecules import mapped_smiles
from golf.cli.main import main
from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.hdf5 import read, write
from golf.nnp.potential import Architecture, Potential
from support import REPOSITORY


def golf(*arguments):
    """The command in this process; returns its exit status."""
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A real network, small and untrained: what it predicts is of no concern here."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5, 6: -37.8, 8: -74.9}).save(path)
    return path


@pytest.fixture(scope="module")
def smiles(tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "molecules.smi"
    path.write_text("CO methanol\nCCO ethanol\n")
    return path


@pytest.mark.parametrize("suffix", [".h5", ".sdf", ".xyz", ".extxyz"])
def test_relax_writes_every_format(model, smiles, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    assert golf("relax", smiles, "-m", model, "-o", output, "--conformers", 2, "--max-steps", 4) == 0
    if suffix == ".h5":
        relaxed = read(output)
        assert relaxed.id == ["methanol/0000", "methanol/0001", "ethanol/0000", "ethanol/0001"]
        assert set(relaxed.values["stop_reason"]) <= {StopReason.STEP_LIMIT, StopReason.CONVERGED}
        assert np.abs(relaxed.position - relaxed.atoms["initial_position"]).max() > 1e-3
    elif suffix == ".sdf":
        mols = list(Chem.SDMolSupplier(str(output), removeHs=False))
        assert [mol.GetProp("_Name") for mol in mols][2:] == ["ethanol/0000", "ethanol/0001"]
        assert [Chem.MolToSmiles(Chem.RemoveHs(mol)) for mol in mols][1:3] == ["CO", "CCO"]
        assert float(mols[0].GetProp("energy_hartree")) < -100.0
    else:
        frames = read_ase(output, index=":", format="extxyz")
        assert [len(frame) for frame in frames] == [6, 6, 9, 9] and frames[0].info["name"] == "methanol/0000"


@pytest.mark.parametrize("suffix", [".h5", ".sdf", ".xyz", ".extxyz"])
def test_outputs_in_capitals_are_the_same(model, smiles, tmp_path, suffix):
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix.upper()}"
    for output in (small, large):
        assert golf("relax", smiles, "-m", model, "-o", output, "--max-steps", 1) == 0
    if suffix == ".h5":
        np.testing.assert_array_equal(read(large).position, read(small).position)
    else:
        assert large.read_text() == small.read_text()


def test_structure_files_are_read_with_bonds_from_their_geometry(model, smiles, tmp_path):
    golf("relax", smiles, "-m", model, "-o", tmp_path / "a.xyz", "--max-steps", 1)
    assert golf("relax", tmp_path / "a.xyz", "-m", model, "-o", tmp_path / "b.sdf", "--max-steps", 1) == 0
    assert [Chem.MolToSmiles(Chem.RemoveHs(mol)) for mol in Chem.SDMolSupplier(str(tmp_path / "b.sdf"))] == [
        "CO",
        "CCO",
    ]


def bad_inputs(folder, model, smiles):
    (folder / "empty.smi").write_text("")
    (folder / "broken.smi").write_text("C1CC broken\n")
    (folder / "fluoro.smi").write_text("CF fluoromethane\n")
    (folder / "text.h5").write_text("no HDF5")
    (folder / "text.pt").write_text("no model")
    torch.save({"weights": torch.zeros(3)}, folder / "other.pt")
    (folder / "there.h5").write_text("keep me")
    out = folder / "out.h5"
    relax = lambda source, target=out, weights=model: ("relax", source, "-m", weights, "-o", target)  # noqa: E731
    label = lambda *options: ("label", smiles, "-o", out, *options)  # noqa: E731
    return {
        r"nowhere\.smi: no such file": relax(folder / "nowhere.smi"),
        r"empty\.smi: has no molecules that can be relaxed": relax(folder / "empty.smi"),
        r"broken\.smi: has no molecules .*line 1 \(broken\): RDKit cannot read": relax(folder / "broken.smi"),
        r"fluoro\.smi: .*has F, which the potential does not cover": relax(folder / "fluoro.smi"),
        r"text\.h5: not a readable HDF5 file": relax(folder / "text.h5"),
        r"text\.pt: not a model file": relax(smiles, weights=folder / "text.pt"),
        r"other\.pt: a PyTorch file, but not a golf potential": relax(smiles, weights=folder / "other.pt"),
        r"none\.pt: no such file": relax(smiles, weights=folder / "none.pt"),
        r"there\.h5: already exists; give another name, or --force": relax(smiles, folder / "there.h5"),
        r"out\.mol2: unknown suffix '\.mol2'": relax(smiles, folder / "out.mol2"),
        r"molecules\.pdb: unknown suffix '\.pdb'": relax(folder / "molecules.pdb"),
        r"the folder .*missing does not exist": relax(smiles, folder / "missing" / "out.h5"),
        r"--cores 0: must be positive": label("--cores", "0"),
        r"--keywords \{scf_type: pk\}: not a JSON object; write it like '\{": label("--keywords", "{scf_type: pk}"),
        r"--keywords \[1\]: not a JSON object; write it like '\{": label("--keywords", "[1]"),
        r"oracle\.python: .*|oracle\.python": label("--python", sys.executable),
        r"text\.h5: ": ("inspect", folder / "text.h5"),
    }


def test_wrong_input_is_one_line_and_status_2(model, smiles, tmp_path, capsys):
    for message, arguments in bad_inputs(tmp_path, model, smiles).items():
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        status, printed = golf(*arguments), capsys.readouterr().err
        lines = [line for line in printed.splitlines() if not line.startswith("golf: warning: ")]
        assert status == 2, (message, printed)
        assert len(lines) == 1 and lines[0].startswith("golf: error: ") and re.search(message, lines[0]), printed
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.psi4
def test_a_time_limit_that_is_too_short_for_anything_is_one_line(smiles, tmp_path, capsys):
    assert golf("label", smiles, "-o", tmp_path / "out.h5", "--time-limit", "0.0001") == 2
    assert re.match(r"golf: error: .*oracle\.time_limit 0\.0001: too short for H2.*\n$", capsys.readouterr().err)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.psi4
def test_a_label_needs_no_force_field(tmp_path):
    """MMFF94 has no parameters for hydrogen and for boron."""
    (tmp_path / "in.smi").write_text("[H][H] hydrogen\nB borane\n")
    level = ("--method", "hf", "--basis", "sto-3g", "--cores", 1)
    assert golf("label", tmp_path / "in.smi", "-o", tmp_path / "out.h5", *level) == 0
    assert read(tmp_path / "out.h5").values["status"].tolist() == [Status.OK, Status.OK]


@pytest.mark.psi4
def test_labels_that_failed_are_said(tmp_path, capsys):
    """Benzene is too much for the time limit, hydrogen is not."""
    benzene = mapped_smiles(Chem.AddHs(Chem.MolFromSmiles("c1ccccc1")))
    molecules = [("h2/0", "h2", "[H:1][H:2]", molecule("H2")), ("benzene/0", "benzene", benzene, molecule("C6H6"))]
    records = [(name, of, smiles, 0, 1, atoms.numbers, atoms.positions) for name, of, smiles, atoms in molecules]
    write(tmp_path / "in.h5", ConformationSet.build(records))
    level = ("--method", "hf", "--basis", "def2-tzvp", "--cores", 1, "--time-limit", 5)
    assert golf("label", tmp_path / "in.h5", "-o", tmp_path / "out.h5", *level) == 1
    assert "golf: 1 of 2 conformations have a label in " in capsys.readouterr().err
    assert (read(tmp_path / "out.h5").values["status"] == Status.OK).tolist() == [True, False]


def test_the_installed_command_says_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "golf.cli.main", "inspect", str(tmp_path / "nowhere.h5")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".sdf", ".xyz"])
def test_a_full_disk_is_one_line_and_keeps_the_old_file(model, smiles, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    output.write_text("kept")
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
    limit += "from golf.cli.main import main; "
    arguments = ["relax", smiles, "-m", model, "-o", output, "--force", "--max-steps", 2]
    command = [sys.executable, "-c", limit + "sys.exit(main(sys.argv[1:]))", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "free space" in done.stderr, done.stderr
    assert output.read_text() == "kept" and sorted(path.name for path in tmp_path.iterdir()) == [output.name]


@pytest.mark.slow
def test_an_interrupt_is_one_line(model, smiles, tmp_path):
    arguments = ["relax", smiles, "-m", model, "-o", tmp_path / "out.h5", "--conformers", 200, "--max-steps", 10**6]
    arguments += ["--force-threshold", 1e-12, "--optimizer", "lbfgs"]
    command = [sys.executable, "-m", "golf.cli.main", "-v", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "piece 1: " in line:
                break
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (
        process.returncode == 130
        and errors.splitlines()[-1].startswith("golf: interrupted; run the same")
        and "Traceback" not in errors
    )
    assert not (tmp_path / "out.h5").exists()
