"""Cramer-Rao bounds against dense linear algebra and against Monte Carlo."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl import quantify
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.core.noise import noise_outside
from fsl_mrs_dl.fitting import uncertainty
from fsl_mrs_dl.fitting.options import FitOptions

AXES = {"dwelltime": 1 / 2000, "spec_freq_mhz": 123.2}


def dense_covariance(model, params, noise_sd):
    """Inverse of the whole information matrix, baseline columns written out; concentrations and theta only."""
    jac = model.jacobian(params[None])[0].numpy()
    sizes, start = model.sizes, 0
    slices = {}
    for name, size in sizes.items():
        slices[name] = slice(start, start + size)
        start += size
    if "sigma" in sizes:  # theta holds its square
        jac[:, slices["sigma"]] /= 2 * params[slices["sigma"]].numpy()
    rows = np.concatenate([jac.real, jac.imag])
    information = rows.T @ rows
    penalty, n = model.baseline.penalty, model.baseline.n_regressors
    if model.baseline.mode == "spline":
        tail = information.shape[0] - 2 * n
        information[tail : tail + n, tail : tail + n] += penalty
        information[tail + n :, tail + n :] += penalty
    if model.baseline.mode == "off":
        information = information[: slices["baseline"].start, : slices["baseline"].start]
    size = np.sqrt(np.diag(information))
    inverse = np.linalg.inv(information / np.outer(size, size)) / np.outer(size, size)
    keep = slices["baseline"].start
    return inverse[:keep, :keep] * noise_sd**2


@pytest.mark.parametrize("groups", [None, [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]])
@pytest.mark.parametrize("words", ["off", "poly, 2", "spline, moderate"])
@pytest.mark.parametrize("name", ["voigt", "lorentzian"])
def test_covariance_is_the_block_of_the_dense_inverse(simulate, name, words, groups):
    truth = simulate(2, model=name, baseline=words, groups=groups, seed=3)
    params = torch.as_tensor(truth.params)
    theta, conc, _ = truth.model.unpack(params)
    sd = torch.tensor([0.5, 2.0], dtype=torch.float64)
    got = uncertainty.covariance(uncertainty.fisher_information(truth.model, theta, conc), sd).numpy()
    for row in range(2):
        expected = dense_covariance(truth.model, params[row], float(sd[row]))
        scale = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(got[row] / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-6)


def test_information_scales_as_the_square_of_the_signal_to_noise_ratio(simulate):
    truth = simulate(1, seed=4)
    theta, conc, _ = truth.model.unpack(torch.as_tensor(truth.params))
    n = truth.model.n_metabs
    one = uncertainty.fisher_information(truth.model, theta, conc)
    two = uncertainty.fisher_information(truth.model, theta, 2 * conc)
    np.testing.assert_allclose(two[:, :n, :n].numpy(), one[:, :n, :n].numpy(), rtol=1e-12)
    np.testing.assert_allclose(two[:, n:, n:].numpy(), 4 * one[:, n:, n:].numpy(), rtol=1e-12)
    np.testing.assert_allclose(two[:, n:, :n].numpy(), 2 * one[:, n:, :n].numpy(), rtol=1e-12)
    quiet = uncertainty.covariance(one, torch.tensor([1.0], dtype=torch.float64))
    loud = uncertainty.covariance(one, torch.tensor([3.0], dtype=torch.float64))
    np.testing.assert_allclose(loud.numpy(), 9 * quiet.numpy(), rtol=1e-12)


@pytest.fixture(scope="module")
def repeated(simulate, sim_basis):
    """One spectrum 400 times with other noise, and its fits; no concentration near zero."""
    truth = simulate(400, snr=150, seed=11, model="lorentzian", alike=True, spread=0.05, baseline_size=1.0)
    return truth, quantify(truth.fids, sim_basis, model="lorentzian", device="cpu", **AXES)


def test_estimates_scatter_as_the_bound_says(repeated):
    truth, fits = repeated
    assert fits.converged.all()
    estimates = fits.conc / fits.fid_scale
    theta, conc, _ = truth.model.unpack(torch.as_tensor(truth.params[:1]))
    information = uncertainty.fisher_information(truth.model, theta, conc)
    bound = uncertainty.covariance(information, torch.tensor([truth.noise_sd], dtype=torch.float64))[0].numpy()
    sd = np.sqrt(np.diag(bound))[: truth.model.n_metabs]
    assert (truth.conc[0] > 4 * sd).all(), "a bound at zero would make the test meaningless"
    np.testing.assert_allclose(estimates.std(0, ddof=1) / sd, 1, atol=0.15)
    assert np.abs((estimates.mean(0) - truth.conc[0]) / sd * np.sqrt(400)).max() < 4.5
    reported = fits.crlb_sd / fits.fid_scale
    np.testing.assert_allclose(np.median(reported, axis=0) / sd, 1, atol=0.05)


def test_noise_from_the_residual_is_unbiased(repeated):
    truth, fits = repeated
    assert np.mean(fits.noise_sd**2) / fits.fid_scale**2 == pytest.approx(truth.noise_sd**2, rel=0.02)
    assert fits.misfit.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factor", [1.5, 4])
def test_zeros_at_the_end_add_no_information(repeated, sim_basis, factor):
    """Neither estimates nor their SDs, misfit and verdict depend on how far FIDs are filled with zeros."""
    from fsl_mrs_dl.physics.spinsim import simulate_basis

    truth, plain = repeated
    n_points = int(1024 * factor)
    sampling = {"spec_freq_mhz": 123.2, "bandwidth_hz": 2000, "n_points": n_points}
    longer = replace(sim_basis, fids=simulate_basis(sim_basis.names, "press", te_ms=35.0, **sampling)[0])
    fids = np.pad(truth.fids[:16], ((0, 0), (0, n_points - 1024)))
    fids[-1] = np.pad(plain.noise_sd[0] * truth.fids[0, -512:], (0, n_points - 512))  # noise alone, and less of it
    fits = quantify(fids, longer, model="lorentzian", device="cpu", **AXES)
    expected, sd = plain.conc[:15] / plain.fid_scale, plain.crlb_sd[:15] / plain.fid_scale
    np.testing.assert_allclose(fits.crlb_sd[:15] / fits.fid_scale / sd, 1, atol=0.12)
    assert np.abs((fits.conc[:15] / fits.fid_scale - expected) / sd).mean() < 0.3
    np.testing.assert_allclose(fits.misfit[:15] / plain.misfit[:15], 1, atol=0.05)
    assert fits.usable[:15].all() and fits.empty[-1]
    posterior, before = fits.posterior.sd[:15] / fits.fid_scale, plain.posterior.sd[:15] / plain.fid_scale
    np.testing.assert_allclose(np.median(posterior / before, 0), 1, atol=0.12)
    assert np.mean(fits.noise_sd[:15] ** 2) / fits.fid_scale**2 * factor == pytest.approx(truth.noise_sd**2, rel=0.06)


def test_noise_from_the_residual_counts_the_spline(simulate, sim_basis):
    truth = simulate(60, snr=100, seed=12, model="lorentzian", alike=True, spread=0.05)
    fits = quantify(truth.fids, sim_basis, model="lorentzian", baseline="spline, moderate", device="cpu", **AXES)
    assert np.mean(fits.noise_sd**2) / fits.fid_scale**2 == pytest.approx(truth.noise_sd**2, rel=0.05)


def test_sums_and_ratios_scatter_as_said(repeated):
    truth, fits = repeated
    estimates = fits.conc / fits.fid_scale
    cov = fits.cov[:, : len(fits.names), : len(fits.names)] / fits.fid_scale**2
    glx, over, under = fits.members("Glu+Gln"), fits.members("NAA"), fits.members("Cr+GPC")
    assert np.median(uncertainty.sum_sd(cov, glx)) == pytest.approx(estimates[:, glx].sum(1).std(ddof=1), rel=0.15)
    ratio = estimates[:, over].sum(1) / estimates[:, under].sum(1)
    said = uncertainty.ratio_sd(estimates, cov, over, under)
    assert np.median(said) == pytest.approx(ratio.std(ddof=1), rel=0.15)
    scaled = uncertainty.ratio_sd(fits.conc, fits.cov, over, under)
    np.testing.assert_allclose(scaled, said, rtol=1e-9)
    names, conc, sd = fits.table(["Glu+Gln"])
    assert names[-1] == "Glu+Gln"
    np.testing.assert_allclose(conc[:, -1], fits.conc[:, glx].sum(1))
    np.testing.assert_allclose(sd[:, -1], uncertainty.sum_sd(fits.cov, glx))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10**6))
def test_sum_and_ratio_are_linear_algebra(n, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n + 2))
    cov, conc = root @ root.T, rng.uniform(1, 3, n)
    members = rng.permutation(n)[: rng.integers(1, n + 1)].tolist()
    pick = np.zeros(n)
    pick[members] = 1
    assert uncertainty.sum_sd(cov, members) == pytest.approx(np.sqrt(pick @ cov @ pick))
    over, under = [0], [n - 1] if n == 2 else [n - 1, 0]
    step = 1e-6

    def ratio(c):
        return c[over].sum() / c[under].sum()

    slope = np.array([(ratio(conc + step * unit) - ratio(conc - step * unit)) / (2 * step) for unit in np.eye(n)])
    assert uncertainty.ratio_sd(conc, cov, over, under) == pytest.approx(np.sqrt(slope @ cov @ slope), rel=1e-6)


def test_a_ratio_to_itself_is_certain_and_one_to_nothing_is_not():
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    assert uncertainty.ratio_sd(np.array([3.0, 1.0]), cov, [0], [0]) == pytest.approx(0, abs=1e-12)
    assert uncertainty.ratio_sd(np.array([3.0, 0.0]), cov, [0], [1]) == np.inf


def test_what_the_data_do_not_decide_is_infinite_or_huge():
    information = torch.tensor([[[4.0, 0, 0], [0, 0, 0], [0, 0, 9.0]]], dtype=torch.float64)
    cov = uncertainty.covariance(information, torch.ones(1, dtype=torch.float64))[0].numpy()
    assert cov[0, 0] == pytest.approx(0.25)
    assert cov[2, 2] == pytest.approx(1 / 9)
    assert cov[1, 1] == np.inf
    assert cov[0, 1] == cov[1, 2] == 0
    twins = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)
    cov = uncertainty.covariance(twins, torch.ones(1, dtype=torch.float64))[0].numpy()
    assert (np.diag(cov) > 1e8).all()
    assert uncertainty.sum_sd(cov, [0, 1]) == pytest.approx(1, rel=1e-2)
    broken = torch.full((1, 2, 2), torch.nan, dtype=torch.float64)
    variance = uncertainty.covariance(broken, torch.ones(1, dtype=torch.float64))[0].diagonal()
    assert (variance == torch.inf).all()


@pytest.mark.parametrize("n_points", [1024, 2048, 4096])
def test_noise_from_the_ends_of_the_spectrum(rng, n_points):
    sd = np.array([0.3, 2.0])
    noise = rng.normal(size=(2, 40, n_points)) + 1j * rng.normal(size=(2, 40, n_points))
    spec = units.fid_to_spec(noise) * sd[:, None, None]
    got = noise_outside(spec, Axes(spec.shape[-1], 1 / 4000, 123.2))
    assert got.shape == (2, 40)
    np.testing.assert_allclose(got.mean(1) / sd, 1, atol=0.05)
    t = np.arange(n_points) / 4000
    lines = units.fid_to_spec(1000 * np.exp((2j * np.pi * units.ppm_to_hz(3.0, 123.2) - 25) * t))
    with_lines = noise_outside(spec + lines, Axes(spec.shape[-1], 1 / 4000, 123.2))
    np.testing.assert_allclose(with_lines.mean(1) / sd, 1, atol=0.05)


def test_noise_does_not_read_low_at_filtered_edges(rng):
    noise = units.fid_to_spec(rng.normal(size=(40, 4096)) + 1j * rng.normal(size=(40, 4096)))
    noise[:, :400] *= 0.05
    noise[:, -400:] *= 0.05
    assert noise_outside(noise, Axes(noise.shape[-1], 1 / 4000, 123.2)).mean() == pytest.approx(1, abs=0.05)


def test_noise_of_a_narrow_spectrum_and_of_another_nucleus(rng):
    noise = units.fid_to_spec(rng.normal(size=(60, 1024)) + 1j * rng.normal(size=(60, 1024)))
    assert noise_outside(noise, Axes(noise.shape[-1], 1 / 1000, 123.2)).mean() == pytest.approx(1, abs=0.05)
    assert noise_outside(noise, Axes(noise.shape[-1], 1 / 4000, 116.0, "19F")).mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("prior", [None, "normal-brain"])
def test_zero_filled_spectra_have_the_uncertainty_of_their_acquisition(simulate, sim_basis, prior):
    """Their SDs read low by the root of the points over those acquired."""
    fids = simulate(6, snr=60, seed=3, model="lorentzian").fids
    half = fids.shape[-1] // 2
    filled = np.where(np.arange(fids.shape[-1]) < half, fids, 0)
    options = {"model": "lorentzian", "device": "cpu", "prior": prior, **AXES}
    short, long = (quantify(one, sim_basis, **options) for one in (fids[:, :half], filled))
    estimate = "ml" if prior is None else "posterior_mean"
    here, there = (np.diagonal(fit.estimate(estimate)[1], axis1=1, axis2=2) ** 0.5 for fit in (short, long))
    assert np.median(there / here) == pytest.approx(1, abs=0.05)


# -- without bounds, and ratios ------------------------------------------------------------------------------------


def test_without_bounds_is_what_a_fit_without_bounds_finds():
    random = np.random.default_rng(4)
    rows = torch.as_tensor(random.normal(size=(6, 5, 80)))
    truth = torch.as_tensor(random.normal(size=(6, 5)))
    data = (truth[:, None] @ rows)[:, 0] + 0.3 * torch.as_tensor(random.normal(size=(6, 80)))
    gram, right = rows @ rows.mT, (rows @ data[..., None])[..., 0]
    from fsl_mrs_dl.fitting.varpro import nonnegative_least_squares

    mask = torch.tensor([True, True, True, False, False])
    conc, _ = nonnegative_least_squares(gram, right, mask)
    assert (conc[:, :3] == 0).any()
    left = torch.view_as_complex((data - (conc[:, None] @ rows)[:, 0]).reshape(6, 40, 2))
    found, moved = uncertainty.without_bounds(
        rows, left, conc[:, :3], conc == 0, torch.linalg.inv(gram), torch.full((6,), torch.inf)
    )
    expected = torch.linalg.solve(gram, right)
    torch.testing.assert_close(found, expected[:, :3], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(conc[:, 3:] + moved, expected[:, 3:], rtol=1e-8, atol=1e-8)


def test_what_a_wrong_model_pushes_far_below_zero_takes_the_others_along_only_so_far():
    rows = torch.eye(4)[None, :3].double() + 0.5 * torch.tensor([[[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]]).double()
    inverse, noise = torch.linalg.inv(rows @ rows.mT), torch.tensor([0.1]).double()
    data = torch.tensor([[-5.0, 1.0, 2.0, 0.0]]).double()  # the first wants to be far below zero
    conc = torch.tensor([[0.0, 0.0, 2.0]]).double()
    conc[0, 1] = (rows[0, 1] @ data[0]) / (rows[0, 1] @ rows[0, 1])
    conc[0, 1] = max(conc[0, 1], 0.0)
    left = torch.view_as_complex((data - (conc[:, None] @ rows)[:, 0]).reshape(1, 2, 2))
    found, _ = uncertainty.without_bounds(rows, left, conc, conc == 0, inverse, noise)
    sd = 0.1 * inverse[0].diagonal().sqrt()
    assert (found[0] >= -2.0001 * sd).all() and float(found[0, 0]) == pytest.approx(-2 * float(sd[0]), rel=1e-6)
    free, _ = uncertainty.without_bounds(rows, left, conc, conc == 0, inverse, torch.tensor([torch.inf]).double())
    assert float(free[0, 0]) < -2


@pytest.mark.parametrize("under_sd", [0.02, 0.2, 0.3])
def test_intervals_of_ratios_hold_the_truth_however_uncertain_the_denominator(under_sd):
    random = np.random.default_rng(1)
    n, truth = 40000, np.array([2.0, 1.0])
    cov = np.array([[0.04, 0.5 * 0.2 * under_sd], [0.5 * 0.2 * under_sd, under_sd**2]])
    conc = random.multivariate_normal(truth, cov, n)
    low, high = uncertainty.ratio_interval(conc, np.broadcast_to(cov, (n, 2, 2)), [0], [1])
    part = np.mean((low <= 2) & (high >= 2))
    # Where the denominator may be zero, all ratios above zero are given in place of some of them, which holds the truth
    # more often.
    assert part > 0.944 and (part < 0.956 or under_sd == 0.3)


@pytest.mark.parametrize("over", [-2.0, 0.1])
@pytest.mark.parametrize("under", [1.0, -1.0])
def test_intervals_of_ratios_of_concentrations_that_may_be_negative(over, under):
    random = np.random.default_rng(2)
    cov = np.array([[0.04, 0.01], [0.01, 0.01]])
    conc = random.multivariate_normal([over, under], cov, 20000)
    low, high = uncertainty.ratio_interval(conc, np.broadcast_to(cov, (20000, 2, 2)), [0], [1], negative=True)
    assert 0.945 < np.mean((low <= over / under) & (high >= over / under)) < 0.955
    assert np.isfinite(low).all() and np.isfinite(high).all()
    low, high = uncertainty.ratio_interval(np.array([[1.0, 0.1]]), cov[None], [0], [1], negative=True)
    assert low[0] == -np.inf and high[0] == np.inf


def test_ratios_and_percent_of_inverted_metabolites(simulate, sim_basis):
    """Intervals were cut off at zero, and SDs in percent of a negative concentration were negative."""
    from fsl_mrs_dl.results import tables
    from fsl_mrs_dl.results.fit_results import FitResults

    factor = np.where(np.array(sim_basis.names) == "NAA", -1.0, 1.0)
    truth = simulate(12, snr=60, seed=29, model="negativevoigt", conc_factor=factor, alike=True, spread=0.05)
    fits = quantify(truth.fids, sim_basis, model="negativevoigt", device="cpu", **AXES)
    naa, cr, gln = ([sim_basis.names.index(name)] for name in ("NAA", "Cr", "Gln"))
    for members in (naa, gln):
        low, high = fits.ratio_interval(members, cr)
        expected = truth.conc[0, members[0]] / truth.conc[0, cr[0]]
        assert np.mean((low <= expected) & (high >= expected)) > 0.6
        sd = uncertainty.ratio_sd(fits.conc, fits.cov, members, cr)
        np.testing.assert_allclose(high - low, 2 * uncertainty.Z95 * sd, rtol=0.1)
    # All of them inverted: also the reference.
    turned = quantify(-truth.fids, sim_basis, model="negativevoigt", device="cpu", **AXES)
    for fit in (fits, turned):
        results = FitResults(fit, None, ("Cr",))
        summary, table = tables.summary_table(results), tables.uncertainty_table(results)
        assert (summary[["%CRLB", "/Cr CRLB"]] >= 0).all(axis=None)
        np.testing.assert_allclose(table["crlb_pct"], np.minimum(100 * table["crlb_sd"] / table["conc"].abs(), 999))


def test_a_prior_without_negative_concentrations_says_nothing_of_inverted_ones(simulate, sim_basis, tmp_path):
    """The SDs of inverted metabolites were next to zero, since the prior left them next to no room."""
    from fsl_mrs_dl.cli.tables import text_table
    from fsl_mrs_dl.results.fit_results import FitResults

    naa = sim_basis.names.index("NAA")
    factor = np.where(np.array(sim_basis.names) == "NAA", -1.0, 1.0)
    truth = simulate(24, snr=60, seed=31, model="negativevoigt", conc_factor=factor, alike=True, spread=0.0)

    def fitted(**options):
        return quantify(truth.fids, sim_basis, model="negativevoigt", device="cpu", **options, **AXES)

    fits = fitted()
    assert fits.posterior is None and (fits.conc[:, naa] < 0).all()
    assert "Concentrations have no prior: that of a normal brain has no negative ones." in text_table(
        FitResults(fits, None, ("Cr",))
    )
    # One that has them is used, and its SDs are those of the scatter over realisations of the noise.
    wide = {"NAA": {"normal": [-12, 12]}, "Cr": {"normal": [6, 6]}, "Glu": {"normal": [9, 9]}}
    (tmp_path / "wide.json").write_text(json.dumps(wide), encoding="utf-8")
    for sd, conc in (
        (fits.crlb_sd[:, naa], fits.conc[:, naa]),
        (lambda one: (one.sd[:, naa], one.mean[:, naa]))(fitted(prior=tmp_path / "wide.json").posterior),
    ):
        assert 0.6 < np.median(sd) / np.std(conc, ddof=1) < 1.6
    # One that has none is refused where it is asked for, before any work.
    for content in ({"NAA": {"lognormal": [12, 0.2]}}, {"NAA": {"uniform": [0, 12]}}):
        (tmp_path / "narrow.json").write_text(json.dumps(wide | content), encoding="utf-8")
        with pytest.raises(OptionError, match="narrow.json.* of NAA has no negative values, which negative"):
            fitted(prior=tmp_path / "narrow.json")
    with pytest.raises(OptionError, match="needs a prior"):
        FitOptions(model="negativevoigt", estimate="posterior_mean").check()


def test_a_ratio_to_what_may_be_zero_has_no_end():
    cov = np.diag([0.01, 1.0])[None]
    low, high = uncertainty.ratio_interval(np.array([[2.0, 1.0]]), cov, [0], [1])
    assert low[0] == 0 and np.isinf(high[0])
    low, high = uncertainty.ratio_interval(np.array([[2.0, 1.0]]), cov, [1], [1])
    assert low[0] == high[0] == 1
    low, high = uncertainty.ratio_interval(np.array([[np.nan, 1.0]]), cov, [0], [1])
    assert np.isnan(low[0]) and np.isnan(high[0])


def test_a_ratio_to_what_is_well_known_has_the_interval_of_its_numerator():
    """Intervals of ratios began at zero where those of the concentrations did not."""
    conc, cov = np.array([[0.02, 5.0]]), np.array([np.diag([0.015**2, 0.001**2])])
    limits, under = (np.array([0.005]), np.array([0.05])), (np.array([4.998]), np.array([5.002]))
    low, high = uncertainty.ratio_of_intervals(conc, cov, [0], [1], limits, under)
    np.testing.assert_allclose([low[0], high[0]], [0.001, 0.01], rtol=0.01)


def test_intervals_of_ratios_are_fieller_s_where_those_of_both_sums_are_normal():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b, correlation = rng.uniform(1, 3), rng.uniform(1, 3), rng.uniform(-0.8, 0.8)
        sds = np.array([0.1, 0.15]) * [a, b]
        cov = (sds[:, None] * sds * np.array([[1, correlation], [correlation, 1]]))[None]
        z, conc = uncertainty.Z95, np.array([[a, b]])
        each = [(np.array([value - z * sd]), np.array([value + z * sd])) for value, sd in zip((a, b), sds)]
        got = uncertainty.ratio_of_intervals(conc, cov, [0], [1], *each)
        np.testing.assert_allclose(got, uncertainty.ratio_interval(conc, cov, [0], [1]), rtol=1e-9)


def test_a_ratio_to_what_may_be_nothing_is_unbounded_and_of_nothing_is_none():
    conc, cov = np.array([[1.0, 1.0], [1.0, np.nan]]), np.tile(np.diag([0.01, 1.0]), (2, 1, 1))
    limits, under = (np.full(2, 0.8), np.full(2, 1.2)), (np.zeros(2), np.full(2, 3.0))
    low, high = uncertainty.ratio_of_intervals(conc, cov, [0], [1], limits, under)
    assert 0 <= low[0] < 1 and np.isinf(high[0]) and np.isnan(low[1]) and np.isnan(high[1])
