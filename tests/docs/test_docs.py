"""What the documentation says is run, or held against the code."""

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule as ase_molecule
from rdkit import Chem

from golf.cli.main import main
from golf.core.conformations import ATOM_COLUMNS, CONFORMATION_COLUMNS
from golf.core.hdf5 import read, write
from golf.core.level import LevelOfTheory
from golf.core.units import HARTREE_IN_EV
from golf.io.labelled import read_extxyz
from golf.nnp.potential import Architecture, Potential
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request
from golf.oracles.programs.registry import PROGRAMS
from golf.study.config import validated
from support import REPOSITORY

HDF5_SNIPPETS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/hdf5.md").read_text(), re.DOTALL)


def test_snippets_of_the_hdf5_page_run(monkeypatch):
    """Each by itself, and all say the same of the same file."""
    monkeypatch.chdir(REPOSITORY)
    with_golf, with_h5py, per_conformation, per_atom = [{} for _ in HDF5_SNIPPETS]
    for code, names in zip(HDF5_SNIPPETS, (with_golf, with_h5py, per_conformation, per_atom), strict=True):
        exec(code, names)
    np.testing.assert_array_equal(with_golf["first"], with_h5py["first"])
    table, usable = per_conformation["table"], per_conformation["usable"]
    np.testing.assert_array_equal(table.energy, with_h5py["energy"])
    np.testing.assert_array_equal(usable.energy, with_golf["energy"])
    assert len(table) == len(usable) and table.n_atoms.sum() == len(per_atom["atoms"])
    assert (per_conformation["relative"].groupby(usable.molecule).min() == 0.0).all()
    good = with_golf["good"]
    forces = [np.linalg.norm(good.atoms["force"][good.rows(i)], axis=1).max() for i in range(len(good))]
    np.testing.assert_allclose(per_atom["largest"].loc[good.id], forces)


def test_the_hdf5_page_has_every_column_of_the_layout():
    page = (REPOSITORY / "docs/hdf5.md").read_text()
    named = set(re.findall(r"`(?:/atoms/)?(\w+)`", page))
    assert set(CONFORMATION_COLUMNS) | set(ATOM_COLUMNS) - {"force"} <= named and "`/atoms/force`" in page


@pytest.fixture
def own_oracles(tmp_path, monkeypatch):
    """The modules of the page on oracles, in the present folder, and its entry in the table of programs."""
    *modules, entry = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/oracles.md").read_text(), re.DOTALL)
    for code in modules:
        (tmp_path / re.match(r"# (\w+\.py)\n", code).group(1)).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("golf.oracles.programs.registry.PROGRAMS", dict(PROGRAMS))
    exec(entry, {})


def test_oracles_of_the_page_compute_labels(own_oracles):
    water = ase_molecule("H2O")
    one = Request("water", water.numbers.astype(np.uint8), water.positions, 0, 1)
    springs = LevelOfTheory("ase", "my_calculator.Springs", "none", {"constant": 2.0})
    with OraclePool(springs) as oracle:
        np.testing.assert_allclose(oracle.compute(one).forces, -2.0 * one.positions / HARTREE_IN_EV, rtol=1e-7)
        assert oracle.program_version.endswith(", my_calculator")
    labels = []
    for program, method in (("ase", "tblite:GFN2-xTB"), ("tblite", "GFN2-xTB")):
        with OraclePool(LevelOfTheory(program, method, "none")) as oracle:
            oracle.check([1, 8])
            labels.append(oracle.compute(one))
    assert labels[0].energy == pytest.approx(labels[1].energy, abs=1e-8)
    np.testing.assert_allclose(labels[0].forces, labels[1].forces, atol=1e-7)


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/data.md").read_text(), re.DOTALL))
def test_examples_of_the_data_page_are_valid(text):
    validated(yaml.safe_load(text), "docs/data.md")


