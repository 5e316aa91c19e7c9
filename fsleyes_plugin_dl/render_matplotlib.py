"""Pictures drawn by matplotlib: three planes through a voxel, or a mosaic of slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import colours, map_display
from .grids import DrawnGrid, Voxel, sampled, to_mm
from .look import (
    SIZE,
    VOXEL_COLOUR,
    Colour,
    Look,
    Structural,
    black_figure,
    brightness,
    caption,
    caption_height,
    picture_of,
    place_text,
    write_caption,
)
from .results_folder import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "draw_mosaic"]


@dataclass(frozen=True)
class _Plane:
    """A plane of a picture.

    Attributes
    ----------
    mm : ndarray
        Positions of the pixels in mm, ``(rows, columns, 3)``.
    extent : (float, float, float, float)
        Left, right, lower and upper end in mm.
    letters : tuple of str
        Directions on the left, on the right, below and above.
    """

    mm: np.ndarray
    extent: tuple[float, float, float, float]
    letters: tuple[str, str, str, str]


class _Frame:
    """Positions along the axes that a picture is drawn in: those of the map's grid, or of the room for a single voxel.

    Attributes
    ----------
    axes : ndarray
        Unit vectors in mm, in columns ``(3, 3)``.
    low, high : ndarray
        Ends of the drawn box along these axes in mm.
    step : float
        Distance of two pixels in mm.
    """

    def __init__(self, results: Results, shape: Sequence[int], affine: np.ndarray):
        grid = DrawnGrid(results.shape, results.affine)
        self.axes = grid.axes if results.kind == "MRSI" else np.eye(3)
        corners = to_mm(affine, np.indices((2, 2, 2)).reshape(3, -1).T * np.asarray(shape) - 0.5)
        along = self.along(corners)
        self.low, self.high = along.min(0), along.max(0)
        self.step = max(float((self.high - self.low).max()) / 400, 0.2)

    def along(self, mm: np.ndarray) -> np.ndarray:
        """Return positions along the axes of positions in mm."""
        return np.asarray(mm) @ np.linalg.inv(self.axes).T

    def plane(self, fixed: int, centre: np.ndarray) -> _Plane:
        """Return the plane across an axis, through a point in mm."""
        low, high = self.low, self.high
        across, up = {0: (1, 2), 1: (0, 2), 2: (0, 1)}[fixed]
        a = np.arange(low[across] + self.step / 2, high[across], self.step)
        b = np.arange(low[up] + self.step / 2, high[up], self.step)
        place = np.empty((len(b), len(a), 3))
        place[..., fixed], place[..., across], place[..., up] = self.along(centre)[fixed], a[None], b[:, None]
        left, right = ("P", "A") if across == 1 else ("L", "R")
        bottom, top = ("P", "A") if up == 1 else ("I", "S")
        half = self.step / 2
        extent = (float(a[0] - half), float(a[-1] + half), float(b[0] - half), float(b[-1] + half))
        return _Plane(place @ self.axes.T, extent, (left, right, bottom, top))


class _Background:
    """The structural image beneath a map, or black."""

    def __init__(self, results: Results, t1: Structural | None):
        self.values = None if t1 is None else t1.values
        self.brightness = (0.0, 1.0) if t1 is None else brightness(t1.values)
        self.shape: Sequence[int] = results.shape if t1 is None else t1.values.shape
        self.affine = results.affine if t1 is None else t1.affine

    def draw(self, axes: Axes, mm: np.ndarray, style: dict[str, Any]) -> None:
        """Draw the plane of these positions."""
        grey = np.zeros(mm.shape[:2]) if self.values is None else sampled(self.values, self.affine, mm, 0.0)
        low, high = self.brightness
        axes.imshow(grey, cmap="gray", vmin=low, vmax=high, **style)


def draw(results: Results, look: Look, voxel: Voxel, t1: Structural | None, out: Path) -> None:
    """Draw sagittal, coronal and axial planes through a voxel."""
    picture, background = picture_of(results, look), _Background(results, t1)
    frame = _Frame(results, background.shape, background.affine)
    figure = black_figure(*SIZE)
    bottom = 0.25 if picture is not None else 0.12
    for fixed in (0, 1, 2):
        axes = figure.add_axes((0.01 + fixed * 0.33, bottom, 0.32, 0.98 - bottom))
        _draw_plane(axes, results, look, picture, background, frame.plane(fixed, to_mm(results.affine, voxel)))
    if picture is not None:
        _draw_colour_bar(figure, picture, 0.155)
    write_caption(figure, caption(results, look, picture), place_text(results, voxel))
    figure.savefig(out, dpi=100, facecolor="black")


def draw_mosaic(results: Results, look: Look, t1: Structural | None, out: Path) -> None:
    """Draw every axial slice of the grid that holds a fitted voxel, from below to above."""
    picture, background = picture_of(results, look), _Background(results, t1)
    grid = DrawnGrid(results.shape, results.affine)
    fitted = grid.drawn(results.fitted)
    slices = np.flatnonzero(fitted.any((0, 1))) if fitted.any() else np.arange(fitted.shape[2])
    frame = _Frame(results, background.shape, background.affine)
    n_columns = min(len(slices), max(1, math.ceil(math.sqrt(len(slices) * 1.6))))
    n_rows = math.ceil(len(slices) / n_columns)
    edge = min(420, 1500 // n_columns)
    width = max(n_columns * edge, 700)
    texts, place = caption(results, look, picture), place_text(results, None)
    lines = caption_height(texts, place, width)
    below = 70 + lines
    height = n_rows * edge + below
    figure = black_figure(width, height)
    middle = (np.array(grid.drawn_shape) - 1) / 2
    for number, slice_index in enumerate(slices):
        row, column = divmod(number, n_columns)
        left = (width - n_columns * edge) / 2 + column * edge
        axes = figure.add_axes(
            (left / width, (below + (n_rows - 1 - row) * edge) / height, 0.98 * edge / width, 0.98 * edge / height)
        )
        centre = to_mm(grid.drawn_affine, [middle[0], middle[1], slice_index])
        _draw_plane(axes, results, look, picture, background, frame.plane(2, centre))
        axes.text(0.03, 0.93, f"slice {slice_index}", transform=axes.transAxes, color="white", fontsize=9)
    if picture is not None:
        _draw_colour_bar(figure, picture, (15 + lines) / height)
    write_caption(figure, texts, place)
    figure.savefig(out, dpi=100, facecolor="black")


def _draw_plane(
    axes: Axes,
    results: Results,
    look: Look,
    picture: map_display.Picture | None,
    background: _Background,
    plane: _Plane,
) -> None:
    """Draw structural image, map and outlines of one plane."""
    axes.set_facecolor("black")
    style = {"origin": "lower", "extent": plane.extent, "interpolation": "none"}
    background.draw(axes, plane.mm, style)
    if picture is not None:
        _draw_map(axes, results, look, picture, plane, style)
    else:
        _outline(axes, sampled(np.ones(results.shape), results.affine, plane.mm, 0.0), plane, VOXEL_COLOUR, 2.0)
    _draw_letters(axes, plane)


def _draw_map(
    axes: Axes, results: Results, look: Look, picture: map_display.Picture, plane: _Plane, style: dict[str, Any]
) -> None:
    """Draw the map and its marks of one plane."""
    mm = plane.mm
    shown = sampled(picture.shown.astype(float), results.affine, mm, 0.0)
    percent = sampled(picture.percent, results.affine, mm, map_display.PERCENT_CAP)
    opacity = (
        look.opacity
        * shown
        * (map_display.opacity(percent, look.sure, look.unsure) if look.fade and picture.fades else 1.0)
    )
    values = np.nan_to_num(sampled(picture.values, results.affine, mm, 0.0))
    low, high = picture.range
    axes.imshow(values, cmap=colours.listed(picture.cmap), vmin=low, vmax=high, alpha=opacity, **style)
    if look.voxel_grid:
        _draw_edges(axes, results, plane)
    codes = map_display.marks(results)
    for key, (_, colour) in map_display.MARKS.items():
        mask = sampled((codes == key).astype(float), results.affine, mm, 0.0)
        _outline(axes, mask, plane, colour, 1.5)


def _draw_edges(axes: Axes, results: Results, plane: _Plane) -> None:
    """Draw the edges of all voxels of a plane."""
    numbers = np.arange(np.prod(results.shape), dtype=float).reshape(results.shape)
    which = sampled(numbers, results.affine, plane.mm, -1.0)
    edges = np.zeros(which.shape)
    edges[:, 1:] = which[:, 1:] != which[:, :-1]
    edges[1:] = np.maximum(edges[1:], which[1:] != which[:-1])
    pixels = np.zeros((*edges.shape, 4))
    pixels[..., :3], pixels[..., 3] = colours.EDGE_COLOUR, edges
    axes.imshow(pixels, origin="lower", extent=plane.extent, interpolation="none")


def _draw_letters(axes: Axes, plane: _Plane) -> None:
    """Write the directions at the edges of a plane, and hide its ticks."""
    left, right, bottom, top = plane.letters
    if plane.extent[0] < plane.extent[1] and left == "L":
        axes.invert_xaxis()  # radiological: the patient's right on the left
        left, right = right, left
    for x, y, letter in ((0.02, 0.5, left), (0.98, 0.5, right), (0.5, 0.97, top), (0.5, 0.03, bottom)):
        axes.text(x, y, letter, transform=axes.transAxes, color="white", ha="center", va="center", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_colour_bar(figure: Figure, picture: map_display.Picture, bottom: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_axes((0.05, bottom, 0.9, 0.02))
    mappable = ScalarMappable(Normalize(*picture.range), colours.listed(picture.cmap))
    extend = "max" if picture.cmap == "mrsdl_capped" else "neither"
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend=extend)
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.ax.set_title(picture.title, color="white", fontsize=10, pad=5)


def _outline(axes: Axes, mask: np.ndarray, plane: _Plane, colour: Colour, width: float) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width, origin="lower", extent=plane.extent)
