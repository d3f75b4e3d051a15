"""Labels for conformations: which ones are missing, how they are divided into batches, how a batch is labelled.

A batch is one job with a pool of oracle processes. Every finished label goes to the batch's journal at once; the HDF5
file is written when the batch is complete. The journals of the other batches are looked into as well, so that nothing
is paid for again when the input grows or is divided anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.conformations import ConformationSet, Status
from golf.costs import Basis, label_costs, members
from golf.deadline import Deadline, OutOfTime
from golf.errors import UserError
from golf.hdf5 import read, read_columns, write
from golf.journal import SUFFIX, Journal, beside
from golf.oracles.base import (
    LABEL_COLUMNS,
    NO_LABEL,
    ORIGIN_ATTRS,
    Label,
    LevelOfTheory,
    Oracle,
    Request,
    requests_from,
)
from golf.oracles.pool import OraclePool
from golf.oracles.spin import warn_of_spin
from golf.progress import progress_bar

logger = logging.getLogger(__name__)


def unlabelled(conformations: ConformationSet) -> ConformationSet:
    """A copy with empty label columns (NaN, `NOT_COMPUTED`) where it has none."""
    if "status" in conformations.values:
        return conformations
    return _with_labels(conformations, {})


def take_over_labels(
    conformations: ConformationSet, level: LevelOfTheory, source: str, relabel: Collection[str] = ()
) -> ConformationSet:
    """Keep the labels that came with the data, if they are of the configured level.

    Args:
        relabel: levels, such as "hf/sto-3g", whose labels are dropped so that all of them are computed anew.

    Raises:
        UserError: the labels are of another level of theory, which is not among those.
    """
    if "status" not in conformations.values:
        return unlabelled(conformations)
    labelled = conformations.values["status"] != Status.NOT_COMPUTED
    if not labelled.any():
        return conformations
    if level.matches(conformations.attrs):
        return conformations.with_columns(**level.attrs())  # spelled as all others are
    found = level_name(conformations.attrs)
    if found in {name.lower() for name in relabel}:
        logger.warning("%s: labels of %s are not used; all of it is computed at %s", source, found, level)
        return unlabelled(conformations.bare())
    program = ", ".join(
        str(conformations.attrs[name]) for name in ("program", "keywords") if name in conformations.attrs
    )
    raise UserError(
        f"{source}: labels are {found} ({program or 'the file does not say'}), the configured oracle is {level}; set "
        f"oracle to the level of the data, or name {found!r} in dataset.relabel to have all of it computed anew"
    )


def level_name(attrs: Mapping[str, Any]) -> str:
    """Method and basis that the root attributes of labels state, as `dataset.relabel` names them."""
    return f"{attrs['method']}/{attrs['basis']}".lower() if {"method", "basis"} <= attrs.keys() else "unknown"


def pending(conformations: ConformationSet) -> NDArray[np.int64]:
    """Indices of the conformations that have no label yet."""
    return np.flatnonzero(unlabelled(conformations).values["status"] == Status.NOT_COMPUTED)


def read_batch(path: str | Path, index: int, n_batches: int, basis: Basis) -> ConformationSet:
    """The pending conformations of one of `n_batches` batches of equal predicted time, the longest first.

    Every batch of a stage comes from the same division, whoever asks and when; a batch may be empty. Of the
    conformations of other batches nothing but elements and status is read.
    """
    left, costs = pending_costs(path, basis)
    return read(path, left[members(costs, index, n_batches)]).bare()


def pending_costs(path: str | Path, basis: Basis) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of a file's conformations without a label, and what each label costs (`golf.costs.label_costs`)."""
    columns, _ = read_columns(path, "atoms/number", "atoms/offset", "conformation/status")
    left = np.flatnonzero(_without_label(columns))
    return left, label_costs(columns["atoms/number"], columns["atoms/offset"], basis)[left]


def without_label(path: str | Path) -> NDArray[np.bool_]:
    """Which conformations of a file come without a label [N]."""
    columns, _ = read_columns(path, "atoms/offset", "conformation/status")
    return _without_label(columns)


def _without_label(columns: Mapping[str, NDArray]) -> NDArray[np.bool_]:
    n = len(columns["atoms/offset"]) - 1
    return columns.get("conformation/status", np.full(n, Status.NOT_COMPUTED)) == Status.NOT_COMPUTED


