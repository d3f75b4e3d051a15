"""How many processors a process may use: its affinity and the quota of its cgroups, wherever cores are counted."""

import os
import subprocess
import sys

import pytest

from golf.core.processors import usable_processors
from support import REPOSITORY

BOUND = len(os.sched_getaffinity(0))


def cgroups(folder, own, files):
    """A made-up mount of cgroups, and the file that names those of a process."""
    for name, text in files.items():
        (folder / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mount" / name).write_text(text)
    (folder / "own").write_text(own)
    return folder / "mount", folder / "own"


@pytest.mark.parametrize(
    ("own", "files", "processors"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),  # the limit of a parent
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, BOUND),
        ("0::/a/b\n", {}, BOUND),
        ("0::/../host\n", {"cpu.max": "100000 100000\n"}, 1),  # the host's path, seen from within a container
        ("0::/host/only\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/a\n", {"a/cpu.max": f"{(BOUND + 3) * 100000} 100000\n"}, BOUND),
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, BOUND),
        (
            "5:cpu,cpuacct:/a\n3:cpuset:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "80000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        ("5:cpuacct,cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "9\n", "cpu/a/cpu.cfs_period_us": "10\n"}, 1),
        ("5:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, BOUND),
    ],
)
def test_the_quota_of_a_cgroup_is_a_limit(tmp_path, own, files, processors):
    assert usable_processors(*cgroups(tmp_path, own, files)) == processors


def test_a_part_of_a_processor_counts_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert usable_processors(*cgroups(tmp_path, "0::/\n", {"cpu.max": "250000 100000\n"})) == 3


def bound_to_one(*command):
    """What a command prints that may use one processor of this machine."""
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {one}),
        env=os.environ | {"COLUMNS": "200"},
    )
    return done.stdout.strip()


@pytest.mark.skipif(BOUND < 2, reason="this process may use one processor only")
def test_affinity_is_a_limit():
    assert bound_to_one(sys.executable, "-m", "golf.core.processors") == "1"
    shown = bound_to_one(sys.executable, "-m", "golf.cli.main", "estimate", "--help")
    assert "(default: all available, here 1)" in " ".join(shown.split())
