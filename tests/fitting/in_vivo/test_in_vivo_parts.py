"""Parts of the in-vivo model against analytic limits: derivatives, coarse grid, baseline, amplitudes, water."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting.in_vivo.amplitudes import AmplitudePrior, amplitude_posterior, mixture_interval
from fsl_mrs_dl.fitting.in_vivo.prepared import smooth_baseline_of
from fsl_mrs_dl.fitting.in_vivo.solver import NormalEquations, Problem, systems
from fsl_mrs_dl.fitting.in_vivo.volume import log_volume_slope
from fsl_mrs_dl.fitting.in_vivo.water_reference import water_reference
from fsl_mrs_dl.physics.coarse_window import make_window, points_with_signal
from fsl_mrs_dl.physics.in_vivo_components import build_components, priors_table
from fsl_mrs_dl.physics.in_vivo_model import make_in_vivo_model
from fsl_mrs_dl.physics.smooth_baseline import make_smooth_baseline

LIMITS = (0.2, 4.2)


def measured_pattern(axes):
    """Macromolecules as a metabolite-nulled scan gives them: four broad lines."""
    lines = [np.exp((2j * np.pi * axes.ppm_to_hz(ppm) - 80) * axes.time()) for ppm in (0.9, 1.4, 2.05, 3.0)]
    return np.array([1.0, 0.8, 1.2, 0.5]) @ np.stack(lines)


@pytest.fixture(scope="module", params=["lines of the table", "a measured pattern"])
def model(request, sim_basis):
    fids, names = sim_basis.fids, sim_basis.names
    if request.param == "a measured pattern":
        fids, names = np.vstack([fids, measured_pattern(sim_basis.axes)]), (*names, "mm")
    components = build_components(fids, names, sim_basis.axes, te_s=0.035, tr_s=2.0)
    return make_in_vivo_model(components, make_window(sim_basis.axes, LIMITS))


def drawn(model, n, seed=0):
    """Parameters from the priors of single lines and line shape, the common ones at typical values."""
    random = np.random.default_rng(seed)
    sd = model.prior_precision.diagonal().numpy() ** -0.5
    x = model.prior_mean.numpy() + 0.5 * sd * random.standard_normal((n, model.n_params))
    for name in ("scale", "mm_scale", "phi0"):
        x[:, model.slices[name]] = random.normal(0, 0.5, (n, 1))
    return torch.as_tensor(x)


def test_derivatives_are_those_of_the_spectrum(model):
    x = drawn(model, 2)
    _, jacobian = model.jacobian(x)
    for parameter in {where.start for where in model.slices.values()} | set(range(0, model.n_params, 7)):
        step = torch.zeros(model.n_params, dtype=x.dtype)
        step[parameter] = 1e-5
        slope = (model.spectrum(x + step) - model.spectrum(x - step)) / 2e-5
        size = max(float(slope.abs().max()), 1e-6)
        assert float((jacobian[:, parameter] - slope).abs().max()) < 1e-5 * size


def test_products_with_derivatives_are_those_of_the_derivatives(model):
    x = drawn(model, 2)
    weights = torch.randn(2, model.window.n_window, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    spectra, jacobian = model.jacobian(x)
    again, pull = model.spectrum_and_pull(x, lambda spectra: weights - 0.1 * spectra)
    torch.testing.assert_close(again, spectra)
    expected = (jacobian.conj() * (weights - 0.1 * spectra)[:, None]).real.sum(-1)
    torch.testing.assert_close(pull, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


def test_the_coarse_grid_gives_the_spectra_of_all_points(model, sim_basis):
    x, axes = drawn(model, 3), sim_basis.axes
    time = torch.as_tensor(axes.time())
    line = model.line_shape(x, time)[0][:, None]
    signal = model.signals(x, torch.as_tensor(model.components.fids), time, None) * line
    bins = (np.arange(axes.n_points) - axes.n_points // 2) / (axes.n_points * axes.dwelltime)
    whole = units.fid_to_spec(signal.numpy()) * model.phase_factor(x, torch.as_tensor(bins)).numpy()[:, None]
    window = model.window
    coarse = model.component_spectra(x).numpy()
    assert window.n_coarse + 2 * window.extra < 0.5 * axes.n_points
    # Macromolecules are lines that the coarse grid cannot filter beforehand, as they are damped by the model only.
    assert np.abs(coarse - whole[..., window.first : window.last]).max() < 2e-3 * np.abs(coarse).max()


def test_points_with_signal_end_where_noise_begins(sim_basis, rng):
    axes = sim_basis.axes
    line = np.exp((2j * np.pi * axes.ppm_to_hz(2.0) - 30) * axes.time())
    noise = 0.02 * (rng.standard_normal((8, axes.n_points)) + 1j * rng.standard_normal((8, axes.n_points)))
    used = points_with_signal(line + noise, axes, LIMITS)
    assert 0.25 <= used * axes.dwelltime < 0.35
    padded = np.pad(line + noise, ((0, 0), (0, 3000)))
    assert points_with_signal(padded, axes.with_points(4024), LIMITS) <= axes.n_points


def test_a_smooth_baseline_is_taken_and_a_line_is_not():
    ppm = np.linspace(*LIMITS, 200)
    baseline = smooth_baseline_of(ppm, "1H")
    share = baseline.shares(30.0)

    def left(signal):
        signal = signal - baseline.free @ (baseline.free.conj().T @ signal)
        return np.linalg.norm(signal - baseline.vectors @ (share * (baseline.vectors.conj().T @ signal)))

    hump, line = np.exp(-0.5 * ((ppm - 2) / 0.7) ** 2), 1 / (1 + ((ppm - 2) / 0.02) ** 2)
    assert left(hump) < 0.03 * np.linalg.norm(hump)
    assert left(line) > 0.7 * np.linalg.norm(line)
    assert left(1j * np.ones(200)) < 1e-10
    assert baseline.dimension(0.0) == baseline.free.shape[1]
    assert np.all(np.diff([float(baseline.dimension(s)) for s in (0.1, 1.0, 10.0)]) > 0)


def test_the_eigenbasis_is_that_of_the_whole_covariance():
    ppm, lengths = np.linspace(*LIMITS, 160), ((0.35, 0.5), (1.2, 0.5))
    baseline = make_smooth_baseline(ppm, lengths)
    cov = sum(share * np.exp(-0.5 * ((ppm[:, None] - ppm) / length) ** 2) for length, share in lengths)
    remainder = np.eye(160) - baseline.free @ baseline.free.conj().T
    values, vectors = np.linalg.eigh(remainder @ cov @ remainder)
    kept = values > 1e-7 * values[-1]
    assert np.allclose(baseline.values, values[kept], rtol=1e-8)
    projectors = [v @ v.conj().T for v in (baseline.vectors, vectors[:, kept])]
    assert np.allclose(*projectors, atol=1e-8)
    assert np.abs(baseline.free.conj().T @ baseline.vectors).max() < 1e-12


def _posterior(mean, sd, log_median, log_sd):
    one = lambda value: torch.tensor([[float(value)]], dtype=torch.float64)  # noqa: E731
    prior = AmplitudePrior(one(log_median), one(log_sd))
    return amplitude_posterior(one(sd**-2)[..., None], one(mean / sd**2), prior)


@pytest.mark.parametrize("mean, sd", [(5.0, 0.1), (1.0, 1.0), (-2.0, 1.0)])
def test_amplitudes_without_prior_are_a_truncated_normal(mean, sd):
    found = _posterior(mean, sd, 0.0, np.inf)
    expected = stats.truncnorm(-mean / sd, np.inf, loc=mean, scale=sd)
    assert float(found.mean) == pytest.approx(expected.mean(), rel=5e-3)
    assert float(found.cov) ** 0.5 == pytest.approx(expected.std(), rel=1e-2)
    low, high = mixture_interval([found], torch.ones(1, 1, dtype=torch.float64))
    assert float(low) == pytest.approx(expected.ppf(0.025), abs=0.05 * sd)
    assert float(high) == pytest.approx(expected.ppf(0.975), abs=0.1 * sd)


def test_amplitudes_with_a_lognormal_prior_are_their_product():
    mean, sd, log_median, log_sd = 0.4, 0.5, 0.0, 0.6
    found = _posterior(mean, sd, log_median, log_sd)
    grid = np.linspace(1e-4, 8, 200_001)
    density = stats.norm.pdf(grid, mean, sd) * stats.lognorm.pdf(grid, log_sd, scale=np.exp(log_median))
    expected = (grid * density).sum() / density.sum()
    assert float(found.mean) == pytest.approx(expected, rel=5e-3)
    assert 0.1 < float(found.prior_share) < 0.9


def test_correlated_amplitudes_have_the_mean_of_sampling(rng):
    precision = np.linalg.inv(np.array([[1.0, -0.8], [-0.8, 1.0]]))
    linear = precision @ np.array([1.0, 0.3])
    flat = AmplitudePrior(torch.zeros(1, 2, dtype=torch.float64), torch.full((1, 2), torch.inf, dtype=torch.float64))
    found = amplitude_posterior(torch.as_tensor(precision)[None], torch.as_tensor(linear)[None], flat)
    draws = rng.multivariate_normal([1.0, 0.3], np.linalg.inv(precision), 400_000)
    draws = draws[(draws > 0).all(1)]
    np.testing.assert_allclose(found.mean[0], draws.mean(0), rtol=0.06)


def test_a_mixture_covers_both_of_its_parts():
    parts = [_posterior(mean, 0.1, 0.0, np.inf) for mean in (2.0, 4.0)]
    low, high = mixture_interval(parts, torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    assert float(low) < 2.0 and float(high) > 4.0
    low, _ = mixture_interval(parts, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert float(low) > 3.7


def test_water_gives_back_eddy_currents_and_line_shape(sim_basis):
    axes = sim_basis.axes
    time = np.arange(axes.n_points) * axes.dwelltime
    phase, decay = 0.8 * np.exp(-time / 0.05), np.exp(-6 * time - (8 * time) ** 2)
    water = 1000 * decay * np.exp(1j * (phase - phase[0] + 2 * np.pi * 3.0 * time))
    found = water_reference(water[None], axes)
    signal = np.exp(-20 * time + 1j * (phase - phase[0]))
    corrected = found.corrected(signal[None])[0]
    use = time < 0.15
    turned = np.angle(corrected[use] / np.exp(-20 * time[use]))
    # An offset of the carrier stays: it is a shift.
    slope = np.polynomial.Polynomial.fit(time[use], turned, 1)
    assert np.abs(turned - slope(time[use])).max() < 0.05
    np.testing.assert_allclose(found.shape(time)[0][use], decay[use], rtol=0.03)


def test_macromolecules_are_weighted_for_echo_and_repetition_time(sim_basis):
    def size(**times):
        components = build_components(
            sim_basis.fids, sim_basis.names, sim_basis.axes, **{"te_s": 0.035, "tr_s": 2.0} | times
        )
        return np.abs(components.fids[components.kinds == "mm", 0])

    first = priors_table()["macromolecules"]["lines"][0]
    assert size(te_s=0.07)[0] / size()[0] == pytest.approx(np.exp(-0.035 / first["t2_s"]))
    assert size(tr_s=0.3)[0] / size(tr_s=100.0)[0] == pytest.approx(1 - np.exp(-0.3 / first["t1_s"]))


def test_presets_and_a_pattern_of_ones_own(sim_basis):
    def kinds(fids=sim_basis.fids, names=sim_basis.names, **options):
        return build_components(fids, names, sim_basis.axes, te_s=0.035, tr_s=2.0, **options).kinds.tolist()

    assert kinds(mm="none") == ["metabolite"] * 10
    assert kinds().count("mm") == len(priors_table()["macromolecules"]["lines"])
    pattern = np.exp((2j * np.pi * sim_basis.axes.ppm_to_hz(0.9) - 60) * sim_basis.axes.time())
    own = build_components(
        np.vstack([sim_basis.fids, pattern]), (*sim_basis.names, "mm"), sim_basis.axes, te_s=0.035, tr_s=2.0
    )
    whole = own.fids[own.kinds == "mm"].sum(0)
    unit = np.vdot(pattern, whole) / np.vdot(pattern, pattern)
    np.testing.assert_allclose(whole, unit * pattern, atol=1e-6 * np.abs(whole).max())
    with pytest.raises(OptionError, match="no such preset"):
        kinds(mm="liver")


def test_priors_say_nothing_of_the_unit_that_all_amplitudes_share():
    """Lognormal densities of twenty amplitudes would together move a common error of 8 % down by 20 times its
    variance, 13 %."""
    random = np.random.default_rng(3)
    n, m, common, own = 200, 20, 0.08, 0.03
    log_median = torch.zeros(n, m, dtype=torch.float64)
    truth = np.exp(0.3 * random.standard_normal((n, m)))
    likely = truth * (1 + common * random.standard_normal((n, 1)) + own * random.standard_normal((n, m)))
    covariance = truth[:, :, None] * truth[:, None] * common**2 + (own * truth[..., None] * np.eye(m)) ** 2
    precision = torch.as_tensor(np.linalg.inv(covariance))
    linear = (precision @ torch.as_tensor(likely)[..., None])[..., 0]
    found = amplitude_posterior(precision, linear, AmplitudePrior(log_median, torch.ones_like(log_median)))
    ratio = found.mean.numpy().sum(1) / truth.sum(1)
    assert abs(ratio.mean() - 1) < 0.02
    assert ratio.std() == pytest.approx(common, rel=0.2)


def test_slope_of_the_volume_is_that_of_the_normal_matrix(model):
    x, baseline = drawn(model, 2), smooth_baseline_of(model.window.ppm, "1H")
    spectra = model.spectrum(x).numpy()
    noise = np.abs(spectra).max(1) / 40
    problem = Problem.make(model, spectra, noise, baseline, [1.0, 3.0])
    share, fixed = problem.shares[[0, 1]], [*range(model.n_linear), model.slices["scale"].start]
    others = np.setdiff1d(np.arange(model.n_params), fixed)

    def log_volume(at):
        matrix = systems(problem, NormalEquations.at(problem, at), at, share)[0]
        return -0.5 * torch.linalg.slogdet(matrix[:, others][:, :, others])[1]

    slope = log_volume_slope(problem, x, share, fixed)
    for parameter in {where.start for where in model.slices.values()} | set(range(0, model.n_params, 11)):
        step = torch.zeros(model.n_params, dtype=x.dtype)
        step[parameter] = 1e-4
        expected = (log_volume(x + step) - log_volume(x - step)) / 2e-4
        torch.testing.assert_close(slope[:, parameter], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("first_point", [1.0, 0.0, 1.3])
def test_the_line_shape_of_water_is_one_at_the_beginning(sim_basis, first_point):
    axes = sim_basis.axes
    after = axes.time() - axes.dwelltime
    water = 50 * np.exp((-18 + 2j * np.pi * 7 - 300 * after) * after)[None]
    water[:, 0] *= first_point
    time = np.linspace(0, 0.05, 40)
    shape = water_reference(water, axes).shape(time)[0]
    np.testing.assert_allclose(shape, np.exp((-18 - 300 * time) * time), rtol=4e-3)
