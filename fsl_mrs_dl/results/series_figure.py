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
    """Draw data and model one above the other, all on one scale, and the residuals beside them."""
    fit, model = results.fit, results.fit.model
    first, last = model.window
    ppm = model.axes.ppm()[first:last]
    data = units.fid_to_spec(fit.fids[drawn])[:, first:last].real
    full = fit.spectra("full", drawn)[:, first:last].real
    # A tall line, such as of lipid, may reach into the spectra above it.
    step = 1.15 * max(float(np.median(np.ptp(data, axis=-1))), float(np.ptp(data, axis=-1).max()) / 3)
    for place, (measured, fitted) in enumerate(zip(data, full)):
        above = -place * step
        panels[0].plot(ppm, measured + above, color=BLACK, lw=0.7, label="data" if place == 0 else None)
        panels[0].plot(ppm, fitted + above, color=RED, lw=0.8, alpha=0.9, label="model" if place == 0 else None)
        panels[1].plot(ppm, measured - fitted + above, color=GREY, lw=0.6)
    for panel, title in zip(panels, (_of_all(results, drawn), "residual")):
        panel.set_xlim(ppm.max(), ppm.min())
        panel.set_xlabel("chemical shift (ppm)", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.set_title(title, fontsize=9, loc="left")
    panels[0].set_yticks(-step * np.arange(len(drawn)), [_wrapped(series.titles[row]) for row in drawn], fontsize=7)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
    panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, ncols=2, borderaxespad=0)


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
    figure.legend(words.values(), words.keys(), loc="outside upper right", ncols=4, frameon=False, fontsize=8)
