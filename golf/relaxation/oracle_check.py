"""Check a sample of relaxed ends with an oracle: label them, and find how far they are above their local minima."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationRecord, ConformationSet, Status, concatenate
from golf.core.deadline import Deadline
from golf.core.hdf5 import write
from golf.core.labels import LABEL_COLUMNS, with_known_labels
from golf.core.level import LevelOfTheory
from golf.core.progress import progress_bar
from golf.core.wording import counted
from golf.evaluation.checked_ends import ESTIMATE, KCAL, OPTIMIZATION, CheckedEnds, energy_errors, force_errors
from golf.io.ends import Ends
from golf.oracles.labeling import label_to_file
from golf.oracles.local_minimum import (
    VALID_BELOW,
    Hessians,
    energy_above_minimum,
    hessians,
)
from golf.oracles.minima import optimize_with_pool
from golf.oracles.programs.pool import PoolSettings
from golf.oracles.programs.protocol import requests_from

logger = logging.getLogger(__name__)


def draw(molecules: Sequence[str], n: int, *, per_molecule: int, seed: int) -> NDArray[np.int64]:
    """Draw up to n conformations: molecules in random order, of each up to `per_molecule` of its conformations.

    If that gives fewer than n, further conformations of these molecules follow. The result is sorted.

    Args:
        molecules: name of the molecule of each conformation.
    """
    random = np.random.default_rng(seed)
    names = np.asarray(molecules, dtype=str)
    order = random.permutation(np.unique(names))
    of_each = [random.permutation(np.flatnonzero(names == name)) for name in order]
    first = [i for own in of_each for i in own[:per_molecule].tolist()]
    further = random.permutation([i for own in of_each for i in own[per_molecule:].tolist()]).astype(np.int64)
    return np.array(sorted([*first, *further.tolist()][:n]), np.int64)


def labels_path(output: Path) -> Path:
    """Return the path of the labels beside a table of checked ends."""
    return output.with_suffix(".labels.h5")


def check_ends(
    ends: Ends,
    output: Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    optimize: bool = False,
    max_steps: int = 200,
    attrs: dict[str, Any] | None = None,
    deadline: Deadline | None = None,
    **pool: Unpack[PoolSettings],
) -> CheckedEnds:
    """Label ends and find their energy above the local minimum; write all labels to `labels_path(output)`.

    An interrupted check resumes from the journal of the labels and from the folder of Hessians beside it.

    Args:
        ends: the sample.
        output: path of the table that will be written.
        optimize: optimize those ends for which the estimate is not valid (`golf.oracles.local_minimum`).
        max_steps: limit of the steps of these optimizations.
        attrs: root attributes of the file of labels.
        pool: further settings of `golf.oracles.programs.pool.OraclePool`.

    Raises:
        UserError: the level's program is unknown, not found or does not start, or lacks an element.
        OutOfTime: the deadline came before all was done.
    """
    path, stamp = labels_path(output), attrs or {}
    labelled = label_to_file(
        ends.conformations.bare(),
        path,
        level=level,
        n_workers=n_workers,
        check=True,
        attrs=stamp,
        deadline=deadline,
        **pool,
    )
    status = np.asarray(labelled.values["status"])
    good = np.flatnonzero(status == Status.OK)
    folder = output.with_suffix(".hessians")
    folder.mkdir(exist_ok=True)
    found = _hessians(labelled, good, folder, n_workers, deadline)
    estimate, note = np.full(len(labelled), np.nan), [str(text) for text in labelled.values["message"]]
    for i in good.tolist():
        if i in found.of:
            rows = labelled.rows(i)
            forces, hessian = labelled.atoms["force"][rows], found.of[i]
            estimate[i] = energy_above_minimum(labelled.position[rows], forces, hessian)
        else:
            note[i] = found.reasons[i]
    valid = estimate < VALID_BELOW
    e_loc, source = np.where(valid, estimate, np.nan), [ESTIMATE if one else "" for one in valid]
    n_gradients = np.zeros(len(labelled), np.int64)
    left = [i for i in good.tolist() if not valid[i]]
    if optimize and left:
        minima = _optimized(labelled, left, found, path, level, n_workers, max_steps, deadline, pool)
        write(path, _with_gradients(labelled, minima), **stamp)
        for k, i in enumerate(left):
            n_gradients[i] = minima.values["n_force_evaluations"][k]
            note[i] = str(minima.values["message"][k])
            if minima.values["status"][k] == Status.OK:
                e_loc[i] = labelled.values["energy"][i] - minima.values["energy"][k]
                source[i] = OPTIMIZATION
    shutil.rmtree(folder, ignore_errors=True)
    largest, errors = force_errors(labelled, ends.force)
    return CheckedEnds(
        labelled=labelled,
        energy=ends.energy,
        energy_error=energy_errors(ends.energy, labelled.values["energy"], labelled.molecule) * KCAL,
        largest_force=largest * KCAL,
        force_error=errors * KCAL,
        e_loc=e_loc * KCAL,
        source=source,
        estimate=estimate * KCAL,
        n_gradients=n_gradients,
        note=note,
    )


def _hessians(
    labelled: ConformationSet, good: NDArray[np.int64], folder: Path, n_workers: int, deadline: Deadline | None
) -> Hessians:
    """Return the Hessians at those ends that have a label, by their index."""
    requests = requests_from(labelled)
    with progress_bar(len(good), "Hessians") as advance:
        found = hessians(
            [requests[i] for i in good], n_workers=n_workers, folder=folder, deadline=deadline, advance=advance
        )
    return Hessians(
        {int(good[k]): hessian for k, hessian in found.of.items()},
        {int(good[k]): reason for k, reason in found.reasons.items()},
    )


def _optimized(
    labelled: ConformationSet,
    left: list[int],
    found: Hessians,
    path: Path,
    level: LevelOfTheory,
    n_workers: int,
    max_steps: int,
    deadline: Deadline | None,
    pool: PoolSettings,
) -> ConformationSet:
    """Optimize ends, their labels being the first gradients."""
    logger.info("%s optimized from their ends", counted(len(left), "conformation"))
    return optimize_with_pool(
        labelled.subset(left),
        path,
        level=level,
        n_workers=n_workers,
        max_steps=max_steps,
        hessians={k: found.of[i] for k, i in enumerate(left) if i in found.of},
        deadline=deadline,
        **pool,
    )


def _with_gradients(labelled: ConformationSet, minima: ConformationSet) -> ConformationSet:
    """Return the labelled ends and the gradients of the optimizations as further labelled conformations."""
    records, energies, forces = [], [], [np.zeros((0, 3))]
    for frame in minima.frames or ():
        i = frame.conformation
        if frame.step == 0:  # the end itself
            continue
        records.append(
            ConformationRecord(
                f"{minima.id[i]}/{frame.step:03d}",
                minima.molecule[i],
                minima.mapped_smiles[i],
                int(minima.charge[i]),
                int(minima.multiplicity[i]),
                minima.number[minima.rows(i)],
                frame.position,
            )
        )
        energies.append(frame.energy)
        forces.append(frame.force)
    further = ConformationSet.build(records)
    further = with_known_labels(further, np.array(energies), np.concatenate(forces), labelled.attrs)
    kept = {name: labelled.values[name] for name in LABEL_COLUMNS}
    return concatenate(
        [labelled.bare().with_columns(atoms={"force": labelled.atoms["force"]}, values=kept, **labelled.attrs), further]
    )
