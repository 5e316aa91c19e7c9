"""Volumes read voxel by voxel: the same numbers as the whole file gives."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.io import nifti, volume


def scaled(path, data, slope, intercept):
    """Write data with the scaling of the header set, as some converters do; the numbers in the file stay."""
    file = nifti.save(path, data)
    raw = bytearray(file.read_bytes())
    size = int(np.frombuffer(raw[:4], "<i4")[0])
    place, kind = (112, "<f4") if size == 348 else (176, "<f8")
    raw[place : place + 2 * np.dtype(kind).itemsize] = np.array([slope, intercept], kind).tobytes()
    file.write_bytes(bytes(raw))
    return file


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("slope, intercept", [(1, 0), (0, 0), (np.nan, np.nan), (1e-3, 0), (-2.5, 0), (3e4, 0.25)])
def test_the_scaling_of_the_header_is_read_by_both(rng, tmp_path, dtype, slope, intercept):
    shape = (3, 2, 2, 32)
    fids = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    file = scaled(tmp_path / "a.nii", nifti.MrsData(fids, 5e-4, 123.2, "1H"), slope, intercept)
    whole = nifti.load(file).fids
    factor, offset = (slope, intercept) if slope and np.isfinite(slope) else (1, 0)
    np.testing.assert_allclose(whole, factor * fids + offset, rtol=1e-6)
    opened = volume.open_volume(file, tmp_path)
    np.testing.assert_array_equal(opened.fids(np.arange(12)), whole.reshape(12, -1))
    np.testing.assert_array_equal(opened.fids(np.array([7, 2])), whole.reshape(12, -1)[[7, 2]])


@pytest.mark.parametrize("name", ["A.NII.GZ", "A.NII", "a.Nii.gz"])
def test_capitals_in_the_ending(rng, tmp_path, name):
    shape = (2, 2, 1, 32)
    fids = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    file = nifti.save(tmp_path / "small.nii.gz" if name.lower().endswith("gz") else tmp_path / "small.nii",
                      nifti.MrsData(fids, 5e-4, 123.2, "1H"))  # fmt: skip
    file = file.rename(tmp_path / name)
    np.testing.assert_array_equal(nifti.load(file).fids, fids)
    assert nifti.load_header(file).dwelltime == 5e-4
    np.testing.assert_array_equal(volume.open_volume(file, tmp_path).fids(np.arange(4)), fids.reshape(4, -1))
    assert nifti.save(tmp_path / "sub" / name, nifti.load(file)).name == name
    np.testing.assert_array_equal(nifti.load(tmp_path / "sub" / name).fids, fids)


def test_a_file_in_capitals_that_is_none(tmp_path):
    for name, content in (("A.NII", b"nothing"), ("B.NII.GZ", b"nothing"), ("C.NII", bytes(600))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: "):
            nifti.load(tmp_path / name)


def test_a_frequency_in_hertz(rng, tmp_path):
    fids = rng.normal(size=(1, 1, 1, 32)) + 1j * rng.normal(size=(1, 1, 1, 32))
    file = nifti.save(tmp_path / "hz.nii", nifti.MrsData(fids, 5e-4, 127.7e6, "1H"))
    data = nifti.load(file)
    assert data.spec_freq_mhz == pytest.approx(127.7)
    assert volume.open_volume(file, tmp_path).axes.spec_freq_mhz == pytest.approx(127.7)
    # What is written from it is in MHz, as the standard demands.
    assert nifti.load(nifti.save(tmp_path / "mhz.nii", data)).header["SpectrometerFrequency"] == [127.7]


@pytest.mark.parametrize("mapped", [1, 700, 2**26])
def test_voxels_far_apart_are_read_in_parts(rng, tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(volume, "_MAPPED_BYTES", mapped)
    shape = (5, 4, 3, 32)
    fids = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    opened = volume.open_volume(nifti.save(tmp_path / "a.nii", nifti.MrsData(fids, 5e-4, 123.2, "1H")), tmp_path)
    index = np.array([59, 0, 31])
    np.testing.assert_array_equal(opened.fids(index), fids.reshape(60, -1)[index])
