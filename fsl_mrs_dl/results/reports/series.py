"""Parts of the report of a series: metabolites along it, quality of every spectrum, and all spectra with their fits."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np

from ...fitting.verdict import VERDICTS
from ..figures import GREY
from ..fit_results import FitResults
from ..layout import OOD_LIMIT
from ..series import Series, Tracked, range_of_values, spread_rows
from ..series_figure import limits_of, verdict_groups
from .absolute import absolute_section
from .edited import edited_section
from .fit_figures import (
    LINES_NOTE,
    correlation_figure,
    correlation_section,
    figure_html,
    of_condition,
    spectrum_figure,
)
from .fit_tables import concentrations_table, entries_table, model_entries, settings_table
from .verdict import series_verdict, spectrum_verdict

__all__ = ["ReportParts", "series_parts", "with_slider"]

_MOST_DRAWN = 64
_MOST_EDITED = 4  # sets whose conditions are drawn
_MOST_NAMED = 6
_COLUMNS = 3
_DIGITS = {"SNR": ".1f", "FWHM": ".1f", "residual / noise": ".2f", "unexplained": ".1f"}


@dataclass(frozen=True)
class ReportParts:
    """Parts of a report, HTML.

    Attributes
    ----------
    about : str
        End of the heading.
    verdict, results, fit, correlations : str
        Verdict with its reasons; figures and tables of what was found; the model and how good the fit is; correlations.
    """

    about: str
    verdict: str
    results: str
    fit: str
    correlations: str


def series_parts(results: FitResults, picture: str) -> ReportParts:
    """Return the parts of the report of a series.

    Parameters
    ----------
    results : FitResults
        Those of which ``is_series`` holds.
    picture : str
        Section with the voxel on a structural image.
    """
    series, drawn, n = Series(results), spread_rows(results, _MOST_DRAWN), len(results.fit.params)
    values = range_of_values(results)
    n_fitted = int(results.fit.fitted.sum())
    some = "" if len(drawn) == n_fitted else f" {len(drawn)} of {n_fitted} spectra are shown here, evenly spread;"
    some += " all are in the tables (uncertainty.csv, summary.csv)." if some else ""
    titles = [series.titles[row] for row in drawn]
    spectra = with_slider([spectrum_figure(results, row) for row in drawn], titles)
    correlations = with_slider([correlation_figure(results, row) for row in drawn], titles)
    return ReportParts(
        about=f": {n} spectra{f' ({html.escape(values)})' if values else ''}",
        verdict=series_verdict(results, series),
        results=f"""<h2>Along the series</h2>
<p class="note">Metabolites that are determined best; bars are one SD. Colours are those of the verdict: green good,
amber doubtful, red not usable; grey where the SD is above half of the estimate.</p>
{figure_html(_along(results, series), with_library=True)}
<h2>Quality</h2>{_note(some)}{_quality_table(series, drawn)}
{_edited(results, series)}
<h2>Spectra and fits{of_condition(results)}</h2>
<p class="note">The slider chooses the spectrum; each is on a scale of its own. {LINES_NOTE}{some}</p>
{figure_html(spectra)}
<h2>Concentrations</h2><p class="note">Click a spectrum for its table.{some}</p>{_details(results, series, drawn)}
{picture}""",
        fit=entries_table(_entries(results, series)),
        correlations=correlation_section(figure_html(correlations)),
    )


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>' if text else ""


def _entries(results: FitResults, series: Series) -> list[tuple[str, str]]:
    """Return names and texts of the model, and of how good the fits are."""
    fit, rows = results.fit, np.flatnonzero(results.fit.fitted)
    ood = rows[fit.ood[rows] > OOD_LIMIT]
    assumed = [fit.assumptions(row) for row in rows]
    return [
        *model_entries(results),
        (
            "Fits",
            f"{int(fit.converged[rows].sum())} of {len(fit.params)} converged; initial values {fit.init}"
            + f"; {len(fit.params) - len(rows)} could not be fitted" * bool(len(rows) < len(fit.params)),
        ),
        (
            "Residual over noise",
            f"median {np.nanmedian(fit.misfit[rows]):.2f}, {np.nanmin(fit.misfit[rows]):.2f} to"
            f" {np.nanmax(fit.misfit[rows]):.2f} (1 means that the model explains everything but noise)",
        ),
        *((name, text) for name, text in assumed[0].items() if all(one[name] == text for one in assumed)),
        ("Out of distribution", _listed([series.titles[row] for row in ood]) if len(ood) else "none"),
    ]


def _listed(titles: list[str]) -> str:
    """Return some titles in words."""
    more = f" and {len(titles) - _MOST_NAMED} more" if len(titles) > _MOST_NAMED else ""
    return "; ".join(titles[:_MOST_NAMED]) + more


def _edited(results: FitResults, series: Series) -> str:
    """Return the sections of sets of edited data, HTML."""
    if results.edited is None:
        return ""
    rows = spread_rows(results, _MOST_EDITED)
    n = int(results.fit.fitted.sum())
    some = f"<p class='note'>{len(rows)} of {n} sets; edited.csv has all.</p>" if len(rows) < n else ""
    parts = [
        f"<details{' open' if number == 0 else ''}><summary>{html.escape(series.titles[row])}</summary>"
        f"{edited_section(results, int(row))}</details>"
        for number, row in enumerate(rows)
    ]
    return f"<h2>Sets of edited spectra</h2>{some}{''.join(parts)}"


def _along(results: FitResults, series: Series):
    """Return a plotly figure with a panel for each metabolite, its estimates with SDs along the series, and a button
    for each quantity."""
    from plotly.subplots import make_subplots

    x, label = series.axis
    n_lines = -(-len(series.names) // _COLUMNS)
    spacing = {"vertical_spacing": 0.25 / n_lines, "horizontal_spacing": 0.07}
    figure = make_subplots(n_lines, _COLUMNS, subplot_titles=[html.escape(name) for name in series.names], **spacing)
    states = [_state(results, series.names, tracked) for tracked in series.tracked]
    first = states[0]
    for place, name in enumerate(series.names):
        figure.add_scatter(
            x=x,
            y=first["y"][place],
            error_y={"type": "data", "array": first["error_y.array"][place], "thickness": 1, "color": GREY, "width": 3},
            mode="markers",
            marker={"color": first["marker.color"][place], "size": 7},
            text=series.titles,
            hovertemplate="%{text}<br>%{y:.4g}<extra></extra>",
            name=html.escape(name),
            row=place // _COLUMNS + 1,
            col=place % _COLUMNS + 1,
        )
    layouts = [_ranges(tracked) for tracked in series.tracked]
    buttons = [
        {"label": tracked.label, "method": "update", "args": [state, layout]}
        for tracked, state, layout in zip(series.tracked, states, layouts)
    ]
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "xanchor": "left", "y": 1}
    menu |= {"yanchor": "bottom", "pad": {"b": 32}, "active": 0, "showactive": True}
    figure.update_layout(
        template="simple_white",
        height=230 * n_lines + 120,
        margin={"t": 90, "b": 50, "l": 50, "r": 20},
        showlegend=False,
        updatemenus=[menu],
    )
    figure.update_layout(**layouts[0])
    for column in range(min(_COLUMNS, len(series.names))):
        last = -(-(len(series.names) - column) // _COLUMNS)
        figure.update_xaxes(title=html.escape(label), row=last, col=column + 1)
    return figure


def _state(results: FitResults, names: list[str], tracked: Tracked) -> dict[str, list]:
    """Return what the panels show of a quantity: a list of estimates, SDs and colours for each metabolite."""
    state: dict[str, list] = {"y": [], "error_y.array": [], "marker.color": []}
    for name, value, sd in zip(names, tracked.values.T, tracked.sd.T):
        colours = np.full(len(value), GREY, object)
        for rows, colour, _ in verdict_groups(results, name, value):
            colours[rows] = colour
        state["y"].append(_finite(value))
        state["error_y.array"].append(_finite(sd))
        state["marker.color"].append(colours.tolist())
    return state


def _ranges(tracked: Tracked) -> dict[str, list[float]]:
    """Return the limits of the panels' axes for a quantity, as plotly names them."""
    limits = [limits_of(value, sd) for value, sd in zip(tracked.values.T, tracked.sd.T)]
    return {
        f"yaxis{place or ''}.range".replace("yaxis1.", "yaxis."): list(pair)
        for place, pair in enumerate(limits, start=1)
        if pair
    }


