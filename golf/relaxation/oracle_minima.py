"""Optimize a user's own structures at the level of an oracle, from the ends of a potential's relaxations."""

from __future__ import annotations

import csv
import dataclasses
import logging
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
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
from golf.core.hdf5 import read, write
from golf.core.level import LevelOfTheory
from golf.core.progress import progress_bar
from golf.core.units import hartree
from golf.io.ends import Ends
from golf.io.labelled import CALCULATED
from golf.io.write import write_structures
from golf.oracles.costs import Basis, label_costs, members, n_gradients
from golf.oracles.geometric import FORCE_THRESHOLD
from golf.oracles.local_minimum import CHEAP_LEVEL, hessians
from golf.oracles.minima import merge_optimizations, optimize_with_pool
from golf.oracles.programs.pool import PoolSettings
from golf.oracles.programs.protocol import requests_from
from golf.oracles.quote import not_covered

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


def structures(
    ends: Ends, path: str | Path, level: LevelOfTheory, basis: Basis, *, top: int | None, window: float | None
) -> Ends:
    """Return the conformations that an oracle is to optimize; those that cannot be are added to `Ends.left_out`.

    Args:
        ends: all conformations of a file.
        path: the file, for messages.
        basis: elements that the level covers.
        top, window: see `lowest`; None for all.

    Raises:
        UserError: there are no energies to choose by.
    """
    try:
        chosen, left_out = lowest(ends, top=top, window=math.inf if window is None else window)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    foreign = not_covered(chosen.conformations, level, basis)
    left_out += [left_out_of(chosen, i, reason) for i, reason in enumerate(foreign) if reason]
    covered = chosen.subset([i for i, reason in enumerate(foreign) if not reason])
    every = sorted([*ends.left_out, *left_out], key=lambda out: out.line)
    return dataclasses.replace(covered, left_out=every)


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
    minima = minima.with_columns(hessian=CHEAP_LEVEL.method if with_hessians else "geomeTRIC's guess")
    if PROPERTIES in ends.conformations.values:
        minima = minima.with_columns(values={PROPERTIES: ends.conformations.values[PROPERTIES]})
    found_minima, left_out = whole_minima(minima, ends.lines)
    if len(found_minima):
        write_minima(output, found_minima)
    shutil.rmtree(folder, ignore_errors=True)
    return found_minima, left_out


def whole_minima(optimized: ConformationSet, lines: Sequence[int]) -> tuple[ConformationSet, list[LeftOut]]:
    """Return the minima among optimized conformations, with further columns, and the entries of the others.

    Columns: `changed_molecule`, `largest_force` and `relative_energy`.

    Args:
        lines: line or number of the record of each conformation.
    """
    good = np.asarray(optimized.values["status"]) == Status.OK
    left_out = [
        LeftOut(lines[i], optimized.id[i], optimized.mapped_smiles[i], f"no minimum: {optimized.values['message'][i]}")
        for i in np.flatnonzero(~good).tolist()
    ]
    return _described(optimized.subset(good)), left_out


def merge_structures(
    starts: str | Path,
    batches: Sequence[str | Path],
    not_optimized: str | Path,
    *,
    minima: str | Path,
    sdf: str | Path,
    left_out: str | Path,
    attrs: Mapping[str, Any],
) -> None:
    """Merge the batches of a study's own structures into files of minima, and list the structures without one.

    Args:
        starts: file of all structures that are optimized; their properties are kept.
        batches: files of optimizations.
        not_optimized: list (.csv) of the structures that could not be optimized.
        minima: all optimizations, those without a minimum included (.h5).
        sdf: the minima.
        left_out: `not_optimized` and the structures without a minimum; their line is empty.
        attrs: root attributes of `minima`.

    Raises:
        UserError: a structure is not in any batch, or batches have different levels of theory.
    """
    chosen = read(starts)
    merged = merge_optimizations(chosen, [read(path) for path in batches]) if len(chosen) else read(batches[0])
    if PROPERTIES in chosen.values:
        merged = merged.with_columns(values={PROPERTIES: chosen.values[PROPERTIES]})
    found, failed = whole_minima(merged, [0] * len(merged))
    rows = [["", out.name, out.text, out.reason] for out in failed]
    known = Path(not_optimized).read_text(encoding="utf-8")
    with written_whole(left_out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        stream.write(known)
        csv.writer(stream).writerows(rows)
    write_minima(Path(sdf), found)
    write(minima, merged, **attrs)


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


def write_minima(output: Path, minima: ConformationSet) -> None:
    """Write minima to a .h5, .sdf, .xyz or .extxyz file."""
    if suffix_of(output) == ".h5":
        write(output, minima)
        return
    with written_whole(output) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        write_structures(stream, suffix_of(output), minima, CALCULATED)
