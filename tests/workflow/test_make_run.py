"""setup/run.sh, behind `make run`: what to type after a crash is the same command again."""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from golf.study.recovery import MARKS, Study
from support import REPOSITORY

WORKFLOW = ("Snakefile", "envs", "golf", "profiles", "report", "rules", "schemas", "setup", "slurm", "workflow_scripts")


@pytest.fixture
def clone(tmp_path):
    """The workflow as if it had been cloned and set up, with a small study."""
    for name in WORKFLOW:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    config = yaml.safe_load((REPOSITORY / "configs/tiny.yaml").read_text())
    config["dataset"]["train"] = str(REPOSITORY / config["dataset"]["train"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"results_dir": "results"}))
    return tmp_path


def run(clone, *options, **environment):
    return subprocess.Popen(
        ["setup/run.sh", *options, "--", "results/dataset/train.h5"],
        cwd=clone,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
    )


def mark_of(clone, results="results"):
    return clone / MARKS / f"{Study(clone / results).name}.at-work"


def children(pid):
    """Of a process, with their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found[int(path.parent.name)] = (path.parent / "cmdline").read_bytes().decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.psi4
@pytest.mark.study
def test_a_killed_snakemake_leaves_nothing_that_the_same_command_does_not_clear_up(clone):
    first = run(clone, "--cores", "1")
    mark, locks = mark_of(clone), clone / ".snakemake/locks"
    end = time.monotonic() + 120
    while not any(locks.glob("*")):
        assert first.poll() is None and time.monotonic() < end, first.communicate()[0]
        time.sleep(0.05)
    (snakemake,) = [pid for pid, command in children(first.pid).items() if "snakemake" in command]
    os.kill(snakemake, signal.SIGKILL)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGKILL and mark.exists(), output

    # another study of this clone, at work all the while
    theirs = locks / "7.output.lock"
    theirs.write_text("results/other/dataset/train.h5\n")
    mark_of(clone, "results/other").write_text(f"{clone}/results/other\n--cores 1\n")

    # a mistake in between leaves nothing behind, either
    config = clone / "config.yaml"
    right = config.read_text()
    config.write_text(right + "typo: 1\n")
    mistaken = run(clone, "--cores", "1")
    output, _ = mistaken.communicate(timeout=120)
    assert mistaken.returncode == 1 and "unknown key typo" in output, output
    assert "the last run was interrupted" in output, output
    assert [path.name for path in locks.iterdir()] == [theirs.name]

    config.write_text(right)
    again = run(clone)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and "interrupted" not in output, output
    assert (clone / "results/dataset/train.h5").is_file() and not mark.exists()


@pytest.mark.slow
def test_studies_of_one_clone_run_at_the_same_time_whatever_surrounds_them(clone):
    other = clone / "my studies/it's other.yaml"
    other.parent.mkdir()
    other.write_text(yaml.safe_dump(yaml.safe_load((clone / "config.yaml").read_text()) | {"results_dir": "results/o"}))
    lock = mark_of(clone).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    with open(lock, "w") as held:  # as one that is at work on results
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = run(clone, "-n")
        surroundings = {"SNAKEMAKE_PROFILE": "no such profile", "HOME": "/dev/null/nowhere", "XDG_CACHE_HOME": ""}
        options = ["--quiet", "--configfile", str(other), "--config", "results_dir=results/o"]
        planned = subprocess.run(
            ["setup/run.sh", *options, "--dry-run", "--", "results/o/dataset/train.h5"],
            cwd=clone,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | surroundings,
        )
        output, _ = refused.communicate(timeout=120)
    assert refused.returncode == 1 and f"another run is using {clone}/results; " in output, output
    assert planned.returncode == 0 and "Traceback" not in planned.stderr, planned.stderr
    said = [line for line in planned.stderr.splitlines() if line.startswith("golf run: ")]
    assert [line.split(" ")[2] for line in said] == ["SNAKEMAKE_PROFILE=no", "/dev/null/nowhere/.cache"], said


def test_a_config_may_have_spaces_in_its_name():
    command = ["make", "--dry-run", "--no-print-directory", "run", "CONFIG=my studies/it's mine.yaml"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    last = shown.stdout.splitlines()[-1]
    assert shlex.split(last) == ["setup/run.sh", "--configfile", "my studies/it's mine.yaml"]
