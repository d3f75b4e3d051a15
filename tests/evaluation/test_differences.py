"""Paired differences between arms on cases worked out by hand."""

import numpy as np
import pytest

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.evaluation.arm import evaluate_arm
from golf.evaluation.differences import format_differences, pairs, summarize_differences
from support.arms import reference, relaxed


def arm(name, above_optimum, status=(Status.OK,) * 5, minima=(Status.OK,) * 5):
    return evaluate_arm(name, relaxed(above_optimum, status), reference(minima), n_labels=1)


def only_line(*arms):
    (line,) = summarize_differences(arms).to_dict("records")
    return line


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ("mmff baseline golf", "golf-baseline golf-mmff mmff-baseline"),
        ("baseline golf random", "golf-baseline golf-random random-baseline"),
        ("mmff golf", "golf-mmff"),
        ("mmff baseline", "mmff-baseline"),
        ("mmff theirs mine", "theirs-mmff mine-mmff"),
        ("golf", ""),
    ],
)
def test_golf_and_the_baseline_are_compared_with_every_arm(arms, expected):
    assert [f"{one}-{other}" for one, other in pairs(arms.split())] == expected.split()


def test_differences_of_two_arms():
    golf, baseline = arm("golf", [0.1, 0.1, 0.001, -1.0, 0.5]), arm("baseline", [2.0, 10.0, 0.01, 3.0, 0.5])
    line = only_line(baseline, golf)
    assert (line["arm"], line["other"]) == ("golf", "baseline")
    assert line["residual_energy_difference_kcal_mol"] == pytest.approx((-1.9 - 9.9 - 0.009 - 4.0 + 0.0) / 5)
    assert line["log10_residual_difference"] == pytest.approx((-np.log10(20) - 2 + 0 - np.log10(300) + 0.0) / 5)
    assert line["percent_success_difference"] == pytest.approx(60.0)
    assert (line["n_only_arm"], line["n_only_other"]) == (3, 0)
    assert line["mcnemar_p"] == pytest.approx(0.5)  # two in one molecule, one in the other
    assert (line["n_test"], line["n_pairs"], line["n_molecules"], line["n_excluded"]) == (5, 5, 2, 0)
    for stem in ("residual_energy_difference", "log10_residual_difference", "percent_success_difference"):
        value = line.get(stem, line.get(f"{stem}_kcal_mol"))
        assert line[f"{stem}_low"] < value < line[f"{stem}_high"]
    text = format_differences(summarize_differences([baseline, golf])).splitlines()
    assert text[2].split()[:5] == ["golf", "-", "baseline", "5", "5"] and len({len(row) for row in text}) == 1


def test_the_other_way_round_signs_change():
    first, second = [0.1, 0.1, 0.001, -1.0, 0.5], [1.0, 10.0, 0.01, 3.0, 0.5]
    one, other = only_line(arm("golf", first), arm("x", second)), only_line(arm("golf", second), arm("x", first))
    for stem in ("residual_energy_difference", "log10_residual_difference", "percent_success_difference"):
        assert one[f"{stem}_low"] == pytest.approx(-other[f"{stem}_high"])
    assert one["n_only_arm"] == other["n_only_other"] and one["mcnemar_p"] == other["mcnemar_p"]


def test_an_end_without_energy_fails_and_is_counted():
    golf = arm("golf", [0.1, 0.2, 0.3, 0.4, np.nan], [*[Status.OK] * 4, Status.FAILED])
    baseline = arm("baseline", [0.1, np.nan, 0.3, 0.8, 0.5], [Status.OK, Status.TIMED_OUT, *[Status.OK] * 3])
    line = only_line(golf, baseline)
    assert (line["n_test"], line["n_pairs"], line["n_without_energy"]) == (5, 3, 2)
    assert line["residual_energy_difference_kcal_mol"] == pytest.approx(-0.4 / 3)
    assert (line["n_only_arm"], line["n_only_other"], line["percent_success_difference"]) == (1, 1, 0.0)
    assert "golf - baseline: 2 without a DFT energy in one of the arms" in format_differences(
        summarize_differences([golf, baseline])
    )


def test_starts_without_minimum_are_excluded():
    minima = [Status.OK, Status.NOT_CONVERGED, *[Status.OK] * 3]
    line = only_line(arm("golf", [0.1, 90.0, 0.1, 0.1, 0.1], minima=minima), arm("mmff", [2.1] * 5, minima=minima))
    assert (line["n_test"], line["n_excluded"], line["n_only_arm"]) == (4, 1, 4)
    assert line["residual_energy_difference_kcal_mol"] == pytest.approx(-2.0)


def test_arms_in_another_order_are_matched_by_start():
    golf, mmff = arm("golf", [0.0, 1.0, 2.0, 3.0, 4.0]), arm("mmff", [0.5, 1.5, 2.5, 3.5, 4.5])
    line = only_line(golf.subset([4, 2, 0, 1, 3]), mmff)
    assert line["residual_energy_difference_kcal_mol"] == pytest.approx(-0.5)


def test_hard_starts_cancel():
    """Both arms are off by as much where it is hard: the difference is clear, the arms' own intervals are not."""
    hard = np.array([0.0, 40.0, 3.0, 20.0, 9.0])
    line = only_line(arm("golf", hard), arm("mmff", hard + 2.0))
    assert line["residual_energy_difference_kcal_mol"] == pytest.approx(-2.0)
    assert line["residual_energy_difference_high"] - line["residual_energy_difference_low"] < 40.0


def test_arms_of_other_starts_are_refused():
    with pytest.raises(UserError, match="arms golf and mmff: only one of them relaxed amine/1; evaluate both"):
        summarize_differences([arm("golf", [0.0] * 5), arm("mmff", [0.0] * 5).subset([0, 1, 2, 3])])


def test_one_arm_has_no_table():
    alone = summarize_differences([arm("golf", [0.0] * 5)])
    assert alone.empty and format_differences(alone) == ""
