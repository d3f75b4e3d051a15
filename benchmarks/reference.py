"""Gradients that an optimization takes: geomeTRIC from its own guess, and from a Hessian of a cheaper method.

`--hessian mmff`: DFT, with the Hessian of MMFF; the starts are those of a file of DFT minima (data/test.h5), which also
says how many gradients geomeTRIC took. `--hessian gfn2`: the target is GFN1-xTB, which is cheap; each molecule of a
SMILES file is relaxed with GFN2-xTB, and the target continues from that end, with and without the Hessian of GFN2-xTB.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np
from machine import facts

from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationSet, Status
from golf.core.hdf5 import read
from golf.core.level import LevelOfTheory
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.io.read import read_structures
from golf.oracles.geometric import FORCE_THRESHOLD, Optimization, optimize
from golf.oracles.local_minimum import CHEAP_LEVEL, hessians
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Oracle, requests_from

TARGET = LevelOfTheory("ase", "tblite:GFN1-xTB", "none")


def optimized(
    starts: ConformationSet, oracle: Oracle, given: Mapping[int, np.ndarray] = MappingProxyType({})
) -> list[Optimization]:
    """Optimizations of all starts, from their Hessians (hartree/angstrom^2, by index) where they have one."""
    runs = [Optimization(one, oracle.compute, hessian=given.get(i)) for i, one in enumerate(requests_from(starts))]
    with ThreadPoolExecutor(oracle.n_workers) as threads:
        list(threads.map(lambda run: optimize(run, 200, FORCE_THRESHOLD), runs))
    return runs


def _counts(runs: list[Optimization]) -> tuple[np.ndarray, np.ndarray]:
    """Gradients and final energies [n]; NaN without a minimum."""
    energies = [run.labels[run.last].energy if run.status is Status.OK else np.nan for run in runs]
    return np.array([len(run.labels) for run in runs]), np.array(energies)


def from_mmff(starts: ConformationSet) -> dict[int, np.ndarray]:
    """Hessians of MMFF at the starts."""
    surrogate = MMFFSurrogate()
    positions = starts.positions_by_conformation()
    return {i: surrogate.hessian(*one) for i, one in enumerate(zip(starts.mapped_smiles, positions, strict=True))}


def with_dft(options: argparse.Namespace) -> None:
    """Print the table of DFT optimizations from the Hessian of MMFF."""
    minima = read(options.minima)
    chosen = minima.subset(range(0, len(minima), options.every))
    starts = chosen.with_columns(position=chosen.atoms["initial_position"]).bare()
    level = LevelOfTheory("psi4", str(minima.attrs["method"]), str(minima.attrs["basis"]))
    print(f"{len(starts)} starts of {options.minima}, {level}\n")
    known, energies = chosen.values["n_force_evaluations"], chosen.values["energy"]
    _head()
    _print("geomeTRIC (from the file)", known, energies, known, energies)
    with OraclePool(level, n_workers=options.workers) as oracle:
        runs = optimized(starts, oracle, from_mmff(starts))
        _print("geomeTRIC from the Hessian of MMFF", *_counts(runs), known, energies)


def with_gfn1(options: argparse.Namespace) -> None:
    """Print the table of optimizations by GFN1-xTB from ends and Hessians of GFN2-xTB."""
    starts = read_structures(options.smiles)
    starts = starts.subset(range(0, len(starts), options.every))
    print(f"{len(starts)} molecules of {options.smiles}, {', '.join(map(str, starts.n_atoms))} atoms, {TARGET}\n")
    with OraclePool(CHEAP_LEVEL, n_workers=options.workers) as oracle:
        relaxed = optimized(starts, oracle)
    ends = starts.with_columns(position=np.concatenate([run.final for run in relaxed]))
    found = hessians(requests_from(ends), n_workers=options.workers).of
    _head()
    with OraclePool(TARGET, n_workers=options.workers) as oracle:
        plain = _counts(optimized(starts, oracle))
        _print("from the embedded geometry", *plain, *plain)
        _print("from the end of GFN2-xTB", *_counts(optimized(ends, oracle)), *plain)
        _print("from that end with the Hessian of GFN2-xTB", *_counts(optimized(ends, oracle, found)), *plain)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hessian", choices=["mmff", "gfn2"], default="mmff", help="(default: %(default)s)")
    parser.add_argument("--minima", default="data/test.h5", help="mmff: DFT minima with their starts (%(default)s)")
    parser.add_argument("--smiles", default="data/molecules.smi", help="gfn2: molecules (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th start (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    options = parser.parse_args()
    print(facts("geometric", "rdkit", "tblite"))
    (with_dft if options.hessian == "mmff" else with_gfn1)(options)


def _head() -> None:
    columns = f"{'mean':>8}{'median':>8}{'max':>5}{'ratio':>7}{'no minimum':>12}{'kcal/mol':>10}"
    print(f"{'gradients':<46}{columns}")


def _print(
    name: str, counts: Iterable[int], energies: np.ndarray, known: np.ndarray, known_energies: np.ndarray
) -> None:
    counts = np.asarray(counts)
    ratio = counts.sum() / known.sum()
    above = np.nanmean(energies - known_energies) * HARTREE_IN_KCAL_PER_MOL
    print(
        f"{name:<46}{counts.mean():>8.1f}{np.median(counts):>8.1f}{counts.max():>5}{ratio:>7.2f}"
        f"{np.isnan(energies).sum():>12}{above:>10.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
