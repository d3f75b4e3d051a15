"""The surrogate oracle: RDKit's MMFF force field, cheap enough to check every optimizer step.

A force field object is built once per molecule and reused for all its conformations, which makes an energy tens of
times cheaper than a new object for each. MMFF94: Halgren, J. Comput. Chem. 17, 490 (1996); in RDKit: Tosco et al.,
J. Cheminform. 6, 37 (2014).
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers, rdtrajectory

from golf.chem import molecules as chemistry
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_KCAL_PER_MOL

logger = logging.getLogger(__name__)

Variant = Literal["MMFF94", "MMFF94s"]

MAX_CACHED_MOLECULES = 1024
"""Number of force fields kept: enough for the molecules of all slots, and bounded for data sets of any size."""


HESSIAN_STEP = 1e-4  # angstrom

LARGEST_HESSIAN = 500
"""Number of atoms. A Hessian of 249 atoms takes 2 s, and the time grows with the third power of the number."""


class SurrogateError(UserError):
    """The surrogate has no energy for a conformation, so it cannot tell whether the energy rose."""


@dataclass(frozen=True)
class Minimum:
    """Result of RDKit's minimizer for one conformation; energies in hartree."""

    positions: NDArray[np.float64]  # [n, 3] angstrom
    converged: bool
    energy_first: float
    energy_last: float


class MMFFSurrogate:
    """MMFF energies, forces and minimizations of molecules given by mapped SMILES.

    In all methods `positions` is [n, 3] in angstrom, in the row order of the mapped SMILES, and `name` is the name of
    the conformation in error messages. All methods raise `SurrogateError` if MMFF has no parameters for the molecule or
    its energy is not finite.
    """

    def __init__(self, variant: Variant = "MMFF94") -> None:
        if variant not in get_args(Variant):
            raise UserError(f"surrogate: {variant!r} is not a variant of MMFF; choose one of {get_args(Variant)}")
        self.variant = variant
        # The molecule owns the coordinates that its force field points to, so both are kept.
        self._cache: OrderedDict[str, tuple[Chem.Mol, Any]] = OrderedDict()

    def energy(self, mapped_smiles: str, positions: NDArray, name: str = "") -> float:
        """Return the energy in hartree."""
        _, force_field = self._force_field(mapped_smiles, positions, name)
        kcal_per_mol = force_field.CalcEnergy(np.asarray(positions, np.float64).ravel().tolist())
        if not math.isfinite(kcal_per_mol):
            raise SurrogateError(
                f"conformation {name or mapped_smiles!r}: {self.variant} energy is {kcal_per_mol}; "
                "check its geometry for atoms on top of each other"
            )
        return kcal_per_mol / HARTREE_IN_KCAL_PER_MOL

    def energy_and_forces(
        self, mapped_smiles: str, positions: NDArray, name: str = ""
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the energy in hartree and the forces [n, 3] in hartree/angstrom."""
        # CalcGrad uses the pair distances of the last CalcEnergy, so the energy at the same positions must come first.
        energy = self.energy(mapped_smiles, positions, name)
        _, force_field = self._force_field(mapped_smiles, positions, name)
        gradient = force_field.CalcGrad(np.asarray(positions, np.float64).ravel().tolist())
        return energy, -np.array(gradient).reshape(-1, 3) / HARTREE_IN_KCAL_PER_MOL

    def hessian(self, mapped_smiles: str, positions: NDArray, name: str = "") -> NDArray[np.float64]:
        """Return the symmetrized second derivatives [3n, 3n] in hartree/angstrom^2, from finite differences of forces.

        Raises:
            SurrogateError: also if there are more than `LARGEST_HESSIAN` atoms.
        """
        if len(positions) > LARGEST_HESSIAN:
            raise SurrogateError(
                f"conformation {name or mapped_smiles!r}: {len(positions)} atoms are too many for a Hessian of "
                f"{self.variant} (at most {LARGEST_HESSIAN}); leave this molecule out"
            )
        here = np.asarray(positions, np.float64).ravel()
        _, forces = self.energy_and_forces(mapped_smiles, positions, name)
        rows = np.empty((len(here), len(here)))
        for k in range(len(here)):
            moved = here.copy()
            moved[k] += HESSIAN_STEP
            _, there = self.energy_and_forces(mapped_smiles, moved.reshape(-1, 3), name)
            rows[k] = (forces - there).ravel() / HESSIAN_STEP
        return 0.5 * (rows + rows.T)

    def minimize(self, mapped_smiles: str, positions: NDArray, *, max_iterations: int, name: str = "") -> Minimum:
        """Minimize one conformation with RDKit's BFGS and its default tolerances, as `MMFFOptimizeMolecule` does."""
        first = self.energy(mapped_smiles, positions, name)
        mol, force_field = self._force_field(mapped_smiles, positions, name)
        mol.GetConformer().SetPositions(np.array(positions, np.float64))
        force_field.Initialize()
        more_needed = force_field.Minimize(maxIts=max_iterations)
        end = np.array(mol.GetConformer().GetPositions())
        return Minimum(end, more_needed == 0, first, self.energy(mapped_smiles, end, name))

    def trajectory(
        self, mapped_smiles: str, positions: NDArray, *, max_iterations: int, name: str = ""
    ) -> list[NDArray[np.float64]]:
        """Return the positions [n, 3] after every iteration of RDKit's minimization, without the start."""
        self.energy(mapped_smiles, positions, name)
        mol, force_field = self._force_field(mapped_smiles, positions, name)
        mol.GetConformer().SetPositions(np.array(positions, np.float64))
        force_field.Initialize()
        _, snapshots = force_field.MinimizeTrajectory(1, maxIts=max_iterations)
        n = mol.GetNumAtoms()
        states = rdtrajectory.Trajectory(3, n, snapshots)
        return [np.array([list(states.GetSnapshot(i).GetPoint3D(k)) for k in range(n)]) for i in range(len(states))]

    def _force_field(self, mapped_smiles: str, positions: NDArray, name: str) -> tuple[Chem.Mol, Any]:
        if mapped_smiles not in self._cache:
            self._cache[mapped_smiles] = self._build(mapped_smiles, name)
            if len(self._cache) > MAX_CACHED_MOLECULES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(mapped_smiles)
        mol, force_field = self._cache[mapped_smiles]
        if np.shape(positions) != (mol.GetNumAtoms(), 3):
            raise SurrogateError(
                f"conformation {name or mapped_smiles!r}: positions of shape {np.shape(positions)} "
                f"for the {mol.GetNumAtoms()} atoms of its mapped SMILES; make the file again"
            )
        return mol, force_field

    def _build(self, mapped_smiles: str, name: str) -> tuple[Chem.Mol, Any]:
        mol = chemistry.molecule(mapped_smiles)
        # All atoms at the origin: RDKit omits pairs that are far apart when the force field is built, and that must not
        # depend on which conformation comes first.
        mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()), assignId=True)
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=self.variant)
        force_field = properties and rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
        if not force_field:
            raise SurrogateError(
                f"conformation {name or mapped_smiles!r}: {self.variant} has no parameters for "
                f"{Chem.MolToSmiles(mol)}; leave this molecule out"
            )
        force_field.Initialize()
        return mol, force_field


