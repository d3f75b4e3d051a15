"""Cheap real labels: MMFF energies and forces of ETKDG conformers, made total energies by energies per element."""

import numpy as np
from rdkit.Chem import rdForceFieldHelpers

from golf.chem import molecules as chemistry
from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationSet, Status
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from support.mmff_potential import conformers

ELEMENT_ENERGIES = {1: -0.5, 6: -37.8, 7: -54.5, 8: -75.0, 9: -99.7}  # hartree


def labelled_conformers(smiles: list[str], n_each: int, seed: int = 7) -> ConformationSet:
    """Conformers of each molecule with labels, all of `Status.OK`."""
    found = conformers(smiles, n_each, seed)
    surrogate = MMFFSurrogate()
    energies, forces = [], []
    for i in range(len(found)):
        energy, force = surrogate.energy_and_forces(found.mapped_smiles[i], found.position[found.rows(i)])
        energies.append(energy + sum(ELEMENT_ENERGIES[int(z)] for z in found.number[found.rows(i)]))
        forces.append(force)
    status = np.full(len(found), Status.OK)
    return found.with_columns(atoms={"force": np.concatenate(forces)}, values={"energy": energies, "status": status})


def fresh_energy(smiles, positions, variant="MMFF94"):
    mol = chemistry.molecule(smiles, positions)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=variant)
    return rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties).CalcEnergy() / HARTREE_IN_KCAL_PER_MOL


def boronic_acid():
    mapped = "[C:1]([B:2]([O:3][H:8])[O:4][H:9])([H:5])([H:6])[H:7]"
    positions = np.random.default_rng(0).normal(size=(9, 3)) * 2
    return ConformationSet.build([("boronic/0000", "boronic", mapped, 0, 1, [6, 5, 8, 8, 1, 1, 1, 1, 1], positions)])
