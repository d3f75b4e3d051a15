"""Training on drug-like molecules: seconds of an update of 64 molecules, this project's and SchNetPack's.

The molecules are those of the nablaDFT sample with their labels, the weights those of GOLF-1k (GOLF_REFERENCE_DATA).
SchNetPack's update: its network on the whole batch with neighbours within 5 angstrom given free of charge, the loss of
`golf.training.loop`, PyTorch's double backward, Adam. The two take turns.

    python benchmarks/training.py
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from machine import facts
from peers import schnetpack_inputs

from golf.core.processors import usable_processors
from golf.io.nabladft import read_nabladft
from golf.nnp.batches import LabelledMolecules
from golf.nnp.parallel import worker_pool
from golf.nnp.potential import Potential
from golf.nnp.published import import_checkpoint
from golf.training.loop import Schedule, Settings, _Run, loss_of

DATA = Path(os.environ.get("GOLF_REFERENCE_DATA", Path(__file__).resolve().parents[2] / "shared"))


class SchNetPack:
    """An update with SchNetPack's own network."""

    def __init__(self, potential: Potential, molecules: LabelledMolecules, settings: Settings) -> None:
        self._network = copy.deepcopy(potential.network).requires_grad_(True)
        self._adam = torch.optim.Adam(self._network.parameters(), lr=1e-6, fused=True)
        self._molecules, self._settings = molecules, settings

    def __call__(self, indices: torch.Tensor, positions: torch.Tensor) -> None:
        batch, energy_label, force_label = self._molecules.select(indices)
        output = self._network(schnetpack_inputs(batch, positions.clone()))
        energy, forces = output["energy"].double(), output["forces"]
        self._adam.zero_grad()
        loss_of(energy, forces, batch, energy_label, force_label, self._settings).backward()
        self._adam.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=usable_processors(), help="default: all, %(default)s")
    parser.add_argument("--batch", type=int, default=64, help="molecules of a batch (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    if not (DATA / "checkpoints").is_dir():
        raise SystemExit(f"{DATA}: no published data and checkpoints there; set GOLF_REFERENCE_DATA")
    print(facts("torch", "schnetpack"))
    potential = import_checkpoint(DATA / "checkpoints" / "GOLF-1k")
    sample = read_nabladft(DATA / "data" / "nabladft_sample.db")
    settings = Settings(n_updates=100, batch_size=options.batch, schedule=Schedule(1e-6, 100))
    run = _Run(potential, settings, "cpu", None)
    data = run.data(sample, None)
    peer = SchNetPack(potential, data.molecules, settings)
    figures: dict[str, list[float]] = {"golf": [], "SchNetPack": []}
    with worker_pool(options.threads) as pool:
        updates = {"golf": lambda: run.step(data, pool), "SchNetPack": lambda: peer(indices, positions)}
        for k in range(options.blocks + 1):  # the first one warms up
            indices = data.draw(run.update, (settings.seed, 0))  # those that golf will draw
            positions = torch.cat([torch.from_numpy(sample.position[sample.rows(int(i))]) for i in indices]).float()
            for name in sorted(updates, reverse=bool(k % 2)):
                torch.set_num_threads(options.threads)
                started = time.perf_counter()
                updates[name]()
                if k:
                    figures[name].append(time.perf_counter() - started)
                    print(f"  block {k}, {name}: {figures[name][-1]:.3f} s", file=sys.stderr, flush=True)
    print(f"batches of {options.batch} molecules of {sample.n_atoms.mean():.1f} atoms, {options.threads} threads\n")
    print(f"{'':<12}{'s':>8}{'ratio':>8}")
    for name, times in figures.items():
        ratio = statistics.median(b / a for a, b in zip(figures["golf"], times, strict=True))
        print(f"{name:<12}{statistics.median(times):>8.3f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
