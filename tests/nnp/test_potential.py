"""The potential: physics that must hold, parity with plain SchNetPack, the file."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from golf.core.conformations import ConformationSet, Status
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.nnp.batches import batch_of, pairs_within
from golf.nnp.potential import (
    Architecture,
    Potential,
    Provenance,
    load,
    load_training_state,
)
from golf.nnp.reference_energies import fit_reference_energies
from golf.nnp.repulsion import shortest_distances
from golf.relaxation.engine import Optimizer
from golf.relaxation.relax import relax
from support.mmff_labels import ELEMENT_ENERGIES, labelled_conformers
from support.mmff_potential import conformers
from support.schnetpack_plain import exact_frequencies, schnetpack_inputs

ARCHITECTURES = [
    Architecture("painn", n_atom_basis=16, n_interactions=3, n_rbf=8, cutoff=3.0),
    Architecture("schnet", n_atom_basis=16, n_interactions=2, n_rbf=8, cutoff=3.0),
    Architecture("painn", n_atom_basis=16, n_interactions=2, n_rbf=8, cutoff=3.0, repulsion="wall"),
]

SHORTEST = {"H-H": 2.3, "H-C": 1.5, "C-O": 1.4, "H-O": 1.2}  # long enough for the wall to act in the tests


def potential_of(architecture: Architecture, scale: float = 0.1) -> Potential:
    torch.manual_seed(3)
    return Potential(architecture, ELEMENT_ENERGIES, scale=scale, shortest_distances=SHORTEST)


def tensors(part: ConformationSet) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(part.number.astype(np.int64)),
        torch.from_numpy(part.position),
        torch.from_numpy(part.offset),
    )


@pytest.fixture(scope="module")
def molecules() -> ConformationSet:
    return conformers(["OC=O", "CCO", "NCO", "FCCF"], 2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forces_are_finite_differences_of_the_energy(architecture, molecules):
    potential = potential_of(architecture).double()
    numbers, positions, offset = tensors(molecules.subset([1]))
    _, forces = potential.energy_and_forces(numbers, positions, offset)
    h, n = 1e-5, len(numbers)  # angstrom
    moves = h * torch.eye(3 * n, dtype=torch.float64).view(3 * n, n, 3)
    moved = torch.cat([positions + moves, positions - moves])  # [6 n, n, 3]
    energies, _ = potential.energy_and_forces(numbers.repeat(6 * n), moved.view(-1, 3), torch.arange(6 * n + 1) * n)
    numerical = (energies[3 * n :] - energies[: 3 * n]).view(n, 3) / (2 * h)
    torch.testing.assert_close(forces, numerical, rtol=1e-6, atol=1e-6 * float(forces.abs().max()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_invariance(architecture, molecules):
    potential = potential_of(architecture).double()
    numbers, positions, offset = tensors(molecules.subset([1]))
    energy, forces = potential.energy_and_forces(numbers, positions, offset)
    rotation = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(1))
    moved = (positions @ rotation.T + torch.tensor([3.0, -2.0, 5.0]))[order]
    energy_moved, forces_moved = potential.energy_and_forces(numbers[order], moved, offset)
    torch.testing.assert_close(energy_moved, energy, rtol=0, atol=1e-9)
    torch.testing.assert_close(forces_moved, (forces @ rotation.T)[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_molecule_is_the_same_alone_and_in_any_batch(architecture, molecules):
    potential = potential_of(architecture).double()
    energies, forces = potential.energy_and_forces(*tensors(molecules))
    for i in range(len(molecules)):
        energy, force = potential.energy_and_forces(*tensors(molecules.subset([i])))
        torch.testing.assert_close(energy[0], energies[i], rtol=0, atol=1e-11)
        torch.testing.assert_close(force, forces[molecules.rows(i)], rtol=0, atol=1e-11)


@pytest.mark.parametrize("architecture", ARCHITECTURES[:2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("compiled", [True, False])
def test_parity_with_plain_schnetpack(architecture, dtype, tolerance, molecules, compiled, without_kernels):
    """With SchNetPack in float64: in float32 its own forces are further from that than ours."""
    if not compiled:
        without_kernels()
    potential = potential_of(architecture, scale=1.0).to(dtype)
    plain = architecture.network().double()
    plain.load_state_dict(potential.network.state_dict())
    exact_frequencies(plain)
    numbers, positions, offset = tensors(molecules)
    batch = batch_of(numbers, positions, offset, architecture.cutoff)
    inputs = schnetpack_inputs(batch, positions)
    expected = plain(inputs)
    energies, forces = potential.energy_and_forces(numbers, positions, offset)
    reference = torch.tensor([ELEMENT_ENERGIES[int(z)] for z in numbers], dtype=torch.float64)
    network = energies - torch.zeros_like(energies).index_add(0, batch.molecule, reference)
    for found, right in ((network, expected["energy"].detach()), (forces, expected["forces"].detach())):
        torch.testing.assert_close(found, right, rtol=0.0, atol=tolerance * max(1.0, float(right.abs().max())))


def test_the_wall_is_harmonic_inside_its_onset_and_nothing_outside():
    """Carbon and oxygen, 0.9 * 1.4 A; a pair of elements that is not in the list has no wall."""
    with_it = potential_of(ARCHITECTURES[2]).double()
    without = potential_of(replace(ARCHITECTURES[2], repulsion="none")).double()
    without.network.load_state_dict(with_it.network.state_dict())
    for pair, onset in (([6, 8], 1.26), ([8, 6], 1.26), ([6, 9], 0.0)):
        numbers, offset = torch.tensor(pair), torch.tensor([0, 2])
        for distance in (0.1, 0.5, 1.2, 1.25, 1.27, 2.0):
            positions = torch.tensor([[0.0, 0, 0], [0, 0, distance]], dtype=torch.float64)
            found, plain = (one.energy_and_forces(numbers, positions, offset) for one in (with_it, without))
            gap = max(0.0, onset - distance)
            assert float(found[0] - plain[0]) == pytest.approx(0.5 * gap**2, abs=1e-12)
            assert float((found[1] - plain[1])[1, 2]) == pytest.approx(gap, abs=1e-12)


def test_shortest_distances_are_those_of_the_labels():
    """Against all distances, one by one."""
    starts = conformers(["CCO", "OCC(F)CN"], 2)
    labelled = starts.with_columns(
        atoms={"force": np.zeros_like(starts.position)},
        values={"energy": np.zeros(len(starts)), "status": np.full(len(starts), Status.OK)},
    )
    expected: dict[str, float] = {}
    for i in range(len(labelled)):
        rows = labelled.rows(i)
        for a in range(rows.start, rows.stop):
            for b in range(rows.start, a):
                pair = "-".join(SYMBOLS[z] for z in sorted((labelled.number[a], labelled.number[b])))
                distance = float(np.linalg.norm(labelled.position[a] - labelled.position[b]))
                if distance < 3.0:
                    expected[pair] = min(distance, expected.get(pair, np.inf))
    found = shortest_distances(potential_of(ARCHITECTURES[0]).molecules(labelled))
    assert found == pytest.approx(expected, rel=1e-6) and "H-H" in found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_isolated_atoms_and_pairs_out_of_the_cutoff(architecture):
    potential = potential_of(architecture)
    numbers, offset = torch.tensor([8, 8, 1]), torch.tensor([0, 1, 3])
    positions = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0, 3.1]], dtype=torch.float64)
    energies, forces = potential.energy_and_forces(numbers, positions, offset)
    hydrogen = potential.energy_and_forces(numbers[2:], positions[2:], torch.tensor([0, 1]))[0]
    assert float(energies[1]) == pytest.approx(float(energies[0] + hydrogen[0]), abs=1e-6)
    assert torch.equal(forces, torch.zeros(3, 3, dtype=torch.float64))


def test_no_molecules():
    potential = potential_of(ARCHITECTURES[0])
    numbers, positions = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.float64)
    energies, forces = potential.energy_and_forces(numbers, positions, torch.tensor([0]))
    assert energies.shape == (0,) and forces.shape == (0, 3)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_positions_that_are_not_finite_show_in_the_energy(wrong, molecules):
    potential = potential_of(ARCHITECTURES[0])
    numbers, positions, offset = tensors(molecules.subset([0, 1]))
    positions[0, 0] = wrong
    energies, forces = potential.energy_and_forces(numbers, positions, offset)
    assert not energies[0].isfinite() and energies[1].isfinite()
    assert not forces[:5].isfinite().all() and forces[5:].isfinite().all()


def test_pairs_are_those_of_a_plain_search(molecules):
    _, positions, offset = tensors(molecules)
    pair_i, pair_j, vectors = pairs_within(positions, offset, 2.5)
    expected = [
        (i, j)
        for k in range(len(molecules))
        for i in range(offset[k], offset[k + 1])
        for j in range(i + 1, int(offset[k + 1]))
        if (positions[i] - positions[j]).norm() < 2.5
    ]
    assert list(zip(pair_i.tolist(), pair_j.tolist(), strict=True)) == expected
    assert torch.equal(vectors, positions[pair_j] - positions[pair_i])


def test_total_energies_keep_float64(molecules):
    """Reference energies of thousands of hartree do not cost digits of the network's energy."""
    numbers, positions, offset = tensors(molecules)
    heavy = {z: energy * 1000 for z, energy in ELEMENT_ENERGIES.items()}
    small = potential_of(ARCHITECTURES[0])
    large = Potential(ARCHITECTURES[0], heavy, scale=0.1)
    large.network.load_state_dict(small.network.state_dict())
    difference = large.energy_and_forces(numbers, positions, offset)[0]
    difference = difference - small.energy_and_forces(numbers, positions, offset)[0]
    shift = torch.tensor([999 * ELEMENT_ENERGIES[int(z)] for z in numbers], dtype=torch.float64)
    shift = torch.zeros_like(difference).index_add(0, batch_of(numbers, positions, offset, 3.0).molecule, shift)
    torch.testing.assert_close(difference, shift, rtol=0, atol=1e-9)


