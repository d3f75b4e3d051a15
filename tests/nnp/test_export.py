"""The TorchScript file: loaded where there is no golf, it gives what the potential gives."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from golf.cli.main import main
from golf.nnp.potential import Architecture, Potential, load
from golf.nnp.published import import_checkpoint
from golf.nnp.reference_energies import fit_reference_energies
from support.mmff_labels import labelled_conformers

LOADER = """
import json, sys
import numpy as np, torch
metadata = {"golf.json": ""}
model = torch.jit.load(sys.argv[1], _extra_files=metadata)
molecules = np.load(sys.argv[2])
found = {}
for k in range(len(molecules) // 2):
    numbers, positions = (torch.from_numpy(molecules[f"{name}{k}"]) for name in ("numbers", "positions"))
    with torch.no_grad():
        energy, forces = model(numbers, positions)
        assert not torch.is_grad_enabled()
    again, _ = model(numbers, positions.requires_grad_())
    again.backward()
    assert (positions.grad + forces).abs().max() < 5e-6 and abs(again - energy) < 5e-6
    assert energy.dtype == forces.dtype == torch.float64 and energy.shape == () and not energy.requires_grad
    found |= {f"energy{k}": energy.numpy(), f"forces{k}": forces.numpy()}
np.savez(sys.argv[3], **found)
print(metadata["golf.json"].decode())
assert not {"golf", "schnetpack", "rdkit"} & {name.partition(".")[0] for name in sys.modules}, "not without golf"
"""


@pytest.fixture(scope="module")
def molecules():
    """Sizes from an atom to two molecules that are further apart than the cutoff; one with atoms too close."""
    found = labelled_conformers(["OC=O", "CCO", "O", "CC(=O)OCCO"], 1)
    parts = [(found.number[found.rows(i)], found.position[found.rows(i)]) for i in range(len(found))]
    (n1, x1), (n2, x2) = parts[:2]
    parts.append((np.concatenate([n1, n2]), np.concatenate([x1, x2 + 30.0])))
    parts.append((n1[:1], x1[:1]))
    parts.append((n2, 0.6 * x2))
    return [(numbers.astype(np.int64), positions) for numbers, positions in parts]


def network(representation: str, repulsion: str) -> Potential:
    labelled = labelled_conformers(["OC=O", "CCO"], 1)
    torch.manual_seed(5)
    architecture = Architecture(representation, n_atom_basis=24, n_interactions=3, n_rbf=12, cutoff=4.3)
    architecture = Architecture(**{**architecture.__dict__, "repulsion": repulsion})
    distances = {"C-H": 1.0, "C-O": 1.2, "H-H": 1.4, "H-O": 0.95}
    energies = fit_reference_energies(labelled)
    return Potential(architecture, energies, scale=0.05, shortest_distances=distances)


def loaded_elsewhere(path, molecules, folder):
    """Energies, forces and the metadata of a process that does not know golf."""
    columns = {}
    for k, (numbers, positions) in enumerate(molecules):
        columns |= {f"numbers{k}": numbers, f"positions{k}": positions}
    np.savez(folder / "molecules.npz", **columns)
    arguments = [path, folder / "molecules.npz", folder / "found.npz"]
    command = [sys.executable, "-W", "ignore", "-c", LOADER, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(folder / "found.npz")
    return [(found[f"energy{k}"], found[f"forces{k}"]) for k in range(len(molecules))], json.loads(done.stdout)


def compared(model, molecules, dtype, folder):
    """Largest differences of energies and forces between a model's export and the model."""
    assert main(["export", str(model), "-o", str(folder / "export.pt"), "--dtype", dtype]) == 0
    found, metadata = loaded_elsewhere(folder / "export.pt", molecules, folder)
    potential = load(model, dtype=dtype)
    differences = []
    for (numbers, positions), (energy, forces) in zip(molecules, found, strict=True):
        offset = torch.tensor([0, len(numbers)])
        tensors = torch.from_numpy(numbers), torch.from_numpy(positions), offset
        ours = [part.numpy() for part in potential.energy_and_forces(*tensors)]
        differences.append([abs(energy - ours[0][0]), np.abs(forces - ours[1]).max()])
    return np.max(differences, axis=0), metadata


@pytest.mark.slow
@pytest.mark.parametrize(("representation", "repulsion"), [("painn", "wall"), ("schnet", "none")])
def test_equal_results_in_a_process_without_golf(representation, repulsion, molecules, tmp_path):
    network(representation, repulsion).save(tmp_path / "model.pt")
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-10)):
        differences, metadata = compared(tmp_path / "model.pt", molecules, dtype, tmp_path)
        (tmp_path / "export.pt").unlink()
        assert differences.max() < tolerance, (dtype, differences)
        assert metadata["elements"] == ["H", "C", "O"] and metadata["dtype"] == dtype
        assert metadata["units"] == {"length": "angstrom", "energy": "hartree", "force": "hartree/angstrom"}


