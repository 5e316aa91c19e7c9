"""Baselines: FSL-MRS's words, regressors and penalty, and their exact elimination."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.physics.baseline import SPLINE_STIFFNESS, Baseline

WORDS = ("off", "poly, 0", "poly, 2", "poly, 5", *(f"spline, {name}" for name in SPLINE_STIFFNESS), "spline, 7.5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("off", ("off", 0, 0)),
        ("OFF", ("off", 0, 0)),
        ("poly, 2", ("polynomial", 2, 0)),
        ("polynomial,3", ("polynomial", 3, 0)),
        ("poly 0", ("polynomial", 0, 0)),
        ("poly, -1", ("off", 0, 0)),
        ("spline, moderate", ("spline", 0, 20)),
        ("Spline, very-stiff", ("spline", 0, 3)),
        ("spline, 12.5", ("spline", 0, 12.5)),
        ("spline, 1e2", ("spline", 0, 100)),
        ("spline, 2", ("spline", 0, 2)),
    ],
)
def test_fsl_mrs_words(text, expected):
    got = Baseline.parse(text, 200, 4.0)
    assert (got.mode, got.order, got.effective_dimension) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "poly",
        "spline",
        "poly, two",
        "poly, 1.5",
        "spline, soft",
        "spline, 1.9",
        "spline, -3",
        "spline, nan",
        "spline, inf",
        "wavelet, 3",
        "poly, 2, 3",
        "off, 3 4",
    ],
)
def test_malformed_words(text):
    with pytest.raises(OptionError, match=r"baseline '.*write 'off', 'poly, N'"):
        Baseline.parse(text, 200, 4.0)


def test_names_for_people():
    assert str(Baseline.parse("poly, 3", 99, 4.0)) == "polynomial of order 3"
    assert str(Baseline.parse("spline, stiff", 99, 4.0)) == "penalised spline, effective dimension 10"
    assert str(Baseline.parse("off", 99, 4.0)) == "off"


def test_regressors_are_fsl_mrs_s(reference):
    first, last = reference["window"]
    splines = reference["baseline_spline_moderate"][first:last]
    ours = Baseline.parse("spline, moderate", last - first, 4.0).regressors
    assert ours.shape == (523, 63)
    np.testing.assert_allclose(ours, splines[:, :63].real, atol=1e-6)
    np.testing.assert_allclose(ours, splines[:, 63:].imag, atol=1e-6)
    theirs = reference["baseline_poly_2"][first:last, 0::2].real
    ours = Baseline.parse("poly, 2", last - first, 4.0).regressors
    # The same space; the bases differ (see Baseline.regressors).
    assert np.abs(theirs - ours @ np.linalg.lstsq(ours, theirs, rcond=None)[0]).max() < 1e-10
    assert np.linalg.matrix_rank(ours) == 3


def test_polynomials_are_orthogonal():
    regressors = Baseline.parse("poly, 6", 301, 4.0).regressors
    gram = regressors.T @ regressors
    scale = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(gram / np.outer(scale, scale), np.eye(7), atol=1e-10)


@pytest.mark.parametrize("words", WORDS)
def test_projector_gives_the_penalised_cost(words, rng):
    baseline = Baseline.parse(words, 180, 4.0)
    u, d = baseline.projector
    y = rng.normal(size=180) + 1j * rng.normal(size=180) + 3 * np.linspace(-1, 1, 180) ** 2
    left = y - u @ (d * (u.T @ y))
    b = baseline.regressors
    if words == "off":
        expected = np.sum(np.abs(y) ** 2)
        best = np.zeros(1)
    else:
        values, vectors = np.linalg.eigh(baseline.penalty)
        root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
        best = np.linalg.lstsq(np.vstack([b, root]), np.concatenate([y, np.zeros(len(root))]), rcond=None)[0]
        expected = np.sum(np.abs(y - b @ best) ** 2) + np.sum(np.abs(root @ best) ** 2)
    assert np.sum(np.abs(left) ** 2) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(b @ (baseline.solver @ y), b @ best, atol=1e-8)
    np.testing.assert_allclose(u.T @ u, np.eye(u.shape[1]), atol=1e-10)
    assert np.all((d >= 0) & (d <= 1))


def test_polynomial_baselines_vanish_and_rough_ones_stay(rng):
    baseline = Baseline.parse("poly, 3", 200, 4.0)
    u, d = baseline.projector
    cubic = np.polynomial.Polynomial(rng.normal(size=4))(np.linspace(-1, 1, 200))
    assert np.abs(cubic - u @ (d * (u.T @ cubic))).max() < 1e-12
    assert baseline.used_dimension == pytest.approx(4)
    assert Baseline.parse("off", 200, 4.0).used_dimension == 0


@pytest.mark.parametrize(("name", "dimension"), SPLINE_STIFFNESS.items())
def test_named_stiffness_has_its_effective_dimension(name, dimension):
    baseline = Baseline.parse(f"spline, {name}", 523, 4.0)
    b = baseline.regressors
    hat = b @ np.linalg.pinv(b.T @ b + baseline.penalty, hermitian=True) @ b.T
    assert np.trace(hat) == pytest.approx(dimension, rel=2e-3)
    assert baseline.used_dimension == pytest.approx(np.trace(hat), rel=1e-6)


def test_a_straight_line_costs_no_penalty():
    baseline = Baseline.parse("spline, stiff", 300, 4.0)
    n = baseline.n_regressors
    straight = 2 - 0.3 * np.arange(n)
    assert straight @ baseline.penalty @ straight == pytest.approx(0, abs=1e-6 * baseline.penalty.max())
    bent = np.arange(n) ** 2.0
    assert bent @ baseline.penalty @ bent > baseline.penalty.max()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["poly, 0", "poly, 3", "spline, stiff"]), st.integers(0, 2**31), st.sampled_from([(), (3,), (2, 3)])
)
def test_order_and_collect_are_inverses(words, seed, batch):
    baseline = Baseline.parse(words, 64, 4.0)
    tail = np.random.default_rng(seed).normal(size=(*batch, 2 * baseline.n_regressors))
    coefficients = baseline.collect_coefficients(tail)
    assert coefficients.shape == (*batch, baseline.n_regressors)
    np.testing.assert_array_equal(baseline.order_coefficients(coefficients), tail)
    np.testing.assert_array_equal(baseline.collect_coefficients(torch.as_tensor(tail)).numpy(), coefficients)


def test_given_regressors_replace_the_own(rng):
    given_ones = rng.normal(size=(50, 3))
    baseline = dataclasses.replace(Baseline.parse("poly, 2", 50, 4.0), given=given_ones)
    np.testing.assert_array_equal(baseline.regressors, given_ones)
    u, d = baseline.projector
    y = given_ones @ [1.0, -2.0, 0.5]
    assert np.abs(y - u @ (d * (u.T @ y))).max() < 1e-12


@pytest.mark.with_fsl_mrs
@pytest.mark.parametrize("words", ["spline, very-stiff", "spline, moderate", "spline, very-flexible", "spline, 8"])
def test_penalty_is_fsl_mrs_s(words, reference):
    from fsl_mrs.core import MRS
    from fsl_mrs.utils.baseline import Baseline as Theirs

    mrs = MRS(reference["fid"], cf=float(reference["spec_freq_hz"]) / 1e6, bw=2000, nucleus="1H")
    theirs = Theirs(mrs, (0.2, 4.2), words, None)
    first, last = mrs.ppmlim_to_range((0.2, 4.2))
    ours = Baseline.parse(words, last - first, 4.0)
    n = ours.n_regressors
    np.testing.assert_allclose(ours.regressors, theirs.regressor[first:last, :n].real, atol=1e-6)
    expected = theirs.cov_penalty_term(2 * n)[:n, :n] / 2
    np.testing.assert_allclose(ours.penalty, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_a_regressor_that_is_empty_in_the_window_changes_nothing():
    """FSL-MRS's splines have one more column, all zero, in some windows; its coefficient is free, not zero."""
    plain = Baseline("spline", 274, 2.1, effective_dimension=20.0)
    more = Baseline(
        "spline", 274, 2.1, effective_dimension=20.0, given=np.column_stack([plain.regressors, np.zeros(274)])
    )
    spec = np.random.default_rng(0).normal(size=274).cumsum()
    for baseline in (plain, more):
        best = baseline.solver @ spec
        cost = np.sum((spec - baseline.regressors @ best) ** 2) + best @ baseline.penalty @ best
        u, d = baseline.projector
        assert np.sum((spec - u @ (d * (u.T @ spec))) ** 2) == pytest.approx(cost, rel=1e-9)