def _finite(values: np.ndarray) -> list[float | None]:
    """Return numbers with five digits; None, which is not drawn, where there is none."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def _quality_table(series: Series, drawn: np.ndarray) -> str:
    """Return the table of the quality of spectra, HTML."""
    frame = series.quality.iloc[drawn]
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
    lines = []
    for values in frame.itertuples(index=False):
        cells = [_cell(name, value) for name, value in zip(frame.columns, values)]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cell(column: str, value) -> str:
    """Return a value of the table of quality, HTML."""
    if isinstance(value, str):
        return html.escape(value)
    digits = next((form for word, form in _DIGITS.items() if column.startswith(word)), ".6g")
    return format(value, digits) if np.isfinite(value) else "-"


def _details(results: FitResults, series: Series, drawn: np.ndarray) -> str:
    """Return model, quality and concentrations of every spectrum that is drawn, to be opened, HTML."""
    parts = []
    for row in drawn:
        title = f"{series.titles[row]}: fit {VERDICTS[results.verdict[row]]}"
        tables = [spectrum_verdict(results, row), settings_table(results, row), concentrations_table(results, row)]
        tables.append(absolute_section(results.absolute, row))
        parts.append(f"<details><summary>{html.escape(title)}</summary>{''.join(tables)}</details>")
    return f'<div class="scroll">{"".join(parts)}</div>'


def with_slider(figures: list, titles: list[str]):
    """Return the first of figures that are alike, with a slider that shows the others' values in it."""
    import plotly.graph_objects as go

    figure, frames = figures[0], []
    for number, one in enumerate(figures):
        values = [_changing(trace) for trace in one.data]
        layout = {}
        if one.data[0].type == "scatter":
            heights = np.concatenate([np.asarray(trace.y) for trace in one.data if trace.visible is None])
            low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
            layout = {"yaxis": {"range": [low - 0.04 * (high - low), high + 0.04 * (high - low)]}}
        frames.append(go.Frame(name=str(number), data=values, layout=layout))
    figure.frames = frames
    figure.update_layout(frames[0].layout)
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [
        {"label": html.escape(title), "method": "animate", "args": [[str(number)], now]}
        for number, title in enumerate(titles)
    ]
    above = 80 if figure.data[0].type == "heatmap" else 40
    slider = {
        "active": 0,
        "steps": steps,
        "currentvalue": {"font": {"size": 14, "color": "#222"}, "prefix": ""},
        # Titles along the slider would lie upon each other.
        "font": {"color": "rgba(0,0,0,0)", "size": 1},
        "pad": {"t": above},
    }
    figure.update_layout(sliders=[slider], height=figure.layout.height + above + 50)
    return figure


def _changing(trace) -> dict:
    """Return what differs between spectra in a line or heat map, in single precision."""
    name = "z" if trace.type == "heatmap" else "y"
    return {"type": trace.type, name: np.asarray(trace[name], np.float32)}
