"""Other engines that relax with the same network, for relaxation.py. A call makes a number of iterations of all
molecules and returns the force evaluations that it took.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_masses
from ase.optimize import LBFGS

from golf.core.conformations import ConformationSet
from golf.nnp._schnetpack import BesselRBF, CosineCutoff, properties
from golf.nnp.batches import Batch, batch_of

CUTOFF = 5.0  # angstrom, of the published networks


class SchNetPackBatch:
    """BatchwiseCalculator on all molecules, which are moved a little each time."""

    def __init__(self, network: torch.nn.Module, molecules: ConformationSet) -> None:
        from schnetpack.interfaces.ase_interface import AtomsConverter
        from schnetpack.interfaces.batchwise_optimization import BatchwiseCalculator
        from schnetpack.transform import MatScipyNeighborList

        converter = AtomsConverter(MatScipyNeighborList(cutoff=CUTOFF), device="cpu")
        self._calculator = BatchwiseCalculator(network, converter, energy_unit="Hartree")
        self._atoms = as_ase(molecules)

    def __call__(self, iterations: int) -> int:
        for _ in range(iterations):
            for atoms in self._atoms:
                atoms.positions[0, 0] += 1e-6
            self._calculator.calculate(self._atoms)
        return iterations * len(self._atoms)


class TorchSim:
    """torch-sim's FIRE on all molecules at once, with SchNetPack's network and pairs by `golf.nnp.batches`."""

    def __init__(self, network: torch.nn.Module, molecules: ConformationSet) -> None:
        import torch_sim
        from torch_sim.models.interface import ModelInterface
        from torch_sim.optimizers import fire

        class Model(ModelInterface):
            def __init__(self) -> None:
                super().__init__()
                self._device, self._dtype = torch.device("cpu"), torch.float32
                self._compute_stress, self._compute_forces = False, True

            def forward(self, state: Any) -> dict[str, torch.Tensor]:
                offset = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(state.system_idx).cumsum(0)])
                batch = batch_of(state.atomic_numbers, state.positions, offset, CUTOFF)
                inputs = schnetpack_inputs(batch, state.positions.clone())
                output = network(inputs)
                return {"energy": output["energy"].detach(), "forces": output["forces"].detach()}

        n = torch.from_numpy(molecules.n_atoms)
        numbers = torch.from_numpy(molecules.number).long()
        self._state = torch_sim.SimState(
            positions=torch.from_numpy(molecules.position).float(),
            masses=torch.from_numpy(atomic_masses[molecules.number]).float(),
            cell=100.0 * torch.eye(3).repeat(len(n), 1, 1),
            pbc=False,
            atomic_numbers=numbers,
            system_idx=torch.repeat_interleave(torch.arange(len(n)), n),
        )
        self._start, self._step = fire(model=Model())

    def __call__(self, iterations: int) -> int:
        state = self._start(self._state.clone())
        for _ in range(iterations):
            state = self._step(state)
        return (iterations + 1) * state.n_systems


class Ase:
    """ASE's LBFGS with SpkCalculator on the first few molecules."""

    def __init__(self, network: torch.nn.Module, molecules: ConformationSet, n: int = 4) -> None:
        from schnetpack.interfaces import SpkCalculator
        from schnetpack.transform import MatScipyNeighborList

        class Calculator(SpkCalculator):
            def _load_model(self, model_file: str) -> torch.nn.Module:
                return network

        neighbours = MatScipyNeighborList(cutoff=CUTOFF)
        self._calculator = Calculator("", neighbours, energy_unit="Hartree", position_unit="Ang")
        middle = len(molecules) // 2
        self._atoms = as_ase(molecules.subset(range(middle, min(middle + n, len(molecules)))))

    def __call__(self, iterations: int) -> int:
        for start in self._atoms:
            atoms = start.copy()
            atoms.calc = self._calculator
            LBFGS(atoms, logfile=None).run(fmax=1e-12, steps=iterations)
        return len(self._atoms) * (iterations + 1)


class PublishedGolf:
    """The L-BFGS of the published code (pairs at any distance, steps of 5 iterations), from a checkout of it."""

    def __init__(self, checkout: Path, weights: dict[str, torch.Tensor], molecules: ConformationSet) -> None:
        sys.path.insert(0, str(checkout))
        from GOLF.GOLF_actor import Actor, LBFGSConformationOptimizer
        from schnetpack.interfaces.ase_interface import AtomsConverter
        from schnetpack.transform import ASENeighborList

        backbone = {"n_atom_basis": 128, "n_interactions": 3}
        backbone |= {"radial_basis": BesselRBF(50, CUTOFF), "cutoff_fn": CosineCutoff(CUTOFF)}
        actor = Actor("painn", backbone)
        actor.model.load_state_dict(weights)
        self._policy = LBFGSConformationOptimizer(
            len(molecules), actor, {"lr": 1, "max_iter": 5}, lbfgs_device="cpu", grad_threshold=0.0
        )
        converter = AtomsConverter(neighbor_list=ASENeighborList(cutoff=math.inf), device=torch.device("cpu"))
        self._start = converter(as_ase(molecules))

    def __call__(self, iterations: int) -> int:
        self._policy.reset(self._start)
        evaluations = 0
        for _ in range(max(1, iterations // 5)):
            evaluations += int(self._policy.act(None)["n_iter"].sum())
        return evaluations


def as_ase(molecules: ConformationSet) -> list[Atoms]:
    rows = [molecules.rows(i) for i in range(len(molecules))]
    return [Atoms(molecules.number[part], molecules.position[part]) for part in rows]


def schnetpack_inputs(batch: Batch, positions: torch.Tensor) -> dict[str, torch.Tensor]:
    """A batch and its positions [A, 3] as SchNetPack takes them."""
    return {
        properties.Z: batch.numbers,
        properties.R: positions,
        properties.idx_i: torch.cat([batch.pair_i, batch.pair_j]),
        properties.idx_j: torch.cat([batch.pair_j, batch.pair_i]),
        properties.idx_m: batch.molecule,
        properties.offsets: torch.zeros(2 * len(batch.vectors), 3, dtype=positions.dtype),
    }
