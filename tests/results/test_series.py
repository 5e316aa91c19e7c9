"""A series of spectra: what its tables, picture, report and terminal say of all of them."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import fsl_mrs_dl
from fsl_mrs_dl.cli.tables import text_table, verdict_line
from fsl_mrs_dl.fitting.artefacts import Artefact
from fsl_mrs_dl.results import tables
from fsl_mrs_dl.results.doubts import Doubt, rows_by_reason, where
from fsl_mrs_dl.results.figures import BLACK, _median_concentrations
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.results.publication.methods import _verdicts
from fsl_mrs_dl.results.reports import series as series_report
from fsl_mrs_dl.results.reports.fit import write_fit_report
from fsl_mrs_dl.results.reports.verdict import series_verdict, spectrum_verdict
from fsl_mrs_dl.results.series import Series, spread_rows
from fsl_mrs_dl.results.series_figure import series_figure
from fsl_mrs_dl.simulation.acquisition import simulate_basis, simulate_svs

BVALS = [0, 1, 3, 6]


def fits_of(lost=(), fids=None):
    """Fits of four spectra whose metabolites decay with the b value of the header; those that are lost are zero.
    Other FIDs of the same shape can be given."""
    basis = simulate_basis(["NAA", "Cr", "PCr", "GPC", "Glu", "Ins"], te_ms=35.0, n_points=512)
    simulated = simulate_svs(basis, transients=4, snr=200, seed=3, drift_hz=1, drift_deg=2)
    header = {
        **simulated.data.header,
        "dim_5": "DIM_USER_0",
        "dim_5_header": {
            "Bval": {"Value": BVALS, "Description": "ms/um2"},
            "Task": {"Value": ["rest", "tap", "rest", "tap"], "Description": ""},
        },
    }
    fids = simulated.data.fids * np.exp(-0.2 * np.array(BVALS)) if fids is None else fids
    fids[..., list(lost)] = 0
    data = replace(simulated.data, fids=fids, dim_tags=("DIM_USER_0",), header=header)
    rows = np.moveaxis(fids, 3, -1).reshape(4, -1)
    axes = {"dwelltime": basis.dwelltime, "spec_freq_mhz": basis.spec_freq_mhz}
    fit = fsl_mrs_dl.quantify(rows, basis, **axes, model="lorentzian", baseline="off", init="classical")
    return FitResults(fit, data, ["Cr", "PCr"])


@pytest.fixture(scope="module")
def results():
    return fits_of()


def with_header(results, **values):
    header = {**results.data.header, "dim_5_header": values}
    return replace(results, data=replace(results.data, header=header))


@pytest.mark.parametrize("what", ["summary", "concentration", "qc", "parameter", "uncertainty"])
def test_tables_have_the_values_of_the_header(results, what):
    table = getattr(tables, f"{what}_table")(results)
    table.columns = [name if isinstance(name, str) else name[0] for name in table.columns]
    assert list(table.columns[:3]) == ["DIM_USER_0", "Bval", "Task"]
    each = len(table) // 4
    assert table["Bval"].tolist() == np.repeat(BVALS, each).tolist()
    assert table["Task"].tolist() == np.repeat(["rest", "tap", "rest", "tap"], each).tolist()


def test_a_key_of_the_header_hides_no_column(results):
    other = with_header(results, SNR=[1, 2, 3, 4], Metab=["a", "b", "c", "d"], DIM_USER_0=[5, 6, 7, 8])
    table = tables.qc_table(other)
    heads = ["DIM_USER_0", "SNR (header)", "Metab (header)", "DIM_USER_0 (DIM_USER_0)", "Metab", "SNR", "FWHM"]
    assert list(table.columns) == heads
    assert table["SNR (header)"].tolist() == np.repeat([1, 2, 3, 4], 6).tolist()


def test_the_terminal_says_the_range(results):
    assert text_table(results).startswith(
        "4 of 4 spectra fitted (Bval 0 to 6; Task rest, tap); medians over 4 usable ones of 4:\n"
    )
    directions = with_header(results, Direction=[[0, 0.25, number] for number in range(4)])
    assert "(Direction: 4 different ones)" in text_table(directions)
    assert text_table(with_header(results)).startswith("4 of 4 spectra fitted; medians over 4 usable ones of 4:\n")


def test_verdicts_of_several_spectra_are_counted_in_the_terminal(results):
    several = with_header(results)
    vars(several)["verdict"] = np.array([0, 0, 1, 2])
    quality = {"snr": 20.0, "fwhm_hz": None, "transients": 1}
    assert verdict_line(several, quality) == "Verdict: 2 good, 1 doubtful, 1 not usable, SNR 20."


def test_medians_are_those_of_usable_fits(results):
    """A fit that did not converge counted in the terminal's medians as any other."""
    fit = replace(results.fit, converged=np.array([True, False, True, False]))
    half = replace(results, fit=fit)
    column = results.names.index("NAA")
    usable = np.median(results.concentrations[0][[0, 2], column])
    lines = text_table(half).splitlines()
    assert lines[0] == "4 of 4 spectra fitted (Bval 0 to 6; Task rest, tap); medians over 2 usable ones of 4:"
    assert float(next(line for line in lines if line.startswith("NAA ")).split()[1]) == pytest.approx(usable, rel=1e-3)
    names, value, *_ = _median_concentrations(half)
    assert value[names.index("NAA")] == pytest.approx(np.median(results.ratios[0][[0, 2], column]))
    none = replace(results, fit=replace(fit, converged=np.zeros(4, bool)))
    assert "none is usable, medians over all 4:" in text_table(none)


