"""Axes, windows and the Fourier convention against FSL-MRS and against closed forms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import OptionError

COMPLEX_ARRAYS = hnp.arrays(
    np.complex128,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=33),
    elements=st.complex_numbers(max_magnitude=1e6, allow_nan=False, allow_infinity=False),
)


def test_axes_and_default_window_are_fsl_mrs_s(reference):
    dwelltime, frequency = float(reference["dwelltime_s"]), float(reference["spec_freq_hz"]) / 1e6
    n = len(reference["freq"])
    np.testing.assert_allclose(units.frequency_axis(n, dwelltime), reference["freq"], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(units.time_axis(n, dwelltime), reference["time"], rtol=1e-12)
    ppm = units.ppm_axis(n, dwelltime, frequency)
    assert units.window_indices(ppm, (0.2, 4.2)) == (442, 965) == tuple(reference["window"])
    assert units.window_indices(ppm, units.nucleus("1H").ppmlim) == (442, 965)


def test_window_limits_in_either_order_and_none():
    ppm = units.ppm_axis(1024, 1 / 2000, 123.2)
    assert units.window_indices(ppm, (4.2, 0.2)) == units.window_indices(ppm, (0.2, 4.2))
    assert units.window_indices(ppm, None) == (0, 1024)


@settings(max_examples=60, deadline=None)
@given(COMPLEX_ARRAYS)
def test_spectrum_and_fid_are_exact_inverses_in_numpy_and_torch(fid):
    scale = np.abs(fid).max() + 1e-300
    before = fid.copy()
    spec = units.fid_to_spec(fid)
    np.testing.assert_array_equal(fid, before)
    np.testing.assert_allclose(units.spec_to_fid(spec) / scale, fid / scale, atol=1e-13)
    np.testing.assert_allclose(units.fid_to_spec(units.spec_to_fid(fid)) / scale, fid / scale, atol=1e-13)
    tensor = torch.as_tensor(before)
    torch_spec = units.fid_to_spec(tensor)
    np.testing.assert_array_equal(tensor.numpy(), before)
    np.testing.assert_allclose(torch_spec.numpy() / scale, spec / scale, atol=1e-13)
    np.testing.assert_allclose(units.spec_to_fid(torch_spec).numpy() / scale, fid / scale, atol=1e-13)


def test_single_precision_stays_single_in_torch():
    fid = torch.ones(3, 8, dtype=torch.complex64)
    assert units.fid_to_spec(fid).dtype == torch.complex64
    assert units.spec_to_fid(fid).dtype == torch.complex64


@settings(max_examples=60, deadline=None)
@given(st.floats(-2.0, 9.0), st.sampled_from([64.0, 123.2, 297.2]), st.sampled_from([512, 1023, 2048]))
def test_a_resonance_lands_at_its_chemical_shift(ppm, frequency, n):
    dwelltime = 1 / (16 * frequency)
    t = np.arange(n) * dwelltime
    fid = np.exp((2j * np.pi * units.ppm_to_hz(ppm, frequency) - 20) * t)
    axis = units.ppm_axis(n, dwelltime, frequency)
    assert np.all(np.diff(axis) > 0)
    # Half a bin to the nearest point, and up to one because the axis includes both ends of the bandwidth.
    assert abs(axis[np.abs(units.fid_to_spec(fid)).argmax()] - ppm) <= 1.51 * (axis[1] - axis[0])


def test_the_first_point_is_halved_and_the_transform_unitary():
    fid = np.zeros(16, complex)
    fid[0] = 2
    np.testing.assert_allclose(units.fid_to_spec(fid), np.full(16, 1 / 4), atol=1e-15)


@given(st.floats(-50, 50), st.sampled_from(["1H", "2H", "13C", "31P", "19F"]))
def test_ppm_and_hz_are_inverses(ppm, name):
    assert units.hz_to_ppm(units.ppm_to_hz(ppm, 120.0, name), 120.0, name) == pytest.approx(ppm, abs=1e-9)


def test_carrier_of_protons_and_phosphorus():
    assert units.ppm_to_hz(4.65, 123.2) == 0
    assert units.ppm_to_hz(2.0, 49.9, "31P") == pytest.approx(99.8)


def test_nuclei():
    assert units.nucleus("1H").ppmlim == (0.2, 4.2)
    assert units.nucleus("31P").ppmlim == (-20.0, 10.0)
    assert units.nucleus("19F").ppmlim is None
    assert units.nucleus("19F").ppm_reference == 0
    for wrong in ("water", "", "H1", "1", "1H2", "1h", "31p"):
        with pytest.raises(OptionError, match="not a nucleus"):
            units.nucleus(wrong)


def test_units_do_not_load_torch():
    code = "import sys, fsl_mrs_dl.core.units; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
