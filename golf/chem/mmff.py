"""The surrogate oracle: RDKit's MMFF force field, cheap enough to judge every optimizer step.

A force field object is built once per molecule and reused for all its conformations, which makes an energy some tens
of times cheaper than a new object each time. MMFF94: Halgren, J. Comput. Chem. 17, 490 (1996); in RDKit: Tosco et al.,
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
"""Force fields kept at once: enough for the molecules of all slots, bounded for data sets of any size."""


HESSIAN_STEP = 1e-4  # angstrom

LARGEST_HESSIAN = 500
"""Atoms. A Hessian of 249 atoms takes 2 s, and the time grows with the third power of their number."""


class SurrogateError(UserError):
    """The surrogate has no energy for a conformation, so nothing can be said about whether its energy rose."""


@dataclass(frozen=True)
class Minimum:
    """What RDKit's minimizer made of one conformation. Energies in hartree."""

    positions: NDArray[np.float64]  # [n, 3] angstrom
    converged: bool
    energy_first: float
    energy_last: float


class MMFFSurrogate:
    """MMFF energies, forces and minimizations of molecules given by mapped SMILES.

    In all methods `positions` is [n, 3] in angstrom, in the row order of the mapped SMILES, and `name` is the
    conformation that an error names. All methods raise `SurrogateError` where MMFF cannot type the molecule or gives
    an energy that is not a finite number.
    """

    def __init__(self, variant: Variant = "MMFF94") -> None:
        if variant not in get_args(Variant):
            raise UserError(f"surrogate: {variant!r} is not a variant of MMFF; choose one of {get_args(Variant)}")
        self.variant = variant
        # The molecule owns the coordinates that its force field points to, so both are kept.
        self._cache: OrderedDict[str, tuple[Chem.Mol, Any]] = OrderedDict()

    def energy(self, mapped_smiles: str, positions: NDArray, name: str = "") -> float:
        """Energy in hartree."""
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
        """Energy in hartree and forces [n, 3] in hartree/angstrom."""
        # CalcGrad uses the pair distances of the last CalcEnergy, so the energy at the same positions must come first.
        energy = self.energy(mapped_smiles, positions, name)
        _, force_field = self._force_field(mapped_smiles, positions, name)
        gradient = force_field.CalcGrad(np.asarray(positions, np.float64).ravel().tolist())
        return energy, -np.array(gradient).reshape(-1, 3) / HARTREE_IN_KCAL_PER_MOL

    def hessian(self, mapped_smiles: str, positions: NDArray, name: str = "") -> NDArray[np.float64]:
        """Second derivatives [3 n, 3 n] in hartree/angstrom^2, from differences of forces; symmetric.

        Raises:
            SurrogateError: also where there are more than `LARGEST_HESSIAN` atoms.
        """
        if len(positions) > LARGEST_HESSIAN:
            raise SurrogateError(f"conformation {name or mapped_smiles!r}: too large for a Hessian of {self.variant}")
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
        """RDKit's own BFGS minimization with its default tolerances, as in `MMFFOptimizeMolecule`."""
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
        """Positions [n, 3] after every iteration of RDKit's minimization, the start not among them."""
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
        # All atoms at the origin: RDKit leaves out pairs that are far apart when the force field is made, and which
        # conformation happens to come first must not decide about that.
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


def minimize(conformations: ConformationSet, surrogate: MMFFSurrogate, *, max_iterations: int) -> ConformationSet:
    """Every conformation minimized with RDKit's MMFF: the evaluation arm `mmff`.

    Returns:
        The same conformations without labels, position final, with `initial_position`, `stop_reason` and the surrogate
        energies. RDKit does not say how many iterations and force evaluations it took, so there is no column for them.

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
