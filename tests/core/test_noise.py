"""Noise is measured where there is some."""

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.noise import filtered_noise, noise_outside, remaining_band
from fsl_mrs_dl.core.transients import combination
from fsl_mrs_dl.core.units import fid_to_spec, spec_to_fid

AXES = Axes(1024, 1 / 2000, 123.2)


def spectra(snr, n=20, axes=AXES, fwhm_hz=6.0):
    """Spectra of 25 lines, the highest ``snr`` times the SD of the noise per channel."""
    random, time = np.random.default_rng(int(snr)), axes.time()
    places, heights = random.uniform(0.8, 4.1, (25, 1)), random.uniform(0.1, 1, (25, 1))
    lines = (heights * np.exp((2j * np.pi * axes.ppm_to_hz(places) - np.pi * fwhm_hz) * time)).sum(0)
    spec = fid_to_spec(lines)
    noise = random.standard_normal((n, axes.n_points)) + 1j * random.standard_normal((n, axes.n_points))
    return np.abs(spec).max() * (spec / np.abs(spec).max() + noise / snr), np.abs(spec).max() / snr


@pytest.mark.parametrize("snr", [3, 30, 100, 300, 1e6, 1e12])
@pytest.mark.parametrize("n_points, fwhm_hz", [(1024, 6.0), (1024, 1.5), (4096, 10.0), (400, 6.0), (720, 6.0)])
def test_lines_are_no_noise(snr, n_points, fwhm_hz):
    axes = AXES.with_points(n_points)
    spec, sd = spectra(snr, axes=axes, fwhm_hz=fwhm_hz)
    assert not filtered_noise(spec, axes).any()
    assert not np.isfinite(remaining_band(spec, axes)).any()
    if snr < 500:
        np.testing.assert_allclose(noise_outside(spec, axes).mean(), sd, rtol=0.1)


@pytest.mark.parametrize("snr", [3, 20, 50])
@pytest.mark.parametrize("remains", [0, 1e-3, 0.1])
def test_noise_that_a_filter_took_from_the_ends_is_measured_between_lines(snr, remains):
    spec, sd = spectra(snr)
    spec[:, AXES.ppm() > 4.9] *= remains
    assert filtered_noise(spec, AXES).mean() >= 0.8
    assert np.median(noise_outside(spec, AXES)) == pytest.approx(sd, rel=0.35)


@pytest.mark.parametrize("low, high", [(-9, 3.8), (1.8, 9), (1.8, 3.8)])
@pytest.mark.parametrize("snr", [3, 50])
def test_the_band_that_a_filter_left_is_where_the_noise_is(snr, low, high):
    spec, sd = spectra(snr)
    ppm = AXES.ppm()
    spec *= 1 / (1 + np.exp((low - ppm) / 0.02)) / (1 + np.exp((ppm - high) / 0.02))
    for some in (spec, spec[:1]):
        limits = remaining_band(some, AXES)
        for limit, edge in zip(limits, (low, high)):
            assert np.isinf(limit) if abs(edge) > 5 else limit == pytest.approx(edge, abs=0.11)
    if low > 0 and high < 5:
        # A large part of the usual window has no noise, either.
        assert np.median(noise_outside(spec, AXES)) == pytest.approx(sd, rel=0.5)


def test_the_band_is_whole_where_noise_cannot_be_measured_or_the_bandwidth_ends():
    random = np.random.default_rng(0)
    for axes in (Axes(400, 1e-3, 127.0), Axes(256, 1e-3, 127.0), Axes(512, 1e-3, 50.0, "31P")):
        noise = random.standard_normal((3, axes.n_points)) + 1j * random.standard_normal((3, axes.n_points))
        assert remaining_band(noise, axes) == remaining_band(0 * noise, axes) == (-np.inf, np.inf)
        assert remaining_band(noise[:0], axes) == (-np.inf, np.inf)


def test_nuclei_without_a_window_are_left_alone():
    axes = Axes(512, 1e-3, 50.0, "129Xe")
    assert not filtered_noise(np.ones((3, 512), complex), axes).any()


def test_coils_with_values_of_any_size_have_weights():
    fid = 1e25 * torch.polar(torch.ones(3, 2, 64), torch.rand(3, 1, 1).expand(3, 2, 64) * 6).to(torch.complex64)
    weights = combination(fid)
    assert torch.isfinite(weights.abs()).all()
    assert ((weights @ fid.flatten(1)).abs() > 1.6 * fid.abs().max()).all()


@pytest.mark.parametrize("times", [1.5, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_zero_filled_spectra_have_the_noise_of_their_acquisition(times, kind):
    spec, sd = spectra(20)
    axes = AXES.with_points(int(times * AXES.n_points))
    fids = np.pad(spec_to_fid(spec), [(0, 0), (0, axes.n_points - AXES.n_points)]).astype(kind)
    found = noise_outside(fid_to_spec(fids), axes)
    np.testing.assert_allclose(found, noise_outside(spec, AXES) / np.sqrt(times), rtol=1e-3)
    assert np.median(found) == pytest.approx(sd / np.sqrt(times), rel=0.1)
    assert not filtered_noise(fid_to_spec(fids), axes).any()
