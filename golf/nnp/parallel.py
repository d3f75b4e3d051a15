"""A potential on all that a machine has: pieces of a batch on CPU threads, or shares of it on several GPUs."""

from __future__ import annotations

import copy
import ctypes
import itertools
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from golf.nnp.batches import wants_graph

if TYPE_CHECKING:
    from golf.nnp.potential import Potential

ATOMS_PER_PIECE = 320
"""Some 20 ms of work: 8 drug-like molecules. 4 were some 5 % slower, 1 and 32 more so; a training does not care."""

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # mallopt's


def keep_freed_memory() -> None:
    """Let glibc's malloc use large blocks again instead of returning each to the system.

    Mapping them anew costs page faults, which stop all threads: without this, two threads are as slow as one.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            for parameter, value in ((_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**30), (_TOP_PAD, 2**26)):
                mallopt(parameter, value)


def worker_pool(threads: int) -> ThreadPoolExecutor:
    """Threads for pieces of work; each runs its PyTorch operations alone. The caller's may use as many."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


class ThreadedPotential:
    """Energies and forces like those of `potential`, from several threads.

    On a CPU these work on pieces of a batch that fit into the caches. Pieces, and so the last digits of float32, do not
    depend on the number of threads. On GPUs each has a copy of the potential and evaluates its share of the batch; one
    GPU gets all of it. As a context manager it gives PyTorch its number of threads back; malloc stays as it was told.

    Args:
        threads: of the CPU.
        devices: GPUs that take part, the potential's own first; None: all of its kind that PyTorch sees.
    """

    def __init__(self, potential: Potential, threads: int, devices: Sequence[torch.device] | None = None) -> None:
        self._potential = potential
        others = [] if potential.device.type == "cpu" else _gpus(potential.device)
        devices = [potential.device, *others] if devices is None else devices
        self._copies = [potential, *(copy.deepcopy(potential).to(device) for device in devices[1:])]
        self._threads_before = torch.get_num_threads()
        self._pool = worker_pool(max(threads, len(self._copies)))

    def __enter__(self) -> ThreadedPotential:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads_before)

    @property
    def device(self) -> torch.device:
        """Where tensors are taken and returned."""
        return self._potential.device

    def energy_and_forces(self, numbers: Tensor, positions: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """As `Potential.energy_and_forces`."""
        if len(offset) < 2:
            return self._potential.energy_and_forces(numbers, positions, offset)
        if not wants_graph(positions):
            positions = positions.detach()  # threads do not know of the caller's `no_grad`
        atoms = offset.cpu().numpy()
        if self.device.type == "cpu" and len(self._copies) == 1:
            parts = pieces(atoms)
            copies = self._copies * len(parts)
        else:
            parts = shares(atoms, len(self._copies))
            copies = self._copies[: len(parts)]

        def part(potential: Potential, bounds: tuple[int, int]) -> tuple[Tensor, Tensor]:
            first, last = bounds
            rows = slice(int(atoms[first]), int(atoms[last]))
            energies, forces = potential.energy_and_forces(
                numbers[rows], positions[rows], offset[first : last + 1] - offset[first]
            )
            return energies.to(self.device), forces.to(self.device)

        energies, forces = zip(*self._pool.map(part, copies, parts), strict=True)
        return torch.cat(energies), torch.cat(forces)


def _gpus(first: torch.device) -> list[torch.device]:
    """The other GPUs that PyTorch sees; a job on a cluster sees its own only."""
    own = torch.cuda.current_device() if first.index is None else first.index
    return [torch.device(first.type, i) for i in range(torch.cuda.device_count()) if i != own]


def pieces(offset: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of molecules with about `ATOMS_PER_PIECE` atoms each, half of that where there are but two of them.

    Args:
        offset: [molecules + 1], in atoms.
    """
    n_atoms = int(offset[-1])
    atoms_per_piece = ATOMS_PER_PIECE if n_atoms > 2 * ATOMS_PER_PIECE else ATOMS_PER_PIECE // 2
    return shares(offset, max(1, round(n_atoms / atoms_per_piece)))


def shares(offset: np.ndarray, n: int) -> list[tuple[int, int]]:
    """At most `n` ranges of molecules with about the same number of atoms.

    Args:
        offset: [molecules + 1], in atoms.
    """
    n_molecules, n_atoms = len(offset) - 1, int(offset[-1])
    n = min(n, n_molecules)
    bounds: Sequence[int] = np.searchsorted(offset, n_atoms * np.arange(1, n) / n, side="left").tolist()
    return list(itertools.pairwise(sorted({0, *bounds, n_molecules})))
