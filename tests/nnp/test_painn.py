"""PaiNN's operations: compiled loops against tensor operations and finite differences; and what if nothing compiles."""

import logging

import pytest
import torch

from golf.nnp import kernels as kernels_module
from golf.nnp import painn
from golf.nnp.batches import batch_of
from golf.nnp.kernels import kernels
from golf.nnp.potential import Architecture
from support.schnetpack_plain import exact_frequencies, schnetpack_inputs

ATOMS, PAIRS, WIDTH = 5, 8, 6
DOUBLE = torch.float64


def random(*shape):
    return torch.randn(*shape, dtype=DOUBLE, requires_grad=True)


def pairs():
    i, j = torch.triu_indices(ATOMS, ATOMS, 1)[:, :PAIRS]
    return i.contiguous(), j.contiguous()


def operations():
    """Functions of tensors that need gradients, and their arguments."""
    torch.manual_seed(1)
    i, j = pairs()
    q, mu, y, vw = random(ATOMS, WIDTH), random(ATOMS, 3, WIDTH), random(ATOMS, 3 * WIDTH), random(ATOMS, 3, 2 * WIDTH)
    unit, product = random(PAIRS, 3), random(ATOMS, WIDTH)
    w2, w3, x2, x3 = (random(n, k * WIDTH) for n in (PAIRS, ATOMS) for k in (2, 3))
    return {
        "message": (lambda q, mu, w, x, u: painn.message(q, mu, w, x, u, i, j), (q, mu, w3, x3, unit)),
        "first message": (lambda q, w, x, u: painn.message(q, None, w, x, u, i, j), (q, w2, x2, unit)),
        "context": (lambda q, vw: painn.context(q, vw, 1e-3), (q, vw)),
        "update": (painn.update, (q, mu, y, product, vw)),
        "last update": (lambda q, y, p, vw: painn.update(q, None, y, p, vw)[0], (q, y, product, vw)),
        "silu": (painn.silu, (random(4, 3),)),
        "basis": (lambda vectors: painn.basis(vectors, 5, 4.0), (random(PAIRS, 3),)),
    }


@pytest.mark.parametrize("name", operations())
def test_loops_give_what_tensor_operations_give(name, without_kernels):
    assert kernels(DOUBLE) is not None
    function, arguments = operations()[name]
    with painn.compiled_loops():
        compiled = function(*arguments)
    without_kernels()
    plain = function(*arguments)
    torch.testing.assert_close(compiled, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", operations())
def test_gradients_are_finite_differences(name, loops):
    function, arguments = operations()[name]
    assert torch.autograd.gradcheck(function, arguments)


@pytest.mark.parametrize("name", ["message", "first message", "context", "update", "last update", "silu"])
def test_gradients_of_gradients_are_finite_differences(name, loops):
    """But for those with respect to unit vectors, the last argument of messages, which are part of the geometry."""
    function, arguments = operations()[name]
    if "message" in name:
        *features, unit = arguments
        assert torch.autograd.gradgradcheck(lambda *some: function(*some, unit.detach()), features)
    else:
        assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize("kernels_there", [True, False])
def test_atoms_without_pairs(kernels_there, without_kernels, molecules_of_a_batch):
    if not kernels_there:
        without_kernels()
    potential, *_ = molecules_of_a_batch(Architecture(n_atom_basis=16, n_rbf=8, cutoff=3.0))
    numbers, positions, offset = torch.tensor([6, 8]), torch.zeros(2, 3).double(), torch.tensor([0, 1, 2])
    energies, forces = potential.energy_and_forces(numbers, positions, offset)
    assert energies.isfinite().all() and (forces == 0).all()
    assert energies[0] != energies[1]


def test_single_precision_is_that_of_pytorch(loops):
    x = torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([-200.0, -90.0, 0.0, 90.0, 200.0])])
    torch.testing.assert_close(painn.silu(x), torch.nn.functional.silu(x), rtol=3e-7, atol=1e-9)


def test_tensors_of_another_kind_are_refused():
    found = kernels(torch.float32)
    with pytest.raises(ValueError, match="not for these kernels"):
        found("silu", 3, torch.zeros(3, dtype=DOUBLE), torch.zeros(3))
    with pytest.raises(ValueError, match="not for these kernels"):
        found("silu", 2, torch.zeros(2, 2)[:, 0], torch.zeros(2))


