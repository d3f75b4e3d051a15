"""What the network's jobs ask for follows from the sizes of their input, and what they take is less."""

import subprocess
import sys

import numpy as np
import pytest

from golf.core.conformations import ConformationSet, Status
from golf.core.hdf5 import write
from golf.study.config import read_config
from golf.study.job_sizes import (
    LONGEST_MINUTES,
    SHORTEST_MINUTES,
    Contents,
    contents,
    memory_mb,
    relaxation_minutes,
    selection_minutes,
    training_minutes,
)

N_ATOMS = 42


def labelled(n):
    """Labels of carbon and hydrogen atoms at any place."""
    random = np.random.default_rng(1)
    number = np.where(np.arange(N_ATOMS) < N_ATOMS // 2, 6, 1).astype(np.uint8)
    smiles = ".".join(f"[{'C' if z == 6 else 'H'}:{i}]" for i, z in enumerate(number, start=1))
    return ConformationSet(
        id=[f"m/{i:06d}" for i in range(n)],
        molecule=["m"] * n,
        mapped_smiles=[smiles] * n,
        charge=np.zeros(n, np.int8),
        multiplicity=np.ones(n, np.uint8),
        offset=np.arange(n + 1, dtype=np.int64) * N_ATOMS,
        number=np.tile(number, n),
        position=random.normal(scale=2.0, size=(n * N_ATOMS, 3)),
        atoms={"force": random.normal(size=(n * N_ATOMS, 3))},
        values={"energy": random.normal(size=n), "status": np.full(n, Status.OK)},
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.h5"
    write(path, labelled(20_000))
    return str(path)


@pytest.mark.parametrize(("n", "most"), [(50_000, 4000), (500_000, 10_000)])
def test_many_labels_fit_a_node(n, most):
    assert Contents(n, n * N_ATOMS).memory_mb <= most


def test_inputs_add_up(file, tmp_path):
    one = contents([file])
    assert one == Contents(20_000, 20_000 * N_ATOMS) and one.mean_atoms == N_ATOMS
    assert memory_mb(file) < memory_mb(file, file) == contents([file, file]).memory_mb
    with pytest.raises(FileNotFoundError):  # Snakemake asks again when it is there
        memory_mb(file, str(tmp_path / "not there yet.h5"))
    (tmp_path / "damaged.h5").write_text("no HDF5")
    assert memory_mb(str(tmp_path / "damaged.h5")) == Contents(0, 0).memory_mb  # its job says what is wrong


TAKEN = """
import sys
from pathlib import Path
import torch
from golf.core.hdf5 import read
from golf.nnp.potential import Architecture, Potential
from golf.nnp.reference_energies import force_scale
from golf.nnp.repulsion import shortest_distances
from golf.training.recipe import split_validation

def peak_mb():
    # ru_maxrss begins with what pytest holds
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

before = peak_mb()
potential = Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5, 6: -38.0})
training, validation = split_validation(read(sys.argv[1]), 0.1, 1, "conformation")
molecules = potential.molecules(training)
shortest_distances(molecules), force_scale(molecules), molecules.digest()
print(peak_mb() - before)
"""


@pytest.mark.slow
def test_a_training_set_takes_less_than_its_job_asks_for(file):
    """Its pairs, if they were all held at once, would take 20,000 times 24 kB, and making them 4 times as much."""
    done = subprocess.run([sys.executable, "-c", TAKEN, file], capture_output=True, text=True, check=True)
    taken, asked = float(done.stdout), memory_mb(file) - Contents(0, 0).memory_mb
    assert 20 < taken < asked + 100  # MB; pairs of a thousand molecules at a time


def rounds_of(n_labels):
    """Section golf, and as many labels for each round of the control."""
    golf = {"rounds": 2, "labels_per_round": n_labels, "max_steps": 100, "iterations_per_step": 5}
    return {"golf": golf, "controls": {"random_labels": 2 * n_labels}}


def test_minutes_follow_from_the_work(file, tmp_path):
    (tmp_path / "study.yaml").write_text(f"dataset: {{train: {file}}}\nresults_dir: {tmp_path}/none\n")
    config = read_config(tmp_path / "study.yaml") | {"resources": {"device": "cpu", "train_threads": 1}}
    updates = [training_minutes(config, [file], n) for n in (1, 10_000, 20_000, 10**9)]
    assert updates[0] == SHORTEST_MINUTES and updates[-1] == LONGEST_MINUTES
    assert SHORTEST_MINUTES < updates[1] < updates[2] < LONGEST_MINUTES
    few, many = (selection_minutes(config | rounds_of(n), file, "rounds", 1) for n in (1, 50_000))
    assert few == SHORTEST_MINUTES < many <= selection_minutes(config | rounds_of(50_000), file, "random", 1)
    assert SHORTEST_MINUTES < relaxation_minutes(config, file) <= LONGEST_MINUTES
