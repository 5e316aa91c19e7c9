"""What can be done with a scene besides looking at it: means over regions, comparison with other results, a picture."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import wx
from fsl.data.image import Image
from fsleyes.actions.screenshot import screenshot

from fsl_mrs_dl.core.errors import DataError, OutputError
from fsl_mrs_dl.io.images import image_errors, open_any_image

from . import map_display, overlays, regions
from .colours import REGION_LABELS
from .comparison_view import Comparison
from .grids import DrawnGrid, Voxel, as_voxel, to_mm
from .images import MemoryImage, first_volume
from .look import LIGHT_GREY, Colour, Look, caption, place_text, write_with_caption
from .regions import Region
from .results_folder import Results
from .settings import Settings
from .subscribers import notify

__all__ = ["SceneTools"]

_LONGEST_WAIT = 10.0  # seconds for the first drawing; planes that are hidden are never drawn
_LOOK_AGAIN = 100  # ms


class SceneTools(ABC):
    """Mixin of :class:`.scene.Scene`, which describes the attributes that are not named here.

    Attributes
    ----------
    region : callable or None
        The chosen region, see :mod:`.regions`.
    region_name : str
        What the region is: the name of a file, or the place of a ball.
    comparison : Comparison or None
    """

    frame: Any
    ortho: Any
    mrs: Any
    results: Results
    settings: Settings
    grid: DrawnGrid
    alive: bool
    t1: Image | None
    voxel: Voxel | None
    shown: map_display.Picture | None
    map: MemoryImage | None
    certainty: MemoryImage | None
    marks: MemoryImage | None
    voxels: MemoryImage | None
    regions: MemoryImage | None

    region: Region | None = None
    region_name = ""
    comparison: Comparison | None = None
    _weights: dict[bool, np.ndarray]
    _drawn_by = 0.0  # time from which on changes do not wait for the first drawing any more
    _waits = False

    @abstractmethod
    def update_map(self) -> None:
        """Show the chosen map with the current settings."""

    @abstractmethod
    def go_to(self, voxel: Voxel) -> None:
        """Move the cursor to a voxel."""

    @property
    def map_opts(self) -> Any:
        """FSLeyes's display options of the map: colour map, ranges, fading."""
        return self.ortho.displayCtx.getOpts(self.map)

    # -- first drawing -------------------------------------------------------------------------------------------------

    def wait_until_drawn(self) -> None:
        """Let the changes of :meth:`update_when_drawn` wait until FSLeyes has drawn the map, for a few seconds at
        most."""
        self._drawn_by = time.monotonic() + _LONGEST_WAIT

    def update_when_drawn(self) -> None:
        """Show the map with new settings, once FSLeyes has made the textures of its images.

        A change meanwhile may end in an error of OpenGL, or in a map that is never drawn.
        """
        if not self.alive or self._waits:
            return
        images = [image for image in (self.map, self.certainty, self.marks) if image is not None]
        if time.monotonic() < self._drawn_by and not overlays.are_ready(self.ortho, images):
            self._waits = True
            wx.CallLater(_LOOK_AGAIN, self._look_again)
        else:
            self._drawn_by = 0.0
            self.update_map()

    def _look_again(self) -> None:
        self._waits = False
        if self.frame:
            self.update_when_drawn()

    # -- regions -------------------------------------------------------------------------------------------------------

    def set_ball(self) -> None:
        """Choose the ball around the cursor's voxel as the region.

        Raises
        ------
        DataError
            If the cursor is in no voxel.
        """
        if self.voxel is None:
            raise DataError("The cursor is outside of the spectra's voxels; place it in one of them.")
        radius, voxel = self.settings.radius, " ".join(map(str, self.voxel))
        region = regions.ball(to_mm(self.results.affine, self.voxel), radius)
        self.set_region(region, f"ball of {radius:g} mm around voxel {voxel}")

    def set_mask(self, path: str | Path) -> None:
        """Choose a mask, or tissue fractions, as the region.

        Raises
        ------
        DataError
            If the file cannot be read.
        """
        try:
            image = open_any_image(Path(path))
            if image.get_data_dtype().kind in "cV":
                raise DataError(f"{path}: holds colours or spectra; give a mask.")
            values = np.asarray(image.dataobj, float)
        except image_errors() as exc:
            raise DataError(f"{path}: cannot be read ({' '.join(str(exc).split())}).") from exc
        if max(values.shape[3:], default=1) > 1:
            raise DataError(f"{path}: has {values.ndim} dimensions; give a mask of three.")
        affine = np.asarray(image.affine, float)
        if not abs(np.linalg.det(affine)) > 0:
            raise DataError(f"{path}: has no position (its affine is singular).")
        values = values.reshape([*values.shape[:3], 1, 1, 1][:3])
        region = regions.mask_region(values, affine)
        self.set_region(region, Path(path).name)
        parts = self._parts(region, False)
        if parts.any():
            self.go_to(as_voxel([int(one) for one in np.unravel_index(parts.argmax(), parts.shape)]))

    def set_region(self, region: Region, name: str) -> None:
        """Choose a region, a function of positions in mm, and its name."""
        self.region, self.region_name = region, name
        self._weights = {}
        self.update_region()

    def update_region(self) -> None:
        """Outline the region and its mirror image."""
        codes = np.zeros(self.results.shape, np.int16)
        if self.region is not None:
            if self.settings.mirror:
                codes[regions.outlined(self._parts(self.region, True))] = 2
            codes[regions.outlined(self._parts(self.region, False))] = 1
        if self.regions is not None:
            self.regions[:] = self.grid.drawn(codes)
            if not self.ortho.destroyed:
                self.ortho.displayCtx.getDisplay(self.regions).enabled = self.region is not None
        notify(self.frame, "mapChanged")

    def _parts(self, region: Region, mirrored: bool) -> np.ndarray:
        """Return the part of every voxel in the chosen region, or in its mirror image."""
        if mirrored not in self._weights:
            region = regions.mirrored(region, self._middle()) if mirrored else region
            self._weights[mirrored] = regions.fractions(region, self.results.shape, self.results.affine)
        return self._weights[mirrored]

    def _middle(self) -> float:
        """Return the middle of the head from left to right in mm: of the T1, or of the fitted voxels."""
        if self.t1 is not None:
            return regions.midline(first_volume(self.t1), self.t1.voxToWorldMat)
        return regions.midline(self.results.fitted, self.results.affine)

    def region_report(self) -> list[str]:
        """Return lines on the mean of the shown map over the region; none without a region."""
        if self.region is None or self.shown is None:
            return []
        settings, results, shown, region = self.settings, self.results, self.shown, self.region
        sd = results.sd(settings.quantity, settings.name)
        usable = shown.shown & (map_display.marks(results, out_of_distribution=False) == 0)
        means = [
            regions.mean_over(shown.values, self._parts(region, mirrored), sd, usable, results.affine)
            for mirrored in ((False, True) if settings.mirror else (False,))
        ]
        notes = [regions.SPATIAL_NOTE] if settings.quantity == "conc-spatial" else []
        if results.sd_is_of_independent(settings.name, settings.quantity):
            notes.append(f"SDs of {settings.name} count its members as independent.")
        title = results.title(settings.quantity, settings.name)
        return regions.report(title, self.region_name, means[0], means[1] if settings.mirror else None, notes)

    def region_text(self) -> str:
        """Return the report with the folder above it, to be copied."""
        return "\n".join([str(self.results.folder), *self.region_report()])

    # -- comparison ----------------------------------------------------------------------------------------------------

    def compare(self, other: Results) -> None:
        """Show other results beside these, in place of earlier ones, which stay where the new ones cannot be read.

        Raises
        ------
        DataError
            If they are of a single voxel, or cannot be read.
        """
        if other.kind != "MRSI":
            raise DataError(f"{other.folder}: has no maps to compare with.")
        other.read_all()
        self.end_comparison()
        self.comparison = Comparison(self, other)
        self.update_comparison()

    def end_comparison(self) -> None:
        """Close the view of other results."""
        if self.comparison is not None:
            ending, self.comparison = self.comparison, None
            ending.close()
            self.update_comparison()

    def update_comparison(self, *_: object) -> None:
        """Show what the second view should show, and name the difference in the panels, or no longer."""
        if self.comparison is not None:
            self.comparison.update()
        for change in ("mapChanged", "voxelChanged"):
            notify(self.frame, change)

    def hide(self, overlay: Image) -> None:
        """Hide an overlay in the views of the scene."""
        for view in (self.ortho, self.mrs):
            if not view.destroyed:
                view.displayCtx.getDisplay(overlay).enabled = False

    # -- texts ---------------------------------------------------------------------------------------------------------

    def show_title(self) -> None:
        """Name the map on its colour bar, in a text and letters that fit the width of the view."""
        if self.shown is not None and not self.ortho.destroyed and self.map in self.frame.overlayList:
            overlays.show_title(self.ortho, self.map, [self.shown.title, self.shown.short_title])

    def note(self) -> str:
        """Return a remark on the uncertainty of the shown map; empty where there is none."""
        name, key = self.settings.name, self.settings.quantity
        if self.shown is None or not self.results.sd_is_of_independent(name, key):
            return ""
        return f"The folder has no covariances: SDs of {name} count its members as independent."

    # -- picture -------------------------------------------------------------------------------------------------------

    def save_picture(self, path: str | Path) -> None:
        """Write the images as they are shown into a PNG file, with the folder, the voxel, which side is which, and the
        meaning of opacity and outlines below them.

        Raises
        ------
        OutputError
            If nothing is drawn yet, or the file cannot be written.
        """
        settings = self.settings
        limit = settings.threshold if settings.criterion == "percent" else None
        look = Look(settings.metab, settings.quantity, limit, settings.fade, settings.sure, settings.unsure)
        # A screenshot of what was never drawn fails, and leaves the window frozen.
        if not overlays.all_drawn(self.ortho):
            raise OutputError("The view is not drawn yet; try again in a moment.")
        path = Path(path)
        path = path if path.suffix.lower() == ".png" else path.with_name(path.name + ".png")
        with tempfile.TemporaryDirectory() as scratch:
            raw = Path(scratch) / "shown.png"
            screenshot(self.ortho, str(raw))
            try:
                place = place_text(self.results, self.voxel)
                write_with_caption(raw, path, self._caption(look), place)
            except OSError as exc:
                raise OutputError(f"cannot be written ({exc.strerror})", option="picture", value=path) from exc

    def _caption(self, look: Look) -> list[tuple[str, Colour]]:
        """Return the texts below a picture: what is hidden, and what is outlined, the region among it."""
        settings, are_marked = self.settings, self.marks is not None
        codes = map_display.marks(
            self.results, settings.markFailed and are_marked, settings.markOutOfDistribution and are_marked
        )
        texts = caption(self.results, look, self.shown, codes)
        if settings.criterion == "sd" and self.shown is not None:
            texts.insert(0, (f"hidden above an SD of {settings.threshold:g} {self.shown.unit}".rstrip(), LIGHT_GREY))
        if self.region is not None and self.regions is not None:
            names = {1: self.region_name, 2: "its mirror image"}
            shown = (1, 2) if settings.mirror else (1,)
            texts += [(f"outlined: {names[key]}", REGION_LABELS[key][1]) for key in shown]
        return texts
