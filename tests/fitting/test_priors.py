"""Priors: read as written, brought to the data's unit, learnt from a volume."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting import priors
from fsl_mrs_dl.fitting.priors import Prior


def test_a_recipes_table_is_taken_as_it_is():
    prior = priors.load("shamaei-table2", ["NAA", "Cr", "mm", "Zzz"])
    assert prior.kinds == ("uniform", "uniform", "uniform", "any")
    np.testing.assert_allclose(prior.numbers[:3], [[7.5, 17], [4.5, 10.5], [14, 17]])
    np.testing.assert_allclose(prior.mean[:2], [12.25, 7.5])
    np.testing.assert_allclose(prior.sd[:2], np.array([9.5, 6.0]) / np.sqrt(12))
    assert np.isinf(prior.sd[3]) and prior.fwhm_hz == pytest.approx((0, 4.775)) and prior.shift_hz == (-3, 3)


def test_a_typical_recipe_is_lognormal_about_the_table_and_says_nothing_about_macromolecules():
    names = ["NAA", "Cr", "PCr", "Glu", "MM09", "Unheard"]
    prior = priors.load("normal-brain", names)
    assert prior.kinds == ("lognormal",) * 4 + ("any", "any")
    assert (
        prior.numbers[0, 0] / prior.numbers[1, 0] == pytest.approx(12.25 / 7.5, rel=0.4)
        and 0.2 < prior.numbers[0, 1] < 0.5
    )


def test_a_users_file_of_ranges(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"NAA": {"normal": [12, 1.5]}, "Cr": {"loguniform": [4, 16]}, "Glu": 9}))
    prior = priors.load(path, ["Cr", "NAA", "Glu", "Ins"])
    assert prior.kinds == ("lognormal", "normal", "normal", "any")
    np.testing.assert_allclose(prior.numbers[:3], [[8, np.log(4) / np.sqrt(12)], [12, 1.5], [9, 0.09]])


@pytest.mark.parametrize(
    "content,message",
    [
        ("{", "not JSON"),
        ('{"Glu": {"normal": [1, 2]}}', "holds none of NAA"),
        ('{"NAAA": {"normal": [1, 2]}, "Cr": 8}', "no metabolite 'NAAA'.*NAA, Cr"),
        ('{"NAA": {"normal": [12, 1]}, "Glu": 9}', "NAA only.*two metabolites"),
        ('{"NAA": {"normal": [12, -1]}, "Cr": 8}', "SD, which is not negative"),
        ('{"NAA": {"gauss": [1, 2]}}', "'gauss' is no kind of range"),
        ('{"NAA": {"uniform": [2, 1]}}', "ascending"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(OptionError, match=message) as raised:
        priors.load(path, ["NAA", "Cr"])
    assert "bad.json" in str(raised.value)


def test_what_is_neither_recipe_nor_file_is_named():
    with pytest.raises(OptionError, match="prior nowhere.json"):
        priors.load("nowhere.json", ["NAA"])


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(0, 100))
def test_the_unit_of_the_data_is_found_whatever_it_is(unit, seed):
    random = np.random.default_rng(seed)
    prior = priors.load("shamaei-table2", ["NAA", "Cr", "Glu", "Ins", "PCho", "mm"])
    low, high = prior.numbers.T
    sd = 0.1 * prior.sd
    truth = random.uniform(low, high, (200, 6))
    estimate = truth + sd * random.standard_normal(truth.shape)
    cov = np.broadcast_to(np.diag(sd**2), (200, 6, 6))
    assert priors.scale_to(prior, unit * estimate, unit**2 * cov) == pytest.approx(unit, rel=0.01)


def test_the_unit_of_nothing_is_one():
    prior = priors.load("shamaei-table2", ["NAA", "Cr"])
    assert priors.scale_to(prior, np.full((3, 2), np.nan), np.full((3, 2, 2), np.nan)) == 1.0


def test_times_changes_the_unit_of_every_kind():
    prior = Prior(
        ("a", "b", "c", "d"),
        ("uniform", "normal", "lognormal", "any"),
        np.array([[1, 2], [3, 0.5], [4, 0.3], [0, 0.0]]),
    )
    twice = prior.times(2.0)
    np.testing.assert_allclose(twice.mean, 2 * prior.mean)
    np.testing.assert_allclose(twice.sd, 2 * prior.sd)


def test_a_volumes_mean_and_covariance_are_learnt_without_the_noise():
    random = np.random.default_rng(3)
    n, mean = 1500, np.array([12.0, 8.0, 1.0])
    spread = np.array([[4.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.01]])
    truth = random.multivariate_normal(mean, spread, n)
    noise = np.array([[1.0, -0.5, 0.0], [-0.5, 1.0, 0.0], [0.0, 0.0, 0.25]])
    estimate = truth + random.multivariate_normal(np.zeros(3), noise, n)
    estimate[:5] = 1e4  # fits that went wrong
    prior = priors.learn(estimate, np.broadcast_to(noise, (n, 3, 3)), ["NAA", "Cr", "GABA"])
    np.testing.assert_allclose(prior.mean, mean, atol=0.15)
    np.testing.assert_allclose(prior.cov[:2, :2], spread[:2, :2], atol=0.4)
    assert prior.sd[2] < 0.25  # noise is five times as large as what is to be found


def test_too_few_spectra_teach_nothing():
    with pytest.raises(OptionError, match="50 spectra at least, there are 49"):
        priors.learn(np.ones((49, 2)), np.broadcast_to(np.eye(2), (49, 2, 2)), ["NAA", "Cr"])


def test_recipes_of_other_things_are_no_priors():
    assert "normal-brain" in priors.recipes() and not [
        name for name in priors.recipes() if "transients" in name or "augment" in name
    ]
    with pytest.raises(OptionError, match="not a recipe of spectra"):
        priors.load("universal-transients", ["NAA", "Cr"])
