"""Every fault that docs/hpc.md speaks of, brought about on a real Slurm, and the table of what each one costs.

    sudo tests/support/slurm/start.sh && PYTHONPATH=tests .venv/bin/python -m support.slurm.faults

prints the table; tests/workflow/test_slurm.py runs the same and looks at each row.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.slurm.studies import LABELS, Study, difference

PROCESSES = 2  # per label job
METHANOL = {"method": "hf", "basis": "sto-3g", "batch_size": 8, "time_limit": 600}


@dataclass(frozen=True)
class Row:
    """One fault and what came of it."""

    fault: str
    done: str
    outcome: str
    jobs: int  # Slurm jobs that the batches concerned took
    labels: int  # that were to be computed
    lost: int  # DFT calls that were begun and gave nothing
    repeated: int  # DFT calls beyond one for each label
    difference: float  # largest from the labels of an undisturbed run

    COLUMNS = ("fault", "what was done", "what came of it", "jobs", "labels", "lost calls", "repeated", "labels differ")

    def cells(self) -> list[str]:
        differ = "no" if self.difference == 0.0 else f"{self.difference:.0e}"
        numbers = (self.jobs, self.labels, self.lost, self.repeated)
        return [self.fault, self.done, self.outcome, *map(str, numbers), differ]


class Faults:
    """The undisturbed study, and copies of it from before the first label that come to harm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prepared = self._prepare("prepared", METHANOL)
        self.undisturbed = self._undisturbed("undisturbed", self.prepared)

    def _prepare(
        self, name: str, oracle: dict, conformers: int = 24, target: str = "results/dataset/train.h5"
    ) -> Study:
        """A study of some conformations of methanol whose dataset is there."""
        molecules = self.folder / "molecules.smi"
        molecules.write_text("CO methanol\n")
        dataset = {"train": str(molecules), "conformers": conformers, "prune_rmsd": 0.0, "test_conformers": 1}
        study = Study(
            self.folder / name,
            {"dataset": dataset, "oracle": oracle, "resources": {"label_processes": PROCESSES}},
        )
        self._locally(study, target)
        return study

    def _undisturbed(self, name: str, prepared: Study, *options: str) -> Path:
        study = prepared.copy(self.folder / name)
        self._locally(study, LABELS, *options)
        return study.folder / LABELS

    def _locally(self, study: Study, target: str, *options: str) -> None:
        command = [study.folder / "setup/run.sh", "--cores", "2", "--quiet", "all", *options, "--", target]
        subprocess.run(command, check=True)

    def study(self, name: str) -> Study:
        return self.prepared.copy(self.folder / name)

    def row(
        self, study: Study, fault: str, done: str, outcome: str, *batches: int, undisturbed: Path | None = None
    ) -> Row:
        """The row of a fault that hit some batches, or all."""
        n_labels = len({record["key"] for record in study.records(*batches)})
        answered = [record for record in study.records(*batches) if record["status"] in ("ok", "not_converged")]
        calls = study.calls(*batches)
        jobs = [job for job in study.jobs("label_batch") if not batches or job.batch in batches]
        found = difference(study.folder / LABELS, undisturbed or self.undisturbed)
        return Row(fault, done, outcome, len(jobs), n_labels, calls - len(answered), calls - n_labels, found)

    def _strike(self, study: Study, strikes: Mapping[int, Callable[[], object]]) -> None:
        """Do something to each batch as soon as it has two labels."""
        left = dict(strikes)

        def ready() -> int | None:
            return next((batch for batch in left if len(study.records(batch)) >= 2), None)

        while left:
            study.until(lambda: ready() is not None, f"two labels in one of the batches {list(left)}")
            left.pop(ready())()

    # ---- children ----------------------------------------------------------------------------------------------------

    def children(self) -> list[Row]:
        """One child killed, one stopped, one out of memory, each in a batch of its own."""
        study = self.prepared.copy(self.folder / "children", time_limit=30)
        strikes: dict[int, Callable[[], object]] = {
            0: lambda: os.kill(study.children(0)[0], signal.SIGKILL),
            1: lambda: os.kill(study.children(1)[0], signal.SIGSTOP),
            2: lambda: subprocess.run(["prlimit", f"--pid={study.children(2)[0]}", "--as=1"], check=True),
        }
        study.start()
        self._strike(study, strikes)
        assert study.wait() == 0, study.terminal()[-4000:]
        said = [{r["message"] for r in study.records(b) if r["status"] == "crashed"} for b in strikes]
        assert [len(messages) for messages in said] == [1, 1, 1], said
        killed, hung, starved = (message for (message,) in said)
        return [
            self.row(study, "lost child", "SIGKILL of a Psi4 process", f"replaced: {killed}", 0),
            self.row(study, "hung child", "SIGSTOP of a Psi4 process, time_limit 30 s", f"replaced: {hung}", 1),
            self.row(study, "child out of memory", "address space of a Psi4 process cut", f"replaced: {starved}", 2),
        ]

    # ---- batches -----------------------------------------------------------------------------------------------------

    def batches(self) -> list[Row]:
        """One batch comes to its time limit, because a child of it does nothing, and one is cancelled."""
        study = self.study("batches")
        study.start("--set-resources", 'label_batch:runtime=attempt if wildcards.batch == "0" else 30')
        cancelled = []

        def stop() -> None:
            for child in study.children(0):
                os.kill(child, signal.SIGSTOP)

        def cancel() -> None:
            cancelled.append(study.batch_job(1))
            subprocess.run(["scancel", str(cancelled[0])], check=True)

        self._strike(study, {0: stop, 1: cancel})
        assert study.wait() == 0, study.terminal()[-4000:]
        states = {job.id: job.state for job in study.jobs("label_batch")}
        assert states[cancelled[0]] == "CANCELLED", states
        log = study.log(0)
        (limit,) = [line for line in log.splitlines() if "time limit:" in line]
        said = limit.partition("time limit: ")[2]
        return [
            self.row(study, "batch past its limit", "limit of 1 minute, both its processes stopped", said, 0),
            self.row(study, "batch cancelled", "scancel of a running job", "the retry did the rest", 1),
        ]

    def node(self) -> list[Row]:
        """The node goes down while label jobs run, and comes back."""
        study = self.study("node")
        study.start()
        study.until(lambda: len(study.records()) >= 3, "three labels")
        node = subprocess.run(["sinfo", "-h", "-o", "%n"], capture_output=True, text=True, check=True).stdout.split()[0]
        change = ["scontrol", "update", f"NodeName={node}"]
        subprocess.run([*change, "State=DOWN", "Reason=test"], check=True)
        jobs = self._put_back(study)
        for job in jobs:  # Slurm cannot reach them, and they would go on
            kill_processes(job)
        subprocess.run([*change, "State=RESUME"], check=True)
        self._start_now(jobs)
        assert study.wait() == 0, study.terminal()[-4000:]
        return [self.row(study, "node down", "scontrol State=DOWN, then RESUME", "started again by Slurm")]

    def preemption(self) -> list[Row]:
        """Jobs of a partition that goes first take the processors of all label jobs."""
        study = self.study("preemption")
        study.start()
        study.until(lambda: len(study.records()) >= 3, "three labels")
        urgent = ["sbatch", "--partition=urgent", "--cpus-per-task=8", "--output=/dev/null", "--wrap=sleep 5"]
        subprocess.run(urgent, check=True, cwd=self.folder, capture_output=True)
        self._start_now(self._put_back(study))
        assert study.wait() == 0, study.terminal()[-4000:]
        return [self.row(study, "batches preempted", "a job of a partition that goes first", "started again by Slurm")]

    def _put_back(self, study: Study) -> list[int]:
        """Wait until Slurm has put all label jobs that were running back into the queue; their ids."""

        def waiting() -> list[int]:
            left = [job for job in study.jobs("label_batch") if job.state != "COMPLETED"]
            return [job.id for job in left] if all(job.restarts and job.state == "PENDING" for job in left) else []

        study.until(waiting, "all jobs put back into the queue")
        return waiting()

    def _start_now(self, jobs: list[int]) -> None:
        """Spare the two minutes that Slurm lets pass before it starts a job again."""
        for job in jobs:
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)

    # ---- the whole run -----------------------------------------------------------------------------------------------

    def snakemake(self) -> list[Row]:
        """Snakemake is killed with jobs running and pending, and started again by the one command."""
        study = self.study("snakemake")
        cpus = ("--set-threads", "label_batch=4")  # of 8: two batches run, one is pending
        study.start(*cpus)
        study.until(lambda: len(study.records()) >= 2, "two labels")
        running = {job.id: job.batch for job in study.jobs("label_batch") if job.state == "RUNNING"}
        pending = {job.id for job in study.jobs("label_batch") if job.state == "PENDING"}
        assert running and pending, study.jobs()
        slow = next(iter(running.values()))  # this one is to be at work still when its successor comes
        children = study.children(slow)
        for child in children:
            os.kill(child, signal.SIGSTOP)
        study.kill()
        study.start(*cpus)
        study.until(lambda: "in use by process" in study.log(slow), f"a successor that waits for batch {slow}")
        for child in children:
            os.kill(child, signal.SIGCONT)
        assert study.wait() == 0, study.terminal()[-4000:]
        states = {job.id: job.state for job in study.jobs("label_batch")}
        assert {states[job] for job in pending} == {"CANCELLED"}, states
        assert {states[job] for job in running} == {"COMPLETED"}, states
        outcome = "same command again: pending jobs cancelled, a running one waited for, its labels taken over"
        return [self.row(study, "Snakemake killed", "kill -9 with label jobs running and pending", outcome)]

    def disk(self) -> list[Row]:
        """The file system of the labels is full; there is room again when the same command is typed a second time."""
        study = self.study("disk")
        folder = study.results("labels/initial")
        folder.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o"]
        subprocess.run([*mount, "size=24k", "none", folder], check=True)
        try:
            study.start("--retries", "0")
            assert study.wait() != 0
            said = [line for line in study.log().splitlines() if " ERROR " in line]
            assert said and all("No space left on device" in line and "free space" in line for line in said), said
            before = study.records()
            subprocess.run([*mount, "remount,size=8m", "none", folder], check=True)
            study.start("--retries", "0")
            assert study.wait() == 0, study.terminal()[-4000:]
            assert {record["key"] for record in before} <= {record["key"] for record in study.records()}
            outcome = f"one line that names the file; {len(before)} labels kept; the same command again did the rest"
            return [self.row(study, "disk full", "labels on a file system of 24 kB", outcome)]
        finally:
            subprocess.run(["umount", folder], check=True)

    # ---- conformations -----------------------------------------------------------------------------------------------

    def scf(self) -> list[Row]:
        """A level at which nothing converges, in jobs that get less memory at first than their processes take."""
        checked = self._prepare("scf-checked", METHANOL, conformers=3, target="results/dataset/oracle.json")
        prepared = checked.copy(self.folder / "scf-prepared", keywords={"d_convergence": 1e-30})
        keep_check = ("--rerun-triggers", "mtime")  # at this level the check refuses to begin
        undisturbed = self._undisturbed("scf-undisturbed", prepared, *keep_check)
        study = prepared.copy(self.folder / "scf")
        study.start(*keep_check, "--set-resources", "label_batch:mem_mb=attempt**3*320")
        assert study.wait() == 0, study.terminal()[-4000:]
        first, *_, last = sorted(study.jobs("label_batch"), key=lambda job: job.id)
        assert (first.state, last.state) == ("FAILED", "COMPLETED") and "exceeded memory limit" in study.terminal()
        (said,) = {record["message"] for record in study.records()}
        assert {record["status"] for record in study.records()} == {"not_converged"}
        assert all(attempt in said for attempt in ("default", "damped", "second_order", "level_shift")), said
        outcome = "status not_converged, with what each of four attempts said"
        killed = "killed by Slurm; the retry got more"
        return [
            self.row(study, "batch out of memory", "320 MB for the first attempt", killed, undisturbed=undisturbed),
            self.row(study, "no SCF converges", "criterion of 1e-30 (same jobs)", outcome, undisturbed=undisturbed),
        ]

    ALL = ("children+batches", "node", "preemption", "snakemake", "disk+scf")
    """Those with a plus run at the same time: most of it is waiting."""

    def run(self, names: str) -> list[Row]:
        """Bring about some of them at once."""
        with ThreadPoolExecutor() as threads:
            return [row for rows in threads.map(lambda name: getattr(self, name)(), names.split("+")) for row in rows]


def kill_processes(job: int) -> None:
    """End all processes of a Slurm job, as the node does that they run on when it fails."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"SLURM_JOB_ID={job}".encode() in (path / "environ").read_bytes().split(b"\0")
            if ours or (path / "cmdline").read_text().startswith(f"slurmstepd: [{job}."):
                os.kill(int(path.name), signal.SIGKILL)
        except OSError:  # ended meanwhile, or not ours to look at
            continue


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [Row.COLUMNS, ["---"] * len(Row.COLUMNS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    """Bring about all faults, or those named, and print the table."""
    folder = Path(tempfile.mkdtemp(prefix="golf-faults-"))
    rows: list[Row] = []
    faults = Faults(folder)
    for name in sys.argv[1:] or Faults.ALL:
        started = time.monotonic()
        rows += faults.run(name)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(table(rows))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
