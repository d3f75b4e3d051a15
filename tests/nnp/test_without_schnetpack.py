"""What golf does where SchNetPack is not installed: everything with a trained network; training says what to type."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from golf.core.hdf5 import read, write
from golf.core.packages import SCHNETPACK
from golf.nnp.potential import Architecture, Potential, load
from golf.nnp.weights import Network
from support import REPOSITORY
from support.data_sets import labelled_part
from support.mmff_labels import ELEMENT_ENERGIES

ARCHITECTURES = [
    Architecture("painn", n_atom_basis=16, n_interactions=3, n_rbf=8, repulsion="wall"),
    Architecture("schnet", n_atom_basis=16, n_interactions=2, n_rbf=8),
]

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "schnetpack":
            raise ModuleNotFoundError("No module named 'schnetpack'", name="schnetpack")

sys.meta_path.insert(0, Blocked())
"""

EVALUATE = """
import numpy, torch
from golf.nnp.potential import load

torch.set_num_threads(1)
arrays = numpy.load(sys.argv[1])
numbers, positions, offset = (torch.from_numpy(arrays[name]) for name in ("number", "position", "offset"))
found = {}
for dtype in ("float32", "float64"):
    potential = load(sys.argv[2], dtype=dtype)
    energy, forces = potential.energy_and_forces(numbers, positions, offset)
    found |= {f"energy {dtype}": energy.numpy(), f"forces {dtype}": forces.numpy()}
numpy.savez(sys.argv[3], **found)
print("schnetpack" in sys.modules)
"""

GOLF = "from golf.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"


def without_schnetpack(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.representation)
def potential(request):
    """As SchNetPack builds it."""
    torch.manual_seed(3)
    shortest = {"C-H": 1.2} if request.param.repulsion == "wall" else None
    return Potential(request.param, ELEMENT_ENERGIES | {16: -398.1}, scale=0.1, shortest_distances=shortest)


@pytest.fixture(scope="module")
def conformations():
    return labelled_part()


@pytest.mark.slow
def test_energies_and_forces_are_the_same_bits(potential, conformations, tmp_path):
    """In float32 and float64: SchNetPack's modules here, a stored model where SchNetPack cannot be imported."""
    potential.save(tmp_path / "model.pt")
    arrays = {
        "number": conformations.number.astype(np.int64),
        "position": conformations.position,
        "offset": conformations.offset,
    }
    np.savez(tmp_path / "in.npz", **arrays)
    done = without_schnetpack(EVALUATE, tmp_path / "in.npz", tmp_path / "model.pt", tmp_path / "out.npz")
    assert done.returncode == 0 and done.stdout == "False\n", done.stderr
    assert not isinstance(potential.network, Network)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with np.load(tmp_path / "out.npz") as found:
            for dtype in (torch.float32, torch.float64):
                tensors = [torch.from_numpy(array) for array in arrays.values()]
                energy, forces = potential.to(dtype).energy_and_forces(*tensors)
                assert energy.isfinite().all()
                name = str(dtype).removeprefix("torch.")
                assert (found[f"energy {name}"] == energy.numpy()).all()
                assert (found[f"forces {name}"] == forces.numpy()).all()
    finally:
        torch.set_num_threads(threads)
        potential.to(torch.float32)


def test_a_model_file_has_the_same_weights_in_the_same_order(potential, tmp_path):
    """As training resumes with an optimizer that counts parameters."""
    potential.save(tmp_path / "model.pt")
    random = torch.get_rng_state()
    opened = load(tmp_path / "model.pt")
    assert isinstance(opened.network, Network)
    for there, here in ((potential, opened), (potential, opened.on_schnetpack())):
        weights = here.network.state_dict()
        assert list(there.network.state_dict()) == list(weights)
        assert all((tensor == weights[name]).all() for name, tensor in there.network.state_dict().items())
        names = [[name for name, _ in one.network.named_parameters()] for one in (there, here)]
        assert names[0] == names[1]
    assert (torch.get_rng_state() == random).all()


@pytest.mark.slow
def test_relax_needs_no_schnetpack(model, tmp_path):
    (tmp_path / "in.smi").write_text("CO methanol\n")
    done = without_schnetpack(GOLF, "relax", tmp_path / "in.smi", "-m", model, "-o", tmp_path / "out.h5")
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "out.h5")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "export"])
def test_training_and_export_say_in_one_line_what_to_install(command, model, labelled, tmp_path):
    write(tmp_path / "labels.h5", labelled)
    given = {"train": [tmp_path / "labels.h5"], "export": [model]}[command]
    done = without_schnetpack(GOLF, command, *given, "-o", tmp_path / "out.pt")
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("golf: error: ") and "needs SchNetPack, which is not installed" in last
    assert last.endswith(f"{sys.executable} -m pip install --no-deps {SCHNETPACK}")
    assert "Traceback" not in done.stderr and not (tmp_path / "out.pt").exists()
