"""HTML report of a frequency and phase correction: one file that opens without a network."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import __version__
from ...core.axes import Axes
from ...core.errors import DataError
from ...core.transients import apply_shift_phase
from ...io.output import write_text
from ...preproc.align import AlignedData
from ...preproc.coherence import Coherence
from ...preproc.similarity import mean_pairwise_correlation, similarity_index, similarity_matrix
from ...registration.alignment import Alignment
from .alignment_table import edit_partner, notes
from .page import AFTER, BEFORE, STYLE, apply_layout, list_numbers, mean_fid, spectrum, zero_order

__all__ = ["report_paths", "table_path", "write_align_report", "write_reports"]

_MAX_LINES = 64  # more transients than this are thinned in the overlays, which stay readable and small
_FLAG_COLOURS = {"ok": AFTER, "weak": "#b8860b", "outlier": "#c1121f", "failed": "#777777"}
_COURSE_NOTE = (
    "Relative to the reference; bars are one standard deviation. Phases are those of the first point. Without an"
    " external reference, frequency referencing or matched sub-spectra, the mean of both over the transients flagged ok"
    " is zero."
)
_DIFFERENCE_NOTE = (
    "Real part of one weighted mean less the other's, before and after; lines that are not edited should cancel."
)

_COHERENCE_NOTE = " (share of the signal's energy that survives averaging)"


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
    coherence: Coherence | None = None,
) -> Path:
    """Write the report of one set of transients.

    The page shows the spectra before and after, their means, shift and phase of every transient with error bars, the
    similarity matrices, and a table: mean pairwise correlation, line width and SNR of the mean, flagged transients.
    Channels are combined for display, weighted with the reference (which carries their gain and phase) over their noise
    variance.  The function is long because it lists the parts of the page in their order.

    Parameters
    ----------
    path : path-like
        The HTML file; an existing one is replaced when the new one is complete.
    fid : complex ndarray, shape (n_transients, n_points), (n_channels, ...) or (n_sets, n_channels, ...)
        The FIDs that were aligned, uncorrected.
    alignment : Alignment
    axes : Axes
    ppmlim : (float, float), optional
        As given to :func:`fsl_mrs_dl.registration.alignment.align_transients`.
    set_index : int
        The set to show where there are several.
    title, note : str
        The note stands under the title.
    partner : int, optional
        Another set, the other condition of edited data, for the difference of the two.
    coherence : Coherence, optional
        Of the set, for the table.

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
    every_set = np.asarray(fid)
    one = _one_set(every_set, alignment, set_index)
    limits = ppmlim if ppmlim is not None else _full_range(axes)
    before, after = zero_order(
        _combine(one.fid, one.reference), _combine(one.corrected(), one.reference), one.weight, axes, limits
    )
    figures = [
        (
            "Spectra",
            "Real part; one phase for all, chosen for the mean after correction.",
            _spectra(before, after, one, axes, limits),
        ),
        (
            "Shift and phase",
            ("" if np.isfinite(one.shift_sd_hz).any() else "Errors are not known. ") + _COURSE_NOTE,
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
                _difference(every_set, alignment, (set_index, partner), axes, limits),
            ),
        )
    rows = [*_rows(before, after, one, axes, ppmlim, limits), *_coherence_rows(coherence)]
    text = _description(one, alignment, set_index, limits, axes.nucleus, note) + _table(one, rows) + _sections(figures)
    write_text(Path(path), _page(title, text))
    return Path(path)


def table_path(folder, name: str, *, written: bool) -> Path:
    """Return the file of the table of an alignment, in a folder that several files may be written to.

    The first file has ``dl_align.csv``, every other one the name of its own (``dl_align_NAME.csv``).

    Parameters
    ----------
    folder : path
    name : str
        Of the aligned file.
    written : bool
        Whether the aligned file is there already, so that its table may be replaced.
    """
    first, own = Path(folder) / "dl_align.csv", Path(folder) / f"dl_align_{_stem(name)}.csv"
    return own if own.exists() or (first.exists() and not written) else first


def report_paths(folder, aligned: AlignedData, every_set: bool, table: Path | None = None) -> list[Path]:
    """Return the files that :func:`write_reports` writes: one for one of the sets, or one for each, called as the
    ``table`` is."""
    n_sets = len(aligned.fids)
    name = "dl_align" if table is None else Path(table).stem
    if n_sets == 1 or not every_set:
        return [Path(folder) / f"report_{name}.html"]
    return [Path(folder) / f"report_{name}_{index}.html" for index in range(n_sets)]


