"""Relaxation of drug-like molecules: milliseconds of a molecule and force evaluation, and how many evaluations.

The molecules are those of the nablaDFT sample, the weights those of GOLF-1k (GOLF_REFERENCE_DATA). Engines take turns:

- golf: `golf.relaxation.relax` with pieces of batches on threads; L-BFGS and the surrogate's energy after every fifth
  iteration are in the figure, as in a GOLF round;
- SchNetPack, batch: what its batchwise optimizers call for every step (BatchwiseCalculator: conversion, neighbour list,
  network), without the optimizer;
- torch-sim, where it is installed: its FIRE with SchNetPack's network, pairs found by this project;
- ASE: its LBFGS with SchNetPack's SpkCalculator, one molecule after the other.

    python benchmarks/relaxation.py              # speed
    python benchmarks/relaxation.py --optimizers # evaluations of the optimizers
    python benchmarks/relaxation.py --sizes      # speed over molecules and atoms, --plot FILE.svg draws it
    python benchmarks/relaxation.py --memory     # 10,000 molecules
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from machine import facts
from peers import CUTOFF, Ase, PublishedGolf, SchNetPackBatch, TorchSim

from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationSet, StopReason, concatenate
from golf.core.processors import usable_processors
from golf.core.units import HARTREE_IN_KCAL_PER_MOL, hartree
from golf.io.nabladft import read_nabladft
from golf.nnp.batches import pairs_within
from golf.nnp.parallel import ThreadedPotential
from golf.nnp.potential import Potential
from golf.nnp.published import import_checkpoint
from golf.relaxation.engine import Optimizer, RelaxationEngine
from golf.relaxation.relax import relax

DATA = Path(os.environ.get("GOLF_REFERENCE_DATA", Path(__file__).resolve().parents[2] / "shared"))
THRESHOLD = hartree(0.5)  # hartree/angstrom
LIMIT = 400  # evaluations
PEPTIDES = (  # 64 and 96 atoms
    "CC(C(=O)NC(CO)C(=O)NC(C(C)C)C(=O)NC(Cc1ccccc1)C(=O)NC)N",
    "CC(C(=O)NC(CO)C(=O)NC(C(C)C)C(=O)NCC=O)NC(=O)CCCCC(=O)NC(CO)C(=O)NC(C(C)C)C(=O)NCC=O",
)


class Golf:
    """This project's engine; a call relaxes for `iterations` iterations, whatever comes."""

    def __init__(self, potential: Potential, molecules: ConformationSet, threads: int) -> None:
        self._potential, self._molecules = ThreadedPotential(potential, threads), molecules

    def __call__(self, iterations: int) -> int:
        relaxer = RelaxationEngine(
            self._molecules,
            self._potential,
            Indifferent(),
            force_threshold=1e-12,
            max_steps=iterations // 5,
            iterations_per_step=5,
            slots=128,
        )
        return sum(trajectory.n_force_evaluations for trajectory in relaxer.run(range(len(self._molecules))))


class Indifferent(MMFFSurrogate):
    """Computes every energy and stops nothing."""

    def energy(self, mapped_smiles: str, positions: np.ndarray, name: str = "") -> float:
        super().energy(mapped_smiles, positions, name)
        return 0.0


def smallest(sample: ConformationSet, n: int) -> ConformationSet:
    """The n smallest molecules; more than there are: copies, moved a little."""
    order = np.argsort(sample.n_atoms, kind="stable")
    parts, random = [], np.random.default_rng(1)
    while n > 0:
        part = sample.subset(order[:n])
        moved = part.position + random.normal(scale=0.02, size=part.position.shape) * bool(parts)
        ids = [f"{name}/{len(parts)}" for name in part.id]
        parts.append(replace(part.with_columns(position=moved), id=ids))
        n -= len(part)
    return concatenate(parts)


