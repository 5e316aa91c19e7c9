"""The page of a study."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.workflow import overview, overview_figures
from fsl_mrs_dl.workflow.entry import StudySession
from fsl_mrs_dl.workflow.group import group_study
from fsl_mrs_dl.workflow.overview_spectra import study_spectra
from tests.helpers.made_study import made_groups, write_made_results


def save_spectrum(study_folder, name, phase=0.0, n=1):
    """Write the processed spectrum of a session: a line of 5 Hz at 2 ppm, of height two over its reference."""
    time = np.arange(512) * 5e-4
    fid = np.exp((2j * np.pi * 123.2 * (2.0 - 4.65) - 15) * time + 1j * phase)
    fids = np.tile(fid, (n, 1)).T[None, None, None] if n > 1 else fid[None, None, None]
    tags = ("DIM_DYN",) if n > 1 else ()
    data = nifti.MrsData(fids.astype(np.complex64), 5e-4, 123.2, "1H", tags, affine=np.eye(4))
    nifti.save(study_folder / "sessions" / name / "processed.nii.gz", data)


@pytest.fixture
def study(tmp_path):
    sessions = made_groups(tmp_path, n=3)
    for k, session in enumerate(sessions[:4]):
        save_spectrum(tmp_path, session.name, phase=0.7 * k)
        (tmp_path / "sessions" / session.name / "methods.md").write_text("First <part>.\n\nSecond.", encoding="utf-8")
        text = "section,number,item,value,status\nHardware,1a,Field strength,2.89 T,filled\n"
        text += f"Acquisition,2c,Voxel,{min(k, 1)},filled\n"
        (tmp_path / "sessions" / session.name / "mrsinmrs.csv").write_text(text, encoding="utf-8")
        (tmp_path / "sessions" / session.name / "report.html").touch()
    write_made_results(tmp_path, "poor", {"NAA": 1.0, "Glu": 1.0, "Cr": 1.0}, quality={"snr": 1}, warnings=["no <TR>"])
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "bad.json").write_text('{"reason": "cut <off>"}', encoding="utf-8")
    return tmp_path, [*sessions, *(StudySession(name, tmp_path, series="svs") for name in ("poor", "bad", "late"))]


def test_the_page_has_every_part_and_opens_without_a_network(study):
    folder, sessions = study
    page = overview.write_overview(folder / "overview.html", group_study(folder, sessions), title="A <study>")
    text = page.read_text(encoding="utf-8")
    assert text.count("<!DOCTYPE") == 1 and 'src="http' not in text and "plotly.js v" in text
    for part in (
        "Spectra",
        "Concentrations",
        "Differences between groups",
        "Quality",
        "Left out",
        "Sessions",
        "Methods",
    ):
        assert f"<h2>{part}</h2>" in text, part
    for words in (
        "6 of 9 sessions",
        "1 could not be run",
        "1 was not run",
        "1 was left out by rules",
        "SNR 1 below 5",
        "A &lt;study",
    ):
        assert words in text, words
    assert "cut &lt;off&gt;" in text and "no &lt;TR&gt;" in text and "First &lt;part&gt;." in text
    assert "<td class=text>2.89 T</td>" in text and "1 (3 sessions); 0 (1 sessions)" in text
    assert text.count("report.html") == 4


def test_spectra_are_in_phase_on_one_axis_and_over_their_reference(study):
    folder, sessions = study
    spectra = study_spectra(group_study(folder, sessions).results)
    assert len(spectra.names) == 4 and spectra.included.all() and spectra.groups[:2] == ["control", "patient"]
    heights = spectra.spectra.max(1)
    assert spectra.ppm[spectra.spectra.argmax(1)] == pytest.approx(2.0, abs=0.02)
    assert heights == pytest.approx(heights[0], rel=0.2) and "internal reference" in spectra.note


def test_sessions_without_one_spectrum_are_not_drawn(study):
    folder, sessions = study
    for session in sessions[:4]:
        save_spectrum(folder, session.name, n=2)
    assert study_spectra(group_study(folder, sessions).results) is None
    text = overview.write_overview(folder / "x.html", group_study(folder, sessions), title="x").read_text("utf-8")
    assert "<h2>Spectra</h2>" not in text and "plotly.js v" in text


def test_series_have_sections_of_their_own_and_no_groups_no_differences(study):
    folder, sessions = study
    from dataclasses import replace

    other = [replace(one, group="", series="b" if i % 2 else "a") for i, one in enumerate(sessions)]
    text = overview.write_overview(folder / "x.html", group_study(folder, other), title="x").read_text("utf-8")
    assert "<h2>Quality of a</h2>" in text and "<h2>Quality of b</h2>" in text and "Differences" not in text


def test_groups_that_are_too_small_have_values_and_no_intervals(study):
    """The interval of two values, with one degree of freedom, would set the axes of all."""
    from dataclasses import replace

    folder, sessions = study
    small = [replace(one, group="tiny") if i in (0, 2) else one for i, one in enumerate(sessions[:6])]
    tables = group_study(folder, small)
    tidy = tables.tidy[(tables.tidy["quantity"] == "molarity") & (tables.tidy["metabolite"] == "Glu")]
    groups = tables.groups[tables.groups["quantity"] == "molarity"]
    wide = groups["group"].eq("tiny")
    groups = groups.assign(
        ci95_high=groups["ci95_high"].mask(wide, 500.0), ci95_low=groups["ci95_low"].mask(wide, -500.0)
    )
    figure = overview_figures.concentration_figure(tidy, groups)
    low, high = figure.layout.yaxis.range
    assert low == 0 and high < 20
    means = [trace for trace in figure.data if trace.hoverinfo == "text"]
    assert len(means) == 1  # of the three patients
    effects = tables.effects[(tables.effects["quantity"] == "molarity")]
    trace = overview_figures.effect_figure(effects[effects["group"] == "tiny"]).data[0]
    assert set(trace.marker.symbol) == {"circle-open"} and np.isnan(np.array(trace.error_y.array, float)).all()
    text = overview.write_overview(folder / "x.html", tables, title="x").read_text("utf-8")
    assert (
        "<h2>To note</h2>" in text and "tiny (svs) has 2 participants" in text and "nan" not in text.split("<table")[1]
    )


def test_results_of_an_earlier_run_of_a_failed_session_are_not_on_the_page(study):
    """Its folder keeps them, but a link to its report, and its spectrum, would pass as those of this run."""
    folder, sessions = study
    name = sessions[0].name
    assert (folder / "sessions" / name / "report.html").is_file()
    (folder / "sessions" / name / "study.json").unlink()
    (folder / "failed" / f"{name}.json").write_text('{"reason": "cut off"}', encoding="utf-8")
    tables = group_study(folder, sessions)
    text = overview.write_overview(folder / "o.html", tables, title="A").read_text(encoding="utf-8")
    assert text.count("report.html") == 3 and f"sessions/{name}/" not in text and "cut off" in text
    assert name not in study_spectra(tables.results).names
