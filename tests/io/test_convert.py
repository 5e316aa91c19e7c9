"""Data of any format: LCModel's RAW by our own reader, others through spec2nii, and what is said where neither can."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.io import convert, nifti
from fsl_mrs_dl.io.convert import AxisOptions, load_any

N_POINTS, BANDWIDTH, FREQUENCY = 64, 2000.0, 127.75
FIDS = np.random.default_rng(3).normal(size=(6, N_POINTS, 2)).astype(np.float32) @ np.array([1, 1j])


def raw(fids, *, before=" $SEQPAR\n ECHOT = 30.\n $END\n", more="", form="(2E15.6)"):
    """An LCModel RAW file."""
    fids, touching = fids.conj(), form == "(8F9.5)"
    rows = [f"{fid.real:9.5f}{fid.imag:9.5f}" if touching else f"{fid.real:15.6E}{fid.imag:15.6E}" for fid in fids]
    return f"{before} $NMID ID='x', FMTDAT='{form}'{more} $END\n" + "\n".join(rows) + "\n"


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


CONTROL = f" $LCMODL\n nunfil={N_POINTS}\n deltat=5e-04\n hzpppm={FREQUENCY}\n filraw='met/RAW'\n $END\n"


@pytest.fixture
def spec2nii():
    if convert.spec2nii_version() is None:
        pytest.skip("spec2nii is not installed; it converts the scanner's files")


@pytest.fixture
def without_spec2nii(monkeypatch):
    monkeypatch.setattr(convert.shutil, "which", lambda *_, **__: None)


def test_nifti_is_read_as_it_is(tmp_path):
    data = nifti.MrsData(FIDS[0].reshape(1, 1, 1, -1).astype(np.complex64), 5e-4, FREQUENCY, "1H")
    nifti.save(tmp_path / "x.nii.gz", data)
    shutil.copyfile(nifti.save(tmp_path / "y.nii", data), tmp_path / "noending")
    for name in ("x.nii.gz", "x", "noending"):
        out = convert.load_with_record(tmp_path / name)
        np.testing.assert_array_equal(out.data.fids, data.fids)
        assert not out.program and not out.data.notes
    with pytest.raises(DataError, match="no such file"):
        load_any(tmp_path / "missing.RAW")


@pytest.mark.parametrize("kind", ["nifti", "spec2nii"])
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (AxisOptions(frequency_mhz=300.0), "has the frequency 127.75 MHz, and `frequency` is 300 MHz"),
        (AxisOptions(bandwidth_hz=4000.0), "has the bandwidth 2000 Hz, and `bandwidth` is 4000 Hz"),
        (AxisOptions(nucleus="31P"), "has the nucleus 1H, and `nucleus` is 31P"),
    ],
)
def test_options_that_a_file_with_axes_contradicts_are_refused(tmp_path, monkeypatch, kind, options, line):
    """They were ignored."""
    data = nifti.MrsData(FIDS[0].reshape(1, 1, 1, -1).astype(np.complex64), 5e-4, FREQUENCY, "1H")
    path = nifti.save(tmp_path / "x.nii.gz", data)
    if kind == "spec2nii":
        converted, path = convert.Conversion(nifti.load(path)), written(tmp_path / "x.7", "of GE")
        monkeypatch.setattr(convert, "_run_spec2nii", lambda *_: converted)
    with pytest.raises(DataError) as caught:
        load_any(path, options)
    assert line in caught.value.problem and "leave `" in caught.value.remedy
    # As people round them.
    assert load_any(path, AxisOptions(2000.5, 127.7, "1H")).spec_freq_mhz == FREQUENCY


@pytest.mark.parametrize("place", ["own", "control"])
def test_what_is_given_for_an_lcmodel_raw_wins_and_a_note_says_so(tmp_path, place):
    settings = f"DELTAT=2.5e-4\n HZPPPM={FREQUENCY}"
    if place == "control":
        written(tmp_path / "a.control", f" $LCMODL\n {settings}\n $END\n")
    text = raw(FIDS[0], before=f" $SEQPAR\n {settings}\n $END\n") if place == "own" else raw(FIDS[0])
    path = written(tmp_path / "a.RAW", text)
    data = load_any(path, AxisOptions(BANDWIDTH, 300.0))
    assert (data.dwelltime, data.spec_freq_mhz) == (5e-4, 300.0)
    name = "a.RAW" if place == "own" else "a.control"
    assert data.notes[1:] == (
        f"the bandwidth that was given, 2000 Hz, is used, not 4000 Hz of {name}",
        f"the frequency that was given, 300 MHz, is used, not 127.75 MHz of {name}",
    )
    assert len(load_any(path, AxisOptions(4000.0, 127.7)).notes) == 1


@pytest.mark.parametrize("form", ["(2E15.6)", "(8F9.5)"])
@pytest.mark.parametrize("mark", ["$", "&"])
def test_lcmodel_raw_with_options(tmp_path, form, mark):
    text = raw(FIDS[0], form=form).replace("$", mark)
    data = load_any(written(tmp_path / "a.RAW", text), AxisOptions(BANDWIDTH, FREQUENCY))
    assert data.fids.shape == (1, 1, 1, N_POINTS)
    np.testing.assert_allclose(data.fids[0, 0, 0], FIDS[0], atol=1e-5)
    assert (data.dwelltime, data.spec_freq_mhz, data.nucleus) == (5e-4, FREQUENCY, "1H")
    assert data.header["EchoTime"] == 0.03 and "RAW" in data.notes[0]
    # It can be written, and reads as what it was.
    again = nifti.load(nifti.save(tmp_path / "a.nii.gz", data))
    np.testing.assert_array_equal(again.fids, data.fids)


def test_lcmodel_raw_finds_its_control_file(tmp_path):
    written(tmp_path / "control", CONTROL)
    inner = written(tmp_path / "met" / "RAW", raw(FIDS[0]))
    water = written(tmp_path / "h2o" / "RAW", raw(FIDS[1]))
    for path in (inner, water):
        data = load_any(path)
        assert (data.dwelltime, data.spec_freq_mhz) == (5e-4, FREQUENCY) and "control" in data.notes[0]
    beside = written(tmp_path / "s" / "one.RAW", raw(FIDS[0]))
    with pytest.raises(DataError, match="no bandwidth and no frequency; give bandwidth .*control file"):
        load_any(beside)
    written(tmp_path / "s" / "one.CONTROL", CONTROL)
    written(tmp_path / "s" / "two.CONTROL", CONTROL.replace("5e-04", "2.5D-04"))
    assert load_any(beside).dwelltime == 5e-4
    other = written(tmp_path / "s" / "three.h2o", raw(FIDS[0]))
    with pytest.raises(DataError, match="several control files beside it differ"):
        load_any(other)
    assert load_any(other, AxisOptions(1000.0, 300.0)).dwelltime == 1e-3
    # The interface's own file has no namelist around its assignments.
    written(tmp_path / "t" / "cpStart", f" nunfil= {N_POINTS}\n deltat=  5.000E-04\n hzpppm=  {FREQUENCY}\n")
    assert load_any(written(tmp_path / "t" / "RAW", raw(FIDS[0]))).spec_freq_mhz == FREQUENCY


def test_lcmodel_raw_of_many_voxels(tmp_path):
    written(tmp_path / "csi.control", CONTROL.replace("$END", "ndcols=3\n ndrows=2\n ndslic=1\n $END"))
    path = written(tmp_path / "csi.RAW", raw(FIDS.ravel()))
    data = load_any(path)
    assert data.fids.shape == (3, 2, 1, N_POINTS) and data.dim_tags == ()
    np.testing.assert_allclose(data.fids[1, 0, 0], FIDS[1], rtol=1e-5)
    np.testing.assert_allclose(data.fids[0, 1, 0], FIDS[3], rtol=1e-5)
    written(tmp_path / "csi.control", CONTROL)
    data = load_any(path)
    assert data.fids.shape == (1, 1, 1, N_POINTS, 6) and data.dim_tags == ("DIM_USER_0",)
    np.testing.assert_allclose(data.fids[0, 0, 0, :, 4], FIDS[4], rtol=1e-5)


def test_lcmodel_raw_of_many_voxels_with_given_bandwidth(tmp_path):
    """The control file was left unread, and the voxels' FIDs taken for one long FID."""
    options = AxisOptions(1000.0, 300.0)
    control = CONTROL.replace("$END", "ndcols=3\n ndrows=2\n ndslic=1\n $END")
    written(tmp_path / "csi.control", control)
    path = written(tmp_path / "csi.RAW", raw(FIDS.ravel()))
    data = load_any(path, options)
    assert data.fids.shape == (3, 2, 1, N_POINTS)
    assert (data.dwelltime, data.spec_freq_mhz) == (1e-3, 300.0) and "bandwidth" not in data.notes[0]
    # Those that differ are no hindrance where they are not needed.
    written(tmp_path / "a.control", control)
    written(tmp_path / "b.control", control.replace("5e-04", "1e-3"))
    other = written(tmp_path / "other.RAW", raw(FIDS.ravel()))
    assert load_any(other, options).n_points == FIDS.size


