"""``fsl_mrs_dl fit --spectral-model in-vivo``: files, notes, and what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.fitting.data import check_reference
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo


@pytest.fixture(scope="module")
def files(sim_basis, tmp_path_factory):
    """A spectrum with eddy currents, its water, and the basis set, as files."""
    folder = tmp_path_factory.mktemp("in_vivo")
    made = simulate_in_vivo(sim_basis, sim_basis.axes, 1, snr=(300, 300), seed=4, departure="eddy currents")
    axes, header = made.axes, {"EchoTime": 0.035, "RepetitionTime": 2.0}
    for name, fids in (("svs", made.fids), ("water", made.water)):
        data = MrsData(
            fids.reshape(1, 1, 1, -1).astype(np.complex64),
            axes.dwelltime,
            axes.spec_freq_mhz,
            "1H",
            header={"SpectrometerFrequency": [axes.spec_freq_mhz], "ResonantNucleus": ["1H"], **header},
            affine=np.eye(4),
        )
        nifti.save(folder / f"{name}.nii.gz", data)
    sim_basis.save(folder / "basis")
    return folder


def fit(files, output, *words):
    """Run the command; returns its exit status."""
    data = ["--data", str(files / "svs.nii.gz"), "--basis", str(files / "basis"), "--output", str(output)]
    return main(["fit", *data, "--spectral-model", "in-vivo", "--internal_ref", "Cr", *words])


def test_files_of_an_in_vivo_fit(files, tmp_path, capsys):
    assert fit(files, tmp_path / "out", "--report", "--export_separate") == 0
    assert "in-vivo model's" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "summary.csv",
        "uncertainty.csv",
        "fit.nii.gz",
        "fit_baseline.nii.gz",
        "fit_Cr.nii.gz",
        "report.html",
    } <= names
    with open(tmp_path / "out" / "uncertainty.csv", newline="") as file:
        rows = {row["Metab"]: row for row in csv.DictReader(file)}
    assert "MM" in rows and "Lip13" in rows
    assert 0 <= float(rows["Cr"]["prior_share"]) < 0.2
    assert float(rows["Cr"]["ci95_low"]) < float(rows["Cr"]["conc"]) < float(rows["Cr"]["ci95_high"])
    options = json.loads((tmp_path / "out" / "options.txt").read_text().splitlines()[0])
    # It has one; an order below zero is FSL-MRS's word for none of its own.
    assert options["baseline"] == "in-vivo: a Gaussian process" and options["baseline_order"] == -1
    with open(tmp_path / "out" / "all_parameters.csv", newline="") as file:
        parameters = {row["parameter"] for row in csv.DictReader(file)}
    assert {"shift_hz_NAA", "damping_per_s_NAA", "baseline_dimension"} <= parameters
    page = (tmp_path / "out" / "report.html").read_text()
    assert "in-vivo" in page and "95 % band of the model" in page
    assert "metabolite group" not in page and "baseline smooth, estimated" in page
    assert float(rows["Cr"]["in_vivo_sd"]) > 0 and "crlb_sd" not in rows["Cr"]


def test_the_report_lists_what_the_estimate_rests_on(files, tmp_path, capsys):
    for label, words, expected in (
        ("plain", (), ("a factor of 2.72 about typical", "no line shape")),
        ("held", ("--soft_constraints", "--prior", "none"), ("<td>none</td>", "GABA/(NAA+Cr+3 GPC) = 0.03 +- 0.03")),
    ):
        assert fit(files, tmp_path / label, "--report", *words) == 0
        page = (tmp_path / label / "report.html").read_text()
        out = capsys.readouterr().out
        assert ("Concentrations have no prior." in out) == ("Soft constraints: Asp/" in out) == (label == "held")
        assert all(text in page for text in ("Prior of concentrations", "Soft constraints", *expected))


def test_water_makes_the_residual_smaller(files, tmp_path, capsys):
    misfit, image = {}, tmp_path / "t1.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.float32), np.diag([8.0, 8, 8, 1])), image)
    for label, words in (("without", ()), ("with", ("--h2o", str(files / "water.nii.gz")))):
        assert fit(files, tmp_path / label, *words, "--t1", str(image), "--report") == 0
        # A picture of the voxel is no segmentation.
        assert ("need a segmentation of it" in capsys.readouterr().out) is bool(words)
        page = (tmp_path / label / "report.html").read_text(encoding="utf-8")
        assert ("<td>Water reference</td>" in page) is bool(words)
        with open(tmp_path / label / "uncertainty.csv", newline="") as file:
            misfit[label] = float(next(csv.DictReader(file))["misfit"])
    assert misfit["with"] <= misfit["without"]


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ("--baseline", "off"),
            "--baseline: belongs to FSL-MRS's model; leave it out, or choose --spectral-model fsl-mrs.",
        ),
        (("--free_shift",), "--free_shift: belongs to FSL-MRS's model"),
        (("--prior", "volume"), "--prior volume: the in-vivo model has priors of its own; leave it out, or"),
        (("--estimate", "ml"), "--estimate ml: "),
        (("--mm", "liver"), "--mm liver: no such file"),
        (("--h2o", "nowhere.nii.gz"), "nowhere.nii.gz: no such file"),
        (("--TE", "0.035"), "--TE 0.035: is in ms, 0 or 0.3 to 1000; give 35 for 0.035 s."),
        (("--TR", "2000"), "--TR 2000: is in s, 0.01 to 100; give 2 for 2000 ms."),
    ],
)
def test_refused(files, tmp_path, capsys, words, message):
    assert fit(files, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_water_scales_fits_of_either_model(files, tmp_path, capsys):
    words = ["--data", str(files / "svs.nii.gz"), "--basis", str(files / "basis"), "--h2o", str(files / "water.nii.gz")]
    for number, more in enumerate((("--spectral-model", "in-vivo"), ("--baseline", "off"))):
        out = tmp_path / f"out{number}"
        assert main(["fit", *words, "--output", str(out), *more, "--tissue_frac", "0.4", "0.5", "0.1", "--report"]) == 0
        printed = capsys.readouterr().out
        assert " mM " in printed and "Absolute concentrations: Cr is compared with water" in printed
        with open(out / "concentration_budget.csv", newline="") as file:
            rows = {(row["Metab"], row["unit"]): row for row in csv.DictReader(file)}
        of_naa = rows["NAA", "molarity"]
        shares = [float(value) for name, value in of_naa.items() if name.endswith("_share")]
        assert len(shares) == 6 and abs(sum(shares) - 1) < 1e-9 and min(shares) >= 0
        with open(out / "summary.csv", newline="") as file:
            of_summary = {row["Metab"]: row for row in csv.DictReader(file)}
        assert float(of_summary["NAA"]["mM"]) == pytest.approx(float(of_naa["concentration"]))
        assert "<h2>Absolute concentrations</h2>" in (out / "report.html").read_text(encoding="utf-8")
        assert (out / "quantification_info.csv").is_file()
    with open(tmp_path / "out0" / "uncertainty.csv", newline="") as file:
        lipid = next(row for row in csv.DictReader(file) if row["Metab"] == "MM")
    assert lipid["molarity"] == ""


def test_why_there_are_no_absolute_concentrations(files, tmp_path, capsys):
    words = ["--data", str(files / "svs.nii.gz"), "--basis", str(files / "basis"), "--baseline", "off"]
    assert main(["fit", *words, "--output", str(tmp_path / "out")]) == 0
    line = "No absolute concentrations: there is no water reference; give one with --h2o.\n"
    assert line in capsys.readouterr().out
    assert not (tmp_path / "out" / "concentration_budget.csv").exists()


def test_it_is_the_default_until_an_option_of_the_other_model_is_given(files, tmp_path, capsys):
    words = ["--data", str(files / "svs.nii.gz"), "--basis", str(files / "basis"), "--output", str(tmp_path / "out")]
    assert main(["fit", *words]) == 0
    assert "FSL-MRS" not in capsys.readouterr().out
    assert "in-vivo" in (tmp_path / "out" / "options.txt").read_text(encoding="utf-8")
    assert main(["fit", *words, "--overwrite", "--baseline", "off"]) == 0
    assert "FSL-MRS's spectral model is fitted: --baseline belongs to it.\n" in capsys.readouterr().out


def test_spectra_are_no_water_reference(files, tmp_path, capsys):
    data = nifti.load(files / "svs.nii.gz")
    time = np.arange(data.n_points) * data.dwelltime
    residual = 2 * np.abs(data.fids).max() * np.exp(-30 * time)
    remedy = "give the water reference of the scan, acquired without water suppression; without one leave --h2o out"
    # Half-suppressed water had passed, though it is far below any reference.
    for name, fids, problem in (
        ("copy", data.fids, f"holds the same spectra as --data, {files / 'svs.nii.gz'}: this is not"),
        ("other", 1.1 * data.fids, "this is not unsuppressed water"),
        ("residual", data.fids + residual, "times as high as the highest line"),
    ):
        path = tmp_path / f"{name}.nii.gz"
        nifti.save(path, replace(data, fids=fids.astype(np.complex64)))
        assert fit(files, tmp_path / "out", "--h2o", str(path)) == 2
        error = capsys.readouterr().err
        assert f"--h2o {path}: " in error and problem in error and remedy in error, error
    assert fit(files, tmp_path / "out", "--h2o", str(files / "svs.nii.gz")) == 2
    assert f"--h2o {files / 'svs.nii.gz'}: is the same file as --data: this is not" in capsys.readouterr().err


def test_references_of_every_kind_are_water():
    """Transients of single coils, and of a broad line."""
    rng, time = np.random.default_rng(0), np.arange(1024) * 2.5e-4
    line = 500 * np.exp(-60 * time + 30j * time)[None, None, None, :, None]
    noise = rng.normal(size=(1, 1, 1, 1024, 8)) + 1j * rng.normal(size=(1, 1, 1, 1024, 8))
    about = {"spec_freq_mhz": 127.7, "nucleus": "1H"}
    water = MrsData(line + noise, 2.5e-4, **about, dim_tags=("DIM_COIL",))
    check_reference(water, MrsData(noise, 2.5e-4, **about, dim_tags=("DIM_COIL",)))
    with pytest.raises(DataError, match="its water peak is .* times as high as the highest point.*not 10 times"):
        check_reference(replace(water, fids=noise), water)


def test_from_python(files, sim_basis):
    from fsl_mrs_dl import load, quantify
    from fsl_mrs_dl.core.errors import OptionError

    svs, water = load(files / "svs.nii.gz"), load(files / "water.nii.gz")
    about = {"dwelltime": svs.dwelltime, "spec_freq_mhz": svs.spec_freq_mhz}
    found = quantify(svs.fids[0, 0, 0], sim_basis, spectral_model="in-vivo", water=water.fids[0, 0, 0], **about)
    assert found.model.name == "in-vivo" and found.water is not None
    with pytest.raises(OptionError, match="in-vivo only"):
        quantify(svs.fids[0, 0, 0], sim_basis, water=water.fids[0, 0, 0], **about)


@pytest.mark.parametrize("own", [False, True])
def test_the_unit_of_macromolecules_is_named(files, sim_basis, tmp_path, capsys, own):
    basis = files / "basis"
    if own:
        basis = tmp_path / "own"
        pattern = np.exp((2j * np.pi * sim_basis.axes.ppm_to_hz(1.4) - 80) * sim_basis.axes.time())
        fids = np.concatenate([sim_basis.fids, pattern[None]])
        replace(sim_basis, fids=fids, names=(*sim_basis.names, "Mac"), widths_hz=()).save(basis, info="simulated")
    words = ["--data", str(files / "svs.nii.gz"), "--basis", str(basis), "--output", str(tmp_path / "out")]
    assert main(["fit", *words]) == 0
    unit = (
        "MM: own macromolecules, 1 is ten times"
        if own
        else "MM: the sum of all macromolecules, about 0.2 to 1 per total"
    )
    assert unit in capsys.readouterr().out


def test_initial_values_of_a_network_are_taken_on_request(files, tmp_path, capsys):
    assert fit(files, tmp_path / "out", "--init", "both") == 0
    assert "initial values both" in capsys.readouterr().out
    assert fit(files, tmp_path / "other", "--init", "best") == 2
    assert "--init best: there are no such initial values" in capsys.readouterr().err


def test_options_of_both_models_are_named_together(files, tmp_path, capsys):
    words = [
        "fit",
        "--data",
        str(files / "svs.nii.gz"),
        "--basis",
        str(files / "basis"),
        "--output",
        str(tmp_path / "o"),
    ]
    for option, other in ((["--soft_constraints"], ["--baseline", "off"]), (["--mm", "tumour"], ["--lorentzian"])):
        assert main([*words, *option, *other]) == 2
        assert f"{option[0]}: belongs to the in-vivo model, and {other[0]} to FSL-MRS's" in capsys.readouterr().err