def test_the_snippet_of_the_data_page_runs(monkeypatch, tmp_path):
    page = (REPOSITORY / "docs/data.md").read_text()
    (frame,) = re.findall(r"```\n(3\n.*?)```", page, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "old.extxyz").write_text(frame.replace("method=wb97x-d", ""))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    water, _ = read_extxyz("mine.extxyz")
    assert water.id == ["water/0000"] and water.attrs["method"] == "wb97x-d"
    assert water.values["energy"][0] == pytest.approx(-76.387, abs=1e-3)


def test_the_pages_on_files_run(monkeypatch, tmp_path, capsys):
    """The commands and what they print, and the snippet of Python, on a part of the initial labels."""
    pages = {name: (REPOSITORY / f"docs/{name}.md").read_text() for name in ("convert", "python")}
    labels = read(REPOSITORY / "data/initial.h5", range(0, 2184, 42))
    monkeypatch.chdir(tmp_path)
    write("labels.h5", labels)
    blocks = re.findall(r"```(sh|text)\n(.*?)```", pages["convert"], re.DOTALL)
    said = ""
    for kind, text in blocks:
        for line in text.splitlines():
            if kind == "text":
                assert line.replace("2184", str(len(labels))) in said
            else:
                program, *arguments = shlex.split(line)
                assert program == "golf" and main(arguments) == 0
                said += capsys.readouterr().err
    exec("\n".join(re.findall(r"```python\n(.*?)```", pages["python"], re.DOTALL)), {})
    printed = capsys.readouterr().out
    assert f"{len(labels)} wb97x-d" in printed and "broken is left out: RDKit cannot read it" in printed


CHECKS = {
    "export": "expected = forces * 627.5094740631 * 4.184 * 10.0\n"
    "torch.testing.assert_close(-in_nanometres.grad, expected, rtol=1e-9, atol=1e-6)",
    "calculator": "assert abs(atoms.get_forces()).max() < 10.0 and len(vibrations.get_frequencies()) == 18",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", CHECKS)
def test_snippets_on_models_run(page, tmp_path):
    """With a small model, not trained; only the numbers differ."""
    torch.manual_seed(1)
    potential = Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5, 6: -37.8, 8: -74.9})
    potential.scale = 0.02
    potential.save(tmp_path / "model.pt")
    exported = tmp_path / "exported.pt"
    assert main(["export", str(tmp_path / "model.pt"), "-o", str(exported), "--dtype", "float64"]) == 0
    snippets = re.findall(r"```python\n(.*?)```", (REPOSITORY / f"docs/{page}.md").read_text(), re.DOTALL)
    script = tmp_path / "snippets.py"
    script.write_text("\n".join([*snippets, CHECKS[page]]))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_relax_page_run(tmp_path, monkeypatch, capfd):
    """On the page's molecules, with a small model, not trained, few steps and conformers; the last option counts."""
    page = (REPOSITORY / "docs/relax.md").read_text()
    (molecules,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    (tmp_path / "molecules.smi").write_text(molecules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("golf.chem.conformers.CONFORMERS_BY_ROTATABLE_BONDS", ((99, 4),))  # seconds, not a minute
    torch.manual_seed(1)
    energies = {1: -0.5, 6: -37.8, 7: -54.5, 8: -74.9}
    Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), energies).save("model.pt")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        piped = re.fullmatch(r"printf '(.*)' \| (.*)", line)
        if piped:
            text = piped[1].replace("\\n", "\n").encode()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        program, *arguments = shlex.split(piped[2] if piped else line)
        few = ["--max-steps", "2", "--force-threshold", "1e9"] if arguments[0] == "relax" else []
        few += ["--conformers", "2"] if "--temperature" in arguments else []  # Hessians take most of the time
        assert program == "golf" and main([*arguments, *few]) == 0
    said = capfd.readouterr()
    assert "conformers kept; dropped: " in said.err and "9 of 3 molecules" in said.out
    written = Chem.SDMolSupplier("ensembles.sdf", removeHs=False)
    properties = {name for mol in written for name in mol.GetPropNames()}
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    of_vibrations = {"n_imaginary", "lowest_frequency_per_cm", "n_kicks", "free_energy_hartree", "boltzmann_weight"}
    assert of_vibrations - {"free_energy_hartree", "boltzmann_weight"} <= set(
        next(iter(Chem.SDMolSupplier("weights.sdf"))).GetPropNames()
    )
    optional = {"left_saddle_point", "changed_molecule", "unlike_training", "strain_energy_kcal_mol"} | of_vibrations
    assert properties < listed and listed - optional <= properties and "only if" in page