def test_lcmodel_raw_signs_and_scale(tmp_path):
    options = AxisOptions(BANDWIDTH, FREQUENCY)
    turned = load_any(written(tmp_path / "b.RAW", raw(FIDS[0], more=", BRUKER=.TRUE.")), options)
    np.testing.assert_allclose(turned.fids[0, 0, 0], FIDS[0].conj(), rtol=1e-5)
    scaled = load_any(written(tmp_path / "c.RAW", raw(FIDS[0], more=", TRAMP=3., VOLUME=1.5")), options)
    np.testing.assert_allclose(scaled.fids[0, 0, 0], 2 * FIDS[0], rtol=1e-5)
    assert any("TRAMP/VOLUME = 2" in note for note in scaled.notes)
    with pytest.raises(DataError, match="SEQACQ"):
        load_any(written(tmp_path / "d.RAW", raw(FIDS[0], more=", SEQACQ=T")), options)
    extreme = load_any(written(tmp_path / "f.RAW", raw(FIDS[0]).replace("E+00", "E+99", 1)), options)
    assert not np.isfinite(extreme.fids).all()
    for damage in ("1.0 nonsense\n", "1.0\n", ""):
        with pytest.raises(DataError, match="pairs of numbers"):
            load_any(written(tmp_path / "e.RAW", " $NMID FMTDAT='(2E15.6)'\n $END\n" + damage), options)


