"""Start Snakemake on a study, here or on a cluster, and clear up first after a run that was cut off.

`golf run` and `make run` call it; it is also what to run after a crash. A Snakemake that was killed leaves its lock,
and in Slurm its jobs: if the mark of a run that never ended is still there, and no other run works on the same results,
the lock is removed and pending jobs are cancelled. Running jobs are left to finish their labels; their successors wait
for them (golf/core/locks.py). Other studies started from the same folder, each with its own results folder, may run
meanwhile.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from golf.core.errors import UserError
from golf.core.packages import missing_schnetpack
from golf.core.processors import usable_processors
from golf.study.arms import needs_training
from golf.study.config import validated
from golf.study.recovery import MARKS, STATE, Study, configuration_of, study_of, unlock

PATIENCE = 10.0
"""Seconds that a run which was just killed may take to end."""

AS_CONDA = ("--sdm", "--software-deployment-method", "--use-conda")
DRY = ("-n", "--dry-run", "--dryrun")


def run(arguments: Sequence[str]) -> int:
    """Run Snakemake on this workflow with these arguments; return its exit status, 128 + N after signal N.

    Raises:
        UserError: the configuration cannot be read, SchNetPack is missing, or a profile has to be edited first.
    """
    study = study_of(arguments)
    _check_schnetpack(arguments)
    options = [*_snakefile(arguments), "--slurm-jobname-prefix", f"golf-{study.name}", *_options(arguments)]
    environment = _environment()
    MARKS.mkdir(parents=True, exist_ok=True)
    mark = MARKS / f"{study.name}.at-work"
    with open(MARKS / f"{study.name}.lock", "a", encoding="utf-8") as lock:
        if not _locked(lock.fileno()):
            _say(f"another run is using {study.results}; wait until it is done, or stop it")
            return 1
        if mark.exists():
            _recover(study, mark)
        mark.write_text(f"{study.results}\n{' '.join(arguments)}\n", encoding="utf-8")
        # The lock is held until Snakemake has ended, also if this process is killed
        snakemake = [sys.executable, "-m", "snakemake", *options]
        with _left_to_snakemake() as processes:
            processes.append(subprocess.Popen(snakemake, env=environment, pass_fds=[lock.fileno()]))
            status = processes[0].wait()
        if status < 0:  # ended by a signal, it could not clear up after itself: the next run does
            return 128 - status
        mark.unlink(missing_ok=True)
        return status


def workflow_folder() -> Path:
    """Find the folder of the Snakefile: in the installed package, or the clone that the package is in.

    Raises:
        UserError: golf was installed without its workflow.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "workflow", package.parent):
        if (folder / "Snakefile").is_file():
            return folder
    raise UserError(f"{package}: has no workflow; install golf from a wheel or a clone")


def _snakefile(arguments: Sequence[str]) -> list[str]:
    given = _has(arguments, "--snakefile", "-s")
    return [] if given else ["--snakefile", str(workflow_folder() / "Snakefile")]


def _has(arguments: Sequence[str], *names: str) -> bool:
    """Whether an option is given, as `--name VALUE` or `--name=VALUE`."""
    return any(argument.partition("=")[0] in names for argument in arguments)


def _check_schnetpack(arguments: Sequence[str]) -> None:
    """Raise a UserError now, not after the labels are paid for, if the networks cannot be trained."""
    if importlib.util.find_spec("schnetpack") or _has(arguments, *AS_CONDA, *DRY):
        return
    files, raw = configuration_of(arguments)
    if needs_training(validated(raw, " ".join(files), files)):
        raise missing_schnetpack("training the networks of a study")


def _options(arguments: Sequence[str]) -> list[str]:
    """Add the number of cores, unless a profile says where jobs run."""
    if _has(arguments, "--profile"):
        _check_profile(arguments)
        return list(arguments)
    unused = os.environ.get("SNAKEMAKE_PROFILE")
    if unused:
        _say(f"SNAKEMAKE_PROFILE={unused} is ignored; add --profile '{unused}' (make run PROFILE='{unused}') uses it")
    if _has(arguments, "--cores", "-c", "--jobs", "-j"):
        return list(arguments)
    return ["--cores", str(usable_processors()), *arguments]


