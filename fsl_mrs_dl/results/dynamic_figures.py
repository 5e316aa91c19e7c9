"""Pictures of a dynamic fit: parameters over the series with confidence bands, spectra with their fit, residuals."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import torch

from ..dynamic.agreement import agreement_of
from ..dynamic.data import DynamicData
from ..dynamic.derived import sum_courses
from ..dynamic.models import MatrixModel
from ..dynamic.series import DynamicFit
from ..fitting.uncertainty import Z95

__all__ = ["parameter_figure", "phased", "residual_figure", "spectra_figure"]

_MOST_PANELS, _MOST_SPECTRA, _COLUMNS = 24, 12, 4
_MARKERS, _MOST_GROUPS, _LONG_TITLE = ["o", "^", "v", "D", "s", "P"], 6, 24
_UNITS = {"gamma": "1/s", "sigma": "1/s", "eps": "rad/s", "Phi_0": "rad", "Phi_1": "rad/Hz"}  # by the start of a name
_NOISE_SDS = 5.0
_DATA, _FIT, _SINGLE = "0.35", "#c0392b", "#2c6fbb"
_NO_ESTIMATE, _DOUBTFUL = "0.6", "#8a5a00"  # colours of curves that are at no minimum, and of a doubtful verdict


def _panels(n: int, *, height: float = 2.1, **options):
    """Return a figure with n panels, and these."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(2.8 * columns + 0.6, height * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, **options).flatten()
    for panel in panels[n:]:
        panel.set_visible(False)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7)
    return figure, panels[:n]