def test_every_reason_is_counted_alike_and_its_spectra_are_named(results):
    """The terminal counted artefacts of fits that are not usable, methods did not, and nothing named a spectrum."""
    converged = np.array([True, False, True, True])
    fit = replace(results.fit, converged=converged, ood_residual=np.zeros(4), ood_latent=np.array([0, 0, 0, 3.0]))
    some = with_header(replace(results, fit=fit), Bval=BVALS)
    lipid = Artefact("lipid", "a line at 1.3 ppm", "choose `mm` tumour")
    vars(some)["artefacts"] = {0: [], 1: [lipid], 2: [lipid], 3: []}
    vars(some)["doubts"] = {1: [], 3: [Doubt(1, "SNR of NAA below 5", "2.9")]}
    assert list(rows_by_reason(some).items()) == [
        ("lipid", [1, 2]),
        ("it did not converge", [1]),
        ("out of distribution", [3]),
        ("SNR of NAA below 5", [3]),
    ]
    text = text_table(some)
    assert (
        "Lipid: a line at 1.3 ppm. Choose --mm tumour. (2 of 4 spectra: DIM_USER_0 1, 2; figures of the first)" in text
    )
    assert "1 of 4 fits (DIM_USER_0 1) did NOT converge" in text
    assert "Doubtful: SNR of NAA below 5 (2.9), 1 of 4 spectra: DIM_USER_0 3." in text
    page = series_verdict(some, Series(some))
    assert "In 2 of 4 spectra (figures of the first): DIM_USER_0 1, Bval 1; DIM_USER_0 2, Bval 3." in page
    text = " ".join(_verdicts(SimpleNamespace(results=some, rows=np.arange(4))))
    assert "1 was good, 2 were doubtful and 1 was not usable" in text
    assert "lipid (2), it did not converge (1), out of distribution (1) and SNR of NAA below 5 (1)" in text
    table = tables.summary_table(some).drop_duplicates("DIM_USER_0")
    expected = ["", "it did not converge; lipid (a line at 1.3 ppm)", "lipid (a line at 1.3 ppm)"]
    assert table["reasons"].tolist() == [*expected, "out of distribution (score 2.9); SNR of NAA below 5 (2.9)"]
    assert Series(some).quality["reasons"].tolist()[1] == "it did not converge; lipid"


def test_many_spectra_are_named_in_few_words(results):
    volume = replace(results, data=replace(results.data, fids=results.data.fids.reshape(2, 2, 1, -1), dim_tags=()))
    assert (
        where(volume, [1, 3]) == "2 of 4 spectra: (x, y) (0, 1), (1, 1)" and where(volume, range(4)) == "all 4 spectra"
    )
    many = SimpleNamespace(
        fit=SimpleNamespace(fitted=np.ones(20, bool)), index=pd.DataFrame({"x": range(20)}), header_values={}
    )
    assert where(many, range(9)) == "9 of 20 spectra: x 0, 1, 2, 3, 4, 5 and 3 more"
    page = spectrum_verdict(volume, 0)
    assert f"All spectra of the file: {volume.verdict_text}." in page
    assert all(f"{len(rows)} of 4" in page or "all 4" in page for rows in rows_by_reason(volume).values())


def test_the_verdict_of_one_spectrum_has_its_reasons(results):
    fit = replace(results.fit, converged=np.zeros(4, bool), ood_residual=np.full(4, 3.0), fids=results.fit.fids)
    doubtful = replace(results, fit=fit)
    assert doubtful.verdict_words(0).startswith("not usable: it did not converge")
    assert verdict_line(results).startswith("Verdict: ") and "line width" in verdict_line(results)


def test_a_series_is_drawn_against_the_header(results):
    series = Series(results)
    x, label = series.axis
    assert x.tolist() == BVALS and label == "Bval (ms/um2)"
    # A reference that decays with the metabolite would hide the decay.
    assert series.tracked[0].label == "concentration (raw)"
    value = series.tracked[0].values[:, series.names.index("NAA")]
    np.testing.assert_allclose(value / value[0], np.exp(-0.2 * np.array(BVALS)), rtol=0.05)
    assert series.titles[3] == "DIM_USER_0 3, Bval 6, Task tap"
    assert list(series.quality["verdict"]) and len(series.quality) == 4