def _check_profile(arguments: Sequence[str]) -> None:
    """Write the profile that comes with golf where there is none of its name: it has lines to edit."""
    at = next(i for i, argument in enumerate(arguments) if argument.partition("=")[0] == "--profile")
    name = arguments[at].partition("=")[2] or "".join(arguments[at + 1 : at + 2])
    users = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "snakemake" / name
    packaged = workflow_folder() / name / "config.yaml"
    if not name or Path(name).exists() or users.exists() or not packaged.is_file():
        return
    Path(name).mkdir(parents=True)
    shutil.copyfile(packaged, Path(name) / "config.yaml")
    raise UserError(f"{name}/config.yaml: written; edit the lines marked EDIT, then run the same command again")


def _environment() -> dict[str, str]:
    """Return the variables of Snakemake: this Python's programs first, no profile, a cache that can be written to."""
    environment = dict(os.environ)
    environment.pop("SNAKEMAKE_PROFILE", None)
    programs = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join(filter(None, [programs, environment.get("PATH", "")]))
    # Snakemake, matplotlib and the compiled loops keep files in the user's cache
    cache = Path(environment.get("XDG_CACHE_HOME") or f"{environment.get('HOME', '/nonexistent')}/.cache")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        writable = os.access(cache, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        own = STATE.absolute() / "cache"
        _say(f"{cache} is not writable; using {own}")
        own.mkdir(parents=True, exist_ok=True)
        environment["XDG_CACHE_HOME"] = str(own)
        environment.setdefault("MPLCONFIGDIR", str(own / "matplotlib"))
    return environment


def _locked(descriptor: int) -> bool:
    """Whether the lock of the study could be taken."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)


@contextmanager
def _left_to_snakemake() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Wait for Snakemake, which ends its jobs on a signal, instead of ending before it.

    Ctrl-C reaches it by itself, being in the same terminal; SIGTERM is passed on.
    """
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if number != signal.SIGINT:
                process.send_signal(number)

    wakeup = signal.set_wakeup_fd(-1)
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)


def _recover(study: Study, mark: Path) -> None:
    _say("the last run was interrupted")
    if "--profile" in mark.read_text(encoding="utf-8").partition("\n")[2]:
        _recover_jobs(study)
    unlock(study)


def _recover_jobs(study: Study) -> None:
    """Cancel the pending Slurm jobs of a study, and name those that run."""
    running = []
    try:
        jobs = list(_jobs(study))
    except (OSError, subprocess.CalledProcessError):
        _say(f"Slurm does not answer; cancel the pending jobs called golf-{study.name}_... yourself")
        return
    for number, state, text in jobs:
        if state == "PENDING":
            if _call("scancel", "--state=PENDING", number) != 0:
                _say(f"job {number} could not be cancelled; cancel it yourself")
        else:
            # The successor of this job is this run, not Slurm's second try
            _call("scontrol", "update", f"JobId={number}", "Requeue=0", stderr=subprocess.DEVNULL)
            running.append(f"\n{number} {text}")
    if running:
        _say(f"these jobs of it are still running; new jobs with the same work will wait for them:{''.join(running)}")


def _jobs(study: Study) -> Iterator[tuple[str, str, str]]:
    """Jobs of a study in Slurm, whichever run they are of: id, state, and the comment that says what they do."""
    user = subprocess.run(["id", "-un"], capture_output=True, encoding="utf-8", check=True).stdout.strip()
    states = "--states=PENDING,RUNNING,COMPLETING"
    command = ["squeue", "--noheader", f"--user={user}", states, "--format=%i %T %j %k"]
    for line in subprocess.run(
        command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace", check=True
    ).stdout.splitlines():
        number, state, name, *text = line.split(maxsplit=3)
        if name.startswith(f"golf-{study.name}_"):
            yield number, state, "".join(text)


def _call(*command: str, stderr: int | None = None) -> int:
    try:
        return subprocess.run(command, check=False, stderr=stderr).returncode
    except OSError:
        return 1


def _say(text: str) -> None:
    print(f"golf run: {text}", file=sys.stderr, flush=True)