def test_the_picture_of_the_rooms_has_all_of_them_and_the_direction_of_their_imports():
    picture = ElementTree.parse(REPOSITORY / "docs/rooms.svg")
    names = [text for text in picture.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "name"]
    column = {name.text: float(name.get("x")) for name in names}
    assert set(column) == {path.parent.name for path in (REPOSITORY / "golf").glob("*/__init__.py")}
    for path in (REPOSITORY / "golf").glob("*/**/*.py"):
        room = path.relative_to(REPOSITORY / "golf").parts[0]
        for other in re.findall(r"^ *(?:from|import) golf\.(\w+)", path.read_text(), re.MULTILINE):
            assert other == room or column[other] < column[room], f"{path} imports {other}"


def test_the_table_of_rooms_has_all_of_them():
    page = (REPOSITORY / "docs/architecture.md").read_text()
    rows = set(re.findall(r"^\| `([a-z/]+)` \|", page, re.MULTILINE))
    rooms = {str(path.parent.relative_to(REPOSITORY / "golf")) for path in (REPOSITORY / "golf").glob("*/__init__.py")}
    assert rooms <= rows
    for path in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", page):
        assert (REPOSITORY / "golf" / path).is_file() or (REPOSITORY / path).is_file(), f"{path} does not exist"


def test_the_slurm_profile_speaks_of_rules_that_exist():
    """Snakemake passes over a name in set-resources that is no rule."""
    command = [Path(sys.executable).with_name("snakemake"), "--list-rules", "--configfile", "configs/tiny.yaml"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    named = yaml.safe_load((REPOSITORY / "slurm/config.yaml").read_text())["set-resources"]
    assert named and set(named) <= set(listed.stdout.split())


@pytest.mark.slow
def test_label_jobs_import_nothing_that_their_environment_lacks():
    """envs/psi4.yaml has what they need; all other packages are hidden. (geomeTRIC takes ASE where it finds it.)"""
    rules = "".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk"))).split("\nrule ")
    scripts = {re.search(r"workflow_scripts/\w+\.py", rule)[0] for rule in rules if "conda:\n        LABEL_ENV" in rule}
    assert {path[17:-3] for path in scripts} >= {"label_batch", "optimize_batch", "check_oracle", "merge_labels"}
    environment = yaml.safe_load((REPOSITORY / "envs/psi4.yaml").read_text())["dependencies"]
    packages = {package.partition("=")[0] for package in environment} - {"python", "psi4"}
    for path in sorted(scripts):
        command = [sys.executable, "-c", BLOCKED, path, *sorted(packages)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        assert done.returncode == 0, f"{path}: {done.stderr}"


BLOCKED = """
import ast, re, sys
from importlib import metadata

path, *packages = sys.argv[1:]
allowed = {"golf"}
while packages:
    allowed.add(package := packages.pop())
    needed = (need for need in metadata.requires(package) or () if "extra ==" not in need)
    packages += {re.match(r"\\w+", need)[0] for need in needed} - allowed
hidden = metadata.packages_distributions().keys() - allowed

class Absent:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
tree = ast.parse(open(path).read())
tree.body = [line for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
exec(compile(tree, path, "exec"))
"""
