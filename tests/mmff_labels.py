"""Cheap real labels: MMFF energies and forces of ETKDG conformers, made total energies by energies per element."""

import numpy as np
from mmff_potential import conformers

from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationSet, Status

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
