"""AIMNet2 as TorchScript: batches of molecules padded to one size, on CPU threads or a GPU.

The weights are converted to float64: in float32 energies of whole molecules jump by up to 3e-4 eV along a path of
1e-4 angstrom, which an optimizer takes for rises. It costs a third of the speed. Coordinates stay in float32 inside the
network, with a spacing of 1e-6 angstrom for molecules of usual size.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_EV
from golf.nnp.parallel import worker_pool
from golf.nnp.provider import Molecules

MOLECULES_AT_ONCE = 4
"""Molecules in a padded batch on a CPU. CPU time of each of 12 molecules of 18 to 26 atoms: 27 ms with 1, 20 ms with
2, 16 ms with 4, 8 and 12 (one thread, AMD EPYC)."""

MOLECULES_AT_ONCE_ON_GPU = 128


class AIMNet2:
    """Energies and forces of AIMNet2; a `golf.nnp.provider.ForceProvider`. Use `close` when it is not needed any more.

    Args:
        path: TorchScript file with inputs coord [m, n, 3] angstrom, numbers [m, n] and charge [m], and output energy in
            eV.
        device: where the network is.
        threads: CPU threads.

    Raises:
        UserError: the file is not such a network.
    """

    def __init__(self, path: str | Path, device: str = "cpu", threads: int = 1) -> None:
        try:
            with open(path, "rb") as stream:
                network: Any = torch.jit.load(io.BytesIO(stream.read()), map_location=device)
        except OSError as error:
            raise UserError(f"{path}: {(error.strerror or str(error)).lower()}; give AIMNet2's .jpt") from None
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
            raise UserError(f"{path}: not a TorchScript file ({reason}); give AIMNet2's .jpt") from None
        self._network = network.double().eval()
        for parameter in self._network.parameters():
            parameter.requires_grad_(False)
        self._device = torch.device(device)
        self._threads_before = torch.get_num_threads()
        self._pool: ThreadPoolExecutor = worker_pool(threads if self._device.type == "cpu" else 1)
        self._check(path)

    def _check(self, path: str | Path) -> None:
        hydrogen = Molecules(torch.tensor([1, 1]), torch.tensor([0, 2]), (0,), (1,), ("",))
        try:
            energies, _ = self.evaluate(
                hydrogen, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]], dtype=torch.float64)
            )
        except (RuntimeError, KeyError, TypeError):
            self.close()
            raise UserError(
                f"{path}: a TorchScript file that is not AIMNet2 (no energy for coord, numbers and charge); give "
                "AIMNet2's .jpt"
            ) from None
        if not -2.0 < float(energies[0]) < -0.5:  # hartree; exact: -1.17
            self.close()
            raise UserError(f"{path}: the energy of H2 is {float(energies[0]):.4f} hartree; give AIMNet2's .jpt")

    @property
    def device(self) -> torch.device:
        """Device of the tensors that are passed and returned."""
        return self._device

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads_before)

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces; see `golf.nnp.provider.ForceProvider`."""
        sizes = molecules.offset.diff().tolist()
        starts = molecules.offset.tolist()
        # Molecules of similar size are padded together, which wastes least
        order = sorted(range(len(sizes)), key=lambda i: sizes[i])
        at_once = MOLECULES_AT_ONCE if self._device.type == "cpu" else MOLECULES_AT_ONCE_ON_GPU
        batches = [order[k : k + at_once] for k in range(0, len(order), at_once)]

        def computed(batch: list[int]) -> tuple[Tensor, Tensor]:
            rows = [slice(starts[i], starts[i + 1]) for i in batch]
            return self._computed(
                [molecules.numbers[own] for own in rows],
                [positions[own] for own in rows],
                [molecules.charge[i] for i in batch],
            )

        energies = torch.zeros(len(sizes), dtype=torch.float64, device=self._device)
        forces = torch.zeros(positions.shape, dtype=torch.float64, device=self._device)
        for batch, (energy, force) in zip(batches, self._pool.map(computed, batches), strict=True):
            energies[batch] = energy
            for k, i in enumerate(batch):
                forces[starts[i] : starts[i + 1]] = force[k, : sizes[i]]
        return energies, forces

    def _computed(self, numbers: list[Tensor], positions: list[Tensor], charge: list[int]) -> tuple[Tensor, Tensor]:
        """Return energies [m] in hartree and forces [m, n, 3] in hartree/angstrom of one padded batch."""
        padded = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True)
        coord = torch.nn.utils.rnn.pad_sequence([own.to(torch.float64) for own in positions], batch_first=True)
        with torch.enable_grad():
            coord = coord.detach().requires_grad_()
            inputs = {
                "coord": coord,
                "numbers": padded,
                "charge": torch.tensor(charge, dtype=torch.float64, device=self._device),
            }
            energy = self._network(inputs)["energy"]
            (gradient,) = torch.autograd.grad(energy.sum(), coord)
        return energy.detach().to(torch.float64) / HARTREE_IN_EV, -gradient.to(torch.float64) / HARTREE_IN_EV
