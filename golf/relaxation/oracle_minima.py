"""Optimize a user's own structures at the level of an oracle, from the ends of a potential's relaxations."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from golf.chem.integrity import CHANGED, with_changes
from golf.chem.usable import PROPERTIES, LeftOut
from golf.core.conformations import ConformationSet, Status
from golf.core.deadline import Deadline
from golf.core.errors import UserError
from golf.core.files import suffix_of, written_whole
from golf.core.hdf5 import write
from golf.core.level import LevelOfTheory
from golf.core.progress import progress_bar
from golf.core.units import hartree
from golf.io.ends import Ends
from golf.io.labelled import CALCULATED
from golf.io.write import write_structures
from golf.oracles.costs import Basis, label_costs, members, n_gradients
from golf.oracles.geometric import FORCE_THRESHOLD
from golf.oracles.local_minimum import CHEAP_LEVEL, hessians
from golf.oracles.minima import optimize_with_pool
from golf.oracles.programs.pool import PoolSettings
from golf.oracles.programs.protocol import requests_from

logger = logging.getLogger(__name__)


def lowest(ends: Ends, *, top: int | None = None, window: float = math.inf) -> tuple[Ends, list[LeftOut]]:
    """Return the lowest conformations of each molecule by the energies in the file, in the order of the file.

    Conformations that are no longer their molecule are left out; without `top` and `window` all others are returned.

    Args:
        top: number of conformations of each molecule.
        window: kcal/mol above the lowest of the molecule.

    Raises:
        UserError: a conformation has no energy, and some have to be chosen.
    """
    if top is None and math.isinf(window):
        return ends, []
    unknown = np.flatnonzero(~np.isfinite(ends.energy))
    if len(unknown):
        name = ends.conformations.id[unknown[0]]
        raise UserError(f"{name}: has no energy in the input, by which to choose; drop --top and --window")
    changed = with_changes(ends.conformations).values[CHANGED]
    left_out = [left_out_of(ends, i, f"it is no longer the molecule: {how}") for i, how in enumerate(changed) if how]
    molecules = np.asarray(ends.conformations.molecule, dtype=str)
    whole = np.array([not how for how in changed], dtype=bool)
    chosen: list[int] = []
    for name in np.unique(molecules):
        mine = np.flatnonzero((molecules == name) & whole)
        mine = mine[np.argsort(ends.energy[mine], kind="stable")][:top]
        if len(mine):
            chosen += mine[ends.energy[mine] - ends.energy[mine[0]] <= hartree(window)].tolist()
    return ends.subset(sorted(chosen)), left_out


def left_out_of(ends: Ends, i: int, reason: str) -> LeftOut:
    """Return the entry of a conformation in the list of those that are left out."""
    conformations = ends.conformations
    return LeftOut(ends.lines[i], conformations.id[i], conformations.mapped_smiles[i], reason)


def one_batch(ends: Ends, index: int, n_batches: int, basis: Basis) -> Ends:
    """Return the conformations of one of `n_batches` batches of nearly equal predicted time, in the order of the file.

    A molecule is in one batch with all its conformations. All batches come from the same division, on any machine.
    """
    conformations = ends.conformations
    costs = label_costs(conformations.number, conformations.offset, basis) * n_gradients(conformations.n_atoms)
    names, molecule = np.unique(np.asarray(conformations.molecule, dtype=str), return_inverse=True)
    of_molecules = np.zeros(len(names), np.int64)
    np.add.at(of_molecules, molecule, costs)
    return ends.subset(np.flatnonzero(np.isin(molecule, members(of_molecules, index, n_batches))))


def optimize_ends(
    ends: Ends,
    output: Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    with_hessians: bool = True,
    max_steps: int = 200,
    force_threshold: float = FORCE_THRESHOLD,
    deadline: Deadline | None = None,
    **pool: Unpack[PoolSettings],
) -> tuple[ConformationSet, list[LeftOut]]:
    """Optimize conformations with an oracle and write the minima to a file; return them, and those without one.

    An interrupted run resumes from the journal of its gradients and the folder of Hessians beside the output.

    Args:
        output: .h5, .sdf, .xyz or .extxyz.
        with_hessians: begin with Hessians of GFN2-xTB; where there is none, with geomeTRIC's guess.
        max_steps, force_threshold: see `golf.oracles.minima.optimize_reference`.
        pool: further settings of `golf.oracles.programs.pool.OraclePool`.

    Raises:
        UserError: the level's program is unknown, not found or does not start, or lacks an element.
        OutOfTime: the deadline came before all was done.
    """
    starts, folder = ends.conformations.bare(), output.with_name(f"{output.name}.hessians")
    found: dict[int, NDArray[np.float64]] = {}
    if with_hessians:
        folder.mkdir(exist_ok=True)
        found = _hessians(starts, folder, n_workers, deadline)
    minima = optimize_with_pool(
        starts,
        output,
        level=level,
        n_workers=n_workers,
        max_steps=max_steps,
        force_threshold=force_threshold,
        hessians=found,
        check=True,
        deadline=deadline,
        **pool,
    )
    good = np.asarray(minima.values["status"]) == Status.OK
    left_out = [
        left_out_of(ends, i, f"no minimum: {minima.values['message'][i]}") for i in np.flatnonzero(~good).tolist()
    ]
    minima = minima.with_columns(hessian=CHEAP_LEVEL.method if with_hessians else "geomeTRIC's guess")
    if PROPERTIES in ends.conformations.values:
        minima = minima.with_columns(values={PROPERTIES: ends.conformations.values[PROPERTIES]})
    minima = _described(minima.subset(good))
    if len(minima):
        _write(output, minima)
    shutil.rmtree(folder, ignore_errors=True)
    return minima, left_out


def _hessians(
    starts: ConformationSet, folder: Path, n_workers: int, deadline: Deadline | None
) -> dict[int, NDArray[np.float64]]:
    with progress_bar(len(starts), "Hessians") as advance:
        found = hessians(requests_from(starts), n_workers=n_workers, folder=folder, deadline=deadline, advance=advance)
    if found.reasons:
        first = min(found.reasons)
        logger.warning(
            "%d of %d optimizations begin with geomeTRIC's guess of the Hessian (%s: %s)",
            len(found.reasons), len(starts), starts.id[first], found.reasons[first],
        )  # fmt: skip
    return found.of


def _described(minima: ConformationSet) -> ConformationSet:
    """Add how a minimum is not its molecule any more, its largest force, and its energy above the molecule's lowest."""
    minima = with_changes(minima)
    largest = [
        np.linalg.norm(minima.atoms["force"][minima.rows(i)], axis=1).max(initial=0.0) for i in range(len(minima))
    ]
    return minima.with_columns(values={"largest_force": largest, "relative_energy": _relative(minima)})


def _relative(minima: ConformationSet) -> NDArray[np.float64]:
    best: dict[str, tuple[bool, float]] = {}
    rows: Iterable[Any] = zip(minima.molecule, minima.values["energy"], minima.values[CHANGED], strict=True)
    for name, energy, changed in rows:
        best[name] = min(best.get(name, (True, np.inf)), (bool(changed), float(energy)))
    lowest_of = np.array([best[name][1] for name in minima.molecule], np.float64)
    return np.asarray(minima.values["energy"], np.float64) - lowest_of


def _write(output: Path, minima: ConformationSet) -> None:
    if suffix_of(output) == ".h5":
        write(output, minima)
        return
    with written_whole(output) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        write_structures(stream, suffix_of(output), minima, CALCULATED)