@pytest.mark.parametrize(
    "settings", ["DELTAT=20.0005, HZPPPM=123.2", "DELTAT=1e-9, HZPPPM=123.2", "DELTAT=5e-4, HZPPPM=.1"]
)
def test_lcmodel_raw_with_an_impossible_bandwidth_or_frequency(tmp_path, settings):
    """A dwell time of 20 s was read, and could not be written again."""
    path = written(tmp_path / "x.RAW", f" $SEQPAR {settings} $END\n $NMID ID='a' $END\n" + "1.0 2.0\n" * 32)
    with pytest.raises(DataError, match="which no scanner has; give bandwidth and frequency"):
        load_any(path)
    assert load_any(path, AxisOptions(BANDWIDTH, FREQUENCY)).n_points == 32


def test_lcmodels_own_test_spectrum(testdata, tmp_path):
    """Its NAA is at 2 ppm: the file beside LCModel's source holds these numbers, which stand in ours unconjugated."""
    numbers = nifti.load(testdata / "lcmodel_test" / "spectrum.nii.gz")
    path = written(tmp_path / "data.raw", raw(numbers.fids.ravel().conj(), before=""))
    data = load_any(path, AxisOptions(numbers.bandwidth, numbers.spec_freq_mhz))
    ppm, spectrum = data.axes.ppm(), np.abs(fid_to_spec(data.fids[0, 0, 0]))
    near = (ppm > 0.5) & (ppm < 2.7)
    assert abs(ppm[near][spectrum[near].argmax()] - 2.0) < 0.05