def parameter_figure(results: DynamicData, path: str | Path | None = None):
    """Draw each parameter that changes over the series: the joint fit with its 95 % band, and fits of each spectrum.

    Sums such as tNAA come first, then concentrations; of more than 24 the first are drawn, and the others named.
    Spectra with the same time variable and another direction have symbols of their own.  Of a fit that has not
    converged the curves are grey and without a band; the title says why it is not usable, or doubtful.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fit, times = results.fit, results.time_variable
    changing = [one.mapped for one in fit.mapping.free if one.behaviour != "fixed"]
    names = list(dict.fromkeys(changing)) or fit.mapping.mapped_names[: len(fit.metabolites)]
    shown = {name: [fit.mapping.mapped_names.index(name)] for name in names}
    sums = {f"conc_{one.name}": [fit.metabolites.index(member) for member in one.members] for one in sum_courses(fit)}
    # Members of a sum are hard to tell apart; their sum is what is well determined.
    shown = {
        name: columns for name, columns in sums.items() if any(f"conc_{fit.metabolites[k]}" in shown for k in columns)
    } | shown
    left_out = list(shown)[_MOST_PANELS:]
    shown = dict(list(shown.items())[:_MOST_PANELS])
    figure, panels = _panels(len(shown))
    x = times if times.ndim == 1 else np.arange(len(times))
    groups = dict.fromkeys(results.labels)
    handles: dict[str, object] = {}
    converged = fit.solution.converged
    colour, of_band, of_bars = (
        (_FIT, "joint fit, 95 % band", "joint fit, 95 % interval")
        if converged
        else (_NO_ESTIMATE, "joint fit, not converged", "joint fit, not converged")
    )
    for panel, (name, columns) in zip(panels, shown.items()):
        single = fit.initial[:, columns].sum(1)
        bars = fit.initial_sd[:, columns[0]] if len(columns) == 1 and columns[0] < len(fit.metabolites) else None
        bars = np.zeros(len(x)) if bars is None else np.where(np.isfinite(bars), bars, 0)
        at, value, sd, smooth = _curve(results, columns)
        sd = sd if converged else np.zeros_like(sd)
        low, high = value - Z95 * sd, value + Z95 * sd
        if smooth:
            panel.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0)
            handles.setdefault(of_band, panel.plot(at, value, color=colour, linewidth=1.2)[0])
        else:
            bar = {"markersize": 4, "elinewidth": 1.2, "color": colour}
            handles.setdefault(of_bars, panel.errorbar(at, value, Z95 * sd, fmt="s", **bar))
        for marker, label in zip(_MARKERS * (1 + len(groups)), groups):
            which = [number for number, one in enumerate(results.labels) if one == label]
            options = {"markersize": 3, "elinewidth": 0.8, "color": _SINGLE, "fmt": marker}
            drawn = panel.errorbar(x[which], single[which], bars[which], **options)
            words = "each spectrum alone" + (f", {label}" if label else ", SD")
            if len(groups) <= _MOST_GROUPS or not handles.keys() - {of_band, of_bars}:
                handles.setdefault(words if len(groups) <= _MOST_GROUPS else "each spectrum alone, SD", drawn)
        panel.set_title(f"{name} ({unit})" if (unit := _unit(name)) else name, fontsize=8)
        _limit(panel, single, low, high)
    words, colour = _head(fit)
    # As the legend's own title: one of the figure would lie over a legend that stands outside of the panels.
    above = {"title": words or None, "title_fontproperties": {"size": 9}, "loc": "outside upper center"}
    legend = figure.legend(list(handles.values()), list(handles), ncols=3, fontsize=7, frameon=False, **above)
    legend.get_title().set_color(colour)
    below = results.time_name if times.ndim == 1 else "number of the spectrum"
    if left_out:
        text = f"Not drawn, beyond {_MOST_PANELS} panels: {', '.join(left_out)} (mapped_parameters.csv)"
        below += "\n" + textwrap.fill(text, 40 * min(_COLUMNS, len(shown)))
    figure.supxlabel(below, fontsize=8)
    figure.supylabel("arbitrary units, where a title has no unit", fontsize=8)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _head(fit: DynamicFit) -> tuple[str, str]:
    """Return why a fit is not usable, or doubtful, as a title, and its colour; no title of one that is good."""
    agreement = agreement_of(fit)
    words = agreement.in_brief
    return f"{words[:1].upper()}{words[1:]}", _DOUBTFUL if agreement.converged else _FIT


def _add_head(figure, fit: DynamicFit) -> None:
    """Set the title of :func:`_head` above all panels, where there is one."""
    words, colour = _head(fit)
    if words:
        figure.suptitle(words, fontsize=9, color=colour)


def _unit(name: str) -> str:
    """Return the unit of a parameter of the spectra that is none of the scaled data; empty for others."""
    return next((unit for start, unit in _UNITS.items() if name.startswith(start)), "")


def _limit(panel, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Keep the curve in view where a fit of one spectrum, or a band, lies far outside."""
    inside = np.concatenate([points, low, high])
    middle = (low + high) / 2
    reach = 3 * max(np.ptp(middle), np.median(np.abs(points - np.median(middle))), 1e-12)
    bottom, top = middle.min() - reach, middle.max() + reach
    inside = inside[(inside > bottom) & (inside < top) & np.isfinite(inside)]
    if inside.size and np.ptp(inside) > 0:
        margin = 0.06 * np.ptp(inside)
        panel.set_ylim(inside.min() - margin, inside.max() + margin)


