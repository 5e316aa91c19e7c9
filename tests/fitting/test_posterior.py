"""Posterior against closed forms, against sampling, and against itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import truncnorm

from fsl_mrs_dl.fitting.posterior import posterior, upper_limit
from fsl_mrs_dl.fitting.priors import Prior

FREE = (np.full(3, -np.inf), np.full(3, np.inf))


def random_cov(seed, m=3, n=1):
    a = np.random.default_rng(seed).normal(size=(n, m, m))
    return a @ a.swapaxes(1, 2) * 0.3 + 0.02 * np.eye(m)


def test_gaussian_priors_give_the_closed_form():
    cov, x = random_cov(0, n=5), np.random.default_rng(1).normal(size=(5, 3))
    mean, sd = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 2.0])
    prior = Prior(("a", "b", "c"), ("normal",) * 3, np.stack([mean, sd], 1))
    found = posterior(prior, x, cov, *FREE)
    precision = np.linalg.inv(cov)
    expected_cov = np.linalg.inv(precision + np.diag(sd**-2))
    expected = np.einsum("nij,nj->ni", expected_cov, np.einsum("nij,nj->ni", precision, x) + mean / sd**2)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.cov, expected_cov, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.pull, np.diagonal(expected_cov, axis1=1, axis2=2) / sd**2, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.floats(-40, 40), st.floats(0.01, 10), st.floats(0.01, 20))
def test_one_number_between_limits_is_a_truncated_normal(centre, sd, width):
    prior = Prior(("a",), ("uniform",), np.array([[0.0, width]]))
    found = posterior(prior, np.array([[centre]]), np.array([[[sd**2]]]), np.zeros(1), np.full(1, np.inf))
    exact = truncnorm((0 - centre) / sd, (width - centre) / sd, centre, sd)
    inside = np.clip(centre, 0, width)
    # scipy's own moments lose their digits far outside of the limits.
    if abs(centre - inside) < 30 * sd:
        assert found.mean[0, 0] == pytest.approx(exact.mean(), rel=1e-3, abs=1e-3 * min(sd, width))
        np.testing.assert_allclose(
            [found.low[0, 0], found.high[0, 0]], exact.ppf([0.025, 0.975]), atol=2e-3 * min(sd, width) + 1e-9
        )
    assert 0 <= found.low[0, 0] <= found.mean[0, 0] <= found.high[0, 0] <= width


def test_mixed_priors_agree_with_sampling():
    cov, x = random_cov(5)[0], np.array([0.3, 0.8, -0.2])
    prior = Prior(("a", "b", "c"), ("uniform", "lognormal", "any"), np.array([[0, 1], [0.8, 0.5], [0, 0.0]]))
    found = posterior(prior, x[None], cov[None], np.zeros(3), np.full(3, np.inf))
    drawn = np.random.default_rng(0).multivariate_normal(x, cov, 1_000_000)
    inside = (drawn > 0).all(1) & (drawn[:, 0] < 1)
    drawn = drawn[inside]
    weight = np.exp(-0.5 * (np.log(drawn[:, 1] / 0.8) / 0.5) ** 2) / drawn[:, 1]
    weight /= weight.sum()
    mean = weight @ drawn
    np.testing.assert_allclose(found.mean[0], mean, atol=0.01)
    np.testing.assert_allclose(found.sd[0], np.sqrt(weight @ (drawn - mean) ** 2), atol=0.01)


def test_what_the_data_decide_the_prior_does_not_pull_and_the_other_way_round():
    prior = Prior(
        ("strong", "weak", "silent"), ("lognormal", "uniform", "any"), np.array([[1.0, 0.3], [0.2, 1.0], [0, 0]])
    )
    cov = np.diag([1e-6, 1e4, 0.01])[None]
    found = posterior(prior, np.array([[1.4, 30.0, 0.5]]), cov, np.zeros(3), np.full(3, np.inf))
    assert found.mean[0, 0] == pytest.approx(1.4, abs=1e-3) and found.pull[0, 0] < 0.01
    assert found.mean[0, 1] == pytest.approx(0.6, abs=0.01) and found.pull[0, 1] > 0.95 and found.pull[0, 2] == 0
    assert found.sd[0, 1] == pytest.approx(0.8 / np.sqrt(12), rel=0.02)


def test_infinite_variances_and_unusable_rows_harm_nobody():
    prior = Prior(("a", "b"), ("uniform", "uniform"), np.array([[0.0, 2.0], [0.0, 4.0]]))
    cov = np.stack([np.eye(2), np.diag([1.0, np.inf]), np.full((2, 2), np.nan)])
    found = posterior(prior, np.array([[1.0, 1.0], [1.0, 0.0], [np.nan, np.nan]]), cov, np.zeros(2), np.full(2, np.inf))
    np.testing.assert_allclose(found.mean[0, 0], found.mean[1, 0], rtol=1e-3)
    assert found.mean[1, 1] == pytest.approx(2.0, rel=1e-2) and np.isnan(found.mean[2]).all()


def test_units_do_not_matter():
    cov, x = random_cov(2), np.array([[0.5, 0.2, 1.0]])
    prior = Prior(("a", "b", "c"), ("uniform", "lognormal", "normal"), np.array([[0, 1], [0.8, 0.5], [1, 0.3]]))
    one = posterior(prior, x, cov, np.zeros(3), np.full(3, np.inf))
    other = posterior(prior.times(1e6), 1e6 * x, 1e12 * cov, np.zeros(3), np.full(3, np.inf))
    np.testing.assert_allclose(other.mean, 1e6 * one.mean, rtol=1e-6)
    np.testing.assert_allclose(other.pull, one.pull, rtol=1e-5)


def test_intervals_hold_what_they_say_if_the_prior_is_right():
    random = np.random.default_rng(7)
    n, m = 3000, 4
    prior = Prior(
        tuple("abcd"),
        ("uniform", "uniform", "lognormal", "lognormal"),
        np.array([[0, 1], [0.5, 1], [1, 0.4], [0.3, 0.5]]),
    )
    truth = np.stack(
        [
            random.uniform(0, 1, n),
            random.uniform(0.5, 1, n),
            np.exp(0.4 * random.normal(size=n)),
            0.3 * np.exp(0.5 * random.normal(size=n)),
        ],
        1,
    )
    cov = random_cov(11, m)
    x = truth + random.multivariate_normal(np.zeros(m), cov[0], n)
    found = posterior(prior, x, np.repeat(cov, n, 0), np.zeros(m), np.full(m, np.inf))
    for low, high, part in ((found.low, found.high, 0.95), (found.low68, found.high68, 0.68)):
        np.testing.assert_allclose(((truth >= low) & (truth <= high)).mean(0), part, atol=0.025)
    assert (np.mean((found.mean - truth) ** 2, 0) < np.mean((np.clip(x, 0, None) - truth) ** 2, 0)).all()


def test_the_upper_limit_is_never_below_zero_nor_below_the_estimate():
    limit = upper_limit(np.array([-50.0, -2.0, 0.0, 3.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0, np.inf]))
    assert (limit[:4] > np.maximum([-50, -2, 0, 3], 0)).all() and (np.diff(limit[:4]) > 0).all() and np.isinf(limit[4])


@pytest.mark.parametrize("size", [1e30, 1e70, np.inf])
def test_a_spectrum_that_knows_nothing_of_an_entry_disturbs_no_other(rng, size):
    names = ("NAA", "Cr", "Lac")
    prior = Prior(names, ("lognormal", "lognormal", "lognormal"), np.array([[10.0, 0.3], [6.0, 0.3], [0.5, 0.3]]))
    n, k = 40, 4
    estimates = np.abs(rng.normal(5, 1, (n, k)))
    cov = np.repeat(np.diag([1.0, 1.0, 4.0, 1.0])[None], n, 0)
    lower, upper = np.array([0.0, 0, 0, 0]), np.full(k, np.inf)
    alone = posterior(prior, estimates[1:], cov[1:], lower, upper)
    cov[0] = np.diag([1.0, 1.0, size, 1.0])
    estimates[0, 2] = min(size, 1e70)
    found = posterior(prior, estimates, cov, lower, upper)
    np.testing.assert_allclose(found.mean[1:], alone.mean, rtol=1e-3)
    assert found.mean[0, 2] == pytest.approx(0.5 * np.exp(0.045), rel=0.02) and found.pull[0, 2] > 0.98
    again = posterior(prior, estimates, cov, lower, upper, near=found)
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-2)
