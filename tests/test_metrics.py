"""Metrics on cases worked out by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from golf import metrics
from golf.units import HARTREE_IN_KCAL_PER_MOL, hartree


def test_residual_energy_keeps_its_sign():
    assert np.allclose(metrics.residual_energy(np.array([-9.9, -10.1]), np.array([-10.0, -10.0])), [0.1, -0.1])


def test_residual_energy_of_large_totals_is_exact_to_far_below_a_calorie():
    optimum = np.array([-899.123456789])
    assert np.isclose(metrics.residual_energy(optimum + hartree(0.001), optimum)[0], hartree(0.001), rtol=1e-6)


def test_percent_optimized():
    first, optimum = np.full(4, -10.0), np.full(4, -10.2)
    final = np.array([-10.2, -10.1, -10.0, -9.9])
    assert np.allclose(metrics.percent_optimized(first, final, optimum), [100, 50, 0, -50])


def test_percent_optimized_says_nothing_where_dft_gained_nothing():
    shares = metrics.percent_optimized(np.array([-1.0, -1.0]), np.array([-1.1, np.nan]), np.array([-1.0, -2.0]))
    assert np.isnan(shares).all()


def test_diverged():
    first = np.full(5, -10.0)
    final = np.array([-10.1, -10.0, -9.99, np.nan, np.inf])
    assert metrics.diverged(first, final).tolist() == [False, False, True, True, True]


def test_success_is_below_one_kcal_and_never_diverged():
    residual = np.array([0.999, 1.0, -3.0, np.nan, 0.5]) / HARTREE_IN_KCAL_PER_MOL
    has_diverged = np.array([False, False, False, True, True])
    assert metrics.succeeded(residual, has_diverged).tolist() == [True, False, True, False, False]


def test_means_leave_out_what_is_not_a_number():
    assert metrics.mean(np.array([1.0, np.nan, 3.0])) == 2.0
    assert metrics.standard_deviation(np.array([1.0, np.nan, 3.0])) == 1.0
    assert metrics.percent(np.array([True, False, False, True])) == 50.0
    assert np.isnan(metrics.mean(np.array([np.nan])))
    assert np.isnan(metrics.percent(np.array([], dtype=bool)))


def test_coverage_and_matching_are_means_by_molecule():
    nearest = np.array([0.1, 0.7, 0.5, np.nan, np.nan])
    molecules = ["b", "b", "a", "c", "c"]
    assert np.allclose(metrics.coverage(nearest, molecules), [100.0, 50.0, 0.0])  # 0.5 is within 0.5
    assert np.allclose(metrics.matching(nearest, molecules), [0.5, 0.4, np.nan], equal_nan=True)


def interval(values, molecules, **settings) -> tuple[float, float]:
    low, high = metrics.bootstrap_intervals(np.asarray(values, float)[:, None], molecules, **settings)
    return low[0], high[0]


def test_bootstrap_of_independent_values_is_the_interval_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(5.0, 2.0, size=400)
    low, high = interval(values, [str(i) for i in range(400)], seed=0)
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_conformations_that_say_the_same_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=40)
    molecules = [str(i) for i in range(40)]
    once = interval(values, molecules, seed=0)
    assert interval(np.repeat(values, 25), np.repeat(molecules, 25), seed=0) == pytest.approx(once)


def test_bootstrap_is_that_of_every_resample_of_two_molecules():
    # Drawn are (a, a), (a, b), (b, a), (b, b): means 1, 10/4 = 2.5 (a has three conformations), 2.5 and 7.
    molecules, values = ["a", "a", "a", "b"], [0.0, 1.0, 2.0, 7.0]
    assert interval(values, molecules, seed=0) == (1.0, 7.0)
    assert interval(values, molecules, seed=0, confidence=0.4) == (2.5, 2.5)  # the middle half of the resamples


def test_bootstrap_columns_see_the_same_resamples_and_leave_out_what_is_not_a_number():
    random = np.random.default_rng(2)
    values, molecules = random.normal(size=30), [str(i % 7) for i in range(30)]
    holes = np.where(np.arange(30) % 5 == 0, np.nan, values)
    low, high = metrics.bootstrap_intervals(np.column_stack([values, 2 * values + 1, holes]), molecules, seed=3)
    assert low[1] == pytest.approx(2 * low[0] + 1) and high[1] == pytest.approx(2 * high[0] + 1)
    there = np.isfinite(holes)
    alone = interval(holes[there], np.array(molecules)[there], seed=3)
    assert (low[2], high[2]) == pytest.approx(alone)


def test_bootstrap_is_seeded():
    values, molecules = np.random.default_rng(2).normal(size=30), [str(i) for i in range(30)]
    assert interval(values, molecules, seed=3) == interval(values, molecules, seed=3)
    assert interval(values, molecules, seed=3) != interval(values, molecules, seed=4)


def test_bootstrap_is_the_same_in_parts():
    values, molecules = np.random.default_rng(2).normal(size=3000), [str(i) for i in range(3000)]
    low, high = interval(values, molecules, seed=3, n_resamples=2000)  # 666 resamples at a time
    error = values.std() / np.sqrt(len(values))
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_one_molecule_has_no_interval():
    assert np.isnan(interval([2.0, 3.0], ["a", "a"], seed=0)).all()
    assert np.isnan(interval([2.0, np.nan], ["a", "b"], seed=0)).all()
    assert np.isnan(interval([np.nan], ["a"], seed=0)).all()
    assert np.isnan(interval([], [], seed=0)).all()


def ends_of(values, molecules, name="share"):
    found = metrics.intervals({name: np.asarray(values, float)}, molecules, shares=("share",), seed=0)
    return found[f"{name}_low"], found[f"{name}_high"]


@pytest.mark.parametrize(("n", "edge"), [(1, 2.5), (3, 29.24), (16, 79.41), (100, 96.38)])
def test_a_share_of_which_all_molecules_agree_has_the_exact_interval(n, edge):
    molecules = [f"m{i // 2}" for i in range(2 * n)]  # two conformations each: a molecule is one trial
    assert ends_of(np.full(2 * n, 100.0), molecules) == pytest.approx((edge, 100.0), abs=0.005)
    assert ends_of(np.zeros(2 * n), molecules) == pytest.approx((0.0, 100.0 - edge), abs=0.005)
    outside = binomtest(n, n).proportion_ci(0.95, method="exact")
    assert ends_of(np.full(2 * n, 100.0), molecules) == pytest.approx((100 * outside.low, 100 * outside.high))


def test_only_shares_at_an_end_of_the_scale_have_the_exact_interval():
    molecules = ["a", "a", "b", "c"]
    assert ends_of([100.0] * 4, molecules, "energy") == (100.0, 100.0)
    assert np.isnan(ends_of([100.0, 100.0], ["a", "a"], "energy")).all()
    assert ends_of([50.0] * 4, molecules) == (50.0, 50.0)
    mixed = [100.0, 0.0, 100.0, 100.0]
    assert ends_of(mixed, molecules) == interval(mixed, molecules, seed=0)
    assert ends_of([100.0, np.nan, np.nan, np.nan], molecules) == pytest.approx((2.5, 100.0))  # the others have none
    assert np.isnan(ends_of([np.nan] * 4, molecules)).all() and np.isnan(ends_of([], [])).all()