def _stem(name: str) -> str:
    return re.sub(r"(\.nii)?(\.gz)?$", "", Path(name).name, flags=re.IGNORECASE)


def write_reports(
    folder, aligned: AlignedData, every_set: bool = False, name: str = "", table: Path | None = None
) -> list[Path]:
    """Write the report of an aligned file on the set ``aligned.shown``, or on every set; ``name`` is the file's."""
    paths = report_paths(folder, aligned, every_set, table)
    for index, path in enumerate(paths) if every_set else ((aligned.shown, paths[0]),):
        write_align_report(
            path,
            aligned.fids,
            aligned.alignment,
            aligned.data.axes,
            ppmlim=aligned.options.ppmlim,
            set_index=index,
            note=notes(aligned, index),
            partner=edit_partner(aligned, index),
            coherence=aligned.coherence[index] if aligned.coherence else None,
            title=f"Frequency and phase correction: {name}" if name else "Frequency and phase correction",
        )
    return paths


# ------------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class _AlignedSet:
    """One set of transients, ``fid (n_channels, n_transients, n_points)``, with the estimates of its alignment."""

    fid: np.ndarray
    dwelltime: float
    shift_hz: np.ndarray
    phase_deg: np.ndarray
    shift_sd_hz: np.ndarray
    phase_sd_deg: np.ndarray
    weight: np.ndarray
    flag: np.ndarray
    reference: np.ndarray

    def corrected(self) -> np.ndarray:
        """Return the FIDs with their shifts and phases corrected."""
        return apply_shift_phase(self.fid, self.shift_hz, self.phase_deg, self.dwelltime)


def _one_set(fid: np.ndarray, alignment: Alignment, index: int) -> _AlignedSet:
    """Return one set of FIDs of any of the shapes that are aligned.

    Raises
    ------
    DataError
        If their shape is not that of the alignment.
    """
    shape = alignment.shift_hz.shape
    if fid.ndim not in (2, 3, 4) or (fid.ndim == 4) != (len(shape) == 2) or fid.shape[-2] != shape[-1]:
        raise DataError(
            f"The FIDs have shape {fid.shape}, which does not fit {shape} aligned transients",
            remedy="give the aligned FIDs",
        )
    if fid.ndim == 4 and not 0 <= index < shape[0]:
        raise DataError(f"There is no set {index} among {shape[0]}", remedy="count from 0")
    fid = fid[index] if fid.ndim == 4 else fid.reshape((1,) * (3 - fid.ndim) + fid.shape)
    names = ("shift_hz", "phase_deg", "shift_sd_hz", "phase_sd_deg", "weight", "flag", "reference")
    estimates = {name: getattr(alignment, name) for name in names}
    if len(shape) == 2:
        estimates = {name: values[index] for name, values in estimates.items()}
    return _AlignedSet(np.where(np.isfinite(fid), fid, 0), alignment.dwelltime, **estimates)


