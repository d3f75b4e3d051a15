"""Labels per core-hour: the pool of this project against a new Psi4 process per label.

All variants label the same conformations at wB97X-D/def2-SVP on the same cores, in blocks that take turns, so that
whatever else the machine does hits all of them:

- pool CxT: golf.oracles.programs.pool.OraclePool, C children of T threads each, for every split of the cores;
- process per label: the pattern of the published code. Every label starts a Python, imports Psi4 and computes with as
  many threads as there are cores; the threads of the BLAS library are left as they come.

With --drug-like N the N smallest molecules of the nablaDFT sample are labelled with every split as well, without the
process per label, which takes too long there.

    python benchmarks/labeling.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
from machine import facts

from golf.core.conformations import ConformationSet, Status
from golf.core.elements import SYMBOLS
from golf.core.ending import end_on_signals
from golf.core.hdf5 import read
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.core.processors import usable_processors
from golf.core.units import BOHR_IN_ANGSTROM
from golf.oracles.programs.interpreter import Psi4Interpreter, find_psi4
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request, requests_from

REPOSITORY = Path(__file__).resolve().parent.parent
LEVEL = LevelOfTheory("psi4", "wb97x-d", "def2-svp")
SMALL = REPOSITORY / "data" / "initial.h5"
DRUG_LIKE = Path(os.environ.get("GOLF_REFERENCE_DATA", REPOSITORY.parent / "shared")) / "data/nabladft_sample.db"
BLOCK = 4
BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

ONE_LABEL = """
import json, sys, psi4
job = json.load(sys.stdin)
psi4.core.set_output_file("psi4.out", False)
psi4.set_num_threads(job["threads"])
psi4.set_memory(job["memory"])
psi4.set_options({"basis": job["basis"]})
gradient, wavefunction = psi4.gradient(job["method"], molecule=psi4.geometry(job["geometry"]), return_wfn=True)
label = {"energy": wavefunction.energy(), "gradient": gradient.to_array().tolist()}
json.dump(label, open("label.json", "w", encoding="utf-8"))
"""


@dataclass
class Variant:
    """One way to make labels, and what it took. `cpu` is user and system time of all its processes."""

    name: str
    label: Callable[[Sequence[Request]], list[Label]]
    close: Callable[[], None] = lambda: None
    start_seconds: float = 0.0
    blocks: list[float] = field(default_factory=list)  # seconds
    labels: dict[str, Label] = field(default_factory=dict)
    cpu: float = 0.0

    def run(self, requests: Sequence[Request]) -> None:
        before, started = children_cpu(), time.monotonic()
        for request, label in zip(requests, self.label(requests), strict=True):
            if label.status is not Status.OK:
                raise SystemExit(f"{self.name}: {request.id}: {label.message}")
            self.labels[request.id] = label
        self.blocks.append(time.monotonic() - started)
        self.cpu += children_cpu() - before

    def end(self) -> None:
        before = children_cpu()
        self.close()  # only now the processes of a pool are counted
        self.cpu += children_cpu() - before

    @property
    def seconds(self) -> float:
        return self.start_seconds + sum(self.blocks)


def children_cpu() -> float:
    """User and system seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pool(children: int, threads: int) -> Variant:
    started = time.monotonic()
    oracle = OraclePool(LEVEL, n_workers=children, threads=threads)

    def label(requests: Sequence[Request]) -> list[Label]:
        found = {request.id: label for request, label in oracle.stream(requests)}
        return [found[request.id] for request in requests]

    return Variant(f"pool {children}x{threads}", label, oracle.close, time.monotonic() - started)


