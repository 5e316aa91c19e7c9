"""Basis sets on another time grid: as if they were simulated there."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.metabolites import typical_concentrations
from fsl_mrs_dl.core.resampling import resample
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.physics.spinsim import simulate_basis

NAMES = ("Ala", "Asc", "Asp", "Cr", "GABA", "GPC", "GSH", "Gln", "Glu", "Ins", "Lac", "NAA", "NAAG", "PCr", "Tau")


def simulated(bandwidth, n_points, width=2.0, frequency=123.2):
    options = {"spec_freq_mhz": frequency, "te_ms": 30.0, "fwhm_hz": width}
    return simulate_basis(NAMES, "press", bandwidth_hz=bandwidth, n_points=n_points, **options)[0]


def errors_over_bounds(fids, exact, axes, snr=100.0):
    """Errors of concentrations, to first order, that come from a basis set in place of the exact one, over their
    Cramér-Rao bounds; without baseline."""
    first, last = axes.window((0.2, 4.2))
    conc = typical_concentrations(list(NAMES))
    decay = np.exp(-10 * axes.time() - (8 * axes.time()) ** 2 / 2)
    model, wrong = (fid_to_spec(basis * decay)[:, first:last].T for basis in (exact, fids))
    noise_sd = np.abs(model @ conc).max() / snr
    model, wrong = (np.concatenate([part.real, part.imag]) for part in (model, wrong))
    bounds = noise_sd * np.sqrt(np.diag(np.linalg.inv(model.T @ model)))
    return np.linalg.lstsq(model, (wrong - model) @ conc, rcond=None)[0] / bounds


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((4000, 4096), (2000, 1024)),
        ((6000, 8192), (2000, 2048)),
        ((4822.58, 4944), (1200.48, 1024)),
        ((2500, 1280), (2004, 1024)),
        ((2000, 1024), (4001, 2048)),
        ((16000, 8192), (1300, 600)),
        ((1200, 512), (1337, 256)),
    ],
)
def test_a_set_is_the_one_simulated_there(old, new):
    exact = simulated(*new)
    fids = resample(simulated(*old), 1 / old[0], 1 / new[0], new[1])
    assert np.abs(fids - exact).max() < 1e-4 * np.abs(exact).max()
    assert np.abs(errors_over_bounds(fids, exact, Axes(new[1], 1 / new[0], 123.2))).max() < 0.1


def test_lines_outside_the_new_bandwidth_are_suppressed():
    old = simulated(6000, 8192, frequency=297.2)
    exact = simulated(2600, 1024, frequency=297.2)
    reference = np.exp((-2j * np.pi * 1600 - 6) * np.arange(8192) / 6000)
    fids = resample(old + 5 * reference, 1 / 6000, 1 / 2600, 1024)
    assert np.abs(fids - exact).max() < 0.01 * np.abs(exact).max()


def test_a_set_that_was_cut_and_filled_with_zeros():
    old, exact = simulated(4000, 2048, width=1.0), simulated(2500, 2560, width=1.0)
    old[:, 1024:] = 0
    exact[:, 640:] = 0
    rounded = np.fft.ifft(np.round(np.fft.fft(old), 4))
    for fids in (old, rounded):
        new = resample(fids, 1 / 4000, 1 / 2500, 2560)
        np.testing.assert_allclose(new, exact, atol=1e-4 * np.abs(exact).max())


def test_broad_lines_beside_narrow_ones(rng):
    def pattern(bandwidth, n_points):
        time = np.arange(n_points) / bandwidth
        broad = 100 * np.exp((-2j * np.pi * 400 - 150) * time) + 50 * np.exp((-2j * np.pi * 310 - 90) * time)
        return (broad + 0.2 * np.exp((-2j * np.pi * 573 - 3) * time))[None]

    noise = 0.01 * (rng.normal(size=4096) + 1j * rng.normal(size=4096))
    for fids, tolerance in ((pattern(4000, 4096), 1e-5), (pattern(4000, 4096) + noise, 5e-4)):
        new = resample(fids, 1 / 4000, 1 / 2200, 2048)
        np.testing.assert_allclose(new, pattern(2200, 2048), atol=tolerance * 150)


def test_very_short_fids_and_zeros():
    for n in (1, 2, 5, 20):
        fids = np.exp(0.1j * np.arange(n))[None]
        np.testing.assert_allclose(resample(fids, 1e-3, 1e-3, n), fids, atol=1e-3)
    assert not resample(np.zeros((1, 20), complex), 1e-3, 5e-4, 30).any()
