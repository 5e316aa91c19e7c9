"""Figures of a study's overview, drawn with plotly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..core.metabolites import is_macromolecule
from ..results.figures import AMBER, BLACK, BLUE, GREEN, GREY, RED
from ..results.reports.page import apply_layout
from .collect import SessionResult, marked
from .effect import FEWEST
from .exclusion import ExclusionRules
from .overview_spectra import StudySpectra

__all__ = ["colours_of", "concentration_figure", "effect_figure", "prior_shares", "quality_figure", "spectra_figure"]

_COLOURS = (BLUE, RED, GREEN, AMBER, BLACK)
_MOST_LINES = 150
_COLUMNS = 5
_UNDECIDED = 0.5  # SD over the value from which a metabolite is not drawn


def colours_of(groups: Sequence[str]) -> dict[str, str]:
    """Return a colour for every group, in the order of their names."""
    names = sorted(set(groups))
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}


def _faint(colour: str, alpha: float) -> str:
    """Return a colour #rrggbb that lets through what lies behind it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def spectra_figure(spectra: StudySpectra):
    """Return all spectra with the median of each group; those left out are shown by a click on the legend."""
    import plotly.graph_objects as go

    figure, colours = go.Figure(), colours_of(spectra.groups)
    drawn = np.unique(np.linspace(0, len(spectra.names) - 1, min(len(spectra.names), _MOST_LINES)).astype(int))
    for included in (False, True):
        for group, colour in colours.items():
            rows = [i for i in drawn if spectra.groups[i] == group and spectra.included[i] == included]
            for k, row in enumerate(rows):
                line = {"color": _faint(colour if included else GREY, 0.25), "width": 1}
                name = (group or "sessions") if included else f"{group} left out".strip()
                figure.add_scatter(
                    x=spectra.ppm,
                    y=spectra.spectra[row],
                    line=line,
                    name=name,
                    legendgroup=name,
                    showlegend=k == 0,
                    visible=True if included else "legendonly",
                    hovertext=spectra.names[row],
                    hoverinfo="text",
                )
    for group, colour in colours.items():
        rows = np.array([g == group for g in spectra.groups]) & spectra.included
        if rows.any():
            median = np.median(spectra.spectra[rows], axis=0)
            name = f"median{f' of {group}' if group else ''} ({rows.sum()})"
            figure.add_scatter(x=spectra.ppm, y=median, name=name, line={"color": colour, "width": 2.5})
    some = spectra.spectra[spectra.included] if spectra.included.any() else spectra.spectra
    low, high = np.percentile(some.min(1), 5), np.percentile(some.max(1), 95)
    figure.update_xaxes(autorange="reversed", title="chemical shift (ppm)")
    figure.update_yaxes(range=[low - 0.08 * (high - low), high + 0.08 * (high - low)], showticklabels=False)
    return apply_layout(figure, 480)


def _decided(tidy: pd.DataFrame) -> list[str]:
    """Return the metabolites whose typical SD is below half of the value; all if there are none."""
    names = [name for name in dict.fromkeys(tidy["metabolite"]) if not is_macromolecule(name)]
    typical = tidy.groupby("metabolite")[["value", "sd"]].median()
    share = typical["sd"] / typical["value"].abs()
    # An SD of zero is that of the internal reference over itself.
    decided = [name for name in names if not (share[name] > _UNDECIDED or share[name] < 1e-9)]
    return decided or names


def prior_shares(tidy: pd.DataFrame) -> pd.Series:
    """Return the share of the prior in the values of each metabolite: the median of the group where it is largest."""
    some = tidy[tidy["included"].astype(bool)]
    return some.groupby(["metabolite", "group"])["prior_share"].median().groupby("metabolite").max()


