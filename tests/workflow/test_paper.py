"""The paper's configurations, planned by Snakemake with small stand-ins for the public files."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.db
import h5py
import numpy as np
import pytest
import torch

from golf.cli.main import main
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.nnp.potential import Architecture, Potential
from golf.study.arms import needs_training, publishes_model
from golf.study.budget import label_parts, network
from golf.study.config import read_config, validated
from golf.study.forecast import Model
from golf.study.workload import workload
from support import REPOSITORY
from support.data_sets import spice_group

SPLIT = "v2_formation_energy_w_forces.db"
N_TEST = 10


def part_of(sample, path, start, n):
    with ase.db.connect(sample) as given, ase.db.connect(path) as database:
        database.metadata = given.metadata
        for row in given.select(offset=start, limit=n):
            database.write(row.toatoms(), data=row.data, **row.key_value_pairs)


def spice(path, n_molecules):
    """Molecules of the sample's default study as SPICE holds them, each with four conformations and a new name."""
    pool = read(REPOSITORY / "data/initial.h5")
    rows = [i for i in range(len(pool)) if pool.molecule[i] == pool.molecule[0]][:4]
    with h5py.File(path, "w") as file:
        for k in range(n_molecules):
            spice_group(
                file,
                f"molecule-{k}",
                pool.mapped_smiles[rows[0]],
                pool.number[pool.rows(rows[0])].tolist(),
                [pool.position[pool.rows(i)] for i in rows],
                pool.values["energy"][rows],
                [-pool.atoms["force"][pool.rows(i)] for i in rows],
            )


def spice_sets(folder, monkeypatch, **sizes):
    """Make the data of paper-spice.yaml as the page says, with other sizes."""
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/paper.md").read_text(), re.DOTALL)
    for name, value in sizes.items():
        code, n = re.subn(rf"^{name} = .*$", f"{name} = {value}", code, flags=re.MULTILINE)
        assert n == 1, name
    monkeypatch.chdir(folder)
    exec(code, {})


@pytest.fixture
def folder(tmp_path, reference_data):
    """A working folder with stand-ins where the configurations look for data and models."""
    (tmp_path / "data").mkdir()
    (tmp_path / "models").mkdir()
    sample = reference_data / "data/nabladft_sample.db"
    part_of(sample, tmp_path / f"data/train_2k_{SPLIT}", 0, 50)
    part_of(sample, tmp_path / f"data/test_2k_conformers_{SPLIT}", 50, N_TEST)
    shutil.copy(sample, tmp_path / "data/nabladft.db")
    torch.manual_seed(1)
    for name in ("baseline-nnp", "golf-1k", "golf-10k"):
        Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5}).save(
            tmp_path / f"models/{name}.pt"
        )
    return tmp_path


def planned(folder, name, *further):
    """Jobs by rule.

    Args:
        further: configurations whose keys win.
    """
    command = [Path(sys.executable).with_name("snakemake"), "-n", "--quiet", "rules", "--snakefile"]
    command += [REPOSITORY / "Snakefile", "--directory", folder, "--configfile", REPOSITORY / f"configs/{name}.yaml"]
    done = subprocess.run(
        [*map(str, command), *map(str, further)], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}