def minimize_all(conformations: ConformationSet, surrogate: MMFFSurrogate, *, max_iterations: int) -> ConformationSet:
    """Minimize every conformation with RDKit's MMFF, as the evaluation arm `mmff` does.

    Returns:
        The same conformations without labels, at their final positions, with `initial_position`, `stop_reason` and the
        surrogate energies. RDKit does not report the numbers of iterations and force evaluations, so these columns are
        missing.

    Raises:
        SurrogateError: see `MMFFSurrogate`.
    """
    position = conformations.position.copy()
    reasons, first, last = [], [], []
    for i, name in enumerate(conformations.id):
        rows = conformations.rows(i)
        minimum = surrogate.minimize(
            conformations.mapped_smiles[i], position[rows], max_iterations=max_iterations, name=name
        )
        position[rows] = minimum.positions
        reasons.append(StopReason.CONVERGED if minimum.converged else StopReason.STEP_LIMIT)
        first.append(minimum.energy_first)
        last.append(minimum.energy_last)
    n_limit = reasons.count(StopReason.STEP_LIMIT)
    if n_limit:
        logger.warning(
            "%d of %d minimizations reached the limit of %d iterations", n_limit, len(reasons), max_iterations
        )
    return conformations.bare().with_columns(
        position=position,
        atoms={"initial_position": conformations.position},
        values={"stop_reason": reasons, "surrogate_energy_first": first, "surrogate_energy_last": last},
    )
