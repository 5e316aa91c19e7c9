"""NIfTI-MRS files: what goes in comes out, nothing half-written, messages that name the file and the remedy."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from nifti_mrs.nifti_mrs import NIFTI_MRS

from fsl_mrs_dl.core.errors import DataError, OutputError
from fsl_mrs_dl.io import nifti, output

AFFINE = np.array([[20.0, 0, 0, 3], [0, 25.0, 0, -4], [0, 0, 30.0, 5], [0, 0, 0, 1]])


@pytest.fixture
def data(rng):
    shape = (2, 1, 1, 32, 3, 4)
    fids = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    return nifti.MrsData(fids, 5e-4, 123.2, "1H", ("DIM_COIL", "DIM_DYN"), affine=AFFINE)


def plain(path, array):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


# ---- round trips


def test_everything_survives_a_round_trip(data, tmp_path):
    extra = {"Operator": ("A. N. Other", "who was there")}
    first = nifti.load(nifti.save(tmp_path / "sub" / "x.nii.gz", data, extra=extra))
    second = nifti.load(nifti.save(tmp_path / "again.nii.gz", first))
    for got in (first, second):
        np.testing.assert_array_equal(got.fids, data.fids)
        assert got.fids.dtype == np.complex64
        assert got.dim_tags == ("DIM_COIL", "DIM_DYN")
        assert (got.dwelltime, got.spec_freq_mhz, got.nucleus) == (pytest.approx(5e-4), 123.2, "1H")
        assert got.bandwidth == pytest.approx(2000)
        np.testing.assert_allclose(got.affine, AFFINE, atol=1e-5)
        assert "A. N. Other" in str(got.header["Operator"])
    assert second.header == first.header
    assert first.axis("DIM_DYN") == 5
    assert first.n_points == 32


def test_double_precision_survives(data, tmp_path):
    double = nifti.MrsData(data.fids.astype(np.complex128) * (1 + 1e-12), 5e-4, 123.2, "1H", data.dim_tags)
    got = nifti.load(nifti.save(tmp_path / "x.nii.gz", double))
    np.testing.assert_array_equal(got.fids, double.fids)
    assert got.fids.dtype == np.complex128


def test_the_extension_is_added_and_may_be_left_out_on_reading(data, tmp_path):
    assert nifti.save(tmp_path / "a", data).name == "a.nii.gz"
    assert nifti.save(tmp_path / "b.nii", data).name == "b.nii"
    np.testing.assert_array_equal(nifti.load(tmp_path / "a").fids, nifti.load(tmp_path / "b").fids)


def test_memory_holds_the_conjugate_of_the_file(data, tmp_path):
    path = nifti.save(tmp_path / "x.nii.gz", data)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), data.fids.conj())
    np.testing.assert_array_equal(NIFTI_MRS(path)[:], nifti.load(path).fids)


def test_a_single_voxel_without_higher_dimensions(rng, tmp_path):
    fid = rng.normal(size=(1, 1, 1, 64)) + 1j * rng.normal(size=(1, 1, 1, 64))
    got = nifti.load(nifti.save(tmp_path / "x.nii.gz", nifti.MrsData(fid, 1e-3, 49.9, "31P")))
    np.testing.assert_array_equal(got.fids, fid)
    assert (got.dim_tags, got.nucleus) == ((), "31P")


def test_a_link_is_followed(data, tmp_path):
    path = nifti.save(tmp_path / "x.nii.gz", data)
    (tmp_path / "link").symlink_to(path)
    np.testing.assert_array_equal(nifti.load(tmp_path / "link").fids, data.fids)


def test_provenance_is_appended(data, tmp_path):
    one = nifti.load(
        nifti.save(tmp_path / "1.nii.gz", data, method="Frequency and phase correction", details="dl-align")
    )
    two = nifti.load(nifti.save(tmp_path / "2.nii.gz", one, method="Signal averaging", details="mean"))
    steps = two.header["ProcessingApplied"]
    assert [step["Method"] for step in steps] == ["Frequency and phase correction", "Signal averaging"]
    assert steps[0] == one.header["ProcessingApplied"][0]
    assert steps[1]["Program"] == "FSL-MRS-DL"
    assert steps[1]["Details"] == "mean"
    assert len(one.header["ProcessingApplied"]) == 1
    three = nifti.load(nifti.save(tmp_path / "3.nii.gz", two))
    assert three.header["ProcessingApplied"] == steps


def test_real_data_from_a_scanner(invivo_3t, tmp_path, reference):
    got = nifti.load(invivo_3t)
    assert got.fids.shape == (1, 1, 1, 2048)
    assert got.dwelltime == pytest.approx(5e-4)
    np.testing.assert_array_equal(NIFTI_MRS(invivo_3t)[:], got.fids)
    expected = reference["fid"] / np.linalg.norm(reference["fid"])
    np.testing.assert_allclose(got.fids[0, 0, 0] / np.linalg.norm(got.fids), expected, atol=1e-6)
    again = nifti.load(nifti.save(tmp_path / "x.nii.gz", got, method="x"))
    np.testing.assert_array_equal(again.fids, got.fids)
    assert set(again.header) == set(got.header) | {"ProcessingApplied"}


# ---- what is wrong is said


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.nii\.gz: no such file; give the path"):
        nifti.load(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize("name", ["notes.txt", "x.nii", "x.nii.gz"])
def test_not_nifti(tmp_path, name, capfd):
    (tmp_path / name).write_text("These are not the spectra you are looking for. " * 20)
    with pytest.raises(DataError, match=rf"{name}: cannot be read as NIfTI-MRS .*spec2nii"):
        nifti.load(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_truncated_file(data, tmp_path):
    path = nifti.save(tmp_path / "x.nii.gz", data)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match="x.nii.gz: "):
        nifti.load(path)


def test_plain_nifti(tmp_path):
    with pytest.raises(DataError, match=r"t1\.nii\.gz: not a NIfTI-MRS file .*spec2nii"):
        nifti.load(plain(tmp_path / "t1.nii.gz", np.ones((4, 4, 4), np.float32)))


def test_real_numbers(data, tmp_path):
    path = nifti.save(tmp_path / "x.nii.gz", data)
    image = nibabel.load(path)
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    nibabel.save(nibabel.Nifti2Image(np.asarray(image.dataobj).real, image.affine, header), tmp_path / "real.nii.gz")
    with pytest.raises(DataError, match=r"real\.nii\.gz: holds real numbers \(float32\)"):
        nifti.load(tmp_path / "real.nii.gz")


def test_a_dimension_that_is_not_there(data):
    with pytest.raises(DataError, match="no dimension DIM_EDIT .*DIM_COIL, DIM_DYN"):
        data.axis("DIM_EDIT")


def test_nothing_but_nan_or_zeros(data):
    usable = nifti.check_fids(data)
    assert usable.shape == (2, 1, 1, 3, 4)
    assert usable.all()
    data.fids[0, 0, 0, 7, 1, 2] = np.nan
    data.fids[1, 0, 0, :, 0, 0] = 0
    usable = nifti.check_fids(data)
    assert usable.sum() == usable.size - 2
    assert not usable[0, 0, 0, 1, 2]
    assert not usable[1, 0, 0, 0, 0]
    data.fids[:] = np.nan
    with pytest.raises(DataError, match="every FID is zero or holds NaN"):
        nifti.check_fids(data)
    assert not nifti.check_fids(data, need_signal=False).any()


def test_fids_that_begin_with_zeros_are_named(data):
    """Their water had no size and no line shape, and their spectra a phase that no fit has."""
    data.fids[0, 0, 0, :2, 1, 2] = 0
    data.fids[1, 0, 0, :1, 0, 0] = 0  # may be chance
    usable = nifti.check_fids(data)
    assert usable.sum() == usable.size - 1 and not usable[0, 0, 0, 1, 2]
    data.fids[:, :, :, :7] = 0
    with pytest.raises(DataError, match="begin with 7 zeros, the delay of a digital filter .*; cut them off .*water"):
        nifti.check_fids(data)
    # Points before the echo are left out before anything else is done.
    data.header["AcquisitionStartTime"] = -7 * data.dwelltime
    assert nifti.check_fids(data).all()


def test_too_few_points(rng):
    short = nifti.MrsData(np.ones((1, 1, 1, 8), complex), 1e-3, 123.2, "1H")
    with pytest.raises(DataError, match="8 points; at least 16"):
        nifti.check_fids(short)


# ---- nothing half-written


def test_output_below_a_file(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written .*choose another output"):
        nifti.save(tmp_path / "file" / "x.nii.gz", data)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_output_folder_read_only(data, tmp_path, monkeypatch):
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):  # the superuser may write anywhere

        def denied(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(output.tempfile, "mkstemp", denied)
    try:
        with pytest.raises(OutputError, match=r"x\.nii\.gz: cannot be written \(Permission denied\)"):
            nifti.save(tmp_path / "x.nii.gz", data)
    finally:
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exception", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(data, tmp_path, monkeypatch, exception):
    path = nifti.save(tmp_path / "x.nii.gz", data)
    before = path.read_bytes()

    def fail(self, file):
        with open(file, "wb") as handle:
            handle.write(b"half a fi")
        raise exception

    monkeypatch.setattr(NIFTI_MRS, "save", fail)
    with pytest.raises(OutputError if isinstance(exception, OSError) else KeyboardInterrupt):
        nifti.save(path, data)
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]
    assert path.read_bytes() == before


def test_results_get_the_ordinary_file_mode(data, tmp_path):
    old = os.umask(0o027)
    try:
        path = nifti.save(tmp_path / "x.nii.gz", data)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_new_output_folder(tmp_path):
    assert output.new_output_folder(tmp_path / "a" / "b", overwrite=False) == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()
    assert output.new_output_folder(tmp_path, overwrite=False) == tmp_path  # empty
    (tmp_path / "summary.csv").write_text("")
    with pytest.raises(OutputError, match="exists already; .*overwrite"):
        output.new_output_folder(tmp_path, overwrite=False)
    assert output.new_output_folder(tmp_path, overwrite=True) == tmp_path
    # Data that were given unpacked are kept so beside their fit.
    (tmp_path / "data.nii").touch()
    assert output.new_output_folder(tmp_path, overwrite=True) == tmp_path
    (tmp_path / "data.nii").unlink()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        output.new_output_folder(tmp_path / "summary.csv", overwrite=True)


def test_temporary_files_of_a_killed_process_are_removed_by_the_next(tmp_path):
    """Those that a running process writes stay."""
    code = (
        "import os, sys; from fsl_mrs_dl.io import output\n"
        "with output.folder_for(sys.argv[1], True) as folder:\n"
        "    (folder / 'options.txt').write_text('x')\n"
        "    with output.whole_file(folder.parent / 'table.csv') as file:\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "out"
    subprocess.run([sys.executable, "-c", code, str(path)])
    assert len(list(tmp_path.glob(".*"))) == 2 and not path.exists()
    with output.folder_for(path, False) as outer:
        with output.folder_for(path, False) as folder:
            (folder / "options.txt").write_text("x")
        assert list(tmp_path.glob(".out*")) == [outer]
        shutil.rmtree(path)
    output.write_text(tmp_path / "table.csv", "x")
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", "table.csv"}


def test_data_are_printed_in_one_line():
    data = nifti.MrsData(np.zeros((1, 1, 1, 16, 4), complex), 5e-4, 123.2, "1H", ("DIM_DYN",))
    text = "MrsData(the data: 1 x 1 x 1 voxels, 16 points, DIM_DYN 4, 1H at 123.2 MHz, dwell time 0.5 ms)"
    assert repr(data) == text
