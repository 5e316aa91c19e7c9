"""How the overlays of a scene are displayed: colours and outlines."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsleyes.colourmaps as colourmaps
import wx
from fsl.data.image import Image

from . import colours, map_display, titles
from .colours import EDGE_LABELS, REGION_LABELS
from .images import first_volume

__all__ = [
    "all_drawn",
    "are_ready",
    "draw_colour_bar",
    "is_drawn",
    "register_colours",
    "set_up_labels",
    "set_up_map",
    "set_up_outline",
    "set_up_scene",
    "set_up_t1",
    "show_title",
]


def are_ready(ortho: Any, images: Sequence[Image]) -> bool:
    """Return whether FSLeyes has made what it draws of some images, on every canvas of a view."""
    if ortho.destroyed:
        return True
    drawn = [canvas.getGLObject(image) for canvas in ortho.getGLCanvases() for image in images]
    return all(one is not None and one.ready() for one in drawn)


def register_colours(frame: Any, context: Any) -> None:
    """Offer the viewer's colour maps in FSLeyes."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in colours.COLOUR_MAPS:
            if not colourmaps.isColourMapRegistered(name):
                file = colours.write_table(name, Path(scratch))
                colourmaps.registerColourMap(str(file), frame.overlayList, context, name, colours.LABELS[name])


def set_up_scene(ortho: Any, has_map: bool) -> None:
    """Set up colour bar and letters of an ortho view."""
    scene = ortho.sceneOpts
    scene.showColourBar = has_map
    scene.colourBarLocation = "bottom"
    scene.colourBarLabelSide = "top-left"
    scene.labelSize = 11


def draw_colour_bar(ortho: Any, n_tries: int = 60) -> None:
    """Have FSLeyes draw the colour bar, now or within ``n_tries`` half seconds.

    What FSLeyes draws first on a canvas is lost, and in a view that was opened by hand nothing is drawn after that.
    """
    bar = ortho.colourBarCanvas if ortho and not ortho.destroyed else None
    if bar is None or is_drawn(bar):
        return
    bar.Refresh()
    if n_tries > 0:
        wx.CallLater(500, draw_colour_bar, ortho, n_tries - 1)


def all_drawn(ortho: Any) -> bool:
    """Return whether FSLeyes has drawn every canvas of a view that is shown."""
    canvases = [*ortho.getGLCanvases(), ortho.colourBarCanvas]
    return all(is_drawn(canvas) for canvas in canvases if canvas is not None and canvas.IsShown())


def is_drawn(canvas: Any) -> bool:
    """Return whether FSLeyes has drawn anything on a canvas."""
    try:
        return canvas.getBitmap() is not None
    except TypeError:  # its buffer has no size yet
        return False


def show_title(ortho: Any, image: Image, texts: list[str]) -> None:
    """Name an image, and with it the colour bar, by the first of some texts that fits the width of the view."""
    pixels = ortho.contentPanel.GetClientSize()[0] - 12
    if pixels < 50:
        return  # the view has no size yet
    text, size = titles.fitting(texts, pixels)
    display = ortho.displayCtx.getDisplay(image)
    if display.name != text:
        display.name = text
    if ortho.sceneOpts.labelSize != size:
        ortho.sceneOpts.labelSize = size


def set_up_t1(context: Any, t1: Image) -> None:
    """Display the structural image in grey."""
    display, opts = context.getDisplay(t1), context.getOpts(t1)
    display.name = "T1"
    opts.cmap, opts.interpolation = "greyscale", "linear"
    low, high = map_display.robust_range(first_volume(t1).ravel()[::7], 0.0)
    opts.displayRange = [low, 1.1 * high]


def set_up_map(frame: Any, context: Any, image: Image, certainty: Image) -> None:
    """Display the map without interpolation, faded by ``certainty``."""
    register_colours(frame, context)
    context.getDisplay(certainty).enabled = False
    opts = context.getOpts(image)
    opts.interpolation = "none"
    opts.linkLowRanges = False
    opts.modulateImage = certainty


def set_up_labels(frame: Any, context: Any, image: Image, kind: str, width: int) -> None:
    """Display the outlines of labels: of "marks", of "voxels" or of "regions"."""
    key = f"mrs_dl_{kind}"
    if not colourmaps.isLookupTableRegistered(key):
        table = colourmaps.LookupTable(key, f"{kind} of FSL-MRS-DL")
        labels = {"marks": map_display.MARKS, "voxels": EDGE_LABELS, "regions": REGION_LABELS}[kind]
        for value, (text, colour) in labels.items():
            table.insert(value, name=text, colour=colour, enabled=True)
        colourmaps.registerLookupTable(table, frame.overlayList, context)
    context.getDisplay(image).overlayType = "label"
    opts = context.getOpts(image)
    opts.lut = key
    opts.outline, opts.outlineWidth = True, width


def set_up_outline(context: Any, image: Image) -> None:
    """Display the outline of a single voxel."""
    display = context.getDisplay(image)
    display.overlayType = "mask"
    display.name = "voxel"
    opts = context.getOpts(image)
    opts.colour = (1.0, 0.85, 0.0)
    opts.outline, opts.outlineWidth = True, 3
    opts.interpolation = "none"
