"""A verdict tells fits that can be used from those that cannot."""

import numpy as np
import pytest

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting import quantify as quantify_module
from fsl_mrs_dl.fitting import verdict
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.verdict import DOUBTFUL, GOOD, UNUSABLE
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

AXES = Axes(1024, 1 / 2000, 123.2)


@pytest.fixture(scope="module")
def basis():
    return simulate_basis(
        sequence="press", te_ms=35.0, field_t=3.0, bandwidth_hz=2000.0, n_points=2048, macromolecules=None
    )


@pytest.fixture(scope="module")
def made(basis):
    return simulate_in_vivo(basis, Axes(1024, 1 / 2000, basis.spec_freq_mhz), 5, seed=4)


def fit(made, basis, fids, **options):
    options = FitOptions(device="cpu", **options)
    run = quantify_in_vivo if options.spectral_model == "in-vivo" else quantify_module.quantify
    return run(fids, basis, made.axes, options)


def test_realistic_spectra_are_good_in_vivo_and_a_strange_line_is_not(made, basis):
    fids = made.fids.copy()
    time = made.axes.time()
    size = np.abs(fids[0, :8]).mean()
    # A decaying line and a late echo: both far above the noise, and no metabolite's.
    fids[0] += 2 * size * np.exp(2j * np.pi * made.axes.ppm_to_hz(2.6) * time - 8 * time)
    fids[1] += 2 * size * np.exp(2j * np.pi * made.axes.ppm_to_hz(3.5) * time - ((time - 0.15) / 0.03) ** 2)
    result = fit(made, basis, fids, spectral_model="in-vivo")
    assert (result.verdict[2:] == GOOD).all() and result.usable[2:].all() and (result.ood[2:] < 1).all()
    assert (result.verdict[:2] == UNUSABLE).all() and (result.misfit_score[:2] > 1).all() and (result.ood[:2] > 1).all()


def test_a_model_without_macromolecules_is_doubtful_not_strange(made, basis):
    result = fit(made, basis, made.fids)
    assert np.mean(result.verdict == DOUBTFUL) >= 0.8 and result.usable.all() and (result.ood < 1).all()


def test_noise_is_not_unexplained_signal():
    random = np.random.default_rng(0)
    residual = 1 + 0.02 * random.standard_normal(1000)
    share = verdict.unexplained(residual, np.ones(1000), np.full(1000, 3.0), n_window=500, n_outside=1000)
    assert np.mean(share > 0) < 0.15 and (share < 0.1).all()
    # Without noise all of the residual is unexplained, and nothing where there is none.
    exact = verdict.unexplained(np.array([0.0, 1.0]), np.zeros(2), np.full(2, 10.0), n_window=500, n_outside=1000)
    np.testing.assert_allclose(exact, [0, 0.1], rtol=0.15)


def test_a_small_share_makes_any_misfit_harmless():
    limits = verdict.limits_for("in-vivo")
    misfit, share = np.array([12.0, 12.0, 2.0, 1.4]), np.array([0.01, 0.06, 0.2, 0.05])
    assert (verdict.misfit_score(limits, misfit, share) > 1).tolist() == [False, True, True, False]


def test_words_follow_misfit_and_distribution():
    usable, share, ood = np.array([True, True, True, False]), np.array([0.0, 0.2, 0.0, 0.0]), np.array([0.2, 0.2, 3, 0])
    assert verdict.verdicts(usable, share, ood).tolist() == [GOOD, DOUBTFUL, DOUBTFUL, UNUSABLE]


def test_estimates_that_are_no_numbers_are_never_usable(sim_basis):
    model, _ = quantify_module.model_for(sim_basis, AXES)
    fit = quantify_module._empty_result(np.ones((4, 1024), complex), model, list(sim_basis.names), "", "")
    fit.params[:], fit.cov[:], fit.converged[:], fit.misfit_score[:], fit.unexplained[:] = 1, 1, True, 0.5, 0
    fit.ood_residual[:], fit.ood_latent = 0.5, np.zeros(4)
    fit.params[1, 2] = fit.cov[2, 3, 3] = np.nan
    fit.cov[3, 4, 4] = np.inf  # of a metabolite without lines in the window
    assert fit.usable.tolist() == [True, False, False, True]
    assert fit.verdict.tolist() == [GOOD, UNUSABLE, UNUSABLE, GOOD]


def test_estimates_that_are_no_numbers_have_not_converged(made, basis, monkeypatch):
    from fsl_mrs_dl.fitting.in_vivo import result

    concentrations = result._concentrations

    def with_nan(fits, estimate):
        fits.converged[:] = True
        conc, cov = concentrations(fits, estimate)
        return np.where(np.arange(conc.shape[1]) == 3, np.nan, conc), cov

    monkeypatch.setattr(result, "_concentrations", with_nan)
    # A single trial point is enough.
    found = fit(made, basis, made.fids[:1], spectral_model="in-vivo", max_iter=1)
    assert not found.converged.any() and not found.usable.any()
