"""HTML report of a dynamic fit: spectra, parameters over the series, residuals, free parameters and their correlations.

Its parts are those of FSL-MRS's report of dynamic fits, with derived quantities and a comparison of configurations.
"""

from __future__ import annotations

import base64
import datetime
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ... import __version__
from ...core.errors import spelled
from ...dynamic.agreement import agreement_of
from ...dynamic.comparison import ModelComparison
from ...dynamic.data import DynamicData
from ...dynamic.derived import DerivedQuantity
from ...dynamic.in_vivo_series import InVivoDynamicFit
from ...fitting.artefacts import option_spelling
from ..dynamic import derived_table, fit_quality, free_parameter_table, p_text
from ..dynamic_figures import parameter_figure, phased, residual_figure
from ..figures import BLACK, GREY, RED
from .fit_figures import figure_html
from .fit_tables import entries_table
from .page import STYLE
from .series import with_slider

__all__ = ["write_dynamic_report"]

_MOST_DRAWN, _MOST_CORRELATED = 64, 120
_EXTRA_STYLE = """
img { max-width: 100%; } .wide { overflow-x: auto; }
.scroll { max-height: 32em; overflow: auto; } .settings td { text-align: left; }
p.verdict { font-weight: 600; color: #8a5a00; } p.verdict.not-usable { color: #b3261e; }
"""
_METHODS = """<p>All spectra of the series were fitted in one likelihood, in which the parameters of every spectrum
follow from the free parameters of the configuration (Clarke et al., doi 10.1002/mrm.28630 and 10.1002/mrm.30001), with
FSL-MRS-DL {version}. {model} SDs of derived quantities follow from the covariance of all parameters. The evidence is
that of BIC.</p>"""
_FSL_MRS = (
    "Spectral model and cost are those of FSL-MRS; SDs are Cram&eacute;r-Rao bounds of all parameters, with the"
    " noise of the residual."
)
_IN_VIVO = "The spectral model is the in-vivo one; SDs include nuisances, baselines and priors."


def write_dynamic_report(
    path: str | Path,
    results: DynamicData,
    quantities: Sequence[DerivedQuantity] = (),
    *,
    inputs: Sequence[tuple[str, str]] = (),
    comparison: ModelComparison | None = None,
) -> Path:
    """Write the report of a dynamic fit.

    Parameters
    ----------
    path : path
        HTML file to write.
    results : DynamicData
    quantities : sequence of DerivedQuantity
    inputs : sequence of (str, str)
        Names and files of what was read, for the heading.
    comparison : ModelComparison, optional
        Of configurations.

    Returns
    -------
    Path
        ``path``.
    """
    fit, in_vivo = results.fit, isinstance(results.fit, InVivoDynamicFit)
    titles = results.titles
    drawn = np.unique(np.linspace(0, len(titles) - 1, min(len(titles), _MOST_DRAWN)).round().astype(int))
    some = f" {len(drawn)} of {len(titles)} are shown." if len(drawn) < len(titles) else ""
    spectra = with_slider([_spectrum(results, number) for number in drawn], [titles[number] for number in drawn])
    agreement = agreement_of(fit)
    information = [(name, _number(value)) for name, value in fit_quality(fit).items()]
    notes = "".join(f'<p class="note">{html.escape(spelled(note, str))}.</p>' for note in results.notes)
    if not agreement.holds:
        verdict = html.escape(spelled(agreement.lines()[-1], option_spelling))
        notes = f'<p class="verdict {agreement.verdict.replace(" ", "-")}">{verdict}</p>{notes}'
    when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    sections = {
        "Spectra and fit": f'<p class="note">The slider chooses the spectrum.{some}</p>'
        + figure_html(spectra, with_library=True),
        "Parameters over the series": _picture(parameter_figure(results), "parameters over the series"),
        "Quality of the fit": entries_table(information) + _picture(residual_figure(results), "map of the residuals"),
        "Derived quantities": _derived(quantities) if quantities else "",
        "Comparison of configurations": "" if comparison is None else _compared(comparison),
        "Free parameters": f'<p class="note">{html.escape(_units(results))}</p><div class="scroll">'
        + f"{_table(free_parameter_table(fit))}</div>",
        "Correlation of the free parameters": figure_html(_correlations(results)),
        "Methods": _METHODS.format(version=__version__, model=_IN_VIVO if in_vivo else _FSL_MRS),
    }
    sections = {name: part for name, part in sections.items() if part}
    links = " - ".join(f'<a href="#part{number}">{name}</a>' for number, name in enumerate(sections))
    body = "".join(f'<h2 id="part{number}">{name}</h2>{part}' for number, (name, part) in enumerate(sections.items()))
    page = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<title>Dynamic fit of {html.escape(results.data.name)}</title><style>{STYLE}{_EXTRA_STYLE}</style></head><body>
