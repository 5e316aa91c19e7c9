"""HTML report of a fit: one self-contained page that opens without a network."""

from __future__ import annotations

import base64
import datetime
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ... import __version__
from ..fit_results import FitResults
from ..publication.analysis import Analysis
from .absolute import absolute_section
from .edited import edited_section
from .facts import data_entries
from .fit_figures import (
    LINES_NOTE,
    concentration_figure,
    correlation_figure,
    correlation_section,
    figure_html,
    of_condition,
    spectrum_figure,
)
from .fit_tables import concentrations_table, entries_table, settings_table
from .series import ReportParts, series_parts
from .verdict import VERDICT_STYLE, spectrum_verdict, warnings_list, warnings_of

__all__ = ["write_fit_report"]

_STYLE = (
    """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1100px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;font-size:.9em}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.settings td,.settings th{text-align:left}
.weak{color:#888}.range{white-space:nowrap}.scroll{max-height:42em;overflow:auto}
details{margin:.3em 0}summary{cursor:pointer}details h2{margin-top:1em;font-size:1em}
.note{color:#555;font-size:.9em}img{max-width:100%}
"""
    + VERDICT_STYLE
)


def write_fit_report(
    path: str | Path,
    results: FitResults,
    *,
    data: str = "",
    basis: str = "",
    location: str | Path | None = None,
    analysis: Analysis | None = None,
    warnings: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
    sections: Sequence[str] = (),
    end: str = "",
) -> Path:
    """Write the report of a fit: of a spectrum, of a series of spectra of one voxel, or of the first of several voxels.

    The verdict and its reasons stand first, then other warnings; plain facts follow the results.

    Parameters
    ----------
    path : path
        HTML file to write.
    results : FitResults
    data, basis : str
        Names of the files, for the heading.
    location : path, optional
        Picture of the voxel to put in.
    analysis : Analysis, optional
        For times and basis set among the facts.
    warnings : sequence of str
        Beside those of the results.
    facts : sequence of (str, str)
        Names and texts, beside those of data and fit.
    sections : sequence of str
        Further parts, HTML, that stand behind the facts.
    end : str
        HTML of a last section.

    Returns
    -------
    Path
        ``path``.
    """
    picture = ""
    if location is not None:
        encoded = base64.b64encode(Path(location).read_bytes()).decode()
        picture = f'<h2>Voxel</h2><img alt="the voxel on the structural image" src="data:image/png;base64,{encoded}">'
    when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    parts = (series_parts if results.is_series else _spectrum_parts)(results, picture)
    name = html.escape(Path(data).name)
    of_file = f"Data {html.escape(str(data))}<br>Basis {html.escape(str(basis))}"
    page = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<title>Fit of {name}</title>
<style>{_STYLE}</style></head><body>
<h1>Fit of {name}{parts.about}</h1>
<p class="note">{of_file}<br>FSL-MRS-DL {__version__}, {when}</p>
{parts.verdict}
{warnings_list([*warnings_of(results), *warnings], without=parts.verdict)}
{parts.results}
<h2>Data and basis set</h2>
{entries_table([*data_entries(results, analysis), *facts])}
<h2>Model and fit</h2>
{parts.fit}
{"".join(sections)}
{parts.correlations}
{end}
</body></html>"""
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def _spectrum_parts(results: FitResults, picture: str) -> ReportParts:
    """Return the parts of the report of one spectrum: of several voxels, the first that was fitted."""
    row, n = int(np.flatnonzero(results.fit.fitted)[0]), len(results.fit.params)
    weak = [name for name, mark in zip(results.names, results.undetermined[row]) if mark]
    figures = [spectrum_figure(results, row), concentration_figure(results, row), correlation_figure(results, row)]
    parts = [figure_html(figure, with_library=number == 0) for number, figure in enumerate(figures)]
    return ReportParts(
        about=f" (spectrum {row + 1} of {n}; the other results are in the tables)" if n > 1 else "",
        verdict=spectrum_verdict(results, row),
        results=f"""{edited_section(results, row)}
<h2>Spectrum and fit{of_condition(results)}</h2>
<p class="note">{LINES_NOTE}</p>{parts[0]}
<h2>Concentrations</h2>{parts[1]}{concentrations_table(results, row)}
{absolute_section(results.absolute, row, weak)}
{picture}""",
        fit=settings_table(results, row),
        correlations=correlation_section(parts[2]),
    )
