"""Denoising of files: every spectrum by itself, what the header says afterwards, who is warned by it, and what is
refused."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from fsl_mrs_dl.cli import without_fsl_mrs
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.networks import denoiser, model_cards
from fsl_mrs_dl.preproc import denoise
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

pytestmark = pytest.mark.usefixtures("one_thread")

FREQ, DWELL, N = 123.2, 5e-4, 1024


@pytest.fixture(scope="module")
def model(sim_basis, tmp_path_factory):
    """A small denoiser, trained for a few batches, as a folder."""
    torch.manual_seed(0)
    network = denoiser.Denoiser(DWELL, FREQ, N, channels=8, kernel=8, layers=2)
    protocol = protocols.protocol_of(sim_basis.fids, sim_basis.names, Axes(sim_basis.n_points, DWELL, FREQ))
    recipe = recipes.Recipe.of(
        "x", recipes.Recipe.load("normal-brain").content | {"snr": 20, "phase_deg": 0, "shift_ppm": 0}
    )
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(120):
        made = random_spectra.render(
            random_spectra.draw(recipe, 16, protocol.names, torch.Generator().manual_seed(step)), protocol
        )
        optimiser.zero_grad()
        network.loss(made.fid, made.metabolites + made.nuisance).backward()
        optimiser.step()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    ranges = {
        "nucleus": ["1H"],
        "spec_freq_mhz": [FREQ * 0.995, FREQ * 1.005],
        "dwelltime": [DWELL * 0.999, DWELL * 1.001],
    }
    card = {
        "name": "tiny",
        "what": "a test",
        "training": {},
        "ranges": ranges,
        "accuracy": {"at SNR 20": {"left, %": 80.0}},
    }
    model_cards.save(folder, network.eval(), card)
    return folder


def data_of(fids, *tags, **other) -> nifti.MrsData:
    """Data of FIDs ``(x, y, z, n_points, ...)``."""
    header = {"SpectrometerFrequency": [FREQ], "ResonantNucleus": ["1H"], "EchoTime": 0.035}
    header |= {f"dim_{5 + k}": tag for k, tag in enumerate(tags)}
    return nifti.MrsData(fids.astype(np.complex64), DWELL, FREQ, "1H", tags, header, np.eye(4), **other)


@pytest.fixture(scope="module")
def file(simulate, tmp_path_factory):
    """Six transients, the second zero and the fifth not a number."""
    fids = simulate(6, snr=20, seed=3, alike=True, shift_ppm=0, phase_deg=0).fids.T[None, None, None].copy()
    fids[..., 1], fids[0, 0, 0, 7, 4] = 0, np.nan
    return nifti.save(
        tmp_path_factory.mktemp("data") / "svs.nii.gz",
        data_of(fids, "DIM_DYN"),
        method="Eddy current correction",
        details="earlier",
    )


@pytest.fixture(scope="module")
def done(file, model, tmp_path_factory):
    """The folder of the command's results."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert main(["denoise", "--file", str(file), "--model", str(model), "--output", str(out), "-r"]) == 0
    return out


