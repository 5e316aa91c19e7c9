"""Interactive figures of a report: spectrum, concentrations and correlations of one spectrum."""

from __future__ import annotations

import html

import numpy as np

from ...core import units
from ...core.metabolites import is_macromolecule
from ...fitting.in_vivo.result import InVivoFit
from ...fitting.in_vivo.spread import fitted_sd
from ...fitting.uncertainty import Z95
from ..figures import BLACK, BLUE, GREEN, GREY, RED, macromolecules_label, sd_labels, verdict_colour
from ..fit_results import FitResults
from .fit_tables import values_of

__all__ = [
    "LINES_NOTE",
    "concentration_figure",
    "correlation_figure",
    "correlation_section",
    "figure_html",
    "of_condition",
    "spectrum_figure",
]

LINES_NOTE = (
    "All lines are turned upright by the fitted phase. The model is the sum of metabolites, macromolecules and"
    " baseline. Macromolecules stand below the data and the residual above, each about a line at its zero. Click the"
    " legend to show or hide a line; every metabolite has one."
)
"""What the lines of :func:`spectrum_figure` are."""


def figure_html(figure, *, with_library: bool = False) -> str:
    """Return a plotly figure as part of a page, HTML; the first of a page brings the library."""
    return figure.to_html(
        full_html=False, include_plotlyjs=with_library, auto_play=False, config={"displaylogo": False}
    )


def correlation_section(figure: str) -> str:
    """Return the section of a report with a figure of correlations, HTML."""
    return (
        '<h2>Correlation of the estimates</h2><p class="note">Near -1: only the sum of the two metabolites is well'
        f" determined.</p>{figure}"
    )


def of_condition(results: FitResults) -> str:
    """Return which condition of edited data a figure shows, HTML."""
    edited = results.edited
    return "" if edited is None else f" of condition {html.escape(edited.conditions[edited.reference])}"


def spectrum_figure(results: FitResults, row: int):
    """Return a plotly figure of data, model, baseline, residual and every metabolite."""
    import plotly.graph_objects as go

    fit, model = results.fit, results.fit.model
    first, last = model.window
    ppm = model.axes.ppm()[first:last]
    turn = fit.upright(np.array([row]))[0, first:last]
    data = (units.fid_to_spec(fit.fids[row])[first:last] * turn).real
    each = (fit.metabolite_spectra(np.array([row]))[0] * turn).real
    parts = (fit.spectra(what, slice(row, row + 1))[0, first:last] for what in ("full", "baseline"))
    full, baseline = ((part * turn).real for part in parts)
    residual = data - full
    top, bottom = max(data.max(), full.max()), min(data.min(), full.min(), baseline.min())
    offset, gap = top - residual.min(), 0.04 * (top - bottom)
    figure = go.Figure()
    lines = [("data", data, BLACK, 1.2), ("model", full, RED, 1.8), ("baseline", baseline, BLUE, 1.5)]
    lines.append(("residual", residual + offset, GREY, 1))
    zeros, broad = [offset], np.array([is_macromolecule(name) for name in fit.names])
    if broad.any():
        # Beside the data, because a sum of broad lines would cross them.
        of_broad = each[broad].sum(0)
        zeros.append(bottom - gap - of_broad.max())
        lines.append((macromolecules_label(fit.names), of_broad + zeros[-1], GREEN, 1.5))
    band = _band(results, row)
    if band is not None:
        outline = np.concatenate([full + band, (full - band)[::-1]])
        around = {"color": "rgba(213,94,0,.25)", "width": 0}
        x = np.concatenate([ppm, ppm[::-1]])
        figure.add_scatter(x=x, y=outline, name="95 % band of the model", line=around, fill="toself", hoverinfo="skip")
    for name, values, colour, width in lines:
        figure.add_scatter(x=ppm, y=values, name=name, line={"color": colour, "width": width})
    for zero in zeros:
        line = {"color": GREY, "width": 0.5}
        figure.add_scatter(
            x=ppm, y=np.full(len(ppm), zero), mode="lines", line=line, showlegend=False, hoverinfo="skip"
        )
    for name, values in zip(fit.names, each):
        figure.add_scatter(x=ppm, y=values, name=name, line={"width": 1}, visible="legendonly")
    figure.update_xaxes(autorange="reversed", title="chemical shift (ppm)", showgrid=False)
    figure.update_yaxes(showticklabels=False, ticks="", showline=False, showgrid=False, zeroline=False)
    figure.update_layout(template="simple_white", height=520, margin={"t": 20, "b": 50, "l": 20, "r": 20})
    return figure


def _band(results: FitResults, row: int) -> np.ndarray | None:
    """Return 1.96 SDs of the fitted spectrum in the window, ``(n_window,)``; None for FSL-MRS's model, whose band
    viewers compute."""
    fit, model = results.fit, results.fit.model
    if not isinstance(fit, InVivoFit):
        return None
    first, last = model.window
    # Spectra are unitary transforms, and the SD is that of a plain one.
    sd = fitted_sd(fit, np.array([row]))[0] / np.sqrt(model.axes.n_points)
    return Z95 * np.interp(model.axes.hz()[first:last], fit.fitted_model.window.hz, sd)


def concentration_figure(results: FitResults, row: int):
    """Return a plotly figure of the concentrations with error bars."""
    import plotly.graph_objects as go

    names = results.names
    value, sd, label = values_of(results, row)
    # Macromolecules have a scale of their own, which would hide everything else.
    some = [i for i, name in enumerate(names) if not is_macromolecule(name)] or range(len(names))
    names, value, sd = [names[i] for i in some], value[list(some)], sd[list(some)]
    decided = ~results.undetermined[row, list(some)]
    figure = go.Figure()
    colour_of_all, word = verdict_colour(results.verdict[[row]])
    for mask, colour, text in zip((decided, ~decided), (colour_of_all, GREY), sd_labels(results, word)):
        if mask.any():
            figure.add_scatter(
                x=np.array(names)[mask],
                y=value[mask],
                error_y={"type": "data", "array": sd[mask], "thickness": 1.5},
                mode="markers",
                name=text,
                marker={"color": colour},
            )
    figure.update_xaxes(categoryorder="array", categoryarray=names)
    finite = np.where(decided & np.isfinite(sd), value + sd, value)
    figure.update_yaxes(title=f"{label}, bars: one SD", range=[-0.08 * np.nanmax(finite), 1.1 * np.nanmax(finite)])
    figure.update_layout(template="simple_white", height=340, margin={"t": 20, "b": 50, "l": 60, "r": 20})
    return figure


def correlation_figure(results: FitResults, row: int):
    """Return a plotly figure of the correlations between the concentrations' estimates."""
    import plotly.graph_objects as go

    n = len(results.fit.names)
    cov = results.fit.cov[row][:n, :n]
    sd = np.sqrt(np.diag(cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = cov / np.outer(sd, sd)
    figure = go.Figure(
        go.Heatmap(z=correlation, x=results.fit.names, y=results.fit.names, zmin=-1, zmax=1, colorscale="RdBu_r")
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(template="simple_white", height=560, width=640, margin={"t": 20, "b": 60, "l": 60, "r": 20})
    return figure
