import subprocess
import sys

import numpy as np
import pytest
import torch

from golf.chem.mmff import MMFFSurrogate, SurrogateError
from golf.core.conformations import Status, StopReason, concatenate
from golf.core.hdf5 import read, write
from golf.core.units import hartree
from golf.study.selection import select_conformations
from support import REPOSITORY
from support.mmff_labels import boronic_acid, fresh_energy
from support.mmff_potential import MMFFPotential, Springs, conformers, stretch
from support.selection import MOLECULES, OPTIONS, WRONG, replayed


def select(potential, starts, n_select, **options):
    return select_conformations(potential, MMFFSurrogate(), starts, n_select=n_select, **(OPTIONS | options))


@pytest.mark.slow
def test_selected_is_the_conformation_before_the_surrogate_rise():
    starts = conformers(MOLECULES, 6)
    potential = MMFFPotential(WRONG)
    selected, counts = select(potential, starts, 10)
    assert len(selected) == 10 == counts.n_surrogate_rise
    assert len(set(selected.values["n_steps"])) > 1  # not all end at the same step
    for i, start_id in enumerate(selected.values["start_id"]):
        smiles, n_steps = selected.mapped_smiles[i], int(selected.values["n_steps"][i])
        path = [replayed(potential, starts, start_id, k) for k in range(n_steps + 1)]
        energies = [fresh_energy(smiles, positions) for positions in path]
        assert (np.diff(energies)[:-1] <= 0).all() and energies[-1] > energies[-2]
        rows = selected.rows(i)
        np.testing.assert_array_equal(selected.position[rows], path[-2])
        np.testing.assert_array_equal(selected.atoms["initial_position"][rows], path[0])
        assert selected.values["surrogate_energy_first"][i] == pytest.approx(energies[0], abs=1e-9)
        assert selected.values["surrogate_energy_last"][i] == pytest.approx(energies[-2], abs=1e-9)
        assert selected.values["nnp_energy_last"][i] == pytest.approx(energies[-2] + WRONG(path[-2])[0], abs=1e-9)


def test_selected_at_the_step_limit_is_the_conformation_before_the_last_step():
    starts = conformers(MOLECULES, 2)
    potential = MMFFPotential()
    options = {"max_steps": 3, "iterations_per_step": 2, "force_threshold": 1e-9}
    selected, counts = select(potential, starts, 6, **options)
    assert counts.n_step_limit == 6
    assert (selected.values["stop_reason"] == StopReason.STEP_LIMIT).all()
    assert (selected.values["n_steps"] == 3).all()
    for i, start_id in enumerate(selected.values["start_id"]):
        expected = replayed(potential, starts, start_id, 2, **options)
        np.testing.assert_array_equal(selected.position[selected.rows(i)], expected)


def test_selected_of_a_converged_trajectory_is_the_conformation_before_its_last_step():
    starts = conformers(MOLECULES, 2)
    potential = MMFFPotential()
    options = {"force_threshold": hartree(0.5)}
    selected, counts = select(potential, starts, 6, **options)
    assert counts.n_converged == 6
    for i, start_id in enumerate(selected.values["start_id"]):
        before = int(selected.values["n_steps"][i]) - 1
        expected = replayed(potential, starts, start_id, before, **options)
        np.testing.assert_array_equal(selected.position[selected.rows(i)], expected)
        end = replayed(potential, starts, start_id, before + 1, **options)
        assert np.abs(end - expected).max() > 1e-4


def uphill(starts):
    """MMFF with the wrong sign: the surrogate energy rises in the first step."""
    return MMFFPotential(stretch(4.0, stiffness=5.0))


def test_a_rise_in_the_first_step_selects_a_start_without_label():
    starts = conformers(MOLECULES, 2)
    selected, counts = select(uphill(starts), starts, 6)
    assert counts.n_surrogate_rise == 6 and counts.n_already_labelled == 0
    for i, start_id in enumerate(selected.values["start_id"]):
        expected = starts.position[starts.rows(starts.id.index(start_id))]
        np.testing.assert_array_equal(selected.position[selected.rows(i)], expected)


def test_a_start_with_a_label_is_not_paid_for_twice(caplog):
    starts = conformers(MOLECULES, 2)
    status = [Status.OK, Status.NOT_COMPUTED, Status.REJECTED, Status.NOT_COMPUTED, Status.FAILED, Status.OK]
    starts = starts.with_columns(values={"status": status})
    selected, counts = select(uphill(starts), starts, 6)
    assert set(selected.values["start_id"]) == {starts.id[1], starts.id[3]}
    assert counts.n_already_labelled == 4 and counts.n_surrogate_rise == 6
    assert "all 6 start conformations are used up with 2 of 6 conformations selected" in caplog.text


def test_equal_geometries_are_selected_once():
    starts = conformers(MOLECULES, 1)
    twins = concatenate([starts, starts.__class__(**{**vars(starts), "id": [f"{x}-twin" for x in starts.id]})])
    selected, counts = select(uphill(twins), twins, 6)
    assert len(selected) == 3 and counts.n_already_labelled == 3
    assert len(set(selected.id)) == 3


