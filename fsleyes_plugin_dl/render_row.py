"""Plot of a map whose voxels lie in one row, as of many spectra in one file: planes of it are lines a pixel high."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import map_display
from .look import LIGHT_GREY, Look, black_figure, caption, caption_height, picture_of, write_caption
from .results_folder import Results

__all__ = ["draw_row", "is_row"]

_WIDTH, _HEIGHT = 1500, 580  # pixels, captions apart
_FAINTEST = 0.25  # opacity: in a plot the most uncertain voxels can be seen, too
_COLOUR = (0.35, 0.75, 1.0)
_UNDECIDED = 50.0  # percent of the value, above which an SD does not set the scale


def is_row(results: Results) -> bool:
    """Tell whether results are of several voxels that lie in one row of the grid."""
    return results.kind == "MRSI" and sum(size > 1 for size in results.shape) == 1


def draw_row(results: Results, look: Look, out: Path) -> None:
    """Draw the values of a map with their SDs against the number of the voxel, and its marks.

    Parameters
    ----------
    results : Results
        Those of which :func:`is_row` holds.
    look : Look
    out : path
        PNG file to write.
    """
    picture = picture_of(results, look)
    assert picture is not None and look.quantity is not None
    axis = int(np.argmax(results.shape))
    n = results.shape[axis]
    values, shown = (np.asarray(each).reshape(n) for each in (picture.values, picture.shown))
    sd = results.sd(look.quantity, look.metab) if picture.fades else None
    sd = np.zeros(n) if sd is None else np.nan_to_num(np.asarray(sd, float).reshape(n), posinf=0.0)
    fades = look.fade and picture.fades
    opacity = map_display.opacity(picture.percent.reshape(n), look.sure, look.unsure) if fades else np.ones(n)
    codes = map_display.marks(results)
    texts = [("bars: one SD", LIGHT_GREY)] * bool(sd.any())
    texts += [
        (text.replace("invisible from", "faint from").replace("outlined", "in a ring"), colour)
        for text, colour in caption(results, look, picture, codes)
    ]
    place = f"{results.folder.resolve().name}; a row of {n} voxels along {'xyz'[axis]}, which are counted from 0"
    below = 60 + caption_height(texts, place, _WIDTH)
    height = _HEIGHT + below
    figure = black_figure(_WIDTH, height)
    panel = figure.add_axes((0.07, below / height, 0.91, 1 - (below + 40) / height))
    panel.set_facecolor("black")
    for number in np.flatnonzero(shown):
        style: dict[str, Any] = {"alpha": max(float(opacity[number]), _FAINTEST), "color": _COLOUR}
        panel.errorbar(number, values[number], sd[number] or None, fmt="o", ms=5, capsize=2, lw=1, **style)
    for key, (_, colour) in map_display.MARKS.items():
        rows = np.flatnonzero((codes.reshape(n) == key) & np.isfinite(values))
        panel.plot(rows, values[rows], "o", ms=11, mfc="none", mec=colour, mew=1.5)
    _style(panel, picture, n, values, np.where(shown, sd, 0), shown)
    panel.set_xlabel(f"voxel along {'xyz'[axis]}", color="white")
    write_caption(figure, texts, place)
    figure.savefig(out, dpi=100, facecolor="black")


def _style(panel, picture: map_display.Picture, n: int, values: np.ndarray, sd: np.ndarray, shown: np.ndarray) -> None:
    """Set the limits of a plot by its well-determined values, and its colours."""
    sure = shown & np.isfinite(values) & (picture.percent.reshape(n) <= _UNDECIDED)
    some = sure if sure.any() else shown & np.isfinite(values)
    low, high = 0.0, 1.0
    if some.any():
        low = min(0.0, float((values - sd)[some].min()))
        high = max(0.0, float((values + sd)[some].max()))
    margin = 0.05 * ((high - low) or 1.0)
    panel.set_ylim(low - margin, high + margin)
    panel.set_xlim(-0.5 - 0.01 * n, n - 0.5 + 0.01 * n)
    panel.axhline(0, color="white", lw=0.5, alpha=0.5)
    panel.set_title(picture.title, color="white", fontsize=11)
    panel.tick_params(colors="white")
    for spine in panel.spines.values():
        spine.set_color("white")
    panel.spines[["top", "right"]].set_visible(False)
