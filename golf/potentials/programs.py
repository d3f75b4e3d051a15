"""Potentials that run in child processes, as the programs of the genuine oracle do: tblite and any ASE calculator.

All cores compute one molecule each. If a child crashes or takes too long, only its molecule is lost.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from golf.chem.molecules import canonical_smiles
from golf.core.conformations import Status
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.nnp.provider import Molecules
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import Request

logger = logging.getLogger(__name__)

SHOWN = 60
"""Characters of a SMILES in a warning."""

TIME_LIMIT = 600.0
"""Seconds for one evaluation of one molecule."""


def _shown(mapped_smiles: str) -> str:
    """Return how warnings call a molecule: the beginning of its SMILES, without hydrogens and map numbers."""
    return canonical_smiles(mapped_smiles)[:SHOWN] if mapped_smiles else "molecule"


class ProgramPotential:
    """Energies and forces by an ASE calculator in child processes; a `golf.nnp.provider.ForceProvider`.

    Args:
        level: program `ase` with the calculator as its method.
        n_workers: child processes.
        time_limit: seconds for one evaluation of one molecule.

    Raises:
        UserError: the calculator cannot be started.
    """

    device = torch.device("cpu")

    def __init__(self, level: LevelOfTheory, n_workers: int, time_limit: float = TIME_LIMIT) -> None:
        self._pool = OraclePool(level, n_workers=n_workers, time_limit=time_limit)
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="potential")

    def close(self) -> None:
        """End the child processes."""
        self._threads.shutdown(cancel_futures=True)
        self._pool.close()

    def covered(self, numbers: list[int]) -> tuple[int, ...]:
        """Return those of the atomic numbers that the calculator covers.

        Raises:
            UserError: it covers none.
        """
        return tuple(sorted(self._pool.basis(numbers).functions))

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces; see `golf.nnp.provider.ForceProvider`."""
        geometries = np.split(positions.numpy(), molecules.offset[1:-1].numpy())
        numbers = np.split(molecules.numbers.numpy().astype(np.uint8), molecules.offset[1:-1].numpy())
        requests = [
            Request(
                _shown(molecules.mapped_smiles[i]),
                numbers[i],
                geometries[i],
                molecules.charge[i],
                molecules.multiplicity[i],
            )
            for i in range(len(molecules))
        ]
        # The longest first, so that the last ones to finish are short
        order = sorted(range(len(requests)), key=lambda i: -len(requests[i].numbers))
        labels = dict(zip(order, self._threads.map(self._label, [requests[i] for i in order]), strict=True))
        own = [labels[i] for i in range(len(requests))]
        energies = torch.tensor([label.energy for label in own], dtype=torch.float64)
        return energies, torch.from_numpy(np.concatenate([np.zeros((0, 3)), *(label.forces for label in own)]))

    def _label(self, request: Request) -> Label:
        label = self._pool.compute(request)
        if label.status is Status.CRASHED:  # of a child that is gone; the molecule may be fine
            label = self._pool.compute(request)
        if label.status is not Status.OK:
            logger.warning("%s: %s", request.id, label.message)
        return label
