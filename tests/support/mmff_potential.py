"""Force providers without a network: MMFF, with an extra term where a test needs a potential that is wrong; springs."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from torch import Tensor

from golf.chem import molecules as chemistry
from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationSet
from golf.nnp.provider import Molecules

ExtraTerm = Callable[[NDArray], tuple[float, NDArray]]
"""Positions [n, 3] angstrom to energy in hartree and forces [n, 3] in hartree/angstrom."""


class MMFFPotential:
    """MMFF behind the interface of a potential, perhaps with an extra term."""

    device = torch.device("cpu")

    def __init__(self, extra: ExtraTerm | None = None) -> None:
        self._surrogate = MMFFSurrogate()
        self._extra = extra
        self.batch_sizes: list[int] = []

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        energies, forces = [], []
        self.batch_sizes.append(len(molecules))
        for smiles, geometry in zip(
            molecules.mapped_smiles, np.split(positions.numpy(), molecules.offset[1:-1].numpy()), strict=True
        ):
            energy, force = self._surrogate.energy_and_forces(smiles, geometry)
            if self._extra is not None:
                more_energy, more_force = self._extra(geometry)
                energy, force = energy + more_energy, force + more_force
            energies.append(energy)
            forces.append(force)
        return torch.tensor(energies, dtype=torch.float64), torch.from_numpy(np.concatenate(forces))


def stretch(target, stiffness=0.5):
    """A wrong term: a spring that wants the first two atoms `target` angstrom apart."""

    def term(positions):
        bond = positions[1] - positions[0]
        length = np.linalg.norm(bond)
        forces = np.zeros_like(positions)
        forces[0] = stiffness * (length - target) * bond / length
        forces[1] = -forces[0]
        return 0.5 * stiffness * (length - target) ** 2, forces

    return term


class Springs:
    """A harmonic pull of every atom to the origin: a potential for any element."""

    device = torch.device("cpu")

    def evaluate(self, molecules, positions):
        squares = torch.cat([torch.zeros(1, dtype=torch.float64), (positions**2).sum(dim=1).cumsum(0)])
        return 0.05 * squares[molecules.offset].diff(), -0.1 * positions


def conformers(smiles: list[str], n_each: int, seed: int = 7) -> ConformationSet:
    """ETKDG conformers, molecules taking turns, so that neighbours differ in size."""
    records = []
    for name in smiles:
        mol = Chem.AddHs(Chem.MolFromSmiles(name))
        mapped = chemistry.mapped_smiles(mol)
        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        rdDistGeom.EmbedMultipleConfs(mol, n_each, randomSeed=seed)
        assert mol.GetNumConformers() == n_each
        for k, conformer in enumerate(mol.GetConformers()):
            records.append((k, (f"{name}/{k:04d}", name, mapped, 0, 1, numbers, conformer.GetPositions())))
    return ConformationSet.build(record for _, record in sorted(records, key=lambda pair: pair[0]))
