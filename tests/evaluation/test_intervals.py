"""Intervals over molecules and the paired test: against SciPy, and against simulation."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.evaluation.intervals import Quantity, intervals, mcnemar_test, mean_intervals, share_interval
from golf.evaluation.metrics import FAILURE

FAILS_BY = FAILURE * HARTREE_IN_KCAL_PER_MOL


def names(n, each=1):
    return [f"m{i // each:04d}" for i in range(n * each)]


def interval(values, molecules, **settings) -> tuple[float, float]:
    low, high = mean_intervals(np.asarray(values, float)[:, None], molecules, **({"seed": 0} | settings))
    return low[0], high[0]


def held(samples, true_mean, molecules, highest=np.nan) -> float:
    """Share of samples [n, K] whose interval holds the true mean."""
    low, high = mean_intervals(samples, molecules, highest=highest, seed=1, n_draws=2000)
    return float(np.mean((low <= true_mean) & (true_mean <= high)))


@pytest.mark.parametrize("n", [16, 50, 200])
@pytest.mark.parametrize("fails", [0.03, 0.06, 0.12])
def test_rare_large_errors_are_held(n, fails):
    """Of 16 molecules with 6 % failures 37 % of samples hold none; the percentile bootstrap holds 50 %."""
    random = np.random.default_rng(n)
    errors = random.normal(0.1, 0.1, (n, 1000))
    errors += (random.random((n, 1000)) < fails) * random.exponential(5.0, (n, 1000))
    assert held(errors, 0.1 + 5.0 * fails, names(n), FAILS_BY) >= 0.9


def test_failures_of_whole_molecules_and_of_single_conformations_are_held():
    random = np.random.default_rng(4)
    for shape in ((16, 1, 1000), (16, 4, 1000)):
        errors = random.normal(0.1, 0.1, (16, 1, 1000)) + random.normal(0.0, 0.1, (16, 4, 1000))
        errors += (random.random(shape) < 0.06) * random.exponential(5.0, (16, 4, 1000))
        assert held(errors.reshape(64, 1000), 0.4, names(16, 4), FAILS_BY) >= 0.9


@pytest.mark.parametrize(("n", "most"), [(16, 1.15), (200, 1.13)])
def test_normal_errors_are_held_and_not_much_wider_than_students_interval(n, most):
    errors = np.random.default_rng(n).normal(2.0, 3.0, (n, 1000))
    assert 0.93 <= held(errors, 2.0, names(n), FAILS_BY) <= 0.99
    low, high = mean_intervals(errors, names(n), highest=FAILS_BY, seed=1, n_draws=2000)
    student = 2 * stats.t.ppf(0.975, n - 1) * errors.std(axis=0, ddof=1) / np.sqrt(n)
    assert 0.9 < np.mean(high - low) / np.mean(student) < most


def test_of_shares_the_interval_of_the_mean_is_that_of_clopper_and_pearson():
    for n, k in ((16, 0), (16, 1), (16, 15), (40, 33)):
        values = np.where(np.arange(n) < k, 100.0, 0.0)
        found = interval(values, names(n), lowest=0.0, highest=100.0)
        exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert found == pytest.approx((100 * exact.low, 100 * exact.high), abs=0.8)


def test_where_no_molecule_fails_the_exact_share_of_them_may():
    low, high = interval(np.full(16, 0.2), names(16), highest=FAILS_BY)
    assert low == pytest.approx(0.2) and high == pytest.approx(0.2 + 0.2059 * (FAILS_BY - 0.2), abs=0.02)
    assert interval(np.full(16, 0.2), names(16)) == pytest.approx((0.2, 0.2))
    assert interval(np.full(16, 0.2), names(16), highest=0.1) == pytest.approx((0.2, 0.2))  # no bound below the sample


def test_conformations_that_say_the_same_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=40)
    once = interval(values, names(40), highest=3.0)
    assert interval(np.repeat(values, 25), names(40, 25), highest=3.0) == pytest.approx(once)


def test_columns_see_the_same_weights_and_leave_out_what_is_not_a_number():
    random = np.random.default_rng(2)
    values, molecules = random.normal(size=30), [str(i % 7) for i in range(30)]
    holes = np.where(np.arange(30) % 5 == 0, np.nan, values)
    columns = np.column_stack([values, 2 * values + 1, holes, -values])
    low, high = mean_intervals(columns, molecules, lowest=np.nan, highest=[3.0, 7.0, 3.0, np.nan], seed=3)
    assert low[1] == pytest.approx(2 * low[0] + 1) and high[1] == pytest.approx(2 * high[0] + 1)
    there = np.isfinite(holes)
    alone = interval(holes[there], np.array(molecules)[there].tolist(), seed=3, highest=3.0)
    assert (low[2], high[2]) == pytest.approx(alone)
    assert -high[3] == pytest.approx(low[0])  # upside down


def test_a_molecule_without_a_value_is_none():
    values = [1.0, 2.0, 4.0, np.nan, np.nan]
    assert interval(values, list("abcde"), highest=5.0) == pytest.approx(
        interval(values[:3], list("abc"), highest=5.0), abs=0.1
    )


def test_intervals_are_seeded_and_the_same_in_parts():
    values = np.random.default_rng(2).normal(size=3000)
    low, high = interval(values, names(3000), n_draws=1500)  # 666 at a time
    assert (low, high) == interval(values, names(3000), n_draws=1500)
    assert (low, high) != interval(values, names(3000), n_draws=1500, seed=4)
    error = values.std() / np.sqrt(len(values))
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_one_molecule_has_no_interval_of_a_mean():
    assert np.isnan(interval([2.0, 3.0], ["a", "a"], highest=5.0)).all()
    assert np.isnan(interval([2.0, np.nan], ["a", "b"])).all()
    assert np.isnan(interval([np.nan], ["a"])).all()
    assert np.isnan(interval([], [])).all()


@pytest.mark.parametrize("n", [1, 3, 16, 100])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0])
def test_every_share_has_the_exact_interval_with_the_number_of_molecules(n, share):
    k = round(share * n)
    molecules = names(n, 2)  # two conformations each that agree: a molecule is one trial
    exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    found = share_interval(np.repeat(np.where(np.arange(n) < k, 100.0, 0.0), 2), molecules)
    assert found == pytest.approx((100 * exact.low, 100 * exact.high), abs=1e-6)


def test_one_failure_more_never_raises_the_interval_of_a_share():
    """Of the bootstrap 31 of 32 had a lower end of 91, and 32 of 32 one of 79."""
    ends = [share_interval(np.where(np.arange(32) < k, 100.0, 0.0), names(16, 2)) for k in range(33)]
    assert all(first[0] < second[0] and first[1] < second[1] for first, second in pairwise(ends[1:]))
    assert ends[32] == pytest.approx((79.41, 100.0), abs=0.005) and ends[31][0] < 79.41


def test_shares_of_correlated_conformations_are_held():
    random = np.random.default_rng(5)
    molecules = [f"m{k:02d}" for k in range(20) for _ in range(1 + k % 5)]  # 1 to 5 conformations
    hits = 0
    for _ in range(1000):
        chance = random.beta(3.0, 1.0, 20)  # of each molecule: 0.75 on average
        values = [100.0 * (random.random() < chance[int(name[1:])]) for name in molecules]
        low, high = share_interval(np.array(values), molecules)
        hits += low <= 75.0 <= high
    assert hits >= 950


def test_molecules_of_different_sizes_are_fewer_trials():
    found = share_interval(np.full(5, 100.0), list("aaabb"))
    assert found == pytest.approx((100 * 0.025 ** (13 / 25), 100.0))
    assert share_interval(np.array([100.0, np.nan, np.nan]), list("abb")) == pytest.approx((2.5, 100.0))
    assert (
        np.isnan(share_interval(np.array([np.nan]), ["a"])).all() and np.isnan(share_interval(np.array([]), [])).all()
    )


def test_intervals_by_name():
    quantities = {
        "energy": Quantity(np.array([1.0, 2.0, 3.0]), highest=5.0),
        "share": Quantity(np.full(3, 100.0), True),
    }
    found = intervals(quantities, list("abc"), seed=0)
    assert list(found) == ["energy_low", "energy_high", "share_low", "share_high"]
    assert (found["share_low"], found["share_high"]) == share_interval(np.full(3, 100.0), list("abc"))
    assert (found["energy_low"], found["energy_high"]) == interval([1.0, 2.0, 3.0], list("abc"), highest=5.0)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (2, 0), (1, 1), (9, 2), (3, 14), (30, 12)])
def test_one_start_of_each_molecule_is_mcnemars_exact_test(won, lost):
    differences = np.array([1] * won + [-1] * lost + [0] * 5)
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar_test(differences, names(len(differences))) == pytest.approx(expected)


def test_starts_of_one_molecule_are_one_piece_of_evidence():
    assert mcnemar_test(np.array([1, 1]), ["a", "b"]) == pytest.approx(0.5)
    assert mcnemar_test(np.ones(10), ["a"] * 10) == pytest.approx(1.0)
    # Sums of 3, 2 and -1 in three molecules, 4 in all: at least 4 in 2 of 8 ways (+3+2+1, +3+2-1), at most -4 in 2.
    assert mcnemar_test(np.array([1, 1, 1, 1, 1, -1]), list("aaabbc")) == pytest.approx(0.5)
