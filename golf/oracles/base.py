"""What every oracle speaks: requests in, labels out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from golf.conformations import ConformationSet, Status
from golf.oracles.programs import NO_BASIS

LEVEL_ATTRS = ("program", "method", "basis", "keywords")
"""Root attributes of a file of labels that state their level of theory."""

ORIGIN_ATTRS = (*LEVEL_ATTRS, "program_version")
"""Root attributes of a file of labels that say where these come from."""


@dataclass(frozen=True)
class LevelOfTheory:
    """Program, method, basis and keywords: what makes two labels comparable."""

    program: str
    method: str
    basis: str
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def attrs(self) -> dict[str, Any]:
        """HDF5 attributes that state the level."""
        return {
            "program": self.program,
            "method": _plain(self.method.lower()),
            "basis": self.basis.lower(),
            "keywords": json.dumps(dict(self.keywords), sort_keys=True),
        }

    def matches(self, attrs: Mapping[str, Any]) -> bool:
        """Whether a file with these root attributes holds labels of this level."""
        return not level_difference(self.attrs(), attrs)

    def __str__(self) -> str:
        return described(self.attrs())


def described(attrs: Mapping[str, Any]) -> str:
    """The level of theory that root attributes state, in words."""
    keywords = json.loads(attrs.get("keywords") or "{}")
    words = "".join(f", {name}={value}" for name, value in sorted(keywords.items()))
    version = f" {attrs['program_version']}" if "program_version" in attrs else ""
    basis = "" if attrs.get("basis") == NO_BASIS else f"/{attrs.get('basis')}"
    return f"{attrs.get('method')}{basis} ({attrs.get('program')}{version}{words})"


def level_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what the levels of theory that two files state differ first, in words; empty where they agree.

    d3(bj) is d3bj. What one of them does not state counts as a difference.
    """
    for name in LEVEL_ATTRS:
        found, wanted = one.get(name) or "", other.get(name) or ""
        if _plain(found) != _plain(wanted):
            return f"{name}: {found or 'not stated'} and {wanted or 'not stated'}"
    return ""


def _plain(value: Any) -> str:
    return str(value).replace("(bj)", "bj")


@dataclass(frozen=True)
class Request:
    """One conformation to compute."""

    id: str
    numbers: NDArray[np.uint8]  # [n]
    positions: NDArray[np.float64]  # [n, 3] angstrom
    charge: int
    multiplicity: int

    def key(self, level: LevelOfTheory) -> str:
        """Hash of geometry, charge, spin and level: equal keys have equal labels, whatever their ids."""
        digest = hashlib.sha256()
        digest.update(json.dumps(level.attrs(), sort_keys=True).encode())
        digest.update(f"{self.charge} {self.multiplicity}".encode())
        digest.update(np.ascontiguousarray(self.numbers, np.uint8).tobytes())
        digest.update(np.ascontiguousarray(self.positions, "<f8").tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Label:
    """What an oracle says of one conformation. Without `Status.OK` energy and forces are NaN; `message` says why."""

    energy: float  # hartree, total
    forces: NDArray[np.float64]  # [n, 3] hartree/angstrom
    status: Status = Status.OK
    message: str = ""
    wall_seconds: float = 0.0
    scf_iterations: int = 0
    recovery: str = ""

    @classmethod
    def failed(cls, n_atoms: int, status: Status, message: str, wall_seconds: float = 0.0) -> Label:
        """A label that could not be had."""
        return cls(np.nan, np.full((n_atoms, 3), np.nan), status, message, wall_seconds)


NO_LABEL = Label.failed(0, Status.NOT_COMPUTED, "")
"""What stands where nothing has been computed."""

LABEL_COLUMNS = tuple(column.name for column in fields(Label) if column.name != "forces")
"""Columns of conformations that hold their labels; the forces are with the atoms."""


def with_known_labels(
    conformations: ConformationSet, energies: NDArray[np.float64], forces: NDArray[np.float64], level: Mapping[str, Any]
) -> ConformationSet:
    """Conformations with labels that were computed elsewhere.

    Args:
        energies: [N] hartree, total; what is not finite counts as failed.
        forces: [A, 3] hartree/angstrom.
        level: the attributes that state the level of theory.
    """
    finite = np.all(np.isfinite(forces), axis=1)
    good = [bool(np.isfinite(energies[i]) and finite[conformations.rows(i)].all()) for i in range(len(conformations))]
    labels = [
        Label(energies[i], forces[conformations.rows(i)])
        if good[i]
        else Label.failed(0, Status.FAILED, "the data have no finite energy and forces for it")
        for i in range(len(conformations))
    ]
    values: dict[str, Any] = {name: [getattr(label, name) for label in labels] for name in LABEL_COLUMNS}
    return conformations.with_columns(atoms={"force": forces}, values=values, **level)


class Oracle(Protocol):
    """A source of energies and forces. `compute` may be called from several threads at once."""

    level: LevelOfTheory
    program_version: str
    n_workers: int

    def compute(self, request: Request) -> Label:
        """Energy and forces of one conformation; a failure is a label with a status, not an exception."""
        ...

    def limit(self, request: Request) -> float:
        """Seconds after which a conformation is given up."""
        ...

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Label]]:
        """Labels of many conformations, in the order in which they are finished."""
        ...


def requests_from(conformations: ConformationSet) -> list[Request]:
    """One request a conformation, in their order."""
    return [
        Request(
            id=conformations.id[i],
            numbers=conformations.number[conformations.rows(i)],
            positions=conformations.position[conformations.rows(i)],
            charge=int(conformations.charge[i]),
            multiplicity=int(conformations.multiplicity[i]),
        )
        for i in range(len(conformations))
    ]