def test_raw_reads_as_in_spec2nii_but_for_its_reversed_axis(tmp_path):
    other_formats = pytest.importorskip("spec2nii.other_formats")
    before = f" $SEQPAR\n hzpppm = {FREQUENCY}\n deltat = 5e-4\n $END\n"
    path = written(tmp_path / "a.RAW", raw(FIDS[0], before=before))
    words = {"nucleus": "1H", "bandwidth": None, "imagingfreq": None, "affine": None, "fileout": None}
    images, _ = other_formats.lcm_raw(SimpleNamespace(file=path, **words))
    ours, theirs = load_any(path), nifti.from_image(images[0])
    np.testing.assert_allclose(ours.fids, theirs.fids.conj(), rtol=1e-6)
    assert ours.axes == theirs.axes


JMRUI = """jMRUI Data Textfile

Filename: x.txt

PointsInDataset: 64
DatasetsInFile: 2
SamplingInterval: 5E-1
ZeroOrderPhase: 0E0
BeginTime: 0E0
TransmitterFrequency: 1.2775E8
MagneticField: 3E0
TypeOfNucleus: 1E0

Signal and FFT
sig(real)\tsig(imag)\tfft(real)\tfft(imag)
"""


def test_jmrui_text(tmp_path, spec2nii):
    text = JMRUI
    for index in range(2):
        text += f"Signal {index + 1} out of 2 in file\n"
        text += "".join(f"{v.real:.6E}\t{v.imag:.6E}\t0\t0\n" for v in FIDS[index])
    path = written(tmp_path / "x.TXT", text)
    out = convert.load_with_record(path)
    np.testing.assert_allclose(out.data.fids[0, 0, 0].T, FIDS[:2], rtol=1e-5)
    assert out.data.axes == replace(out.data.axes, n_points=N_POINTS, dwelltime=5e-4, spec_freq_mhz=FREQUENCY)
    assert out.program == "spec2nii" and out.version in out.data.notes[0] and "jmrui" in out.command
    assert out.data.path == path


def test_philips_pair_by_either_of_its_files(testdata, tmp_path, spec2nii, invivo_3t):
    source = testdata / "invivo_3t_press_philips" / "PRESS_raw-act"
    expected = nifti.load(invivo_3t)
    shutil.copyfile(f"{source}.SDAT", tmp_path / "act.SDAT")
    with pytest.raises(DataError, match=r"act\.SDAT: there is no act\.SPAR beside it"):
        load_any(tmp_path / "act.SDAT")
    shutil.copyfile(f"{source}.SPAR", tmp_path / "act.spar")
    data = load_any(tmp_path / "act.spar")
    np.testing.assert_array_equal(data.fids, expected.fids)
    assert data.name.endswith("act.spar") and "spec2nii philips act.SDAT act.spar" in data.notes[0]


@pytest.mark.parametrize("head, name, words", [
    (b"\0" * 64, "meas.dat", ["twix", "-e", "image", "-q"]),
    (b">>> Begin of header <<<\r\n", "x.rda", ["rda"]),
    (b"\1\2", "P12345.7", ["ge"]),
    (b"\0" * 128 + b"DICM SIEMENS", "x", ["dicom"]),
    (b"\0" * 128 + b"DICM Philips Medical Systems", "x.dcm", ["philips_dcm"]),
    (b"\0" * 128 + b"DICM UIH", "x.dcm", ["uih"]),
    (b"\0" * 99, "x.mrui", ["jmrui"]),
])  # fmt: skip
def test_scanners_formats_choose_the_subcommand(tmp_path, monkeypatch, head, name, words):
    (tmp_path / name).write_bytes(head)
    calls = []
    monkeypatch.setattr(convert, "_run_spec2nii", lambda path, words, folder: calls.append(words))
    monkeypatch.setattr(convert, "_agreeing", lambda conversion, options: conversion)  # nothing was read
    convert.load_with_record(tmp_path / name)
    assert calls[0][:-1] == words and calls[0][-1] == str(tmp_path / name)


