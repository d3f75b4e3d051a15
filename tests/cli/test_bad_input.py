"""Every command and every mistake: one line that names the file, status 2, and nothing half-written."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from golf.cli.main import main
from golf.core.hdf5 import read, write
from golf.nnp.potential import Architecture, Potential
from support import REPOSITORY
from support.mmff_labels import labelled_conformers

LEVEL = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}
NOBODY = 65534

INPUTS = {
    "label": "in.smi",
    "relax": "in.smi",
    "inspect": "labels.h5",
    "estimate": "study.yaml",
    "status": "study.yaml",
    "train": "labels.h5",
    "learning-curve": "labels.h5",
    "export": "model.pt",
    "import-checkpoint": "checkpoint",
}
OUTPUTS = {
    "label": "out.h5",
    "relax": "out.sdf",
    "train": "out.pt",
    "learning-curve": "out.csv",
    "export": "out.pt",
    "import-checkpoint": "out.pt",
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """One good file of each kind."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "in.smi").write_text("CO methanol\nCCO ethanol\nO water\n")
    (folder / "study.yaml").write_text(f"dataset: {{train: in.smi}}\nresults_dir: {folder / 'results'}\n")
    write(folder / "labels.h5", labelled_conformers(["CO", "CCO", "O"], 4).with_columns(**LEVEL))
    small = Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5, 6: -37.8, 8: -74.9})
    small.save(folder / "model.pt")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint/config.json").write_text(
        '{"backbone": "painn", "n_atom_basis": 8, "n_interactions": 1, "n_rbf": 4, "cutoff": 5.0}'
    )
    weights = {f"model.{name}": tensor for name, tensor in small.network.state_dict().items()}
    torch.save(weights, folder / "checkpoint/NNP_checkpoint_actor")
    return folder


