"""What the documentation says is run, or held against the code."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule as ase_molecule

from golf.oracles.base import LevelOfTheory, Request
from golf.oracles.pool import OraclePool
from golf.oracles.programs import PROGRAMS
from golf.units import HARTREE_IN_EV

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "code", re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/hdf5.md").read_text(), re.DOTALL)
)
def test_snippets_of_the_hdf5_page_run(code, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    names: dict = {}
    exec(code, names)
    assert names["first"].shape[1] == 3 and names["energy"][0] < -100.0


@pytest.fixture
def own_oracles(tmp_path, monkeypatch):
    """The modules of the page on oracles, in the present folder, and its entry in the table of programs."""
    *modules, entry = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/oracles.md").read_text(), re.DOTALL)
    for code in modules:
        (tmp_path / re.match(r"# (\w+\.py)\n", code).group(1)).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("golf.oracles.programs.PROGRAMS", dict(PROGRAMS))
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


def test_every_module_is_on_the_architecture_page():
    page = (REPOSITORY / "docs/architecture.md").read_text()
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "golf").rglob("*.py")}
    missing = {path for path in modules if Path(path).name not in page and "__init__" not in path}
    assert not missing


def test_the_slurm_profile_speaks_of_rules_that_exist():
    """Snakemake passes over a name in set-resources that is no rule."""
    command = [Path(sys.executable).with_name("snakemake"), "--list-rules", "--configfile", "configs/tiny.yaml"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    named = yaml.safe_load((REPOSITORY / "slurm/config.yaml").read_text())["set-resources"]
    assert named and set(named) <= set(listed.stdout.split())


def test_the_oracle_side_imports_nothing_of_the_network():
    """Label jobs run where there is only Psi4, numpy, h5py and geomeTRIC (which imports ASE where it finds it)."""
    code = (
        "import sys, golf.labeling, golf.reference, golf.oracles.pool, golf.job, golf.planning\n"
        "print({'torch', 'rdkit', 'schnetpack', 'pandas', 'tqdm'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert shown.stdout.strip() == "set()"