def test_a_series_without_numbers_is_drawn_against_texts_or_its_counter(results):
    x, label = Series(with_header(results, Task=["rest", "tap", "rest", "tap"])).axis
    assert (x.tolist(), label) == (["rest", "tap", "rest", "tap"], "Task")
    series = Series(with_header(results, Bval=[5, 5, 5, 5]))
    assert series.axis[0].tolist() == [0, 1, 2, 3] and series.axis[1].startswith("DIM_USER_0")
    assert series.tracked[0].label == "ratio to Cr+PCr" and "Cr+PCr" not in series.names


def test_the_spectra_that_are_drawn_are_spread(results):
    assert spread_rows(results, 64).tolist() == [0, 1, 2, 3]
    assert spread_rows(results, 2).tolist() == [0, 3]


@pytest.mark.parametrize("values", [{"Bval": BVALS}, {"Task": ["rest", "tap", "rest", "tap"]}, {}])
def test_the_picture_of_a_series(results, tmp_path, values):
    figure = series_figure(with_header(results, **values), tmp_path / "series.png")
    assert (tmp_path / "series.png").read_bytes()[:4] == b"\x89PNG"
    texts = [panel.get_title(loc="left") for part in figure.subfigs for panel in part.axes]
    assert texts[0].startswith("4 spectra, turned upright by the fitted phase") and texts[1].startswith("residual")
    assert "NAA" in texts


def test_neither_an_outlier_nor_water_nor_phases_spoil_the_picture_of_a_series():
    """One spectrum of many times the height set the scale of all, and phases were those of the scanner."""
    fids = fits_of().data.fids.copy()
    time = np.arange(fids.shape[3]) * 0.25e-3
    fids *= np.exp(1j * np.array([0.0, 2, -2, 3]))
    fids[..., 3] *= 50
    fids[..., 2] += 20 * np.abs(fids[..., 0, 0]).max() * np.exp(-40 * time)[None, None, None]
    panel = series_figure(fits_of(fids=fids)).subfigs[0].axes[0]
    data = [line for line in panel.lines if line.get_color() == BLACK]
    low, high = panel.get_ylim()
    step = -np.diff(panel.get_yticks())[0]
    heights = [np.nanmax(line.get_ydata()) + place * step for place, line in enumerate(data)]
    # Each fills its row, upright, and leaves the others alone; that with water had no baseline to be fitted with.
    assert min(heights[place] for place in (0, 1, 3)) > 0.4 * step and max(heights) < 1.31 * step
    assert (high - low) / step < 5
    (factor,) = [text.get_text() for text in panel.texts]
    assert factor.startswith("x 0.0")
    ppm = data[0].get_xdata()
    assert abs(ppm[np.nanargmax(data[1].get_ydata())] - 2.01) < 0.03


def test_viewers_read_the_tables_of_a_series(results, tmp_path):
    from fsleyes_plugin_dl.voxel_table import read_tables

    for name in ("uncertainty", "concentration", "summary"):
        table, file = getattr(tables, f"{name}_table")(results), "concentrations" if name == "concentration" else name
        table.to_csv(tmp_path / f"{file}.csv", index=False)
    values, note = read_tables(tmp_path)
    assert (list(values), note) == (results.names, "the first of 4 spectra")
    assert values["NAA"]["conc"] == pytest.approx(results.concentrations[0][0, results.names.index("NAA")])
    assert values["NAA"]["snr"] == pytest.approx(results.quality[0][0, results.fit.names.index("NAA")])
    assert "Bval" not in values["NAA"]


def test_the_report_shows_every_spectrum(results, tmp_path, monkeypatch):
    def page(data):
        text = write_fit_report(tmp_path / "r.html", data, data="d.nii.gz", basis="b").read_text(encoding="utf-8")
        return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL), text

    words, whole = page(results)
    assert "<h1>Fit of d.nii.gz: 4 spectra (Bval 0 to 6; Task rest, tap)</h1>" in words
    assert "(spectrum 1 of" not in words and words.count("<details>") == 4
    assert "<summary>DIM_USER_0 3, Bval 6, Task tap: fit " in words
    assert all(f"<th>{head}</th>" in words for head in ("Bval", "Task", "residual / noise", "verdict"))
    assert whole.count('"method":"animate"') == 2 * 4
    monkeypatch.setattr(series_report, "_MOST_DRAWN", 2)
    words, _ = page(with_header(results))
    assert words.count("<details>") == 2 and "2 of 4 spectra are shown here" in words
    assert "<h1>Fit of d.nii.gz: 4 spectra</h1>" in words


def test_a_spectrum_that_could_not_be_fitted_is_named(tmp_path):
    results = fits_of(lost=[0])
    series_figure(results, tmp_path / "series.png")
    text = write_fit_report(tmp_path / "r.html", results).read_text(encoding="utf-8")
    assert "3 of 4 converged" in text and "1 could not be fitted" in text
    assert text.count("<details>") == 3 and "are shown here" not in text
    assert Series(results).quality["verdict"].tolist()[0] == "not fitted"
    assert np.isnan(Series(results).tracked[0].values[0]).all()
