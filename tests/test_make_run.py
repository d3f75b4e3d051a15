"""setup/run.sh, behind `make run`: what to type after a crash is the same command again."""

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

REPOSITORY = Path(__file__).resolve().parent.parent
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


def run(clone, *options):
    return subprocess.Popen(
        ["setup/run.sh", "--cores", "1", *options, "--", "results/dataset/train.h5"],
        cwd=clone,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


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


def test_a_killed_snakemake_leaves_nothing_that_the_same_command_does_not_clear_up(clone):
    first = run(clone)
    mark, locks = clone / ".snakemake/make-run-at-work", clone / ".snakemake/locks"
    end = time.monotonic() + 120
    while not any(locks.glob("*")):
        assert first.poll() is None and time.monotonic() < end, first.communicate()[0]
        time.sleep(0.05)
    (snakemake,) = [pid for pid, command in children(first.pid).items() if "snakemake" in command]
    os.kill(snakemake, signal.SIGKILL)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGKILL and mark.exists(), output

    # a mistake in between does not make it forget
    config = clone / "config.yaml"
    right = config.read_text()
    config.write_text(right + "typo: 1\n")
    mistaken = run(clone)
    output, _ = mistaken.communicate(timeout=120)
    assert mistaken.returncode == 1 and "unknown key typo" in output and "could not be removed" in output
    assert mark.exists()

    config.write_text(right)
    again = run(clone)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and "the last run was cut off" in output, output
    assert (clone / "results/dataset/train.h5").is_file() and not mark.exists()


def test_a_config_may_have_spaces_in_its_name():
    command = ["make", "--dry-run", "--no-print-directory", "run", "CONFIG=my studies/it's mine.yaml"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    last = shown.stdout.splitlines()[-1]
    assert shlex.split(last) == ["setup/run.sh", "--cores", "all", "--configfile", "my studies/it's mine.yaml"]