@pytest.fixture
def folder(good, monkeypatch):
    """A copy of the good files that other users can look into, which is where commands are typed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        shutil.copytree(good, folder)
        os.chmod(name, 0o755)
        os.chmod(folder, 0o755)
        monkeypatch.chdir(folder)
        yield folder


def arguments(command, given=None, output=None):
    """A command line; with all that is right but what is given."""
    line = [command, str(given or INPUTS[command])]
    if command == "relax":
        line += ["-m", "model.pt", "--max-steps", "1"]
    if command in ("train", "learning-curve"):
        line += ["--updates", "1", "--batch-size", "2"]
    if command in OUTPUTS:
        line += ["-o", str(output or OUTPUTS[command])]
    return line


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(line, folder, capfd, message, status=2):
    """Run it; one line that fits, and the folder as it was."""
    before = contents(folder)
    found, printed = main(list(map(str, line))), capfd.readouterr()
    lines = printed.err.splitlines()
    assert found == status and printed.out == "", (found, printed)
    assert len(lines) == 1 and lines[0].startswith("golf: error: ") and re.search(message, lines[0]), printed.err
    assert contents(folder) == before


@pytest.mark.parametrize("command", INPUTS)
def test_a_missing_file(command, folder, capfd):
    name = f"nowhere{Path(INPUTS[command]).suffix}"
    refused(arguments(command, name), folder, capfd, "nowhere.*: (no such file|has no)")


@pytest.mark.parametrize("command", INPUTS)
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe not what the name says \x80" * 20], ids=["empty", "wrong"])
def test_an_empty_file_and_one_of_another_kind(command, content, folder, capfd):
    path = folder / INPUTS[command]
    if path.is_dir():
        path /= "NNP_checkpoint_actor"
    path.write_bytes(content)
    refused(arguments(command), folder, capfd, re.escape(str(path.relative_to(folder))) + ": ")


FORMATS = {".smi", ".csv", ".sdf", ".xyz", ".extxyz", ".db", ".h5", ".hdf5"}


@pytest.mark.parametrize("command", ["label", "relax", "inspect"])
@pytest.mark.parametrize("suffix", sorted(FORMATS))
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe not what the name says \x80" * 20], ids=["empty", "wrong"])
def test_every_format_of_structures(command, suffix, content, folder, capfd):
    (folder / f"bad{suffix}").write_bytes(content)
    refused(arguments(command, f"bad{suffix}"), folder, capfd, rf"bad\{suffix}: ")


@pytest.mark.parametrize("command", ["label", "relax", "inspect", "train", "learning-curve"])
def test_an_unknown_extension_of_the_input(command, folder, capfd):
    shutil.copy("in.smi", "in.mol2")
    refused(arguments(command, "in.mol2"), folder, capfd, r"in\.mol2: ")


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_unknown_extension_of_the_output(command, folder, capfd):
    refused(arguments(command, output="out.mol2"), folder, capfd, r"out\.mol2: unknown suffix '\.mol2'; give")


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_that_exists(command, folder, capfd):
    (folder / OUTPUTS[command]).write_text("keep me")
    refused(arguments(command), folder, capfd, "out.*: already exists; give another name, or --force")


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_that_is_a_folder(command, folder, capfd):
    (folder / OUTPUTS[command]).mkdir()
    refused([*arguments(command), "--force"], folder, capfd, "out.*: a folder; give the name of a file")


OWN_INPUTS = [
    *[(command, [], name) for command, name in INPUTS.items() if command in OUTPUTS and command != "import-checkpoint"],
    ("relax", ["-m", "model.sdf"], "model.sdf"),
    ("train", ["--initial", "initial.pt"], "initial.pt"),
    ("train", ["--config", "settings.pt"], "settings.pt"),
    ("learning-curve", ["--config", "settings.csv"], "settings.csv"),
    ("import-checkpoint", ["--reference-energies", "energies.pt"], "energies.pt"),
]
WAYS = ["name", "spelling", "link", "hard link"]


@pytest.mark.parametrize(
    ("command", "options", "name", "way"),
    [
        *[(*one, way) for one in OWN_INPUTS for way in WAYS],
        ("import-checkpoint", [], "checkpoint/NNP_checkpoint_actor", "link"),
        ("import-checkpoint", [], "checkpoint/config.json", "hard link"),
    ],
)
def test_an_output_that_is_an_input(command, options, name, way, folder, capfd):
    """It keeps its content, with --force, too."""
    given, suffix = folder / name, Path(OUTPUTS[command]).suffix
    if not given.exists():
        given.write_text("keep me")
    if way in ("name", "spelling"):
        given = given.rename(given.with_suffix(suffix))
    output = {"name": given, "spelling": folder / "checkpoint/.." / given.name}.get(way, folder / f"other{suffix}")
    if way == "link":
        output.symlink_to(given)
    if way == "hard link":
        output.hardlink_to(given)
    line = [*arguments(command, given if name == INPUTS[command] else None, output), *options]
    refused([*line, "--force"], folder, capfd, "the same file as the input .*; give another name")
    refused(line, folder, capfd, "the same file as the input .*; give another name")


BROKEN_SDF = """bad
     golf          3D

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0
M  END
$$$$
"""


def with_a_broken_record(folder, suffix):
    """A file of three molecules, the second of which cannot be used."""
    path = folder / f"three{suffix}"
    if suffix in (".smi", ".csv"):
        path.write_text(
            "smiles name\nCO a\nC1CC bad\nO c\n"[12:] if suffix == ".smi" else "smiles,name\nCO,a\nC1CC,bad\nO,c\n"
        )
        return path
    assert main(["relax", "in.smi", "-m", "model.pt", "-o", f"whole{suffix}", "--max-steps", "1"]) == 0
    text = Path(f"whole{suffix}").read_text()
    if suffix == ".sdf":
        first, _, third, _ = text.split("$$$$\n")
        path.write_text(f"{first}$$$$\n{BROKEN_SDF}{third}$$$$\n")
    else:
        lines = text.splitlines(keepends=True)
        path.write_text("".join([*lines[:8], "2\nname=bad\nC 0 0 0\nC 9 9 9\n", *lines[8:]]))
    return path


@pytest.mark.parametrize("suffix", [".smi", ".csv", ".sdf", ".extxyz"])
def test_an_unreadable_record_among_others(suffix, folder, capfd):
    path = with_a_broken_record(folder, suffix)
    capfd.readouterr()
    where = r"(line|record|frame) \d"
    refused(arguments("label", path.name), folder, capfd, rf"three\{suffix}: .*{where}")
    assert main(arguments("inspect", path.name)) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert re.search(rf"records (3|4) cannot be used 1, first {where}", said), said
    assert main(arguments("relax", path.name)) == 1
    assert re.search(rf"three\{suffix}: (line|record|frame) 2[ ,]", capfd.readouterr().err) or suffix == ".csv"
    assert Path("out.sdf").read_text().count("$$$$") == (3 if suffix == ".extxyz" else 2)
    left_out = Path("out.sdf.left_out.csv").read_text()
    assert (',"frame 2, line 9, bad",C2,' if suffix == ".extxyz" else ",bad,") in left_out


def test_an_element_that_no_model_knows(folder, capfd):
    Path("in.smi").write_text("CO methanol\nO=[U+2]=O uranyl\n")
    assert main(arguments("relax")) == 1
    assert "in.smi: line 2 (uranyl) is left out: has U, which the potential does not cover" in capfd.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["relax", "train", "learning-curve"])
def test_a_device_that_is_not_there(command, folder, capfd):
    assert main([*arguments(command), "--device", "cuda"]) == 2
    assert capfd.readouterr().err.startswith("golf: error: device cuda: PyTorch sees no GPU; use auto or cpu (--dev")
    assert not (folder / OUTPUTS[command]).exists()


def cut_in_the_middle(path):
    """Zeros where the data of an HDF5 file lie."""
    whole = path.read_bytes()
    with h5py.File(path) as file:
        chunk = file["atoms/position"].id.get_chunk_info(0)
    path.write_bytes(whole[: chunk.byte_offset] + bytes(chunk.size) + whole[chunk.byte_offset + chunk.size :])


@pytest.mark.parametrize("command", ["label", "relax", "inspect", "train", "learning-curve"])
@pytest.mark.parametrize("damage", ["middle", "end"])
def test_a_damaged_hdf5_file(command, damage, folder, capfd):
    if damage == "middle":
        cut_in_the_middle(folder / "labels.h5")
    else:
        (folder / "labels.h5").write_bytes((folder / "labels.h5").read_bytes()[:5000])
    refused(arguments(command, "labels.h5"), folder, capfd, "labels.h5: not a readable HDF5 file")


@pytest.mark.parametrize("command", ["relax", "inspect", "export", "train"])
def test_a_model_of_another_version(command, folder, capfd):
    content = torch.load("model.pt", weights_only=True)
    torch.save(content | {"format_version": 99}, "model.pt")
    line = arguments(command) if command in ("relax", "export") else arguments(command, "model.pt")
    line = [*arguments("train"), "--initial", "model.pt"] if command == "train" else line
    refused(line, folder, capfd, r"model\.pt: format version 99, this golf reads up to \d+; update golf")


@pytest.mark.parametrize("command", ["label", "relax", "inspect", "train", "learning-curve"])
def test_conformations_of_another_version(command, folder, capfd):
    with h5py.File("labels.h5", "r+") as file:
        file.attrs["format_version"] = 99
    refused(arguments(command, "labels.h5"), folder, capfd, r"labels\.h5: format version 99")


def not_a_number(folder, suffix):
    """The first of the structures has a coordinate that is not a number."""
    path = folder / f"nan{suffix}"
    if suffix == ".h5":
        part = read("labels.h5")
        position = part.position.copy()
        position[2, 1] = np.nan
        write(path, part.with_columns(position=position))
        return path
    assert main(["relax", "in.smi", "-m", "model.pt", "-o", f"whole{suffix}", "--max-steps", "1"]) == 0
    text = Path(f"whole{suffix}").read_text()
    number = re.search(r"(-?\d\.\d{4})" if suffix == ".sdf" else r"\n[CHO] +(-?\d\.\d{8})", text)
    start, end = number.span(1)
    path.write_text(text[:start] + "nan".rjust(end - start) + text[end:])
    return path


@pytest.mark.parametrize("suffix", [".sdf", ".extxyz", ".h5"])
def test_coordinates_that_are_no_numbers(suffix, folder, capfd):
    path = not_a_number(folder, suffix)
    capfd.readouterr()
    for command in ["label", *(["train", "learning-curve"] if suffix == ".h5" else [])]:
        refused(arguments(command, path.name), folder, capfd, rf"nan\{suffix}: .*")
    assert main(arguments("inspect", path.name)) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert re.search("cannot be used 1, first record 1|positions not finite numbers in 1 conformations, first ", said)
    assert main(arguments("relax", path.name)) == 1
    assert re.search(r"is left out: |not finite", capfd.readouterr().err)
    assert "nan" not in Path("out.sdf").read_text()


AS_ANOTHER = f"""
import contextlib, encodings.utf_8_sig, io, json, os, sys
import torch._dynamo
import ase.io.extxyz, golf.cli.main, golf.nnp.domain, golf.study.estimate, golf.nnp.export, golf.cli.summary
import golf.oracles.labeling, golf.training.learning_curve, golf.relaxation.library, golf.training.own_labels
import golf.nnp.parallel, golf.io.pieces, golf.nnp.published, golf.study.status, golf.io.read, golf.io.write
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        status = golf.cli.main.main(line)
    print(json.dumps([status, errors.getvalue()]))
