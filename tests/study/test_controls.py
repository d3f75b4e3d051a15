"""Labels chosen without failure detection: states of MMFF minimizations, of DFT optimizations, and drawn at random."""

import numpy as np
import pytest
from rdkit.Chem import rdForceFieldHelpers

from golf.chem.mmff import MMFFSurrogate
from golf.chem.molecules import molecule
from golf.core.arms import ARMS
from golf.core.conformations import Frames, Status
from golf.core.errors import UserError
from golf.core.hdf5 import write
from golf.core.level import LevelOfTheory
from golf.nnp.potential import Architecture, Potential, Provenance, load_training_state
from golf.oracles.costs import n_gradients
from golf.relaxation.relax import kept_states, relax
from golf.study.arms import budget_of, budget_of_round, check_budgets
from golf.study.config import validated
from golf.study.controls import labels_along, select_along_mmff, select_trajectory_starts
from golf.study.selection import select_conformations
from golf.study.trainings import start_from
from support.mmff_labels import labelled_conformers
from support.mmff_potential import MMFFPotential, conformers
from support.selection import MOLECULES, OPTIONS, WRONG, replayed


def mmff_energy(smiles, positions):
    mol = molecule(smiles, positions)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    return rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties).CalcEnergy()


def test_a_trajectory_of_mmff_goes_down_to_where_rdkit_ends():
    starts = conformers(["OCC(F)CN"], 2)
    smiles, first = starts.mapped_smiles[0], starts.position[starts.rows(0)]
    states = MMFFSurrogate().trajectory(smiles, first, max_iterations=1000)
    energies = [mmff_energy(smiles, positions) for positions in [first, *states]]
    assert len(states) > 10 and (np.diff(energies) < 1e-6).all()
    mol = molecule(smiles, first)
    assert rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=1000) == 0
    assert energies[-1] == pytest.approx(mmff_energy(smiles, mol.GetConformer().GetPositions()), abs=1e-3)


def test_states_along_mmff_are_states_of_its_trajectories():
    starts = conformers(MOLECULES, 4)
    selected = select_along_mmff(starts, MMFFSurrogate(), n_select=9, seed=3, max_iterations=200)
    assert len(set(selected.values["start_id"])) == 9 == len(selected)
    for i, start_id in enumerate(selected.values["start_id"]):
        k = starts.id.index(start_id)
        states = MMFFSurrogate().trajectory(
            starts.mapped_smiles[k], starts.position[starts.rows(k)], max_iterations=200
        )
        np.testing.assert_array_equal(
            selected.position[selected.rows(i)], states[int(selected.values["n_steps"][i]) - 1]
        )
    assert len(set(selected.values["n_steps"])) > 4  # from all along the way
    again = select_along_mmff(starts, MMFFSurrogate(), n_select=9, seed=3, max_iterations=200)
    np.testing.assert_array_equal(again.position, selected.position)
    with pytest.raises(UserError, match="controls.rdkit_labels: 13 labels cannot be chosen from 12"):
        select_along_mmff(starts, MMFFSurrogate(), n_select=13, seed=3, max_iterations=200)


def test_random_states_are_those_of_undisturbed_relaxations():
    starts = conformers(MOLECULES, 6)
    potential = MMFFPotential(WRONG)
    options = OPTIONS | {"max_steps": 8}
    selected, counts = select_conformations(potential, None, starts, n_select=10, **options)
    assert len(selected) == 10 and counts.n_surrogate_rise == 0 and counts.n_step_limit + counts.n_converged == 10
    for i, start_id in enumerate(selected.values["start_id"]):
        n_steps = int(selected.values["n_steps"][i])
        there = replayed(potential, starts, start_id, n_steps)
        np.testing.assert_allclose(selected.position[selected.rows(i)], there, atol=1e-12)
        assert n_steps > 0
    assert len(set(selected.values["n_steps"])) > 3
    fewer_slots, _ = select_conformations(potential, None, starts, n_select=10, **(options | {"slots": 2}))
    assert sorted(fewer_slots.values["start_id"]) == sorted(selected.values["start_id"])
    for name in fewer_slots.values["start_id"]:
        i, j = (list(part.values["start_id"]).index(name) for part in (fewer_slots, selected))
        assert fewer_slots.values["n_steps"][i] == selected.values["n_steps"][j]  # the draw knows no company


def test_kept_states_are_those_of_shorter_relaxations():
    starts = conformers(MOLECULES, 1)
    potential = MMFFPotential(WRONG)
    options = {"iterations_per_step": 5, "force_threshold": OPTIONS["force_threshold"]}
    relaxed = relax(starts, potential, max_steps=12, slots=2, keep_steps=[1, 3, 50], keep_of=[0, 2], **options)
    states = kept_states(relaxed)
    found = [(name, int(step)) for name, step in zip(states.values["start_id"], states.values["step"], strict=True)]
    ends = {starts.id[i]: int(relaxed.values["n_steps"][i]) for i in (0, 2)}
    assert found == [(name, step) for name in ends for step in (1, 3, ends[name])]
    for k, (name, step) in enumerate(found):
        shorter = relax(starts.subset([starts.id.index(name)]), potential, max_steps=step, slots=1, **options)
        np.testing.assert_allclose(states.position[states.rows(k)], shorter.position, atol=1e-12)
        assert states.values["nnp_energy"][k] == pytest.approx(shorter.values["nnp_energy_last"][0], abs=1e-12)
        rows = states.rows(k)
        _, force = MMFFSurrogate().energy_and_forces(states.mapped_smiles[k], states.position[rows])
        np.testing.assert_allclose(states.atoms["nnp_force"][rows], force + WRONG(states.position[rows])[1], atol=1e-9)


