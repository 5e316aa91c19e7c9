"""Dynamic fits: the minimum of FSL-MRS's cost, errors as large as stated, decays recovered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.made_series import B_VALUES, BY_METABOLITE, EXPONENTIAL, INITIAL, OPTIONS, RATES, made_series

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.joint_fit import JointModel, solve_joint
from fsl_mrs_dl.dynamic.series import SeriesProblem, fit_series, initial_fits, read_time_variables, scaled_series
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import model_for


@pytest.fixture
def fit(tmp_path, sim_basis, one_thread):
    def run(text=EXPONENTIAL, options=OPTIONS, **keywords):
        (tmp_path / "config.py").write_text(text, encoding="utf-8")
        series = made_series(sim_basis, options=options, **keywords)
        configuration = read_configuration(tmp_path / "config.py")
        return series, fit_series(series.fids, series.basis, series.axes, configuration, B_VALUES, options)

    return run


def test_decays_are_recovered_within_their_errors(fit):
    series, result = fit()
    names = list(result.names)
    rates = [result.x[names.index(f"conc_{name}_c_adc")] for name in series.basis.names]
    sd = [result.sd[names.index(f"conc_{name}_c_adc")] for name in series.basis.names]
    assert result.solution.converged
    assert result.noise_sd / result.fid_scale == pytest.approx(series.noise_sd, rel=0.05)
    assert np.all(np.abs(rates - RATES) < 4 * np.array(sd)) and np.all(np.array(sd) < 0.03)


def test_zero_filled_series_have_the_uncertainty_of_their_acquisition(tmp_path, sim_basis, one_thread):
    (tmp_path / "config.py").write_text(EXPONENTIAL, encoding="utf-8")
    configuration, series = read_configuration(tmp_path / "config.py"), made_series(sim_basis)
    half = series.fids.shape[-1] // 2
    filled = np.where(np.arange(2 * half) < half, series.fids, 0)
    sds = []
    for fids in (series.fids[:, :half], filled):
        axes = series.axes.with_points(fids.shape[-1])
        sds.append(fit_series(fids, series.basis, axes, configuration, B_VALUES, OPTIONS).sd)
    assert np.median(sds[1] / sds[0]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("values", ["np.exp(log_amp), -slope", "0, 1e3", "np.nan, 1"])
def test_end_is_the_same_from_good_and_bad_initial_values(fit, values):
    plain, proposed = fit()[1], fit(EXPONENTIAL + INITIAL.replace("np.exp(log_amp), -slope", values))[1]
    assert proposed.solution.cost == pytest.approx(plain.solution.cost, rel=1e-9)
    assert np.all(np.abs(proposed.x - plain.x) < 1e-3 * plain.sd)


def test_initial_phases_are_without_whole_turns(sim_basis, one_thread):
    series = made_series(sim_basis)
    rows, _ = scaled_series(-series.fids, OPTIONS)  # half a turn, where angles jump
    model, _ = model_for(series.basis, series.axes, OPTIONS)
    (fits,) = initial_fits([SeriesProblem(rows, model, list(series.basis.names), OPTIONS)])
    column = sum(model.sizes[name] for name in ("conc", "gamma", "sigma", "eps"))
    for params in (fits.params, *fits.others):
        phases = params[:, column]
        assert np.ptp(phases) < 0.6 and np.abs(phases).max() < np.pi + 0.5


def test_initial_values_that_fail_name_their_function(fit):
    with pytest.raises(OptionError, match="model_exp_init does not give 2 values"):
        fit(EXPONENTIAL + INITIAL.replace("np.exp(log_amp), -slope", "values"))


def test_joint_fit_is_at_a_minimum(fit):
    _, result = fit(BY_METABOLITE)
    joint = JointModel(torch.as_tensor(result.spectra), result.model, result.mapping)
    x = torch.as_tensor(result.x)
    free = ((x > result.mapping.lower) & (x < result.mapping.upper)).nonzero()[:, 0]
    for number in free.tolist():
        for sign in (-1, 1):
            moved = x.clone()
            moved[number] += sign * 0.01 * result.sd[number]
            assert joint.cost(moved) > result.solution.cost * (1 - 1e-10), result.names[number]


def test_derivatives_of_the_cost_are_exact(fit):
    _, result = fit(options=FitOptions(prior="none", baseline="spline, stiff"))
    joint = JointModel(torch.as_tensor(result.spectra), result.model, result.mapping)
    x = torch.as_tensor(result.x) * 1.1 + 1e-3
    _, pull, _ = joint.derivatives(x)
    move = torch.as_tensor(np.random.default_rng(0).normal(size=len(x)) * result.x) * 1e-5
    change = (joint.cost(x + move) - joint.cost(x - move)) / 2
    assert float(change) == pytest.approx(-2 * float(pull @ move), rel=1e-5)


def test_mapped_errors_and_derived_quantities_follow_the_covariance(fit):
    _, result = fit()
    value, sd = result.derived(lambda p: p["conc_NAA_c_amp"] * torch.exp(-p["conc_NAA_c_adc"] * B_VALUES[4]))
    column = result.mapping.mapped_names.index("conc_NAA")
    assert value == pytest.approx(result.mapped[4, column]) and sd == pytest.approx(result.mapped_sd[4, column])


def test_evidence_prefers_the_true_model(fit):
    more = EXPONENTIAL.replace(
        "'model_exp', 'params': ['c_amp', 'c_adc']", "'biexponential', 'params': ['c_amp', 'c_adc', 'fast', 'share']"
    )
    more = more.replace("'c_adc': (0, None)", "'c_adc': (0, 0.5), 'fast': (0.5, 4), 'share': (0, 1)")
    simple, rich = fit()[1].information_criteria(), fit(more)[1].information_criteria()
    assert rich["log likelihood"] > simple["log likelihood"] - 1e-6
    assert simple["log evidence"] > rich["log evidence"]


def test_time_variables_are_checked(tmp_path):
    path = tmp_path / "bvals"
    path.write_text("0 1 2", encoding="utf-8")
    np.testing.assert_array_equal(read_time_variables([path], 3), [0, 1, 2])
    assert read_time_variables([path, path], 3).shape == (3, 2)
    with pytest.raises(OptionError, match="has 3 rows, and the series 4 spectra"):
        read_time_variables([path], 4)
    path.write_text("0 one", encoding="utf-8")
    with pytest.raises(OptionError, match="bvals: cannot be read"):
        read_time_variables([path], 2)


@pytest.mark.with_fsl_mrs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("text", [EXPONENTIAL, BY_METABOLITE], ids=["exponential", "by metabolite"])
def test_minimum_is_that_of_fsl_mrs(fit, tmp_path, text):
    from fsl_mrs.core import MRS
    from fsl_mrs.core.basis import Basis
    from fsl_mrs.dynamic import dynMRS

    series, result = fit(text)
    header = {"centralFrequency": series.axes.spec_freq_mhz * 1e6, "bandwidth": series.axes.bandwidth}
    header |= {"dwelltime": series.axes.dwelltime, "fwhm": 1.0, "nucleus": "1H"}
    names = list(series.basis.names)
    basis = Basis(series.basis.fids.T, names, [header] * len(names))
    options = {"cf": series.axes.spec_freq_mhz, "bw": series.axes.bandwidth, "nucleus": "1H", "basis": basis}
    spectra = [MRS(FID=fid, **options) for fid in series.fids]
    theirs = dynMRS(spectra, B_VALUES, str(tmp_path / "config.py"), ppmlim=(0.2, 4.2), baseline="poly, 0")
    end = theirs.fit()
    assert end.free_names == result.names
    assert theirs.dyn_loss(result.x) <= theirs.dyn_loss(end.x) * (1 + 1e-9)
    # By their own gradient our end is less than 1e-3 SD away from the minimum.
    pull = theirs.dyn_loss_grad(result.x) * result.spectra.size / result.noise_sd**2
    free = (result.x > result.mapping.lower.numpy()) & (result.x < result.mapping.upper.numpy())
    assert np.sqrt(pull[free] @ result.cov[np.ix_(free, free)] @ pull[free]) < 1e-3


def test_rate_of_a_signal_that_is_gone_does_not_stop_the_fit(fit):
    """A rate that runs to infinity has no influence; steps of the others must not be refused because of it."""
    text = EXPONENTIAL.replace("'c_adc': (0, None), ", "")
    series, result = fit(text)
    joint = JointModel(torch.as_tensor(result.spectra), result.model, result.mapping)
    start = torch.as_tensor(result.x).clone()
    start[result.names.index("conc_GPC_c_adc")] = 200.0
    start[result.names.index("conc_NAA_c_adc")] *= 2
    end = solve_joint(joint, start)
    assert end.converged
    rate = float(end.x[result.names.index("conc_NAA_c_adc")])
    assert rate == pytest.approx(RATES[list(series.basis.names).index("NAA")], abs=0.02)


@pytest.mark.parametrize("misfit", [1.0, 40.0])
def test_residuals_are_drawn_over_the_noise(rng, monkeypatch, misfit):
    """They were divided by their own SD, and a wrong model looked good."""
    from types import SimpleNamespace

    from fsl_mrs_dl.results import dynamic_figures

    model = SimpleNamespace(window=(20, 180), axes=SimpleNamespace(ppm=lambda: np.linspace(0, 5, 200)))
    fit = SimpleNamespace(model=model, noise_outside_sd=2.0, noise_sd=2.0 * misfit)
    residual = 2.0 * misfit * rng.normal(size=(6, 160))
    monkeypatch.setattr(dynamic_figures, "phased", lambda _: (residual, np.zeros((6, 160))))
    monkeypatch.setattr(dynamic_figures, "_add_head", lambda *_: None)
    results = SimpleNamespace(fit=fit, time_variable=np.arange(6.0), titles=list("abcdef"), time_name="t")
    image = dynamic_figures.residual_figure(results).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), residual / 2.0)
    assert image.get_clim()[1] == pytest.approx(5 if misfit == 1 else 2.33 * misfit, rel=0.15)


def test_p_values_that_are_too_small_for_a_number():
    from fsl_mrs_dl.results.dynamic import p_text

    assert (p_text(0.0), p_text(0.0312)) == ("< 1e-300", "0.031")
