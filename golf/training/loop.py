"""Training of a potential: loss, schedule, averaged weights; resumable to the bit.

One function, `train`, serves the baseline, every GOLF round and the control. Adam on the loss of DESIGN section 5,
    L = w_F mean over molecules (1/n sum over atoms |F - F_label|^2) + w_E mean over molecules (E - E_label)^2,
in hartree and angstrom (GOLF, ICLR 2024). On a CPU the gradient is summed over pieces of a batch that fit into the
caches, each computed by one thread; the pieces, and so the weights, do not depend on the number of threads.

The weights that are returned, validated and saved are an exponential moving average of those that the optimizer moves;
training goes on from the latter, which travel in the training state.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.progress import progress_bar
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.nnp.batches import Batch, LabelledMolecules, drawn
from golf.nnp.checkpoints import Metrics, read_checkpoint, write_checkpoint
from golf.nnp.parallel import pieces, worker_pool
from golf.nnp.potential import Potential

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 64
MAIN, INITIAL = 0, 1  # streams of batches


class TrainingDiverged(RuntimeError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up, then a cosine to zero, over all the trainings that share it (the GOLF rounds)."""

    learning_rate: float
    total_updates: int  # of all trainings that share the cosine
    first_update: int = 0  # where this training stands on it
    warmup_updates: int = 0

    def rate(self, update: int) -> float:
        """Learning rate of an update of this training, counted from 0."""
        k = self.first_update + update
        warm = min(1.0, (k + 1) / self.warmup_updates) if self.warmup_updates else 1.0
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, k / self.total_updates)))


@dataclass(frozen=True)
class Settings:
    """What a training does, but for the data."""

    n_updates: int
    batch_size: int
    schedule: Schedule
    initial_fraction: float = 0.0  # share of each batch that is drawn from the initial set
    gradient_clip: float = 1.0  # largest gradient norm of the loss, in units of the potential's scale
    ema_decay: float = 0.99  # of the averaged weights; 0: no averaging
    force_weight: float = 0.99
    energy_weight: float = 0.01
    interval: int = 500  # updates between rows of the metrics
    seed: int = 0


def loss_of(
    energy: Tensor, forces: Tensor, batch: Batch, energy_label: Tensor, force_label: Tensor, settings: Settings
) -> Tensor:
    """The loss (see the module's text), float64: Eh^2/A^2 and Eh^2 added with their weights; a mean over molecules.

    Args:
        energy, energy_label: [n] hartree.
        forces, force_label: [A, 3] hartree/angstrom.
    """
    squared = (forces - force_label).square().sum(dim=1).to(torch.float64)  # [A]
    per_molecule = torch.zeros_like(energy).index_add(0, batch.molecule, squared) / batch.n_atoms
    energy_error = (energy - energy_label).square().mean()
    return settings.force_weight * per_molecule.mean() + settings.energy_weight * energy_error


def errors(potential: Potential, molecules: LabelledMolecules) -> tuple[float, float]:
    """Mean absolute errors of force components (kcal/mol/angstrom) and energies (kcal/mol)."""
    force_error = energy_error = 0.0
    for chunk in torch.arange(len(molecules), device=potential.device).split(VALIDATION_BATCH):
        batch, energy_label, force_label = molecules.select(chunk)
        energy, forces = potential.network_energy_and_forces(batch)
        force_error += float((forces - force_label).abs().sum(dtype=torch.float64))
        energy_error += float((energy - energy_label).abs().sum())
    n_components, n = max(1, molecules.force.numel()), max(1, len(molecules))
    return force_error / n_components * HARTREE_IN_KCAL_PER_MOL, energy_error / n * HARTREE_IN_KCAL_PER_MOL