def test_reference_energies_recover_known_values():
    part = conformers(["OC=O", "CCO", "NCO", "FCCF", "C", "O", "N"], 1)
    total = [sum(ELEMENT_ENERGIES[int(z)] for z in part.number[part.rows(i)]) for i in range(len(part))]
    forces = {"force": np.zeros((len(part.number), 3))}
    labelled = part.with_columns(atoms=forces, values={"energy": total, "status": np.zeros(len(part))})
    found = fit_reference_energies(labelled)
    assert found == pytest.approx(ELEMENT_ENERGIES, abs=1e-9)
    # labels that are not OK take no part
    total[0], status = np.nan, [Status.NOT_CONVERGED, *[Status.OK] * (len(part) - 1)]
    worse = part.with_columns(atoms=forces, values={"energy": total, "status": status})
    assert fit_reference_energies(worse) == pytest.approx(ELEMENT_ENERGIES, abs=1e-9)


def test_reference_energies_of_isomers_stay_near_the_mean():
    part = labelled_conformers(["CCO", "COC"], 2)
    found = fit_reference_energies(part)
    assert set(found) == {1, 6, 8}
    energy = np.mean(part.values["energy"])
    assert 6 * found[1] + 2 * found[6] + found[8] == pytest.approx(energy, abs=1e-6)
    assert all(abs(value - energy / 9) < abs(energy) / 9 for value in found.values())


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_default_dtype_of_a_notebook_changes_nothing(architecture, kernels, molecules, tmp_path, without_kernels):
    potential_of(architecture, scale=0.01).save(tmp_path / "model.pt")
    if not kernels:
        without_kernels()

    def results():
        potential = load(tmp_path / "model.pt")
        found = [*potential.energy_and_forces(*tensors(molecules))]
        for name in ("lbfgs", "preconditioned"):
            options = {"force_threshold": 1e-9, "max_steps": 5, "slots": 3, "optimizer": Optimizer(name)}
            relaxed = relax(molecules, potential, **options)
            found += [torch.from_numpy(relaxed.position), torch.from_numpy(relaxed.values["nnp_energy_last"])]
        return [potential.network.representation.embedding.weight, *found]

    expected = results()
    torch.set_default_dtype(torch.float64)
    try:
        found = results()
        assert torch.get_default_dtype() == torch.float64
        assert architecture.network().representation.embedding.weight.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_loading_draws_nothing_from_the_generator_of_a_notebook(tmp_path):
    potential_of(ARCHITECTURES[0]).save(tmp_path / "model.pt")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load(tmp_path / "model.pt")
    assert torch.equal(torch.rand(3), expected)


