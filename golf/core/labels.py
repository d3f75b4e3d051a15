"""Labels: energies and forces of conformations, stored as columns."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Status
from golf.core.errors import UserError
from golf.core.hdf5 import read_columns
from golf.core.level import ORIGIN_ATTRS, LevelOfTheory, level_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Label:
    """Energy and forces that an oracle gives one conformation.

    If the status is not `Status.OK`, energy and forces are NaN and `message` says why.
    """

    energy: float  # hartree, total
    forces: NDArray[np.float64]  # [n, 3] hartree/angstrom
    status: Status = Status.OK
    message: str = ""
    wall_seconds: float = 0.0
    scf_iterations: int = 0
    recovery: str = ""

    @classmethod
    def failed(cls, n_atoms: int, status: Status, message: str, wall_seconds: float = 0.0) -> Label:
        """Return a label without energy and forces, of a computation that failed."""
        return cls(np.nan, np.full((n_atoms, 3), np.nan), status, message, wall_seconds)


NO_LABEL = Label.failed(0, Status.NOT_COMPUTED, "")
"""Label of a conformation for which nothing has been computed."""

LABEL_COLUMNS = tuple(column.name for column in fields(Label) if column.name != "forces")
"""Columns of conformations that hold their labels; forces are a column of the atoms."""


def with_known_labels(
    conformations: ConformationSet, energies: NDArray[np.float64], forces: NDArray[np.float64], level: Mapping[str, Any]
) -> ConformationSet:
    """Attach labels that were computed elsewhere.

    Args:
        energies: [N] hartree, total energies; a label that is not finite counts as failed.
        forces: [A, 3] hartree/angstrom.
        level: attributes that state the level of theory.
    """
    finite = np.all(np.isfinite(forces), axis=1)
    good = [bool(np.isfinite(energies[i]) and finite[conformations.rows(i)].all()) for i in range(len(conformations))]
    labels = [
        Label(energies[i], forces[conformations.rows(i)])
        if good[i]
        else Label.failed(0, Status.FAILED, "its energy or forces in the data are not finite")
        for i in range(len(conformations))
    ]
    values: dict[str, Any] = {name: [getattr(label, name) for label in labels] for name in LABEL_COLUMNS}
    return conformations.with_columns(atoms={"force": forces}, values=values, **level)


def unlabelled(conformations: ConformationSet) -> ConformationSet:
    """Add empty label columns (NaN, `NOT_COMPUTED`) if there are none."""
    if "status" in conformations.values:
        return conformations
    return with_labels(conformations, {})


def take_over_labels(
    conformations: ConformationSet, level: LevelOfTheory, source: str, relabel: Collection[str] = ()
) -> ConformationSet:
    """Keep the labels that come with the data, if they are of the configured level.

    Args:
        source: name of the data, for messages.
        relabel: levels, such as "hf/sto-3g", whose labels are dropped so that all conformations are labelled again.

    Raises:
        UserError: the labels are of another level of theory, which is not in `relabel`.
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
        logger.warning("%s: labels of %s are not used; all conformations are labelled at %s", source, found, level)
        return unlabelled(conformations.bare())
    program = ", ".join(
        str(conformations.attrs[name]) for name in ("program", "keywords") if name in conformations.attrs
    )
    raise UserError(
        f"{source}: labels are {found} ({program or 'program not stated'}), the configured oracle is {level}; set "
        f"oracle to the level of the data, or add {found!r} to dataset.relabel to label all conformations again"
    )


def pending(conformations: ConformationSet) -> NDArray[np.int64]:
    """Return the indices of the conformations that have no label yet."""
    return np.flatnonzero(unlabelled(conformations).values["status"] == Status.NOT_COMPUTED)


def without_label(path: str | Path) -> NDArray[np.bool_]:
    """Read which conformations of a file have no label, as a mask [N]."""
    columns, _ = read_columns(path, "atoms/offset", "conformation/status")
    return lacking_label(columns)


def lacking_label(columns: Mapping[str, NDArray]) -> NDArray[np.bool_]:
    """Return which conformations have no label, as a mask [N], from the columns `atoms/offset` and `status`."""
    n = len(columns["atoms/offset"]) - 1
    return columns.get("conformation/status", np.full(n, Status.NOT_COMPUTED)) == Status.NOT_COMPUTED


def with_labels(conformations: ConformationSet, labels: dict[int, Label]) -> ConformationSet:
    """Set the label columns from labels by index; conformations without one get `NO_LABEL` and NaN forces."""
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
    """Attach the labels that the same geometries have in another set.

    Args:
        labelled: set with labels; its level of theory becomes that of the result.
        rows: [N] index in `labelled` of each conformation; -1 if it has no label yet.
    """
    known = {}
    for i, k in enumerate(rows.tolist()):
        if k >= 0 and labelled.values["status"][k] != Status.NOT_COMPUTED:
            columns = {name: labelled.values[name][k] for name in LABEL_COLUMNS if name in labelled.values}
            columns["status"] = Status(columns["status"])
            known[i] = Label(forces=labelled.atoms["force"][labelled.rows(k)], **columns)
    return with_labels(conformations, known).with_columns(
        **{name: labelled.attrs[name] for name in ORIGIN_ATTRS if name in labelled.attrs}
    )


def labelled_indices(conformations: ConformationSet) -> np.ndarray:
    """Return the indices of the conformations whose label is `Status.OK`; none if there are no labels."""
    if "status" not in conformations.values or "force" not in conformations.atoms:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.asarray(conformations.values["status"]) == Status.OK)
