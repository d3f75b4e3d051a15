"""Harmonic vibrations of molecules, their free energies in the RRHO and quasi-RRHO approximations, Boltzmann weights.

Free energies are those of an ideal gas: translation, a rigid rotor in the classical limit, and harmonic oscillators
(RRHO). The entropy of a harmonic oscillator diverges for small frequencies. In the quasi-RRHO approximation of Grimme,
Chem. Eur. J. 18, 9955 (2012), the entropy of a mode of frequency nu is therefore

    S = w S_oscillator + (1 - w) S_rotor,  w = 1 / (1 + (nu_0 / nu)^4),  nu_0 = 100 / cm

    S_rotor = k (1/2 + ln sqrt(8 pi^3 mu' k T / h^2)),  mu' = mu B / (mu + B),  mu = h / (8 pi^2 nu),  B = 1e-44 kg m^2

and enthalpies are those of RRHO. Tests compare everything with `ase.vibrations` and `ase.thermochemistry`.

Units are hartree, angstrom, kelvin, 1/cm and atomic mass units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golf.core.elements import MASSES
from golf.core.motions import internal_motions
from golf.core.units import BOHR_IN_ANGSTROM

BOLTZMANN = 3.1668115634556e-6
"""Hartree/kelvin, CODATA 2018."""

HARTREE_IN_PER_CM = 219474.6313632
"""CODATA 2018."""

ELECTRON_MASS = 5.48579909065e-4
"""Atomic mass units, CODATA 2018."""

ATMOSPHERE = 101325.0 / 2.9421015697e13
"""1 atm in hartree/bohr^3."""

IMAGINARY = 40.0
"""Imaginary frequencies up to this (1/cm) are noise and count as real. Where a relaxation stops at forces of 0.1
kcal/mol/angstrom, they leave the curvature along a rotation about an axis undetermined by force / radius: for hydrogen
at 1 angstrom this is 34/cm, less for heavier groups. (xtb's limit is 20/cm, for tighter optimizations.)"""

LINEAR = 1e-4
"""Share of the smallest moment of inertia in the largest below which a molecule is linear: 2 degrees in CO2, while
molecules that are linear but for their methyl groups have shares above 1e-3."""

INTERPOLATION = 100.0
"""nu_0 in 1/cm."""

ROTOR_INERTIA = 1e-44 / 1.66053906660e-27 * 1e20
"""B in amu angstrom^2."""

SMALLEST = 1.0
"""Frequencies below this (1/cm) count as this, so that no entropy is infinite."""


@dataclass(frozen=True)
class Vibrations:
    """Harmonic vibrations of a molecule.

    Attributes:
        frequencies: [m] 1/cm, ascending; those of imaginary modes are negative.
        motions: [m, n, 3] displacements of the atoms, of unit length.
    """

    frequencies: NDArray[np.float64]
    motions: NDArray[np.float64]

    @property
    def n_imaginary(self) -> int:
        """Number of imaginary modes beyond `IMAGINARY`."""
        return int((self.frequencies < -IMAGINARY).sum())


def vibrations(
    numbers: NDArray[np.integer], positions: NDArray[np.float64], hessian: NDArray[np.float64]
) -> Vibrations:
    """Compute the vibrations of a molecule; translations and rotations are projected out.

    Args:
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom, where the forces vanish.
        hessian: [3 n, 3 n] hartree/angstrom^2.
    """
    roots = np.repeat(np.sqrt(_masses(numbers)), 3)  # [3 n]
    internal = _internal(numbers, positions)  # [3 n, m]
    weighted = hessian / roots[:, None] / roots
    eigenvalues, modes = np.linalg.eigh(internal.T @ (0.5 * (weighted + weighted.T)) @ internal)
    motions = (internal @ modes / roots[:, None]).T  # [m, 3 n]
    motions = motions / np.linalg.norm(motions, axis=1, keepdims=True)
    to_atomic_units = BOHR_IN_ANGSTROM**2 * ELECTRON_MASS
    frequencies = np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues) * to_atomic_units) * HARTREE_IN_PER_CM
    return Vibrations(frequencies, motions.reshape(len(frequencies), len(numbers), 3))


@dataclass(frozen=True)
class Thermochemistry:
    """Thermal corrections to the energy of a molecule, and its entropies.

    Attributes:
        zero_point: hartree, energy of the vibrations at 0 K.
        enthalpy: hartree, including `zero_point`.
        entropy: hartree/kelvin, RRHO.
        quasi_entropy: hartree/kelvin, quasi-RRHO.
        temperature: kelvin.
    """

    zero_point: float
    enthalpy: float
    entropy: float
    quasi_entropy: float
    temperature: float

    @property
    def rrho(self) -> float:
        """Free energy minus electronic energy in hartree, RRHO."""
        return self.enthalpy - self.temperature * self.entropy

    @property
    def quasi_rrho(self) -> float:
        """Free energy minus electronic energy in hartree, quasi-RRHO."""
        return self.enthalpy - self.temperature * self.quasi_entropy


