"""Training: the loss, what is drawn, averaged weights, and that a killed training ends as an undisturbed one."""

import copy
import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from golf.core import hdf5
from golf.core.conformations import ConformationSet, Status
from golf.core.errors import UserError
from golf.nnp.batches import LabelledMolecules, drawn, pairs_within
from golf.nnp.parallel import worker_pool
from golf.nnp.potential import Architecture, Potential, load, load_training_state
from golf.nnp.reference_energies import fit_reference_energies, force_scale
from golf.nnp.repulsion import shortest_distances
from golf.study import trainings as training_stages
from golf.training.loop import Schedule, Settings, TrainingDiverged, _Run, errors, loss_of, train
from support import REPOSITORY
from support.mmff_labels import labelled_conformers

SMALL = Architecture("painn", n_atom_basis=16, n_interactions=2, n_rbf=8, cutoff=4.0)


@pytest.fixture(scope="module")
def labelled() -> ConformationSet:
    return labelled_conformers(["OC=O", "CCO"], 6)


def new_potential(labelled: ConformationSet, architecture: Architecture = SMALL) -> Potential:
    torch.manual_seed(1)
    potential = Potential(architecture, fit_reference_energies(labelled))
    potential.scale = force_scale(potential.molecules(labelled))
    return potential


def settings_of(n_updates: int, learning_rate: float = 2e-3, **changes) -> Settings:
    settings = Settings(n_updates, batch_size=6, schedule=Schedule(learning_rate, n_updates), interval=10, seed=4)
    return replace(settings, **changes)


def files(folder: Path, name: str = "run") -> dict[str, Path]:
    return {"checkpoint": folder / f"{name}.ckpt", "metrics": folder / f"{name}.csv"}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def same_weights(one: Potential, other: Potential) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    )


def test_loss_is_the_written_formula(labelled):
    potential = new_potential(labelled)
    molecules = potential.molecules(labelled)
    batch, energy_label, force_label = molecules.select(torch.tensor([3, 0, 7]))
    energy, forces = potential.network_energy_and_forces(batch)
    settings = settings_of(1, force_weight=0.7, energy_weight=0.3)
    found = float(loss_of(energy, forces, batch, energy_label, force_label, settings).detach())

    reference = potential.reference_energies
    force_terms, energy_terms = [], []
    for i in (3, 0, 7):
        part = labelled.subset([i])
        numbers = torch.from_numpy(part.number.astype(np.int64))
        total, force = potential.energy_and_forces(
            numbers, torch.from_numpy(part.position), torch.from_numpy(part.offset)
        )
        difference = force.numpy() - part.atoms["force"]
        force_terms.append(np.mean([np.dot(row, row) for row in difference]))
        shift = sum(reference[int(z)] for z in part.number)
        energy_terms.append(((float(total[0]) - shift) - (part.values["energy"][0] - shift)) ** 2)
    assert found == pytest.approx(0.7 * np.mean(force_terms) + 0.3 * np.mean(energy_terms), rel=1e-5)


def test_batches_hold_the_labels_of_their_molecules(labelled):
    potential = new_potential(labelled)
    molecules = potential.molecules(labelled)
    batch, energy, force = molecules.select(torch.tensor([5, 2]))
    part = labelled.subset([5, 2])
    assert batch.numbers.tolist() == part.number.tolist()
    assert batch.n_atoms.tolist() == part.n_atoms.tolist()
    np.testing.assert_allclose(force, part.atoms["force"], rtol=1e-6, atol=1e-8)
    shift = [sum(potential.reference_energies[int(z)] for z in part.number[part.rows(i)]) for i in range(2)]
    np.testing.assert_allclose(energy, part.values["energy"] - shift, rtol=0, atol=1e-10)
    position = torch.from_numpy(part.position)
    np.testing.assert_allclose(batch.vectors, position[batch.pair_j] - position[batch.pair_i], atol=1e-6)
    assert torch.equal(batch.molecule[batch.pair_i], batch.molecule[batch.pair_j])


