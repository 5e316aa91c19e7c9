"""Covariance of all parameters, SD of the fitted spectra, and the model and estimates outside of the fit: in NumPy, and
as JSON and arrays."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.core import units
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.in_vivo.serialise import plain_in_vivo_row, restored_in_vivo_row
from fsl_mrs_dl.fitting.in_vivo.spread import fitted_sd, parameter_covariances
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.results.tables import uncertainty_table
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

pytestmark = pytest.mark.usefixtures("one_thread")
N = 24


@pytest.fixture(scope="module")
def fit(sim_basis):
    """Fits of one spectrum with further noise, another in each row."""
    made = simulate_in_vivo(sim_basis, sim_basis.axes, 1, snr=(60, 60), seed=2)
    # Twice the noise that is there, of which each row has the same.
    noise = 2 * np.std(np.diff(units.fid_to_spec(made.fids[0])[:200].real)) / np.sqrt(2)
    rng = np.random.default_rng(1)
    fids = made.fids + noise * (rng.normal(size=(N, 1024)) + 1j * rng.normal(size=(N, 1024)))
    return quantify_in_vivo(fids, sim_basis, made.axes)


def test_sds_of_parameters_are_those_of_the_fit(fit):
    rows = np.arange(N)
    cov = parameter_covariances(fit, rows)
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    # The fit takes one strength of the baseline, here it is the mean of all.
    assert np.median(np.abs(np.log(sd / fit.x_sd))) < 0.03
    assert np.linalg.eigvalsh(cov[0]).min() > 0


def test_band_is_the_spread_of_fitted_spectra(fit):
    rows = np.arange(N)
    sd = fitted_sd(fit, rows).mean(0)
    first, last = fit.model.window
    spectra = fit.spectra("full")[:, first:last].real * np.sqrt(fit.model.n_points)
    spread = np.interp(fit.fitted_model.window.hz, fit.model.axes.hz()[first:last], spectra.std(0, ddof=1))
    inner = slice(5, -5)
    ratio = np.median(spread[inner] / sd[inner])
    # The SD includes the uncertainty that the spectrum leaves to priors, which are the same in every row.
    assert 0.6 < ratio < 1.1, ratio
    assert sd.shape == (fit.fitted_model.window.n_window,)


def test_signals_in_numpy_are_those_of_the_model(fit):
    signals, first = fit.signals, 5
    spectrum = units.fid_to_spec(signals.components(fit.x[first])) * signals.phase_factor(fit.x[first])
    full = fit.spectra("no baseline")[first]
    np.testing.assert_allclose(spectrum.sum(0), full, atol=1e-12 * np.abs(full).max())
    for name in ("NAA", "Lip13", "MM", "Glu+Gln"):
        part = spectrum[signals.components_of(name)].sum(0)
        np.testing.assert_allclose(part, fit.spectra(name)[first], atol=1e-12 * np.abs(full).max())
    assert signals.concentration_names == fit.names
    with pytest.raises(KeyError):
        signals.components_of("Fantasy")


def test_estimates_survive_as_json_and_arrays(fit):
    restored = restored_in_vivo_row(plain_in_vivo_row(fit, 3))
    tables = [
        uncertainty_table(FitResults(one, None, ("Cr",), ("Glu+Gln",), estimate="in-vivo"))
        for one in (restored, fit.row(3))
    ]
    assert tables[0].equals(tables[1])
