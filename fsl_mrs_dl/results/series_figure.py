"""Picture of a series: its spectra with their fits one above the other, and metabolites along the series."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core import units
from ..fitting.verdict import VERDICTS
from .figures import BLACK, GREY, RED, sd_labels, verdict_colour
from .fit_results import FitResults
from .series import Series, spread_rows

__all__ = ["limits_of", "series_figure", "verdict_groups"]

_MOST_STACKED = 24
_COLUMNS = 3
_STEP = 1.2  # between two spectra, over the height of a typical one
_ROOM = (0.45, 1.3)  # below and above its zero, in steps, within which a spectrum is drawn
_LARGEST, _SMALLEST = 2.0, 4.0  # times that a spectrum may be higher, and lower, on the common scale


def verdict_groups(results: FitResults, name: str, value: np.ndarray) -> list[tuple[np.ndarray, str, str]]:
    """Return which estimates ``(n,)`` of a metabolite or sum share a colour, the colour, and its words: those of each
    verdict, and those that the spectra hardly determine."""
    undecided = results.undetermined[:, results.names.index(name)]
    groups = [
        (np.isfinite(value) & ~undecided & (results.verdict == verdict), *verdict_colour(np.array([verdict])))
        for verdict in range(len(VERDICTS))
    ]
    groups = [(rows, colour, f"fit {word}") for rows, colour, word in groups]
    return [*groups, (np.isfinite(value) & undecided, GREY, sd_labels(results)[1])]


def limits_of(value: np.ndarray, sd: np.ndarray) -> tuple[float, float] | None:
    """Return the limits of an axis for estimates with error bars ``(n,)``, from zero; bars of undecided estimates are
    not held.  None without an estimate."""
    if not np.isfinite(value).any():
        return None
    bar = np.where(sd <= 0.5 * np.abs(value), sd, 0)
    low, high = min(0.0, float(np.nanmin(value - bar))), max(0.0, float(np.nanmax(value + bar)))
    margin = 0.06 * ((high - low) or 1.0)
    return low - margin, high + margin


def series_figure(results: FitResults, path: str | Path | None = None):
    """Draw spectra with fits and residuals one above the other, and each well-determined metabolite along the series.

    Parameters
    ----------
    results : FitResults
        Those of which ``is_series`` holds.
    path : path, optional
        File to write, PNG, PDF or SVG.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series, drawn = Series(results), spread_rows(results, _MOST_STACKED)
    n_lines = -(-len(series.names) // _COLUMNS)
    height = max(2.6 * n_lines + 0.8, 2.5 + 0.4 * len(drawn))
    figure = Figure(figsize=(14, height), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.3))[0]
    _draw_spectra(left.subplots(1, 2, sharey=True, width_ratios=(2, 1)), results, series, drawn)
    # Below few panels stays room, for they would be much higher than wide.
    _draw_metabolites(right, results, series, max(n_lines, int(height / 3.5)))
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _draw_spectra(panels, results: FitResults, series: Series, drawn: np.ndarray) -> None:
    """Draw data and model one above the other, turned by the fitted phases, and the residuals beside them."""
    ppm, data, full, baseline = _upright(results, drawn)
    typical, factors = _scale(full - baseline, data - full)
    step = _STEP * typical
    for place, (measured, fitted, factor) in enumerate(zip(data, full, factors)):
        lines = [(0, measured, BLACK, 0.7, "data"), (0, fitted, RED, 0.8, "model")]
        lines.append((1, measured - fitted, GREY, 0.6, "residual"))
        level = np.median(baseline[place])
        for panel, values, colour, width, label in lines:
            values = factor * (values - level * (panel == 0))
            # Residual water reaches far into the spectra above and below it.
            values = np.where((values > -_ROOM[0] * step) & (values < _ROOM[1] * step), values, np.nan)
            panels[panel].plot(ppm, values - place * step, color=colour, lw=width, label=None if place else label)
        if factor != 1:
            at = (1.0, -place * step)
            panels[0].annotate(
                f"x {factor:g}", at, xycoords=panels[0].get_yaxis_transform(), ha="right", va="bottom", fontsize=7
            )
    titles = (
        f"{_of_all(results, drawn)}, turned upright by the fitted phase, a step apart;\n"
        f"one scale{' but for those with a factor at the right' if (factors != 1).any() else ''}",
        "residual, likewise",
    )
    for panel, title in zip(panels, titles):
        panel.set_xlim(ppm.max(), ppm.min())
        panel.set_ylim(-(len(drawn) - 1 + _ROOM[0]) * step, _ROOM[1] * step)
        panel.set_xlabel("chemical shift (ppm)", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.set_title(title, fontsize=9, loc="left")
    panels[0].set_yticks(-step * np.arange(len(drawn)), [_wrapped(series.titles[row]) for row in drawn], fontsize=7)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
    panels[0].legend(loc="lower left", bbox_to_anchor=(0, 0), frameon=False, fontsize=8, ncols=2, borderaxespad=0)


def _upright(results: FitResults, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return chemical shifts ``(n_window,)`` of the window, and data, model and baseline of spectra there
    ``(n, n_window)``, real, turned by the fitted phases."""
    fit, (first, last) = results.fit, results.fit.model.window
    turn = fit.upright(rows)
    spectra = (units.fid_to_spec(fit.fids[rows]), fit.spectra("full", rows), fit.spectra("baseline", rows))
    data, full, baseline = ((each * turn)[:, first:last].real for each in spectra)
    return fit.model.axes.ppm()[first:last], data, full, baseline


def _scale(metabolites: np.ndarray, residual: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the height of a typical spectrum by its fitted metabolites, or by its noise where that is higher, and the
    factor ``(n,)`` by which each is drawn: one, but for spectra of a much smaller or larger height."""
    noise = 1.4826 * np.median(np.abs(residual), axis=-1)
    height = np.maximum(np.ptp(metabolites, axis=-1), 6 * noise)
    typical = float(np.median(height)) or 1.0
    ratio = typical / np.where(height > 0, height, typical)
    unlike = (ratio < 1 / _LARGEST) | (ratio > _SMALLEST)
    return typical, np.array([float(f"{one:.1g}") if far else 1.0 for one, far in zip(ratio, unlike)])


def _of_all(results: FitResults, drawn: np.ndarray) -> str:
    n = len(results.fit.params)
    return f"{n} spectra" if len(drawn) == n else f"{len(drawn)} of {n} spectra"


def _wrapped(title: str) -> str:
    return title.replace(", ", "\n")


def _draw_metabolites(figure, results: FitResults, series: Series, n_lines: int) -> None:
    """Draw a panel for each metabolite, its estimates with their SDs along the series."""
    x, label = series.axis
    quantity = series.tracked[0]
    panels = figure.subplots(n_lines, _COLUMNS, squeeze=False).ravel()
    words: dict[str, object] = {}
    for panel, name, value, sd in zip(panels, series.names, quantity.values.T, quantity.sd.T):
        if x.dtype == object:
            panel.plot(x, np.full(len(x), np.nan))  # all categories in their order
        for rows, colour, word in verdict_groups(results, name, value):
            if rows.any():
                bars = np.where(np.isfinite(sd[rows]), sd[rows], 0)
                words[word] = panel.errorbar(
                    x[rows], value[rows], bars, fmt="o", ms=3.5, color=colour, capsize=2, lw=1, label=word
                )
        limits = limits_of(value, sd)
        if limits:
            panel.set_ylim(*limits)
        panel.axhline(0, color=GREY, lw=0.5)
        panel.set_title(name, fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[max(0, len(series.names) - _COLUMNS) : len(series.names)]:
        panel.set_xlabel(label, fontsize=8)
    for panel in panels[: len(series.names) : _COLUMNS]:
        panel.set_ylabel(quantity.label, fontsize=8)
    for panel in panels[len(series.names) :]:
        panel.set_visible(False)
    places = {"loc": "outside upper right", "ncols": 4, "frameon": False, "fontsize": 8}
    figure.legend(words.values(), words.keys(), title="estimates, bars: one SD", title_fontsize=8, **places)
