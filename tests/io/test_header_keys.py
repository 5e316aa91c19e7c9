"""Header extensions as other programs write them, key by key: read right, or refused in a true line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_mrs.nifti_mrs import NIFTI_MRS

import fsl_mrs_dl
from fsl_mrs_dl import align
from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.fitting.data import fit_data
from fsl_mrs_dl.fitting.header_facts import aligned_before, seconds_of, with_header
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.header_keys import element_values
from fsl_mrs_dl.io.volume import open_volume

REQUIRED = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"]}


@pytest.fixture(scope="module")
def spectra(simulate):
    """Three noise-free spectra of the simulated basis set, ``(3, 1024)``."""
    return simulate(3, snr=200, seed=5, alike=True).fids


def write(path, fids, header=(), dwelltime=5e-4, units="sec", content=None):
    """A NIfTI-MRS file whose header extension is written as it is; ``fids`` ``(x, y, z, n_points, ...)``."""
    image = nibabel.Nifti2Image(np.asarray(fids).conj().astype(np.complex64), np.eye(4))
    image.header["intent_name"] = b"mrs_v0_9"
    image.header["pixdim"][4:] = [dwelltime, 1, 1, 1]
    image.header.set_xyzt_units("mm", units)
    content = json.dumps({**REQUIRED, **dict(header)}).encode() if content is None else content
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(44, content))
    nibabel.save(image, path)
    return path


def one_voxel(fids):
    """Transients ``(n, n_points)`` as a file holds them."""
    return np.moveaxis(np.asarray(fids), 0, -1)[None, None, None]


def noise(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


# ---- the frequency axis


@pytest.mark.parametrize(
    ("keys", "centre"),
    [
        ({"RxOffset": -1.65}, 3.0),
        ({"SpecFreqChemShift": 3.0}, 3.0),
        ({"SpecFreqChemShift": 4.7, "RxOffset": [-2.5]}, 2.2),
        ({"RxOffset": {"Value": -1.65, "Description": ""}}, 3.0),
        ({"RxOffset": "0", "SpecFreqChemShift": None, "TxOffset": -2.0}, 4.65),
    ],
)
def test_a_carrier_elsewhere(spectra, tmp_path, keys, centre):
    time = np.arange(1024) * 5e-4
    stored = spectra * np.exp(-2j * np.pi * (centre - 4.65) * 123.2 * time)
    path = write(tmp_path / "x.nii.gz", stored[:, None, None], keys)
    data = nifti.load(path)
    np.testing.assert_allclose(data.fids[:, 0, 0], spectra, atol=1e-5 * np.abs(spectra).max())
    assert data.moved_hz == pytest.approx((centre - 4.65) * 123.2)
    assert any("in the middle" in note or "middle of its spectra" in note for note in data.notes) == (centre != 4.65)
    # A volume has the same spectra, and what is written is right without the keys.
    volume = open_volume(path, tmp_path)
    np.testing.assert_allclose(volume.fids(np.arange(3)), spectra, atol=1e-5 * np.abs(spectra).max())
    again = nifti.load(nifti.save(tmp_path / "again.nii.gz", data))
    np.testing.assert_array_equal(again.fids, data.fids)
    assert not again.moved_hz


def test_an_image_keeps_its_carrier(spectra, tmp_path):
    time = np.arange(1024) * 5e-4
    stored = one_voxel(spectra * np.exp(2j * np.pi * 1.65 * 123.2 * time))
    path = write(tmp_path / "x.nii.gz", stored, {"RxOffset": -1.65, "dim_5": "DIM_DYN"})
    image = NIFTI_MRS(path)
    aligned, _ = align(image)
    assert aligned.hdr_ext["RxOffset"] == -1.65
    from_file, _ = align(nifti.load(path))
    written = nifti.from_image(aligned)
    np.testing.assert_allclose(written.fids, from_file.fids, atol=1e-4 * np.abs(stored).max())


def test_a_start_before_the_echo(spectra, rng, tmp_path):
    early = np.concatenate([noise(rng, 3, 40), spectra], 1)
    path = write(tmp_path / "x.nii.gz", early[:, None, None], {"AcquisitionStartTime": -40 * 5e-4})
    data = nifti.from_echo(nifti.load(path))
    np.testing.assert_allclose(data.fids[:, 0, 0], spectra, atol=1e-5 * np.abs(spectra).max())
    assert "first 40 points" in data.notes[-1]
    assert data.header["AcquisitionStartTime"] == 0
    for number, n_points in enumerate((190, 120)):
        header = {"AcquisitionStartTime": -0.09}
        never = write(tmp_path / f"never{number}.nii.gz", early[:, None, None, :n_points], header)
        (tmp_path / str(number)).mkdir()
        with pytest.raises(DataError, match="at least 16 are needed"):
            open_volume(never, tmp_path / str(number))
        with pytest.raises(DataError, match="at least 16 are needed"):
            nifti.check_fids(nifti.from_echo(nifti.load(never)))
    volume = open_volume(path, tmp_path)
    assert volume.n_points == 1024
    assert volume.about.notes == data.notes
    np.testing.assert_allclose(volume.fids(np.array([2]))[0], spectra[2], atol=1e-5 * np.abs(spectra).max())


@pytest.mark.parametrize("model", ["fsl-mrs", "in-vivo"])
def test_a_start_after_the_echo(sim_basis, tmp_path, model):
    start = 2.3e-3
    options = FitOptions(
        spectral_model=model, mm="none" if model == "in-vivo" else None, init="classical", prior="none"
    )
    fits = []
    conc = np.linspace(4, 12, sim_basis.n_metabs)
    for delay in (0.0, start):
        fids = sim_basis.resampled(5e-4, 960, delay)
        signal = conc @ fids * np.exp(-12 * (np.arange(960) * 5e-4 + delay))
        signal = signal + 0.02 * noise(np.random.default_rng(1), 960)
        path = write(tmp_path / f"{delay}.nii.gz", signal[None, None, None], {"AcquisitionStartTime": delay})
        fits.append(fit_data(nifti.load(path), sim_basis, options).fit)
    one, other = (fit.estimate(options.estimate)[0] for fit in fits)
    one, other = (np.asarray(getattr(values, "value", values)).ravel()[: len(conc)] for values in (one, other))
    np.testing.assert_allclose(other / other.sum(), one / one.sum(), atol=0.01)


def test_times_in_milliseconds(rng, tmp_path):
    path = write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), {"EchoTime": 35, "RepetitionTime": "2000"})
    data = nifti.load(path)
    options = with_header(FitOptions(), data)
    assert (options.echo_time_s, options.repetition_time_s) == (pytest.approx(0.035), pytest.approx(2.0))
    assert [note.split()[0] for note in data.notes] == ["EchoTime", "RepetitionTime"]


def test_echo_times_along_a_dimension(rng, tmp_path):
    header = {"dim_5": "DIM_INDIRECT_0", "dim_5_header": {"EchoTime": [0.03, 0.04, 0.05]}}
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64, 3), header))
    assert with_header(FitOptions(), data).echo_time_s == pytest.approx(0.04)


def test_k_space_is_refused(rng, tmp_path):
    path = write(tmp_path / "x.nii.gz", noise(rng, 4, 4, 1, 64), {"kSpace": [True, True, False]})
    with pytest.raises(DataError, match="holds k-space .*reconstruct"):
        nifti.load(path)
    with pytest.raises(DataError, match="holds k-space"):
        open_volume(path, tmp_path)
    assert nifti.load(write(tmp_path / "y.nii.gz", noise(rng, 1, 1, 1, 64), {"kSpace": [True, False, False]}))


def test_an_axis_that_varies_is_refused(rng, tmp_path):
    header = {"dim_5": "DIM_USER_0", "dim_5_header": {"RxOffset": [0.0, -1.0]}}
    with pytest.raises(DataError, match="RxOffset varies along DIM_USER_0 .*split"):
        nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64, 2), header))


@pytest.mark.parametrize(
    ("dwelltime", "header", "expected", "remark"),
    [
        (0.5, {"SpectralWidth": 2000}, 5e-4, "is none"),
        (0.0, {"SpectralWidth": 2000.0}, 5e-4, "is none"),
        (5e-4, {"SpectralWidth": 1200.0}, 5e-4, "contradicts"),
        (5e-4, {"SpectralWidth": 2000.001}, 5e-4, ""),
    ],
)
def test_dwell_time_and_bandwidth(rng, tmp_path, dwelltime, header, expected, remark):
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), header, dwelltime=dwelltime))
    assert data.dwelltime == pytest.approx(expected)
    assert remark in " ".join(data.notes)
    assert bool(data.notes) == bool(remark)
    assert nifti.load(nifti.save(tmp_path / "again.nii.gz", data)).dwelltime == pytest.approx(expected)


@pytest.mark.parametrize("dwelltime", [0.0, -1.0, 0.5, np.nan])
def test_no_dwell_time(rng, tmp_path, dwelltime):
    path = write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), dwelltime=dwelltime)
    with pytest.raises(DataError, match=r"dwell time of .* \(pixdim 4\)"):
        nifti.load(path)


@pytest.mark.parametrize(("units", "dwelltime"), [("msec", 0.5), ("usec", 500.0)])
def test_units_of_the_dwell_time(rng, tmp_path, units, dwelltime):
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), dwelltime=dwelltime, units=units))
    assert data.dwelltime == pytest.approx(5e-4)


# ---- required keys


@pytest.mark.parametrize(
    ("header", "frequency", "nucleus"),
    [
        ({"SpectrometerFrequency": 123.2, "ResonantNucleus": "1H"}, 123.2, "1H"),
        ({"SpectrometerFrequency": [123], "ResonantNucleus": ["1h"]}, 123, "1H"),
        ({"SpectrometerFrequency": ["123.2"], "ResonantNucleus": ["H1"]}, 123.2, "1H"),
        ({"SpectrometerFrequency": [123200000], "ResonantNucleus": ["1-H"]}, 123.2, "1H"),
        ({"SpectrometerFrequency": [49.9], "ResonantNucleus": ["31p"]}, 49.9, "31P"),
    ],
)
def test_frequency_and_nucleus(rng, tmp_path, header, frequency, nucleus):
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), header))
    assert (data.spec_freq_mhz, data.nucleus) == (frequency, nucleus)
    again = nifti.load(nifti.save(tmp_path / "again.nii.gz", data))
    assert (again.spec_freq_mhz, again.nucleus) == (frequency, nucleus)


@pytest.mark.parametrize(
    "header",
    [
        {"SpectrometerFrequency": None},
        {"SpectrometerFrequency": ["high"]},
        {"SpectrometerFrequency": [-3]},
        {"SpectrometerFrequency": []},
        {"ResonantNucleus": None},
        {"ResonantNucleus": ["proton"]},
    ],
)
def test_neither_frequency_nor_nucleus(rng, tmp_path, header):
    path = write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), header)
    with pytest.raises(DataError, match=rf"x\.nii\.gz: .*\({next(iter(header))} .*spec2nii"):
        nifti.load(path)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{'a': 1}", b"\xff\xfe\x00"])
def test_extensions_that_are_no_json(rng, tmp_path, content):
    path = write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), content=content)
    with pytest.raises(DataError, match=r"x\.nii\.gz: cannot be read as NIfTI-MRS"):
        nifti.load(path)


def test_a_byte_order_mark(rng, tmp_path):
    content = b"\xef\xbb\xbf" + json.dumps(REQUIRED).encode() + b"\n"
    assert nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), content=content)).nucleus == "1H"


# ---- dimensions


@pytest.mark.parametrize(
    ("header", "tags", "remark"),
    [
        ({}, ("DIM_COIL", "DIM_DYN"), "dim_5 has no tag"),
        ({"dim_5": "DIM_DYN"}, ("DIM_DYN", "DIM_USER_1"), "dim_6 has no tag; it is read as DIM_USER_1"),
        ({"dim_5": "dim_dyn", "dim_6": "DIM_EDIT"}, ("DIM_DYN", "DIM_EDIT"), ""),
        ({"dim_5": "DIM_DYN", "dim_6": "DIM_REP"}, ("DIM_DYN", "DIM_USER_1"), "dim_6 is DIM_REP"),
    ],
)
def test_tags_of_dimensions(rng, tmp_path, header, tags, remark):
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64, 2, 3), header))
    assert data.dim_tags == tags
    assert remark in " ".join(data.notes)
    assert bool(data.notes) == bool(remark)
    again = nifti.load(nifti.save(tmp_path / "again.nii.gz", data))
    assert (again.dim_tags, again.notes) == (tags, ())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"Bval": [0, 1, 3]}, {"Bval": {"Value": [0, 1, 3], "Description": ""}}),
        ({"Bval": {"Value": [0, 1, 3]}}, {"Bval": {"Value": [0, 1, 3], "Description": ""}}),
        ({"Bval": {"start": 0, "increment": 2}}, {"Bval": {"Value": {"start": 0, "increment": 2}, "Description": ""}}),
        ([0, 1, 3], {"Value": {"Value": [0, 1, 3], "Description": ""}}),
        ({"EchoTime": {"start": 0.03, "increment": 0.01}}, {"EchoTime": {"start": 0.03, "increment": 0.01}}),
        ({"Bval": [0, 1]}, None),
    ],
)
def test_values_along_a_dimension(rng, tmp_path, values, expected, capsys):
    header = {"dim_5": "DIM_USER_0", "dim_5_header": values}
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64, 3), header))
    assert data.header.get("dim_5_header") == expected
    assert bool(data.notes) == (expected is None or isinstance(values, list))
    again = nifti.load(nifti.save(tmp_path / "again.nii.gz", data))
    assert again.header.get("dim_5_header") == expected
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"Bval": [0, 1, 3]}, {"Bval": [0, 1, 3]}),
        ({"Bval": {"start": 0.1, "increment": 0.1}}, {"Bval": [0.1, 0.2, 0.3]}),
        ([0, 1, 3], {"Value": [0, 1, 3]}),
        ({"EchoTime": {"start": 30, "increment": 10}}, {"EchoTime": [0.03, 0.04, 0.05]}),
        ({"Task": ["rest", " finger\ntap", "rest"]}, {"Task": ["rest", "finger tap", "rest"]}),
        ({"Direction": [[0, 0, 1], [1, 0.5, 0], [0, 0, 1]]}, {"Direction": ["0 0 1", "1 0.5 0", "0 0 1"]}),
        ({"Note": ["a" * 65, "b", "c"], "On": [True, False, True]}, {"On": ["True", "False", "True"]}),
        ({"Pulse": [{"PulseOffset": 1.9}, {}, {}]}, {}),
    ],
)
def test_values_of_elements(rng, tmp_path, values, expected):
    """Numbers and short texts along a dimension, for tables; units are the standard's or described."""
    header = {"dim_5": "DIM_USER_0", "dim_5_header": values}
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64, 3), header))
    got = element_values(data.header, 5, 3)
    assert {one.key: one.values.tolist() for one in got} == expected
    assert [one.unit for one in got if one.key == "EchoTime"] == ["s"] * ("EchoTime" in expected)
    assert element_values(data.header, 5, 2) == [] or isinstance(values, dict) and "start" in str(values)
    assert element_values(data.header, 6, 3) == []


