"""Metrics on cases worked out by hand."""

import numpy as np
import pytest

from golf.core.units import HARTREE_IN_KCAL_PER_MOL, hartree
from golf.evaluation import metrics


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


def test_logarithms_of_residual_energies_have_a_floor():
    residual = np.array([5.0, 0.1, 0.01, 0.001, -2.0, np.nan]) / HARTREE_IN_KCAL_PER_MOL
    assert np.allclose(metrics.log_residual(residual), [np.log10(5), -1, -2, -2, -2, np.nan], equal_nan=True)


def test_what_a_failure_leaves_of_a_gain():
    assert metrics.percent_of_failure(hartree(1.0) * np.array([15.0, 25.0, np.nan])) == pytest.approx(75.0)
    assert np.isnan(metrics.percent_of_failure(np.zeros(2))) and np.isnan(metrics.percent_of_failure(np.array([])))
