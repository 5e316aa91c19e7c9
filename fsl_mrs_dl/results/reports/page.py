"""Frame, colours and layout that reports share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from ...core.errors import OutputError
from ...core.units import fid_to_spec
from ...io.files import put_in_place

_BEFORE, _AFTER, _INK, _GRID = "#c2571a", "#1f5fa8", "#222222", "#e6e6e6"


_STYLE = """
body { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #222; margin: 0 auto; max-width: 1240px;
       padding: 1.2rem 1.6rem; line-height: 1.45; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
p.note { color: #555; margin: .2rem 0 .6rem; }
table { border-collapse: collapse; margin: .6rem 0; } th, td { padding: .28rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid #222; } tbody td { border-bottom: 1px solid #ddd; }
"""


def _cut(fid, axes, limits):
    """ppm axis and spectrum inside the limits."""
    axes = axes.with_points(fid.shape[-1])
    first, last = axes.window(limits)
    return axes.ppm()[first:last], fid_to_spec(fid)[..., first:last]


def _mean(fid, weight):
    return (weight[:, None] * fid).sum(0) / max(weight.sum(), 1e-300)


def _zero_order(before, after, weight, axes, limits):
    """Turn everything by the phase that makes the mean after correction most absorptive, so that real parts can be
    read."""
    _, spec = _cut(_mean(after, weight), axes, limits)
    angles = np.deg2rad(np.arange(0, 360, 2))
    turned = (np.exp(1j * angles)[:, None] * spec).real
    # Absorption is narrow and positive: its highest point minus its lowest magnitude below zero is largest in phase.
    best = np.exp(1j * angles[np.argmax(turned.max(-1) + 2 * np.minimum(turned.min(-1), 0) + 1e-3 * turned.mean(-1))])
    return before * best, after * best


def _layout(figure, height):
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin=dict(l=70, r=30, t=50, b=60),
        font=dict(size=13, color=_INK),
        hovermode="closest",
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, ticks="outside")
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, ticks="outside")
    return figure


def _numbers(numbers, most: int = 30) -> str:
    text = ", ".join(str(n) for n in numbers[:most])
    return text if len(numbers) <= most else f"{text} and {len(numbers) - most} more"


def _write(path: Path, text: str) -> None:
    """The whole file or none of it."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): give a file in an existing, writable folder."
        ) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        put_in_place(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): check space and permissions.") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