def test_batches_are_bit_for_bit_those_of_the_molecules_alone(labelled, monkeypatch):
    """Pairs are made for each batch, and the repulsion is subtracted in chunks: neither is to change a training."""
    energies = new_potential(labelled).reference_energies
    walled = Potential(replace(SMALL, repulsion="wall"), energies, shortest_distances={"H-H": 2.5})
    molecules = walled.molecules(labelled)
    batch, _, _ = molecules.select(torch.tensor([5, 2]))
    part = labelled.subset([5, 2])
    pair_i, pair_j, vectors = pairs_within(torch.from_numpy(part.position), torch.from_numpy(part.offset), SMALL.cutoff)
    assert torch.equal(batch.pair_i, pair_i) and torch.equal(batch.pair_j, pair_j)
    assert torch.equal(batch.vectors, vectors.to(torch.float32))
    whole = LabelledMolecules.chunks
    monkeypatch.setattr(LabelledMolecules, "chunks", lambda self: whole(self, 3))
    in_chunks = walled.molecules(labelled)
    assert in_chunks.digest() == molecules.digest() and shortest_distances(in_chunks) == shortest_distances(molecules)
    both = LabelledMolecules.concatenate([molecules, molecules])
    n = len(molecules)
    (first, *labels), (second, *others) = (both.select(torch.tensor([2 + k, n - 1])) for k in (0, n))
    assert torch.equal(first.vectors, second.vectors) and all(map(torch.equal, labels, others))


