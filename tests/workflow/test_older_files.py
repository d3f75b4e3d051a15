"""Files that an earlier version wrote are read as they were meant: tests/data/written_by_0.1.0."""

import shutil

import numpy as np
import pytest
import torch

from golf.core.conformations import Status, StopReason
from golf.core.hdf5 import read
from golf.core.level import LevelOfTheory
from golf.nnp.potential import load, load_training_state
from golf.oracles.journal import Journal
from golf.oracles.programs.protocol import requests_from
from support import REPOSITORY

OLDER = REPOSITORY / "tests/data/written_by_0.1.0"
LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")


@pytest.mark.parametrize("name", ["labels", "relaxed", "minima"])
def test_conformations_are_read(name):
    conformations = read(OLDER / f"{name}.h5")
    assert len(conformations) > 0 and np.isfinite(conformations.position).all()
    if name != "relaxed":
        assert LEVEL.matches(conformations.attrs) and (conformations.values["status"] == Status.OK).all()


def test_a_label_is_found_in_its_journal_bit_for_bit(tmp_path):
    """So that nothing is paid for again: its key is a hash of geometry, charge, spin and level."""
    labels = read(OLDER / "labels.h5")
    path = shutil.copy(OLDER / "labels.journal.jsonl", tmp_path)
    with Journal(path, LEVEL) as journal:
        found = [journal.get(request) for request in requests_from(labels)]
    assert all(label is not None for label in found)
    assert [label.energy for label in found] == labels.values["energy"].tolist()
    assert np.array_equal(np.concatenate([label.forces for label in found]), labels.atoms["force"])


def test_the_start_of_an_optimization_is_found_in_its_journal(tmp_path):
    minima = read(OLDER / "minima.h5")
    assert minima.frames is not None and len(minima.frames) >= len(minima)
    starts = minima.with_columns(position=minima.atoms["initial_position"])
    with Journal(shutil.copy(OLDER / "minima.journal.jsonl", tmp_path), LEVEL) as journal:
        found = [journal.get(request) for request in requests_from(starts)]
    assert [label.energy for label in found] == minima.values["energy_first"].tolist()


def test_a_model_predicts_what_it_did():
    """Energies and forces at the ends of the relaxations that were made with it."""
    relaxed, potential = read(OLDER / "relaxed.h5"), load(OLDER / "model.pt")
    energy, forces = potential.energy_and_forces(
        *(torch.as_tensor(array) for array in (relaxed.number, relaxed.position, relaxed.offset))
    )
    ended = relaxed.values["stop_reason"] != StopReason.NOT_FINITE
    assert ended.any()
    assert energy.numpy()[ended] == pytest.approx(relaxed.values["nnp_energy_last"][ended], abs=1e-5)  # hartree
    assert forces.numpy() == pytest.approx(relaxed.atoms["nnp_force"], abs=1e-5)  # hartree/angstrom
    assert load_training_state(OLDER / "model.pt")
