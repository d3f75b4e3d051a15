"""The target `optimize`: minima of own structures in batches, with GFN1-xTB in the part of the oracle."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rdkit import Chem

from golf.core.conformations import Status
from golf.core.hdf5 import read
from golf.core.level import LevelOfTheory
from golf.io.read import read_structures
from golf.oracles.minima import optimize_to_file
from support import REPOSITORY

pytestmark = pytest.mark.study
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def run(folder, *options, **section):
    config = {
        "results_dir": "results",
        "dataset": {"train": str(REPOSITORY / "tests/molecules.smi")},
        "oracle": {"program": "ase", "method": "tblite:GFN1-xTB"},
        "evaluation": {"arms": ["mmff"], "reference_batch_size": 2},
        "golf": {"rounds": 0},
        "resources": {"label_processes": 2},
        "optimize": section,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    files = ["--snakefile", REPOSITORY / "Snakefile", "--directory", folder, "--configfile", folder / "c.yaml"]
    line = [str(part) for part in [SNAKEMAKE, *files, "--cores", "2", *options]]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False, timeout=600)


def test_own_structures_are_optimized_in_batches(tmp_path):
    (tmp_path / "in.smi").write_text("CCO ethanol\nCO methanol\n")
    starts = read_structures(tmp_path / "in.smi", conformers=3)
    level = LevelOfTheory("ase", "tblite:GFN2-xTB", "none")
    gfn2 = optimize_to_file(starts, tmp_path / "gfn2.h5", level=level, n_workers=2)
    done = run(tmp_path, "optimize", input="gfn2.h5", top=2)
    assert done.returncode == 0, done.stderr[-5000:]
    found = read(tmp_path / "results/optimize/minima.h5")
    assert found.attrs["method"] == "tblite:gfn1-xtb" and (found.values["status"] == Status.OK).all()
    chosen = []
    for name in ("ethanol", "methanol"):
        mine = [i for i in range(len(gfn2)) if gfn2.molecule[i] == name]
        chosen += sorted(sorted(mine, key=lambda i: gfn2.values["energy"][i])[:2])
    assert found.id == [gfn2.id[i] for i in chosen]
    np.testing.assert_array_equal(found.atoms["initial_position"], gfn2.subset(chosen).position)
    names = [mol.GetProp("_Name") for mol in Chem.SDMolSupplier(str(tmp_path / "results/optimize/minima.sdf"))]
    assert names == found.id
    assert len(list((tmp_path / "results/optimize/batches").glob("*.h5"))) == 2
    with open(tmp_path / "results/optimize/left_out.csv", newline="") as stream:
        assert list(csv.reader(stream)) == [["line", "name", "input", "reason"]]
    again = run(tmp_path, "optimize", input="gfn2.h5", top=2)
    assert "Nothing to be done" in again.stderr
    # and the whole study plans nothing of it again
    planned = run(tmp_path, "--dry-run", input="gfn2.h5", top=2)
    assert planned.returncode == 0 and "write_report" in planned.stdout and "compute_hessians" not in planned.stdout


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"input": "absent.h5"}, "optimize.input: absent.h5: no such file; paths in a configuration are relative"),
        ({"input": "in.smi"}, "optimize.input: in.smi: has no geometries; relax the molecules first"),
        ({"input": "in.smi", "top": 0}, "key optimize.top: 0 is less than the minimum of 1"),
    ],
)
def test_mistakes_are_found_before_any_job(tmp_path, section, message):
    (tmp_path / "in.smi").write_text("CO methanol\n")
    done = run(tmp_path, "optimize", **section)
    assert done.returncode != 0 and message in done.stderr + done.stdout
