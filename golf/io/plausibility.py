"""Whether labels that come with data can be what they are said to be: units, totals, signs.

What is checked are mistakes of whole files. A wrong number among many is not found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rdkit.Chem import rdForceFieldHelpers

from golf.chem.molecules import molecule
from golf.core.conformations import ConformationSet, Status
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL

ATOM_ENERGIES = {
    1: -0.50, 3: -7.5, 5: -24.7, 6: -37.8, 7: -54.5, 8: -75.0, 9: -99.6, 11: -162.2, 12: -200.0, 14: -289.3, 15: -341.1,
    16: -398.0, 17: -460.0, 35: -2573.9,
}  # fmt: skip
"""hartree: isolated atoms with all their electrons; methods and basis sets differ in the last digits."""

UNITS = {"eV": HARTREE_IN_EV, "kcal/mol": HARTREE_IN_KCAL_PER_MOL, "kJ/mol": HARTREE_IN_KCAL_PER_MOL * 4.184}
WIDTH = 0.15
"""Relative deviation at which a ratio of energies still is that of two units."""

MAX_FORMATION = 0.02
"""Share of the atoms' energies that bonds make up, at most; a total energy is all of it."""

MAX_BINDING = 0.05
"""Bound of the same share beyond doubt: methods and basis sets differ by a percent or two."""

N_SAMPLED = 50
OPPOSITE = -0.5
"""Mean cosine of forces and MMFF forces: of 60 nablaDFT conformations 0.92, of ETKDG conformers 0.8, at minima 0."""


def check_labels(conformations: ConformationSet, source: str) -> None:
    """Refuse labels that are not total energies in hartree and forces.

    Raises:
        UserError: energies are in another unit or without the atoms' energies, or forces have the sign of gradients.
    """
    labelled = np.flatnonzero(conformations.values["status"] == Status.OK)
    if conformations.attrs.get("program") != "ase":  # which may be of valence electrons alone, or of a force field
        _check_energies(conformations, labelled, source)
    _check_signs(conformations, labelled[:: max(1, len(labelled) // N_SAMPLED)], source)


def _check_energies(conformations: ConformationSet, labelled: NDArray[np.int64], source: str) -> None:
    """The energy of a molecule is that of its atoms to within a percent or so."""
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
                f"{source}: energies are {ratio:.3g} times those of the atoms in hartree: they are in {unit}"
            )
    if abs(ratio * HARTREE_IN_EV - 1) < WIDTH:
        raise UserError(f"{source}: energies are in hartree where eV are expected; state energy_unit=hartree")
    if ratio > 1.0 + MAX_BINDING:
        raise UserError(
            f"{source}: energies are {ratio:.3g} times those of the atoms, of molecules it is 1.02 at most: formation "
            "energies are not in the unit that is stated, or the atoms are counted twice"
        )
    if abs(ratio) < MAX_FORMATION:
        raise UserError(
            f"{source}: energies are {100 * ratio:.2g} % of those of the atoms: they are formation energies, or "
            "relative to something else; give total energies"
        )


def _check_signs(conformations: ConformationSet, sample: NDArray[np.int64], source: str) -> None:
    """Forces point where those of MMFF point, roughly."""
    cosines = []
    for i in map(int, sample):
        rows = conformations.rows(i)
        mine, theirs = conformations.atoms["force"][rows].ravel(), _mmff_forces(conformations, i)
        norm = float(np.linalg.norm(mine) * np.linalg.norm(theirs))
        if norm > 0:
            cosines.append(float(mine @ theirs) / norm)
    if cosines and np.mean(cosines) < OPPOSITE:
        raise UserError(
            f"{source}: forces point against those of MMFF (mean cosine {np.mean(cosines):.2f} over {len(cosines)} "
            "conformations): they are gradients; give forces, which are minus the gradients"
        )


def _mmff_forces(conformations: ConformationSet, i: int) -> NDArray[np.float64]:
    """[3 n] kcal/mol/angstrom; zeros where MMFF has no parameters."""
    position = conformations.position[conformations.rows(i)]
    mol = molecule(conformations.mapped_smiles[i], position)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    field = None if properties is None else rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    if field is None:
        return np.zeros(position.size)
    flat = position.ravel().tolist()
    field.CalcEnergy(flat)  # CalcGrad takes the distances of the last energy
    return -np.array(field.CalcGrad(flat))