def thermochemistry(
    numbers: NDArray[np.integer],
    positions: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    temperature: float,
    *,
    multiplicity: int = 1,
    symmetry_number: int = 1,
    rotor_inertia: float = ROTOR_INERTIA,
) -> Thermochemistry:
    """Compute the thermal corrections of a molecule at a minimum as an ideal gas at 1 atm.

    Args:
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom.
        frequencies: [m] 1/cm, those of `vibrations`; the absolute values of small imaginary ones are used.
        temperature: kelvin.
        multiplicity: spin multiplicity.
        symmetry_number: number of equal orientations.
        rotor_inertia: B of the quasi-RRHO approximation, amu angstrom^2.
    """
    thermal = BOLTZMANN * temperature
    quanta = np.maximum(np.abs(frequencies), SMALLEST) / HARTREE_IN_PER_CM  # [m] hartree
    x = quanta / thermal
    occupied = x / np.expm1(x)
    oscillators = occupied - np.log(-np.expm1(-x))  # [m] in units of k
    inertia = 0.5 / quanta * ELECTRON_MASS * BOHR_IN_ANGSTROM**2  # h / (8 pi^2 nu) = hbar^2 / (2 h nu), amu angstrom^2
    effective = inertia * rotor_inertia / (inertia + rotor_inertia)
    rotors = 0.5 + 0.5 * np.log(2.0 * np.pi * _thermal_inertia(effective, thermal))
    share = 1.0 / (1.0 + (INTERPOLATION / (quanta * HARTREE_IN_PER_CM)) ** 4)
    rest = _translation(numbers, thermal) + math.log(multiplicity)
    rotational_energy, rotation = _rotation(numbers, positions, thermal, symmetry_number)
    zero_point = 0.5 * float(quanta.sum())
    return Thermochemistry(
        zero_point,
        zero_point + thermal * (2.5 + rotational_energy + float(occupied.sum())),
        BOLTZMANN * (rest + rotation + float(oscillators.sum())),
        BOLTZMANN * (rest + rotation + float((share * oscillators + (1.0 - share) * rotors).sum())),
        temperature,
    )


def boltzmann_weights(
    molecules: Sequence[str], free_energies: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """Return the weight [N] of each conformer among those of its molecule; NaN where there is no free energy.

    Args:
        molecules: [N] name of each conformer's molecule.
        free_energies: [N] hartree.
        temperature: kelvin.
    """
    weights = np.full(len(free_energies), np.nan)
    groups: dict[str, list[int]] = {}
    for i in np.flatnonzero(np.isfinite(free_energies)).tolist():
        groups.setdefault(molecules[i], []).append(i)
    for rows in groups.values():
        above = free_energies[rows] - free_energies[rows].min()
        factors = np.exp(-above / (BOLTZMANN * temperature))
        weights[rows] = factors / factors.sum()
    return weights


def is_linear(numbers: NDArray[np.integer], positions: NDArray[np.float64]) -> bool:
    """Tell whether a molecule of at least two atoms is linear."""
    moments = _moments(numbers, positions)
    return bool(moments[0] < LINEAR * moments[2])


def _masses(numbers: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.array([MASSES[int(z)] for z in numbers])


def _centred(numbers: NDArray[np.integer], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return positions - np.average(positions, axis=0, weights=_masses(numbers))


def _moments(numbers: NDArray[np.integer], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the principal moments of inertia [3] in amu angstrom^2, ascending."""
    masses, x = _masses(numbers), _centred(numbers, positions)
    tensor = (masses * (x**2).sum(axis=1)).sum() * np.eye(3) - (masses[:, None] * x).T @ x
    return np.linalg.eigvalsh(tensor)


def _internal(numbers: NDArray[np.integer], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return orthonormal mass-weighted motions [3 n, m] that neither translate nor rotate a molecule."""
    if len(numbers) == 1:
        return np.zeros((3, 0))
    return internal_motions(positions, _masses(numbers), n_rigid=5 if is_linear(numbers, positions) else 6)


def _translation(numbers: NDArray[np.integer], thermal: float) -> float:
    """Return the translational entropy in units of k; `thermal` is k T in hartree."""
    mass = _masses(numbers).sum() / ELECTRON_MASS
    volume = thermal / ATMOSPHERE  # bohr^3
    return 2.5 + math.log((mass * thermal / (2.0 * math.pi)) ** 1.5 * volume)


def _thermal_inertia(inertia: NDArray[np.float64], thermal: float) -> NDArray[np.float64]:
    """Return I k T / hbar^2 for moments of inertia I in amu angstrom^2."""
    return inertia / (ELECTRON_MASS * BOHR_IN_ANGSTROM**2) * thermal


def _rotation(
    numbers: NDArray[np.integer], positions: NDArray[np.float64], thermal: float, symmetry_number: int
) -> tuple[float, float]:
    """Return the rotational energy in units of k T and the rotational entropy in units of k."""
    if len(numbers) == 1:
        return 0.0, 0.0
    moments = _thermal_inertia(_moments(numbers, positions), thermal)
    if is_linear(numbers, positions):
        return 1.0, 1.0 + math.log(2.0 * moments[2] / symmetry_number)
    states = math.sqrt(math.pi * 8.0 * float(np.prod(moments))) / symmetry_number
    return 1.5, 1.5 + math.log(states)
