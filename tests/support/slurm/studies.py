"""A small study in a folder of its own, run through `--profile slurm` on the Slurm of start.sh, and what it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import yaml

from golf.core.hdf5 import read
from support import REPOSITORY

WORKFLOW = ("Snakefile", "envs", "golf", "profiles", "report", "rules", "schemas", "setup", "slurm", "workflow_scripts")

# What a cluster without accounting, and a test that is not to wait, change in slurm/config.yaml.
OVERRIDES = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5"]
OVERRIDES += ["--latency-wait", "10"]

LABELS = "results/labels/initial.h5"


@dataclass(frozen=True)
class Job:
    """A job as Slurm remembers it."""

    id: int
    rule: str
    batch: int | None  # of a label job
    state: str
    partition: str
    start: datetime | None
    end: datetime | None
    asked: str  # for what beside CPUs and memory: GPUs
    restarts: int  # by Slurm itself


class Study:
    """The workflow and its results in one folder, as if it had been cloned there."""

    def __init__(self, folder: Path, config: dict | None = None) -> None:
        self.folder = folder
        self._process: subprocess.Popen | None = None
        self._kept = folder / "kept-logs"
        if config is None:
            return
        folder.mkdir(parents=True)
        for name in WORKFLOW:
            source = REPOSITORY / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))

    def copy(self, folder: Path, **oracle: object) -> Study:
        """The same study at the same point, elsewhere, with other settings of how its labels are computed."""
        shutil.copytree(self.folder, folder, symlinks=True)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["oracle"] |= oracle
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return Study(folder)

    def command(self, *options: str, target: str = LABELS) -> list[str]:
        """What `make run PROFILE=slurm` runs, with the overrides of a test."""
        return [str(self.folder / "setup/run.sh"), "--profile", "slurm", *OVERRIDES, *options, "--", target]

    def start(self, *options: str, target: str = LABELS) -> None:
        """Start the workflow and come back at once."""
        if not self._kept.exists():
            self._kept.mkdir()
            threading.Thread(target=self._keep_logs, daemon=True).start()
        with open(self.folder / "terminal.log", "ab") as log:
            self._process = subprocess.Popen(
                self.command(*options, target=target), stdout=log, stderr=log, start_new_session=True
            )

    def _keep_logs(self) -> None:
        """Snakemake removes the log of an attempt when the next one starts: hold on to each by another name."""
        while self._kept.exists():
            for log in self.results("logs/label_batch/labels/initial").glob("*.log"):
                try:
                    kept = self._kept / f"{log.stem}-{log.stat().st_ino}"
                    if not kept.exists():
                        os.link(log, kept)
                except FileNotFoundError:
                    continue
            time.sleep(0.02)

    def wait(self, seconds: float = 400) -> int:
        """The exit status of the workflow that was started."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL Snakemake and the shell around it; jobs in Slurm know nothing of it."""
        assert self._process is not None
        subprocess.run(["pkill", "-KILL", "--session", str(self._process.pid)], check=True)
        assert self._process.wait(20) == -signal.SIGKILL

    def terminal(self) -> str:
        """All that was printed."""
        return (self.folder / "terminal.log").read_text()

    def until(self, condition: Callable[[], object], what: str, seconds: float = 240) -> None:
        """Wait for something that must come while the workflow runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = self._process is None or self._process.poll() is not None
            assert not ended and time.monotonic() < deadline, f"never: {what}\n{self.terminal()[-4000:]}"
            time.sleep(0.05)

    def results(self, name: str) -> Path:
        return self.folder / "results" / name

    def journal(self, batch: int) -> Path:
        return self.results(f"labels/initial/{batch}.journal.jsonl")

    def records(self, *batches: int) -> list[dict]:
        """Lines of the journals of some batches, or of all."""
        paths = [self.journal(batch) for batch in batches] or sorted(self.results("labels").rglob("*.journal.jsonl"))
        return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]

    def log(self, *batches: int) -> str:
        """What the jobs of some batches, or of all, wrote in all their attempts."""
        patterns = [f"{batch}-*" for batch in batches] or ["*"]
        return "".join(path.read_text() for pattern in patterns for path in sorted(self._kept.glob(pattern)))

    def calls(self, *batches: int) -> int:
        """DFT calls that were begun, by the logs of the jobs."""
        return len(re.findall(r": started$", self.log(*batches), re.MULTILINE))

    def children(self, batch: int) -> list[int]:
        """Process ids of the Psi4 processes that work for a batch."""
        owner = self.journal(batch).with_name(f".{self.journal(batch).name}.owner")
        pid = owner.read_text().split()[1]
        found = subprocess.run(["pgrep", "-P", pid, "-f", "psi4_worker"], capture_output=True, text=True, check=True)
        return [int(child) for child in found.stdout.split()]

    def jobs(self, rule: str = "") -> list[Job]:
        """Jobs of this study by Slurm's own records."""
        shown = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True)
        found = []
        for line in shown.stdout.splitlines():
            fields = dict(re.findall(r"(\w+)=(\S*)", line))
            name = re.match(r"rule_(\w+?)(_wildcards_\S*)?$", fields.get("Comment", ""))
            if fields.get("WorkDir") != str(self.folder) or name is None or not name[1].startswith(rule):
                continue
            batch = re.search(r"(\d+)$", name[2] or "") if name[1] == "label_batch" else None
            found.append(
                Job(
                    id=int(fields["JobId"]),
                    rule=name[1],
                    batch=None if batch is None else int(batch[1]),
                    state=fields["JobState"],
                    partition=fields["Partition"],
                    start=_time(fields["StartTime"]),
                    end=_time(fields["EndTime"]),
                    asked=fields.get("TresPerJob", ""),
                    restarts=int(fields["Restarts"]),
                )
            )
        return found

    def batch_job(self, batch: int) -> int:
        """Id of the Slurm job that works on a batch."""
        owner = self.journal(batch).with_name(f".{self.journal(batch).name}.owner")
        return int(owner.read_text().split()[-1])


def _time(text: str) -> datetime | None:
    return None if text == "Unknown" else datetime.fromisoformat(text)


def difference(one: Path, other: Path) -> float:
    """Largest difference of energies (hartree) and forces (hartree/angstrom); infinite where anything else differs."""
    a, b = read(one), read(other)
    if a.id != b.id or not np.array_equal(a.values["status"], b.values["status"]):
        return np.inf
    pairs = [(a.values["energy"], b.values["energy"]), (a.atoms["force"], b.atoms["force"])]
    if any(not np.array_equal(np.isnan(x), np.isnan(y)) for x, y in pairs):
        return np.inf
    return max(float(np.abs(np.nan_to_num(x) - np.nan_to_num(y)).max()) for x, y in pairs)