"""


def refused_to_another_user(lines, folder):
    """What each command says to someone else than the owner of the files."""
    before = contents(folder)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", AS_ANOTHER, json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    answers = [json.loads(answer) for answer in done.stdout.splitlines()]
    assert len(answers) == len(lines) and done.stderr == "", done
    assert contents(folder) == before
    for status, printed in answers:
        assert status == 2 and printed.startswith("golf: error: ") and printed.count("\n") == 1, printed
    return [printed for _, printed in answers]


@pytest.mark.slow
def test_no_permission_to_write(folder):
    os.chmod(folder, 0o555)
    answers = refused_to_another_user([arguments(command) for command in OUTPUTS], folder)
    os.chmod(folder, 0o755)
    for command, printed in zip(OUTPUTS, answers, strict=True):
        assert f"{OUTPUTS[command]}: the folder . does not exist or is not writable" in printed


@pytest.mark.slow
def test_no_permission_to_read(folder):
    os.chmod(folder, 0o777)
    names = {command: Path(name) for command, name in INPUTS.items()}
    names["import-checkpoint"] /= "NNP_checkpoint_actor"
    locked = set(names.values())
    shutil.copy("model.pt", "readable.pt")
    lines = {command: arguments(command) for command in INPUTS}
    lines["relax"][lines["relax"].index("model.pt")] = "readable.pt"
    for path in locked:
        os.chmod(path, 0)
    try:
        answers = refused_to_another_user(list(lines.values()), folder)
    finally:
        for path in locked:
            os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
    for command, printed in zip(INPUTS, answers, strict=True):
        assert re.search(rf"{names[command]}: .*permission denied", printed, re.IGNORECASE), printed