def test_starts_of_trajectories_give_about_the_labels_asked_for():
    labelled = labelled_conformers(["OCC(F)CN", "COCC=O"], 8)
    labelled.values["status"][3] = Status.FAILED
    starts = select_trajectory_starts(labelled, n_labels=50, seed=1)
    gained = n_gradients(starts.n_atoms) - 1
    assert (
        gained.sum() >= 50 > gained[:-1].sum()
        and labelled.id[3] not in starts.id
        and len(set(starts.id)) == len(starts)
    )
    assert starts.id != select_trajectory_starts(labelled, n_labels=50, seed=2).id
    with pytest.raises(UserError, match="controls.traj_labels: .*ask for fewer"):
        select_trajectory_starts(labelled, n_labels=5000, seed=1)


def test_labels_along_optimizations_are_their_gradients_in_order():
    two = conformers(["CO", "CN"], 1)
    frames = []
    for i, n in enumerate((3, 4)):
        numbers = two.number[two.rows(i)]
        for step in range(n):
            force = np.full((len(numbers), 3), 0.01 * (step + 1) + i)
            frames.append((i, step, -10.0 * i - step, two.position[two.rows(i)] + step, force))
    optimizations = two.with_columns(
        values={"wall_seconds": [6.0, 8.0], "n_force_evaluations": [3, 4]},
        frames=Frames.build(frames),
        program="psi4",
        method="hf",
        basis="sto-3g",
        keywords="{}",
    )
    labels = labels_along(optimizations, n_labels=4, max_force_norm=3.0)
    names = [(i, step) for i, n in enumerate((3, 4)) for step in range(1, n)][:4]
    assert labels.id == [f"{two.molecule[i]}/traj-{i:04d}-{step:03d}" for i, step in names]
    np.testing.assert_array_equal(labels.values["energy"], [-10.0 * i - step for i, step in names])
    for k, (i, step) in enumerate(names):
        np.testing.assert_array_equal(labels.position[labels.rows(k)], two.position[two.rows(i)] + step)
        assert (labels.atoms["force"][labels.rows(k)] == 0.01 * (step + 1) + i).all()
    norms = [np.linalg.norm(labels.atoms["force"][labels.rows(k)]) for k in range(4)]
    assert labels.values["status"].tolist() == [Status.REJECTED if norm > 3.0 else Status.OK for norm in norms]
    assert Status.REJECTED in labels.values["status"] and labels.attrs["method"] == "hf"
    assert labels.values["wall_seconds"].tolist() == [2.0] * 4


def test_a_study_starts_from_a_model_of_its_own_level_alone(tmp_path):
    labelled = labelled_conformers(["OCC(F)CN"], 2)
    write(tmp_path / "labels.h5", labelled)
    level = LevelOfTheory("psi4", "hf", "sto-3g")
    energies = dict.fromkeys(set(labelled.number.tolist()), -1.0)
    shape = Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4)
    Potential(shape, energies, provenance=Provenance(level.attrs())).save(tmp_path / "a.pt", {"n_updates": 7})
    start_from(str(tmp_path / "a.pt"), str(tmp_path / "labels.h5"), level, str(tmp_path / "b.pt"))
    assert load_training_state(tmp_path / "b.pt") is None
    others = {
        "method: hf and wb97x-d": LevelOfTheory("psi4", "wb97x-d", "def2-svp"),
        "program: psi4 and pyscf": LevelOfTheory("pyscf", "hf", "sto-3g"),
        'keywords: {} and {"scf_type": "pk"}': LevelOfTheory("psi4", "hf", "sto-3g", {"scf_type": "pk"}),
    }
    for difference, other in others.items():
        with pytest.raises(UserError, match=f"a.pt: its training data and the oracle differ in {difference}; give"):
            start_from(str(tmp_path / "a.pt"), str(tmp_path / "labels.h5"), other, str(tmp_path / "c.pt"))
    Potential(shape, {1: -0.5, 6: -37.0}, provenance=Provenance(level.attrs())).save(tmp_path / "d.pt")
    with pytest.raises(UserError, match="which the model never saw"):
        start_from(str(tmp_path / "d.pt"), str(tmp_path / "labels.h5"), level, str(tmp_path / "c.pt"))
    assert not (tmp_path / "c.pt").exists()


def config(**changes):
    return validated(
        {
            "dataset": {"train": "a.smi"},
            "golf": {"rounds": 3, "labels_per_round": 10},
            "evaluation": {"arms": ["golf", "random", "rdkit", "traj"]},
            **changes,
        },
        "a.yaml",
    )


def test_budgets_default_to_golfs_and_are_divided_among_rounds():
    assert [budget_of(config(), arm) for arm in ("random", "rdkit", "traj")] == [30, 30, 30]
    given = config(controls={"random_labels": 11, "rdkit_labels": 5})
    assert [budget_of_round(given, ARMS["random"], r) for r in (1, 2, 3)] == [3, 4, 4] and budget_of(
        given, "rdkit"
    ) == 5
    check_budgets(given, 11)
    with pytest.raises(UserError, match="key controls.rdkit_labels: 30 labels are not available from 20 training"):
        check_budgets(config(), 20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"arms": ["golf", "golf"]}}, "evaluation.arms"),
        ({"evaluation": {"models": {"golf": "a.pt"}}}, "evaluation.models: golf is the name of a built-in arm"),
        ({"evaluation": {"models": {"Golf 1k": "a.pt"}}}, "evaluation.models"),
        ({"golf": {"rounds": 0}}, "random gets the updates of the GOLF rounds"),
        ({"controls": {"traj": 3}}, "unknown key controls.traj; known here: random_labels"),
    ],
)
def test_wrong_arms_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        config(**changes)
