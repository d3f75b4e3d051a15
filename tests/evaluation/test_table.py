"""The table of arms on cases worked out by hand."""

import logging
import re

import numpy as np
import pytest
from scipy.stats import beta

from golf.core import hdf5
from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.errors import UserError
from golf.core.units import hartree
from golf.evaluation.arm import evaluate_arm, seen_molecules
from golf.evaluation.table import format_table, summarize, summarize_by_molecules
from support import REPOSITORY
from support.arms import E_OPT, LEVEL, STARTS, reference, relaxed


def line(arm: ConformationSet) -> dict:
    return summarize([arm]).to_dict("records")[0]


def test_numbers_of_an_arm():
    arm = evaluate_arm("golf", relaxed([0.0, 0.5, 2.0, -1.0, 12.0]), reference(), n_labels=7, n_updates=100)
    numbers = line(arm)
    assert numbers["arm"] == "golf"
    assert (numbers["n_test"], numbers["n_labels"], numbers["n_updates"]) == (5, 7, 100)
    assert numbers["residual_energy_kcal_mol"] == pytest.approx((0.0 + 0.5 + 2.0 - 1.0 + 12.0) / 5)
    assert numbers["percent_success"] == pytest.approx(60.0)  # the deeper basin counts, the diverged one does not
    shares = [100, 95, 80, 110, -20]
    assert numbers["percent_optimized_mean"] == pytest.approx(np.mean(shares))
    assert numbers["percent_optimized_std"] == pytest.approx(np.std(shares))
    assert numbers["percent_diverged"] == pytest.approx(20.0)
    assert (numbers["n_excluded"], numbers["n_without_energy"]) == (0, 0)
    assert numbers["residual_energy_low"] < numbers["residual_energy_kcal_mol"] < numbers["residual_energy_high"]
    assert numbers["percent_success_low"] <= 60.0 <= numbers["percent_success_high"]
    assert arm.attrs["residual_energy_kcal_mol"] == numbers["residual_energy_kcal_mol"]


def test_intervals_are_over_molecules():
    arm = evaluate_arm("golf", relaxed([0.0, 0.0, 0.0, 3.0, 3.0]), reference(), n_labels=1)
    numbers = line(arm)
    assert numbers["n_molecules"] == 2
    # Water counts with three conformations, the amine with two, and one more molecule with 2.5 that fail by 5 kcal/mol.
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 100_000) * [3, 2, 2.5]
    low, high = ((weights / weights.sum(axis=1, keepdims=True)) @ [0.0, 3.0, edge] for edge in (0.0, 5.0))
    assert numbers["residual_energy_low"] == pytest.approx(np.quantile(low, 0.025), abs=0.01)
    assert numbers["residual_energy_high"] == pytest.approx(np.quantile(high, 0.975), abs=0.03)
    # DFT gains 10 kcal/mol from every start: 100 and 70 % here, 50 % left by a failure
    assert 50.0 < numbers["percent_optimized_low"] < 70.0 and 98.0 < numbers["percent_optimized_high"] < 100.0
    # 3 of 5: 1.15 of 1.92 molecules
    expected = [100 * beta.ppf(q, a, b) for q, a, b in ((0.025, 15 / 13, 23 / 13), (0.975, 28 / 13, 10 / 13))]
    assert [numbers["percent_success_low"], numbers["percent_success_high"]] == pytest.approx(expected)
    # None has diverged; COV is a mean over the two molecules
    assert (numbers["percent_diverged_low"], numbers["percent_diverged_high"]) == pytest.approx((0.0, 85.31), abs=0.005)
    assert (numbers["coverage_low"], numbers["coverage_high"]) == pytest.approx((15.81, 100.0), abs=0.005)


def test_coverage_and_matching_of_an_arm():
    ends = relaxed([0.0] * 5)
    position = ends.position.copy()
    position[ends.rows(0)] *= 3.0  # far from every minimum, so that its own has to do with another end
    position[ends.rows(4)] += 100.0  # a translation is no distance
    arm = evaluate_arm("golf", ends.with_columns(position=position), reference(), n_labels=1)
    assert arm.values["rmsd"][0] > 0.5 and np.allclose(arm.values["rmsd"][1:], 0.0, atol=1e-6)
    numbers, nearest = line(arm), arm.values["nearest_rmsd"]
    assert numbers["matching_angstrom"] == pytest.approx((nearest[0] / 3 + 0.0) / 2, abs=1e-6)
    assert numbers["coverage_percent"] == pytest.approx(100 * ((2 + (nearest[0] <= 0.5)) / 3 + 1) / 2)


