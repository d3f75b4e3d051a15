"""Seconds of the Hessian of drug-like molecules of about 42 atoms by `Potential.hessian`, with the weights of GOLF-1k.

python benchmarks/hessian.py
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from machine import facts

from golf.core.processors import usable_processors
from golf.io.nabladft import read_nabladft
from golf.nnp.published import import_checkpoint

DATA = Path(os.environ.get("GOLF_REFERENCE_DATA", Path(__file__).resolve().parents[2] / "shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=usable_processors(), help="default: all, %(default)s")
    parser.add_argument("--molecules", type=int, default=8, help="nearest to 42 atoms (default: %(default)s)")
    options = parser.parse_args()
    if not (DATA / "checkpoints").is_dir():
        raise SystemExit(f"{DATA}: no published data and checkpoints there; set GOLF_REFERENCE_DATA")
    print(facts("torch", "schnetpack"))
    potential = import_checkpoint(DATA / "checkpoints" / "GOLF-1k")
    sample = read_nabladft(DATA / "data" / "nabladft_sample.db")
    print(f"{options.threads} threads\n\n{'atoms':>6}{'wall s':>8}{'CPU s':>8}")
    walls, cpus = [], []
    for i in np.argsort(abs(sample.n_atoms - 42), kind="stable")[: options.molecules]:
        numbers = torch.from_numpy(sample.number[sample.rows(i)].astype(np.int64))
        positions = torch.from_numpy(sample.position[sample.rows(i)])
        wall, cpu = time.perf_counter(), time.process_time()
        potential.hessian(numbers, positions, threads=options.threads)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{len(numbers):>6}{wall:>8.2f}{cpu:>8.2f}", flush=True)
        walls.append(wall)
        cpus.append(cpu)
    print(f"\nmedian: {np.median(walls):.2f} s, {np.median(cpus):.2f} s of CPU time")
    print("target: 1 s on 2 idle cores, that is 2 s of CPU time; on busy ones only the latter tells")


if __name__ == "__main__":
    main()
