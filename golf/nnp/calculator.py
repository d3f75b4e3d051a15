"""Wrap a trained potential as an ASE calculator, for ASE's optimizers, molecular dynamics and vibrations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from numpy.typing import NDArray

from golf.core.errors import UserError
from golf.core.processors import limit_torch_threads
from golf.core.units import HARTREE_IN_EV
from golf.nnp.potential import load, pick_device


class Calculator(AseCalculator):
    """ASE calculator for one non-periodic molecule: total energy (eV), forces (eV/angstrom), Hessian (eV/angstrom^2).

    Args:
        model: model file written by golf.
        device: "auto" (cuda if available), "cpu" or "cuda".
        dtype: precision of energies and forces: "float32", or "float64" for ASE's vibrations, whose finite differences
            need it. Hessians are always computed in float64.

    Raises:
        UserError: the model cannot be read, or device or dtype is not available. In a calculation: the atoms are
            periodic, their positions are not finite or coincide, or the model was not trained on an element.
    """

    name = "golf"  # what ASE's databases record
    implemented_properties = ["energy", "free_energy", "forces", "hessian"]  # noqa: RUF012, as in ASE

    def __init__(self, model: str | Path, *, device: str = "auto", dtype: str = "float32") -> None:
        super().__init__()
        limit_torch_threads()
        self.potential = load(model, pick_device(device), dtype)

    def get_hessian(self, atoms: Atoms | None = None) -> NDArray[np.float64]:
        """Return second derivatives of the energy [3 n, 3 n] in eV/angstrom^2, ordered by atom, then x, y, z."""
        return self.get_property("hessian", atoms)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute energy and forces, and the Hessian if it is among the properties; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if atoms is None or not len(atoms):
            raise UserError("the Atoms object is empty; add atoms")
        if atoms.pbc.any():
            raise UserError(
                f"{atoms.get_chemical_formula()} is periodic, but the model is for molecules; set atoms.pbc = False"
            )
        if not np.isfinite(atoms.positions).all():
            raise UserError(f"{atoms.get_chemical_formula()}: positions are not finite numbers")
        unknown = self.potential.unknown_element(atoms.numbers)
        if unknown is not None:
            raise UserError(f"{atoms.get_chemical_formula()} has {unknown}; train with such molecules")
        numbers = torch.from_numpy(atoms.numbers.astype(np.int64))
        positions = torch.from_numpy(atoms.positions.astype(np.float64))
        energy, forces = self.potential.energy_and_forces(numbers, positions, torch.tensor([0, len(atoms)]))
        in_ev = float(energy[0]) * HARTREE_IN_EV
        if not np.isfinite(in_ev):
            raise UserError(
                f"{atoms.get_chemical_formula()}: the energy is not finite; are two atoms at the same position?"
            )
        self.results = {
            "energy": in_ev,
            "free_energy": in_ev,  # equal without electronic smearing; some of ASE's optimizers need it
            "forces": forces.cpu().numpy() * HARTREE_IN_EV,
        }
        if "hessian" in properties:
            self.results["hessian"] = self.potential.hessian(numbers, positions).cpu().numpy() * HARTREE_IN_EV
