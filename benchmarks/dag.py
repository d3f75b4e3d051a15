"""A study of 500,000 labels in 10,000 batches, without DFT: how long planning, picking a batch and merging take.

Builds conformations with positions and forces that mean nothing in a temporary folder (about 4 GB, removed at the
end), then measures, each in a new process:

- `snakemake -n` of the study: with nothing there; when the data are prepared and the time of every batch is
  predicted from its molecules; and when all label batches are finished;
- what a label job reads and picks before Psi4 starts;
- merging the batches;
- a training on the merged labels up to its first update, and what the job asks for (`golf.study.job_sizes`).

    python benchmarks/dag.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import yaml
from machine import facts

from golf.core.conformations import ConformationSet, Status
from golf.core.ending import end_on_signals
from golf.core.hdf5 import write
from golf.core.level import LevelOfTheory
from golf.oracles.costs import Basis
from golf.study.config import read_config
from golf.study.job_sizes import memory_mb

REPOSITORY = Path(__file__).resolve().parent.parent
LEVEL = LevelOfTheory("psi4", "wb97x-d", "def2-svp")
BASIS = Basis({1: 5, 6: 14})  # functions of def2-SVP
CONFORMERS = 50  # of each molecule
TEST = 1000  # test conformations


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    seconds: float
    cpu: float  # user and system seconds
    peak_mb: float


def conformations(n: int, n_atoms: int, prefix: str = "molecule") -> ConformationSet:
    """n conformations of n_atoms carbon and hydrogen atoms each, as prepare_dataset would write them."""
    random = np.random.default_rng(1)
    molecules = [f"{prefix}{i // CONFORMERS:06d}" for i in range(n)]
    number = np.where(np.arange(n_atoms) < n_atoms // 2, 6, 1).astype(np.uint8)
    smiles = ".".join(f"[{'C' if z == 6 else 'H'}:{i}]" for i, z in enumerate(number, start=1))
    return ConformationSet(
        id=[f"{name}/{i % CONFORMERS:04d}" for i, name in enumerate(molecules)],
        molecule=molecules,
        mapped_smiles=[smiles] * n,
        charge=np.zeros(n, np.int8),
        multiplicity=np.ones(n, np.uint8),
        offset=np.arange(n + 1, dtype=np.int64) * n_atoms,
        number=np.tile(number, n),
        position=random.normal(size=(n * n_atoms, 3)),
    )


def labelled(part: ConformationSet, seed: int) -> ConformationSet:
    random = np.random.default_rng(seed)
    n = len(part)
    values = {
        "energy": random.normal(-100.0, 1.0, n),
        "status": np.full(n, Status.OK),
        "message": [""] * n,
        "wall_seconds": random.uniform(50.0, 200.0, n),
        "scf_iterations": np.full(n, 12),
        "recovery": [""] * n,
    }
    force = random.normal(scale=0.01, size=part.position.shape)
    return part.with_columns(atoms={"force": force}, values=values, program_version="1.9", **LEVEL.attrs())


def cost(command: list[str], folder: Path) -> Cost:
    """Run a command to its end. Raises SystemExit with its last words where it fails."""
    started = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with open(folder / "output.txt", "w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)[:200]} failed:\n{output.read()[-2000:]}")
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return Cost(time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / scale)


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


PICK = """
import sys
from golf.oracles.costs import read_basis
from golf.oracles.labeling import read_batch
part = read_batch(sys.argv[1], 1, int(sys.argv[2]), read_basis(sys.argv[3]))
assert len(part) > 0
"""
MERGE = """
import sys
from pathlib import Path
from golf.oracles.merging import merge_labels
batches = [Path(sys.argv[2], f"{i}.h5") for i in range(int(sys.argv[3]))]
merge_labels(sys.argv[1], batches, sys.argv[4], max_force_norm=1.0)
"""


TRAIN = """
import json
import sys
from pathlib import Path
from golf.study.config import architecture, read_config
from golf.nnp.potential import Architecture
from golf.training.recipe import Machine, Outputs, TrainingOptions
from golf.study.trainings import train_baseline
labels, configuration = sys.argv[1:]
config = read_config(configuration)
options = config["training"] | {"updates": 1, "validation_fraction": 1e-4}
Path("energies.json").write_text(json.dumps({"C": -38.0, "H": -0.5}))
for path in ("model.checkpoint.pt", "model.pt"):
    Path(path).unlink(missing_ok=True)