def test_labels_less_the_repulsion_are_trained_on(labelled):
    """The network's target and the repulsion add up to the label, also where the repulsion is large."""
    walled = Potential(
        replace(SMALL, repulsion="wall"), new_potential(labelled).reference_energies, shortest_distances={"H-H": 2.5}
    )
    batch, energy_label, force_label = walled.molecules(labelled).select(torch.arange(len(labelled)))
    network_energy, network_force = walled.network_energy_and_forces(batch)
    numbers, offset = torch.from_numpy(labelled.number.astype(np.int64)), torch.from_numpy(labelled.offset)
    total, force = walled.energy_and_forces(numbers, torch.from_numpy(labelled.position), offset)
    np.testing.assert_allclose(total - network_energy + energy_label, labelled.values["energy"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(force - network_force + force_label, labelled.atoms["force"], rtol=0, atol=2e-5)
    reference = np.array([walled.reference_energies[int(z)] for z in labelled.number])
    bare = labelled.values["energy"] - np.add.reduceat(reference, labelled.offset[:-1])
    assert (energy_label.numpy() < bare - 0.01).any() and (energy_label.numpy() < bare + 1e-6).all()


def test_every_molecule_is_drawn_once_an_epoch():
    steps = [drawn(10, 4, step, (3, 0)) for step in range(5)]
    assert sorted(np.concatenate(steps)[:10]) == list(range(10))
    assert sorted(np.concatenate(steps)[10:]) == list(range(10))
    assert drawn(3, 8, 2, (3, 0)).shape == (8,)
    assert (drawn(10, 4, 1, (3, 0)) == steps[1]).all() and (drawn(10, 4, 1, (4, 0)) != steps[1]).any()


def test_schedule_is_one_cosine_over_all_rounds():
    whole = Schedule(1e-3, total_updates=300, warmup_updates=10)
    second = Schedule(1e-3, total_updates=300, first_update=100, warmup_updates=10)
    assert second.rate(0) == whole.rate(100)
    assert whole.rate(0) == pytest.approx(1e-4)
    assert whole.rate(150) == pytest.approx(0.5e-3)
    assert whole.rate(299) < 1e-7


@pytest.mark.parametrize("representation", ["painn", "schnet"])
def test_training_overfits_a_tiny_set(representation, labelled, tmp_path):
    part = labelled.subset([0, 1, 2, 3])
    potential = new_potential(part, replace(SMALL, representation=representation))
    before = errors(potential, potential.molecules(part))
    trained, _ = train(potential, part, settings_of(300, 5e-3, batch_size=4), validation=part, **files(tmp_path))
    after = errors(trained, trained.molecules(part))
    assert after[0] < 0.25 * before[0] and after[1] < 0.25 * before[1]
    rows = rows_of(tmp_path / "run.csv")
    assert [int(row["step"]) for row in rows] == list(range(10, 301, 10))
    assert float(rows[-1]["validation_force_mae_kcal_per_mol_angstrom"]) == pytest.approx(after[0], rel=1e-6)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_only_ok_labels_are_trained_on(labelled, tmp_path):
    status = np.full(len(labelled), Status.OK)
    status[::2] = Status.REJECTED
    force = labelled.atoms["force"].copy()
    force[labelled.rows(0)] = np.nan
    marked = labelled.with_columns(atoms={"force": force}, values={"status": status})
    potential = new_potential(labelled)
    with_rejected, _ = train(potential, marked, settings_of(4), **files(tmp_path, "a"))
    without, _ = train(potential, labelled.subset(np.arange(1, 12, 2)), settings_of(4), **files(tmp_path, "b"))
    assert same_weights(with_rejected, without)
    none = labelled.with_columns(values={"status": np.full(len(labelled), Status.FAILED)})
    with pytest.raises(UserError, match="training set: none of 12 conformations has a label"):
        train(potential, none, settings_of(4), **files(tmp_path, "c"))


def test_batches_mix_main_and_initial_set(labelled, tmp_path):
    """With the initial set alone in its share, the result depends on it; without a share it does not."""
    potential = new_potential(labelled)
    main, initial = labelled.subset(range(6)), labelled.subset(range(6, 12))
    alone, _ = train(potential, main, settings_of(4), **files(tmp_path, "a"))
    unused, _ = train(potential, main, settings_of(4), initial=initial, **files(tmp_path, "b"))
    mixed, _ = train(potential, main, settings_of(4, initial_fraction=0.5), initial=initial, **files(tmp_path, "c"))
    assert same_weights(alone, unused) and not same_weights(alone, mixed)


@pytest.mark.parametrize(("share", "expected"), [(0.99, (1, 3)), (0.01, (3, 1)), (0.5, (2, 2))])
def test_both_sets_are_in_every_batch(labelled, share, expected):
    run = _Run(new_potential(labelled), settings_of(1, batch_size=4, initial_fraction=share), "cpu", None)
    data = run.data(labelled.subset(range(6)), labelled.subset(range(6, 12)))
    assert tuple(size for _, _, size in data.streams.values()) == expected


def test_weights_are_averaged_and_training_goes_on_from_the_raw_ones(labelled, tmp_path):
    potential = new_potential(labelled)
    settings = settings_of(1, schedule=Schedule(1e-3, 100), ema_decay=0.9)
    average = [p.detach().clone() for p in potential.network.parameters()]
    state, current = None, potential
    for k in range(3):  # one update at a time, so that every raw weight is seen
        current, state = train(
            current,
            labelled,
            replace(settings, schedule=Schedule(1e-3, 100, first_update=k)),
            state=state,
            **files(tmp_path, str(k)),
        )
        decay = min(0.9, (2 + k) / (11 + k))
        raw = [state["network"][name] for name, _ in potential.network.named_parameters()]
        average = [a + (1 - decay) * (r - a) for a, r in zip(average, raw, strict=True)]
        for found, expected in zip(current.network.parameters(), average, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert state["n_updates"] == 3
    unaveraged, state = train(potential, labelled, replace(settings, ema_decay=0.0), **files(tmp_path, "off"))
    for name, parameter in unaveraged.network.named_parameters():
        assert torch.equal(parameter, state["network"][name])


def test_training_state_travels_in_the_model_file(labelled, tmp_path):
    trained, state = train(new_potential(labelled), labelled, settings_of(3), **files(tmp_path, "a"))
    trained.save(tmp_path / "model.pt", state)
    again = {"main": labelled, "settings": settings_of(3)}
    direct, _ = train(trained, state=state, **again, **files(tmp_path, "b"))
    loaded = load(tmp_path / "model.pt")
    from_file, _ = train(loaded, state=load_training_state(tmp_path / "model.pt"), **again, **files(tmp_path, "c"))
    assert same_weights(direct, from_file)
    fresh, _ = train(loaded, **again, **files(tmp_path, "d"))
    assert not same_weights(fresh, direct)  # without its optimizer


def test_a_loss_that_is_not_finite_raises(labelled, tmp_path):
    energy = labelled.values["energy"].copy()
    energy[:] = np.inf
    wrong = labelled.with_columns(values={"energy": energy})
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        train(new_potential(labelled), wrong, settings_of(3), **files(tmp_path))


def test_a_stale_checkpoint_is_ignored_with_a_warning(labelled, tmp_path, caplog):
    caplog.set_level("WARNING")
    potential = new_potential(labelled)
    train(potential, labelled, settings_of(6), **files(tmp_path))
    expected, _ = train(potential, labelled, settings_of(6, seed=5), **files(tmp_path, "other"))
    assert not caplog.records
    found, _ = train(potential, labelled, settings_of(6, seed=5), **files(tmp_path))
    assert "checkpoint of other data or settings ignored" in caplog.text
    assert same_weights(found, expected)
    caplog.clear()
    files(tmp_path)["checkpoint"].write_bytes(b"half a checkpoint")
    found, _ = train(potential, labelled, settings_of(6, seed=5), **files(tmp_path))
    assert "unreadable checkpoint ignored" in caplog.text
    assert same_weights(found, expected)


def test_a_finished_training_is_not_repeated(labelled, tmp_path):
    potential = new_potential(labelled)
    first, state = train(potential, labelled, settings_of(25), **files(tmp_path))
    text = files(tmp_path)["metrics"].read_text()
    files(tmp_path)["metrics"].unlink()
    second, state_again = train(potential, labelled, settings_of(25), **files(tmp_path))
    assert same_weights(first, second) and state["n_updates"] == state_again["n_updates"]
    assert files(tmp_path)["metrics"].read_text() == text


CHILD = """
import sys
from pathlib import Path
from golf.core import hdf5
from golf.nnp.potential import load
from golf.training.loop import Schedule, Settings, train
folder = Path(sys.argv[1])
labelled = hdf5.read(folder / "labelled.h5")
settings = Settings(int(sys.argv[2]), 6, Schedule(2e-3, int(sys.argv[2])), initial_fraction=0.2, interval=10, seed=4)
trained, state = train(
    load(folder / "start.pt"), labelled, settings, initial=labelled, validation=labelled,
    checkpoint=folder / "killed.ckpt", metrics=folder / "killed.csv", checkpoint_seconds=float(sys.argv[3]),
)
trained.save(folder / "killed.pt", state)
"""


@pytest.mark.slow
def test_a_training_killed_with_sigkill_ends_as_an_undisturbed_one(labelled, tmp_path):
    n_updates = 200
    hdf5.write(tmp_path / "labelled.h5", labelled)
    new_potential(labelled).save(tmp_path / "start.pt")
    root = REPOSITORY
    environment = os.environ | {"PYTHONPATH": str(root)}

    def child(checkpoint_seconds: float) -> subprocess.Popen:
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(n_updates), str(checkpoint_seconds)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    process = child(checkpoint_seconds=0.3)
    checkpoint, metrics = tmp_path / "killed.ckpt", tmp_path / "killed.csv"
    deadline = time.monotonic() + 120
    while not (checkpoint.exists() and len(rows_of(metrics)) >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = torch.load(checkpoint, weights_only=True)["content"]["run"]["update"]
    assert 0 < reached < n_updates

    assert child(checkpoint_seconds=60.0).wait() == 0
    settings = replace(settings_of(n_updates), initial_fraction=0.2)
    undisturbed, state = train(
        load(tmp_path / "start.pt"),
        labelled,
        settings,
        initial=labelled,
        validation=labelled,
        **files(tmp_path, "undisturbed"),
    )
    assert same_weights(load(tmp_path / "killed.pt"), undisturbed)
    resumed = load_training_state(tmp_path / "killed.pt")
    assert all(torch.equal(resumed["network"][name], value) for name, value in state["network"].items())
    rows, expected = rows_of(metrics), rows_of(tmp_path / "undisturbed.csv")
    for row in rows + expected:
        del row["seconds"]
    assert rows == expected


TWICE = """
import sys
from golf.study import trainings as stages
from golf.core.job import job
from golf.nnp.potential import Architecture
folder, log, updates = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = stages.TrainingOptions(updates, 4, 1e-3, 0, 1.0, 0.9, 0.99, 0.01, 0.0, "conformation", updates // 2, 1e-6)
with job(f"{folder}/{log}") as deadline:
    stages.train_baseline(
        f"{folder}/labels.h5", f"{folder}/energies.json", stages.Outputs(f"{folder}/m.pt", f"{folder}/m.csv"),
        architecture=Architecture("painn", n_atom_basis=8, n_interactions=1, n_rbf=8), options=options,
        config_sha256="", seed=1, machine=stages.Machine(1, "cpu", deadline),
    )
"""


@pytest.mark.slow
def test_a_successor_waits_for_the_orphan_and_takes_over_its_training(labelled, tmp_path):
    """A job in Slurm outlives its Snakemake; the next Snakemake starts the same training."""
    level = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}
    hdf5.write(tmp_path / "labels.h5", labelled.with_columns(**level))
    training_stages.reference_energies_to_file(str(tmp_path / "labels.h5"), None, str(tmp_path / "energies.json"))

    def start(log: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", TWICE, tmp_path, log, "60"], cwd=REPOSITORY)

    orphan = start("orphan.log")
    while not (tmp_path / "m.checkpoint.pt").exists():
        assert orphan.poll() is None
        time.sleep(0.02)
    orphan.send_signal(signal.SIGSTOP)
    successor = start("successor.log")
    log = tmp_path / "successor.log"
    while not (log.exists() and f"in use by process {orphan.pid}" in log.read_text()):
        assert successor.poll() is None
        time.sleep(0.1)
    orphan.send_signal(signal.SIGCONT)
    assert orphan.wait() == 0
    trained = (tmp_path / "m.checkpoint.pt").read_bytes(), (tmp_path / "m.csv").read_text()
    weights = load(tmp_path / "m.pt")
    assert successor.wait() == 0
    assert "resumed after update 60 of 60" in log.read_text()
    assert ((tmp_path / "m.checkpoint.pt").read_bytes(), (tmp_path / "m.csv").read_text()) == trained
    assert same_weights(load(tmp_path / "m.pt"), weights)


@pytest.mark.parametrize("representation", ["painn", "schnet"])
def test_an_update_is_that_of_plain_adam_on_the_whole_batch(labelled, representation):
    """Pieces, threads and fused Adam against one backward pass and PyTorch's plain Adam."""
    torch.manual_seed(1)
    architecture = Architecture(representation, n_atom_basis=12, n_interactions=2, n_rbf=7, cutoff=4.0)
    start = Potential(architecture, fit_reference_energies(labelled)).double()
    settings = settings_of(3, batch_size=len(labelled), gradient_clip=1e9, schedule=Schedule(1e-3, 3))
    run = _Run(start, settings, "cpu", None)
    data = run.data(labelled, None)
    plain = copy.deepcopy(start)
    plain.network.requires_grad_(True)
    adam = torch.optim.Adam(plain.network.parameters(), lr=1e-3, foreach=False, fused=False)
    with worker_pool(2) as pool:
        for update in range(3):
            batch, energy_label, force_label = data.molecules.select(data.draw(update, (settings.seed, 0)))
            run.step(data, pool)
            energy, forces = plain.network_energy_and_forces(batch, for_training=True)
            adam.param_groups[0]["lr"] = settings.schedule.rate(update)
            adam.zero_grad()
            (loss_of(energy, forces, batch, energy_label, force_label, settings) / start.scale**2).backward()
            for parameter in plain.network.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            adam.step()
    for (name, mine), theirs in zip(run.potential.network.named_parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-9, msg=name)