def test_folders_choose_the_subcommand(tmp_path):
    written(tmp_path / "v.fid" / "procpar", "")
    written(tmp_path / "v.fid" / "fid", "")
    assert convert._words(tmp_path / "v.fid", b"", AxisOptions(), tmp_path)[0] == "varian"
    assert convert._words(tmp_path / "v.fid" / "fid", b"", AxisOptions(), tmp_path)[0] == "varian"
    written(tmp_path / "b" / "acqp", "")
    path = written(tmp_path / "b" / "fid", "")
    assert convert._words(path, b"", AxisOptions(), tmp_path)[:3] == ["bruker", "-m", "FID"]
    assert convert._words(path.parent, b"", AxisOptions(), tmp_path)[:3] == ["bruker", "-m", "FID"]
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="is a folder without"):
        load_any(tmp_path / "d")
    (tmp_path / "d" / "1.IMA").write_bytes(b"\0" * 128 + b"DICM Siemens Healthineers, exported to UIH")
    assert convert._words(tmp_path / "d", b"", AxisOptions(), tmp_path) == ["dicom", str(tmp_path / "d")]


def test_what_cannot_be_read_is_said_in_one_line(tmp_path, without_spec2nii):
    path = written(tmp_path / "columns.txt", "1.0 2.0\n" * 20)
    with pytest.raises(DataError, match="two columns of numbers .* give bandwidth and frequency"):
        load_any(path)
    with pytest.raises(DataError, match=r"needs spec2nii .*; install it .*pip install spec2nii"):
        load_any(path, AxisOptions(BANDWIDTH, FREQUENCY))
    (tmp_path / "x.dcm").write_bytes(b"\0" * 128 + b"DICM GE MEDICAL SYSTEMS")
    with pytest.raises(DataError, match="without the name of Siemens, Philips or UIH"):
        load_any(tmp_path / "x.dcm")
    with pytest.raises(DataError, match="is of no format that is known .*; read are NIfTI-MRS, LCModel RAW"):
        load_any(written(tmp_path / "x.doc", "a b c\n"))


