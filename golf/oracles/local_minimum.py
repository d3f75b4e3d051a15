"""Estimate how far an end of a relaxation is above its local minimum, from its gradient and the Hessian of GFN2-xTB.

At a distance dx from a minimum the gradient is g = H dx and the energy above the minimum 1/2 g^T H^-1 g. The gradient
is the oracle's, which a label has anyway. The Hessian is that of GFN2-xTB, so that the estimate costs no further label.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import Status
from golf.core.deadline import Deadline, OutOfTime
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.files import written_whole
from golf.core.labels import Label
from golf.core.level import NO_BASIS, LevelOfTheory
from golf.core.motions import internal_motions
from golf.core.units import hartree
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Oracle, Request

logger = logging.getLogger(__name__)

CHEAP_LEVEL = LevelOfTheory("ase", "tblite:GFN2-xTB", NO_BASIS)
"""Level of the Hessians."""

STEP = 0.005
"""angstrom; displacement of each coordinate to either side. Errors of differences of GFN2-xTB's forces are smallest
between 0.002 and 0.02 angstrom, where a Hessian changes by less than 0.1 %."""

FLOOR = hartree(2.0)
"""hartree/angstrom^2; smaller eigenvalues, and negative ones by their magnitude, are raised to it."""

VALID_BELOW = hartree(1.0)
"""hartree; larger estimates say only that the end is not close to a minimum."""


def energy_above_minimum(
    positions: NDArray[np.float64],
    forces: NDArray[np.float64],
    hessian: NDArray[np.float64],
    *,
    floor: float = FLOOR,
) -> float:
    """Estimate the energy above the local minimum, 1/2 g^T H^-1 g, in hartree.

    Translations and rotations are projected out. Eigenvalues of the Hessian are replaced by max(|eigenvalue|, floor):
    along a soft or a falling mode the quadratic form would otherwise give any number.

    Args:
        positions: [n, 3] angstrom.
        forces: [n, 3] hartree/angstrom, of the method whose minimum is meant.
        hessian: [3n, 3n] hartree/angstrom^2, of any method whose curvatures are similar.
        floor: hartree/angstrom^2.
    """
    basis = internal_motions(positions)
    values, modes = np.linalg.eigh(basis.T @ hessian @ basis)
    along = modes.T @ (basis.T @ forces.ravel())
    return float(0.5 * np.sum(along**2 / np.maximum(np.abs(values), floor)))


def hessian_by_differences(request: Request, labels: Sequence[Label]) -> NDArray[np.float64] | None:
    """Return the symmetric Hessian [3n, 3n] (hartree/angstrom^2), or None if a label failed.

    Args:
        labels: of `displaced(request)`, in this order.
    """
    if any(label.status is not Status.OK for label in labels):
        return None
    forces = np.array([label.forces.ravel() for label in labels])
    rows = (forces[1::2] - forces[::2]) / (2.0 * STEP)
    return 0.5 * (rows + rows.T)


def displaced(request: Request) -> Iterator[Request]:
    """Yield the 6n geometries with one coordinate moved by `STEP`, forward and backward in turn."""
    for k in range(3 * len(request.numbers)):
        for step in (STEP, -STEP):
            positions = request.positions.copy()
            positions.flat[k] += step
            yield dataclasses.replace(request, positions=positions)


@dataclasses.dataclass(frozen=True)
class Hessians:
    """Hessians of conformations at their geometries.

    Attributes:
        of: [3n, 3n] hartree/angstrom^2 by the index of the conformation; those without one are absent.
        reasons: why conformations have none, by index.
    """

    of: dict[int, NDArray[np.float64]]
    reasons: dict[int, str]


def hessians(
    requests: Sequence[Request],
    *,
    n_workers: int,
    level: LevelOfTheory = CHEAP_LEVEL,
    folder: Path | None = None,
    deadline: Deadline | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Hessians:
    """Compute Hessians with a pool of processes; `Hessians.reasons` tells why others are missing.

    Args:
        level: of the Hessians.
        folder: where finished Hessians are kept, one file each, so that another run finds them; None: nowhere.
        advance: called after each Hessian.

    Raises:
        OutOfTime: the job's time is up; finished Hessians are in the folder.
    """
    found, reasons, name = dict[int, NDArray[np.float64]](), dict[int, str](), level.method.rpartition(":")[2]
    missing = []
    for i, request in enumerate(requests):
        known = None if folder is None else _stored(_path(folder, request, level), 3 * len(request.numbers))
        if known is None:
            missing.append(i)
        else:
            found[i] = known
            advance()
    if not missing:
        return Hessians(found, reasons)
    try:
        pool = OraclePool(level, n_workers=n_workers, time_limit=600.0, deadline=deadline)
    except UserError as error:
        return Hessians(found, dict.fromkeys(missing, f"no {name}: {error}"))
    with pool as oracle:
        numbers = sorted({int(number) for i in missing for number in requests[i].numbers})
        try:
            covered = set(oracle.basis(numbers).functions)
        except UserError:  # none of them
            covered = set()
        for i in missing:
            foreign = sorted(set(requests[i].numbers.tolist()) - covered)
            if foreign:
                reasons[i] = f"{name} has no parameters of {' '.join(SYMBOLS[number] for number in foreign)}"
            else:
                try:
                    hessian = _computed(requests[i], oracle)
                except OutOfTime as error:
                    kept = "" if folder is None else f" and kept in {folder}"
                    done = f"{len(found)} of {len(requests)} Hessians are done{kept}"
                    raise OutOfTime(f"time limit: {error}; {done}; run again for the rest") from None
                if hessian is None:
                    reasons[i] = f"{name} does not converge there"
                else:
                    found[i] = hessian
                    if folder is not None:
                        with written_whole(_path(folder, requests[i], level)) as temporary:
                            np.save(temporary, hessian)
            advance()
    return Hessians(found, reasons)


def write_hessians(path: str | Path, found: Mapping[int, NDArray[np.float64]]) -> None:
    """Write Hessians by the index of their conformation, for `read_hessians`."""
    with written_whole(path) as temporary:
        arrays: dict[str, Any] = {str(i): hessian for i, hessian in found.items()}
        np.savez(temporary, **arrays)


def read_hessians(path: str | Path) -> dict[int, NDArray[np.float64]]:
    """Read the file of `write_hessians`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with np.load(path) as stored:
            return {int(name): stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        raise UserError(f"{path}: damaged; remove it, and it will be computed again") from None


def _computed(request: Request, oracle: Oracle) -> NDArray[np.float64] | None:
    wanted = list(displaced(request))
    place = {id(one): k for k, one in enumerate(wanted)}
    labels: list[Label | None] = [None] * len(wanted)
    for one, label in oracle.stream(wanted):
        labels[place[id(one)]] = label
    return hessian_by_differences(request, [label for label in labels if label is not None])


def _path(folder: Path, request: Request, level: LevelOfTheory) -> Path:
    return folder / f"{request.key(level)}.npy"


def _stored(path: Path, size: int) -> NDArray[np.float64] | None:
    """Return a Hessian of an earlier run; None if there is none, or its file is damaged."""
    try:
        stored = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return stored if stored.shape == (size, size) else None
