"""Tables and files of a fit: against FSL-MRS's own, against brute force, and whole or not at all."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fsl_mrs_grid import as_fsl_mrs
from matplotlib.colors import to_hex

import fsl_mrs_dl
from fsl_mrs_dl.cli.tables import text_table
from fsl_mrs_dl.core.errors import DataError, OutputError
from fsl_mrs_dl.fitting.artefacts import Artefact
from fsl_mrs_dl.fitting.verdict import UNUSABLE, VERDICTS
from fsl_mrs_dl.io import nifti, output
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.results import figures, tables, write
from fsl_mrs_dl.results.doubts import quality_column
from fsl_mrs_dl.results.fit_results import FitResults, hardly_determined
from fsl_mrs_dl.results.reports.fit import write_fit_report
from fsl_mrs_dl.results.reports.fit_figures import spectrum_figure
from fsl_mrs_dl.results.reports.fit_tables import concentrations_table, settings_table
from fsl_mrs_dl.simulation.acquisition import simulate_basis, simulate_svs


@pytest.fixture(scope="module")
def basis():
    return simulate_basis(["NAA", "Cr", "PCr", "GPC", "Glu", "Ins", "GABA"], te_ms=35.0, n_points=1024)


def fitted(basis, transients=1, **options) -> FitResults:
    simulated = simulate_svs(basis, transients=transients, snr=60, seed=3, drift_hz=1, drift_deg=2)
    fids = np.moveaxis(simulated.data.fids, 3, -1).reshape(-1, basis.n_points)
    fit = fsl_mrs_dl.quantify(fids, basis, dwelltime=basis.dwelltime, spec_freq_mhz=basis.spec_freq_mhz, **options)
    return FitResults(fit, simulated.data, ["Cr", "PCr"], ["Glu+GABA"])


@pytest.mark.parametrize("baseline", ["off", "poly, 2", "spline, stiff"])
def test_parameter_sds_are_those_of_the_whole_model(basis, baseline):
    """SDs of all parameters, baseline included, equal the inverse of the whole information matrix."""
    results = fitted(basis, model="lorentzian", baseline=baseline)
    fit, model = results.fit, results.fit.model
    jacobian = model.jacobian(torch.as_tensor(fit.params))[0].numpy()
    if baseline == "off":
        jacobian = jacobian[:, :-2]
    stacked = np.concatenate([jacobian.real, jacobian.imag])
    information = stacked.T @ stacked
    n = model.baseline.n_regressors
    if baseline.startswith("spline"):
        information[-2 * n : -n, -2 * n : -n] += model.baseline.penalty
        information[-n:, -n:] += model.baseline.penalty
    truth = np.sqrt(np.diag(np.linalg.inv(information))) * fit.noise_sd[0]
    ours = fit.parameter_sd()[0]
    fine = len(truth) - (2 * n if baseline != "off" else 0)
    assert np.allclose(ours[:fine], truth[:fine], rtol=1e-5)
    if baseline == "poly, 2":
        assert np.allclose(ours[fine:], truth[fine:], rtol=1e-5)
    if baseline == "off":
        assert (ours[fine:] == 0).all()


def test_sums_and_ratios_use_the_covariance(basis):
    results = fitted(basis)
    frame = tables.uncertainty_table(results).set_index("Metab")
    cov = results.fit.cov[0]
    i, j = results.fit.members("Glu+GABA")
    assert frame.loc["Glu+GABA", "crlb_sd"] == pytest.approx(np.sqrt(cov[i, i] + cov[j, j] + 2 * cov[i, j]))
    assert frame.loc["Cr+PCr", "ratio"] == pytest.approx(1) and frame.loc["Cr+PCr", "ratio_sd"] == pytest.approx(
        0, abs=1e-9
    )
    # Cr and PCr trade against each other: their sum is known far better than either.
    assert frame.loc["Cr+PCr", "crlb_sd"] < 0.5 * frame.loc["Cr", "crlb_sd"]


def test_the_noise_of_tables_and_pictures_is_the_noise(basis):
    """It was the SD of the residual, the noise times the misfit."""
    results = fitted(basis)
    fit = replace(results.fit, noise_sd=3 * results.fit.noise_outside_sd)
    results = replace(results, fit=fit)
    table = tables.uncertainty_table(results)
    assert np.allclose(table["noise_sd"], fit.noise_outside_sd[0]) and np.allclose(
        table["residual_sd"], fit.noise_sd[0]
    )
    assert np.allclose(table["residual_sd"] / table["noise_sd"], table["misfit"])
    title = figures.fit_summary(results).get_suptitle()
    assert f"noise SD {fit.noise_outside_sd[0]:.3g}, residual / noise 3.00" in title


def test_one_rule_marks_what_the_spectrum_hardly_determines(basis):
    """Grey meant the SD in pictures, and `*` the prior in the terminal."""
    assert hardly_determined(np.array([45.0, 54, 20, 999]), np.array([1.0, 0.1, np.nan, 0])).tolist() == [1, 1, 0, 1]
    assert hardly_determined(np.array([45.0, 54, np.nan]), None).tolist() == [0, 1, 1]
    assert not hardly_determined(np.full(3, np.nan), None).any()
    results = fitted(basis)
    percent = np.full((1, len(results.names)), 10.0)
    percent[0, results.names.index("GABA")] = 60.0
    vars(results)["percent"] = percent
    lines = {line.split()[0]: line for line in text_table(results).splitlines() if line}
    assert lines["GABA"].endswith(" *") and not lines["NAA"].endswith("*")
    assert "* SD above 50 %: hardly determined." in text_table(results)
    report = concentrations_table(results, 0)
    assert '<tr class="weak"><td>GABA *</td>' in report and report.count('class="weak"') == 1
    shown = figures.fit_summary(results).axes[1]
    grey = [line for line in shown.lines if line.get_color() == figures.GREY and line.get_marker() == "o"]
    assert len(grey) == 1 and len(grey[0].get_xdata()) == 1


def test_a_report_says_where_a_phase_is_that_of(basis):
    page = settings_table(fitted(basis), 0)
    assert re.search(r"Phase that turns the data upright</td><td>-?[\d.]+ deg at 4\.65 ppm; -?[\d.]+ deg/ppm", page)
    assert "Shift of the data to higher ppm" in page


def test_the_planes_of_a_voxel_are_named_within_the_picture(basis, tmp_path, monkeypatch):
    """Titles above the panels were cut at the edge."""
    from matplotlib.figure import Figure

    data = fitted(basis).data
    nib.Nifti1Image(np.ones((20, 20, 20), np.float32), np.diag([10, 10, 10, 1.0])).to_filename(tmp_path / "t1.nii.gz")
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: kept.append(figure))
    figures.voxel_location(tmp_path / "t1.nii.gz", data, tmp_path / "location.png")
    (figure,) = kept
    figure.draw_without_rendering()
    for panel, name in zip(figure.axes, ("sagittal", "coronal", "axial")):
        box = next(text for text in panel.texts if text.get_text() == name).get_window_extent()
        assert box.y1 < figure.bbox.y1 - 2


def test_without_the_internal_reference_raw_figures_are_given(basis):
    results = fitted(basis.select(ignore=["PCr"]))
    assert results.reference is None
    columns = [
        "Metab",
        "Raw conc",
        "Raw CRLB",
        "%CRLB",
        "SNR",
        "FWHM",
        "CRLB is",
        "misfit",
        "usable",
        "verdict",
        "reasons",
    ]
    assert list(tables.summary_table(results).columns) == columns
    assert ("mean", "internal") not in tables.concentration_table(results).columns


def test_rows_are_named_by_their_dimensions(basis):
    results = fitted(basis, transients=5)
    assert tables.summary_table(results)["DIM_DYN"].tolist() == np.repeat(range(5), len(results.names)).tolist()
    assert write.model_data(results).fids.shape == results.data.fids.shape
    noise = results.data.fids - write.model_data(results).fids
    assert np.abs(noise).std() < 0.2 * np.abs(results.data.fids[0, 0, 0, :50]).std()


def test_voxels_keep_their_places(basis):
    """Spatial data are fitted voxel by voxel; the file of fits has each in its place."""
    simulated = simulate_svs(basis, transients=6, snr=100, seed=1, drift_hz=20, drift_deg=90)
    header = {k: v for k, v in simulated.data.header.items() if k != "dim_5"}
    fids = np.moveaxis(simulated.data.fids[0, 0, 0], -1, 0).reshape(3, 2, 1, -1)
    data = replace(simulated.data, fids=fids, dim_tags=(), header=header)
    fit = fsl_mrs_dl.quantify(fids, basis, dwelltime=basis.dwelltime, spec_freq_mhz=basis.spec_freq_mhz)
    results = FitResults(fit, data, ["Cr", "PCr"], [])
    assert list(results.index.columns) == ["x", "y"]
    like = np.abs(np.sum(write.model_data(results).fids.conj() * fids, -1)) / np.linalg.norm(fids, axis=-1)
    assert np.allclose(like, np.linalg.norm(write.model_data(results).fids, axis=-1), rtol=0.05)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), output.folder_for(tmp_path / "out", False) as folder:
        (folder / "half").write_text("x")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with output.folder_for(tmp_path / "out", False) as folder:
        (folder / "options.txt").write_text("1")
    with pytest.raises(OutputError, match="overwrite"), output.folder_for(tmp_path / "out", False):
        pass
    with pytest.raises(ZeroDivisionError), output.folder_for(tmp_path / "out", True):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "options.txt").read_text() == "1"
    with output.folder_for(tmp_path / "out", True) as folder:
        (folder / "b").write_text("2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"] and len(list(tmp_path.iterdir())) == 1


def test_report_names_every_metabolite_and_loads_nothing_from_elsewhere(basis, tmp_path):
    results = fitted(basis, transients=2)
    page = write_fit_report(tmp_path / "r.html", results, data="<file>.nii.gz", basis="b").read_text()
    assert all(f"<td>{name}</td>" in page for name in results.names)
    assert "&lt;file&gt;" in page
    # The plotting library's own text mentions addresses; the page's tags must not load any.
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=.https?:", page)


def page_of(results, tmp_path, **words):
    """The report without the plotting library."""
    page = write_fit_report(tmp_path / "r.html", results, **words).read_text(encoding="utf-8")
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_the_verdict_stands_first_in_its_colour_with_its_reasons(basis, tmp_path):
    """It was the fourth line of a table of facts and warnings."""
    good = fitted(basis)
    bad = replace(good, fit=replace(good.fit, converged=np.zeros(1, bool)))
    strange = Artefact("lipid", "a line at 1.3 ppm", "choose `mm` tumour")
    doubtful = replace(good, artefacts_before=[strange])
    vars(doubtful)["artefacts"] = {0: []}
    for results, kind, reasons in (
        (good, "good", ()),
        (doubtful, "doubtful", ("Lipid: a line at 1.3 ppm. Choose --mm tumour.",)),
        (bad, "unusable", ("It did not converge.",)),
    ):
        page = page_of(results, tmp_path)
        frame = re.search(rf'<div class="verdict {kind}">(.*?)</div>', page, re.DOTALL)
        assert frame and f"Verdict: {VERDICTS[results.verdict[0]]}" in frame[1] and "SNR of NAA" in frame[1]
        assert re.findall("<li>(.*?)</li>", frame[1]) == list(reasons)
        assert page.index("Verdict") < page.index("<h2>") and page.count("Lipid:") == (kind == "doubtful")
        figure = figures.fit_summary(results)
        assert figure.get_suptitle().startswith(f"VERDICT: {VERDICTS[results.verdict[0]]}")
        frame = figure._suptitle.get_bbox_patch()
        assert to_hex(frame.get_edgecolor()).lower() == figures.VERDICT_COLOURS[results.verdict[0]][0].lower()


def test_facts_and_warnings_stand_apart(basis, tmp_path):
    results = replace(fitted(basis), remarks=["its header has EchoTime 30 ms, and `TE` is 35 ms"])
    page = page_of(results, tmp_path, warnings=["has no RepetitionTime"], facts=[("Reading", "converted")])
    warnings, facts = page.split("<h2>Warnings</h2>")[1].split("<h2>Data and basis set</h2>")
    assert re.findall("<li>(.*?)</li>", warnings) == [
        "its header has EchoTime 30 ms, and --TE is 35 ms",
        "has no RepetitionTime",
    ]
    assert "<td>Points</td>" in facts and "<td>Reading</td><td>converted</td>" in facts and "Window" in facts
    assert "Warning" not in facts and "No warnings." in page_of(fitted(basis), tmp_path)


def test_tables_say_what_an_sd_and_an_interval_are(basis, tmp_path):
    results = fitted(basis)
    page = concentrations_table(results, 0)
    assert "<th>95 % interval</th>" in page and "SD is one standard deviation" in page and "confidence interval" in page
    frame = tables.uncertainty_table(results).set_index("Metab")
    low, high = (frame.loc["NAA", f"ratio_ci95_{end}"] for end in ("low", "high"))
    assert f"{low:.3f} to {high:.3f}" in page
    raw = fitted(basis.select(ignore=["PCr"]))
    frame = tables.uncertainty_table(raw).set_index("Metab")
    assert f"{frame.loc['NAA', 'ci95_low']:.3f} to {frame.loc['NAA', 'ci95_high']:.3f}" in concentrations_table(raw, 0)
    assert figures.fit_summary(results).axes[1].get_ylabel().endswith("bars: one SD")


def test_the_sum_of_macromolecules_is_a_line_of_the_interactive_figure(basis):
    plain = spectrum_figure(fitted(basis), 0)
    assert "macromolecules" not in [line.name for line in plain.data]
    mm = replace(basis, names=[*basis.names[:-1], "MM09"])
    results = fitted(mm)
    lines = {line.name: line for line in spectrum_figure(results, 0).data}
    turn = results.fit.upright(np.array([0]))[0, slice(*results.fit.model.window)]
    of_mm = (results.fit.metabolite_spectra(np.array([0]))[0] * turn).real[mm.names.index("MM09")]
    assert lines["macromolecules"].visible is None and np.ptp(lines["macromolecules"].y - of_mm) < 1e-9 * np.ptp(of_mm)
    assert max(lines["macromolecules"].y) < min(lines["data"].y)


def test_the_voxel_must_lie_in_the_image(basis, tmp_path):
    import nibabel as nib

    simulated = simulate_svs(basis, transients=1)
    nib.Nifti1Image(np.ones((20, 20, 20), np.float32), np.diag([10, 10, 10, 1.0])).to_filename(tmp_path / "t1.nii.gz")
    figures.voxel_location(tmp_path / "t1.nii.gz", simulated.data, tmp_path / "v.png")
    assert (tmp_path / "v.png").read_bytes()[:4] == b"\x89PNG"
    nib.MGHImage(np.ones((20, 20, 20), np.float32), np.diag([10, 10, 10, 1.0])).to_filename(tmp_path / "t1.mgz")
    figures.check_structural_image(tmp_path / "t1.mgz")
    away = np.diag([1, 1, 1, 1.0])
    away[:3, 3] = 500
    nib.Nifti1Image(np.ones((20, 20, 20), np.float32), away).to_filename(tmp_path / "far.nii.gz")
    flat = nib.Nifti1Image(np.ones((20, 20, 20), np.float32), np.eye(4))
    flat.set_sform(np.diag([0, 1, 1, 1.0]), 1)
    flat.to_filename(tmp_path / "flat.nii.gz")
    with pytest.raises(DataError, match="flat.nii.gz.*no position"):
        figures.check_voxel_in_image(tmp_path / "flat.nii.gz", simulated.data)
    with pytest.raises(DataError, match="far.nii.gz.*cover"):
        figures.voxel_location(tmp_path / "far.nii.gz", simulated.data, tmp_path / "w.png")
    with pytest.raises(DataError, match="has no position"):
        figures.voxel_location(tmp_path / "t1.nii.gz", replace(simulated.data, affine=None), tmp_path / "w.png")


@pytest.mark.parametrize(
    "shape, kind, problem",
    [
        ((20, 20, 20, 1), np.float32, None),
        ((20, 20, 20, 2), np.float32, "20 x 20 x 20 x 2 values"),
        ((20, 20), np.float32, "20 x 20 values"),
        ((20, 20, 20), [("R", "u1"), ("G", "u1"), ("B", "u1")], "colours"),
    ],
)
def test_a_structural_image_is_one_volume(basis, tmp_path, shape, kind, problem):
    """Converters leave a fourth dimension of one element; others are refused before anything is fitted."""
    import nibabel as nib

    path = tmp_path / "t1.nii.gz"
    nib.Nifti1Image(np.zeros(shape, kind), np.diag([10, 10, 10, 1.0])).to_filename(path)
    if problem is None:
        figures.voxel_location(path, simulate_svs(basis, transients=1).data, tmp_path / "v.png")
        assert (tmp_path / "v.png").is_file()
        return
    with pytest.raises(DataError, match=f"t1.nii.gz: holds {problem}, not one volume"):
        figures.check_structural_image(path)


def test_a_surface_is_no_structural_image(tmp_path):
    """The image library reads surfaces, too, which hold no voxels."""
    import nibabel as nib

    nib.gifti.GiftiImage().to_filename(tmp_path / "lh.white.gii")
    with pytest.raises(DataError, match="lh.white.gii: cannot be read as an image"):
        figures.check_structural_image(tmp_path / "lh.white.gii")


@pytest.mark.with_fsl_mrs
def test_files_are_those_of_fsl_mrs(invivo_3t, testdata, tmp_path):
    """Same columns, same order of parameters, same figures as FSL-MRS writes for the same minimum."""
    from fsl_mrs.utils import mrs_io
    from fsl_mrs.utils.fitting import fit_FSLModel

    source = testdata / "invivo_3t_press_philips" / "3T_PRESS_Philips_35ms_noMM.BASIS"
    mrs = mrs_io.read_FID(str(invivo_3t)).mrs(basis=mrs_io.read_basis(source))
    mrs.processForFitting()
    res = fit_FSLModel(mrs, method="Newton", model="lorentzian", baseline="poly, 2")
    data = nifti.load(invivo_3t)
    basis = as_fsl_mrs(Basis.load(source), data.dwelltime, data.n_points)
    options = {
        "dwelltime": data.dwelltime,
        "spec_freq_mhz": data.spec_freq_mhz,
        "model": "lorentzian",
        "baseline": "poly, 2",
    }
    results = FitResults(fsl_mrs_dl.quantify(data.fids.reshape(1, -1), basis, **options), data, ["Cr", "PCr"], [])
    for what, ours in (
        ("summary", tables.summary_table(results)),
        ("concentrations", tables.concentration_table(results)),
        ("qc", tables.qc_table(results)),
        ("parameters", tables.parameter_table(results)),
    ):
        res.to_file(tmp_path / f"{what}.csv", what=what)
        ours.to_csv(tmp_path / f"ours_{what}.csv", index=False)
        header = [0, 1] if what == "concentrations" else 0
        theirs, ours = (pd.read_csv(tmp_path / f"{prefix}{what}.csv", header=header) for prefix in ("", "ours_"))
        key = theirs.columns[0]
        # Misfit and verdict follow FSL-MRS's columns of the summary.
        more = ["CRLB is", "misfit", "usable", "verdict", "reasons"] if what == "summary" else []
        assert list(ours.columns) == [*theirs.columns, *more]
        theirs, ours = theirs.set_index(key), ours.set_index(key)
        assert set(theirs.index) == set(ours.index)
        if what == "parameters":
            assert list(theirs.index) == list(ours.index)
            # The constant of the polynomial is counted differently, see Baseline.regressors.
            theirs, ours = (f.drop(["B_real_0", "B_imag_0"]) for f in (theirs, ours))
        both = theirs.join(ours, lsuffix="_t", rsuffix="_o") if header == 0 else None
        if both is None:
            ours.columns, theirs.columns = (["|".join(c) for c in f.columns] for f in (ours, theirs))
            both = theirs.join(ours, lsuffix="_t", rsuffix="_o")
        for column in theirs.columns:
            if column == "SNR":  # the tail of water in these data counts as noise in FSL-MRS, see test_qc
                continue
            t, o = both[f"{column}_t"].to_numpy(float), both[f"{column}_o"].to_numpy(float)
            if column == "FWHM":
                # FSL-MRS writes 0 where no peak has a width, here it is empty.
                t, o = np.nan_to_num(t), np.nan_to_num(o)
            # Degrees of freedom make our SDs 1.3 % larger; the minima differ by what Newton stops short of.
            assert np.allclose(t, o, rtol=0.03, atol=2e-3 * np.nanmax(np.abs(t)), equal_nan=True), column


def test_a_fit_carries_its_model_for_viewers(tmp_path):
    from fsl_mrs_dl.cli.main import main
    from fsl_mrs_dl.results import model_file

    example = Path(tables.__file__).parents[1] / "data" / "example"
    out = tmp_path / "out"
    words = ["fit", "--data", str(example / "svs.nii.gz"), "--basis", str(example / "basis"), "--average", "DIM_DYN"]
    assert main([*words, "--output", str(out), "--device", "cpu", "--export_separate"]) == 0
    evaluator = model_file.Evaluator.open(out)
    stored = np.asarray(nib.load(out / "fit_NAA.nii.gz").dataobj).reshape(-1)
    np.testing.assert_allclose(evaluator.contribution((0, 0, 0), "NAA"), stored, atol=2e-4 * np.abs(stored).max())
    hz, sd = evaluator.band((0, 0, 0))
    assert len(hz) == len(sd) and (sd > 0).all()
    assert main([*words, "--output", str(out), "--device", "cpu", "--overwrite"]) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names, column", [(["Ala", "NAA", "Glu"], 1), (["Ala", "Glc", "Glu"], 2)])
def test_the_line_whose_quality_is_stated_is_the_same_everywhere(names, column):
    """`fit` stated none of a basis set without NAA and creatine; `run` printed a warning of NumPy for 13C."""
    snr = np.array([[np.nan, 3.0, 9.0], [np.nan, 5.0, np.nan]])
    results = SimpleNamespace(fit=SimpleNamespace(names=names), quality=(snr, snr))
    assert quality_column(results) == column
    assert quality_column(SimpleNamespace(fit=SimpleNamespace(names=["Glc"]), quality=(np.full((2, 1), np.nan),))) == 0


def test_weak_broad_and_implausible_spectra_are_doubtful_and_noise_has_no_signal(basis):
    from fsl_mrs_dl.cli.tables import text_table
    from fsl_mrs_dl.results.doubts import reason_words, why_unusable
    from fsl_mrs_dl.results.layout import IMPLAUSIBLE, LOW_SNR, WIDE
    from fsl_mrs_dl.results.maps import map_values

    rng, axes = np.random.default_rng(1), basis.axes
    amounts = dict.fromkeys(basis.names, 1.0) | {"NAA": 10.0, "Cr": 4.0, "PCr": 4.0, "Glu": 8.0, "Ins": 6.0}
    clean = sum(amounts[name] * fid for name, fid in zip(basis.names, basis.fids))
    time = axes.time()
    rows = [
        clean * np.exp(-12 * time),
        0.07 * clean * np.exp(-12 * time),
        clean * np.exp(-65 * time),
        (clean + 60 * basis.fids[basis.names.index("NAA")]) * np.exp(-12 * time),
    ]
    noise = 0.02 * np.abs(clean[0])
    fids = np.stack(rows) + noise * (rng.standard_normal((4, len(time))) + 1j * rng.standard_normal((4, len(time))))
    about = {"dwelltime": basis.dwelltime, "spec_freq_mhz": basis.spec_freq_mhz}
    results = FitResults(fsl_mrs_dl.quantify(fids, basis, spectral_model="in-vivo", mm="none", **about), None)
    results = replace(results, estimate="in-vivo")
    codes = {row: {doubt.code for doubt in doubts} for row, doubts in results.doubts.items()}
    assert codes == {1: {LOW_SNR}, 2: {WIDE}, 3: {IMPLAUSIBLE}}
    assert (results.verdict[1:4] >= 1).all()
    assert "SNR of NAA below 5" in reason_words(results, 1)
    assert map_values(results)["doubt"].tolist() == [0, LOW_SNR, WIDE, IMPLAUSIBLE]
    of_noise = replace(results, fit=replace(results.fit, empty=np.array([False, True, False, False])))
    assert why_unusable(of_noise.fit, 1) == "there is no signal above the noise" and 1 not in of_noise.doubts
    notes = text_table(of_noise)
    assert "there is no signal above the noise" in notes and "lines broader than 0.1 ppm" in notes
    assert "evenly spread" not in notes, "artefacts were looked for in all that have a signal"
    # What is not usable is not doubtful besides.
    usable = replace(results.fit, converged=np.array([True, True, False, True]))
    unusable = replace(results, fit=usable)
    assert unusable.verdict[2] == UNUSABLE and 2 in unusable.doubts
    assert "lines broader than" not in text_table(unusable) and "lines broader than" in text_table(results)
    # A narrower prior takes away more, and decides more of what is marked.
    narrow, n = replace(results, estimate="posterior_mean"), len(results.fit.names)
    shares = [one.prior_pull[:, :n] for one in (results, narrow)]
    sds = [one.fit.table(estimate=one.estimate)[2] for one in (results, narrow)]
    np.testing.assert_allclose((1 - shares[1]) * sds[0] ** 2, (1 - shares[0]) * sds[1] ** 2, rtol=1e-6, atol=1e-9)
    assert np.median(shares[1]) > np.median(shares[0])
