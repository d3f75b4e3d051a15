"""Relaxations by potentials by name: time of an evaluation, and how busy the cores are.

The molecules are the first of the nablaDFT sample (GOLF_REFERENCE_DATA). Potentials that are not on this machine are
left out (`golf models download`). Processor time includes that of child processes.

    python benchmarks/potentials.py
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import psutil
from machine import facts

from golf.core.errors import UserError
from golf.core.processors import usable_processors
from golf.core.units import hartree
from golf.io.nabladft import read_nabladft
from golf.potentials.load import load_potential
from golf.relaxation.relax import relax

DATA = Path(os.environ.get("GOLF_REFERENCE_DATA", Path(__file__).resolve().parents[2] / "shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="L-BFGS steps of each molecule (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=usable_processors())
    parser.add_argument("names", nargs="*", default=["golf-10k", "aimnet2", "gfn2", "gfn1", "so3lr", "mmff"])
    options = parser.parse_args()
    print(facts("torch", "tblite"))
    molecules = read_nabladft(DATA / "data" / "nabladft_sample.db").bare().subset(range(options.molecules))
    print(f"{len(molecules)} molecules of {molecules.n_atoms.mean():.1f} atoms, {options.cores} cores\n")
    print(f"{'potential':<12}{'start s':>9}{'ms/evaluation':>15}{'CPU ms':>9}{'cores busy %':>14}")
    for name in options.names:
        begun = time.perf_counter()
        try:
            potential = load_potential(name, cores=options.cores)
        except UserError as error:
            print(f"{name:<12} {error}")
            continue
        with potential:
            relax(molecules.subset([0]), potential, force_threshold=hartree(0.1), max_steps=1, slots=1, advance=nothing)
            start, wall, cpu = time.perf_counter() - begun, time.perf_counter(), processor_seconds()
            ends = relax(
                molecules,
                potential,
                force_threshold=1e-9,
                max_steps=options.steps,
                slots=len(molecules),
                advance=nothing,
            )
            wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
        n = int(ends.values["n_force_evaluations"].sum())
        busy = 100 * cpu / wall / options.cores
        print(f"{name:<12}{start:>9.1f}{1e3 * wall / n:>15.2f}{1e3 * cpu / n:>9.2f}{busy:>14.0f}")


def nothing() -> None:
    """Draw no progress bar."""


def processor_seconds() -> float:
    """Return the processor time of this process and of the child processes that it has now."""
    children = psutil.Process().children(recursive=True)
    return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in children)


if __name__ == "__main__":
    main()
