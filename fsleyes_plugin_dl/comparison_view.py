"""A second ortho view with the map of other results, or the difference to them, beside that of a scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import wx
from fsleyes.views.orthopanel import OrthoPanel

from . import comparison, map_display, overlays, titles
from .canvas_layout import LargePlane
from .grids import DrawnGrid, Voxel
from .images import MemoryImage
from .results_folder import Results
from .voxel_table import with_sd

if TYPE_CHECKING:
    from .scene_tools import SceneTools

__all__ = ["Comparison"]

_NO_MAP = "no such map in both folders"


class Comparison:
    """The other results of a scene, in a view of their own whose cursor follows the first.

    Attributes
    ----------
    other : Results
    view : OrthoPanel
    image : Image or None
        Map in that view.
    shown : Picture or None
    """

    def __init__(self, scene: SceneTools, other: Results):
        self.scene, self.other = scene, other
        self.image: MemoryImage | None = None
        self.shown: map_display.Picture | None = None
        self._grid, self._other_grid = scene.grid, DrawnGrid(other.shape, other.affine)
        self.view: Any = scene.frame.addViewPanel(OrthoPanel, defaultLayout=False, location=wx.LEFT, size=0.22)
        context = self.view.displayCtx
        # The views show different overlays.
        context.syncOverlayDisplay = False
        context.autoDisplay = False
        overlays.set_up_scene(self.view, True)
        self._planes = LargePlane(self.view, "all")
        self._planes.arranged = self._show_title
        self.update()

    @property
    def alive(self) -> bool:
        """Whether its view is open, and its map in the list of overlays."""
        return not self.view.destroyed and (self.image is None or self.image in self.scene.frame.overlayList)

    def update(self) -> None:
        """Show the chosen map of the other results, or the difference."""
        if not self.alive:
            return
        settings, scene = self.scene.settings, self.scene
        key, name = settings.quantity, settings.name
        if settings.second == "difference":
            self._show(scene.grid, comparison.difference(scene.results, self.other, key, name))
        else:
            exists = self.other.map(key, name) is not None
            self._show(self._other_grid, map_display.picture(self.other, key, name) if exists else None)

    def _show(self, grid: DrawnGrid, picture: map_display.Picture | None) -> None:
        """Show a map; nothing where there is none."""
        frame, context = self.scene.frame, self.view.displayCtx
        is_empty = picture is None or not picture.shown.any()
        # FSLeyes fails at images that hold nothing but NaN.
        values = np.zeros(grid.shape, np.float32) if picture is None or is_empty else picture.drawn
        image = self._image_on(grid)
        image[:] = grid.drawn(values)
        for overlay in frame.overlayList:
            context.getDisplay(overlay).enabled = overlay in (None if is_empty else image, self.scene.t1)
        context.displaySpace = image
        context.selectOverlay(image)
        self.shown = picture
        opts, display = context.getOpts(image), context.getDisplay(image)
        opts.interpolation = "none"
        opts.linkLowRanges = False
        display.alpha = self.scene.settings.opacity
        self._planes.choose(self.scene.settings.planes)
        self._show_title()
        if picture is None:
            return
        opts.cmap = picture.cmap
        # The first view may be closed.
        same = self.scene.settings.second == "other" and not self.scene.ortho.destroyed
        opts.displayRange = list(self.scene.map_opts.displayRange if same else picture.range)
        opts.clippingRange = list(picture.whole_range)

    def _image_on(self, grid: DrawnGrid) -> MemoryImage:
        """Return the overlay of the view, a new one where the grid is another."""
        old = self.image
        if old is not None and self._grid is grid:
            return old
        frame = self.scene.frame
        self._grid = grid
        self.image = MemoryImage(np.zeros(grid.drawn_shape, np.float32), name="comparison", xform=grid.drawn_affine)
        frame.overlayList.append(self.image)
        if old is not None and old in frame.overlayList:
            frame.overlayList.remove(old)
        self.scene.hide(self.image)
        overlays.register_colours(frame, self.view.displayCtx)
        return self.image

    def _show_title(self) -> None:
        """Name the map on its colour bar, in a text and letters that fit the width of the view."""
        if not self.alive or self.image is None:
            return
        if self.shown is None:
            texts = [_NO_MAP, "no such map"]
        elif self.scene.settings.second == "difference":
            texts = [self.shown.title, self.shown.short_title]
        else:
            name = self.other.folder.name
            texts = [f"{name}: {self.shown.title}", f"{titles.shortened(name)}: {self.shown.short_title}"]
        overlays.show_title(self.view, self.image, texts)
        if not self.scene.ortho.destroyed:
            # The list of overlays is that of the first view.
            self.scene.ortho.displayCtx.getDisplay(self.image).name = texts[-1]

    @property
    def title(self) -> str:
        """What the view shows, for a place where it may be long."""
        here, there = self.scene.results.folder, self.other.folder
        if self.shown is None:
            return f"{there}: {_NO_MAP}"
        if self.scene.settings.second == "difference":
            return f"{here.name} minus {there.name} ({there})"
        return str(there)

    def text(self, voxel: Voxel | None) -> str:
        """Return the difference in a voxel of the scene with its SD; empty outside of both grids."""
        scene = self.scene
        if (
            voxel is None
            or self.scene.settings.second != "difference"
            or self.shown is None
            or not self.shown.shown[voxel]
        ):
            return ""
        sd = comparison.difference_sd(scene.results, self.other, scene.settings.quantity, scene.settings.name)
        value = float(self.shown.values[voxel])
        text = with_sd(value, np.nan if sd is None else float(sd[voxel]))
        return f"difference {text}" + (" (as if the fits were independent)" if "±" in text else "")

    def close(self) -> None:
        """Remove the view and its map."""
        overlays = self.scene.frame.overlayList
        if self.image is not None and self.image in overlays:
            overlays.remove(self.image)
        if not self.view.destroyed:
            self.scene.frame.removeViewPanel(self.view)
