"""Colours, style and layout that reports share."""

from __future__ import annotations

import numpy as np

from ...core.axes import Axes
from ...core.units import fid_to_spec

__all__ = [
    "AFTER",
    "BEFORE",
    "GRID",
    "INK",
    "STYLE",
    "apply_layout",
    "list_numbers",
    "mean_fid",
    "spectrum",
    "zero_order",
]

BEFORE, AFTER, INK, GRID = "#c2571a", "#1f5fa8", "#222222", "#e6e6e6"
"""Colours of spectra before and after a step, of text, and of grids."""

STYLE = """
body { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #222; margin: 0 auto; max-width: 1240px;
       padding: 1.2rem 1.6rem; line-height: 1.45; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
p.note { color: #555; margin: .2rem 0 .6rem; }
table { border-collapse: collapse; margin: .6rem 0; } th, td { padding: .28rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid #222; } tbody td { border-bottom: 1px solid #ddd; }
"""
"""Style sheet of a page."""


def spectrum(fid: np.ndarray, axes: Axes, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the chemical shifts (ppm) between two limits and the spectra of FIDs ``(..., n_points)`` there."""
    axes = axes.with_points(fid.shape[-1])
    first, last = axes.window(limits)
    return axes.ppm()[first:last], fid_to_spec(fid)[..., first:last]


def mean_fid(fid: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted mean of FIDs ``(n, n_points)``."""
    return (weight[:, None] * fid).sum(0) / max(weight.sum(), 1e-300)


def zero_order(
    before: np.ndarray, after: np.ndarray, weight: np.ndarray, axes: Axes, limits: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Turn FIDs by the one phase that makes the weighted mean of ``after`` most absorptive, so that real parts can be
    read."""
    _, spec = spectrum(mean_fid(after, weight), axes, limits)
    angles = np.deg2rad(np.arange(0, 360, 2))
    turned = (np.exp(1j * angles)[:, None] * spec).real
    # Absorption is narrow and positive: its highest point minus its lowest magnitude below zero is largest in phase.
    best = np.exp(1j * angles[np.argmax(turned.max(-1) + 2 * np.minimum(turned.min(-1), 0) + 1e-3 * turned.mean(-1))])
    return before * best, after * best


def apply_layout(figure, height: int):
    """Give a plotly figure the layout of reports; returns it."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin=dict(l=70, r=30, t=50, b=60),
        font=dict(size=13, color=INK),
        hovermode="closest",
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, ticks="outside")
    figure.update_yaxes(gridcolor=GRID, zeroline=False, ticks="outside")
    return figure


def list_numbers(numbers, most: int = 30) -> str:
    """Return numbers as text, and how many more there are after the first ``most``."""
    text = ", ".join(str(n) for n in numbers[:most])
    return text if len(numbers) <= most else f"{text} and {len(numbers) - most} more"