def test_keys_of_other_kinds(rng, tmp_path, capsys):
    header = {
        "EchoTime": [0.03],
        "PatientID": 12,
        "OriginalFile": "scan.dat",
        "ProcessingApplied": {"Method": "Apodisation"},
        "VOI": "big",
        "RepetitionTime": "long",
        "Operator": "A. N. Other",
        "dim_4": "DIM_TIME",
        "WaterSuppressed": None,
    }
    data = nifti.load(write(tmp_path / "x.nii.gz", noise(rng, 1, 1, 1, 64), header))
    assert data.header["EchoTime"] == 0.03
    assert data.header["PatientID"] == "12"
    assert data.header["OriginalFile"] == ["scan.dat"]
    assert data.header["ProcessingApplied"] == [{"Method": "Apodisation"}]
    assert sorted(note.split()[0] for note in data.notes) == ["RepetitionTime", "VOI", "dim_4"]
    again = nifti.load(nifti.save(tmp_path / "again.nii.gz", data, method="x"))
    assert again.header["Operator"]["Value"] == "A. N. Other"
    assert len(again.header["ProcessingApplied"]) == 2
    assert capsys.readouterr().out == ""


def test_the_published_diffusion_set(testdata, tmp_path):
    data = nifti.load(testdata / "dwi_steam_7t" / "synthetic_as_published.nii.gz")
    other = nifti.load(testdata / "dwi_steam_7t" / "synthetic.nii.gz")
    assert data.header["dim_6_header"]["Bval"]["Value"] == other.header["dim_6_header"]["Bval"]["Value"]
    np.testing.assert_array_equal(data.fids, other.fids)
    short = replace(data, fids=data.fids[..., :2, :])
    assert nifti.load(nifti.save(tmp_path / "x.nii.gz", short)).dim_tags == ("DIM_DYN", "DIM_USER_0")