train_baseline(
    labels,
    "energies.json",
    Outputs("model.pt", "metrics.csv"),
    architecture=Architecture(**architecture(config)),
    options=TrainingOptions(**options),
    config_sha256="0" * 64,
    seed=1,
    machine=Machine(config["resources"]["train_threads"], "cpu"),
)
"""


def build(folder: Path, n: int, n_batches: int, n_atoms: int) -> None:
    """The study's input, its configuration, and the files of its label batches."""
    everything = conformations(n, n_atoms)
    write(folder / "input.h5", everything)
    write(folder / "test.h5", conformations(TEST, n_atoms, "test"))
    config = {
        "dataset": {"train": "input.h5", "test": "test.h5"},
        "oracle": {"batch_size": -(-n // n_batches)},
        "golf": {"rounds": 100},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "batches").mkdir()
    for k in range(n_batches):
        write(folder / f"batches/{k}.h5", labelled(everything.subset(range(k, n, n_batches)), k))


def prepare(folder: Path) -> None:
    """What check_oracle and prepare_dataset leave behind."""
    dataset = folder / "results" / "dataset"
    dataset.mkdir(parents=True)
    (dataset / "train.h5").hardlink_to(folder / "input.h5")
    (dataset / "test.h5").hardlink_to(folder / "test.h5")
    write(dataset / "reference.h5", ConformationSet.build([]))
    (dataset / "left_out.csv").touch()
    (dataset / "oracle.json").write_text(json.dumps(LEVEL.attrs() | BASIS.to_json()), encoding="utf-8")
    config = read_config(folder / "config.yaml")
    (folder / "results" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


class Table:
    """Measures commands in a folder and prints a row for each."""

    def __init__(self, folder: Path, repeat: int) -> None:
        self._folder, self._repeat = folder, repeat
        print(f"{'':<44}{'wall s':>9}{'CPU s':>9}{'peak MB':>10}")

    def row(self, name: str, command: list[str]) -> None:
        costs = [cost(command, self._folder) for _ in range(self._repeat)]
        seconds, cpu = (statistics.median(getattr(one, part) for one in costs) for part in ("seconds", "cpu"))
        print(f"{name:<44}{seconds:>9.1f}{cpu:>9.1f}{max(one.peak_mb for one in costs):>10.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=500_000, help="default: %(default)s")
    parser.add_argument("--batches", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--atoms", type=int, default=40, help="of each conformation (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs; medians are shown (default: %(default)s)")
    options = parser.parse_args()
    end_on_signals()  # removes the temporary folder
    print(facts("snakemake", "h5py", "numpy"))
    plan = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "-n"]
    plan += ["--configfile", "config.yaml"]
    with tempfile.TemporaryDirectory(prefix="golf-benchmark-") as name:
        folder, started = Path(name), time.monotonic()
        # In a process of its own: the peak memory of a child is at least that of the parent that forked it.
        builder = get_context("spawn").Process(
            target=build, args=(folder, options.labels, options.batches, options.atoms)
        )
        builder.start()
        builder.join()
        if builder.exitcode:
            raise SystemExit("the study's files could not be written, see above")
        sizes = f"{options.labels} labels of {options.atoms} atoms in {options.batches} batches"
        print(f"{sizes}, built in {time.monotonic() - started:.0f} s\n")
        table = Table(folder, options.repeat)
        table.row("snakemake -n, nothing there", plan)
        prepare(folder)
        table.row("snakemake -n, data prepared", plan)
        table.row(
            "a label job's conformations", python(PICK, "input.h5", options.batches, "results/dataset/oracle.json")
        )
        table.row("merge", python(MERGE, "input.h5", "batches", options.batches, "merged.h5"))
        table.row("a training up to its first update", python(TRAIN, "merged.h5", "config.yaml"))
        print(f"{'    (the job asks for)':<44}{'':<18}{memory_mb(str(folder / 'merged.h5')):>10}")
        (folder / "results/labels").mkdir()
        (folder / "batches").rename(folder / "results/labels/initial")
        table.row("snakemake -n, all label batches there", plan)


if __name__ == "__main__":
    main()
