"""Check the units, totals and signs of labels that come with data.

The checks find mistakes of whole files, not a single wrong number among many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from golf.chem.mmff import MMFFSurrogate, SurrogateError
from golf.core.conformations import ConformationSet, Status
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL

ATOM_ENERGIES = {
    1: -0.50, 3: -7.5, 5: -24.7, 6: -37.8, 7: -54.5, 8: -75.0, 9: -99.6, 11: -162.2, 12: -200.0, 14: -289.3, 15: -341.1,
    16: -398.0, 17: -460.0, 35: -2573.9,
}  # fmt: skip
"""hartree; isolated atoms with all their electrons, to the digits in which methods and basis sets agree.

The tables of exact energies at one level are those of SPICE (`golf.io.spice`) and of the published models
(`golf.nnp.published`).
"""

UNITS = {"eV": HARTREE_IN_EV, "kcal/mol": HARTREE_IN_KCAL_PER_MOL, "kJ/mol": HARTREE_IN_KCAL_PER_MOL * 4.184}
WIDTH = 0.15
"""Relative deviation up to which a ratio of energies counts as the ratio of two units."""

MAX_FORMATION = 0.02
"""Largest formation energy, as a fraction of the energy of the atoms."""

MAX_BINDING = 0.05
"""Safe bound of the same fraction: methods and basis sets differ by a percent or two."""

N_SAMPLED = 50
OPPOSITE = -0.5
"""Mean cosine between forces and MMFF forces below which they are gradients.

It is 0.92 for 60 nablaDFT conformations, 0.8 for ETKDG conformers, and 0 at minima.
"""


def check_labels(conformations: ConformationSet, source: str) -> None:
    """Refuse labels whose energies are not total energies in hartree, or whose forces are gradients.

    Args:
        source: name of the data, for messages.

    Raises:
        UserError: energies are in another unit or relative to isolated atoms, or forces have the sign of gradients.
    """
    labelled = np.flatnonzero(conformations.values["status"] == Status.OK)
    if conformations.attrs.get("program") != "ase":  # its energies may be those of valence electrons, or a force field
        _check_energies(conformations, labelled, source)
    _check_signs(conformations, labelled[:: max(1, len(labelled) // N_SAMPLED)], source)


def _check_energies(conformations: ConformationSet, labelled: NDArray[np.int64], source: str) -> None:
    """Check that energies are those of the isolated atoms to within a percent or two."""
    table = np.full(256, np.nan)
    table[list(ATOM_ENERGIES)] = list(ATOM_ENERGIES.values())
    atoms = np.add.reduceat(table[conformations.number], conformations.offset[:-1]) if len(conformations) else table[:0]
    ratios = (conformations.values["energy"] / atoms)[labelled]
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return
    ratio = float(np.median(ratios))
    for unit, factor in UNITS.items():
        if abs(ratio / factor - 1) < WIDTH:
            raise UserError(
                f"{source}: energies are {ratio:.3g} times those of the atoms in hartree, so they are in {unit}; "
                "convert them to hartree, or state the unit"
            )
    if abs(ratio * HARTREE_IN_EV - 1) < WIDTH:
        raise UserError(f"{source}: energies are in hartree instead of eV; state energy_unit=hartree")
    if ratio > 1.0 + MAX_BINDING:
        raise UserError(
            f"{source}: energies are {ratio:.3g} times those of the atoms, those of molecules at most 1.02 times: "
            "formation energies are not in the stated unit, or the atoms are counted twice; give total energies"
        )
    if abs(ratio) < MAX_FORMATION:
        raise UserError(
            f"{source}: energies are {100 * ratio:.2g} % of those of the atoms, so they are formation energies or "
            "other relative energies; give total energies"
        )


def _check_signs(conformations: ConformationSet, sample: NDArray[np.int64], source: str) -> None:
    """Check that forces roughly agree in direction with those of MMFF."""
    cosines, surrogate = [], MMFFSurrogate()
    for i in map(int, sample):
        rows = conformations.rows(i)
        mine, theirs = conformations.atoms["force"][rows].ravel(), _mmff_forces(surrogate, conformations, i)
        norm = float(np.linalg.norm(mine) * np.linalg.norm(theirs))
        if norm > 0:
            cosines.append(float(mine @ theirs) / norm)
    if cosines and np.mean(cosines) < OPPOSITE:
        raise UserError(
            f"{source}: forces point against those of MMFF (mean cosine {np.mean(cosines):.2f} over {len(cosines)} "
            "conformations), so they are gradients; give forces, which are minus the gradients"
        )


def _mmff_forces(surrogate: MMFFSurrogate, conformations: ConformationSet, i: int) -> NDArray[np.float64]:
    """Return the MMFF forces [3n] in hartree/angstrom; zeros if MMFF has no parameters."""
    position = conformations.position[conformations.rows(i)]
    try:
        return surrogate.energy_and_forces(conformations.mapped_smiles[i], position)[1].ravel()
    except SurrogateError:
        return np.zeros(position.size)
