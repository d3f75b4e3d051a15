"""Wrap a potential as an ASE calculator, for ASE's optimizers, molecular dynamics and vibrations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from numpy.typing import NDArray

from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.processors import limit_torch_threads
from golf.core.units import HARTREE_IN_EV
from golf.io.identity import derived_bonds
from golf.nnp.provider import ForceProvider, Molecules
from golf.potentials.hessians import hessian_of
from golf.potentials.load import load_potential


class Calculator(AseCalculator):
    """ASE calculator for one non-periodic molecule: total energy (eV), forces (eV/angstrom), Hessian (eV/angstrom^2).

    Args:
        model: model file written by golf, or the name of a potential (`golf models`).
        device: "auto" (cuda if available), "cpu" or "cuda".
        dtype: precision of energies and forces of golf's networks: "float32", or "float64" for ASE's vibrations, whose
            finite differences need it. Their Hessians are always computed in float64.
        charge: total charge; None: `atoms.info["charge"]`, or 0.
        cores: threads or child processes; None: all for networks, one child process for programs.

    Raises:
        UserError: the potential cannot be loaded, or device or dtype is not available. In a calculation: the atoms are
            periodic, their positions are not finite or coincide, or the potential does not cover an element or the
            charge.
    """

    name = "golf"  # what ASE's databases record
    implemented_properties = ["energy", "free_energy", "forces", "hessian"]  # noqa: RUF012, as in ASE

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "float32",
        charge: int | None = None,
        cores: int | None = None,
    ) -> None:
        super().__init__()
        limit_torch_threads()
        self.loaded = load_potential(
            model, device=device, cores=torch.get_num_threads() if cores is None else cores, dtype=dtype
        )
        self.potential: ForceProvider = self.loaded.network or self.loaded
        self.charge = charge

    def close(self) -> None:
        """End the threads or child processes of the potential."""
        self.loaded.close()

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation; the charge counts, which ASE does not look at."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and self._charge_of(atoms) != self._charge_of(self.atoms):
            changes.append("initial_charges")
        return changes

    def _charge_of(self, atoms: Atoms) -> int:
        return int(atoms.info.get("charge", 0)) if self.charge is None else self.charge

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
        self._check_elements(atoms)
        charge = self._charge_of(atoms)
        smiles = derived_bonds(atoms.numbers, atoms.positions, charge) if self.loaded.card.kind == "mmff" else ""
        if reason := self.loaded.card.refusal(smiles, charge):
            raise UserError(f"{atoms.get_chemical_formula()}: {reason}")
        molecule = Molecules(
            torch.from_numpy(atoms.numbers.astype(np.int64)).to(self.potential.device),
            torch.tensor([0, len(atoms)], device=self.potential.device),
            (charge,),
            (int(atoms.info.get("spin", 1)),),
            (smiles,),
        )
        positions = atoms.positions.astype(np.float64)
        energy, forces = self.potential.evaluate(molecule, torch.from_numpy(positions).to(self.potential.device))
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
            self.results["hessian"] = hessian_of(self.potential, molecule, positions) * HARTREE_IN_EV

    def _check_elements(self, atoms: Atoms) -> None:
        unknown = sorted({*atoms.numbers.tolist()} - {*self.loaded.card.elements})
        if unknown:
            known = " ".join(SYMBOLS[z] for z in self.loaded.card.elements)
            raise UserError(
                f"{atoms.get_chemical_formula()} has {SYMBOLS[unknown[0]]}, which {self.loaded.card.name} does not "
                f"cover (it covers {known}); train with such molecules, or choose another potential"
            )