def _combine(fid: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Sum channels with the gain of their reference over their noise variance, ``(n_transients, n_points)``."""
    if len(fid) == 1:
        return fid[0].astype(np.complex128)
    strongest = reference[np.argmax(np.linalg.norm(reference, axis=-1))]
    gain = reference @ strongest.conj() / np.linalg.norm(strongest) ** 2
    noise = np.array([_noise_sd(channel) for channel in fid])
    weight = gain.conj() / np.maximum(noise, 1e-12 * noise.max() + 1e-300) ** 2
    return np.einsum("c,ckn->kn", weight, fid) / np.sum((weight * gain).real)


def _noise_sd(fid: np.ndarray) -> float:
    """Return the noise SD per real and imaginary part of transients, from second differences of their spectra."""
    second = np.abs(np.diff(np.fft.fft(fid, axis=-1, norm="ortho"), n=2, axis=-1))
    level = np.median(second, axis=-1)
    return float(np.median(level[level > 0]) / np.sqrt(12 * np.log(2))) if (level > 0).any() else 0.0


def _full_range(axes: Axes) -> tuple[float, float]:
    ppm = axes.ppm()
    return float(ppm[0]), float(ppm[-1])


def _line_width(fid, axes, limits) -> float:
    """Return the full width at half maximum (Hz) of the real spectrum's tallest peak; NaN if the window cuts it."""
    n = 8 * fid.shape[-1]
    padded = np.pad(fid, (0, n - fid.shape[-1]))
    ppm, spec = spectrum(padded, axes, limits)
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


def _rows(before, after, one: _AlignedSet, axes: Axes, ppmlim, limits) -> list[tuple[str, ...]]:
    """Return (label, before, after) for the table."""
    several = len(before) > 1
    correlation = [
        f"{float(mean_pairwise_correlation(x, axes, ppmlim=ppmlim)):.4f}" if several else "-" for x in (before, after)
    ]
    rows: list[tuple[str, ...]] = [("Mean pairwise correlation", *correlation)]
    low, high = _full_range(axes)
    if several and axes.nucleus == "1H" and low < 2.5 and high > 3.5:
        index = [f"{float(similarity_index(x, axes)):.4f}" for x in (before, after)]
        rows.append(("Similarity index (2.5 to 3.5 ppm)", *index))
    means = [mean_fid(x, one.weight) for x in (before, after)]
    widths = [f"{_line_width(x, axes, limits):.2f}" for x in means]
    noise = [_noise_sd(x[None]) for x in means]
    heights = [spectrum(x, axes, limits)[1].real.max() for x in means]
    return [
        *rows,
        ("Line width of the tallest peak of the mean (Hz)", *widths),
        (
            "SNR of the mean (tallest peak / noise SD)",
            *(f"{h / n:.1f}" if n > 0 else "-" for h, n in zip(heights, noise)),
        ),
    ]


def _coherence_rows(coherence: Coherence | None) -> list[tuple[str, ...]]:
    """Return (label, before, after) of the window and of regions, those with a known coherence."""
    if coherence is None:
        return []
    pairs = {"window": (coherence.before, coherence.after)} | coherence.by_region
    known = {name: pair for name, pair in pairs.items() if np.isfinite(pair).all()}
    return [
        (
            f"Coherence{_COHERENCE_NOTE if name == 'window' else ''}, {name}",
            f"{old:.3f}",
            f"{new:.3f}",
        )
        for name, (old, new) in known.items()
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
    shown = np.flatnonzero(one.flag != "failed")
    shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), _MAX_LINES)).astype(int)] if len(shown) else shown
    for column, fid in ((1, before), (2, after)):
        ppm, spec = spectrum(fid, axes, limits)
        for index in shown:
            outlier = one.flag[index] == "outlier"
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
    for fid, colour, name in ((before, BEFORE, "before"), (after, AFTER, "after")):
        ppm, spec = spectrum(mean_fid(fid, one.weight), axes, limits)
        figure.add_scatter(
            x=ppm.round(4), y=spec.real, mode="lines", row=2, col=1, line=dict(width=1.6, color=colour), name=name
        )
    figure.update_xaxes(range=[limits[1], limits[0]], title_text="Chemical shift (ppm)")
    figure.update_yaxes(showticklabels=False, ticks="")
    usual = shown[one.flag[shown] != "outlier"]
    usual = usual if len(usual) else shown
    tops = [spectrum(x, axes, limits)[1].real[usual] for x in (before, after)]
    if len(usual):
        low, high = min(np.quantile(x, 0.0005) for x in tops), max(np.quantile(x.max(-1), 0.98) for x in tops)
        figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.08 * (high - low)], row=1)
    figure.update_layout(legend=dict(orientation="h", x=1, xanchor="right", y=0.44, yanchor="bottom"))
    return apply_layout(figure, 820)


def _difference(fid, alignment, pair, axes, limits):
    import plotly.graph_objects as go

    sets = [_one_set(fid, alignment, index) for index in pair]
    reference = sets[0].reference
    before = [mean_fid(_combine(one.fid, reference), one.weight)[None] for one in sets]
    after = [mean_fid(_combine(one.corrected(), reference), one.weight)[None] for one in sets]
    turned = zero_order(np.concatenate(before), np.concatenate(after), np.array([0.0, 1.0]), axes, limits)
    figure = go.Figure()
    for (first, second), colour, name in zip(turned, (BEFORE, AFTER), ("before", "after")):
        ppm, spec = spectrum(first - second, axes, limits)
        figure.add_scatter(x=ppm.round(4), y=spec.real, mode="lines", line=dict(width=1.6, color=colour), name=name)
    figure.update_xaxes(range=[limits[1], limits[0]], title_text="Chemical shift (ppm)")
    figure.update_yaxes(showticklabels=False, ticks="")
    figure.update_layout(legend=dict(orientation="h", x=1, xanchor="right", y=1.02, yanchor="bottom"))
    return apply_layout(figure, 420)