def test_not_finite_is_dropped_and_counted():
    starts = conformers(MOLECULES, 3)

    def breaks(positions):
        energy, forces = WRONG(positions)
        return (np.nan if len(positions) == 14 else energy), forces  # OCC(F)CN, which has 14 atoms

    assert (starts.n_atoms == 14).sum() == 3
    selected, counts = select(MMFFPotential(breaks), starts, 9)
    assert counts.n_not_finite == 3 and len(selected) == 6
    assert "OCC(F)CN" not in selected.molecule


def test_slots_are_refilled_until_enough_are_selected():
    starts = conformers(MOLECULES, 6)
    potential = MMFFPotential(WRONG)
    selected, counts = select(potential, starts, 9)
    assert len(selected) == 9 == counts.n_surrogate_rise  # no more were followed than were wanted
    assert max(potential.batch_sizes) == OPTIONS["slots"] and potential.batch_sizes[0] == OPTIONS["slots"]


def test_what_is_selected_does_not_depend_on_the_slots():
    """Taking the trajectories that end first would prefer short ones, the more so the more slots there are."""
    starts = conformers(MOLECULES, 6)
    chosen = [select(MMFFPotential(WRONG), starts, 6, slots=slots)[0] for slots in (1, 4, 18)]
    for selected in chosen[1:]:
        assert set(selected.values["start_id"]) == set(chosen[0].values["start_id"])
        assert sorted(selected.values["n_steps"]) == sorted(chosen[0].values["n_steps"])


def test_the_seed_and_the_round_decide_what_is_selected(tmp_path):
    starts = conformers(MOLECULES, 6)
    first, same = (select(MMFFPotential(WRONG), starts, 6)[0] for _ in range(2))
    np.testing.assert_array_equal(first.position, same.position)
    assert first.id == same.id and list(first.values["start_id"]) == list(same.values["start_id"])
    for other in ({"seed": 12}, {"round_number": 3}):
        drawn, _ = select(MMFFPotential(WRONG), starts, 6, **other)
        assert set(drawn.values["start_id"]) != set(first.values["start_id"])
    write(tmp_path / "selected.h5", first)
    again = read(tmp_path / "selected.h5")
    np.testing.assert_array_equal(again.position, first.position)
    assert again.attrs["n_surrogate_rise"] == 6 and again.id == first.id


def test_ids_are_unique_and_tell_molecule_and_round():
    starts = conformers(MOLECULES, 4)
    selected, _ = select(MMFFPotential(WRONG), starts, 8)
    for k, name in enumerate(selected.id):
        assert name == f"{selected.molecule[k]}/r2-{k:04d}"
    assert not set(selected.id) & set(starts.id)


def test_no_labels_wanted_or_no_starts():
    starts = conformers(MOLECULES, 1)
    for some, n_select in ((starts, 0), (starts.subset([]), 3)):
        selected, counts = select(MMFFPotential(WRONG), some, n_select)
        assert len(selected) == 0 and counts.n_surrogate_rise == 0


def test_a_failing_surrogate_raises():
    with pytest.raises(SurrogateError, match="boronic/0000"):
        select(Springs(), boronic_acid(), 1)


def test_a_surrogate_that_fails_on_the_way_raises():
    """The potential puts two atoms on top of each other, where MMFF has no energy."""
    starts = conformers(["CCS"], 1)

    class Collapse(Springs):
        def evaluate(self, molecules, positions):
            torch.manual_seed(0)
            target = positions.clone()
            target[1] = target[0]
            return torch.zeros(1, dtype=torch.float64), 1e3 * (target - positions)

    with pytest.raises(SurrogateError, match="'CCS/0000': MMFF94 energy is nan"):
        select(Collapse(), starts, 1, iterations_per_step=20)


@pytest.mark.slow
def test_rounds_relax_by_plain_lbfgs_whatever_test_relaxations_do(tmp_path):
    """The paper's failure detection watches plain L-BFGS; the optimizer of test relaxations is the user's choice."""
    (tmp_path / "Snakefile").write_text(
        f"include: {str(REPOSITORY / 'Snakefile')!r}\n"
        "from types import SimpleNamespace\n"
        "for rule in ('relax_round', 'relax_test'):\n"
        "    params = dict(getattr(rules, rule).params.items())\n"
        "    found = params['relaxation'] if rule == 'relax_test' else params['selection']\n"
        "    for loop in ('rounds', 'random') if callable(found) else (None,):\n"
        "        of = found(SimpleNamespace(loop=loop, round='1')) if loop else found\n"
        "        print('settings:', rule, loop, of['optimizer']['name'], of['optimizer']['variant'])\n"
    )
    for name in ("lbfgs", "preconditioned"):
        command = [sys.executable, "-m", "snakemake", "--snakefile", tmp_path / "Snakefile"]
        command += ["--configfile", REPOSITORY / "configs/tiny.yaml", "--list-rules"]
        command += ["--config", f"relaxation={{optimizer: {name}}}", "surrogate={variant: MMFF94s}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
        said = [line.removeprefix("settings: ") for line in done.stdout.splitlines() if line.startswith("settings: ")]
        assert said == [
            "relax_round rounds lbfgs MMFF94s",
            "relax_round random lbfgs MMFF94s",
            f"relax_test None {name} MMFF94s",
        ]
