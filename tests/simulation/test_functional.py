"""Simulated functional series: response, drifts, and truth that a fit recovers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.series import fit_series
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.functional import (
    FunctionalOptions,
    block_response,
    cosine_drifts,
    functional_design,
    haemodynamic_response,
    simulate_functional,
)

CONFIGURATION = """
Parameters = {'conc': {'dynamic': 'glm', 'params': ['c_response', 'c_drift', 'c_constant']},
              'gamma': {'dynamic': 'glm', 'params': ['g_response', 'g_drift', 'g_constant']},
              'eps': 'variable', 'Phi_0': 'variable'}
Bounds = {'sigma': (0, None)}
"""


def test_response_is_zero_at_rest_and_one_in_long_blocks():
    time = np.arange(0, 40, 0.01)
    assert haemodynamic_response(time).sum() * 0.01 == pytest.approx(1, abs=1e-3)
    assert time[np.argmax(haemodynamic_response(time))] == pytest.approx(5, abs=0.1)
    response = block_response(FunctionalOptions(n_spectra=40, interval_s=5, block_s=100))
    np.testing.assert_allclose(response[[5, 15, 38]], [0, 0, 1], atol=0.02)
    assert response[25] == pytest.approx(1, abs=0.2)


def test_drifts_are_orthogonal_and_the_design_ends_with_a_constant():
    drifts = cosine_drifts(32, 4)
    np.testing.assert_allclose(drifts.T @ drifts / 32, np.eye(4), atol=1e-12)
    design = functional_design(FunctionalOptions(n_spectra=32), n_drifts=4)
    assert design.shape == (32, 6) and np.all(design[:, -1] == 1)


def test_fit_recovers_the_betas(tmp_path, one_thread):
    grid = {"field_t": 3.0, "bandwidth_hz": 1250.0, "n_points": 256}
    basis = simulate_basis(["NAA", "Cr", "GPC", "Glu"], sequence="steam", te_ms=14.0, tm_ms=30.0, **grid)
    options = FunctionalOptions(n_spectra=16, interval_s=10, block_s=40, changes={"Glu": 0.1}, snr=200)
    series = simulate_functional(basis, options, seed=1)
    (tmp_path / "config.py").write_text(CONFIGURATION, encoding="utf-8")
    fit = fit_series(
        series.fids,
        basis,
        basis.axes,
        read_configuration(tmp_path / "config.py"),
        series.design,
        FitOptions(prior="none", baseline="poly, 0", rescale=False, init="classical"),
    )
    true = {f"conc_{name}_c_response": beta for name, beta in zip(basis.names, series.conc_betas[:, 0])}
    true["gamma_0_g_response"] = series.gamma_betas[0]
    for name, beta in true.items():
        number = fit.names.index(name)
        assert abs(fit.x[number] - beta) < 4 * fit.sd[number], name
    assert fit.noise_sd == pytest.approx(series.noise_sd, rel=0.05)


def test_what_cannot_be_simulated_is_refused(sim_basis):
    with pytest.raises(OptionError, match="has no Foo, whose change is asked for"):
        simulate_functional(sim_basis, replace(FunctionalOptions(), changes={"Foo": 0.1}))
    with pytest.raises(OptionError, match="must be positive"):
        FunctionalOptions(snr=0)
