"""Label conformations in batches.

A batch is one job with a pool of oracle processes. Every finished label is written to the batch's journal at once; the
HDF5 file is written when the batch is complete. The journals of the other batches are read as well, so that no label is
computed twice when the input grows or is divided into other batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Status
from golf.core.deadline import Deadline, OutOfTime
from golf.core.hdf5 import read, read_columns, write
from golf.core.labels import Label, lacking_label, unlabelled, with_labels
from golf.core.level import LevelOfTheory
from golf.core.progress import progress_bar
from golf.oracles.costs import Basis, label_costs, members
from golf.oracles.journal import SUFFIX, Journal, beside
from golf.oracles.programs.pool import OraclePool, PoolSettings
from golf.oracles.programs.protocol import Oracle, Request, requests_from
from golf.oracles.spin import warn_of_spin

logger = logging.getLogger(__name__)


def read_batch(path: str | Path, index: int, n_batches: int, basis: Basis) -> ConformationSet:
    """Read the unlabelled conformations of one of `n_batches` batches of equal predicted time, the longest first.

    All batches of a stage come from the same division, on any machine and at any time; a batch may be empty. Of the
    conformations of other batches only elements and status are read.
    """
    left, costs = pending_costs(path, basis)
    return read(path, left[members(costs, index, n_batches)]).bare()


def pending_costs(path: str | Path, basis: Basis) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of a file's conformations without a label, and their costs (`label_costs`)."""
    columns, _ = read_columns(path, "atoms/number", "atoms/offset", "conformation/status")
    left = np.flatnonzero(lacking_label(columns))
    return left, label_costs(columns["atoms/number"], columns["atoms/offset"], basis)[left]


def label(
    conformations: ConformationSet,
    oracle: Oracle,
    journal: Journal,
    *,
    progress: Callable[[Label], None] | None = None,
) -> ConformationSet:
    """Label all conformations; labels that the journal has are not computed again.

    A conformation whose process crashed is tried once more after all others.

    Args:
        progress: called with each new label.

    Returns:
        The conformations with the columns `golf.core.labels.LABEL_COLUMNS`, forces, and the level of theory as
        attributes.

    Raises:
        OutOfTime: the job's time ended before all labels were done; the finished ones are in the journal.
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
        logger.info("%d of %d labels were found in the journals beside %s", len(labels), len(requests), journal.path)
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
            f"{journal.path}: time limit: {error}; {len(labels)} of {len(requests)} labels are done and kept; run "
            "again for the rest"
        ) from None
    return with_labels(conformations, labels).with_columns(
        **oracle.level.attrs(), program_version=oracle.program_version
    )


def _streamed(oracle: Oracle, requests: list[Request], journal: Journal) -> Iterator[tuple[Request, Label]]:
    """Yield final labels as they are finished; every label is written to the journal first."""
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


def label_to_file(
    conformations: ConformationSet,
    output: str | Path,
    *,
    level: LevelOfTheory,
    n_workers: int,
    check: bool = False,
    attrs: Mapping[str, Any] | None = None,
    deadline: Deadline | None = None,
    **pool: Unpack[PoolSettings],
) -> ConformationSet:
    """Label conformations with a pool of oracle processes and write them to a file.

    After an interruption it resumes from `output`'s journal; labels in other journals beside it are used as well.

    Args:
        check: test first whether the level can be computed for the elements of the conformations.
        pool: further settings of `golf.oracles.programs.pool.OraclePool`.
        attrs: root attributes of the file.
        deadline: time limit of the job.

    Raises:
        UserError: the level's program is unknown, not found or does not start, or the check fails.
        OutOfTime: the deadline came before all labels were done; the finished ones are in the journal.
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
    """Adjust the time limits to the times of labels in a journal, and warn of labels that will exceed them."""
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
    """Return the path of the journal beside an output file."""
    return Path(output).with_suffix(SUFFIX)
