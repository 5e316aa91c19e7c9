"""``fit`` and ``run`` of edited data: files, tables, and the same digits everywhere."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.cli.tables import text_table
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting import artefacts
from fsl_mrs_dl.fitting.data import fit_data
from fsl_mrs_dl.io import nifti, output
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.edited_basis import EditedBasis
from fsl_mrs_dl.results.edited import edited_table
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.simulation.edited_basis import simulate_edited_basis
from fsl_mrs_dl.simulation.edited_spectra import simulate_edited

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["Cr", "GABA", "GPC", "GSH", "Gln", "Glu", "Ins", "NAA", "NAAG", "PCr"]
AXES = Axes(1024, 1 / 2000, 123.25)


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A folder with a MEGA-PRESS basis set, averaged sub-spectra, their transients in turn, and water."""
    folder = tmp_path_factory.mktemp("edited")
    basis = simulate_edited_basis(NAMES, "mega-press", spec_freq_mhz=123.25, n_points=1024, edit_pulse="ideal")
    (folder / "basis").mkdir()
    basis.save(folder / "basis")
    spectra = simulate_edited(basis, AXES, 1, seed=4, snr=(150, 150))
    header = {"SpectrometerFrequency": [123.25], "ResonantNucleus": ["1H"], "SequenceName": "svs_mega"}
    header |= {"EchoTime": 0.068, "RepetitionTime": 2.0}

    def save(name, fids, tags):
        numbered = {f"dim_{number}": tag for number, tag in enumerate(tags, start=5)}
        fids = np.asarray(fids, np.complex64)[None, None, None]
        data = nifti.MrsData(fids, AXES.dwelltime, AXES.spec_freq_mhz, "1H", tags, header | numbered)
        nifti.save(folder / f"{name}.nii.gz", data)

    save("mean", spectra.fids[0].T, ("DIM_EDIT",))
    random = np.random.default_rng(0)
    noise = random.standard_normal((1024, 12, 2, 2)).view(complex)[..., 0]
    each = spectra.fids[0].T[:, None] + np.sqrt(12) * 0.3 * spectra.noise_sd[0] * noise
    save("in_turn", each.reshape(1024, 24), ("DIM_DYN",))
    save("water", 4e4 * np.exp(-20 * AXES.time()), ())
    return folder


@pytest.fixture(scope="module")
def fitted(edited):
    words = ["fit", "--data", edited / "mean.nii.gz", "--basis", edited / "basis", "--output", edited / "fit"]
    words += ["--report", "--h2o", edited / "water.nii.gz", "--tissue_frac", "0.3", "0.6", "0.1"]
    assert main([str(word) for word in words]) == 0
    return edited / "fit"


def test_fit_writes_a_folder_of_the_condition_off_and_what_editing_is_for(edited, fitted, capsys):
    table = pd.read_csv(fitted / "edited.csv")
    ratios = table[table["quantity"] == "tCr"].set_index("name")
    parts = ratios.loc["GABA", "value"] + ratios.loc["MM3co", "value"]
    assert ratios.loc["GABAplus", "value"] == pytest.approx(parts)
    assert ratios.loc["GABAplus", "sd"] < np.hypot(ratios.loc["GABA", "sd"], ratios.loc["MM3co", "sd"])
    assert {"GSH", "Glx", "tNAA"} <= set(ratios.index)
    quality = pd.read_csv(fitted / "edited_quality.csv").iloc[0]
    assert quality["efficiency_1.9ppm"] == pytest.approx(1, abs=0.1) and quality["conditions"] == "on off"
    assert quality["subtraction_artefact_difference_pct"] < 10 and 2 < quality["Cr_FWHM_hz"] < 15
    on, off, difference = (nifti.load(fitted / "edited" / f"{name}.nii.gz") for name in ("on", "off", "difference"))
    assert difference.fids == pytest.approx(on.fids - off.fids, abs=1e-4 * float(np.abs(off.fids).max()))
    model = nifti.load(fitted / "edited" / "difference_fit.nii.gz")
    first, last = AXES.window((0.5, 4.0))
    residual, whole = (
        fid_to_spec(fids[0, 0, 0])[first:last] for fids in (model.fids - difference.fids, difference.fids)
    )
    assert np.abs(residual).max() < 0.15 * np.abs(whole).max()
    assert (fitted / "edited_summary.png").stat().st_size > 20_000
    for each in (table.iloc[0], quality):
        assert bool(each["usable"]) and each["verdict"] in ("good", "doubtful")
    # A folder of one condition, for programs that know nothing of editing.
    assert nifti.load(fitted / "data.nii.gz").dim_tags == ()
    assert Basis.load(fitted / "basis").names == tuple(NAMES)
    assert EditedBasis.load(fitted / "edited" / "basis").conditions == ("on", "off")
    report = (fitted / "report.html").read_text(encoding="utf-8")
    assert "Edited spectra" in report and "GABAplus" in report and "of condition off" in report