def _ramp(index, n):
    """Return a colour from first (light) to last (dark) transient, so that a drift shows as an order."""
    share = index / max(n - 1, 1)
    return f"rgb({int(150 - 130 * share)},{int(190 - 110 * share)},{int(215 - 75 * share)})"


def _course(one):
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("Shift (Hz, positive: higher ppm)", "Phase (degrees)"), horizontal_spacing=0.09
    )
    number = np.arange(len(one.flag)) + 1
    quantities = ((1, "shift_hz", "shift_sd_hz"), (2, "phase_deg", "phase_sd_deg"))
    for column, value, sd in quantities:
        used = one.flag != "failed"
        figure.add_scatter(
            x=number[used],
            y=getattr(one, value)[used],
            mode="lines",
            row=1,
            col=column,
            showlegend=False,
            hoverinfo="skip",
            line=dict(width=1, color="#bbbbbb"),
        )
        for flag, colour in _FLAG_COLOURS.items():
            chosen = one.flag == flag
            if not chosen.any() or flag == "failed":
                continue
            figure.add_scatter(
                x=number[chosen],
                y=getattr(one, value)[chosen],
                error_y=dict(type="data", array=getattr(one, sd)[chosen], thickness=1.2, width=2),
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
    return apply_layout(figure, 400)


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
    figure = apply_layout(figure, 520)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return figure


# ------------------------------------------------------------------------------------------------------ page


def _description(
    one: _AlignedSet, alignment: Alignment, set_index: int, limits: tuple[float, float], nucleus: str, note: str
) -> str:
    """Return the paragraph on the data and how they were aligned."""
    several = alignment.shift_hz.ndim == 2 and len(alignment.shift_hz) > 1
    which = f", set {set_index + 1} of {alignment.shift_hz.shape[0]}" if several else ""
    channels = f", {len(one.reference)} channels aligned jointly" if len(one.reference) > 1 else ""
    return (
        "<h2>Alignment</h2>"
        f"<p class='note'>{len(one.flag)} transients{channels}{which}; {html.escape(nucleus)}, window"
        f" {limits[0]:g} to {limits[1]:g} ppm; {alignment.n_iterations}"
        f" passes.{' ' + html.escape(note) if note else ''}</p>"
    )


def _table(one: _AlignedSet, rows: list[tuple[str, ...]]) -> str:
    """Return the table, with the flagged transients and the range of shifts and phases below it."""
    flags = {flag: np.flatnonzero(one.flag == flag) + 1 for flag in ("weak", "outlier", "failed")}
    flagged = "; ".join(f"{name}: {list_numbers(numbers)}" for name, numbers in flags.items() if len(numbers)) or "none"
    used = np.isin(one.flag, ("ok", "weak"))
    spread = ""
    if used.any():
        errors = [np.median(sd[used]) for sd in (one.shift_sd_hz, one.phase_sd_deg)]
        has_errors = np.isfinite(errors).all()
        spread = (
            f"Shifts span {np.ptp(one.shift_hz[used]):.2f} Hz"
            f"{f' (typical error {errors[0]:.2f} Hz)' if has_errors else ''}, phases {np.ptp(one.phase_deg[used]):.1f}"
            f" degrees{f' (typical error {errors[1]:.1f})' if has_errors else ''}."
        )
    lines = "".join(f"<tr><td>{html.escape(a)}</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows)
    return (
        f"<table><thead><tr><th></th><th>before</th><th>after</th></tr></thead><tbody>{lines}</tbody></table>"
        f"<p>Flagged transients: {flagged}. {spread}</p>"
    )


def _sections(figures: list[tuple]) -> str:
    """Return figures with their headings and notes; the first brings the plotting library."""
    import plotly.io

    parts = []
    for number, (heading, note, figure) in enumerate(figures):
        code = plotly.io.to_html(
            figure, full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False, "responsive": True}
        )
        parts.append(f"<h2>{html.escape(heading)}</h2><p class='note'>{html.escape(note)}</p>{code}")
    return "".join(parts)


def _page(title: str, body: str) -> str:
    # FSL-MRS's merge_mrs_reports takes the body's one element and empties the header in all reports but the first.
    header = f"<header><h1>{html.escape(title)}</h1><p class='note'>FSL-MRS-DL {__version__}</p></header>"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style></head><body>\n<div>{header}{body}</div>\n</body></html>"
    )
