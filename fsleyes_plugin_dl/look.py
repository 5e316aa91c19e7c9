"""Contents and style of a rendered picture, and the texts below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.io.images import image_errors, open_any_image

from . import map_display, titles
from .grids import DrawnGrid, Voxel
from .results_folder import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "CAPTION_HEIGHT",
    "LIGHT_GREY",
    "SIZE",
    "VOXEL_COLOUR",
    "Colour",
    "Look",
    "Structural",
    "black_figure",
    "brightness",
    "caption",
    "caption_height",
    "place_text",
    "picture_of",
    "read_structural",
    "write_caption",
    "write_with_caption",
]

Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""

VOXEL_COLOUR = (1.0, 0.85, 0.0)
SIZE = (1500, 580)
"""Width and height of a picture in pixels."""
CAPTION_HEIGHT = 60
"""Pixels below a picture for two lines of text; see :func:`caption_height`."""
LIGHT_GREY = (0.85, 0.85, 0.85)
"""Colour of texts below a picture."""
_LETTERS, _LINE, _MARGIN, _GAP = 9.5, 22, 14, 24  # size in points; pixels


@dataclass(frozen=True)
class Look:
    """Contents and style of a picture.

    Attributes
    ----------
    metab : str
    quantity : str or None
        Key of the quantity; None for a single voxel.
    max_crlb : float or None
        CRLB in percent above which voxels are hidden; None hides none.
    fade : bool
        Whether uncertain voxels fade.
    sure, unsure : float
        Relative SDs in percent up to which voxels are opaque, and from which on they are invisible.
    opacity : float
        Opacity of the whole map, 0 to 1.
    voxel_grid : bool
        Whether the edges of all voxels are drawn.
    """

    metab: str
    quantity: str | None
    max_crlb: float | None = None
    fade: bool = True
    sure: float = 10.0
    unsure: float = 50.0
    opacity: float = 1.0
    voxel_grid: bool = False


@dataclass(frozen=True)
class Structural:
    """A structural image.

    Attributes
    ----------
    path : Path
    values : ndarray
        ``(x, y, z)``.
    affine : ndarray
        From indices of voxels to mm, ``(4, 4)``.
    """

    path: Path
    values: np.ndarray
    affine: np.ndarray


def picture_of(results: Results, look: Look) -> map_display.Picture | None:
    """Return the map of a look; None for a single voxel."""
    if results.kind == "SVS" or look.quantity is None:
        return None
    threshold = ("off", 0.0) if look.max_crlb is None else ("percent", look.max_crlb)
    return map_display.picture(results, look.quantity, look.metab, *threshold)


def place_text(results: Results, voxel: Voxel | None) -> str:
    """Return the folder, the voxel of the slices, and which side is which, as a text."""
    words = [str(results.folder.resolve().name)]
    if voxel is not None and results.kind == "MRSI":
        words.append(f"slices through voxel {voxel[0]} {voxel[1]} {voxel[2]}")
    words.append("patient's right on the left")
    if results.kind == "MRSI" and DrawnGrid(results.shape, results.affine).is_oblique:
        words.append("planes of the spectra's grid, which is oblique")
    return "; ".join(words)


def caption(
    results: Results, look: Look, picture: map_display.Picture | None, codes: np.ndarray | None = None
) -> list[tuple[str, Colour]]:
    """Return the texts below a picture with their colours.  ``codes`` are the outlined voxels, those of
    :func:`.map_display.marks` where all are."""
    if picture is None:
        return [("the voxel of the spectrum", VOXEL_COLOUR)]
    texts: list[tuple[str, Colour]] = []
    if look.fade and picture.fades:
        texts.append((f"opaque up to {look.sure:g} % relative SD, invisible from {look.unsure:g} %", LIGHT_GREY))
    if look.max_crlb is not None:
        texts.append((f"hidden above {look.max_crlb:g} % {'SD' if results.in_vivo else 'CRLB'}", LIGHT_GREY))
    codes = map_display.marks(results) if codes is None else codes
    for key, (meaning, colour) in map_display.MARKS.items():
        if (codes == key).any():
            texts.append((f"outlined: {meaning}", colour))
    return texts


def write_with_caption(picture: Path, out: Path, texts: Sequence[tuple[str, Colour]], place: str) -> None:
    """Write a picture with lines of text below it: ``texts`` with their colours, and ``place``."""
    from matplotlib.image import imread

    pixels = imread(picture)
    height, width = pixels.shape[:2]
    below = caption_height(texts, place, width)
    figure = black_figure(width, height + below)
    share = below / (height + below)
    axes = figure.add_axes((0, share, 1, 1 - share))
    axes.imshow(pixels, interpolation="none", aspect="auto")
    axes.axis("off")
    write_caption(figure, texts, place)
    figure.savefig(out, dpi=100, facecolor="black")


def black_figure(width: int, height: int) -> Figure:
    """Return a black figure of matplotlib of that size in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    return figure