def process_per_label(interpreter: Psi4Interpreter, threads: int, folder: str) -> Variant:
    environment = {name: value for name, value in interpreter.environment.items() if name not in BLAS_VARIABLES}

    def one(request: Request) -> Label:
        atoms = zip(request.numbers, request.positions.tolist(), strict=True)
        lines = [f"{SYMBOLS[number]} {' '.join(map(repr, position))}" for number, position in atoms]
        head, tail = f"{request.charge} {request.multiplicity}", ["units angstrom", "symmetry c1", "no_com"]
        job = {
            "threads": threads,
            "memory": "1 GB",
            "method": LEVEL.method,
            "basis": LEVEL.basis,
            "geometry": "\n".join([head, *lines, *tail, "no_reorient"]),
        }
        command = [interpreter.python, "-c", ONE_LABEL]
        scratch = {"PSI_SCRATCH": folder}
        subprocess.run(
            command, input=json.dumps(job), encoding="utf-8", cwd=folder, env=environment | scratch, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        answer = json.loads(Path(folder, "label.json").read_text(encoding="utf-8"))
        return Label(answer["energy"], -np.array(answer["gradient"]) / BOHR_IN_ANGSTROM)

    return Variant(f"process per label, {threads} threads", lambda requests: [one(request) for request in requests])


def small_conformations(n: int) -> ConformationSet:
    """The first n conformations of 3-4 heavy atoms, taken from the molecules in turn."""
    known = read(SMALL)
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(known.molecule):
        if 3 <= (known.number[known.rows(i)] > 1).sum() <= 4:
            rows.setdefault(name, []).append(i)
    in_turn = [i for some in zip_longest(*rows.values()) for i in some if i is not None]
    return known.subset(in_turn[:n]).bare()


def drug_like_conformations(n: int) -> ConformationSet | None:
    """The n smallest molecules of the nablaDFT sample; None, and a line on stdout, if it is absent."""
    from golf.io.read import read_structures

    if not DRUG_LIKE.is_file():
        print(f"{DRUG_LIKE}: not there; set GOLF_REFERENCE_DATA. Drug-like molecules are left out.")
        return None
    sample = read_structures(DRUG_LIKE)
    return sample.subset(np.argsort(sample.n_atoms, kind="stable")[:n])


def splits(cores: int) -> list[tuple[int, int]]:
    """(children, threads) that use all cores, the most children first."""
    return [(cores // threads, threads) for threads in range(1, cores + 1) if cores % threads == 0]


def measure(variants: Sequence[Variant], conformations: ConformationSet, block: int) -> None:
    """Label everything with every variant; in each block another one comes first."""
    requests = requests_from(conformations)
    try:
        for k, first in enumerate(range(0, len(requests), block)):
            shift = k % len(variants)
            for variant in [*variants[shift:], *variants[:shift]]:
                variant.run(requests[first : first + block])
                print(f"  block {k}, {variant.name}: {variant.blocks[-1]:.1f} s", file=sys.stderr, flush=True)
    finally:
        for variant in variants:
            variant.end()


def report(variants: Sequence[Variant], cores: int) -> None:
    """A table; ratios are medians over the blocks, against the last variant."""
    base = variants[-1]
    print(f"{'variant':<30}{'labels':>7}{'start s':>9}{'wall s':>8}{'CPU s':>8}{'labels/core-hour':>18}{'ratio':>7}")
    for one in variants:
        n = len(one.labels)
        rate = 3600 * n / (one.seconds * cores)
        ratio = statistics.median(theirs / ours for ours, theirs in zip(one.blocks, base.blocks, strict=True))
        numbers = f"{n:>7}{one.start_seconds:>9.1f}{one.seconds:>8.1f}{one.cpu:>8.1f}{rate:>18.0f}{ratio:>7.2f}"
        print(f"{one.name:<30}{numbers}")
    shared = [(one.labels[name], label) for one in variants for name, label in base.labels.items()]
    energy = max(abs(ours.energy - theirs.energy) for ours, theirs in shared)
    force = max(np.abs(ours.forces - theirs.forces).max() for ours, theirs in shared)
    print(f"largest difference between variants: {energy:.1e} hartree, {force:.1e} hartree/angstrom")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=16, help="small conformations (default: %(default)s)")
    parser.add_argument("--drug-like", type=int, default=0, metavar="N", help="drug-like molecules (default: none)")
    parser.add_argument("--cores", type=int, default=usable_processors(), help="default: all, %(default)s")
    options = parser.parse_args()
    end_on_signals()  # removes the temporary folder
    with tempfile.TemporaryDirectory(prefix="golf-benchmark-") as folder:
        interpreter = find_psi4()
        print(facts("numpy", "h5py"), f"Psi4 {interpreter.version()}", sep=", ")
        if options.n:
            variants = [pool(*split) for split in splits(options.cores)]
            variants.append(process_per_label(interpreter, options.cores, folder))
            print(f"\n{options.n} conformations of 3-4 heavy atoms, {LEVEL}")
            measure(variants, small_conformations(options.n), BLOCK)
            report(variants, options.cores)
        drug_like = drug_like_conformations(options.drug_like) if options.drug_like else None
        if drug_like is not None:
            variants = [pool(*split) for split in splits(options.cores)]
            print(f"\n{len(drug_like)} molecules of {drug_like.n_atoms.min()}-{drug_like.n_atoms.max()} atoms, {LEVEL}")
            measure(variants, drug_like, options.cores)
            report(variants, options.cores)


if __name__ == "__main__":
    main()