def concentration_figure(tidy: pd.DataFrame, groups: pd.DataFrame):
    """Return a panel per metabolite: sessions with their SDs, and means of groups with 95 % intervals.

    Parameters
    ----------
    tidy, groups : DataFrame
        Lines of one series and quantity, see :mod:`.collect` and :mod:`.group`.
    """
    from plotly.subplots import make_subplots

    names, shares = _decided(tidy), prior_shares(tidy)
    rows = -(-len(names) // _COLUMNS)
    titles = [marked(name, shares.get(name, np.nan)) for name in names]
    figure = make_subplots(rows, _COLUMNS, subplot_titles=titles, horizontal_spacing=0.05, vertical_spacing=0.28 / rows)
    colours, random = colours_of(tidy["group"].fillna("")), np.random.default_rng(0)
    order = list(colours)
    for k, name in enumerate(names):
        place = {"row": k // _COLUMNS + 1, "col": k % _COLUMNS + 1}
        for i, group in enumerate(order):
            part = tidy[(tidy["metabolite"] == name) & (tidy["group"] == group) & tidy["included"].astype(bool)]
            x = i + random.uniform(-0.25, 0.15, len(part))
            figure.add_scatter(
                x=x,
                y=part["value"],
                mode="markers",
                marker={"color": colours[group], "size": 5, "opacity": 0.6},
                error_y={"type": "data", "array": part["sd"], "thickness": 0.8, "width": 0, "color": _faint(GREY, 0.5)},
                hovertext=part["session"],
                name=group or "sessions",
                legendgroup=group,
                showlegend=k == 0 and bool(group),
                **place,
            )
            mean = _means(groups, name, group)
            if len(mean):
                line = mean.iloc[0]
                half = {"array": [line["ci95_high"] - line["mean"]], "arrayminus": [line["mean"] - line["ci95_low"]]}
                figure.add_scatter(
                    x=[i + 0.32],
                    y=[line["mean"]],
                    mode="markers",
                    marker={"color": colours[group], "size": 11, "symbol": "line-ew-open", "line": {"width": 3}},
                    error_y={"type": "data", **half, "thickness": 2, "color": colours[group]},
                    hovertext=f"mean {line['mean']:.3g}, SD of the mean {line['sd_of_mean']:.2g}, n {line['n']}",
                    hoverinfo="text",
                    showlegend=False,
                    **place,
                )
        figure.update_yaxes(range=_range(tidy[tidy["metabolite"] == name], _means(groups, name)), **place)
    apply_layout(figure, 90 + 215 * rows)
    figure.update_xaxes(
        showgrid=False, tickvals=list(range(len(order))), ticktext=order, range=[-0.6, len(order) - 0.4]
    )
    return figure


def _means(groups: pd.DataFrame, name: str, group: str | None = None) -> pd.DataFrame:
    """Return the means of one metabolite, or of one group of it, that have an interval of use."""
    if groups.empty:
        return groups
    chosen = (groups["metabolite"] == name) & (groups["n"] >= FEWEST)
    return groups[chosen if group is None else chosen & (groups["group"] == group)]


def _range(tidy: pd.DataFrame, means: pd.DataFrame) -> list[float]:
    """Return the axis of a panel: from zero over all values that are included, and the intervals that are drawn.

    SDs of single values do not widen it beyond half of what the values need.
    """
    some = tidy[tidy["included"].astype(bool)]
    values, sd = some["value"].to_numpy(float), np.nan_to_num(some["sd"].to_numpy(float))
    ends = np.concatenate([values, *(means[end].to_numpy(float) for end in ("ci95_low", "ci95_high") if len(means))])
    ends = ends[np.isfinite(ends)]
    low, high = min(ends.min(initial=0.0), 0.0), max(ends.max(initial=0.0), 0.0)
    most = 0.5 * (high - low)
    with_sd = np.concatenate([values - sd, values + sd])
    with_sd = with_sd[np.isfinite(with_sd)]
    low = max(min(low, with_sd.min(initial=0.0)), low - most)
    high = min(max(high, with_sd.max(initial=0.0)), high + most)
    margin = 0.05 * (high - low) or 1.0
    return [low - margin * (low < 0), high + margin]


def effect_figure(effects: pd.DataFrame):
    """Return the differences of groups in percent of the first one, with 95 % intervals; those of groups that are too
    small for one have a hollow mark without."""
    import plotly.graph_objects as go

    figure = go.Figure()
    pairs = list(dict.fromkeys(zip(effects["group"], effects["against"])))
    for k, (group, against) in enumerate(pairs):
        part = effects[(effects["group"] == group) & (effects["against"] == against)]
        # Metabolites that no group decides would hide the others.
        scale = (100 * part["difference"] / part["percent"]).abs() / 100
        half = (part["ci95_high"] - part["ci95_low"]) / 2 / scale
        small = part[["n", "n_against"]].min(axis=1) < FEWEST
        half = half.mask(small)
        part, half, small = (each[~(half >= 100)] for each in (part, half, small))
        figure.add_scatter(
            x=[marked(name, share) for name, share in zip(part["metabolite"], part["prior_share"])],
            y=part["percent"],
            error_y={"type": "data", "array": half, "thickness": 1.5},
            mode="markers",
            marker={
                "color": _COLOURS[k % len(_COLOURS)],
                "size": 8,
                "symbol": ["circle-open" if one else "circle" for one in small],
            },
            name=f"{group} - {against}",
        )
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    title = f"{pairs[0][0]} - {pairs[0][1]} (%)" if len(pairs) == 1 else "difference (%)"
    figure.update_yaxes(title=title)
    return apply_layout(figure, 360).update_layout(showlegend=len(pairs) > 1)


def quality_figure(results: Sequence[SessionResult], rules: ExclusionRules):
    """Return SNR, line width, residual over noise and out-of-distribution score of every session, with their limits."""
    from plotly.subplots import make_subplots

    panels = [
        ("snr", "SNR", rules.min_snr),
        ("fwhm_ppm", "FWHM (ppm)", rules.max_fwhm_ppm),
        ("misfit", "residual / noise", rules.max_misfit),
        ("ood_score", "out of distribution", rules.max_ood),
    ]
    figure = make_subplots(1, 4, subplot_titles=[title for _, title, _ in panels], horizontal_spacing=0.06)
    colours = colours_of([result.session.group for result in results])
    for k, (key, _, limit) in enumerate(panels):
        for group, colour in colours.items():
            for included, symbol in ((True, "circle"), (False, "x")):
                some = [
                    (i, result)
                    for i, result in enumerate(results)
                    if result.session.group == group
                    and result.included == included
                    and isinstance(result.quality.get(key), (int, float))
                ]
                figure.add_scatter(
                    x=[i for i, _ in some],
                    y=[result.quality[key] for _, result in some],
                    mode="markers",
                    marker={"color": colour, "symbol": symbol, "size": 6},
                    hovertext=[f"{r.session.name} {'; '.join(r.reasons)}" for _, r in some],
                    name=f"{group}{'' if included else ' left out'}".strip() or "sessions",
                    legendgroup=f"{group}{included}",
                    showlegend=k == 0 and bool(some),
                    row=1,
                    col=k + 1,
                )
        if limit is not None:
            figure.add_hline(y=limit, line={"color": GREY, "dash": "dash", "width": 1}, row=1, col=k + 1)
        values = [result.quality.get(key) for result in results]
        top = max([value for value in values if isinstance(value, (int, float))] + [limit or 0.0])
        figure.update_yaxes(range=[0, 1.08 * top or 1.0], row=1, col=k + 1)
    figure.update_xaxes(title="session", showgrid=False)
    return apply_layout(figure, 320)
