"""Gradients that a DFT optimization takes: geomeTRIC as it is, and from a Hessian of MMFF.

The starts are those of a file of DFT minima (data/test.h5), which also says how many gradients geomeTRIC took.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import geometric.optimize
import numpy as np
from machine import facts

from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationSet, Status
from golf.core.hdf5 import read
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.core.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL
from golf.oracles import geometric as minimizer
from golf.oracles.geometric import FORCE_THRESHOLD, Optimization, optimize
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Oracle, Request, requests_from

FLOOR = 0.2
"""Curvatures of MMFF below this share of geomeTRIC's own guess are raised to it."""


class FromMMFF(geometric.optimize.Optimizer):
    """geomeTRIC's optimizer, started from the Hessian of MMFF in its internal coordinates.

    Its eigenvalues in the metric of geomeTRIC's own guess are replaced by their magnitudes, at least `FLOOR`.
    """

    smiles: ClassVar[dict[bytes, str]] = {}  # by the elements and positions of the start
    surrogate = MMFFSurrogate()

    def prepareFirstStep(self) -> None:
        super().prepareFirstStep()
        positions = self.X.reshape(-1, 3) * BOHR_IN_ANGSTROM
        smiles = self.smiles[_key(positions)]
        hessian = self.surrogate.hessian(smiles, positions) * BOHR_IN_ANGSTROM**2
        _, forces = self.surrogate.energy_and_forces(smiles, positions)
        model = self.IC.calcHess(self.X, -forces.ravel() * BOHR_IN_ANGSTROM, hessian)
        root = np.linalg.cholesky(self.H0)
        inverse = np.linalg.inv(root)
        values, vectors = np.linalg.eigh(inverse @ model @ inverse.T)
        self.H0 = root @ (vectors * np.maximum(np.abs(values), FLOOR)) @ vectors.T @ root.T
        self.H = self.H0.copy()


def _key(positions: np.ndarray) -> bytes:
    return np.round(positions, 6).tobytes()


def with_geometric(starts: ConformationSet, oracle: Oracle) -> tuple[np.ndarray, np.ndarray]:
    """Gradients and final energies [n] from the Hessian of MMFF."""
    FromMMFF.smiles = {
        _key(x): s for x, s in zip(starts.positions_by_conformation(), starts.mapped_smiles, strict=True)
    }
    minimizer.Optimizer = FromMMFF  # type: ignore[misc]

    def one(request: Request) -> tuple[int, float]:
        def evaluate(asked: Request) -> Label:
            return oracle.compute(asked)

        optimization = Optimization(request, evaluate)
        optimize(optimization, 200, FORCE_THRESHOLD)
        ended = optimization.status is Status.OK
        return len(optimization.labels), optimization.labels[optimization.last].energy if ended else np.nan

    with ThreadPoolExecutor(oracle.n_workers) as threads:
        counts, energies = zip(*threads.map(one, requests_from(starts)), strict=True)
    return np.array(counts), np.array(energies)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minima", default="data/test.h5", help="DFT minima with their starts (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th start (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="Psi4 processes (default: %(default)s)")
    options = parser.parse_args()
    minima = read(options.minima)
    chosen = minima.subset(range(0, len(minima), options.every))
    starts = chosen.with_columns(position=chosen.atoms["initial_position"]).bare()
    level = LevelOfTheory("psi4", str(minima.attrs["method"]), str(minima.attrs["basis"]))
    print(facts("geometric", "rdkit"))
    print(f"{len(starts)} starts of {options.minima}, {level}\n")
    known = chosen.values["n_force_evaluations"]
    print(
        f"{'':<42}{'gradients: mean':>16}{'median':>8}{'max':>5}{'ratio':>7}{'no minimum':>12}{'energy kcal/mol':>17}"
    )
    _print("geomeTRIC (from the file)", known, chosen.values["energy"], chosen)
    with OraclePool(level, n_workers=options.workers) as oracle:
        _print("geomeTRIC from the Hessian of MMFF", *with_geometric(starts, oracle), chosen)


def _print(name: str, counts: Iterable[int], energies: np.ndarray, known: ConformationSet) -> None:
    counts = np.asarray(counts)
    ratio = counts.sum() / known.values["n_force_evaluations"].sum()
    above = np.nanmean(energies - known.values["energy"]) * HARTREE_IN_KCAL_PER_MOL
    print(
        f"{name:<42}{counts.mean():>16.1f}{np.median(counts):>8.1f}{counts.max():>5}{ratio:>7.2f}"
        f"{np.isnan(energies).sum():>12}{above:>17.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
