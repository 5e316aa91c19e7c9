"""Coil combination: the SNR that theory gives, the same size for water and data, and coils that hold nothing."""

import numpy as np
import pytest
from helpers.singlets import DWELL, FREQ, N, lines
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.preproc.coil_combination import coil_combination, combine_coils

SIGNAL = lines(((2.008, 1.0), (3.027, 0.7), (3.21, 0.6)))
WATER = 1000 * lines(((4.65, 1.0),))


def covariance_of(n, correlation, rng):
    """A Hermitian covariance with unequal variances."""
    root = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    mixed = np.eye(n) + correlation * root / np.linalg.norm(root)
    scale = np.diag(rng.uniform(0.5, 3, n))
    half = scale @ mixed
    return half @ half.conj().T, half


def acquired(fid, sensitivity, half, n, rng, sd=1.0, tags=("DIM_COIL", "DIM_DYN")):
    noise = rng.normal(size=(len(half), n * N)) + 1j * rng.normal(size=(len(half), n * N))
    fids = sensitivity[:, None, None] * fid + sd * (half @ noise).reshape(-1, n, N)
    return MrsData(np.moveaxis(fids, -1, 0)[None, None, None], DWELL, FREQ, "1H", tags)


@pytest.mark.parametrize("from_water", [True, False])
def test_snr_is_that_of_theory(from_water):
    rng = np.random.default_rng(3)
    covariance, half = covariance_of(8, 1.5, rng)
    sensitivity = rng.normal(size=8) + 1j * rng.normal(size=8)
    data = acquired(SIGNAL, sensitivity, half, 32, rng, sd=0.02)
    water = acquired(WATER, sensitivity, half, 2, rng, sd=0.02)
    combination = coil_combination(data, water if from_water else None, from_water=from_water)
    weights = combination.weights.reshape(-1)
    snr = abs(weights @ sensitivity) / np.sqrt((weights @ covariance @ weights.conj()).real)
    best = np.sqrt((sensitivity.conj() @ np.linalg.solve(covariance, sensitivity)).real)
    assert snr > 0.98 * best
    single = (abs(sensitivity) / np.sqrt(np.diag(covariance).real)).max()
    assert combination.whitened and combination.snr_gain == pytest.approx(best / single, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(coils=st.integers(1, 6), seed=st.integers(0, 1000), places=st.permutations([0, 1]))
def test_water_and_data_keep_their_ratio_wherever_the_coils_stand(coils, seed, places):
    rng = np.random.default_rng(seed)
    sensitivity = rng.normal(size=coils) + 1j * rng.normal(size=coils)
    data = acquired(SIGNAL, sensitivity, np.eye(coils), 4, rng, sd=1e-6)
    water = acquired(WATER, sensitivity, np.eye(coils), 4, rng, sd=1e-6)
    if places == [1, 0]:
        swap = {"fids": np.swapaxes(data.fids, 4, 5), "dim_tags": ("DIM_DYN", "DIM_COIL")}
        data = MrsData(**{**vars(data), **swap})
    combination = coil_combination(data, water, from_water=True)
    one, other = combine_coils(data, combination), combine_coils(water, combination)
    assert one.dim_tags == other.dim_tags == ("DIM_DYN",)
    size = np.linalg.norm(sensitivity)
    assert np.allclose(other.fids[0, 0, 0, :, 0], size * WATER, atol=1e-2 * size)
    assert np.allclose(one.fids[0, 0, 0, :, 1], size * SIGNAL, atol=1e-3 * size)


def test_a_dead_coil_and_a_spoilt_transient_do_no_harm():
    rng = np.random.default_rng(1)
    sensitivity = np.array([1, 1j, 0.5, 0])
    data = acquired(SIGNAL, sensitivity, np.diag([1, 1, 1, 0]), 8, rng, sd=1e-3)
    data.fids[..., 3, :] = 0
    data.fids[0, 0, 0, 100, 1, 2] = np.nan
    combined = combine_coils(data, coil_combination(data))
    usable = np.isfinite(combined.fids).all(3)[0, 0, 0]
    assert usable.tolist() == [True, True, False, *[True] * 5]
    assert np.abs(combined.fids[0, 0, 0, :, 0] - 1.5 * SIGNAL).max() < 0.02


def test_water_of_other_coils_is_refused():
    rng = np.random.default_rng(0)
    data = acquired(SIGNAL, np.ones(4), np.eye(4), 2, rng)
    with pytest.raises(DataError, match="3 coils.*4"):
        coil_combination(data, acquired(WATER, np.ones(3), np.eye(3), 2, rng), from_water=True)
