"""A potential on several CPU threads: batches in pieces that fit into the caches, each piece on one thread."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from golf.potential import Potential

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
    """Energies and forces like those of `potential`, pieces of the batch at a time on `threads` threads.

    For a potential on a GPU, whose batches need no pieces, everything is left to it. Pieces, and so the last
    digits of float32, do not depend on the number of threads.
    """

    def __init__(self, potential: Potential, threads: int) -> None:
        self._potential = potential
        self._pool = worker_pool(threads)

    def __enter__(self) -> ThreadedPotential:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def device(self) -> torch.device:
        """Where tensors are taken and returned."""
        return self._potential.device

    def energy_and_forces(self, numbers: Tensor, positions: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """As `Potential.energy_and_forces`."""
        if self.device.type != "cpu" or len(offset) < 2:
            return self._potential.energy_and_forces(numbers, positions, offset)

        def piece(bounds: tuple[int, int]) -> tuple[Tensor, Tensor]:
            first, last = bounds
            rows = slice(int(offset[first]), int(offset[last]))
            return self._potential.energy_and_forces(
                numbers[rows], positions[rows], offset[first : last + 1] - offset[first]
            )

        energies, forces = zip(*self._pool.map(piece, pieces(offset.numpy())), strict=True)
        return torch.cat(energies), torch.cat(forces)


def pieces(offset: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of molecules with about `ATOMS_PER_PIECE` atoms each, half of that where there are but two of them.

    Args:
        offset: [molecules + 1], in atoms.
    """
    n_molecules, n_atoms = len(offset) - 1, int(offset[-1])
    atoms_per_piece = ATOMS_PER_PIECE if n_atoms > 2 * ATOMS_PER_PIECE else ATOMS_PER_PIECE // 2
    n = max(1, min(round(n_atoms / atoms_per_piece), n_molecules))
    bounds: Sequence[int] = np.searchsorted(offset, n_atoms * np.arange(1, n) / n, side="left").tolist()
    return list(itertools.pairwise(sorted({0, *bounds, n_molecules})))
