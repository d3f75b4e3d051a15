"""Predict the cost of labels from molecule and method, and divide conformations into batches of equal predicted time.

A label job runs this to find its own conformations, on any machine and at every attempt. Costs are therefore integer
microseconds computed from integers, bitwise identical everywhere, and measured wall times do not enter the division
into batches: they only scale the forecast (golf/study/forecast.py).
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.core.elements import SYMBOLS
from golf.core.errors import UserError

# Microseconds of one energy with gradient, wB97X-D, Psi4 1.3.2, one core: the functional's grid, the functions on it,
# exact exchange. Fitted to 20 CPU times (15 molecules of 3 to 24 atoms in def2-SVP, some in STO-3G and def2-TZVP): rms
# error 10 %, largest 25 %. The last term is from two molecules with iodine.
PER_ATOM = 145_000
PER_ATOM_AND_FUNCTION = 2_400
PER_ELECTRON_AND_FUNCTION_SQUARED = 9
PER_ATOM_FUNCTION_SQUARED_AND_ECP = 1_400

METHODS: Mapping[str, float] = {"wb97x-d": 1.0, "b3lyp": 0.8, "pbe": 0.8, "m06-2x": 1.6, "mp2": 0.4, "hf": 0.2}
"""Times relative to wB97X-D, measured on water, ethanol and benzene; any other method counts as wB97X-D.

Accurate to a third. It is ignored that core potentials take the same time with every method.
"""

THREADS_EXPONENT = 0.63
"""Exponent of the speed of a process as a function of its threads: two threads are 1.55 times as fast as one."""


@dataclass(frozen=True)
class Basis:
    """Basis functions and expensive core potentials of a basis set, by element.

    Attributes:
        functions: number of basis functions by atomic number; all 0 for a program without basis sets, so that costs
            depend only on the number of atoms.
        with_ecp: elements with an expensive effective core potential. Psi4 differentiates it numerically, six times per
            atom of the molecule, which costs more than all the rest.
    """

    functions: Mapping[int, int]
    with_ecp: frozenset[int] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return the content of results/dataset/oracle.json, with elements as symbols."""
        return {
            "basis_functions": {SYMBOLS[number]: n for number, n in self.functions.items()},
            "core_potentials": [SYMBOLS[number] for number in sorted(self.with_ecp)],
        }


def read_basis(path: str | Path) -> Basis:
    """Read the basis set that `check_oracle` has written.

    Raises:
        FileNotFoundError: the file is missing, or written by an older version, so that it will be regenerated.
        UserError: the file is damaged.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError:
        raise UserError(f"{path}: damaged; remove it, and it will be regenerated") from None
    if "basis_functions" not in found:
        raise FileNotFoundError(2, "written by an older version of golf", str(path))
    return Basis(
        {SYMBOLS.index(symbol): n for symbol, n in found["basis_functions"].items()},
        frozenset(SYMBOLS.index(symbol) for symbol in found["core_potentials"]),
    )


def label_costs(number: NDArray, offset: NDArray, basis: Basis) -> NDArray[np.int64]:
    """Predict microseconds of one energy with gradient, for wB97X-D in one thread on the machine of the fit [N].

    Args:
        number, offset: atomic numbers [A] and first atom of each conformation [N + 1], as in `ConformationSet`.

    Raises:
        UserError: the basis set lacks an element.
    """
    present = np.unique(number).tolist()
    lacking = [SYMBOLS[z] for z in present if z not in basis.functions]
    if lacking:
        raise UserError(f"the basis set does not cover {' '.join(lacking)}; choose another basis")
    functions, ecps = np.zeros(len(SYMBOLS), np.int64), np.zeros(len(SYMBOLS), np.int64)
    for z in present:
        functions[z], ecps[z] = basis.functions[z], z in basis.with_ecp
    if len(offset) < 2:
        return np.zeros(0, np.int64)
    n_atoms = np.diff(offset)
    n = np.add.reduceat(functions[number], offset[:-1])
    n_ecp = np.add.reduceat(ecps[number], offset[:-1])
    n_electrons = np.add.reduceat(number.astype(np.int64), offset[:-1])
    return (
        PER_ATOM * n_atoms
        + PER_ATOM_AND_FUNCTION * n_atoms * n
        + PER_ELECTRON_AND_FUNCTION_SQUARED * n_electrons * n**2
        + PER_ATOM_FUNCTION_SQUARED_AND_ECP * n_atoms * n**2 * n_ecp
    )


def n_gradients(n_atoms: NDArray) -> NDArray[np.int64]:
    """Predict the number of gradients of a DFT optimization from an ETKDG geometry.

    Measured: 14 for 8 atoms (data/test.h5), 30 for 30 atoms.
    """
    return (90 + 8 * np.asarray(n_atoms, np.int64)) // 11


def pack(costs: NDArray[np.int64], n_bins: int) -> NDArray[np.int64]:
    """Assign items to `n_bins` bins with nearly equal sums; return the bin of each item [N].

    Items are taken by decreasing cost, each into the bin with the smallest sum so far: no bin exceeds 4/3 of the
    smallest possible maximum (R. L. Graham, SIAM J. Appl. Math. 17, 416 (1969)). Ties go to the lower index, so that
    the result is reproducible.
    """
    bins = np.zeros(len(costs), np.int64)
    loads = [(0, index) for index in range(n_bins)]
    values = costs.tolist()
    for item in np.argsort(-costs, kind="stable").tolist():
        load, index = loads[0]
        bins[item] = index
        heapq.heapreplace(loads, (load + values[item], index))
    return bins


def members(costs: NDArray[np.int64], index: int, n_bins: int) -> NDArray[np.int64]:
    """Return the items of one bin of `pack`, by decreasing cost."""
    mine = np.flatnonzero(pack(costs, n_bins) == index)
    return mine[np.argsort(-costs[mine], kind="stable")]


def predicted_seconds(costs: NDArray[np.int64], method: str, threads: int) -> NDArray[np.float64]:
    """Predict the seconds of labels on the machine of the fit, for use without measured wall times [N]."""
    return costs * (METHODS.get(method.lower(), 1.0) * 1e-6 / threads**THREADS_EXPONENT)


def longest_wall(
    seconds: NDArray[np.float64], bins: NDArray[np.int64], n_bins: int, n_workers: int
) -> NDArray[np.float64]:
    """Return the wall time of each bin in a job with `n_workers` processes [n_bins].

    It is the larger of the bin's sum divided by the processes and its longest item.
    """
    longest = np.zeros(n_bins)
    np.maximum.at(longest, bins, seconds)
    return np.maximum(np.bincount(bins, seconds, n_bins) / n_workers, longest)