def test_relaxations_without_geometry_cover_nothing_and_are_counted():
    stop = [StopReason.NOT_FINITE] * 3 + [StopReason.CONVERGED] * 2
    blown = relaxed([0.0] * 5).with_columns(values={"stop_reason": stop})
    arm = evaluate_arm("golf", blown, reference(), n_labels=1)
    numbers = line(arm)
    assert numbers["n_without_geometry"] == 3 and numbers["coverage_percent"] == pytest.approx(50.0)
    assert np.isnan(arm.values["nearest_rmsd"][:3]).all() and numbers["matching_angstrom"] == pytest.approx(0, abs=1e-6)
    assert "3 ended without a geometry" in format_table(summarize([arm]))


def test_start_that_dft_gains_nothing_from_is_counted():
    minima = reference()
    minima = minima.with_columns(values={"energy_first": [E_OPT, *minima.values["energy_first"][1:]]})
    arm = evaluate_arm("golf", relaxed([0.0] * 5), minima, n_labels=1)
    assert line(arm)["n_without_gain"] == 1 and "DFT gained no energy" in format_table(summarize([arm]))


def test_end_without_dft_energy_has_diverged(caplog):
    status = [Status.OK, Status.OK, Status.NOT_CONVERGED, Status.TIMED_OUT, Status.OK]
    with caplog.at_level(logging.WARNING):
        arm = evaluate_arm("baseline", relaxed([0.5, 1.4, np.nan, np.nan, 1.1], status), reference(), n_labels=0)
    numbers = line(arm)
    assert numbers["n_test"] == 5 and numbers["n_without_energy"] == 2
    assert numbers["residual_energy_kcal_mol"] == pytest.approx(1.0)
    assert numbers["percent_success"] == pytest.approx(20.0)
    assert numbers["percent_diverged"] == pytest.approx(40.0)
    assert "2 relaxations ended without a DFT energy" in caplog.text


def test_start_without_minimum_is_left_out_and_counted(caplog):
    status = [Status.OK, Status.OK, Status.OK, Status.NOT_CONVERGED, Status.OK]
    with caplog.at_level(logging.WARNING):
        arm = evaluate_arm("golf", relaxed([0.0, 0.0, 0.0, 50.0, 4.0]), reference(status), n_labels=1)
    numbers = line(arm)
    assert (numbers["n_test"], numbers["n_excluded"]) == (4, 1)
    assert numbers["residual_energy_kcal_mol"] == pytest.approx(1.0)
    assert numbers["percent_diverged"] == 0.0 and numbers["percent_success"] == pytest.approx(75.0)
    assert np.isnan(arm.values["residual_energy"][3])
    assert "1 test conformations have no DFT minimum" in caplog.text
    assert "1 more left out of all numbers" in format_table(summarize([arm]))


def test_relaxation_that_blew_up_needs_no_label():
    blown = relaxed([0.0, 0.0, 0.0, 0.0, np.nan], [*[Status.OK] * 4, Status.NOT_COMPUTED])
    blown = blown.with_columns(values={"stop_reason": [*[StopReason.CONVERGED] * 4, StopReason.NOT_FINITE]})
    assert line(evaluate_arm("golf", blown, reference(), n_labels=1))["percent_diverged"] == pytest.approx(20.0)


def test_the_last_finite_geometry_of_a_run_that_blew_up_is_no_success():
    blown = relaxed([0.0] * 5).with_columns(
        values={"stop_reason": [*[StopReason.CONVERGED] * 4, StopReason.NOT_FINITE]}
    )
    numbers = line(evaluate_arm("golf", blown, reference(), n_labels=1))
    assert numbers["percent_diverged"] == pytest.approx(20.0) and numbers["percent_success"] == pytest.approx(80.0)
    assert numbers["n_without_energy"] == 1


def test_matched_by_start_not_by_order():
    backwards = relaxed([0.0, 1.0, 2.0, 3.0, 4.0]).subset([4, 3, 2, 1, 0])
    renamed = ConformationSet(
        **{**backwards.__dict__, "id": [f"end/{i}" for i in range(5)], "values": dict(backwards.values)}
    ).with_columns(values={"start_id": [id for id, _ in reversed(STARTS)]})
    arm = evaluate_arm("golf", renamed, reference(), n_labels=1)
    assert np.allclose(arm.values["residual_energy"], hartree(np.array([4.0, 3.0, 2.0, 1.0, 0.0])))


def test_seen_and_unseen_molecules():
    known = evaluate_arm(
        "golf", relaxed([0.0, 1.0, 2.0, 5.0, 7.0]), reference(), n_labels=1, training_molecules={"water", "ethanol"}
    )
    unknown = evaluate_arm("mmff", relaxed([0.0] * 5), reference(), n_labels=0)
    table = summarize_by_molecules([unknown, known])
    assert table["molecules"].tolist() == ["seen", "unseen"]
    assert table["n_test"].tolist() == [3, 2]
    assert table["residual_energy_kcal_mol"].tolist() == pytest.approx([1.0, 6.0])
    assert "unseen" in format_table(table) and "[no interval]" in format_table(table)  # one molecule of each
    assert "0.0 [0.0, 97.5]" in format_table(table)  # success of the unseen one: 5 and 7 kcal/mol
    assert summarize_by_molecules([unknown]).empty and format_table(summarize_by_molecules([unknown])) == ""


