"""The published checkpoints and conformations, against SchNetPack itself and against the published labels."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import ase.db
import numpy as np
import pytest
import torch

from golf.cli.main import main
from golf.core.conformations import ConformationSet
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.io.nabladft import read_nabladft
from golf.nnp.batches import batch_of
from golf.nnp.potential import Architecture, load
from golf.nnp.published import CONFIG, NABLADFT_ENERGIES, WEIGHTS
from support.schnetpack_plain import exact_frequencies, schnetpack_inputs


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


def tensors(part):
    return (
        torch.from_numpy(part.number.astype(np.int64)),
        torch.from_numpy(part.position),
        torch.from_numpy(part.offset),
    )


def test_errors_on_published_labels_are_the_known_ones(model, sample):
    """FACTS of the project: GOLF-1k has a force MAE of 1.07 and an energy MAE of 1.7 kcal/mol on nablaDFT."""
    energy, forces = (part.numpy() for part in load(model).energy_and_forces(*tensors(sample)))
    force_error = np.abs(forces - sample.atoms["force"]).mean() * HARTREE_IN_KCAL_PER_MOL
    energy_error = np.abs(energy - sample.values["energy"]).mean() * HARTREE_IN_KCAL_PER_MOL
    assert 0.8 < force_error < 1.4 and 1.0 < energy_error < 2.5


def schnetpacks(checkpoint, part, dtype):
    """Network energies [n] and forces [A, 3] of SchNetPack itself, float64."""
    network = Architecture().network()
    weights = torch.load(checkpoint / WEIGHTS, map_location="cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    network.to(dtype)
    if dtype == torch.float64:
        exact_frequencies(network)
    numbers, positions, offset = tensors(part)
    batch = batch_of(numbers, positions, offset, 5.0)
    output = network(schnetpack_inputs(batch, positions.to(dtype)))
    return output["energy"].detach().double(), output["forces"].detach().double()


def ours(model, part, dtype):
    """Network energies, without the atoms', and forces."""
    potential = load(model).to(dtype)
    numbers, positions, offset = tensors(part)
    batch = batch_of(numbers, positions, offset, 5.0)
    energy, forces = potential.network_energy_and_forces(replace(batch, vectors=batch.vectors.to(dtype)))
    return energy, forces.double()


def largest_difference(a, b):
    return [float((x - y).abs().max()) for x, y in zip(a, b, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GOLF-1k", "baseline-NNP"])
def test_parity_with_schnetpack_on_drug_like_molecules(name, reference_data, sample, tmp_path):
    """The same numbers in float64; in float32 as close to those as SchNetPack is."""
    checkpoint = reference_data / "checkpoints" / name
    assert main(["import-checkpoint", str(checkpoint), "-o", str(tmp_path / "model.pt")]) == 0
    exact = schnetpacks(checkpoint, sample, torch.float64)
    for difference in largest_difference(ours(tmp_path / "model.pt", sample, torch.float64), exact):
        assert difference < 1e-11
    single = largest_difference(ours(tmp_path / "model.pt", sample, torch.float32), exact)
    theirs = largest_difference(schnetpacks(checkpoint, sample, torch.float32), exact)
    for mine, of_schnetpack in zip(single, theirs, strict=True):
        assert mine < 1.5 * of_schnetpack and mine < 3e-6  # hartree, hartree/angstrom


def small(numbers, positions):
    """A molecule that is no real one, as a conformation."""
    smiles = "".join(f"[{SYMBOLS[z]}:{i}]" for i, z in enumerate(numbers, start=1))
    return ConformationSet.build([("m/0", "m", smiles, 0, 1, np.array(numbers, np.uint8), np.array(positions, float))])


@pytest.mark.parametrize(
    "molecule",
    [
        small([8], [[0, 0, 0]]),
        small([8, 1], [[0, 0, 0], [0, 0, 0.97]]),
        small([6, 1, 1], [[0, 0, 0], [5.0, 0, 0], [0, 4.9999999, 0]]),  # at the cutoff, and just within it
        small([6, 6, 1], [[0, 0, 0], [0, 5.0000001, 0], [0, 0, 30.0]]),  # nothing within the cutoff
    ],
)
def test_parity_with_schnetpack_on_atoms_and_pairs(molecule, model, checkpoint):
    exact = schnetpacks(checkpoint, molecule, torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        assert max(largest_difference(ours(model, molecule, dtype), exact)) < tolerance


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
        (
            lambda folder: other(folder, n_atom_basis=64),
            "NNP_checkpoint_actor: does not fit the network of",
        ),
        (lambda folder: other(folder, cutoff=4.0), "NNP_checkpoint_actor: the cutoff is 5, but 4 in config.json"),
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


def other(folder, **values):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"H": -0.5, "Xx": 1}', "'Xx' is not the symbol"),
        ('{"H": -0.5, "Fm": 1}', "'Fm' is not the symbol of an element up to Es"),
        ("{}", "not a JSON object"),
        ('{"H": NaN}', "not a JSON object"),
        ('{"H": "?"}', "not a JSON object"),
    ],
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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"forces": [[0.0, 0.0, 0.0]] * 31}, "row 1: lacks energy or forces"),
        ({"energy": [1.0], "forces": [[0.0, 0.0, 0.0]]}, "row 1: has 1 rows of forces for"),
    ],
)
def test_rows_without_their_labels_are_refused(database, tmp_path, data, message):
    with ase.db.connect(database) as connection:
        row, metadata = next(connection.select()), connection.metadata
    with ase.db.connect(tmp_path / "other.db") as connection:
        connection.metadata = metadata
        connection.write(row.toatoms(), data=data, moses_id=1, conformation_id=2, smiles=row.smiles)
    with pytest.raises(UserError, match=message):
        read_nabladft(tmp_path / "other.db")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("not a database\n" * 100)
    with pytest.raises(UserError, match="not an ASE database"):
        read_nabladft(tmp_path / "text.db")


@pytest.mark.slow
def test_a_full_disk_is_one_line(checkpoint, tmp_path):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from golf.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "import-checkpoint", str(checkpoint), "-o", str(tmp_path / "m.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.startswith(f"golf: error: {tmp_path / 'm.pt'}: file too large") and done.stderr.count("\n") == 1
