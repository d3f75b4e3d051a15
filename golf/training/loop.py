"""Train a potential: loss, learning rate schedule and averaged weights, resumable bit for bit.

One function, `train`, serves the baseline, every GOLF round and the controls. It runs Adam on the loss (GOLF, ICLR
2024; docs/method.md)
    L = w_F mean over molecules (1/n sum over atoms |F - F_label|^2) + w_E mean over molecules (E - E_label)^2,
in hartree and angstrom. On a CPU the gradient is summed over chunks of a batch that fit into the caches, each computed
by one thread. The chunks, and thus the weights, do not depend on the number of threads.

The weights that are returned, validated and saved are an exponential moving average of those that the optimizer
changes. Training continues from the latter, which are saved in the training state.
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
from golf.nnp.parallel import chunks, worker_pool
from golf.nnp.potential import Potential

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 64
MAIN, INITIAL = 0, 1  # streams of batches


class TrainingDiverged(RuntimeError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate schedule: linear warm-up, then a cosine to zero over all trainings that share it (GOLF rounds)."""

    learning_rate: float
    total_updates: int  # of all trainings that share the cosine
    first_update: int = 0  # updates of earlier trainings on the same cosine
    warmup_updates: int = 0

    def rate(self, update: int) -> float:
        """Return the learning rate of an update of this training, counted from 0."""
        k = self.first_update + update
        warm = min(1.0, (k + 1) / self.warmup_updates) if self.warmup_updates else 1.0
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, k / self.total_updates)))


@dataclass(frozen=True)
class Settings:
    """Settings of one training that, together with the data and the start, determine its result."""

    n_updates: int
    batch_size: int
    schedule: Schedule
    initial_fraction: float = 0.0  # share of each batch drawn from the initial labels
    gradient_clip: float = 1.0  # largest gradient norm of the loss, in units of the potential's scale
    ema_decay: float = 0.99  # decay of the moving average of the weights; 0: no averaging
    force_weight: float = 0.99
    energy_weight: float = 0.01
    interval: int = 500  # updates between rows of the metrics
    seed: int = 0


def loss_of(
    energy: Tensor, forces: Tensor, batch: Batch, energy_label: Tensor, force_label: Tensor, settings: Settings
) -> Tensor:
    """Return the loss defined in the module's docstring, float64: weighted hartree^2/angstrom^2 plus hartree^2.

    Args:
        energy: [n] hartree, of the network.
        forces: [A, 3] hartree/angstrom, of the network.
        batch: n molecules with A atoms.
        energy_label: [n] hartree.
        force_label: [A, 3] hartree/angstrom.
        settings: source of the weights.
    """
    squared = (forces - force_label).square().sum(dim=1).to(torch.float64)  # [A]
    per_molecule = torch.zeros_like(energy).index_add(0, batch.molecule, squared) / batch.n_atoms
    energy_error = (energy - energy_label).square().mean()
    return settings.force_weight * per_molecule.mean() + settings.energy_weight * energy_error


def errors(potential: Potential, molecules: LabelledMolecules) -> tuple[float, float]:
    """Return the mean absolute errors of force components (kcal/mol/angstrom) and energies (kcal/mol)."""
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

    A process that is killed at any time and called again with the same arguments resumes from the checkpoint and ends
    with the weights of an uninterrupted run, bit for bit on the same machine. A checkpoint of other data or settings is
    ignored with a warning.

    Args:
        start: potential to start from; it is not changed.
        main: training set from which most of a batch is drawn.
        settings: settings of the training.
        checkpoint: file written every `checkpoint_seconds` and at the end; may be deleted once the result is saved.
        metrics: CSV with one row per `settings.interval` updates, with errors of the averaged weights.
        initial: initial labels D_0, from which `settings.initial_fraction` of a batch is drawn.
        validation: held-out labels.
        state: training state of `start`, to continue its optimizer and weights; None: start a new optimizer.
        checkpoint_seconds: seconds between checkpoints.
        threads: number of chunks of a batch computed at a time on a CPU.
        device: "cpu" or "cuda".

    Returns:
        The trained potential (averaged weights) and its training state (see `Potential.save`).

    Raises:
        UserError: a training set has no labels.
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
    """The concatenated molecules of all streams, and the position, length and share of each stream."""

    molecules: LabelledMolecules
    streams: Mapping[int, tuple[int, int, int]]  # first molecule, number of molecules, number drawn for a batch

    def draw(self, step: int, seed: tuple[int, ...]) -> Tensor:
        """Draw the indices of the molecules of a batch."""
        parts = [first + drawn(n, size, step, (*seed, stream)) for stream, (first, n, size) in self.streams.items()]
        return torch.from_numpy(np.concatenate(parts))


