"""Colour maps of the viewer: perceptually even, visible on black, apart from the colours of the outlines.

Quantities name the colour maps of FSLeyes that other viewers use; here each stands for a part of one of matplotlib's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = [
    "ABOVE",
    "COLOUR_MAPS",
    "EDGE_COLOUR",
    "LABELS",
    "REGION_LABELS",
    "colour_table",
    "key_of",
    "listed",
    "write_table",
]

# Name in the viewer: matplotlib's map, its part, and the number of colours.
COLOUR_MAPS = {
    "mrsdl_values": ("inferno", 0.25, 0.95, 256),
    "mrsdl_uncertainty": ("cividis", 0.18, 1.0, 256),
    "mrsdl_capped": ("cividis", 0.18, 1.0, 256),
    "mrsdl_signed": ("coolwarm", 0.0, 1.0, 256),
    "mrsdl_flags": (((0.32, 0.36, 0.42), (1.0, 0.62, 0.1)), 0.0, 1.0, 2),
    "mrsdl_codes": (((0.32, 0.36, 0.42), (0.95, 0.75, 0.2), (1.0, 0.45, 0.1), (0.55, 0.1, 0.1)), 0.0, 1.0, 4),
}
LABELS = {
    "mrsdl_values": "Values (inferno)",
    "mrsdl_uncertainty": "Uncertainty (cividis)",
    "mrsdl_capped": "Uncertainty, white above",
    "mrsdl_signed": "Below and above zero",
    "mrsdl_flags": "No and yes",
    "mrsdl_codes": "Codes 0 to 3",
}
"""Texts for people, by name."""

ABOVE = (1.0, 1.0, 1.0)
"""Colour of values above the range in the map ``mrsdl_capped``: its last one, since FSLeyes draws values above a range
in its last colour."""

EDGE_COLOUR = (0.75, 0.75, 0.75)
"""Colour of the edges of voxels."""

EDGE_LABELS = {value: ("edge", (0.69 + 0.012 * value,) * 3) for value in range(1, 9)}
"""Texts and colours of the labels of :func:`.grids.checkerboard`: FSLeyes outlines labels where their colours
differ."""

REGION_LABELS = {1: ("region", (1.0, 1.0, 1.0)), 2: ("other side", (0.45, 0.75, 1.0))}
"""Texts and colours of the labels of a region and its mirror image."""

_OF_QUANTITY = {
    "red-yellow": "mrsdl_values",
    "blue": "mrsdl_uncertainty",
    "hot": "mrsdl_uncertainty",
    "red": "mrsdl_flags",
    "greyscale": "mrsdl_flags",
    "viridis": "mrsdl_values",
}


def key_of(cmap: str) -> str:
    """Return the viewer's colour map for the name that a quantity has for other viewers."""
    return _OF_QUANTITY.get(cmap, cmap)


def colour_table(name: str) -> np.ndarray:
    """Return the colours of a map of the viewer, or of matplotlib, ``(n, 3)`` from 0 to 1."""
    from matplotlib import colormaps

    if name not in COLOUR_MAPS:
        return colormaps[name](np.linspace(0, 1, 256))[:, :3]
    source, low, high, n = COLOUR_MAPS[name]
    table = np.array(source) if not isinstance(source, str) else colormaps[source](np.linspace(low, high, n))[:, :3]
    if name == "mrsdl_capped":
        table[-1] = ABOVE
    return table


def listed(name: str) -> Colormap:
    """Return the map as one of matplotlib's."""
    from matplotlib.colors import ListedColormap

    found = ListedColormap(colour_table(name), name=name)
    return found.with_extremes(over=ABOVE) if name == "mrsdl_capped" else found


def write_table(name: str, folder: Path) -> Path:
    """Write a map as FSLeyes reads it, into ``NAME.cmap``, and return the file."""
    path = folder / f"{name}.cmap"
    np.savetxt(path, colour_table(name), fmt="%.5f")
    return path
