"""HTML report of a frequency and phase correction: one file that opens without a network."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from ... import __version__
from ...core.axes import Axes
from ...core.errors import DataError
from ...core.transients import apply_shift_phase
from ...preproc.align import AlignedData
from ...preproc.similarity import mean_pairwise_correlation, similarity_index, similarity_matrix
from ...registration.alignment import Alignment
from .alignment_table import _partner, notes
from .page import _AFTER, _BEFORE, _STYLE, _cut, _layout, _mean, _numbers, _write, _zero_order

__all__ = ["write_align_report", "report_paths", "write_reports"]

_MAX_LINES = 64  # more transients than this are thinned in the overlays, which stay readable and small
_FLAG_COLOURS = {"ok": _AFTER, "weak": "#b8860b", "outlier": "#c1121f", "failed": "#777777"}
_COURSE_NOTE = (
    "Relative to the reference; bars are one standard deviation. Phases are those of the first point. Unless a"
    " reference, absolute places or matched sub-spectra say otherwise, the mean of both over the transients flagged ok"
    " is zero."
)
_DIFFERENCE_NOTE = (
    "Real part of one weighted mean less the other's, before and after; what editing leaves alone should cancel."
)


def write_align_report(
    path,
    fid,
    alignment: Alignment,
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    set_index: int = 0,
    title: str = "Frequency and phase correction",
    note: str = "",
    partner: int | None = None,
) -> Path:
    """Write the report of one set of transients.

    Shows the spectra before and after, their means, shift and phase of every transient with error bars, the similarity
    matrices, and a table: mean pairwise correlation, line width and SNR of the mean, flagged transients.  Channels are
    combined for display, weighted with the reference (which carries their gain and phase) over their noise variance.

    Parameters
    ----------
    path : path-like
        The HTML file; an existing one is replaced when the new one is complete.
    fid : complex ndarray, shape (n_transients, n_points), (n_channels, ...) or (n_sets, n_channels, ...)
        The FIDs that were aligned, uncorrected.
    alignment : Alignment
    axes : Axes
    ppmlim : (float, float) or None
        As given to :func:`fsl_mrs_dl.registration.alignment.align_transients`.
    set_index : int
        Which set to show when there are several.
    title : str
    note : str
        Said of how it was done, under the title.
    partner : int, optional
        Another set, the other condition of edited data: the difference of the two is shown, too.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If ``fid`` does not have the shape that was aligned.
    OutputError
        If the file cannot be written.
    """
    whole = np.asarray(fid)
    fid, one = _one_set(whole, alignment, set_index)
    axes = axes.with_points(fid.shape[-1])
    before = _combine(fid, one["reference"])
    after = _combine(one["apply"](fid), one["reference"])
    limits = ppmlim if ppmlim is not None else _full_range(axes)
    before, after = _zero_order(before, after, one["weight"], axes, limits)
    figures = [
        (
            "Spectra",
            "Real part; one phase for all, chosen for the mean after correction.",
            _spectra(before, after, one, axes, limits),
        ),
        (
            "Shift and phase",
            ("" if np.isfinite(one["shift_sd_hz"]).any() else "Errors are not known. ") + _COURSE_NOTE,
            _course(one),
        ),
        (
            "Similarity of the transients",
            "Correlation of the complex spectra in the window, both with the same colours.",
            _matrices(before, after, axes, ppmlim),
        ),
    ]
    if partner is not None:
        figures.insert(
            1,
            (
                "Difference of the sub-spectra",
                _DIFFERENCE_NOTE,
                _difference(whole, alignment, (set_index, partner), axes, limits),
            ),
        )
    rows = _rows(before, after, one, axes, ppmlim, limits)
    _write(Path(path), _page(title, one, rows, figures, alignment, set_index, limits, axes.nucleus, note))
    return Path(path)


def report_paths(folder, aligned: AlignedData, every_set: bool) -> list[Path]:
    """The files that :func:`write_reports` writes: one for the first set, or one for each."""
    n_sets = len(aligned.fids)
    if n_sets == 1 or not every_set:
        return [Path(folder) / "report_dl_align.html"]
    return [Path(folder) / f"report_dl_align_{index}.html" for index in range(n_sets)]


def write_reports(folder, aligned: AlignedData, every_set: bool = False, name: str = "") -> list[Path]:
    """Write the reports of an aligned file, of the set that stands for all or of every one; ``name`` is the file's, for
    their titles."""
    paths = report_paths(folder, aligned, every_set)
    for index, path in enumerate(paths) if every_set else ((aligned.shown, paths[0]),):
        write_align_report(
            path,
            aligned.fids,
            aligned.alignment,
            aligned.data.axes,
            ppmlim=aligned.options.ppmlim,
            set_index=index,
            note=notes(aligned, index),
            partner=_partner(aligned, index),
            title=f"Frequency and phase correction: {name}" if name else "Frequency and phase correction",
        )
    return paths


# ------------------------------------------------------------------------------------------------------ data


def _one_set(fid, alignment: Alignment, index: int):
    """One set as (n_channels, n_transients, n_points) and its estimates by name."""
    shape = alignment.shift_hz.shape
    if fid.ndim not in (2, 3, 4) or (fid.ndim == 4) != (len(shape) == 2) or fid.shape[-2] != shape[-1]:
        raise DataError(
            f"The FIDs have shape {fid.shape}, which does not fit {shape} aligned transients: give the aligned FIDs."
        )
    if fid.ndim == 4 and not 0 <= index < shape[0]:
        raise DataError(f"There is no set {index} among {shape[0]}: count from 0.")
    fid = fid[index] if fid.ndim == 4 else fid.reshape((1,) * (3 - fid.ndim) + fid.shape)
    names = (
        "shift_hz",
        "phase_deg",
        "shift_sd_hz",
        "phase_sd_deg",
        "amplitude",
        "similarity",
        "weight",
        "flag",
        "reference",
    )
    one = {name: getattr(alignment, name)[index] if len(shape) == 2 else getattr(alignment, name) for name in names}
    one["apply"] = lambda x: apply_shift_phase(x, one["shift_hz"], one["phase_deg"], alignment.dwelltime)
    return np.where(np.isfinite(fid), fid, 0), one


def _combine(fid: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Channels summed with the gain of their reference over their noise variance, (n_transients, n_points)."""
    if len(fid) == 1:
        return fid[0].astype(np.complex128)
    strongest = reference[np.argmax(np.linalg.norm(reference, axis=-1))]
    gain = reference @ strongest.conj() / np.linalg.norm(strongest) ** 2
    noise = np.array([_noise_sd(channel) for channel in fid])
    weight = gain.conj() / np.maximum(noise, 1e-12 * noise.max() + 1e-300) ** 2
    return np.einsum("c,ckn->kn", weight, fid) / np.sum((weight * gain).real)