def caption_height(texts: Sequence[tuple[str, Colour]], place: str, width: float) -> int:
    """Return the pixels that the lines of :func:`write_caption` need."""
    return CAPTION_HEIGHT + _LINE * max(len(_lines(texts, place, width)) - 2, 0)


def write_caption(figure: Figure, texts: Sequence[tuple[str, Colour]], place: str) -> None:
    """Write texts with their colours, and the place below them, at the lower edge of a figure, in lines that fit its
    width."""
    width, height = (100 * size for size in figure.get_size_inches())
    for number, line in enumerate(reversed(_lines(texts, place, width))):
        for x, text, colour in line:
            figure.text(x / width, (14 + _LINE * number) / height, text, color=colour, fontsize=_LETTERS)


def _lines(texts: Sequence[tuple[str, Colour]], place: str, width: float) -> list[list[tuple[float, str, Colour]]]:
    """Return left end, text and colour of every piece of a caption by lines, from above to below."""
    pixels = width - 2 * _MARGIN
    lines: list[list[tuple[float, str, Colour]]] = []
    for part, words in enumerate((list(texts), [(place, LIGHT_GREY)])):
        x = float("inf")
        for text, colour in words:
            for number, piece in enumerate(titles.wrapped(text, pixels, _width).split("\n")):
                if number or x + _width(piece) > width - _MARGIN:
                    lines.append([])
                    x = _MARGIN
                lines[-1].append((x, piece, colour))
                x += _width(piece) + _GAP
        if part == 0 and not words:
            lines.append([])
    return lines


def _width(text: str) -> float:
    return titles.width(text, _LETTERS, 100)


def read_structural(path: Path) -> Structural:
    """Return the values of a structural file with their place.

    Raises
    ------
    DataError
        If it cannot be read, or is no single volume of numbers with a place.
    """
    remedy = "give one structural volume, in three dimensions"
    try:
        image = open_any_image(path)
        if image.get_data_dtype().kind in "cV":
            raise DataError("holds colours or spectra", option="t1", value=path, remedy=remedy)
        shape = [*image.shape[:3], *(size for size in image.shape[3:] if size > 1)]
        if len(shape) != 3:
            raise DataError(f"has {' x '.join(map(str, shape))} voxels", option="t1", value=path, remedy=remedy)
        values = np.asarray(image.dataobj, np.float32).reshape(shape)
    except image_errors() as exc:
        raise DataError(f"cannot be read ({' '.join(str(exc).split())})", option="t1", value=path) from exc
    affine = np.asarray(image.affine, float)
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine)) > 0):
        raise DataError("has no position (its affine is singular)", option="t1", value=path)
    return Structural(path, values, affine)


def brightness(values: np.ndarray) -> tuple[float, float]:
    """Return the values of a structural image that are drawn black and white, from a part of its voxels."""
    low, high = map_display.robust_range(values.ravel()[:: max(values.size // 200_000, 1)], 0.0)
    return low, 1.1 * high
