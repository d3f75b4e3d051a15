"""Labels for conformations: which ones are missing, how they are divided into batches, how batches are put together.

A batch is one job with a pool of oracle processes. Every finished label goes to the batch's journal at once; the HDF5
file is written when the batch is complete. The journals of the other batches are looked into as well, so that nothing
is paid for again when the input grows or is divided anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.conformations import ConformationSet, Status
from golf.errors import UserError
from golf.hdf5 import write
from golf.journal import SUFFIX, Journal, beside
from golf.oracles.base import Label, LevelOfTheory, Oracle, requests_from
from golf.oracles.psi4 import Psi4Oracle
from golf.progress import progress_bar

logger = logging.getLogger(__name__)


def unlabelled(conformations: ConformationSet) -> ConformationSet:
    """A copy with empty label columns (NaN, `NOT_COMPUTED`) where it has none."""
    if "status" in conformations.values:
        return conformations
    return _with_labels(conformations, {})


def take_over_labels(conformations: ConformationSet, level: LevelOfTheory, source: str) -> ConformationSet:
    """Keep the labels that came with the data, if they are of the configured level.

    Raises:
        UserError: the labels are of another level of theory.
    """
    if "status" not in conformations.values:
        return unlabelled(conformations)
    labelled = conformations.values["status"] != Status.NOT_COMPUTED
    if labelled.any() and not level.matches(conformations.attrs):
        found = "/".join(str(conformations.attrs.get(name)) for name in ("method", "basis"))
        raise UserError(
            f"{source}: labels are {found}, the configured oracle is {level}; set oracle to the level of the data, "
            "or remove the labels from the file"
        )
    return conformations


def pending(conformations: ConformationSet) -> NDArray[np.int64]:
    """Indices of the conformations that have no label yet."""
    return np.flatnonzero(unlabelled(conformations).values["status"] == Status.NOT_COMPUTED)


def batch(conformations: ConformationSet, index: int, n_batches: int) -> ConformationSet:
    """The pending conformations of one of `n_batches` batches, dealt out like cards; it may be empty."""
    return conformations.subset(pending(conformations)[index::n_batches]).bare()


def label(
    conformations: ConformationSet,
    oracle: Oracle,
    journal: Journal,
    *,
    progress: Callable[[Label], None] | None = None,
) -> ConformationSet:
    """Energies and forces of all conformations, taken from the journal where it has them.

    Args:
        progress: called with each label as it comes, those of the journal first.

    Returns:
        The conformations with the label columns of DESIGN section 3 and the level of theory as attributes.
    """
    requests = requests_from(conformations)
    index = {request.id: i for i, request in enumerate(requests)}
    labels: dict[int, Label] = {}
    missing = []
    for i, request in enumerate(requests):
        known = journal.get(request)
        if known is None:
            missing.append(request)
        else:
            labels[i] = known
            if progress:
                progress(known)
    if labels:
        logger.info("%d of %d labels were in journals beside %s", len(labels), len(requests), journal.path)
    for request, new in oracle.stream(missing):
        journal.append(request, new)
        labels[index[request.id]] = new
        if progress:
            progress(new)
        if new.status != Status.OK:
            logger.warning("%s: no label: %s", request.id, new.message)
    return _with_labels(conformations, labels).with_columns(
        **oracle.level.attrs(), program_version=oracle.program_version
    )


def _with_labels(conformations: ConformationSet, labels: dict[int, Label]) -> ConformationSet:
    n_atoms = conformations.n_atoms
    row = [labels.get(i) or Label.failed(int(n_atoms[i]), Status.NOT_COMPUTED, "") for i in range(len(conformations))]
    values: dict[str, Any] = {
        name: [getattr(one, name) for one in row]
        for name in ("energy", "status", "message", "wall_seconds", "scf_iterations", "recovery")
    }
    return conformations.with_columns(
        atoms={"force": np.concatenate([np.zeros((0, 3)), *(one.forces for one in row)])}, values=values
    )


def _reject_large_forces(labelled: ConformationSet, max_force_norm: float) -> ConformationSet:
    status, message = labelled.values["status"].copy(), labelled.values["message"].copy()
    for i in map(int, np.flatnonzero(status == Status.OK)):
        norm = float(np.linalg.norm(labelled.atoms["force"][labelled.rows(i)]))
        if norm > max_force_norm:
            status[i] = Status.REJECTED
            message[i] = f"force norm {norm:.3g} hartree/angstrom is above max_force_norm {max_force_norm:g}"
            logger.warning("%s: rejected: %s", labelled.id[i], message[i])
    return labelled.with_columns(values={"status": status, "message": message})


def merge(
    conformations: ConformationSet, batches: Sequence[ConformationSet], *, max_force_norm: float | None = None
) -> ConformationSet:
    """The conformations with the labels of the batches filled in, in their own order.

    Args:
        max_force_norm: hartree/angstrom; a label with a larger norm over all atoms, wherever it comes from, is kept
            with status `REJECTED`.

    Raises:
        UserError: a conformation without a label is in no batch, or a batch is of another level of theory.
    """
    merged = unlabelled(conformations)
    place = {name: i for i, name in enumerate(merged.id)}
    force = merged.atoms["force"].copy()
    values = {name: merged.values[name].copy() for name in merged.values}
    names = (*LevelOfTheory("", "", "").attrs(), "program_version")
    attrs: dict[str, Any] = {name: merged.attrs[name] for name in names if name in merged.attrs}
    for part in batches:
        for name in names:
            if name in part.attrs and attrs.setdefault(name, part.attrs[name]) != part.attrs[name]:
                if name != "program_version":
                    raise UserError(f"label batches differ in {name}: {attrs[name]} and {part.attrs[name]}; run again")
                attrs[name] = "mixed"
        for j, name in enumerate(part.id):
            i = place[name]
            force[merged.rows(i)] = part.atoms["force"][part.rows(j)]
            for column in part.values:
                values[column][i] = part.values[column][j]
    merged = merged.with_columns(atoms={"force": force}, values=values, **(merged.attrs | attrs))
    left = pending(merged)
    if len(left):
        raise UserError(f"{len(left)} conformations are in no label batch (first: {merged.id[left[0]]}); run again")
    return merged if max_force_norm is None else _reject_large_forces(merged, max_force_norm)


def label_to_file(
    conformations: ConformationSet,
    output: str | Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    check: bool = False,
    attrs: Mapping[str, Any] | None = None,
    **pool: Any,
) -> ConformationSet:
    """Label conformations with a Psi4 pool and write them.

    An interrupted call goes on from `output`'s journal; labels in other journals beside it are used, too.

    Args:
        check: find out first whether the level can be computed for the elements at hand.
        pool: further settings of `golf.oracles.psi4.Psi4Oracle`.
        attrs: root attributes of the file.

    Raises:
        UserError: Psi4 is not found or does not start, or the check fails.
    """
    if len(conformations) == 0:
        labelled = unlabelled(conformations).with_columns(**level.attrs())
    else:
        n_workers = min(n_workers, len(conformations))
        with Psi4Oracle(level, n_workers=n_workers, **pool) as oracle:
            if check:
                oracle.check(sorted(set(conformations.number.tolist())))
            path = journal_path(output)
            with Journal(path, level, beside(path)) as journal, progress_bar(len(conformations), "labels") as advance:
                labelled = label(conformations, oracle, journal, progress=lambda _: advance())
    write(output, labelled, **(attrs or {}))
    return labelled


def journal_path(output: str | Path) -> Path:
    """The journal beside an output file."""
    return Path(output).with_suffix(SUFFIX)
