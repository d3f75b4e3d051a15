"""Compressed and piped input of `golf relax`, `golf label` and `golf inspect`, whole, empty and damaged."""

import gzip
import io
import subprocess
import sys

import pytest
import torch

import golf
from golf.cli.main import main
from golf.core.hdf5 import read
from golf.nnp.potential import Architecture, Potential

SMILES = "CO methanol\nCCO ethanol\n"


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5, 6: -37.8, 8: -74.9}).save(path)
    return path


@pytest.fixture
def relax(model, tmp_path):
    def relax(given, output="out.h5", *options):
        settings = ("--max-steps", 2, "--cores", 1, *options)
        return run("relax", given, "-m", model, "-o", tmp_path / output, *settings)

    return relax


@pytest.fixture
def piped(monkeypatch):
    def piped(content):
        content = content if isinstance(content, bytes) else content.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return "-"

    return piped


@pytest.fixture
def files(tmp_path):
    """The same two molecules in the formats that may be compressed."""
    (tmp_path / "a.smi").write_text(SMILES)
    (tmp_path / "a.csv").write_text("smiles,name\nCO,methanol\nCCO,ethanol\n")
    conformations = golf.read(tmp_path / "a.smi")
    for suffix in (".sdf", ".xyz", ".extxyz"):
        golf.write(tmp_path / f"a{suffix}", conformations)
    for path in list(tmp_path.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    return tmp_path


@pytest.mark.parametrize("suffix", [".smi", ".csv", ".sdf", ".xyz", ".extxyz"])
def test_compressed_files_are_read_as_plain_ones(files, relax, suffix, capsys):
    assert relax(files / f"a{suffix}") == relax(files / f"a{suffix}.gz", "gz.h5") == 0
    plain, compressed = read(files / "out.h5"), read(files / "gz.h5")
    assert plain.id == compressed.id == ["methanol/0000", "ethanol/0000"]
    assert plain.position.tolist() == compressed.position.tolist()
    capsys.readouterr()
    assert run("inspect", files / f"a{suffix}.gz") == 0
    assert "records               2" in capsys.readouterr().out


def test_a_long_file_is_read_to_its_end(tmp_path):
    """Longer than any buffer on the way."""
    text = "".join(f"CO methanol-{i}\n" for i in range(40_000))
    (tmp_path / "a.smi.gz").write_bytes(gzip.compress(text.encode()))
    from golf.io.formats import count_records

    assert count_records(tmp_path / "a.smi.gz") == 40_000


@pytest.mark.parametrize("suffix", [".smi", ".csv", ".sdf", ".xyz"])
def test_damaged_gzip_files_are_one_line(files, relax, suffix, capsys):
    whole = (files / f"a{suffix}.gz").read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    for content, message in {
        whole[:-9]: "the gzip file is cut off; copy or download it again",
        bytes(broken): "the gzip file is damaged (",
        b"CO methanol\n": "not compressed with gzip; compress it, or take .gz off its name",
        b"": "not compressed with gzip",
    }.items():
        (files / f"bad{suffix}.gz").write_bytes(content)
        assert relax(files / f"bad{suffix}.gz", "bad.h5") == 2
        said = capsys.readouterr().err
        assert f"bad{suffix}.gz: {message}" in said and len(said.splitlines()) == 1
        assert not (files / "bad.h5").exists() and not (files / "bad.h5.parts").exists()


@pytest.mark.parametrize("name", ["a.smi", "a.csv", "a.sdf", "a.xyz", "a.smi.gz", "a.sdf.gz"])
def test_standard_input_is_a_file(files, relax, piped, name, capsys):
    kind = name.split(".")[1]
    options = () if kind == "smi" else ("--format", kind)
    assert relax(piped((files / name).read_bytes()), "piped.h5", *options) == 0
    assert relax(files / f"a.{kind}") == 0
    one, other = read(files / "piped.h5"), read(files / "out.h5")
    assert one.id == other.id and one.position.tolist() == other.position.tolist()


def test_standard_input_in_a_real_pipe(model, tmp_path):
    command = [sys.executable, "-m", "golf.cli.main", "relax", "-", "-m", str(model), "-o", str(tmp_path / "out.sdf")]
    command += ["--max-steps", "1", "--cores", "1"]
    done = subprocess.run(command, check=False, input=b"CO methanol\nC1CC broken\n", capture_output=True)
    said = done.stderr.decode()
    assert done.returncode == 1 and "stdin.smi: line 2 (broken) is left out" in said and "/golf-" not in said
    assert (tmp_path / "out.sdf").read_text().count("$$$$") == 1


@pytest.mark.parametrize("command", ["relax", "label"])
def test_empty_standard_input_is_one_line(model, tmp_path, piped, capsys, command):
    model_option = ("-m", model) if command == "relax" else ("--program", "ase", "--method", "ase.calculators.emt.EMT")
    assert run(command, piped(""), *model_option, "-o", tmp_path / "out.h5") == 2
    assert capsys.readouterr().err == (
        "golf: error: standard input: empty; pipe molecules into the command, or name a file\n"
    )


def test_what_standard_input_has_instead(tmp_path, relax, piped, files, capsys):
    assert relax(piped("\n\n")) == 2
    assert "stdin.smi: has no molecules" in capsys.readouterr().err
    assert relax(piped("CO methanol\n"), "x.h5", "--format", "xyz") == 2
    assert "stdin.xyz: frame 1: 'CO methanol' is not a number of atoms" in capsys.readouterr().err
    assert relax(files / "a.smi", "x.h5", "--format", "sdf") == 2
    assert "--format: is for standard input (-)" in capsys.readouterr().err
    assert not list(tmp_path.glob("x.h5*"))


def test_an_interrupted_run_resumes_with_the_same_content_only(files, relax, piped, capsys, monkeypatch):
    """The record of a run has the name and the content of its input, not the place of a temporary file."""
    monkeypatch.setattr("golf.cli.relax.PIECE", 1)
    from golf.relaxation import library

    whole = library._relax_piece

    def cut_off(piece, part, *others):
        if part.name == "000001.h5":
            raise KeyboardInterrupt
        whole(piece, part, *others)

    monkeypatch.setattr(library, "_relax_piece", cut_off)
    assert relax(piped(SMILES)) == 130
    monkeypatch.setattr(library, "_relax_piece", whole)
    capsys.readouterr()
    assert relax(piped("CO methanol\nO water\n")) == 2
    assert "parts of a run with other input, model or options" in capsys.readouterr().err
    first = next((files / "out.h5.parts").glob("*0.h5")).stat().st_mtime_ns
    assert (files / "out.h5.parts/000000.h5").stat().st_mtime_ns == first
    assert relax(piped(SMILES)) == 0
    assert read(files / "out.h5").molecule == ["methanol", "ethanol"]


def test_labels_of_standard_input(tmp_path, piped):
    oracle = ("--program", "ase", "--method", "ase.calculators.emt.EMT", "--cores", 1)
    assert run("label", piped("CO methanol\n"), *oracle, "-o", tmp_path / "out.h5") == 0
    assert read(tmp_path / "out.h5").id == ["methanol/0000"]
