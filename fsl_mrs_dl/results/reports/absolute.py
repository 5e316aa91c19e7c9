"""The section of a report on absolute concentrations and what their errors are made of."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from ...concentrations.scaling import SOURCES, AbsoluteConcentrations
from ...core.errors import spelled
from ...fitting.artefacts import option_spelling

__all__ = ["absolute_section"]


def absolute_section(absolute: AbsoluteConcentrations | None, row: int, weak: Sequence[str] = ()) -> str:
    """Return the section of one spectrum, HTML; empty where nothing was scaled by water.

    Parameters
    ----------
    absolute : AbsoluteConcentrations, optional
    row : int
        Of the spectrum.
    weak : sequence of str
        Metabolites and sums that the spectrum hardly determines.
    """
    if absolute is None:
        return ""
    heads = [
        "Metabolite",
        "mM, as in water alone" if absolute.as_water_alone else "mM",
        "SD",
        "95 % interval",
        "mmol/kg",
        "SD",
        *(f"{source} (%)" for source in SOURCES),
    ]
    lines = [_line(absolute, row, column, weak) for column in range(len(absolute.names))]
    notes = [
        *absolute.assumptions,
        "SD is one standard deviation with every source of error, 95 % its interval.",
        "The last columns are the shares of the sources in the variance of the molarity.",
    ]
    return (
        f'<h2>Absolute concentrations</h2><p class="note">{html.escape(spelled(" ".join(notes), option_spelling))}</p>'
        f"<table><tr>{''.join(f'<th>{html.escape(head)}</th>' for head in heads)}</tr>{''.join(lines)}</table>"
    )


def _line(absolute: AbsoluteConcentrations, row: int, column: int, weak: Sequence[str]) -> str:
    """Return the table's line of one metabolite or sum."""
    values: dict[str, Sequence[float]] = {
        unit: (absolute.values[unit][row, column], absolute.sd[unit][row, column]) for unit in absolute.values
    }
    value, sd = values["molarity"]
    if not np.isfinite(value):
        return ""
    low, high = absolute.low["molarity"][row, column], absolute.high["molarity"][row, column]
    cells = [
        html.escape(absolute.names[column]) + " *" * (absolute.names[column] in weak),
        f"{value:.3f}",
        f"{sd:.2g}",
        f'<span class="range">{low:.3g} to {high:.3g}</span>',
    ]
    cells += [f"{values['molality'][0]:.3f}", f"{values['molality'][1]:.2g}"]
    cells += [f"{100 * absolute.share('molarity', source)[row, column]:.0f}" for source in SOURCES]
    grey = ' class="weak"' if absolute.names[column] in weak else ""
    return f"<tr{grey}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
