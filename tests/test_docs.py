"""What the documentation says is run, or held against the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "code", re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/hdf5.md").read_text(), re.DOTALL)
)
def test_snippets_of_the_hdf5_page_run(code, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    names: dict = {}
    exec(code, names)
    assert names["first"].shape[1] == 3 and names["energy"][0] < -100.0


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
