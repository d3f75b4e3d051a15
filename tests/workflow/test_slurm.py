"""The workflow on a real Slurm of one node: the tiny study, and every fault of docs/hpc.md for real.

Where CI is set, tests/support/slurm/start.sh installs and starts Slurm, as root, and without one these tests fail.
Elsewhere nothing is installed; they use the one that has been started so, or say that there is none.
"""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from support import REPOSITORY
from support.slurm.faults import Faults
from support.slurm.studies import Study

pytestmark = [pytest.mark.psi4, pytest.mark.slurm, pytest.mark.study]

GPU_RULES = ("train_baseline", "continue_baseline", "train_round", "train_control", "relax_round", "relax_test")
LOCAL_RULES = ("merge_labels", "merge_references", "summarize", "publish_model")


@pytest.fixture(scope="session", autouse=True)
def slurm():
    ours = not Path("/var/lib/golf-test-slurm").exists()  # else somebody has started it by hand, and goes on with it
    if ours and not os.environ.get("CI"):
        pytest.skip("no Slurm has been started; as root, CI=true make test installs and starts one")
    done = subprocess.run([REPOSITORY / "tests/support/slurm/start.sh"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"no Slurm here: {done.stderr.strip()}")
    yield
    if ours:
        subprocess.run([REPOSITORY / "tests/support/slurm/stop.sh"], check=True)


@pytest.fixture(scope="module")
def faults(slurm, tmp_path_factory):
    return Faults(tmp_path_factory.mktemp("faults"))


def test_the_tiny_study_runs_on_slurm(tmp_path):
    config = yaml.safe_load((REPOSITORY / "configs/tiny.yaml").read_text())
    config["dataset"]["train"] = str(REPOSITORY / config["dataset"]["train"])
    config["results_dir"] = "results"
    config["evaluation"] |= {"arms": ["mmff", "baseline", "golf", "traj"], "trajectory_conformations": 0}
    study = Study(tmp_path / "study", config)
    study.start(target="all")
    assert study.wait(1500) == 0, study.terminal()[-5000:]
    table = study.results("evaluation/summary.txt").read_text().strip()
    assert table and table in study.terminal()
    jobs = study.jobs()
    rules = {job.rule for job in jobs}
    assert {"check_oracle", "prepare_dataset", "label_batch", "optimize_batch", "evaluate_arm", *GPU_RULES} <= rules
    assert not rules & set(LOCAL_RULES)
    assert {job.state for job in jobs} == {"COMPLETED"}
    for job in jobs:
        assert job.partition == ("gpu" if job.rule in GPU_RULES else "cpu"), job
        assert job.asked.endswith("gpu:1") == (job.rule in GPU_RULES), job
    labels = [job for job in jobs if job.rule == "label_batch"]
    assert any(a is not b and a.start < b.end and b.start < a.end for a in labels for b in labels)  # in parallel
    minima = [job for job in jobs if job.rule == "optimize_batch"]
    assert len(labels) + len(minima) == len(list(study.folder.rglob("[0-9].h5")))  # one job for each batch


@pytest.mark.parametrize("names", Faults.ALL)
def test_no_fault_changes_a_label_or_repeats_one_that_was_finished(faults, names):
    for row in faults.run(names):
        assert row.difference == 0.0, row
        assert row.repeated == row.lost <= 2 * row.jobs, row  # what was in hand of two processes, and no more
