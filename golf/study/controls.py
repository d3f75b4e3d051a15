"""Select the labels of the control arms, without failure detection and with a given budget.

- rdkit: one random state of RDKit's MMFF minimization of each of the conformations drawn;
- traj: the gradients of DFT optimizations from training conformations;
- random: as GOLF's rounds, but with states drawn at random (`golf.study.selection.select_conformations` without a
  surrogate).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import ConformationRecord, ConformationSet, Status
from golf.core.errors import UserError
from golf.core.level import ORIGIN_ATTRS
from golf.oracles.costs import n_gradients

logger = logging.getLogger(__name__)

_RDKIT, _TRAJ = 1, 2  # streams of random numbers


def select_along_mmff(
    starts: ConformationSet, surrogate: MMFFSurrogate, *, n_select: int, seed: int, max_iterations: int
) -> ConformationSet:
    """Draw one random state of the MMFF minimization of each of `n_select` randomly drawn conformations.

    Returns:
        Ids `{molecule}/rdkit-{k}`, with `start_id`, `initial_position`, and `n_steps` up to the state.

    Raises:
        UserError: there are fewer starts.
        SurrogateError: see `MMFFSurrogate`.
    """
    if n_select > len(starts):
        raise UserError(
            f"key controls.rdkit_labels: {n_select} labels cannot be chosen from {len(starts)} training conformations, "
            "one each; ask for fewer or give more"
        )
    random = np.random.default_rng([seed, _RDKIT])
    order = random.permutation(len(starts))[:n_select]
    positions, steps = [], []
    for i in order:
        states = surrogate.trajectory(
            starts.mapped_smiles[i],
            starts.position[starts.rows(i)],
            max_iterations=max_iterations,
            name=starts.id[i],
        )
        k = int(random.integers(len(states)))
        positions.append(states[k])
        steps.append(k + 1)
    chosen = starts.bare().subset(order)
    ids = [f"{molecule}/rdkit-{k:04d}" for k, molecule in enumerate(chosen.molecule)]
    return replace(chosen, id=ids).with_columns(
        position=np.concatenate([np.zeros((0, 3)), *positions]),
        atoms={"initial_position": chosen.position},
        values={"start_id": chosen.id, "n_steps": steps},
    )


def select_trajectory_starts(labelled: ConformationSet, *, n_labels: int, seed: int) -> ConformationSet:
    """Draw training conformations whose DFT optimizations will give about `n_labels` new labels.

    Args:
        labelled: training conformations with their labels; those with a label are starts, which are known gradients.

    Raises:
        UserError: there are too few.
    """
    usable = np.flatnonzero(labelled.values["status"] == Status.OK)
    order = np.random.default_rng([seed, _TRAJ]).permutation(usable)
    gained = np.cumsum(n_gradients(labelled.n_atoms[order]) - 1)
    if not len(gained) or gained[-1] < n_labels:
        most = int(gained[-1]) if len(gained) else 0
        raise UserError(
            f"key controls.traj_labels: DFT optimizations of all {len(order)} training conformations give some {most} "
            f"labels, {n_labels} are asked for; ask for fewer or give more conformations"
        )
    return labelled.subset(order[: int(np.searchsorted(gained, n_labels)) + 1])


def labels_along(optimizations: ConformationSet, *, n_labels: int, max_force_norm: float | None) -> ConformationSet:
    """Return the first `n_labels` gradients of DFT optimizations as labels, without those of the starts.

    Args:
        optimizations: what `golf.oracles.minima` returns, with frames.
        max_force_norm: hartree/angstrom; see `golf.oracles.merging.merge_labels`.

    Returns:
        Ids `{molecule}/traj-{conformation}-{step}`, with labels and the attributes of their level.
    """
    frames = [frame for frame in optimizations.frames or () if frame.step > 0][:n_labels]
    if len(frames) < n_labels:
        logger.warning("the DFT optimizations gave %d labels, %d were planned", len(frames), n_labels)
    sources = [frame.conformation for frame in frames]
    each = optimizations.values["wall_seconds"] / np.maximum(optimizations.values["n_force_evaluations"], 1)
    records, forces, status = [], [], []
    for i, step, _, position, force in frames:
        name = f"{optimizations.molecule[i]}/traj-{i:04d}-{step:03d}"
        charge, spin = int(optimizations.charge[i]), int(optimizations.multiplicity[i])
        numbers = optimizations.number[optimizations.rows(i)]
        molecule, smiles = optimizations.molecule[i], optimizations.mapped_smiles[i]
        records.append(ConformationRecord(name, molecule, smiles, charge, spin, numbers, position))
        forces.append(force)
        too_large = max_force_norm is not None and np.linalg.norm(force) > max_force_norm
        status.append(Status.REJECTED if too_large else Status.OK)
    return ConformationSet.build(
        records, **{name: optimizations.attrs[name] for name in ORIGIN_ATTRS if name in optimizations.attrs}
    ).with_columns(
        atoms={"force": np.concatenate([np.zeros((0, 3)), *forces])},
        values={
            "energy": [frame.energy for frame in frames],
            "status": status,
            "message": [""] * len(frames),
            "wall_seconds": each[sources] if sources else [],
            "start_id": [optimizations.id[i] for i in sources],
        },
    )