def flops_per_evaluation(molecules: ConformationSet, width: int = 128, layers: int = 3, n_rbf: int = 50) -> float:
    """Of the matrix products of PaiNN, forward and backward, for a molecule on average."""
    i, *_ = pairs_within(torch.from_numpy(molecules.position), torch.from_numpy(molecules.offset), CUTOFF)
    pairs, atoms = len(i) / len(molecules), float(molecules.n_atoms.mean())
    per_pair = (layers * 3 - 1) * width * (n_rbf + 1)  # the first layer has no vectors to filter
    per_atom = layers * width * width * (1 + 3 + 6 + 2 + 3) - width * width + width * width // 2
    return 4.0 * (pairs * per_pair + atoms * per_atom)


def sgemm_rate(threads: int, size: int = 512) -> float:
    """Flop per second of a product of square matrices."""
    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(40):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 2.0 * size**3 / statistics.median(times)


def speed(
    potential: Potential, molecules: ConformationSet, threads: int, blocks: int, iterations: int, checkout: Path | None
) -> None:
    engines: dict[str, tuple[Callable[[int], int], int]] = {
        "golf": (Golf(potential, molecules, threads), iterations),
        "SchNetPack, batch": (SchNetPackBatch(copy.deepcopy(potential.network), molecules), max(2, iterations // 10)),
        "ASE LBFGS + SpkCalculator": (Ase(copy.deepcopy(potential.network), molecules), max(2, iterations // 10)),
    }
    if find_spec("torch_sim"):
        engines["torch-sim FIRE"] = (TorchSim(copy.deepcopy(potential.network), molecules), max(2, iterations // 10))
    if checkout is not None:
        weights = copy.deepcopy(potential.network.state_dict())
        engines["published GOLF code"] = (PublishedGolf(checkout, weights, molecules), 5)
    figures: dict[str, list[float]] = {name: [] for name in engines}
    for engine, _ in engines.values():
        engine(5)
    for k in range(blocks):
        names = [*engines][k % len(engines) :] + [*engines][: k % len(engines)]
        for name in names:
            engine, n = engines[name]
            torch.set_num_threads(threads)
            started = time.perf_counter()
            evaluations = engine(n)
            figures[name].append(1e3 * (time.perf_counter() - started) / evaluations)
            print(f"  block {k}, {name}: {figures[name][-1]:.2f}", file=sys.stderr, flush=True)
    floor = 1e3 * flops_per_evaluation(molecules) / sgemm_rate(threads)
    base = figures["golf"]
    print(f"{len(molecules)} molecules of {molecules.n_atoms.mean():.1f} atoms, {threads} threads\n")
    print(f"{'engine':<28}{'ms':>8}{'ratio':>8}")
    for name, times in figures.items():
        ratio = statistics.median(theirs / ours for ours, theirs in zip(base, times, strict=True))
        print(f"{name:<28}{statistics.median(times):>8.2f}{ratio:>8.2f}")
    print(f"{'floor: products at sgemm':<28}{floor:>8.2f}{floor / statistics.median(base):>8.2f}")


def optimizers(potential: Potential, sample: ConformationSet, threads: int) -> None:
    """Evaluations to the threshold for all molecules of the sample."""
    print(f"{len(sample)} molecules, to {THRESHOLD * HARTREE_IN_KCAL_PER_MOL:.1f} kcal/mol/angstrom, at most {LIMIT}\n")
    print(
        f"{'optimizer':<18}{'median':>8}{'ratio':>7}{'mean':>7}{'converged':>11}{'energy kcal/mol':>17}{'seconds':>9}"
    )
    base: ConformationSet | None = None
    with ThreadedPotential(potential, threads) as threaded:
        for name in ("lbfgs", "preconditioned"):
            started = time.perf_counter()
            settings = {"force_threshold": THRESHOLD, "max_steps": LIMIT, "slots": 128}
            found = relax(sample, threaded, optimizer=Optimizer(name), **settings)
            seconds, base = time.perf_counter() - started, base or found
            n = found.values["n_force_evaluations"]
            ratio = np.median(n) / np.median(base.values["n_force_evaluations"])
            converged = int((found.values["stop_reason"] == StopReason.CONVERGED).sum())
            energy = (found.values["nnp_energy_last"] - base.values["nnp_energy_last"]).mean() * HARTREE_IN_KCAL_PER_MOL
            row = f"{name:<18}{np.median(n):>8.1f}{ratio:>7.3f}{n.mean():>7.1f}{converged:>11}{energy:>17.3f}"
            print(f"{row}{seconds:>9.1f}", flush=True)


def sizes(potential: Potential, sample: ConformationSet, threads: int, plot: Path | None) -> None:
    """Milliseconds over the number of molecules, and over their size."""
    curves: dict[str, list[tuple[float, float]]] = {"molecules": [], "atoms": []}
    for n in (10, 30, 100, 300, 1000, 3000, 10_000):
        curves["molecules"].append((n, one_speed(potential, smallest(sample, n), threads, 3 if n < 1000 else 1)))
    order = np.argsort(sample.n_atoms, kind="stable")
    of_like_size = [embedded(smiles, 64) for smiles in ("CCO", "CCOC(C)=O", "c1ccccc1CCO")]
    of_like_size += [sample.subset(part) for part in np.array_split(order, 4)]
    of_like_size += [embedded(smiles, 16) for smiles in PEPTIDES]
    for molecules in of_like_size:
        curves["atoms"].append((float(molecules.n_atoms.mean()), one_speed(potential, molecules, threads)))
    for name, curve in curves.items():
        print(f"\n{name:>10}{'ms':>8}")
        for x, milliseconds in curve:
            print(f"{x:>10.0f}{milliseconds:>8.2f}", flush=True)
    if plot is not None:
        draw(curves, plot)


def one_speed(potential: Potential, molecules: ConformationSet, threads: int, repeat: int = 3) -> float:
    engine = Golf(potential, molecules, threads)
    engine(5)
    figures = []
    for _ in range(repeat):
        started = time.perf_counter()
        evaluations = engine(5)
        figures.append(1e3 * (time.perf_counter() - started) / evaluations)
    return statistics.median(figures)


def embedded(smiles: str, n: int) -> ConformationSet:
    from rdkit import Chem

    from golf.chem.conformers import conformations_of
    from golf.chem.usable import Molecule

    molecule = Molecule(smiles, Chem.AddHs(Chem.MolFromSmiles(smiles)), 1)
    return conformations_of([molecule], n_conformers=n, seed=1, prune_rmsd=0.0)[0]


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        axis.plot(*zip(*curve, strict=True), "o-", color="#0072B2")
        axis.set(xlabel=name, ylabel="ms per molecule and evaluation", ylim=(0, None))
    axes[0].set_xscale("log")
    figure.savefig(path)


def memory(potential: Potential, sample: ConformationSet, threads: int, n: int = 10_000) -> None:
    """Peak memory of a relaxation of many molecules, cut short: memory does not grow with the iterations."""
    molecules = smallest(sample, n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    with ThreadedPotential(potential, threads) as threaded:
        relax(molecules, threaded, optimizer=Optimizer("preconditioned"), force_threshold=1e-12, max_steps=4, slots=128)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{n} molecules: peak {peak:.0f} MB, {before:.0f} MB of which before the relaxation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=usable_processors(), help="default: all, %(default)s")
    parser.add_argument("--molecules", type=int, default=32, help="the smallest of the sample (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--iterations", type=int, default=40, help="of golf in a block (default: %(default)s)")
    parser.add_argument("--golf-checkout", type=Path, metavar="DIR", help="published code, to measure as well")
    parser.add_argument("--plot", type=Path, help="with --sizes: draw the curves")
    for name in ("optimizers", "sizes", "memory"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    if not (DATA / "checkpoints").is_dir():
        raise SystemExit(f"{DATA}: no published data and checkpoints there; set GOLF_REFERENCE_DATA")
    logging.getLogger().setLevel(logging.WARNING)
    print(facts("torch", "schnetpack", "ase", "rdkit"))
    potential = import_checkpoint(DATA / "checkpoints" / "GOLF-1k")
    sample = read_nabladft(DATA / "data" / "nabladft_sample.db").bare()
    if options.optimizers:
        optimizers(potential, sample, options.threads)
    elif options.sizes:
        sizes(potential, sample, options.threads, options.plot)
    elif options.memory:
        memory(potential, sample, options.threads)
    else:
        molecules = smallest(sample, options.molecules)
        speed(potential, molecules, options.threads, options.blocks, options.iterations, options.golf_checkout)


if __name__ == "__main__":
    main()