@pytest.mark.parametrize("files, expected", [
    (["converted"], ("converted", None)),
    (["converted", "converted_ref"], ("converted", "converted_ref")),
    (["converted_ref"], ("converted_ref", None)),
    (["converted_NOI", "converted_STD_0"], ("converted_STD_0", None)),
    (["converted_NOI", "x_PHC_0", "converted_STD_0", "converted_STD_1"], ("converted_STD_0", "converted_STD_1")),
    (["converted_NOI", "converted_STD_0", "converted_STD_1", "converted_STD_2"], "several data sets"),
    (["converted_edit", "converted_off"], "several data sets"),
    ([], "failed"),
])  # fmt: skip
def test_spectra_and_water_of_one_file(tmp_path, monkeypatch, files, expected):
    """A program in the place of spec2nii writes some files, or none and a traceback."""
    folder = tmp_path / "bin"
    for index, name in enumerate(files):
        fids = np.full((1, 1, 1, 32), index + 1, np.complex64)
        nifti.save(folder / f"{name}.nii.gz", nifti.MrsData(fids, 5e-4, FREQUENCY, "1H"))
    script = f'#!/bin/sh\n[ "$1" = --version ] && echo 9.9 && exit\nmkdir -p "$5" && cp {folder}/*.nii.gz "$5"/\n'
    program = written(folder / "spec2nii", script + ("" if files else "echo boom >&2; exit 1\n"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(convert.shutil, "which", lambda *_, **__: str(program))
    path = written(tmp_path / "x.7", "of GE")
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            load_any(path)
        return
    out = convert.load_with_record(path)
    assert out.version == "9.9" and "spec2nii 9.9 (spec2nii ge x.7)" in out.data.notes[0]
    assert out.data.fids[0, 0, 0, 0] == files.index(expected[0]) + 1
    assert (out.water is None) == (expected[1] is None)
    assert ("holds unsuppressed water" in out.data.notes[0]) == (expected[1] is not None)
    water = convert.load_water(path)
    assert water.fids[0, 0, 0, 0] == files.index(expected[1] or expected[0]) + 1


def standing_in_for_spec2nii(folder, monkeypatch, names):
    """Put a program in the place of spec2nii that writes files of these names, each with its place as its signal."""
    for index, name in enumerate(names):
        fids = np.full((1, 1, 1, 32), index + 1, np.complex64)
        nifti.save(folder / f"converted{name}.nii.gz", nifti.MrsData(fids, 5e-4, FREQUENCY, "1H"))
    script = f'#!/bin/sh\n[ "$1" = --version ] && echo 9.9 && exit\nmkdir -p "$5" && cp {folder}/*.nii.gz "$5"/\n'
    program = written(folder / "spec2nii", script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(convert.shutil, "which", lambda *_, **__: str(program))


@pytest.mark.parametrize("names, water, quant", [
    (["", "_ref_ecc", "_ref_no_ovs"], "_ref_ecc", "_ref_no_ovs"),  # GE PROBE-sL
    (["", "_ecc", "_quant"], "_ecc", "_quant"),  # GE oslaser
    (["", "_rf_grads_ovs_off", "_rf_off"], "_rf_off", "_rf_grads_ovs_off"),  # CMRR's semi-LASER
    (["", "_ref_ecc"], "_ref_ecc", None),
    (["", "_quant"], "_quant", None),
    (["", "_vapor_ovs_rfoff"], "_vapor_ovs_rfoff", None),
    (["", "_empty_data", "_ws_ovs_off"], "_ws_ovs_off", None),
    (["", "_ref_000", "_ref_001"], "_ref_000", None),
])  # fmt: skip
def test_two_water_references_have_a_use_each(tmp_path, monkeypatch, names, water, quant):
    """The first by name was taken for everything, and some names were no water at all."""
    standing_in_for_spec2nii(tmp_path / "bin", monkeypatch, names)
    path = written(tmp_path / "x.7", "of GE")
    out = convert.load_with_record(path)
    first = [None if one is None else names[int(one.fids.flat[0].real) - 1] for one in (out.data, out.water, out.quant)]
    assert first == ["", water, quant]
    note = out.data.notes[0]
    if quant:
        assert f"{water[1:]} for line shape and eddy currents, {quant[1:]} for absolute concentrations" in note
    assert ("left out: ref_001" in note) == ("_ref_001" in names)
    shape, size = convert.load_references(path)
    assert names[int(shape.fids.flat[0].real) - 1] == water
    assert names[int(size.fids.flat[0].real) - 1] == (quant or water)


def test_a_missing_spec2nii_is_told_before_pytorch_is_loaded(tmp_path):
    """Loading it takes seconds, and the line came after."""
    path, basis = written(tmp_path / "x.7", "\1\2"), tmp_path / "basis"
    fids = nifti.MrsData(FIDS[0].reshape(1, 1, 1, -1).astype(np.complex64), 5e-4, FREQUENCY, "1H")
    data = nifti.save(tmp_path / "data.nii.gz", fids)
    end = ["--output", str(tmp_path / "out")]
    series = ["--dyn_config", str(data), "--time_variables", str(data)]
    commands = [
        ["align", "--file", str(path), *end],
        ["align", "--file", str(data), "--reference", str(path), *end],
        ["denoise", "--file", str(path), "--model", str(basis), *end],
        ["fit", "--data", str(path), "--basis", str(basis), *end],
        ["fit", "--data", str(data), "--basis", str(basis), "--h2o", str(path), *end],
        ["run", "--data", str(path), *end],
        ["run", "--data", str(data), "--quant", str(path), *end],
        ["run", "--data", str(data), "--mm", str(path), *end],
        ["dynamic", "--data", str(path), "--basis", str(basis), *series, *end],
        ["dynamic", "--data", str(data), "--basis", str(basis), "--h2o", str(path), *series, *end],
    ]
    program = (
        "import json, sys\n"
        "from fsl_mrs_dl.cli.main import main\n"
        "from fsl_mrs_dl.io import convert\n"
        "convert._program = lambda: None\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    assert main(words) == 2, words\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    words = [sys.executable, "-c", program, json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands) and all("x.7: the format needs spec2nii" in line for line in lines), lines


def test_stem_of():
    names = {"a/act.SDAT": "act", "svs.nii.gz": "svs", "x.NII": "x", "met.RAW": "met", "sub-01.2": "sub-01.2"}
    assert {name: convert.stem_of(name) for name in names} == names
