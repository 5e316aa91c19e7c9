"""Means of groups and their difference: known limits, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fsl_mrs_dl.workflow.effect import adjusted, difference, group_mean


def test_without_stated_errors_it_is_welchs_test():
    random = np.random.default_rng(1)
    a, b = random.normal(5, 1, 12), random.normal(6, 2, 7)
    result = difference(group_mean(a, np.zeros(12)), group_mean(b, np.full(7, np.nan)))
    expected = stats.ttest_ind(b, a, equal_var=False)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-5)
    assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-5)


def test_the_mean_has_no_weights_and_stated_errors_above_the_scatter_are_its_sd():
    mean = group_mean([1.0, 1.1, 0.9], [1.0, 2.0, 1.0])
    assert mean.mean == pytest.approx(1) and mean.between_sd == 0
    assert mean.sd == pytest.approx(3**-0.5)


@pytest.mark.parametrize("relative, n", [(0.1, 12), (0.5, 6), (0.5, 30), (0.8, 12)])
def test_means_of_values_whose_sd_grows_with_them_are_not_low(relative, n):
    """Weights of one over the stated variances had put the mean 20 to 60 % below the truth."""
    random, true = np.random.default_rng(7), (1.0, 1.3)
    found, differences = [], []
    for _ in range(1000):
        groups = []
        for mean in true:
            of_person = mean * np.exp(0.15 * random.standard_normal(n) - 0.15**2 / 2)
            log_sd = relative * np.exp(0.3 * random.standard_normal(n))
            values = of_person * np.exp(log_sd * random.standard_normal(n) - log_sd**2 / 2)
            groups.append(group_mean(values, values * np.sqrt(np.expm1(log_sd**2))))
        found.append(groups[0])
        differences.append(difference(*groups))
    means = np.array([one.mean for one in found])
    assert abs(means.mean() - 1) < 3 * means.std() / np.sqrt(len(means))
    assert np.sqrt(np.mean([one.sd**2 for one in found])) == pytest.approx(means.std(), rel=0.35)
    assert 0.9 <= np.mean([one.interval()[0] < 1 < one.interval()[1] for one in found])
    assert 0.94 <= np.mean([one.low < 0.3 < one.high for one in differences])


def test_the_standardised_effect_is_that_of_the_difference():
    """It was of other means than the difference and its p: of opposite sign in some rows of a table."""
    random = np.random.default_rng(8)
    for _ in range(50):
        first, second = (np.exp(0.6 * random.standard_normal(6)) for _ in range(2))
        a, b = group_mean(first, 0.4 * first**2), group_mean(second, 0.4 * second**2)
        result = difference(a, b)
        assert np.sign(result.g) == np.sign(result.difference)
        pooled = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
        assert result.g == pytest.approx((1 - 3 / 39) * result.difference / pooled)


def test_between_sd_and_coverage_with_both_sources_of_error():
    """Also where the errors of the values differ much."""
    random = np.random.default_rng(2)
    inside, between = [], []
    for _ in range(400):
        groups = []
        for true, n in ((5.0, 10), (5.5, 20)):
            sds = random.uniform(0.2, 1.5, n)
            values = true + 0.6 * random.standard_normal(n) + sds * random.standard_normal(n)
            groups.append(group_mean(values, sds))
        result = difference(*groups)
        inside.append(result.low < 0.5 < result.high)
        between.append(groups[1].between_sd ** 2)
    assert 0.92 <= np.mean(inside) <= 0.985
    assert np.mean(between) == pytest.approx(0.36, rel=0.25)  # cut off at zero, and so a little large


def test_standardised_effect():
    random = np.random.default_rng(3)
    a, b = random.normal(0, 2, 4000), random.normal(1, 2, 4000)
    result = difference(group_mean(a, 0 * a), group_mean(b, 0 * b))
    assert result.g == pytest.approx(0.5, abs=0.06) and result.g_sd == pytest.approx(0.0227, rel=0.05)


def test_small_and_equal_groups():
    assert np.isnan(difference(group_mean([1.0], [0.1]), group_mean([1.0, 2.0], [0.1, 0.1])).sd)
    equal = group_mean([2.0, 2.0], [0.0, 0.0])
    assert (equal.mean, equal.sd) == (2.0, 0.0) and np.isnan(difference(equal, equal).p)
    assert group_mean([], []).n == 0
    assert group_mean([3.0, 3.0, 3.0], [0.0, 0.1, 0.1]).mean == 3.0


def test_adjusted_p_values():
    p = [0.01, 0.04, np.nan, 0.03, 0.5]
    expected = stats.false_discovery_control([0.01, 0.04, 0.03, 0.5])
    assert adjusted(p)[[0, 1, 3, 4]] == pytest.approx(expected) and np.isnan(adjusted(p)[2])