def test_over_water_every_correction_for_tissue_is_named(fitted):
    table = pd.read_csv(fitted / "edited.csv").set_index(["name", "quantity"])["value"].xs("GABAplus")
    assert table["CSFWaterScaled"] == pytest.approx(table["rawWaterScaled"] / 0.9)
    assert table["AlphaCorrWaterScaled"] == pytest.approx(table["TissCorrWaterScaled"] * 0.9 / (0.6 + 0.5 * 0.3))
    # Pure water has more protons in a volume, and relaxes as if half were grey and half white matter.
    assert 0.7 < table["TissCorrWaterScaled"] / table["CSFWaterScaled"] < 1.3
    whole = pd.read_csv(fitted / "uncertainty.csv").set_index("Metab")
    assert table["TissCorrWaterScaled"] == pytest.approx(whole.loc["GABA+MM3co", "molality"])
    assert table["molarity"] == pytest.approx(whole.loc["GABA+MM3co", "molarity"])


def test_fit_run_and_python_have_the_same_digits(edited, fitted):
    in_python = fit_data(nifti.load(edited / "mean.nii.gz"), EditedBasis.load(edited / "basis"))
    table = edited_table(FitResults.of_data(in_python, _options()))
    files = pd.read_csv(fitted / "edited.csv")
    files = files[files["quantity"] == "tCr"].reset_index(drop=True)
    assert table["value"].to_numpy() == pytest.approx(files["value"].to_numpy(), rel=1e-9)
    words = ["run", "--data", edited / "mean.nii.gz", "--basis", edited / "basis", "--output", edited / "run"]
    assert main([str(word) for word in [*words, "--no-water-removal", "--no-reference"]]) == 0
    run = pd.read_csv(edited / "run" / "edited.csv")
    assert run["value"].to_numpy() == pytest.approx(files["value"].to_numpy(), rel=1e-6)


def _options():
    from fsl_mrs_dl.fitting.options import FitOptions

    return FitOptions(spectral_model="in-vivo")


def test_results_can_be_replaced(fitted):
    assert output.new_output_folder(fitted, overwrite=True) == fitted


def test_run_takes_transients_in_turn_and_simulates_the_basis_set(edited, capsys):
    words = ["run", "--data", edited / "in_turn.nii.gz", "--output", edited / "turn", "--edit-order", "alternating"]
    assert main([str(word) for word in words]) == 0
    text = capsys.readouterr().out
    assert "simulated for mega-press, TE 68 ms" in text and "sinc-gaussian at 1.9 ppm" in text
    assert "slice-selective refocusing pulses" in text and "an assumed TE1 of 14 ms and editing pulses midway" in text
    methods = (edited / "turn" / "methods.md").read_text(encoding="utf-8")
    assert "assumed TE1 of 14 ms" in methods and "(fsl_mrs_dl simulate basis --TE1 or --edit-delay makes" in methods
    assert "conditions on off (recognised), fitted jointly" in text
    record = json.loads((edited / "turn" / "run.json").read_text(encoding="utf-8"))
    assert any(step["name"] == "edited spectra" for step in record["steps"])
    assert nifti.load(edited / "turn" / "processed.nii.gz").dim_tags == ("DIM_EDIT",)