def _noise_sd(fid: np.ndarray) -> float:
    """Noise of a stack of transients per real and imaginary part, from second differences of their spectra."""
    second = np.abs(np.diff(np.fft.fft(fid, axis=-1, norm="ortho"), n=2, axis=-1))
    level = np.median(second, axis=-1)
    return float(np.median(level[level > 0]) / np.sqrt(12 * np.log(2))) if (level > 0).any() else 0.0


def _full_range(axes: Axes):
    ppm = axes.ppm()
    return float(ppm[0]), float(ppm[-1])


def _line_width(fid, axes, limits) -> float:
    """Full width at half maximum in Hz of the tallest peak of the real spectrum; NaN if the window cuts it."""
    n = 8 * fid.shape[-1]
    padded = np.pad(fid, (0, n - fid.shape[-1]))
    ppm, spec = _cut(padded, axes, limits)
    real = spec.real
    top = int(np.argmax(real))
    half = real[top] / 2
    below = np.flatnonzero(real < half)
    if not (below < top).any() or not (below > top).any():
        return float("nan")
    left, right = below[below < top][-1], below[below > top][0]
    first = left + (half - real[left]) / (real[left + 1] - real[left])
    last = right - (half - real[right]) / (real[right - 1] - real[right])
    return float((last - first) * (ppm[1] - ppm[0]) * axes.spec_freq_mhz)


def _rows(before, after, one, axes, ppmlim, limits):
    """(label, before, after) for the table."""
    several = len(before) > 1
    correlation = [
        f"{float(mean_pairwise_correlation(x, axes, ppmlim=ppmlim)):.4f}" if several else "-" for x in (before, after)
    ]
    rows = [("Mean pairwise correlation", *correlation)]
    low, high = _full_range(axes)
    if several and axes.nucleus == "1H" and low < 2.5 and high > 3.5:
        index = [f"{float(similarity_index(x, axes)):.4f}" for x in (before, after)]
        rows.append(("Similarity index (2.5 to 3.5 ppm)", *index))
    means = [_mean(x, one["weight"]) for x in (before, after)]
    widths = [f"{_line_width(x, axes, limits):.2f}" for x in means]
    noise = [_noise_sd(x[None]) for x in means]
    heights = [_cut(x, axes, limits)[1].real.max() for x in means]
    return [
        *rows,
        ("Line width of the tallest peak of the mean (Hz)", *widths),
        (
            "SNR of the mean (tallest peak / noise SD)",
            *(f"{h / n:.1f}" if n > 0 else "-" for h, n in zip(heights, noise)),
        ),
    ]


