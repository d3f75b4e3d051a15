"""The labels of all batches in one file.

Only what batches change is in memory, the labels: the file of the conformations is copied as it is stored, and the
batches are read one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import Status, as_column
from golf.core.errors import UserError
from golf.core.hdf5 import read_columns, rewrite
from golf.core.labels import LABEL_COLUMNS, NO_LABEL
from golf.core.level import ORIGIN_ATTRS, level_difference

logger = logging.getLogger(__name__)

_TOO_LARGE = "force norm"


def merge(
    conformations: str | Path,
    batches: Sequence[str | Path],
    output: str | Path,
    *,
    max_force_norm: float | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Write the conformations with the labels of the batches filled in, in their own order.

    Args:
        conformations: file of all conformations; labels that it has are kept, those of too large forces judged
            anew.
        batches: files of labels, matched by id.
        max_force_norm: hartree/angstrom; a label with a larger norm over all atoms, wherever it comes from, is kept
            with status `REJECTED`.
        attrs: root attributes of the output.

    Raises:
        UserError: a conformation without a label is in no batch, a batch is of another level of theory or of other
            conformations, or a file cannot be read.
    """
    labels = _Labels(conformations)
    for path in batches:
        labels.fill_in(path)
    labels.check_complete()
    labels.reject_large_forces(max_force_norm)
    stamp = labels.attrs | dict(attrs or {})
    rewrite(conformations, output, atoms={"force": labels.force}, values=labels.values, **stamp)


class _Labels:
    """The label columns of all conformations [N], their forces [A, 3] and what computed them."""

    def __init__(self, path: str | Path) -> None:
        names = ("atoms/offset", "atoms/force", "conformation/id", *(f"conformation/{name}" for name in LABEL_COLUMNS))
        columns, attrs = read_columns(path, *names)
        self._path = path
        self._id = columns["conformation/id"]
        self._place = {name: i for i, name in enumerate(self._id)}
        self._offset: NDArray[np.int64] = columns["atoms/offset"]
        columns.setdefault("atoms/force", np.full((self._offset[-1], 3), np.nan))
        for name in LABEL_COLUMNS:  # a file of others may state energy, status and force alone
            columns.setdefault(f"conformation/{name}", as_column(name, [getattr(NO_LABEL, name)] * len(self._id)))
        self.force: NDArray[np.float64] = columns["atoms/force"]
        self.values = {name: columns[f"conformation/{name}"] for name in LABEL_COLUMNS}
        self.attrs: dict[str, Any] = {name: attrs[name] for name in ORIGIN_ATTRS if name in attrs}

    def fill_in(self, path: str | Path) -> None:
        names = ("atoms/offset", "atoms/force", "conformation/id", *(f"conformation/{name}" for name in self.values))
        part, attrs = read_columns(path, *names)
        self._agree(attrs)
        ids, offset = part["conformation/id"], part["atoms/offset"]
        unknown = [name for name in ids if name not in self._place]
        if unknown:
            raise UserError(f"{path}: {unknown[0]} is not in {self._path}; remove the file and run again")
        rows = np.array([self._place[name] for name in ids], dtype=np.int64)
        for name, column in self.values.items():
            column[rows] = part[f"conformation/{name}"]
        for j, i in enumerate(rows):
            self.force[self._offset[i] : self._offset[i + 1]] = part["atoms/force"][offset[j] : offset[j + 1]]

    def _agree(self, attrs: Mapping[str, Any]) -> None:
        """Hold a batch's level and program against those so far."""
        stated = {name: attrs[name] for name in ORIGIN_ATTRS if name in attrs}
        difference = level_difference(stated | self.attrs, self.attrs | stated)
        if difference:
            raise UserError(f"label batches differ in {difference}; run again")
        versions = {source["program_version"] for source in (self.attrs, stated) if "program_version" in source}
        self.attrs |= stated | ({"program_version": "mixed"} if len(versions) > 1 else {})

    def check_complete(self) -> None:
        left = np.flatnonzero(self.values["status"] == Status.NOT_COMPUTED)
        if len(left):
            first = self._id[left[0]]
            raise UserError(f"{len(left)} conformations are in no label batch (first: {first}); run again")

    def reject_large_forces(self, max_force_norm: float | None) -> None:
        """Give every label that was computed the status that this norm gives it; what others rejected stays so."""
        status, message = self.values["status"], self.values["message"]
        for i in map(int, np.flatnonzero((status == Status.OK) | (status == Status.REJECTED))):
            if status[i] == Status.REJECTED and not str(message[i]).startswith(_TOO_LARGE):
                continue
            norm = float(np.linalg.norm(self.force[self._offset[i] : self._offset[i + 1]]))
            if max_force_norm is not None and norm > max_force_norm:
                status[i] = Status.REJECTED
                message[i] = f"{_TOO_LARGE} {norm:.3g} hartree/angstrom is above max_force_norm {max_force_norm:g}"
                logger.warning("%s: rejected: %s", self._id[i], message[i])
            elif status[i] == Status.REJECTED:
                status[i], message[i] = Status.OK, ""


def n_labelled(path: str | Path) -> int:
    """Count the usable labels of a file, of which nothing else is read."""
    return int((read_columns(path, "conformation/status")[0]["conformation/status"] == Status.OK).sum())