def label(
    conformations: ConformationSet,
    oracle: Oracle,
    journal: Journal,
    *,
    progress: Callable[[Label], None] | None = None,
) -> ConformationSet:
    """Energies and forces of all conformations, taken from the journal where it has them.

    A conformation that was lost with its process gets a second chance when all others are done.

    Args:
        progress: called with each new label as it comes.

    Returns:
        The conformations with the label columns of DESIGN section 3 and the level of theory as attributes.

    Raises:
        OutOfTime: not all could be done in the job's time; those that are done are in the journal.
    """
    requests = requests_from(conformations)
    same: dict[str, list[int]] = {}  # equal geometries are computed once
    labels: dict[int, Label] = {}
    missing = []
    for i, request in enumerate(requests):
        known = journal.get(request, oracle.limit(request))
        if known is None:
            same.setdefault(request.key(oracle.level), []).append(i)
            if same[request.key(oracle.level)] == [i]:
                missing.append(request)
        else:
            labels[i] = known
    if labels:
        logger.info("%d of %d labels were in journals beside %s", len(labels), len(requests), journal.path)
    try:
        for request, new in _streamed(oracle, missing, journal):
            for i in same[request.key(oracle.level)]:
                labels[i] = new
                if progress:
                    progress(new)
            if new.status != Status.OK:
                logger.warning("%s: no label: %s", request.id, new.message)
    except OutOfTime as error:
        raise OutOfTime(
            f"{journal.path}: time limit: {error}; {len(labels)} of {len(requests)} labels are done and kept, a retry "
            "or another run does the rest"
        ) from None
    return _with_labels(conformations, labels).with_columns(
        **oracle.level.attrs(), program_version=oracle.program_version
    )


def _streamed(oracle: Oracle, requests: list[Request], journal: Journal) -> Iterator[tuple[Request, Label]]:
    """Final labels as they come; all are written to the journal first."""
    crashed = []
    for request, label in oracle.stream(requests):
        journal.append(request, label)
        if label.status is Status.CRASHED:
            crashed.append(request)
        else:
            yield request, label
    for request, label in oracle.stream(crashed):
        journal.append(request, label)
        yield request, label


def _with_labels(conformations: ConformationSet, labels: dict[int, Label]) -> ConformationSet:
    values: dict[str, Any] = {
        name: [getattr(labels.get(i, NO_LABEL), name) for i in range(len(conformations))] for name in LABEL_COLUMNS
    }
    force = np.full(conformations.position.shape, np.nan)
    for i, one in labels.items():
        force[conformations.rows(i)] = one.forces
    return conformations.with_columns(atoms={"force": force}, values=values)


def with_labels_of(
    conformations: ConformationSet, labelled: ConformationSet, rows: NDArray[np.int64]
) -> ConformationSet:
    """Conformations with the labels that the same geometries have elsewhere.

    Args:
        labelled: with labels; their level becomes that of the result.
        rows: [N] index in `labelled` of each conformation; -1: it has no label yet.
    """
    known = {}
    for i, k in enumerate(rows.tolist()):
        if k >= 0 and labelled.values["status"][k] != Status.NOT_COMPUTED:
            columns = {name: labelled.values[name][k] for name in LABEL_COLUMNS if name in labelled.values}
            columns["status"] = Status(columns["status"])
            known[i] = Label(forces=labelled.atoms["force"][labelled.rows(k)], **columns)
    return _with_labels(conformations, known).with_columns(
        **{name: labelled.attrs[name] for name in ORIGIN_ATTRS if name in labelled.attrs}
    )


def label_to_file(
    conformations: ConformationSet,
    output: str | Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    check: bool = False,
    attrs: Mapping[str, Any] | None = None,
    deadline: Deadline | None = None,
    **pool: Any,
) -> ConformationSet:
    """Label conformations with a pool of oracle processes and write them.

    An interrupted call goes on from `output`'s journal; labels in other journals beside it are used, too.

    Args:
        check: find out first whether the level can be computed for the elements at hand.
        pool: further settings of `golf.oracles.pool.OraclePool`.
        attrs: root attributes of the file.
        deadline: of the job.

    Raises:
        UserError: the level's program is unknown, not found or does not start, or the check fails.
        OutOfTime: not all could be done before the deadline; those that are done are in the journal.
    """
    if len(conformations) == 0:
        labelled = unlabelled(conformations).with_columns(**level.attrs())
    else:
        n_workers = min(n_workers, len(conformations))
        with OraclePool(level, n_workers=n_workers, deadline=deadline, **pool) as oracle:
            if check:
                oracle.check(sorted(set(conformations.number.tolist())))
            path = journal_path(output)
            requests = requests_from(conformations)
            warn_of_spin(requests)
            wanted = {request.key(level) for request in requests}
            with Journal(path, level, beside(path), wanted, deadline) as journal:
                learn_from_journal(oracle, journal, requests)
                known = sum(journal.get(request, oracle.limit(request)) is not None for request in requests)
                with progress_bar(len(conformations), "labels", known) as advance:
                    labelled = label(conformations, oracle, journal, progress=lambda _: advance())
    write(output, labelled, **(attrs or {}))
    return labelled


def learn_from_journal(oracle: OraclePool, journal: Journal, requests: Sequence[Request]) -> None:
    """Let the times of labels in a journal set the time limits, and say which labels are not to be expected."""
    limits = oracle.limits
    if limits is None:
        return
    for request in requests:
        known = journal.get(request)
        if known is not None and known.status is Status.OK:
            limits.learn(request, known.wall_seconds)
    if beyond := limits.beyond(requests):
        request, seconds = beyond[0]
        logger.warning(
            "%d of %d conformations are predicted to take longer than oracle.time_limit allows (%s: %.0f s); raise it, "
            "or resources.label_threads, or leave these molecules out",
            len(beyond), len(requests), request.id, seconds,
        )  # fmt: skip


def journal_path(output: str | Path) -> Path:
    """The journal beside an output file."""
    return Path(output).with_suffix(SUFFIX)