def train(
    start: Potential,
    main: ConformationSet,
    settings: Settings,
    *,
    checkpoint: str | Path,
    metrics: str | Path,
    initial: ConformationSet | None = None,
    validation: ConformationSet | None = None,
    state: Mapping[str, Any] | None = None,
    checkpoint_seconds: float = 120.0,
    threads: int = 1,
    device: str = "cpu",
) -> tuple[Potential, dict[str, Any]]:
    """Train a copy of a potential on the labels with `Status.OK`.

    Killed at any time and called again with the same arguments, it goes on from the checkpoint and ends in the weights
    of an undisturbed run, bit by bit on the same machine. A checkpoint of other data
    or settings is ignored with a warning.

    Args:
        start: where to start; unchanged.
        main: most labels of a batch come from here.
        checkpoint: written every `checkpoint_seconds` and at the end; may be deleted once the result is saved.
        metrics: CSV with a row per `settings.interval` updates, errors of the averaged weights.
        initial: D_0, of which `settings.initial_fraction` of a batch is drawn.
        validation: labels that are not trained on.
        state: the state returned by the training that `start` comes from, to go on with its optimizer and weights.
        threads: pieces of a batch at a time, on a CPU.

    Returns:
        The trained potential (averaged weights) and the state to train it further (see `Potential.save`).

    Raises:
        UserError: there is nothing to train on.
        TrainingDiverged: the loss is not finite.
    """
    with worker_pool(threads) as pool:
        run = _Run(start, settings, device, state)
        data = run.data(main, initial)
        held_out = None if validation is None else run.potential.molecules(validation)
        fingerprint = _fingerprint(start, settings, state, data, held_out)
        rows = Metrics(metrics)
        restored = read_checkpoint(checkpoint, fingerprint)
        if restored is None:
            rows.start()
        else:
            run.restore(restored["run"])
            rows.start(restored["metrics"])
            logger.info("%s: resumed after update %d of %d", checkpoint, run.update, settings.n_updates)
        written = time.monotonic()
        with progress_bar(settings.n_updates, "updates", run.update) as advance:
            while run.update < settings.n_updates:
                run.step(data, pool)
                advance()
                finished = run.update == settings.n_updates
                if finished or run.update % settings.interval == 0:
                    rows.add(row := run.row(held_out))
                    logger.info(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
                if finished or time.monotonic() - written > checkpoint_seconds:
                    write_checkpoint(checkpoint, fingerprint, {"run": run.snapshot(), "metrics": rows.text()})
                    written = time.monotonic()
        return run.average, run.training_state()


@dataclass(frozen=True)
class _Data:
    """Molecules of all streams, one after the other, and for each stream where it begins, its length and its share."""

    molecules: LabelledMolecules
    streams: Mapping[int, tuple[int, int, int]]  # first molecule, how many there are, how many a batch draws

    def draw(self, step: int, seed: tuple[int, ...]) -> Tensor:
        """Indices of the molecules of a batch."""
        parts = [first + drawn(n, size, step, (*seed, stream)) for stream, (first, n, size) in self.streams.items()]
        return torch.from_numpy(np.concatenate(parts))


class _Run:
    """A training in progress."""

    def __init__(self, start: Potential, settings: Settings, device: str, state: Mapping[str, Any] | None) -> None:
        self.settings = settings
        self.average = copy.deepcopy(start).to(device).requires_grad_(False)
        self.potential = copy.deepcopy(start).to(device)
        self.potential.network.requires_grad_(True)
        self.parameters = list(self.potential.network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.schedule.learning_rate, fused=True)
        self.earlier_updates = 0
        if state is not None:
            self.potential.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.earlier_updates = int(state["n_updates"])
        self.update = 0
        self._sums = {"loss": 0.0, "force_error": 0.0, "components": 0.0, "updates": 0.0}  # since the last row
        self._seconds_before = 0.0
        self._started = time.monotonic()

    def data(self, main: ConformationSet, initial: ConformationSet | None) -> _Data:
        """What batches are drawn from."""
        settings = self.settings
        from_initial = round(settings.initial_fraction * settings.batch_size) if initial is not None else 0
        if initial is not None and 0 < settings.initial_fraction < 1 and settings.batch_size > 1:
            from_initial = min(max(1, from_initial), settings.batch_size - 1)  # both streams are in every batch
        parts: list[LabelledMolecules] = []
        streams: dict[int, tuple[int, int, int]] = {}
        for stream, part, size in ((MAIN, main, settings.batch_size - from_initial), (INITIAL, initial, from_initial)):
            if part is None or size == 0:
                continue
            molecules = self.potential.molecules(part)
            if not len(molecules):
                name = "training set" if stream == MAIN else "initial set"
                raise UserError(f"{name}: none of {len(part)} conformations has a label (status ok); label some first")
            streams[stream] = (sum(map(len, parts)), len(molecules), size)
            parts.append(molecules)
        return _Data(LabelledMolecules.concatenate(parts), streams)

    def step(self, data: _Data, pool: Executor) -> None:
        """One update."""
        settings = self.settings
        indices = data.draw(self.update, (settings.seed, self.earlier_updates))
        value, gradients, force_error, n_components = self._gradients(data.molecules, indices, pool)
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss of update {self.update + 1} is {value}; lower the learning rate"
                f" (now {settings.schedule.rate(self.update):g}) or look for wrong labels"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.schedule.rate(self.update)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # fused Adam does not look at strides
        torch.nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip)
        self.optimizer.step()
        self.update += 1
        # A young average forgets its start sooner, else the first (random) weights would stay in it
        total = self.earlier_updates + self.update
        decay = min(settings.ema_decay, (1.0 + total) / (10.0 + total))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.network.parameters()), self.parameters, 1.0 - decay)
        self._sums["loss"] += value
        self._sums["force_error"] += force_error
        self._sums["components"] += n_components
        self._sums["updates"] += 1

    def _gradients(
        self, molecules: LabelledMolecules, indices: Tensor, pool: Executor
    ) -> tuple[float, list[Tensor], float, int]:
        """Loss of a batch and its gradient (in units of the potential's scale), sum of force errors, components."""
        potential, settings = self.potential, self.settings

        def part(bounds: tuple[int, int]) -> tuple[float, Sequence[Tensor], float, int]:
            batch, energy_label, force_label = molecules.select(indices[slice(*bounds)].to(potential.device))
            energy, forces = potential.network_energy_and_forces(batch, for_training=True)
            loss = loss_of(energy, forces, batch, energy_label, force_label, settings) * (len(energy) / len(indices))
            # Adam does not see the factor; clipping does
            gradients = torch.autograd.grad(loss / potential.scale**2, self.parameters, materialize_grads=True)
            error = (forces.detach() - force_label).abs().sum(dtype=torch.float64)
            return float(loss.detach()), gradients, float(error), force_label.numel()

        if potential.device.type == "cpu":
            n_atoms = molecules.offset.diff().index_select(0, indices).numpy()
            offset = np.concatenate([[0], np.cumsum(n_atoms)])
            parts = list(pool.map(part, pieces(offset)))
        else:
            parts = [part((0, len(indices)))]
        loss, gradients, error, n_components = parts[0]
        for more in parts[1:]:
            torch._foreach_add_(list(gradients), list(more[1]))
            loss, error, n_components = loss + more[0], error + more[2], n_components + more[3]
        return loss, list(gradients), error, n_components

    def row(self, held_out: LabelledMolecules | None) -> dict[str, float]:
        """A row of the metrics; starts the next one."""
        sums, self._sums = self._sums, dict.fromkeys(self._sums, 0.0)
        found = errors(self.average, held_out) if held_out is not None and len(held_out) else (math.nan, math.nan)
        return {
            "step": self.update,
            "learning_rate": self.settings.schedule.rate(self.update - 1),
            "loss": sums["loss"] / sums["updates"],
            "train_force_mae_kcal_per_mol_angstrom": sums["force_error"] / sums["components"] * HARTREE_IN_KCAL_PER_MOL,
            "validation_force_mae_kcal_per_mol_angstrom": found[0],
            "validation_energy_mae_kcal_per_mol": found[1],
            "seconds": self._seconds(),
        }

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def training_state(self) -> dict[str, Any]:
        """What the next training needs to go on: tensors and numbers on the CPU."""
        return {
            "network": _on_cpu(self.potential.network.state_dict()),
            "optimizer": _on_cpu(self.optimizer.state_dict()),
            "n_updates": self.earlier_updates + self.update,
        }

    def snapshot(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        state = self.training_state() | {"average": _on_cpu(self.average.network.state_dict())}
        return state | {"update": self.update, "sums": dict(self._sums), "seconds": self._seconds()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken."""
        self.potential.network.load_state_dict(snapshot["network"])
        self.average.network.load_state_dict(snapshot["average"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.update = int(snapshot["update"])
        self._sums = dict(snapshot["sums"])
        self._seconds_before = float(snapshot["seconds"])
        self._started = time.monotonic()


def _on_cpu(value: Any) -> Any:
    """A copy with every tensor detached and on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(item) for item in value)
    return value


def _fingerprint(
    start: Potential,
    settings: Settings,
    state: Mapping[str, Any] | None,
    data: _Data,
    held_out: LabelledMolecules | None,
) -> str:
    """Hash of all that determines the result."""
    digest = hashlib.sha256(json.dumps([asdict(settings), asdict(start.architecture), start.scale]).encode())
    digest.update(f"{data.streams} {data.molecules.digest()} {held_out and held_out.digest()}".encode())
    for weights in (start.network.state_dict(), {} if state is None else state["network"]):
        for name, tensor in weights.items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
