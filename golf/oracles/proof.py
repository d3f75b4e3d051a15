"""Test an oracle: compare with a known energy at the default level, else compare its forces with its energies.

A program can run and still be wrong: Psi4 1.4 has wrong energies of wB97X-D, and a calculator may return forces that
are not the derivative of its energy. This is tested once in a study, before the first label.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.oracles.programs.protocol import Oracle, Request

KNOWN_LEVELS = tuple(LevelOfTheory(program, "wb97x-d", "def2-svp") for program in ("psi4", "pyscf"))
"""Levels at which ethanol's energy and forces are known."""

ETHANOL = (
    np.array([6, 6, 8, 1, 1, 1, 1, 1, 1], np.uint8),
    np.array(
        [
            [1.168181, -0.400382, 0.0],
            [0.0, 0.559462, 0.0],
            [-1.190083, -0.227669, 0.0],
            [-1.946623, 0.381525, 0.0],
            [0.042557, 1.207508, 0.886933],
            [0.042557, 1.207508, -0.886933],
            [2.115891, 0.1448, 0.0],
            [1.128599, -1.037234, 0.885881],
            [1.128599, -1.037234, -0.885881],
        ]
    ),
)
"""Atomic numbers [9] and positions [9, 3] in angstrom (G2 set, as in ASE)."""

ETHANOL_ENERGY = -154.875705282
"""hartree; by Psi4 1.3.2 and 1.5."""

ETHANOL_FORCE_NORM = 0.055042
"""hartree/angstrom; norm over all atoms, by Psi4 1.3.2."""

ENERGY_TOLERANCE = 1e-4
"""hartree; Psi4 1.3.2 is within 3.3e-5 of labels made with 1.5, PySCF within 2.6e-5 of Psi4."""

FORCE_TOLERANCE = 5e-4
"""hartree/angstrom."""

# Molecules for the sets of elements that calculators cover; distorted, so that forces are large.
_TRIED = (
    (np.array([8, 1, 1], np.uint8), np.array([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.1, -0.7, -0.6]])),
    (
        np.array([6, 1, 1, 1, 1], np.uint8),
        np.array([[0.0, 0.0, 0.0], [0.65, 0.63, 0.6], [-0.6, -0.63, 0.63], [-0.63, 0.6, -0.65], [0.63, -0.6, -0.63]]),
    ),
    (np.array([1, 1], np.uint8), np.array([[0.0, 0.0, 0.0], [0.1, 0.3, 0.75]])),
)
"""Atomic numbers [n] and positions [n, 3] in angstrom of water, methane and hydrogen."""

STEP = 0.05
"""angstrom, over all atoms; long enough for energies in single precision, with an error of Simpson's rule of 1e-5
hartree/angstrom."""


def prove(oracle: Oracle, covered: Collection[int]) -> str:
    """Compare an oracle with the known label of its level, or its forces with its energies; describe the result.

    Args:
        covered: atomic numbers that the level covers.

    Raises:
        UserError: the oracle is wrong, with the numbers in the message, or it fails for a small molecule.
    """
    if any(known.matches(oracle.level.attrs()) for known in KNOWN_LEVELS):
        return _known_molecule(oracle)
    return _forces_are_the_derivative(oracle, covered)


def _known_molecule(oracle: Oracle) -> str:
    label = _label(oracle, "ethanol", *ETHANOL)
    off = abs(label.energy - ETHANOL_ENERGY)
    norm = float(np.linalg.norm(label.forces))
    found = f"ethanol {label.energy:.6f} hartree and {norm:.5f} hartree/angstrom (norm of its forces)"
    known = f"correct are {ETHANOL_ENERGY:.6f} and {ETHANOL_FORCE_NORM:.5f}"
    if not (off <= ENERGY_TOLERANCE and abs(norm - ETHANOL_FORCE_NORM) <= FORCE_TOLERANCE):
        raise UserError(
            f"oracle.method {oracle.level.method!r}: {oracle.level.program} {oracle.program_version} computes {found}; "
            f"{known}; install another version"
        )
    return f"{found}; {known}"


def _forces_are_the_derivative(oracle: Oracle, covered: Collection[int]) -> str:
    """Compare the energy difference along a short straight path with the work of the forces, by Simpson's rule."""
    numbers, positions = next((one for one in _TRIED if set(one[0].tolist()) <= set(covered)), _TRIED[-1])
    middle = _label(oracle, "a small molecule", numbers, positions)
    direction = _direction(middle.forces)
    start, end = (_label(oracle, "a small molecule", numbers, positions + k * STEP * direction) for k in (-1, 1))
    along = [float((label.forces * direction).sum()) for label in (start, middle, end)]
    by_forces = (along[0] + 4 * along[1] + along[2]) / 6
    by_energy = -(end.energy - start.energy) / (2 * STEP)
    found = (
        f"mean force along a path of {2 * STEP:g} angstrom: {by_energy:.5f} hartree/angstrom from the energies, "
        f"{by_forces:.5f} from the forces"
    )
    if not abs(by_forces - by_energy) <= FORCE_TOLERANCE:
        raise UserError(
            f"oracle.method {oracle.level.method!r}: the forces are not the derivative of the energy ({found}, more "
            f"than {FORCE_TOLERANCE:g} apart); choose another method, or fix the calculator"
        )
    return found


def _direction(forces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a direction of length 1 [n, 3] close to that of the forces, with a component along every coordinate."""
    everywhere = np.cos(1.0 + 2.0 * np.arange(forces.size)).reshape(forces.shape)
    direction = forces / max(float(np.linalg.norm(forces)), 1e-6) + everywhere / (2 * np.linalg.norm(everywhere))
    return direction / np.linalg.norm(direction)


def _label(oracle: Oracle, name: str, numbers: NDArray[np.uint8], positions: NDArray[np.float64]) -> Label:
    label = oracle.compute(Request(name, numbers, positions, 0, 1))
    if label.status is not Status.OK:
        raise UserError(
            f"oracle.method {oracle.level.method!r}: the test with {name} fails: {label.message}; choose another "
            "method, or raise oracle.time_limit"
        )
    return label