def state_batches(size, n_test=N_TEST):
    """Label jobs for the states along an arm's relaxations: 11 steps of at most 50 conformations."""
    return -(-11 * min(50, n_test) // size)


@pytest.mark.slow
def test_golf_1k(folder):
    jobs = planned(folder, "paper-golf-1k")
    assert jobs["relax_round"] == jobs["train_round"] == 21
    tests, states = 4 * 2, 3 * state_batches(8)
    assert jobs["label_batch"] == 21 * 6 + tests + states
    assert jobs["evaluate_arm"] == 4 and jobs["relax_test"] == 3 and jobs["minimize_test"] == 1
    assert jobs["optimize_batch"] == 1 and jobs["start_from_model"] == jobs["publish_model"] == 1
    assert not {"train_baseline", "continue_baseline", "download_data"} & set(jobs)


@pytest.mark.slow
def test_golf_10k(folder):
    jobs = planned(folder, "paper-golf-10k")
    assert jobs["relax_round"] == jobs["train_round"] == 84
    assert jobs["label_batch"] == 84 * 15 + 4 * 2 + 3 * state_batches(8)
    assert jobs["evaluate_arm"] == 4 and jobs["train_baseline"] == jobs["continue_baseline"] == 1


@pytest.mark.slow
def test_trajectories_without_golf_rounds(folder):
    (folder / "fewer.yaml").write_text("controls: {rdkit_labels: 40}")
    jobs = planned(folder, "paper-traj", folder / "fewer.yaml")
    assert jobs["optimize_batch"] == 200 + 1 and jobs["train_control"] == 2
    assert jobs["label_batch"] == 1 + 4 * 1 + 3 * state_batches(50)
    assert jobs["evaluate_arm"] == 4 and jobs["train_baseline"] == 1
    assert not {"relax_round", "train_round", "publish_model"} & set(jobs)


@pytest.mark.slow
def test_spice(folder, monkeypatch):
    before = planned(folder, "paper-spice")
    assert before == {"all": 1, "download_data": 1, "total": 2}
    spice(folder / "data/SPICE-1.1.4.hdf5", 9)
    spice_sets(folder, monkeypatch, TRAIN="(3, 5)", TEST="(6, 8)")
    train, test = (read(folder / f"data/spice-{name}.h5") for name in ("d0", "test"))
    assert len(train) == 5 and len(test) == 8 and not set(train.molecule) & set(test.molecule)
    pool = read(REPOSITORY / "data/initial.h5")
    energies = np.sort(pool.values["energy"][[i for i, m in enumerate(pool.molecule) if m == pool.molecule[0]][:4]])
    assert train.values["energy"].min() == pytest.approx(energies[2], abs=1e-6)
    assert (test.values["energy"] > energies[1] + 1e-6).sum() == 4
    jobs = planned(folder, "paper-spice")
    assert jobs["label_batch"] == 1 + 84 * 15 + 2 * 1 + 2 * state_batches(8, 8)
    assert jobs["relax_round"] == 84 and jobs["evaluate_arm"] == 2


def test_published_checkpoints_train_nothing(folder):
    jobs = planned(folder, "published-checkpoints")
    assert jobs["label_batch"] == 6 and jobs["optimize_batch"] == 4 and jobs["evaluate_arm"] == 3
    assert not {rule for rule in jobs if "train" in rule or "baseline" in rule or "publish" in rule}
    config = read_config(REPOSITORY / "configs/published-checkpoints.yaml")
    assert not needs_training(config) and not publishes_model(config)


def arms(*names, rounds, models=()):
    raw = {"golf": {"rounds": rounds}, "evaluation": {"arms": list(names), "models": dict.fromkeys(models, "a.pt")}}
    return validated({"dataset": {"train": "a.smi"}} | raw, "a.yaml")


def test_what_is_not_compared_is_not_trained():
    assert needs_training(arms("mmff", "golf", rounds=2)) and publishes_model(arms("golf", rounds=2))
    assert needs_training(arms("baseline", rounds=2)) and not publishes_model(arms("baseline", rounds=2))
    assert publishes_model(arms("baseline", rounds=0))
    assert not needs_training(arms("mmff", "golf", rounds=0, models=["other"]))
    with pytest.raises(UserError, match=r"key golf\.rounds: no arm trains a network"):
        arms("mmff", rounds=2, models=["other"])


@pytest.mark.parametrize(("name", "rounds", "updates"), [("mmff", 0, 0), ("baseline", 2, 7 + 24), ("golf", 2, 7 + 24)])
def test_what_is_not_trained_costs_nothing(tmp_path, cheap_basis, name, rounds, updates):
    (tmp_path / "molecules.smi").write_text("CO methanol\nO water\n")
    config = validated(
        {
            "dataset": {"train": str(tmp_path / "molecules.smi"), "conformers": 3},
            "results_dir": str(tmp_path / "results"),
            "training": {"updates": 7},
            "golf": {"rounds": rounds, "labels_per_round": 4, "updates_per_label": 3},
            "evaluation": {"arms": [name]},
        },
        "a.yaml",
    )
    work = workload(config, cheap_basis)
    labels = {part.name: part.n for part in label_parts(config, work, Model(1e-6, ""))}
    assert labels.get("initial labels", 0) == (0 if name == "mmff" else 6)
    assert labels.get("round labels", 0) == (8 if name == "golf" else 0)
    assert network(config, work).n_updates == updates


@pytest.mark.psi4
def test_status_of_a_study_without_training(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["status", str(REPOSITORY / "configs/published-checkpoints.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "Nothing to train" in shown and "initial labels" not in shown and "ends of golf-1k" in shown