def test_the_wall_and_the_reference_energies_are_in_the_file(molecules, tmp_path):
    bare, walled = network("painn", "none"), network("painn", "wall")
    tensors = [torch.from_numpy(part) for part in molecules[-1]]
    offset = torch.tensor([0, len(tensors[0])])
    pushed = float(walled.energy_and_forces(*tensors, offset)[0] - bare.energy_and_forces(*tensors, offset)[0])
    assert pushed > 0.01  # so the comparison above sees it
    reference = sum(bare.reference_energies[int(z)] for z in tensors[0])
    assert float(bare.energy_and_forces(*tensors, offset)[0]) == pytest.approx(reference, abs=1.0) and reference < -100


@pytest.mark.slow
def test_a_published_model(reference_data, molecules, tmp_path):
    import_checkpoint(reference_data / "checkpoints" / "GOLF-1k").save(tmp_path / "model.pt")
    for dtype, tolerance in (("float32", 2e-6), ("float64", 1e-10)):
        differences, metadata = compared(tmp_path / "model.pt", molecules[:-1], dtype, tmp_path)
        (tmp_path / "export.pt").unlink()
        assert differences.max() < tolerance, (dtype, differences)
    assert metadata["level"]["method"] == "wb97x-d"


def test_an_unknown_element_and_nan_show(tmp_path):
    network("painn", "none").save(tmp_path / "model.pt")
    assert main(["export", str(tmp_path / "model.pt"), "-o", str(tmp_path / "export.pt")]) == 0
    model = torch.jit.load(tmp_path / "export.pt")
    with pytest.raises(torch.jit.Error, match="the molecule has an element that the model never saw"):
        model(torch.tensor([9, 1]), torch.eye(3, dtype=torch.float64)[:2])
    assert torch.is_grad_enabled()
    energy, _ = model(torch.tensor([8, 1]), torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, torch.nan]]))
    assert torch.isnan(energy)


def test_wrong_input_is_one_line_and_status_2(tmp_path, capsys):
    model = tmp_path / "model.pt"
    network("painn", "none").save(model)
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "there.pt").write_text("kept")
    out = tmp_path / "out.pt"
    for message, arguments in {
        "nowhere.pt: no such file": (tmp_path / "nowhere.pt", "-o", out),
        "empty.pt: not a model file, or truncated": (tmp_path / "empty.pt", "-o", out),
        "there.pt: already exists; give another name, or --force": (model, "-o", tmp_path / "there.pt"),
        "out.pt2: unknown suffix '.pt2'; give one of .pt": (model, "-o", tmp_path / "out.pt2"),
        "the same file as the input": (model, "-o", model, "--force"),
        "missing does not exist or is not writable": (model, "-o", tmp_path / "missing" / "out.pt"),
    }.items():
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert main(["export", *map(str, arguments)]) == 2
        printed = capsys.readouterr().err
        assert message in printed and printed.count("\n") == 1, printed
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert main(["export", str(model), "-o", str(tmp_path / "there.pt"), "--force"]) == 0
    assert main(["export", str(tmp_path / "there.pt"), "-o", str(out)]) == 2  # an export is no model
    assert "there.pt: a TorchScript file, which is for other engines; give a model.pt" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_is_one_line(model, tmp_path):
    """In a process of its own: torch would end it."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from golf.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "export", str(model), "-o", str(tmp_path / "e.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.startswith(f"golf: error: {tmp_path / 'e.pt'}: file too large") and done.stderr.count("\n") == 1
