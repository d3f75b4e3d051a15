"""The dispersion of wB97X-D: J.-D. Chai, M. Head-Gordon, Phys. Chem. Chem. Phys. 10, 6615 (2008).

    E = - sum_{i<j} C6_ij / R^6 * 1 / (1 + 6 (R / R0_ij)^-12),  C6_ij = sqrt(C6_i C6_j),  R0_ij = R0_i + R0_j

with the coefficients and radii of D2: S. Grimme, J. Comput. Chem. 27, 1787 (2006), table 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from golf.core.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL

JOULE_NM6_PER_MOL = 1e-3 / (4.184 * HARTREE_IN_KCAL_PER_MOL) * (10 / BOHR_IN_ANGSTROM) ** 6
"""One J nm^6/mol in hartree bohr^6."""

DAMPING = 6.0
"""The parameter a of the damping function."""

_TABLE = (
    ("H", 0.14, 1.001), ("He", 0.08, 1.012),
    ("Li", 1.61, 0.825), ("Be", 1.61, 1.408), ("B", 3.13, 1.485), ("C", 1.75, 1.452),
    ("N", 1.23, 1.397), ("O", 0.70, 1.342), ("F", 0.75, 1.287), ("Ne", 0.63, 1.243),
    ("Na", 5.71, 1.144), ("Mg", 5.71, 1.364), ("Al", 10.79, 1.639), ("Si", 9.23, 1.716),
    ("P", 7.84, 1.705), ("S", 5.57, 1.683), ("Cl", 5.07, 1.639), ("Ar", 4.61, 1.595),
    ("K", 10.80, 1.485), ("Ca", 10.80, 1.474),
    *((metal, 10.80, 1.562) for metal in "Sc Ti V Cr Mn Fe Co Ni Cu Zn".split()),
    ("Ga", 16.99, 1.650), ("Ge", 17.10, 1.727), ("As", 16.37, 1.760),
    ("Se", 12.64, 1.771), ("Br", 12.47, 1.749), ("Kr", 12.01, 1.727),
    ("Rb", 24.67, 1.628), ("Sr", 24.67, 1.606),
    *((metal, 24.67, 1.639) for metal in "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd".split()),
    ("In", 37.32, 1.672), ("Sn", 38.71, 1.804), ("Sb", 38.44, 1.881),
    ("Te", 31.74, 1.892), ("I", 31.50, 1.892), ("Xe", 29.99, 1.881),
)  # fmt: skip

SYMBOLS = tuple(symbol for symbol, _, _ in _TABLE)
"""Elements of D2, hydrogen to xenon."""

C6 = np.array([0.0, *(c6 for _, c6, _ in _TABLE)])
"""J nm^6/mol, by atomic number."""

R0 = np.array([0.0, *(r0 for _, _, r0 in _TABLE)])
"""Van der Waals radii in angstrom, by atomic number."""


def energy_and_gradient(numbers: NDArray, positions: NDArray) -> tuple[float, NDArray[np.float64]]:
    """Compute the dispersion energy (hartree) and its gradient [n, 3] (hartree/bohr).

    Args:
        numbers: [n] atomic numbers up to 54.
        positions: [n, 3] bohr.
    """
    first, second = np.triu_indices(len(numbers), 1)
    c6, r0 = C6[numbers] * JOULE_NM6_PER_MOL, R0[numbers] / BOHR_IN_ANGSTROM
    vector = positions[first] - positions[second]  # [n_pairs, 3]
    distance = np.linalg.norm(vector, axis=1)
    attraction = np.sqrt(c6[first] * c6[second]) / distance**6
    ratio = DAMPING * ((r0[first] + r0[second]) / distance) ** 12
    damping = 1 / (1 + ratio)
    slope = attraction * damping * (6 - 12 * ratio * damping) / distance  # dE/dR
    along = (slope / distance)[:, None] * vector
    gradient = np.zeros((len(numbers), 3))
    np.add.at(gradient, first, along)
    np.subtract.at(gradient, second, along)
    return -float((attraction * damping).sum()), gradient
