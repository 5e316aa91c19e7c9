"""Removal of residual water: metabolites stay, water goes, and nothing is done where nothing is needed."""

import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
from helpers.singlets import DWELL, FREQ, TIME, N, lines

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.preproc import water_removal
from fsl_mrs_dl.preproc.water_removal import lines_within, remove_residual_water

AXES = Axes(N, DWELL, FREQ, "1H")
CLEAN = lines(((2.008, 1.0), (3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (4.05, 0.2)))
WINDOW = slice(*AXES.window((0.2, 4.2)))


def water(height, damping=25.0, seed=0):
    """Residual water of several lines with phases of their own."""
    rng = np.random.default_rng(seed)
    places = AXES.ppm_to_hz(np.array([4.62, 4.68, 4.75]))
    turns = np.exp(2j * np.pi * places[:, None] * TIME - damping * rng.uniform(0.7, 1.5, (3, 1)) * TIME)
    return height * (np.exp(2j * np.pi * rng.uniform(size=3)) @ turns) / 3


def data_of(*fids):
    return MrsData(np.stack(fids, -1)[None, None, None], DWELL, FREQ, "1H", ("DIM_USER_0",))


def noise(sd, seed):
    rng = np.random.default_rng(seed)
    return sd * (rng.normal(size=N) + 1j * rng.normal(size=N))


@pytest.mark.parametrize("height", [20, 200])
def test_the_window_comes_nearer_to_the_truth(height):
    measured = CLEAN + water(height) + noise(0.02, 1)
    out = remove_residual_water(data_of(measured))
    before, after = (
        np.linalg.norm(fid_to_spec(fid - CLEAN)[WINDOW]) for fid in (measured, out.data.fids[0, 0, 0, :, 0])
    )
    of_noise = np.linalg.norm(fid_to_spec(noise(0.02, 1))[WINDOW])
    assert out.removed.all() and after < 1.1 * of_noise < before


def test_spectra_without_water_in_the_window_stay_bit_for_bit():
    measured = CLEAN + water(0.05) + noise(0.1, 2)
    out = remove_residual_water(data_of(measured, CLEAN + water(300) + noise(0.1, 3), np.zeros(N)))
    assert out.removed.tolist() == [[[[False, True, False]]]]
    assert np.array_equal(out.data.fids[..., 0], measured[None, None, None])
    assert np.isnan(out.tail[0, 0, 0, 2])


def test_lines_are_the_same_whenever_they_are_found(rng):
    axes = Axes(1024, 1 / 2000, 123.2)
    time, hz = axes.dwelltime * np.arange(1024), axes.ppm_to_hz(np.array([4.7, 3.0]))
    water, other = (np.exp((2j * np.pi * each - 20) * time) for each in hz)
    noise = 1e-3 * (rng.standard_normal(1024) + 1j * rng.standard_normal(1024))
    found = [lines_within(5 * water + other + noise, axes) for _ in range(3)]
    np.testing.assert_allclose(found[0], 5 * water, atol=0.02)
    for again in found[1:]:
        np.testing.assert_array_equal(again, found[0])


@pytest.mark.parametrize("n_points", [205, 480])
def test_poles_are_those_of_a_truncated_decomposition(n_points):
    fid = (CLEAN + water(20) + noise(0.02, 5))[:n_points]
    turns, damping = water_removal._lines(fid, 25)
    half = n_points - n_points // 2 - 1
    hankel = scipy.linalg.hankel(fid[: half + 1], fid[half:])
    left = scipy.sparse.linalg.svds(hankel, k=25, v0=np.ones(min(hankel.shape), complex))[0]
    poles = np.log(scipy.linalg.eigvals(np.linalg.lstsq(left[:-1], left[1:], rcond=None)[0]))
    found = np.exp(damping + 2j * np.pi * turns)
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(np.exp(poles)), atol=1e-9)


def test_noise_alone_has_lines_of_finite_height():
    # Some of its poles grow, to far beyond what a number holds.
    fid = noise(1.0, 6) * np.exp(TIME / TIME[-1] * 5)
    turns, damping = water_removal._lines(fid, 25)
    assert damping.max() > 0 and np.isfinite(turns).all() and np.isfinite(lines_within(fid, AXES)).all()


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hlsvdpropy.hlsvd", None)
    with pytest.raises(DataError, match="cannot be imported.*pip install hlsvdpropy 'setuptools<81'"):
        lines_within(CLEAN, AXES)
