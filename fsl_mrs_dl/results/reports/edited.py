"""Section of a report on the joint fit of edited data."""

from __future__ import annotations

import base64
import html
import io

import numpy as np

from ..edited import edited_summary, edited_table, edited_text, quality_table
from ..fit_results import FitResults

__all__ = ["edited_section"]


def edited_section(results: FitResults, row: int) -> str:
    """Return picture and tables of one set of sub-spectra, HTML; nothing for other data."""
    edited = results.edited
    if edited is None:
        return ""
    buffer = io.BytesIO()
    edited_summary(results, edited, row=row, title=False).savefig(buffer, format="png", dpi=110)
    picture = base64.b64encode(buffer.getvalue()).decode()
    table, quality = edited_table(results), quality_table(results, edited)
    if "set" in table:
        table, quality = (one[one["set"] == row].drop(columns="set") for one in (table, quality))
    lines = "<br>".join(html.escape(line) for line in edited_text(results, edited))
    columns = (table[column] for column in ("name", "quantity", "value", "sd", "unit"))
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(quantity)}</td><td>{value:.4g}</td><td>{sd:.2g}</td>"
        f"<td>{html.escape(unit)}</td></tr>"
        for name, quantity, value, sd, unit in zip(*columns)
    )
    entries = "".join(
        f"<tr><td>{html.escape(_label(name))}</td><td>{_text(value)}</td></tr>"
        for name, value in quality.iloc[0].items()
    )
    return (
        f'<h2>Edited spectra</h2><p class="note">{lines}</p>'
        f'<img alt="conditions and their combinations" src="data:image/png;base64,{picture}">'
        "<table><tr><th></th><th>quantity</th><th>value</th><th>SD</th><th>unit</th></tr>"
        f'{rows}</table><h2>Quality of editing</h2><table class="settings">{entries}</table>'
    )


def _label(name: str) -> str:
    """Return a column of edited_quality.csv in words."""
    kind, _, rest = name.partition("_")
    if kind == "efficiency":
        place = rest.removesuffix("_sd").removesuffix("ppm")
        return f"effect of the pulse at {place} ppm over the simulated one{', SD' if rest.endswith('_sd') else ''}"
    if kind in ("shift", "phase"):
        condition, unit = rest.rsplit("_", 1)
        return f"{kind} of {condition} about the mean of conditions, {'Hz' if unit == 'hz' else 'degrees'}"
    if name.startswith("subtraction_artefact_"):
        return f"choline left in {name[len('subtraction_artefact_') : -len('_pct')]}, % of that in the reference"
    return {"Cr_FWHM_hz": "width of creatine, Hz", "conditions": "conditions in the order of the data"}.get(name, name)


def _text(value) -> str:
    return html.escape(value) if isinstance(value, str) else f"{np.asarray(value).item():.3g}"