def test_file_and_table(tmp_path):
    arms = []
    for name, ends in {"mmff": [1.0] * 5, "golf": [0.5, 0.5, 0.5, 0.5, 3.0]}.items():
        updates = None if name == "mmff" else 20
        arm = evaluate_arm(
            name, relaxed(ends), reference(), n_labels=3, n_updates=updates, training_molecules={"water"}
        )
        hdf5.write(tmp_path / f"{name}.h5", arm)
        arms.append(hdf5.read(tmp_path / f"{name}.h5"))
    table = summarize(arms, seed=1)
    assert table.columns.tolist()[:8] == [
        "arm",
        "n_test",
        "n_labels",
        "residual_energy_kcal_mol",
        "percent_success",
        "percent_optimized_mean",
        "percent_optimized_std",
        "percent_diverged",
    ]
    assert table.equals(summarize(arms, seed=1))
    page = (REPOSITORY / "docs/method.md").read_text()
    stems = {re.sub("_(low|high|std)$", "", name) for name in table.columns} - {"arm"}
    assert {stem for stem in stems if f"`{stem}" not in page} <= {"residual_energy", "coverage", "matching"}
    table.to_csv(tmp_path / "summary.csv", index=False)
    assert (tmp_path / "summary.csv").read_text().splitlines()[1].endswith(",")  # mmff has no training updates
    text = format_table(table).splitlines()
    assert text[0].split()[0] == "arm" and text[2].split()[:4] == ["mmff", "5", "3", "1.00"]
    assert text[0].endswith("COV %  MAT A") and text[2].split()[-2:] == ["100.0", "0.000"]
    assert len({len(row) for row in text}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ends: ends.with_columns(basis="def2-svp"),
            "differ in basis: def2-svp and sto-3g; label it",
        ),
        (lambda ends: ends.subset([0, 1, 2, 3]), "amine/1 was not relaxed"),
        (lambda ends: ends.bare().with_columns(**LEVEL.attrs()), "no DFT labels"),
        (lambda ends: ends.with_columns(values={"status": [0, 0, 1, 0, 0]}), "water/2 has no DFT label"),
        (lambda ends: ends.with_columns(values={"start_id": ["water/9"] * 5}), "water/9 is not in the DFT minima"),
        (lambda ends: ends.with_columns(atoms={"initial_position": ends.position}), "another start"),
    ],
)
def test_wrong_input_is_one_line(change, message):
    with pytest.raises(UserError, match=message) as caught:
        evaluate_arm("golf", change(relaxed([0.0] * 5)), reference(), n_labels=1)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("arm golf: ")


def test_summary_of_something_else():
    with pytest.raises(UserError, match="evaluate it first"):
        summarize([relaxed([0.0] * 5)])


def test_no_minimum_at_all():
    none = reference([Status.NOT_CONVERGED] * 5)
    numbers = line(evaluate_arm("golf", relaxed([0.0] * 5), none, n_labels=1))
    assert (numbers["n_test"], numbers["n_molecules"], numbers["n_excluded"]) == (0, 0, 5)
    assert np.isnan([numbers["residual_energy_kcal_mol"], numbers["coverage_percent"], numbers["matching_low"]]).all()


def test_a_molecule_is_seen_under_whatever_name():
    def part(*molecules):
        return ConformationSet.build((f"{m}/0", m, smiles, 0, 1, [8, 1, 1], np.eye(3)) for m, smiles in molecules)

    water, other_order = "[O:1]([H:2])[H:3]", "[H:2][O:3][H:1]"
    sulfide = "[S:1]([H:2])[H:3]"
    assert seen_molecules(part(("a", water), ("b", sulfide)), part(("water", other_order))) == {"a"}


def test_starts_near_training_are_counted_and_said_once():
    near = {"water/1", "amine/0"}
    arms = [evaluate_arm(name, relaxed([0.0] * 5), reference(), n_labels=1, near_training=near) for name in ("a", "b")]
    arms.append(evaluate_arm("theirs", relaxed([0.0] * 5), reference(), n_labels=0))
    table = summarize(arms)
    assert table["n_near_training"].tolist()[:2] == [2, 2] and table["n_near_training"].isna().tolist()[2]
    text = format_table(table)
    assert text.count("2 of 5 starts are within dataset.prune_rmsd of a training conformation") == 1
