"""FIDs that were filled with zeros behind the acquisition give the estimates of the acquisition."""

import numpy as np
import pytest
from helpers.singlets import DWELL, FREQ, TIME, N, lines

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.coherence import lost_in_average
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.preproc.water_removal import remove_residual_water

pytestmark = pytest.mark.usefixtures("one_thread")

BRAIN = lines(((2.008, 1.0), (3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (3.55, 0.3), (2.35, 0.3)))


def transients(n, sd, hz=0.0, seed=0):
    """Transients ``(n, n_points)`` whose frequency drifts."""
    rng = np.random.default_rng(seed)
    fids = apply_shift_phase(np.broadcast_to(BRAIN, (n, N)), np.linspace(-hz, hz, n), 0, DWELL)
    return fids + sd * (rng.standard_normal((n, N)) + 1j * rng.standard_normal((n, N)))


def filled(fids, times):
    return np.pad(fids, [(0, 0)] * (fids.ndim - 1) + [(0, (times - 1) * fids.shape[-1])])


def data_of(fids):
    return MrsData(fids.T[None, None, None], DWELL, FREQ, "1H", ("DIM_DYN",))


@pytest.mark.parametrize("times", [2, 4])
def test_an_alignment_has_the_same_coherence(times):
    fids = transients(24, 0.3, hz=4.0)
    plain, more = (align.align_data(data_of(one), AlignOptions(device="cpu")) for one in (fids, filled(fids, times)))
    here, there = plain.coherence[0], more.coherence[0]
    assert (there.before, there.after) == pytest.approx((here.before, here.after), abs=1e-6)
    np.testing.assert_allclose(more.alignment.shift_hz, plain.alignment.shift_hz, atol=1e-6)
    assert more.data.fids.shape[3] == more.alignment.reference.shape[-1] == times * N
    assert not more.data.fids[:, :, :, N:].any()


def test_transients_that_agree_do_not_count_as_scattered():
    for times in (1, 2, 4):
        fids = filled(transients(128, 1.2), times)
        assert lost_in_average(fids[None], Axes(fids.shape[-1], DWELL, FREQ)) == 0
    assert lost_in_average(filled(transients(64, 0.1, hz=8.0), 2)[None], Axes(2 * N, DWELL, FREQ)) > 0.1


def test_residual_water_of_an_acquisition_that_is_short_is_removed():
    used = N // 4
    rng = np.random.default_rng(1)
    noise = 0.02 * (rng.normal(size=N) + 1j * rng.normal(size=N))
    acquired = np.arange(N) < used
    water = 60 * np.exp(2j * np.pi * Axes(N, DWELL, FREQ).ppm_to_hz(4.68) * TIME - 25 * TIME)
    out = remove_residual_water(data_of(((BRAIN + water + noise) * acquired)[None]))
    assert out.removed.all() and not out.data.fids[0, 0, 0, used:].any()
    window = slice(*Axes(N, DWELL, FREQ).window((0.2, 4.2)))
    left = fid_to_spec(out.data.fids[0, 0, 0, :, 0] - BRAIN * acquired)[window]
    assert np.linalg.norm(left) < 1.3 * np.linalg.norm(fid_to_spec(noise * acquired)[window])
