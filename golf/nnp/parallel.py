"""Evaluate a potential in parallel: chunks of a batch on CPU threads, or shares of it on several GPUs."""

from __future__ import annotations

import copy
import ctypes
import itertools
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from golf.nnp.batches import wants_graph
from golf.nnp.provider import Molecules

if TYPE_CHECKING:
    from golf.nnp.potential import Potential

ATOMS_PER_CHUNK = 320
"""Atoms per chunk: 8 drug-like molecules, or about 20 ms of work. Relaxations with 4 molecules per chunk were about 5 %
slower, with 1 and 32 slower still; trainings were equally fast."""

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # mallopt's


def keep_freed_memory() -> None:
    """Make glibc's malloc reuse large blocks instead of returning each to the system.

    Otherwise every allocation causes page faults, which stop all threads: two threads are then as slow as one.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            for parameter, value in ((_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**30), (_TOP_PAD, 2**26)):
                mallopt(parameter, value)


def worker_pool(threads: int) -> ThreadPoolExecutor:
    """Start `threads` threads that run PyTorch operations on one core each; the caller may use `threads` cores."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def one_core_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Provide the threads of `worker_pool`, and restore PyTorch's number of threads at the end."""
    before = torch.get_num_threads()
    pool = worker_pool(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


class ThreadedPotential:
    """Compute energies and forces of a potential with several threads or GPUs.

    On a CPU threads work on chunks of a batch that fit into the caches. Chunks, and thus the last digits of float32, do
    not depend on the number of threads. Each GPU has a copy of the potential and evaluates its share of the batch. On
    exit, the context manager restores PyTorch's number of threads, but not the settings of malloc.

    Args:
        potential: the potential.
        threads: number of CPU threads.
        devices: GPUs to use, that of the potential first; None: all GPUs that PyTorch sees, if the potential is on one.
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
    def network(self) -> Potential:
        """The potential itself, which has a `hessian`."""
        return self._potential

    @property
    def device(self) -> torch.device:
        """Device of the tensors that are passed and returned."""
        return self._potential.device

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces of molecules; see `golf.nnp.provider.ForceProvider`."""
        return self.energy_and_forces(molecules.numbers, positions, molecules.offset)

    def energy_and_forces(self, numbers: Tensor, positions: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces; see `Potential.energy_and_forces`."""
        if len(offset) < 2:
            return self._potential.energy_and_forces(numbers, positions, offset)
        if not wants_graph(positions):
            positions = positions.detach()  # the caller's `no_grad` has no effect in other threads
        atoms = offset.cpu().numpy()
        if self.device.type == "cpu" and len(self._copies) == 1:
            parts = chunks(atoms)
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
    """Return the other GPUs that PyTorch sees; a job on a cluster sees only its own."""
    own = torch.cuda.current_device() if first.index is None else first.index
    return [torch.device(first.type, i) for i in range(torch.cuda.device_count()) if i != own]


def chunks(offset: np.ndarray) -> list[tuple[int, int]]:
    """Split molecules into ranges with about `ATOMS_PER_CHUNK` atoms each, or half of that if there are at most two.

    Args:
        offset: [n_molecules + 1], in atoms.
    """
    n_atoms = int(offset[-1])
    atoms_per_chunk = ATOMS_PER_CHUNK if n_atoms > 2 * ATOMS_PER_CHUNK else ATOMS_PER_CHUNK // 2
    return shares(offset, max(1, round(n_atoms / atoms_per_chunk)))


def shares(offset: np.ndarray, n: int) -> list[tuple[int, int]]:
    """Split molecules into at most `n` ranges with about the same number of atoms.

    Args:
        offset: [n_molecules + 1], in atoms.
        n: largest number of ranges.
    """
    n_molecules, n_atoms = len(offset) - 1, int(offset[-1])
    n = min(n, n_molecules)
    bounds: Sequence[int] = np.searchsorted(offset, n_atoms * np.arange(1, n) / n, side="left").tolist()
    return list(itertools.pairwise(sorted({0, *bounds, n_molecules})))
