"""Merge the labels of all batches into one file.

Only the labels are in memory: the file of the conformations is copied as stored, and batches are read one at a time.
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


def merge_labels(
    conformations: str | Path,
    batches: Sequence[str | Path],
    output: str | Path,
    *,
    max_force_norm: float | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Write the conformations, in their order, with the labels of the batches filled in.

    Args:
        conformations: file of all conformations; its labels are kept, and their forces compared with `max_force_norm`.
        batches: files of labels, matched by id.
        max_force_norm: hartree/angstrom; a label with a larger norm over all atoms, of whatever origin, is kept with
            status `REJECTED`.
        attrs: root attributes of the output.

    Raises:
        UserError: a conformation without a label is not in any batch, a batch has another level of theory or unknown
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
    """The label columns of all conformations [N], their forces [A, 3] and the attributes of their origin."""

    def __init__(self, path: str | Path) -> None:
        names = ("atoms/offset", "atoms/force", "conformation/id", *(f"conformation/{name}" for name in LABEL_COLUMNS))
        columns, attrs = read_columns(path, *names)
        self._path = path
        self._id = columns["conformation/id"]
        self._place = {name: i for i, name in enumerate(self._id)}
        self._offset: NDArray[np.int64] = columns["atoms/offset"]
        columns.setdefault("atoms/force", np.full((self._offset[-1], 3), np.nan))
        for name in LABEL_COLUMNS:  # a file from elsewhere may have only energy, status and force
            columns.setdefault(f"conformation/{name}", as_column(name, [getattr(NO_LABEL, name)] * len(self._id)))
        self.force: NDArray[np.float64] = columns["atoms/force"]
        self.values = {name: columns[f"conformation/{name}"] for name in LABEL_COLUMNS}
        self.attrs: dict[str, Any] = {name: attrs[name] for name in ORIGIN_ATTRS if name in attrs}

    def fill_in(self, path: str | Path) -> None:
        """Take over the labels of a batch."""
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
        """Check that a batch's level agrees with the others so far, and record its program version."""
        stated = {name: attrs[name] for name in ORIGIN_ATTRS if name in attrs}
        difference = level_difference(stated | self.attrs, self.attrs | stated)
        if difference:
            raise UserError(f"label batches differ in {difference}; remove the batches and run again")
        versions = {source["program_version"] for source in (self.attrs, stated) if "program_version" in source}
        self.attrs |= stated | ({"program_version": "mixed"} if len(versions) > 1 else {})

    def check_complete(self) -> None:
        """Raise a UserError if a conformation has no label."""
        left = np.flatnonzero(self.values["status"] == Status.NOT_COMPUTED)
        if len(left):
            first = self._id[left[0]]
            raise UserError(f"{len(left)} conformations are not in any label batch (first: {first}); run again")

    def reject_large_forces(self, max_force_norm: float | None) -> None:
        """Set the status of every computed label by its force norm; labels rejected for other reasons stay so."""
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
    """Count the usable labels of a file without reading anything else of it."""
    return int((read_columns(path, "conformation/status")[0]["conformation/status"] == Status.OK).sum())