def test_a_damaged_library_is_compiled_anew(tmp_path, monkeypatch, caplog):
    def compiled_in(folder):
        monkeypatch.setattr(kernels_module, "_FOUND", {})
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        assert kernels(DOUBLE) is not None
        (library,) = (folder / "golf").iterdir()
        return library

    library = compiled_in(tmp_path / "whole")
    damaged = tmp_path / "damaged/golf" / library.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(library.read_bytes()[:500])
    compiled_in(tmp_path / "damaged")
    assert "is damaged and will be compiled again" in caplog.text and damaged.stat().st_size > 500


@pytest.mark.parametrize("representation", ["painn", "schnet"])
def test_gradients_of_a_loss_of_forces_are_those_of_schnetpack(representation, molecules_of_a_batch):
    """In float64, with SchNetPack's own forward and PyTorch's double backward."""
    architecture = Architecture(representation, n_atom_basis=16, n_interactions=3, n_rbf=8, cutoff=3.0)
    potential, plain, batch, inputs = molecules_of_a_batch(architecture)
    torch.manual_seed(4)
    energy_weight, force_weight = (
        torch.randn(batch.n_molecules, dtype=DOUBLE),
        torch.randn(len(batch.numbers), 3).double(),
    )

    def gradients(network, energy, forces):
        loss = (energy * energy_weight).sum() + (forces * force_weight).square().sum()
        parameters = list(network.parameters())
        return float(loss.detach()), torch.autograd.grad(loss, parameters, materialize_grads=True)

    potential.network.requires_grad_(True)
    found = gradients(potential.network, *potential.network_energy_and_forces(batch, for_training=True))
    output = plain(inputs)
    expected = gradients(plain, output["energy"], output["forces"])
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_a_position_that_is_not_a_number_shows(molecules_of_a_batch):
    potential, _, batch, _ = molecules_of_a_batch(Architecture(n_atom_basis=16, n_rbf=8, cutoff=3.0))
    batch.vectors[0, 0] = float("nan")
    energy, _ = potential.network_energy_and_forces(batch)
    assert not energy[0].isfinite() and energy[1:].isfinite().all()


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_without_a_working_compiler_a_warning_and_the_same_numbers(compiler, tmp_path, monkeypatch, caplog, loops):
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels_module, "_FOUND", {})
    monkeypatch.setattr(kernels_module.shutil, "which", lambda name: "/bin/false" if name == "false" else None)
    with caplog.at_level(logging.WARNING):
        assert kernels(torch.float32) is None
    assert kernels_module.WITHOUT in caplog.text and not list((tmp_path).rglob("*.so"))
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(painn.silu(x), torch.nn.functional.silu(x))


def test_loops_are_compiled_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            monkeypatch.setattr(kernels_module, "_FOUND", {})
            assert kernels(torch.float32) is not None
    assert caplog.text.count("compiled kernels.c in") == 1 and len(list(tmp_path.rglob("*.so"))) == 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(kernels_module, "_FOUND", {})
    assert kernels(torch.float32) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def loops():
    """The compiled loops, as a potential computes with them."""
    with painn.compiled_loops():
        yield


@pytest.fixture
def molecules_of_a_batch():
    """Of an architecture: a potential, SchNetPack's network with its weights, a batch, the inputs of the latter."""
    from golf.nnp.potential import Potential
    from support.mmff_labels import ELEMENT_ENERGIES
    from support.mmff_potential import conformers

    def make(architecture):
        torch.manual_seed(3)
        potential = Potential(architecture, ELEMENT_ENERGIES).double()
        plain = architecture.network().double()
        plain.load_state_dict(potential.network.state_dict())
        exact_frequencies(plain)
        part = conformers(["OC=O", "CCO", "FCCF"], 2)
        numbers, positions = torch.from_numpy(part.number).long(), torch.from_numpy(part.position)
        batch = batch_of(numbers, positions, torch.from_numpy(part.offset), architecture.cutoff)
        inputs = schnetpack_inputs(batch, positions)
        return potential, plain, batch, inputs

    return make
