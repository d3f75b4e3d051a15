"""Errors and progress along relaxations on two molecules worked out by hand."""

import re

import numpy as np
import pytest

from golf.core import hdf5
from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.core.units import hartree
from golf.evaluation.trajectories import study_trajectories
from support import REPOSITORY

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")
E_OPT = -75.0
SMILES = "[O:1]([H:2])[H:3]"
NUMBERS = np.array([8, 1, 1])
OK, NONE = Status.OK, Status.NOT_COMPUTED
CONVERGED, LIMIT, BLEW_UP = StopReason.CONVERGED, StopReason.STEP_LIMIT, StopReason.NOT_FINITE


def build(rows) -> ConformationSet:
    """One water per (id, molecule)."""
    return ConformationSet.build((id, name, SMILES, 0, 1, NUMBERS, np.eye(3)) for id, name in rows)


def reference(status=(OK, OK)) -> ConformationSet:
    """Starts 10 kcal/mol above the minima."""
    ok = np.array(status) == OK
    return build([("a/0", "a"), ("b/0", "b")]).with_columns(
        values={
            "energy": np.where(ok, E_OPT, np.nan),
            "energy_first": np.full(2, E_OPT + hartree(10.0)),
            "status": status,
        },
        **LEVEL.attrs(),
    )


def relaxed(n_steps=(4, 4), stop=(CONVERGED, CONVERGED)) -> ConformationSet:
    return build([("a/0", "a"), ("b/0", "b")]).with_columns(values={"n_steps": n_steps, "stop_reason": stop})


def states(rows) -> ConformationSet:
    """(start, step, DFT energy above the minimum, NNP error, mean force error, all kcal/mol; status) of each state."""
    part = build([(f"{row[0]}@{row[1]}", row[0][0]) for row in rows])
    energy = E_OPT + hartree(np.array([row[2] for row in rows], float))
    force = np.random.default_rng(0).normal(size=(3 * len(rows), 3))
    # Signs and sizes differ between components: the mean is over their absolute values.
    signs = np.where(np.arange(9 * len(rows)).reshape(-1, 3) % 2, 1.0, -1.0)
    by_atom = np.repeat([row[4] for row in rows], 3)[:, None] * [0.0, 1.0, 2.0]
    return part.with_columns(
        values={
            "start_id": [row[0] for row in rows],
            "step": [row[1] for row in rows],
            "energy": energy,
            "nnp_energy": energy + hartree(np.array([row[3] for row in rows], float)),
            "status": [row[5] if len(row) > 5 else OK for row in rows],
        },
        atoms={"force": force, "nnp_force": force + hartree(1.0) * signs * by_atom},
        **LEVEL.attrs(),
    )


def lines(*args, steps=(1, 2, 4), **settings) -> list[dict]:
    return study_trajectories("golf", *args, steps=steps, **settings).to_dict("records")


WHOLE = [
    ("a/0", 1, 8.0, -1.0, 0.5),
    ("a/0", 2, 5.0, 2.0, 1.0),
    ("a/0", 4, 0.0, 3.0, 2.0),
    ("b/0", 1, 6.0, 3.0, 1.5),
    ("b/0", 2, 12.0, -4.0, 3.0),
    ("b/0", 4, 2.0, 1.0, 4.0),
]


def test_numbers_at_each_step():
    first, second, last = lines(states(WHOLE), relaxed(), reference())
    assert [line["step"] for line in (first, second, last)] == [1, 2, 4] and first["arm"] == "golf"
    assert [line["n"] for line in (first, second, last)] == [2, 2, 2]
    assert first["energy_error_median"] == pytest.approx(2.0)  # of 1 and 3
    assert (first["energy_error_p10"], first["energy_error_p90"]) == pytest.approx((1.2, 2.8))
    assert first["force_error_median"] == pytest.approx(1.0)
    assert (second["force_error_p10"], second["force_error_p90"]) == pytest.approx((1.2, 2.8))
    assert first["percent_optimized_mean"] == pytest.approx(30.0)  # of 20 and 40
    assert first["percent_optimized_std"] == pytest.approx(10.0)
    assert (first["percent_optimized_low"], first["percent_optimized_high"]) == pytest.approx((20.3, 39.7), abs=0.1)
    assert [line["percent_diverged"] for line in (first, second, last)] == pytest.approx([0.0, 50.0, 0.0])
    assert (last["percent_diverged_low"], last["percent_diverged_high"]) == pytest.approx((0.0, 84.19), abs=0.005)
    assert (second["percent_diverged_low"], second["percent_diverged_high"]) == pytest.approx((1.26, 98.74), abs=0.005)
    assert last["percent_optimized_mean"] == pytest.approx(90.0)
    assert all(line[name] == 0 for line in (first, last) for name in ("n_ended", "n_failed", "n_unlabelled"))