# ------------------------------------------------------------------------------------------------------ figures


def _spectra(before, after, one, axes, limits):
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2,
        cols=2,
        specs=[[{}, {}], [{"colspan": 2}, None]],
        subplot_titles=("Transients before", "Transients after", "Weighted mean"),
        vertical_spacing=0.13,
        horizontal_spacing=0.07,
        row_heights=[0.5, 0.5],
    )
    shown = np.flatnonzero(one["flag"] != "failed")
    shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), _MAX_LINES)).astype(int)] if len(shown) else shown
    for column, fid in ((1, before), (2, after)):
        ppm, spec = _cut(fid, axes, limits)
        for index in shown:
            outlier = one["flag"][index] == "outlier"
            figure.add_scattergl(
                x=ppm.round(4),
                y=spec[index].real.astype(np.float32),
                mode="lines",
                row=1,
                col=column,
                showlegend=False,
                line=dict(width=1, color=_FLAG_COLOURS["outlier"] if outlier else _ramp(index, len(fid))),
                opacity=0.9 if outlier else 0.6,
                name=f"transient {index + 1}",
                hovertemplate="%{x:.2f} ppm",
            )
    for fid, colour, name in ((before, _BEFORE, "before"), (after, _AFTER, "after")):
        ppm, spec = _cut(_mean(fid, one["weight"]), axes, limits)
        figure.add_scatter(
            x=ppm.round(4), y=spec.real, mode="lines", row=2, col=1, line=dict(width=1.6, color=colour), name=name
        )
    figure.update_xaxes(range=[limits[1], limits[0]], title_text="Chemical shift (ppm)")
    figure.update_yaxes(showticklabels=False, ticks="")
    usual = shown[one["flag"][shown] != "outlier"]
    usual = usual if len(usual) else shown
    tops = [_cut(x, axes, limits)[1].real[usual] for x in (before, after)]
    if len(usual):
        low, high = min(np.quantile(x, 0.0005) for x in tops), max(np.quantile(x.max(-1), 0.98) for x in tops)
        figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.08 * (high - low)], row=1)
    figure.update_layout(legend=dict(orientation="h", x=1, xanchor="right", y=0.44, yanchor="bottom"))
    return _layout(figure, 820)


def _difference(fid, alignment, pair, axes, limits):
    import plotly.graph_objects as go

    sets = [_one_set(fid, alignment, index) for index in pair]
    reference = sets[0][1]["reference"]
    before = [_mean(_combine(x, reference), one["weight"])[None] for x, one in sets]
    after = [_mean(_combine(one["apply"](x), reference), one["weight"])[None] for x, one in sets]
    turned = _zero_order(np.concatenate(before), np.concatenate(after), np.array([0.0, 1.0]), axes, limits)
    figure = go.Figure()
    for (first, second), colour, name in zip(turned, (_BEFORE, _AFTER), ("before", "after")):
        ppm, spec = _cut(first - second, axes, limits)
        figure.add_scatter(x=ppm.round(4), y=spec.real, mode="lines", line=dict(width=1.6, color=colour), name=name)
    figure.update_xaxes(range=[limits[1], limits[0]], title_text="Chemical shift (ppm)")
    figure.update_yaxes(showticklabels=False, ticks="")
    figure.update_layout(legend=dict(orientation="h", x=1, xanchor="right", y=1.02, yanchor="bottom"))
    return _layout(figure, 420)


def _ramp(index, n):
    """Colour from first (light) to last (dark) transient, so that a drift shows as an order."""
    share = index / max(n - 1, 1)
    return f"rgb({int(150 - 130 * share)},{int(190 - 110 * share)},{int(215 - 75 * share)})"


def _course(one):
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("Shift (Hz, positive: higher ppm)", "Phase (degrees)"), horizontal_spacing=0.09
    )
    number = np.arange(len(one["flag"])) + 1
    quantities = ((1, "shift_hz", "shift_sd_hz"), (2, "phase_deg", "phase_sd_deg"))
    for column, value, sd in quantities:
        used = one["flag"] != "failed"
        figure.add_scatter(
            x=number[used],
            y=one[value][used],
            mode="lines",
            row=1,
            col=column,
            showlegend=False,
            hoverinfo="skip",
            line=dict(width=1, color="#bbbbbb"),
        )
        for flag, colour in _FLAG_COLOURS.items():
            chosen = one["flag"] == flag
            if not chosen.any() or flag == "failed":
                continue
            figure.add_scatter(
                x=number[chosen],
                y=one[value][chosen],
                error_y=dict(type="data", array=one[sd][chosen], thickness=1.2, width=2),
                mode="markers",
                marker=dict(size=6, color=colour),
                name=flag,
                legendgroup=flag,
                showlegend=column == 1,
                row=1,
                col=column,
            )
        for failed in number[~used]:
            figure.add_vline(
                x=int(failed), line=dict(color=_FLAG_COLOURS["failed"], dash="dot", width=1), row=1, col=column
            )
    figure.update_xaxes(title_text="Transient", rangemode="tozero")
    figure.update_layout(legend=dict(orientation="h", x=1, xanchor="right", y=1.12))
    return _layout(figure, 400)


