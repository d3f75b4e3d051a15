"""The published checkpoints and conformations, against SchNetPack itself and against the published labels."""

import json
import shutil

import ase.db
import numpy as np
import pytest
import torch

from golf._schnetpack import properties
from golf.cli import main
from golf.errors import UserError
from golf.nabladft import read_nabladft
from golf.potential import load
from golf.published import CONFIG, NABLADFT_ENERGIES, WEIGHTS
from golf.units import HARTREE_IN_KCAL_PER_MOL


@pytest.fixture(scope="module")
def checkpoint(reference_data):
    return reference_data / "checkpoints" / "GOLF-1k"


@pytest.fixture(scope="module")
def database(reference_data):
    return reference_data / "data" / "nabladft_sample.db"


@pytest.fixture(scope="module")
def sample(database):
    return read_nabladft(database)


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "golf-1k.pt"
    assert main(["import-checkpoint", str(checkpoint), "-o", str(path)]) == 0
    return path


def evaluated(model, part):
    potential = load(model)
    arrays = (part.number.astype(np.int64), part.position, part.offset)
    energy, forces = potential.energy_and_forces(*map(torch.from_numpy, arrays))
    return energy.numpy(), forces.numpy()


def test_errors_on_published_labels_are_the_known_ones(model, sample):
    """FACTS of the project: GOLF-1k has a force MAE of 1.07 and an energy MAE of 1.7 kcal/mol on nablaDFT."""
    energy, forces = evaluated(model, sample)
    force_error = np.abs(forces - sample.atoms["force"]).mean() * HARTREE_IN_KCAL_PER_MOL
    energy_error = np.abs(energy - sample.values["energy"]).mean() * HARTREE_IN_KCAL_PER_MOL
    assert 0.8 < force_error < 1.4 and 1.0 < energy_error < 2.5


def test_an_imported_model_gives_schnetpacks_numbers(model, checkpoint, sample):
    potential = load(model).double()
    weights = torch.load(checkpoint / WEIGHTS, map_location="cpu", weights_only=True)
    network = potential.architecture.network().double()
    network.load_state_dict({name.removeprefix("model."): value.double() for name, value in weights.items()})
    part = sample.subset([0, 17])
    energy, forces = potential.energy_and_forces(
        torch.from_numpy(part.number.astype(np.int64)), torch.from_numpy(part.position), torch.from_numpy(part.offset)
    )
    for i in range(2):
        rows = part.rows(i)
        number, n = torch.from_numpy(part.number[rows].astype(np.int64)), int(part.n_atoms[i])
        pairs = torch.nonzero(~torch.eye(n, dtype=torch.bool))
        output = network(
            {
                properties.Z: number,
                properties.R: torch.from_numpy(part.position[rows]),
                properties.idx_i: pairs[:, 0].contiguous(),
                properties.idx_j: pairs[:, 1].contiguous(),
                properties.offsets: torch.zeros(len(pairs), 3, dtype=torch.float64),
                properties.idx_m: torch.zeros(n, dtype=torch.int64),
                properties.n_atoms: torch.tensor([n]),
            }
        )
        atoms = sum(potential.reference_energies[z] for z in number.tolist())
        assert abs(float(output[properties.energy].detach()) + atoms - float(energy[i])) < 1e-9
        np.testing.assert_allclose(
            forces[torch.arange(len(forces))[rows]], output[properties.forces].detach(), atol=1e-9
        )


def test_the_atoms_of_nabladft(database):
    with ase.db.connect(database) as connection:
        energies = connection.metadata["atomrefs"]["energy"]
    for symbol, energy in NABLADFT_ENERGIES.items():
        assert energies[ase.data.atomic_numbers[symbol]] == energy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / CONFIG).unlink(), "config.json: no such file"),
        (lambda folder: (folder / CONFIG).write_text("{}"), "config.json: has no key 'backbone'"),
        (lambda folder: (folder / CONFIG).write_text("PaiNN"), "config.json: not the JSON configuration"),
        (lambda folder: (folder / WEIGHTS).unlink(), "NNP_checkpoint_actor: no such file"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"PK\x03\x04 cut off"), "not a state dict of PyTorch, or trunc"),
        (lambda folder: other_width(folder / CONFIG), "NNP_checkpoint_actor: does not fit the network of config.json"),
    ],
)
def test_wrong_checkpoints_are_refused_with_one_line(checkpoint, tmp_path, capsys, change, message):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    change(folder)
    assert main(["import-checkpoint", str(folder), "-o", str(tmp_path / "model.pt")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "model.pt").exists()


def other_width(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_atom_basis": 64}))


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"H": -0.5, "Xx": 1}', "'Xx' is not the symbol"), ("{}", "not a JSON object"), ('{"H": "?"}', "not a JSON obj")],
)
def test_wrong_reference_energies_are_refused_with_one_line(checkpoint, tmp_path, capsys, text, message):
    energies = tmp_path / "energies.json"
    energies.write_text(text)
    options = ["-o", str(tmp_path / "model.pt"), "--reference-energies", str(energies)]
    assert main(["import-checkpoint", str(checkpoint), *options]) == 2
    assert f"{energies}: {message}" in capsys.readouterr().err


def test_rows_whose_atoms_are_in_another_order_are_refused(database, tmp_path):
    with ase.db.connect(database) as connection:
        row, metadata = next(connection.select()), connection.metadata
    atoms = row.toatoms()
    atoms.positions[[0, 1]] = atoms.positions[[1, 0]]
    names = {"moses_id": 1, "conformation_id": 2, "smiles": row.smiles}
    for name, swapped in (("good", row.toatoms()), ("swapped", atoms)):
        with ase.db.connect(tmp_path / f"{name}.db") as connection:
            connection.metadata = metadata
            connection.write(swapped, data=row.data, **names)
    assert read_nabladft(tmp_path / "good.db").id == ["1/2"]
    with pytest.raises(UserError, match=r"row 1: atoms . and .*, bonded in its SMILES, are .* angstrom apart"):
        read_nabladft(tmp_path / "swapped.db")