def test_times_that_no_scan_has_are_none():
    data = nifti.MrsData(
        np.zeros((1, 1, 1, 64), complex), 5e-4, 123.2, "1H", header={"EchoTime": 10**400, "RepetitionTime": 2}
    )
    assert seconds_of(data, "EchoTime") is None and seconds_of(data, "RepetitionTime") == 2


@pytest.mark.parametrize(
    ("steps", "aligned"),
    [
        (None, False),
        ([{"Method": "RF coil combination"}], False),
        ([{"Method": "Frequency and phase correction", "Details": "fsl_mrs_proc align"}], True),
        ([3, {"Method": "Signal averaging"}, {"Method": "frequency and phase correction"}], True),
    ],
)
def test_history_tells_whether_transients_were_aligned(steps, aligned):
    assert aligned_before({} if steps is None else {"ProcessingApplied": steps}) is aligned


def test_files_are_read_where_numpy_does_not_load_its_typing_by_itself():
    """NumPy 1.26, which nifti-mrs 1.4.1 needs more of than it asks for."""
    example = Path(fsl_mrs_dl.__file__).parent / "data/example/svs.nii.gz"
    code = (
        "import sys, numpy as np\nplain = np.__getattr__\ndef known(name):\n    if name == 'typing':\n        raise"
        " AttributeError(name)\n    return plain(name)\nnp.__getattr__ = known\nfrom fsl_mrs_dl.io import nifti\n"
        "nifti.load(sys.argv[1])"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, str(example)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