def _matrices(before, after, axes, ppmlim):
    from plotly.subplots import make_subplots

    matrices = [similarity_matrix(x, axes, ppmlim=ppmlim) for x in (before, after)]
    off = np.concatenate([m[np.triu_indices(len(m), 1)] for m in matrices])
    off = off[np.isfinite(off)]
    low, high = (float(off.min()), float(off.max())) if len(off) else (0.0, 1.0)
    figure = make_subplots(rows=1, cols=2, subplot_titles=("Before", "After"), horizontal_spacing=0.09)
    for column, matrix in enumerate(matrices, start=1):
        shown = matrix.copy()
        np.fill_diagonal(shown, np.nan)  # always 1: it would take the colours from the rest
        number = np.arange(len(matrix)) + 1
        figure.add_heatmap(
            z=shown.round(4),
            x=number,
            y=number,
            coloraxis="coloraxis",
            row=1,
            col=column,
            hovertemplate="%{x}, %{y}: %{z:.3f}<extra></extra>",
        )
        figure.update_yaxes(
            autorange="reversed", scaleanchor="x" if column == 1 else "x2", constrain="domain", row=1, col=column
        )
        figure.update_xaxes(constrain="domain", title_text="Transient", row=1, col=column)
    figure.update_layout(
        coloraxis=dict(colorscale="Viridis", cmin=low, cmax=high, colorbar=dict(title="correlation", thickness=14))
    )
    figure = _layout(figure, 520)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return figure


# ------------------------------------------------------------------------------------------------------ page


def _page(title, one, rows, figures, alignment, set_index, limits, nucleus, note) -> str:
    import plotly.io

    flags = {flag: np.flatnonzero(one["flag"] == flag) + 1 for flag in ("weak", "outlier", "failed")}
    flagged = "; ".join(f"{name}: {_numbers(numbers)}" for name, numbers in flags.items() if len(numbers)) or "none"
    used = np.isin(one["flag"], ("ok", "weak"))
    spread = ""
    if used.any():
        errors = [np.median(one[name][used]) for name in ("shift_sd_hz", "phase_sd_deg")]
        known = np.isfinite(errors).all()
        spread = (
            f"Shifts span {np.ptp(one['shift_hz'][used]):.2f}"
            f" Hz{f' (typical error {errors[0]:.2f} Hz)' if known else ''}, phases {np.ptp(one['phase_deg'][used]):.1f}"
            f" degrees{f' (typical error {errors[1]:.1f})' if known else ''}."
        )
    which = (
        f", set {set_index + 1} of {alignment.shift_hz.shape[0]}"
        if alignment.shift_hz.ndim == 2 and len(alignment.shift_hz) > 1
        else ""
    )
    channels = f", {len(one['reference'])} channels aligned jointly" if len(one["reference"]) > 1 else ""
    # FSL-MRS's merge_mrs_reports takes the body's one element and empties the header in all reports but the first.
    header = f"<header><h1>{html.escape(title)}</h1><p class='note'>FSL-MRS-DL {__version__}</p></header>"
    body = [
        "<h2>Alignment</h2>",
        (
            f"<p class='note'>{len(one['flag'])} transients{channels}{which}; {html.escape(nucleus)}, window"
            f" {limits[0]:g} to {limits[1]:g} ppm; {alignment.n_iterations}"
            f" passes.{' ' + html.escape(note) if note else ''}</p>"
        ),
        "<table><thead><tr><th></th><th>before</th><th>after</th></tr></thead><tbody>",
        *(f"<tr><td>{html.escape(a)}</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows),
        "</tbody></table>",
        f"<p>Flagged transients: {flagged}. {spread}</p>",
    ]
    for number, (heading, note, figure) in enumerate(figures):
        code = plotly.io.to_html(
            figure, full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False, "responsive": True}
        )
        body.append(f"<h2>{html.escape(heading)}</h2><p class='note'>{html.escape(note)}</p>{code}")
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body>\n<div>{header}{''.join(body)}</div>\n</body></html>"
    )
