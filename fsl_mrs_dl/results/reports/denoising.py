"""HTML report of a denoising: raw and denoised spectrum, their difference, and the network's measured errors."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from ... import __version__
from ...io.output import write_text
from ...preproc.denoise import WARNING, DenoisedData
from .page import AFTER, BEFORE, GRID, STYLE, apply_layout, spectrum, zero_order

__all__ = ["REPORT", "write_denoise_report"]

REPORT = "report_dl_denoise.html"
"""Name of the report."""

_BOX = "p.warning { border-left: 6px solid #c1121f; background: #fdf0f0; padding: .7rem 1rem; margin: 1rem 0; }"


def write_denoise_report(folder: str | Path, denoised: DenoisedData, name: str = "") -> Path:
    """Write the report of a file's denoising into a folder; ``name`` is the file's, for the title.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path, row = Path(folder) / REPORT, denoised.shown
    title = f"Denoising: {name}" if name else "Denoising"
    good = denoised.usable
    place = denoised.place(row)
    rows = [
        ("Spectra denoised", f"{int(good.sum())} of {good.size}"),
        ("Zero or not finite, left as they were", str(int((~good).sum()))),
        ("More than noise taken out", str(int(denoised.removes_signal.sum()))),
        (
            "What was taken out, of the noise (median; shown)",
            f"{np.median(denoised.removed[good]):.2f}; {denoised.removed[row]:.2f}",
        ),
        ("SNR before (median; shown)", f"{np.median(denoised.snr[good]):.1f}; {denoised.snr[row]:.1f}"),
        ("Network", f"{denoised.card.name}, SHA-256 {denoised.card['sha256'][:16]}..."),
        *(
            (f"Measured {label}: {what}", f"{value:g}")
            for label, terms in denoised.card["accuracy"].items()
            for what, value in terms.items()
        ),
    ]
    low, high = denoised.ppmlim
    note = (
        f"Real part, one phase for all three lines, the same scale. The network changes {low:g} to {high:g} ppm only."
        " The difference should look like noise, two SDs of which are shaded; lines"
        " in it are signal that was lost, or made up."
    )
    if place:
        note += f" Shown: {place} (counted from 0), whose SNR is above three quarters of the others'."
    body = [
        f"<header><h1>{html.escape(title)}</h1><p class='note'>FSL-MRS-DL {__version__}</p></header>",
        (
            f"<p class='warning'><b>For display, not for quantification:</b> {html.escape(WARNING)} (Dziadosz et al.,"
            " Proc ISMRM 2022, 2541).</p>"
        ),
        "<table><tbody>",
        *(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows),
        "</tbody></table>",
        f"<h2>Spectrum</h2><p class='note'>{html.escape(note)}</p>{_figure(denoised, row)}",
    ]
    # FSL-MRS's merge_mrs_reports takes the body's one element.
    write_text(
        path,
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}{_BOX}</style></head><body>\n<div>{''.join(body)}</div>\n</body></html>",
    )
    return path


def _figure(denoised: DenoisedData, row: int) -> str:
    """Return the three spectra above each other, as HTML."""
    import plotly.io
    from plotly.subplots import make_subplots

    data, (low, high) = denoised.data, denoised.ppmlim
    raw, out = zero_order(denoised.raw[None, row], denoised.fids[None, row], np.ones(1), data.axes, denoised.ppmlim)
    # A little beyond the window, to show where it ends; not so far that water decides on the scale.
    (ppm, before), (_, after) = (spectrum(fid[0], data.axes, (low - 0.4, high)) for fid in (raw, out))
    lines = [before.real, after.real]
    lines.append(lines[0] - lines[1])
    top, bottom = max(line.max() for line in lines[:2]), min(line.min() for line in lines[:2])
    span, middle = 1.08 * (top - bottom), (top + bottom) / 2
    # As high as it needs to be, so that a point is as many units in all three and nothing of the difference is cut off.
    share = max(0.4, 2.1 * float(np.abs(lines[2]).max()) / span)
    figure = make_subplots(
        rows=3,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.06,
        row_heights=[1 / (2 + share), 1 / (2 + share), share / (2 + share)],
        subplot_titles=("Raw", "Denoised", "Difference: raw less denoised"),
    )
    for number, (line, colour) in enumerate(zip(lines, (BEFORE, AFTER, "#444444")), start=1):
        figure.add_scatter(
            x=ppm.round(4),
            y=line.astype(np.float32),
            mode="lines",
            row=number,
            col=1,
            showlegend=False,
            line=dict(width=1.3, color=colour),
            hovertemplate="%{x:.2f} ppm",
        )
        figure.add_vline(x=low, line=dict(color="#999999", dash="dot", width=1), row=number, col=1)
    sd = float(denoised.noise_sd[row])
    figure.add_hrect(y0=-2 * sd, y1=2 * sd, fillcolor=GRID, line_width=0, layer="below", row=3, col=1)
    for number in (1, 2):
        figure.update_yaxes(range=[middle - span / 2, middle + span / 2], row=number)
    figure.update_yaxes(range=[-share * span / 2, share * span / 2], row=3)
    figure.update_xaxes(range=[high, low - 0.4])
    figure.update_xaxes(title_text="Chemical shift (ppm)", row=3)
    figure.update_yaxes(showticklabels=False, ticks="")
    return plotly.io.to_html(
        apply_layout(figure, 900),
        full_html=False,
        include_plotlyjs=True,
        config={"displaylogo": False, "responsive": True},
    )