class _Run:
    """A training in progress."""

    def __init__(self, start: Potential, settings: Settings, device: str, state: Mapping[str, Any] | None) -> None:
        self.settings = settings
        self.potential = start.on_schnetpack().to(device)
        self.average = copy.deepcopy(self.potential).requires_grad_(False)
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
        """Prepare the training sets that batches are drawn from.

        Raises:
            UserError: a training set has no labels.
        """
        settings = self.settings
        from_initial = round(settings.initial_fraction * settings.batch_size) if initial is not None else 0
        if initial is not None and 0 < settings.initial_fraction < 1 and settings.batch_size > 1:
            from_initial = min(max(1, from_initial), settings.batch_size - 1)  # every batch draws from both streams
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
        """Run one update."""
        settings = self.settings
        indices = data.draw(self.update, (settings.seed, self.earlier_updates))
        value, gradients, force_error, n_components = self._gradients(data.molecules, indices, pool)
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss of update {self.update + 1} is {value}; lower the learning rate"
                f" (now {settings.schedule.rate(self.update):g}) or check the labels"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.schedule.rate(self.update)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # fused Adam does not look at strides
        torch.nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip)
        self.optimizer.step()
        self.update += 1
        # A young average decays faster, otherwise the initial random weights would stay in it
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
        """Return the loss of a batch, its gradient (in units of the potential's scale), and force errors.

        The last two values are the sum of absolute errors of force components (hartree/angstrom) and their number.
        """
        potential, settings = self.potential, self.settings

        def part(bounds: tuple[int, int]) -> tuple[float, Sequence[Tensor], float, int]:
            batch, energy_label, force_label = molecules.select(indices[slice(*bounds)].to(potential.device))
            energy, forces = potential.network_energy_and_forces(batch, for_training=True)
            loss = loss_of(energy, forces, batch, energy_label, force_label, settings) * (len(energy) / len(indices))
            # The factor has no effect on Adam, but on the clipping
            gradients = torch.autograd.grad(loss / potential.scale**2, self.parameters, materialize_grads=True)
            error = (forces.detach() - force_label).abs().sum(dtype=torch.float64)
            return float(loss.detach()), gradients, float(error), force_label.numel()

        if potential.device.type == "cpu":
            n_atoms = molecules.offset.diff().index_select(0, indices).numpy()
            offset = np.concatenate([[0], np.cumsum(n_atoms)])
            parts = list(pool.map(part, chunks(offset)))
        else:
            parts = [part((0, len(indices)))]
        loss, gradients, error, n_components = parts[0]
        for more in parts[1:]:
            torch._foreach_add_(list(gradients), list(more[1]))
            loss, error, n_components = loss + more[0], error + more[2], n_components + more[3]
        return loss, list(gradients), error, n_components

    def row(self, held_out: LabelledMolecules | None) -> dict[str, float]:
        """Return a row of the metrics, and start the next row."""
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
        """Return the state that a later training continues from: tensors and numbers on the CPU."""
        return {
            "network": _on_cpu(self.potential.network.state_dict()),
            "optimizer": _on_cpu(self.optimizer.state_dict()),
            "n_updates": self.earlier_updates + self.update,
        }

    def snapshot(self) -> dict[str, Any]:
        """Return everything that `restore` needs."""
        state = self.training_state() | {"average": _on_cpu(self.average.network.state_dict())}
        return state | {"update": self.update, "sums": dict(self._sums), "seconds": self._seconds()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Restore the state at which a snapshot was taken."""
        self.potential.network.load_state_dict(snapshot["network"])
        self.average.network.load_state_dict(snapshot["average"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.update = int(snapshot["update"])
        self._sums = dict(snapshot["sums"])
        self._seconds_before = float(snapshot["seconds"])
        self._started = time.monotonic()


def _on_cpu(value: Any) -> Any:
    """Return a copy with every tensor detached and on the CPU."""
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
    """Return a hash of everything that determines the result."""
    digest = hashlib.sha256(json.dumps([asdict(settings), asdict(start.architecture), start.scale]).encode())
    digest.update(f"{data.streams} {data.molecules.digest()} {held_out and held_out.digest()}".encode())
    for weights in (start.network.state_dict(), {} if state is None else state["network"]):
        for name, tensor in weights.items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
