"""The interface between relaxations and potentials: the molecules to evaluate, and the protocol `ForceProvider`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from golf.core.conformations import ConformationSet


@dataclass(frozen=True)
class Molecules:
    """The molecules of one evaluation, concatenated; their positions are passed separately.

    Attributes:
        numbers: [A] int64, atomic numbers.
        offset: [m + 1] int64; the atoms of molecule i are the rows `offset[i]:offset[i + 1]`.
        charge: total charge of each molecule, in elementary charges.
        multiplicity: spin multiplicity of each molecule.
        mapped_smiles: mapped SMILES of each molecule; "" if unknown.
    """

    numbers: Tensor
    offset: Tensor
    charge: tuple[int, ...]
    multiplicity: tuple[int, ...]
    mapped_smiles: tuple[str, ...]

    @classmethod
    def of(cls, conformations: ConformationSet, device: torch.device | str = "cpu") -> Self:
        """Return the molecules of conformations."""
        return cls(
            torch.from_numpy(conformations.number.astype(np.int64)).to(device),
            torch.from_numpy(conformations.offset.astype(np.int64)).to(device),
            tuple(conformations.charge.tolist()),
            tuple(conformations.multiplicity.tolist()),
            tuple(conformations.mapped_smiles),
        )

    def __len__(self) -> int:
        return len(self.charge)

    def repeated(self, n: int) -> Self:
        """Return `n` copies of a single molecule."""
        size = len(self.numbers)
        return replace(
            self,
            numbers=self.numbers.repeat(n),
            offset=size * torch.arange(n + 1, device=self.offset.device),
            charge=self.charge * n,
            multiplicity=self.multiplicity * n,
            mapped_smiles=self.mapped_smiles * n,
        )


class ForceProvider(Protocol):
    """What a relaxation needs of a potential."""

    @property
    def device(self) -> torch.device:
        """Device of the tensors that are passed and returned."""
        ...

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies [m] in hartree and forces [A, 3] in hartree/angstrom, both float64.

        A molecule that cannot be computed has NaN, and does not keep the others from being computed.

        Args:
            molecules: m molecules with A atoms in all.
            positions: [A, 3] float64, angstrom.
        """
        ...
