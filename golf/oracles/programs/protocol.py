"""The interface of oracles: requests and the protocol `Oracle`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet
from golf.core.labels import Label
from golf.core.level import LevelOfTheory


@dataclass(frozen=True)
class Request:
    """One conformation to compute."""

    id: str
    numbers: NDArray[np.uint8]  # [n]
    positions: NDArray[np.float64]  # [n, 3] angstrom
    charge: int
    multiplicity: int

    def key(self, level: LevelOfTheory) -> str:
        """Return a hash of geometry, charge, spin and level: requests with equal keys have equal labels."""
        digest = hashlib.sha256()
        digest.update(json.dumps(level.attrs(), sort_keys=True).encode())
        digest.update(f"{self.charge} {self.multiplicity}".encode())
        digest.update(np.ascontiguousarray(self.numbers, np.uint8).tobytes())
        digest.update(np.ascontiguousarray(self.positions, "<f8").tobytes())
        return digest.hexdigest()[:32]


class Oracle(Protocol):
    """A source of energies and forces; `compute` may be called from several threads at once."""

    level: LevelOfTheory
    program_version: str
    n_workers: int

    def compute(self, request: Request) -> Label:
        """Compute energy and forces of one conformation; a failure is a label with a status, not an exception."""
        ...

    def limit(self, request: Request) -> float:
        """Return the time limit of a conformation, in seconds."""
        ...

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Label]]:
        """Yield the labels of many conformations, in the order in which they are finished."""
        ...


def requests_from(conformations: ConformationSet) -> list[Request]:
    """Return one request per conformation, in order."""
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