def test_the_difference_alone_is_fitted_on_request(edited, capsys):
    words = ["fit", "--data", edited / "mean.nii.gz", "--basis", edited / "basis", "--output", edited / "difference"]
    assert main([str(word) for word in [*words, "--edit-mode", "difference"]]) == 0
    names = pd.read_csv(edited / "difference" / "concentrations.csv", header=[0, 1])["Metabs"].iloc[:, 0].tolist()
    assert "GABA" in names and "Cr" not in names
    assert "difference is fitted alone: its GABA includes the macromolecule" in capsys.readouterr().out
    methods = (edited / "difference" / "methods.md").read_text(encoding="utf-8")
    assert "linear combination model of FSL-MRS" in methods and "jointly" not in methods


def test_a_wrong_order_is_named_and_a_folder_is_replaced(edited, capsys):
    words = ["fit", "--data", edited / "mean.nii.gz", "--basis", edited / "basis", "--output", edited / "wrong"]
    assert main([str(word) for word in [*words, "--edit-conditions", "off", "on"]]) == 0
    assert "The data look like on off" in capsys.readouterr().out
    assert main([str(word) for word in [*words, "--overwrite"]]) == 0
    assert "look like" not in capsys.readouterr().out


def test_run_fits_the_difference_with_its_usual_sums(edited):
    words = [
        "run",
        "--data",
        edited / "mean.nii.gz",
        "--basis",
        edited / "basis",
        "--output",
        edited / "run_difference",
    ]
    assert main([str(word) for word in [*words, "--edit-mode", "difference"]]) == 0
    assert "Glu+Gln" in pd.read_csv(edited / "run_difference" / "summary.csv")["Metab"].tolist()


def test_wrong_combinations_of_data_and_basis_set_have_one_line(edited, capsys):
    plain = edited / "basis" / "off"
    words = ["run", "--data", edited / "mean.nii.gz", "--basis", plain, "--output", edited / "none"]
    assert main([str(word) for word in words]) == 2
    assert "its conditions need a basis set each" in capsys.readouterr().err
    words = ["run", "--data", edited / "in_turn.nii.gz", "--basis", edited / "basis", "--output", edited / "none"]
    assert main([str(word) for word in words]) == 2
    assert "has no edit conditions" in capsys.readouterr().err
    words = ["fit", "--data", edited / "mean.nii.gz", "--basis", edited / "basis", "--output", edited / "none"]
    assert main([str(word) for word in [*words, "--edit-mode", "sum"]]) == 2
    assert "joint, difference" in capsys.readouterr().err
    assert main([str(word) for word in [*words, "--edit-conditions", "on", "on"]]) == 2
    assert "--edit-conditions" in capsys.readouterr().err
    words = ["mrsi", "--data", edited / "mean.nii.gz", "--basis", edited / "basis", "--output", edited / "none"]
    assert main([str(word) for word in words]) == 2
    assert "holds a basis set for each edit condition; give one of its sub-folders" in capsys.readouterr().err
    assert not (edited / "none").exists()


def test_remedies_of_a_joint_fit_name_its_own_options(edited):
    """An echo that made the fit useless was left to the user, and `--mm tumour` was the advice for the rest."""
    fitted = fit_data(nifti.load(edited / "mean.nii.gz"), EditedBasis.load(edited / "basis"))
    large = replace(fitted.fit, noise_sd=3 * fitted.fit.noise_outside_sd)
    results = FitResults.of_data(replace(fitted, fit=large), _options())
    text = text_table(results)
    assert "try a basis set of the same sequence, echo time and editing pulses." in text and "tumour" not in text
    echo = artefacts.Artefact("spurious echo", "3.5 to 3.9 ppm", "leave it out", (0.2, 3.5))
    remedy = "leave the spurious echo out of the window (--ppmlim 0.2 3.5)"
    assert f"counts as noise in the SDs: {remedy} and compare." in text_table(replace(results, foreign=[echo]))
    not_converged = replace(results, foreign=[echo], fit=replace(large, converged=np.zeros(1, bool)))
    text = text_table(not_converged)
    assert f"did NOT converge and should not be used as it is (column converged in uncertainty.csv): {remedy}." in text
    assert "counts as noise" not in text
    of_difference = replace(fitted, edited=None, combined=True)
    assert FitResults.of_data(of_difference, _options()).is_edited