def fails(words, capsys, *expected):
    """The command ends with status 2 and one line that holds the expected words."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    for word in expected:
        assert word in error, error


def test_noise_goes_where_the_network_looks_and_nowhere_else(file, done):
    before, after = nifti.load(file), nifti.load(done / "svs.nii.gz")
    assert (
        after.fids.shape == before.fids.shape
        and after.fids.dtype == before.fids.dtype
        and after.dim_tags == before.dim_tags
    )
    np.testing.assert_array_equal(after.affine, before.affine)
    # What cannot be denoised is as it was, to the bit.
    for untouched in (1, 4):
        np.testing.assert_array_equal(after.fids[..., untouched], before.fids[..., untouched])
    good = [0, 2, 3, 5]
    first, second = (units.fid_to_spec(one.fids[0, 0, 0].T[good]) for one in (before, after))
    ppm = units.ppm_axis(N, DWELL, FREQ)
    inside = (ppm >= 0.2) & (ppm <= 4.2)
    np.testing.assert_allclose(second[:, ~inside], first[:, ~inside], atol=1e-4 * np.abs(first).max())
    # The four are one signal with different noise: that is what is less.
    scatter = [np.abs(one[:, inside] - one[:, inside].mean(0)).mean() for one in (first, second)]
    assert scatter[1] < 0.9 * scatter[0]


def test_the_header_says_what_was_done_and_what_it_is_worth(file, done, model, tmp_path):
    header = nifti.load(done / "svs.nii.gz").header
    earlier, step = header["ProcessingApplied"]
    assert earlier["Method"] == "Eddy current correction" and (step["Program"], step["Method"]) == (
        "FSL-MRS-DL",
        "Denoising",
    )
    for word in (
        "fsl_mrs_dl denoise",
        "model=tiny",
        model_cards.read_card(model)["sha256"],
        "ppmlim=(0.2, 4.2)",
        "4 of 6 spectra",
    ):
        assert word in step["Details"]
    assert header["Denoised"]["Value"] is True and "SDs are too small" in header["Denoised"]["Description"]
    assert header["EchoTime"] == 0.035
    again = nifti.load(nifti.save(tmp_path / "again.nii.gz", nifti.load(done / "svs.nii.gz")))
    assert again.header == header
    assert "FSL-MRS-DL" in denoise.warning_of(header) and not denoise.warning_of(nifti.load(file).header)


def test_what_was_done_is_said(file, model, tmp_path, capsys):
    assert (
        main(["denoise", "--file", str(file), "--model", str(model), "--output", str(tmp_path), "--filename", "quiet"])
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "Denoised 4 of 6 spectra" in said
        and "left as they were: 2 (DIM_DYN 1; DIM_DYN 4" in said
        and "fit the raw data" in said
    )
    assert [path.name for path in tmp_path.iterdir()] == ["quiet.nii.gz"]


def test_the_report_warns_and_needs_no_network(done):
    page = (done / "report_dl_denoise.html").read_text()
    for word in (
        "Difference",
        "For display, not for quantification",
        "SDs are too small",
        "Denoising: svs.nii.gz",
        "DIM_DYN",
    ):
        assert word in page
    assert 'src="http' not in page


def test_any_dimensions_each_spectrum_by_itself(simulate, model, file):
    many = simulate(24, snr=20, seed=5).fids
    fids = many.reshape(2, 2, 1, 2, 3, N).transpose(0, 1, 2, 5, 3, 4)
    out = denoise.denoise_data(data_of(fids, "DIM_COIL", "DIM_DYN"), model, "cpu")
    assert (
        out.data.fids.shape == (2, 2, 1, N, 2, 3)
        and out.usable.all()
        and out.place(23) == "x 1, y 1, DIM_COIL 1, DIM_DYN 2"
    )
    one = denoise.denoise_data(data_of(fids[1:, :1, :, :, 0, 2]), model, "cpu").data.fids
    np.testing.assert_allclose(out.data.fids[1, 0, 0, :, 0, 2], one[0, 0, 0], atol=1e-4 * np.abs(one).max())
    assert (
        np.isfinite(out.removed).all()
        and 0.3 < np.median(out.removed) < 3
        and np.median(out.snr) == pytest.approx(20, rel=0.3)
    )


def test_signal_that_goes_with_the_noise_is_counted(simulate, model):
    # At a high SNR a network that has learnt so little takes more than noise.
    fids = simulate(3, snr=2000, seed=6).fids.T[None, None, None]
    out = denoise.denoise_data(data_of(fids, "DIM_DYN"), model, "cpu")
    assert out.removes_signal.all() and "signal was removed, too" in denoise.summary_line(out)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"nucleus": "31P"}, ["nucleus 31P", "made for 1H"]),
        ({"spec_freq_mhz": 297.2}, ["spectrometer frequency (MHz) 297.2"]),
        ({"dwelltime": 2.5e-4}, ["dwell time (s) 0.00025"]),
        ({"n": 2 * N}, ["2048 points (made for 1024)", "train one for them"]),
    ],
)
def test_other_data_than_it_was_made_for_are_refused(file, model, tmp_path, capsys, change, words):
    data, n = nifti.load(file), change.pop("n", N)
    fids = np.concatenate([data.fids[..., :1]] * (n // N), axis=3)
    header = {
        "SpectrometerFrequency": [change.get("spec_freq_mhz", FREQ)],
        "ResonantNucleus": [change.get("nucleus", "1H")],
    }
    other = nifti.save(
        tmp_path / "other.nii.gz", replace(data_of(fids, "DIM_DYN"), header=header | {"dim_5": "DIM_DYN"}, **change)
    )
    fails(["denoise", "--file", other, "--model", model, "--output", tmp_path / "out"], capsys, "--model", *words)
    assert not (tmp_path / "out").exists()


def test_other_networks_and_other_axes_are_refused(file, model):
    data = nifti.load(file)
    with pytest.raises(OptionError, match="proposes initial values of fits; give one that takes noise out"):
        denoise.denoise_data(data, "quant-universal")
    with pytest.raises(DataError, match="runs backwards.*conj"):
        denoise.denoise_data(replace(data, fids=data.fids.conj()), model)
    with pytest.raises(DataError, match="every FID is zero"):
        denoise.denoise_data(replace(data, fids=0 * data.fids[..., :1]), model)


def test_nothing_is_replaced_unasked(file, model, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["denoise", "--file", file, "--model", model, "--output", out, "-r"]
    assert main([str(word) for word in words]) == 0
    before = (out / "svs.nii.gz").read_bytes()
    fails(words, capsys, "svs.nii.gz: exists already", "--overwrite")
    (out / "mine.txt").write_text("mine")
    (out / "svs.nii.gz").unlink()
    fails(words, capsys, "report_dl_denoise.html: exists already")
    assert not (out / "svs.nii.gz").exists(), "nothing is written where a part of it cannot be"
    assert main([str(word) for word in [*words, "--overwrite"]]) == 0
    assert nib.load(out / "svs.nii.gz").shape == (1, 1, 1, N, 6) and (out / "mine.txt").read_text() == "mine" and before
    copy = tmp_path / "svs.nii.gz"
    copy.write_bytes(file.read_bytes())
    fails(
        ["denoise", "--file", copy, "--model", model, "--output", tmp_path, "--overwrite"],
        capsys,
        "is an input itself",
    )


# -- who is warned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header, words",
    [
        ({"ProcessingApplied": [{"Program": "Other", "Method": "denoising (MP-PCA)"}]}, "was denoised by Other"),
        ({"Denoised": {"Value": True, "Description": "x"}}, "was denoised:"),
        ({"Denoised": {"Value": False, "Description": "x"}}, ""),
        ({"ProcessingApplied": [{"Program": "Other", "Method": "Phasing"}]}, ""),
        ({}, ""),
    ],
)
def test_denoised_data_are_known_by_their_header(header, words):
    found = denoise.warning_of(header)
    assert (words in found) if words else not found


@pytest.fixture(scope="module")
def basis_folder(sim_basis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("basis") / "basis"
    sim_basis.save(folder)
    return folder


def test_fit_warns_and_keeps_the_warning(file, done, basis_folder, tmp_path, capsys):
    words = ["fit", "--basis", str(basis_folder), "--average", "DIM_DYN", "--baseline", "off", "--init", "classical"]
    assert main([*words, "--data", str(file), "--output", str(tmp_path / "raw")]) == 0
    assert "enoised" not in capsys.readouterr().err + (tmp_path / "raw" / "options.txt").read_text()
    assert main([*words, "--data", str(done / "svs.nii.gz"), "--output", str(tmp_path / "fit"), "--report"]) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("Warning: ") and "fit the raw data instead" in error
    text = (tmp_path / "fit" / "options.txt").read_text()
    assert "SDs are too small" in json.loads(text.split("\n--------\n")[0])["denoised"] and text.endswith("instead.\n")
    assert "SDs are too small" in (tmp_path / "fit" / "report.html").read_text()
    # The averages that are kept say it, too.
    assert denoise.warning_of(nifti.load(tmp_path / "fit" / "data.nii.gz").header)


def test_mrsi_warns_and_keeps_the_warning(simulate, model, basis_folder, tmp_path, capsys):
    fids = simulate(4, snr=20, seed=8).fids.reshape(2, 2, 1, N)
    nifti.save(tmp_path / "mrsi.nii.gz", data_of(fids))
    assert (
        main(
            ["denoise", "--file", str(tmp_path / "mrsi.nii.gz"), "--model", str(model), "--output", str(tmp_path / "d")]
        )
        == 0
    )
    capsys.readouterr()
    words = [
        "mrsi",
        "--data",
        str(tmp_path / "d" / "mrsi.nii.gz"),
        "--basis",
        str(basis_folder),
        "--output",
        str(tmp_path / "maps"),
    ]
    assert main([*words, "--baseline", "off", "--init", "classical", "--prior", "none", "--no_spectra"]) == 0
    assert "Warning: " in capsys.readouterr().err
    assert "SDs are too small" in (tmp_path / "maps" / "options.txt").read_text()


@pytest.mark.parametrize("job", ["fit", "mrsi"])
def test_denoised_data_are_not_turned_round_by_the_noise_that_is_left_beside_them(
    simulate, basis_folder, tmp_path, capsys, job
):
    """A network that leaves little of a spectrum makes its wrong side the stronger one."""
    fids = simulate(4, snr=20, seed=8).fids.conj()
    saved = data_of(fids.reshape(2, 2, 1, N)) if job == "mrsi" else data_of(fids.T[None, None, None], "DIM_DYN")
    more = {denoise.FIELD: (True, "by a network")}
    words = [job, "--basis", str(basis_folder), "--baseline", "off", "--init", "classical", "--prior", "none"]
    for name, fields in (("raw", None), ("denoised", more)):
        nifti.save(tmp_path / f"{name}.nii.gz", saved, extra=fields)
        assert main([*words, "--data", str(tmp_path / f"{name}.nii.gz"), "--output", str(tmp_path / name)]) == 0
        assert ("runs backwards" in capsys.readouterr().out) == (name == "raw")


# -- FSL-MRS's words -----------------------------------------------------------------------------------------------


def same(one, other):
    """Are two files the same but for the time, and the command that wrote them?"""
    a, b = nifti.load(one), nifti.load(other)
    np.testing.assert_array_equal(a.fids, b.fids)
    assert a.fids.dtype == b.fids.dtype and a.dim_tags == b.dim_tags
    assert {key for key in a.header if a.header[key] != b.header.get(key)} <= {"ProcessingApplied"}
    assert len(a.header["ProcessingApplied"]) == len(b.header["ProcessingApplied"]) == 2
    return a.header["ProcessingApplied"][-1]


def test_the_launcher_does_it_without_fsl_mrs(file, done, model, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "fsl_mrs" else find(name, *more)
    )
    (tmp_path / "config").write_text(f"model = {model}\n")
    words = ["--config", tmp_path / "config", "dl-denoise", "--file", file, "--output", tmp_path / "out", "-r"]
    assert without_fsl_mrs.fsl_mrs_proc([str(word) for word in words]) == 0
    same(tmp_path / "out" / "svs.nii.gz", done / "svs.nii.gz")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report_dl_denoise.html", "svs.nii.gz"]


@pytest.mark.with_fsl_mrs
@pytest.mark.filterwarnings("ignore")
def test_fsl_mrs_proc_does_it_to_the_bit(file, done, model, tmp_path):
    import test_fslmrs

    words = ["dl-denoise", "--file", file, "--model", model, "--output", tmp_path / "out", "--device", "cpu", "-r"]
    assert "Denoised 4 of 6 spectra" in test_fslmrs.succeeds("fsl_mrs_proc", *words).stdout
    assert same(tmp_path / "out" / "svs.nii.gz", done / "svs.nii.gz")["Details"].startswith(
        "fsl_mrs_proc dl-denoise, model=tiny"
    )
    assert (tmp_path / "out" / "report_dl_denoise.html").is_file()
    words[4] = "quant-universal"
    words[6] = tmp_path / "other"
    outcome = test_fslmrs.run("fsl_mrs_proc", *words)
    test_fslmrs.fails(outcome, "fsl_mrs_proc dl-denoise: error: ", "proposes initial values of fits")


@pytest.mark.with_fsl_mrs
@pytest.mark.filterwarnings("ignore")
def test_fsl_mrs_with_dlquant_warns_and_keeps_the_warning(file, model, basis_folder, tmp_path):
    import test_fslmrs

    one = nifti.load(file)
    one = replace(one, fids=one.fids[..., 0], dim_tags=(), header={k: v for k, v in one.header.items() if k != "dim_5"})
    nifti.save(tmp_path / "one.nii.gz", one)
    assert (
        main(
            ["denoise", "--file", str(tmp_path / "one.nii.gz"), "--model", str(model), "--output", str(tmp_path / "d")]
        )
        == 0
    )
    for name, data, warned in (("raw", tmp_path / "one.nii.gz", False), ("out", tmp_path / "d" / "one.nii.gz", True)):
        words = [
            "--data",
            data,
            "--basis",
            basis_folder,
            "--output",
            tmp_path / name,
            "--baseline",
            "off",
            "--algo",
            "dlquant",
        ]
        done = test_fslmrs.succeeds("fsl_mrs", *words, "--dl-init", "classical", "--internal_ref", "Cr")
        assert (f"Warning: {data} was denoised" in done.stderr) == warned
        assert ("SDs are too small" in (tmp_path / name / "options.txt").read_text()) == warned