def test_models_loaded_by_several_threads_leave_torch_as_it_was(tmp_path):
    potential_of(ARCHITECTURES[1]).save(tmp_path / "model.pt")
    torch.manual_seed(0)
    expected = torch.rand(3, dtype=torch.float64)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: load(tmp_path / "model.pt").dtype, range(40)))
        assert set(found) == {torch.float32} and torch.get_default_dtype() == torch.float64
        assert torch.equal(torch.rand(3), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_no_labels_to_fit(molecules):
    with pytest.raises(UserError, match=r"d0\.h5: no conformation has a label"):
        fit_reference_energies(molecules, "d0.h5")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_file_round_trip(architecture, molecules, tmp_path):
    torch.manual_seed(5)
    level = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}
    provenance = Provenance(level, config_sha256="abc", seed=11)
    potential = Potential(architecture, ELEMENT_ENERGIES, scale=0.037, provenance=provenance)
    state = {"n_updates": 5, "network": potential.network.state_dict()}
    potential.save(tmp_path / "model.pt", state)
    loaded = load(tmp_path / "model.pt")
    assert loaded.architecture == architecture and loaded.provenance == provenance
    assert loaded.reference_energies == ELEMENT_ENERGIES and loaded.scale == 0.037
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for found, expected in zip(
        loaded.energy_and_forces(*tensors(molecules)), potential.energy_and_forces(*tensors(molecules)), strict=True
    ):
        assert torch.equal(found, expected)
    assert load_training_state(tmp_path / "model.pt")["n_updates"] == 5
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content["units"] == {"length": "angstrom", "energy": "hartree", "force": "hartree/angstrom"}
    assert content["elements"] == ["H", "C", "N", "O", "F"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not a model")
    with pytest.raises(UserError, match=r"text\.pt: not a model file"):
        load(tmp_path / "text.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=r"foreign\.pt: .*not a golf potential"):
        load(tmp_path / "foreign.pt")
    potential_of(ARCHITECTURES[0]).save(tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.pt: not a model file, or truncated"):
        load(tmp_path / "cut.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({**content, "format_version": 99}, tmp_path / "newer.pt")
    with pytest.raises(UserError, match="update golf"):
        load(tmp_path / "newer.pt")
    torch.save({**content, "architecture": {**content["architecture"], "n_atom_basis": 8}}, tmp_path / "wrong.pt")
    with pytest.raises(UserError, match="inconsistent content") as raised:
        load(tmp_path / "wrong.pt")
    assert "\n" not in str(raised.value)


def test_elements_that_the_model_never_saw(molecules):
    potential = potential_of(ARCHITECTURES[0])
    potential.check_elements(molecules, "in.h5")
    sulfur = conformers(["CCO", "CCS"], 1)
    with pytest.raises(UserError, match=r"in\.h5: conformation 'CCS/0000' has S, which the model never saw"):
        potential.check_elements(sulfur, "in.h5")
    energies, _ = potential.energy_and_forces(*tensors(sulfur))
    assert energies[0].isfinite() and energies[1].isnan()


def test_unknown_architecture():
    with pytest.raises(UserError, match=r"nnp\.representation"):
        Potential(Architecture("gemnet"), {})
    with pytest.raises(UserError, match=r"nnp\.repulsion"):
        Potential(Architecture(repulsion="coulomb"), {})