def _curve(results: DynamicData, columns: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Return where the sum of parameters is drawn, its values, and their SDs, and whether these are a curve.

    They are one, and fine, where all parameters are functions of one variable.
    """
    fit, times = results.fit, results.time_variable
    if times.ndim == 1:
        at = torch.linspace(float(times.min()), float(times.max()), 101, dtype=torch.float64)
        parts = [_function(fit, column, at) for column in columns]
        if all(part is not None for part in parts):
            value = sum(part[0] for part in parts if part is not None)
            free = torch.cat([part[2] for part in parts if part is not None])
            slope = torch.cat([part[1] for part in parts if part is not None], dim=1)
            cov = torch.as_tensor(fit.cov)[free][:, free].nan_to_num(posinf=1e300)
            variance = torch.einsum("ta,ab,tb->t", slope, cov, slope).clamp(min=0)
            if torch.as_tensor(value).isfinite().all():
                return at.numpy(), torch.as_tensor(value).numpy(), variance.sqrt().nan_to_num().numpy(), True
    x = times if times.ndim == 1 else np.arange(len(times))
    if len(columns) == 1:
        sd = fit.mapped_sd[:, columns[0]]
    else:
        sd = next(one.sd for one in sum_courses(fit) if [fit.metabolites.index(k) for k in one.members] == columns)
    return np.asarray(x, float), fit.mapped[:, columns].sum(1), np.nan_to_num(sd), False


def _function(fit: DynamicFit, column: int, at: torch.Tensor):
    """Return a parameter at times, its derivatives by its free parameters, and their numbers; None where it is no
    function of one variable."""
    for one in fit.mapping.dynamic:
        which = (one.columns == column).nonzero()[:, 0]
        if len(which) and not isinstance(one.model, MatrixModel):
            free = one.free[which[0]]
            p = torch.as_tensor(fit.x)[free][None]
            try:
                return one.model.values(p, at)[0], one.model.jacobian(p, at)[0], free
            except Exception:
                return None  # a function that was written for the times of the series only
    return None


def spectra_figure(results: DynamicData, path: str | Path | None = None):
    """Draw spectra of the series with their fit and residual, in phase; of more than 12 evenly spaced ones.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fit = results.fit
    n_times = len(fit.spectra)
    shown = np.unique(np.linspace(0, n_times - 1, min(n_times, _MOST_SPECTRA)).round().astype(int))
    figure, panels = _panels(len(shown), sharex=True, sharey=True)
    first, last = fit.model.window
    ppm = fit.model.axes.ppm()[first:last]
    all_data, all_models = phased(fit)
    for panel, number in zip(panels, shown):
        data, model = all_data[number], all_models[number]
        panel.plot(ppm, data, color=_DATA, linewidth=0.7, label="data")
        panel.plot(ppm, model, color=_FIT, linewidth=0.8, label="joint fit")
        panel.plot(ppm, data - model + _below(fit), color=_SINGLE, linewidth=0.5, label="residual")
        panel.set_title(results.titles[number], fontsize=8 if len(results.titles[number]) < _LONG_TITLE else 6)
        panel.set_yticks([])
    panels[0].set_xlim(ppm.max(), ppm.min())
    panels[0].legend(fontsize=6, frameon=False, loc="upper left")
    _add_head(figure, fit)
    figure.supxlabel("chemical shift (ppm)", fontsize=8)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def phased(fit: DynamicFit) -> tuple[np.ndarray, np.ndarray]:
    """Return the real parts of data and model in the window, ``(n_times, n_window)`` each, each spectrum in phase."""
    first, last = fit.model.window
    names, hz = fit.mapping.mapped_names, fit.model.axes.hz()[first:last]
    zero, slope = (fit.mapped[:, names.index(name)][:, None] for name in ("Phi_0_0", "Phi_1_0"))
    turn = np.exp(1j * (zero + slope * hz))
    return (fit.spectra * turn).real, (fit.fitted * turn).real


def residual_figure(results: DynamicData, path: str | Path | None = None):
    """Draw the residual of every spectrum over the noise as a map: spectra from top to bottom, in phase.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fit, times = results.fit, results.time_variable
    data, model = phased(fit)
    first, last = fit.model.window
    ppm = fit.model.axes.ppm()[first:last]
    n_times = len(data)
    figure, (panel,) = _panels(1)
    figure.set_size_inches(7.5, 1.6 + min(0.22 * n_times, 6))
    extent = (ppm[0], ppm[-1], n_times - 0.5, -0.5)
    residual = (data - model) / fit.noise_outside_sd
    # Up to five SDs a residual may be noise; one of a wrong model would fill the picture with the last colours.
    most = max(_NOISE_SDS, float(np.percentile(np.abs(residual), 98)))
    scale = {"vmin": -most, "vmax": most, "cmap": "RdBu_r", "aspect": "auto", "interpolation": "nearest"}
    image = panel.imshow(residual, extent=extent, **scale)
    panel.set_xlim(ppm[-1], ppm[0])
    shown = np.unique(np.linspace(0, n_times - 1, min(n_times, 12)).round().astype(int))
    panel.set_yticks(shown, [results.titles[one].removeprefix("at ").removeprefix("number ") for one in shown])
    panel.set_ylabel(results.time_name if times.ndim == 1 else "number of the spectrum", fontsize=8)
    panel.set_xlabel("chemical shift (ppm)", fontsize=8)
    figure.colorbar(image, ax=panel, label="residual / noise SD")
    _add_head(figure, fit)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _below(fit) -> float:
    """Return how far below zero residuals are drawn."""
    return -0.25 * float(np.abs(fit.fitted).max()) - 4 * fit.noise_sd