def test_the_last_state_stands_for_later_steps():
    rows = [row for row in WHOLE if row[:2] not in {("a/0", 4)}]
    run = relaxed(n_steps=(2, 4), stop=(CONVERGED, LIMIT))
    _, _, fourth, later = lines(states(rows), run, reference(), steps=(1, 2, 4, 100))
    assert fourth["n"] == 2 and fourth["n_ended"] == 1
    assert fourth["percent_optimized_mean"] == pytest.approx((50.0 + 80.0) / 2)
    assert fourth["energy_error_median"] == pytest.approx((2.0 + 1.0) / 2)
    assert later["n_ended"] == 2 and later["percent_optimized_mean"] == fourth["percent_optimized_mean"]


def test_where_a_relaxation_blew_up_it_has_diverged_from_there_on():
    rows = [row for row in WHOLE if row[:2] != ("a/0", 4)]
    first, second, last = lines(states(rows), relaxed(n_steps=(2, 4), stop=(BLEW_UP, CONVERGED)), reference())
    assert (second["n"], second["n_failed"]) == (2, 0)
    assert (last["n"], last["n_failed"], last["n_ended"]) == (1, 1, 0)
    assert last["percent_diverged"] == pytest.approx(50.0)
    assert last["percent_optimized_mean"] == pytest.approx(80.0) and last["energy_error_median"] == pytest.approx(1.0)
    assert first["percent_diverged"] == 0.0


def test_dft_that_failed_is_no_label_that_is_missing():
    rows = [*WHOLE[:2], (*WHOLE[2][:2], np.nan, 0.0, 0.0, Status.NOT_CONVERGED), *WHOLE[3:]]
    assert (lines(states(rows), relaxed(), reference())[2])["percent_diverged"] == pytest.approx(50.0)
    rows[2] = (*WHOLE[2][:2], np.nan, 0.0, 0.0, NONE)
    last = lines(states(rows), relaxed(), reference())[2]
    assert (last["n"], last["n_failed"], last["n_unlabelled"]) == (1, 0, 1) and last["percent_diverged"] == 0.0
    not_kept = lines(states([*WHOLE[:2], *WHOLE[3:]]), relaxed(), reference())[2]
    assert not_kept["n_unlabelled"] == 1 and not_kept["percent_optimized_mean"] == pytest.approx(80.0)


def test_without_a_minimum_it_is_left_out_and_counted():
    (first, *_) = lines(states(WHOLE), relaxed(), reference((OK, Status.NOT_CONVERGED)))
    assert (first["n"], first["n_excluded"]) == (1, 1)
    assert first["energy_error_median"] == pytest.approx(1.0)
    assert np.isnan(first["percent_optimized_low"])  # one molecule


def test_every_column_has_a_definition():
    page = (REPOSITORY / "docs/method.md").read_text()
    columns = study_trajectories("golf", states(WHOLE), relaxed(), reference()).columns
    stems = {re.sub("_(low|high|std|p10|p90)$", "", name) for name in columns} - {"arm", "step"}
    assert not {stem for stem in stems if f"`{stem}" not in page}


def test_states_pass_through_a_file(tmp_path):
    hdf5.write(tmp_path / "states.h5", states(WHOLE))
    back = hdf5.read(tmp_path / "states.h5")
    assert lines(back, relaxed(), reference()) == lines(states(WHOLE), relaxed(), reference())


def test_nothing_labelled():
    rows = [(*row[:2], np.nan, 0.0, 0.0, NONE) for row in WHOLE]
    (first, *_) = lines(states(rows), relaxed(), reference())
    assert (first["n"], first["n_unlabelled"]) == (0, 2)
    assert np.isnan([first["energy_error_median"], first["percent_optimized_mean"], first["percent_diverged"]]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part.with_columns(values={"step": [1, 1, 4, 1, 2, 4]}), "a/0 has two states at step 1"),
        (
            lambda part: part.with_columns(basis="def2-svp"),
            "differ in basis: def2-svp and sto-3g; label it",
        ),
        (lambda part: part.with_columns(values={"start_id": ["c/0", *part.values["start_id"][1:]]}), "c/0 has states"),
        (lambda part: part.bare().with_columns(**LEVEL.attrs()), "have no start_id"),
    ],
)
def test_wrong_input_is_one_line(change, message):
    with pytest.raises(UserError, match=message) as caught:
        study_trajectories("golf", change(states(WHOLE)), relaxed(), reference())
    assert "\n" not in str(caught.value) and str(caught.value).startswith("arm golf: ")


def test_only_kept_relaxations_count_whatever_became_of_the_others():
    sampled = [("a/0", step, 10.0 - step, 0.0, 0.0) for step in (1, 2, 4)]
    for stop in (CONVERGED, BLEW_UP):
        both = relaxed(n_steps=(4, 0), stop=(CONVERGED, stop)).with_columns(values={"kept": [True, False]})
        for line in lines(states(sampled), both, reference()):
            assert (line["n"], line["n_failed"], line["n_unlabelled"], line["n_excluded"]) == (1, 0, 0, 0)
            assert line["percent_diverged"] == 0.0
    blown = relaxed(n_steps=(4, 0), stop=(CONVERGED, BLEW_UP)).with_columns(values={"kept": [True, True]})
    assert [line["percent_diverged"] for line in lines(states(sampled), blown, reference())] == [50.0] * 3