<h1>Dynamic fit of {html.escape(Path(results.data.name).name)}: {len(titles)} spectra</h1>
<p class="note">FSL-MRS-DL {__version__}, {when}</p>{entries_table(list(inputs))}{notes}<p class="note">{links}</p>
{body}</body></html>"""
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def _spectrum(results: DynamicData, number: int):
    """Return a plotly figure of a spectrum with its fit and residual, in phase."""
    import plotly.graph_objects as go

    fit = results.fit
    first, last = fit.model.window
    ppm = fit.model.axes.ppm()[first:last]
    data, model = (spectra[number] for spectra in phased(fit))
    residual = data - model
    offset = max(data.max(), model.max()) - residual.min()
    figure = go.Figure()
    for name, values, colour, width in (
        ("data", data, BLACK, 1.2),
        ("joint fit", model, RED, 1.8),
        ("residual", residual + offset, GREY, 1),
    ):
        figure.add_scatter(x=ppm, y=values, name=name, line={"color": colour, "width": width})
    figure.update_xaxes(autorange="reversed", title="chemical shift (ppm)", showgrid=False)
    figure.update_yaxes(showticklabels=False, ticks="", showline=False, showgrid=False, zeroline=False)
    figure.update_layout(template="simple_white", height=460, margin={"t": 20, "b": 50, "l": 20, "r": 20})
    return figure


def _picture(figure, words: str) -> str:
    """Return a matplotlib figure as part of a page, HTML."""
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{words}" src="data:image/png;base64,{encoded}">'


def _correlations(results: DynamicData):
    """Return a plotly figure of the correlations of the free parameters, without those of single spectra where there
    are many."""
    import plotly.graph_objects as go

    fit = results.fit
    shown = np.flatnonzero((fit.sd > 0) & np.isfinite(fit.sd))
    if len(shown) > _MOST_CORRELATED:
        shared = [number for number in shown if fit.mapping.free[number].time is None]
        shown = np.array(shared[:_MOST_CORRELATED] or shown[:_MOST_CORRELATED])
    names, sd = [fit.names[number] for number in shown], fit.sd[shown]
    correlation = fit.cov[np.ix_(shown, shown)] / np.outer(sd, sd)
    figure = go.Figure(go.Heatmap(z=correlation, x=names, y=names, zmin=-1, zmax=1, colorscale="RdBu_r"))
    size = max(420, min(11 * len(names) + 180, 1000))
    figure.update_xaxes(tickfont={"size": 9})
    figure.update_yaxes(autorange="reversed", tickfont={"size": 9})
    figure.update_layout(template="simple_white", height=size, width=size + 100, margin={"t": 20})
    return figure


def _table(table) -> str:
    """Return a DataFrame as a table, HTML."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in [table.index.name or "", *table.columns])
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(_number(cell))}</td>" for cell in (label, *row)) + "</tr>"
        for label, row in zip(table.index, table.itertuples(index=False))
    ]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _derived(quantities: Sequence[DerivedQuantity]) -> str:
    """Return derived quantities as a table, HTML."""
    table = derived_table(quantities)
    return _table(table.assign(p=[p_text(p) if np.isfinite(p) else "-" for p in table["p"]]))


def _units(results: DynamicData) -> str:
    """Return the units of the free parameters in words."""
    name = results.time_name
    of_time = f"; rates and slopes are per unit of {name}" if results.time_variable.ndim == 1 else ""
    return f"Concentrations are in arbitrary units, those of the scaled data{of_time}."


def _compared(comparison: ModelComparison) -> str:
    """Return the comparison of configurations, HTML."""
    return f'<p class="note">{html.escape(comparison.words)}</p>{_table(comparison.table())}'


def _number(value) -> str:
    """Return a value in words."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if not isinstance(value, (float, np.floating)):
        return str(value)
    if np.isnan(value):
        return "-"
    return f"{value:.4g}" if abs(float(value)) < 1e4 else f"{value:.1f}"
