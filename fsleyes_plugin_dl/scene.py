"""Results on the screen: the overlays of one folder in an ortho view and an MRS view, and the settings of their
display.

The images that change with a choice stay the same overlays while their values change, so that settings in FSLeyes's own
panels persist.  They lie along the axes of the spectra's grid (:class:`.grids.DrawnGrid`), and so does the display.

Panels follow the scene of their window as :mod:`.subscribers`; this module imports none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import fsleyes.plugins as plugins
import numpy as np
import wx
from fsl.data.image import Image
from fsleyes.views.orthopanel import OrthoPanel
from fsleyes_plugin_mrs.views import MRSView
from matplotlib.artist import Artist
from matplotlib.lines import Line2D

from fsl_mrs_dl.io.images import image_errors

from . import map_display, overlays, spectra
from .artists import Band, Contribution, SpectrumLegend
from .canvas_layout import LargePlane, large_plane_of
from .grids import DrawnGrid, Voxel, as_voxel, box_mask, checkerboard, is_inside, padded, to_mm
from .images import CURVES, MemoryImage, open_structural, read_curves, write
from .results_folder import Results
from .scene_tools import SceneTools
from .settings import Kept, Settings
from .subscribers import notify
from .voxel_table import VoxelTable

__all__ = ["Scene", "scene_of", "show"]

_LOOK_EVERY = 500  # ms between looks for closed views

# By window of FSLeyes.
_scenes: WeakKeyDictionary[Any, Scene] = WeakKeyDictionary()


def scene_of(frame: Any) -> Scene | None:
    """Return the scene in a window of FSLeyes; None without results."""
    scene = _scenes.get(frame)
    return scene if scene is not None and scene.alive else None


def show(
    frame: Any,
    results: Results,
    t1: str | Path | None = None,
    data: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scene:
    """Show results in a window of FSLeyes, in place of earlier ones.

    Everything is read first: where that fails, the earlier results stay.  The earlier structural image, metabolite,
    thresholds, colours and cursor persist where they suit the new results.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    # The MRS view asks for controls that FSLeyes hides until a layout of this package is loaded.
    plugins.showThirdPartyPlugin(__package__)
    old = scene_of(frame)
    kept = None if old is None else old.kept()
    scene = Scene(frame, results, old.t1 if t1 is None and old is not None else t1, data, progress)
    if old is not None:
        old.close(keep=scene.t1)
    _scenes[frame] = scene
    scene.open(kept)
    notify(frame, "sceneChanged")
    return scene


class Scene(SceneTools):
    """The overlays, artists and settings of one folder of results in a window.

    Its construction reads the files; :meth:`open` shows it, :meth:`close` removes it.

    Attributes
    ----------
    results : Results
    settings : Settings
    grid : DrawnGrid
        Grid of the results along the axes that they are drawn in.
    alive : bool
        False once it was closed.
    t1 : Image or None
    curves : dict
        Images of the spectra by name.
    voxel : (int, int, int) or None
        Voxel at the cursor; None outside of the grid.
    ortho, mrs : OrthoPanel, MRSView
        Views; either may have been closed.
    shown : Picture or None
        The map on the screen.
    map, certainty, marks, voxels, regions, outline : Image or None
        Overlays of maps; ``outline`` is that of a single voxel instead.  None, too, is what a user removed of marks,
        voxels and regions.
    followers : list of callable
        Called with the scene when its views were opened again.
    """

    def __init__(
        self,
        frame: Any,
        results: Results,
        t1: Image | str | Path | None = None,
        data: str | Path | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ):
        self.frame, self.results = frame, results
        self.settings = Settings()
        self.name = f"mrs_dl_scene_{id(self)}"
        self.alive = True
        self.grid = DrawnGrid(results.shape, results.affine)
        results.read_all(progress)
        self.t1 = t1 if t1 is None or isinstance(t1, Image) else open_structural(t1)
        self.curves: dict[str, Image] = read_curves(results, data)
        results.at(map_display.good_voxel(results))
        self.voxel: Voxel | None = None
        self.shown: map_display.Picture | None = None
        self.map: MemoryImage | None = None
        self.certainty: MemoryImage | None = None
        self.marks: MemoryImage | None = None
        self.voxels: MemoryImage | None = None
        self.regions: MemoryImage | None = None
        self.outline: MemoryImage | None = None
        self.ortho: Any = None
        self.mrs: Any = None
        self.overlays: list[Image] = []
        self.artists: list[Artist] = []
        self.followers: list[Callable[[Scene], None]] = []
        self._colours, self._percent = map_display.ChosenColours(), 20.0
        self._quiet = self._hidden_empty = self._is_set_up = False
        self._planes: LargePlane | None = None
        self._timer: wx.Timer | None = None

    # -- overlays ------------------------------------------------------------------------------------------------------

    def open(self, kept: Kept | None = None) -> None:
        """Show everything, with what persists of earlier results."""
        frame, results, settings = self.frame, self.results, self.settings
        settings.set_choices(results)
        if kept is not None:
            kept.apply(settings, results)
        self.ortho = _view(frame, OrthoPanel)
        self.mrs = _view(frame, MRSView)
        if results.kind == "MRSI":
            layers = self._make_maps()
            # Before they are drawn: FSLeyes may miss the first display of an image that changes meanwhile.
            picture, _ = self._fill_maps()
            self.update_marks()
        else:
            mask, affine = box_mask(results.shape, results.affine)
            self.outline = MemoryImage(mask, name="voxel", xform=affine)
            layers = [self.outline]
        self.overlays = [*([] if self.t1 is None else [self.t1]), *layers, *self.curves.values()]
        frame.overlayList.extend([image for image in self.overlays if image not in frame.overlayList])
        self._set_up_ortho()
        self._set_up_mrs()
        self._listen()
        if results.kind == "MRSI":
            self.update_map()
            if kept is not None and kept.colours is not None and kept.colours[0] == picture.title:
                self.map_opts.displayRange = list(kept.colours[1])
        self.go_to(self._kept_voxel(kept) or map_display.good_voxel(results))
        # FSLeyes keeps the section of earlier overlays, which may be empty.
        self.ortho.resetDisplay()
        self.wait_until_drawn()
        wx.CallAfter(self._reset)

    def kept(self) -> Kept:
        """Return what persists when other results are loaded."""
        mm = None if self.voxel is None else to_mm(self.results.affine, self.voxel)
        colours = None
        if self.shown is not None and not self.ortho.destroyed:
            chosen = tuple(self.map_opts.displayRange)
            if not np.allclose(chosen, self.shown.range):
                colours = (self.shown.title, chosen)
        return Kept.of(self.settings, mm, colours)

    def _kept_voxel(self, kept: Kept | None) -> Voxel | None:
        """Return the voxel at the earlier cursor; None where nothing was fitted there."""
        if kept is None or kept.mm is None:
            return None
        voxel = as_voxel(to_mm(np.linalg.inv(self.results.affine), kept.mm))
        return voxel if is_inside(voxel, self.results.shape) and self.results.fitted[voxel] else None

    def _reset(self) -> None:
        if self.alive and not self.ortho.destroyed:
            self.ortho.resetDisplay()

    def close(self, keep: Image | None = None) -> None:
        """Remove everything again, but for ``keep``."""
        if not self.alive:
            return
        self.end_comparison()
        self.alive = False
        if _scenes.get(self.frame) is self:
            del _scenes[self.frame]
        if self._timer is not None:
            self._timer.Stop()
            self._timer = None
        if self._planes is not None and self._planes.arranged == self.show_title:
            self._planes.arranged = None
        overlays = self.frame.overlayList
        overlays.removeListener("overlays", self.name)
        if not self.ortho.destroyed:
            self.ortho.displayCtx.removeListener("location", self.name)
        if not self.mrs.destroyed:
            canvas = self.mrs.canvas
            canvas.artists = [artist for artist in canvas.artists if artist not in self.artists]
            for artist in self.artists:
                if artist.axes is not None:  # until the plot is drawn again
                    artist.remove()
        # The map first: it must not be drawn without the image that fades it.
        for overlay in sorted(self.overlays, key=lambda image: image is not self.map):
            if overlay in overlays and overlay is not keep:
                overlays.remove(overlay)

    def _make_maps(self) -> list[MemoryImage]:
        """Make the overlays of a map, and return them from below to above."""
        empty, affine = np.zeros(self.grid.drawn_shape, np.float32), self.grid.drawn_affine
        grid, moved = padded(empty, affine)
        self.certainty = MemoryImage(grid, name="opacity of the map", xform=moved)
        self.map = MemoryImage(empty.copy(), name="map", xform=affine)
        self.voxels = MemoryImage(checkerboard(empty.shape), name="voxel grid", xform=affine)
        self.regions = MemoryImage(empty.astype(np.int16), name="region", xform=affine)
        self.marks = MemoryImage(empty.astype(np.int16), name="marked voxels", xform=affine)
        return [self.certainty, self.map, self.voxels, self.regions, self.marks]

    def _set_up_ortho(self) -> None:
        """Set up the display in the ortho view; at first, and in one that was opened later."""
        context = self.ortho.displayCtx
        context.autoDisplay = False
        for overlay in self.curves.values():
            context.getDisplay(overlay).enabled = False
        # Along the grid's own axes: FSLeyes draws maps that are oblique to the display up to half a slice off.  A
        # single voxel's outline lies on a fine grid along the axes of the room.  FSLeyes goes back to its default at
        # any change of the list of overlays.
        for one in (self.frame.displayCtx, context, *([] if self.mrs.destroyed else [self.mrs.displayCtx])):
            self._set_default_space(one)
        context.displaySpace = self.map if self.map is not None else "world"
        overlays.set_up_scene(self.ortho, self.map is not None)
        self._planes = large_plane_of(self.ortho)
        self._planes.arranged = self.show_title
        self._show_planes()
        if self.t1 is not None:
            overlays.set_up_t1(context, self.t1)
        if self.map is not None:
            overlays.set_up_map(self.frame, context, self.map, self.certainty)
            for image, kind, width in (
                (self.marks, "marks", 2),
                (self.voxels, "voxels", 1),
                (self.regions, "regions", 3),
            ):
                if image is not None:
                    overlays.set_up_labels(self.frame, context, image, kind, width)
            context.selectOverlay(self.map)
            overlays.draw_colour_bar(self.ortho)
            self._show_voxels()
            if self.regions is not None:
                context.getDisplay(self.regions).enabled = self.region is not None
        else:
            overlays.set_up_outline(context, self.outline)
            context.selectOverlay(self.outline)

    def _set_default_space(self, context: Any) -> None:
        """Set the space of a display that FSLeyes goes back to."""
        context.defaultDisplaySpace = "ref" if self.map is not None else "world"

    def _set_up_mrs(self) -> None:
        """Set up the plot in the MRS view; at first, and in one that was opened later."""
        view, context = self.mrs, self.mrs.displayCtx
        context.autoDisplay = False
        self._set_default_space(context)
        for overlay in self.overlays:
            if overlay in self.frame.overlayList:
                context.getDisplay(overlay).enabled = overlay in self.curves.values()
        for name, overlay in self.curves.items():
            context.getDisplay(overlay).name = name
            series = view.getDataSeries(overlay)
            if series is not None:
                series.colour = spectra.COLOURS[name]
                series.lineWidth = 2 if name == "fit" else 1
                series.alpha = 1.0
        if "fit" in self.curves:
            context.selectOverlay(self.curves["fit"])
        canvas = view.canvas
        canvas.legend = False
        canvas.xlabel = canvas.ylabel = None  # they would hide the numbers; the legend has them
        canvas.yAutoScale = False
        band, contribution = Band(self), Contribution(self)
        self.artists = [band, contribution, SpectrumLegend(self, band, contribution)]
        canvas.artists.extend(self.artists)

    # -- state --------------------------------------------------------------------------------------------------------

    def series(self, name: str) -> Any:
        """Return the series of a curve in the MRS view; None where there is none."""
        overlay = self.curves.get(name)
        return None if overlay is None or self.mrs.destroyed else self.mrs.getDataSeries(overlay)

    def all_series(self) -> list[tuple[str, Any]]:
        """Return names and series of all curves."""
        return [(name, self.series(name)) for name in self.curves]

    def drawn_lines(self) -> list[tuple[Any, Line2D]]:
        """Return the drawn series and their lines."""
        canvas = self.mrs.canvas
        return [(series, canvas.getArtist(series)) for series, _, _ in canvas.getDrawnDataSeries()]

    def contribution(self) -> np.ndarray | None:
        """Return the FID of the chosen metabolite or sum in the voxel, conjugated as in the file of the fit; None where
        it is unknown."""
        if self.results.evaluator is None or self.voxel is None:
            return None
        return self.results.contribution(self.voxel, self.settings.top)

    def table(self) -> VoxelTable:
        """Return the table of the voxel at the cursor."""
        table = self.results.at(self.voxel, self.settings.name)
        text = "" if self.comparison is None else self.comparison.text(self.voxel)
        return replace(table, state=f"{table.state}; {text}") if text else table

    def problems(self) -> list[str]:
        """Return sentences on what cannot be shown, the chosen map first."""
        settings, results = self.settings, self.results
        texts = list(results.problems)
        if not results.folder.is_dir():
            texts.insert(0, f"{results.folder} does not exist any more; what was read from it is shown.")
        if results.kind == "MRSI" and results.map(settings.quantity, settings.name) is None:
            what = results.label(settings.quantity)
            texts.insert(0, f"There is no map of {settings.name} of this quantity ({what}).")
        return texts

    def voxel_at(self, place: Any) -> Voxel | None:
        """Return the voxel at a place in the coordinates of the display; None outside of the grid."""
        opts = self.ortho.displayCtx.getOpts(self._anchor)
        if self.map is not None:
            index = opts.transformCoords(place, "display", "voxel")
            voxel = self.grid.voxel(np.rint(index))
        else:
            mm = opts.transformCoords(place, "display", "world")
            voxel = as_voxel(to_mm(np.linalg.inv(self.results.affine), mm))
        return voxel if is_inside(voxel, self.results.shape) else None

    def go_to(self, voxel: Voxel) -> None:
        """Move the cursor to a voxel."""
        if self.map is not None:
            index = self.grid.drawn_index(voxel)
            opts = self.ortho.displayCtx.getOpts(self.map)
            place = opts.transformCoords(np.asarray(index, float), "voxel", "display")
        else:
            opts = self.ortho.displayCtx.getOpts(self.outline)
            place = opts.transformCoords(to_mm(self.results.affine, voxel), "world", "display")
        self.ortho.displayCtx.location.xyz = place
        self._follow_cursor()

    # -- changes -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self.frame.overlayList.addListener("overlays", self.name, self._check_overlays)
        self.ortho.displayCtx.addListener("location", self.name, self._follow_cursor)
        settings = self.settings
        for name in ("metab", "plus", "over", "quantity"):
            settings.addListener(name, self.name, self._follow_map)
        for name in ("threshold", "fade", "opacity"):
            settings.addListener(name, self.name, self._follow_settings)
        settings.addListener("sure", self.name, lambda *_: self._follow_ends("sure"), weak=False)
        settings.addListener("unsure", self.name, lambda *_: self._follow_ends("unsure"), weak=False)
        settings.addListener("criterion", self.name, self._follow_criterion)
        settings.addListener("planes", self.name, self._show_planes)
        settings.addListener("second", self.name, self.update_comparison)
        settings.addListener("mirror", self.name, lambda *_: self.update_region(), weak=False)
        settings.addListener("voxelGrid", self.name, self._show_voxels)
        for name in ("markFailed", "markOutOfDistribution"):
            settings.addListener(name, self.name, self.update_marks)
        for name in CURVES:
            settings.addListener(name, self.name, self._follow_curves)
        for name in ("contribution", "band"):
            settings.addListener(name, self.name, self.redraw)
        settings.addListener("autoScale", self.name, self._rescale)
        # A timer of the frame would end in a handler that the frame, and with it the scene, is never rid of.
        self._timer = wx.PyTimer(self._look_for_views)
        self._timer.Start(_LOOK_EVERY)

    @property
    def _anchor(self) -> MemoryImage | None:
        """Image that every scene has: the map, or the outline."""
        return self.map if self.map is not None else self.outline

    def _check_overlays(self, *_: object) -> None:
        """Close the scene once a user removed the map, or the outline; go on without another image."""
        overlays = self.frame.overlayList
        if not self.alive:
            return
        if self.t1 is not None and self.t1 not in overlays:
            self.t1 = None
        if any(image not in overlays for image in (self._anchor, self.certainty) if image is not None):
            self.close()
            notify(self.frame, "sceneChanged")
            return
        labels = self.marks, self.voxels, self.regions
        self.marks, self.voxels, self.regions = (one if one in overlays else None for one in labels)
        curves = {name: image for name, image in self.curves.items() if image in overlays}
        if labels != (self.marks, self.voxels, self.regions) or len(curves) < len(self.curves):
            self.curves = curves
            notify(self.frame, "sceneChanged")

    def _look_for_views(self) -> None:
        """Follow views that were opened in place of closed ones."""
        if not self.alive or not self.frame:
            return
        if self.comparison is not None and not self.comparison.alive:
            self.end_comparison()
        second = None if self.comparison is None else self.comparison.view
        views = [view for view in self.frame.getView(OrthoPanel) if view is not second]
        plots = self.frame.getView(MRSView)
        has_new_ortho, has_new_plot = self.ortho.destroyed and bool(views), self.mrs.destroyed and bool(plots)
        # Both first: a layout of FSLeyes replaces them together.
        self.ortho = views[0] if has_new_ortho else self.ortho
        self.mrs = plots[0] if has_new_plot else self.mrs
        if has_new_ortho:
            self._set_up_ortho()
            self.ortho.displayCtx.addListener("location", self.name, self._follow_cursor, overwrite=True)
            if self.map is not None:
                self._is_set_up = False
                self.update_map()
        if has_new_plot:
            self._set_up_mrs()
            self._follow_curves()
        if has_new_ortho or has_new_plot:
            for follower in self.followers:
                follower(self)
            self._follow_cursor()
            notify(self.frame, "sceneChanged")

    def _follow_cursor(self, *_: object) -> None:
        overlay = self._anchor
        if not self.alive or overlay not in self.frame.overlayList or self.ortho.destroyed:
            return
        voxel = self.voxel_at(self.ortho.displayCtx.location.xyz)
        if voxel == self.voxel:
            return
        self.voxel = voxel
        self._rescale()
        notify(self.frame, "voxelChanged")

    def _rescale(self, *_: object) -> None:
        """Set the vertical range of the plot from the shown curves within the metabolites' window."""
        if not self.settings.autoScale or self.voxel is None or not self.curves or self.mrs.destroyed:
            return
        shown = [image for name, image in self.curves.items() if getattr(self.settings, name)]
        try:
            found = [spectra.read_fid(image, self.voxel) for image in shown]
        except image_errors():
            return  # the file vanished; what was read stays
        fids = [fid for fid in found if fid is not None]
        if not fids:
            return
        header = next(iter(self.curves.values())).nifti_mrs.axes
        axes = spectra.DisplayAxes(len(fids[0]), header.dwelltime, header.SpectrometerFrequency, header.ResonantNucleus)
        limits = spectra.vertical_limits(axes, [spectra.displayed(fid) for fid in fids])
        if limits is not None:
            self.mrs.canvas.limits.y = limits
            self.mrs.canvas.asyncDraw()

    def _follow_settings(self, *_: object) -> None:
        if not self._quiet:
            if self.settings.criterion == "percent":
                self._percent = self.settings.threshold
            self.update_when_drawn()

    def _follow_map(self, *_: object) -> None:
        """Show another map; a threshold in the unit of the earlier one would mean nothing."""
        if self._quiet:
            return
        if self.settings.criterion == "sd":
            self._begin_threshold()
        self.update_when_drawn()
        notify(self.frame, "voxelChanged")

    def _follow_ends(self, changed: str) -> None:
        """Keep the ends of the fading in order."""
        if self._quiet:
            return
        self._quiet = True
        self.settings.keep_order(changed)
        self._quiet = False
        self.update_when_drawn()

    def _follow_criterion(self, *_: object) -> None:
        """Begin with a sensible threshold, since every criterion has another scale."""
        self._begin_threshold()
        self.update_when_drawn()

    def _begin_threshold(self) -> None:
        settings = self.settings
        self._quiet = True
        settings.threshold = map_display.changed_threshold(
            settings.criterion, self.results, settings.quantity, settings.name, settings.threshold, self._percent
        )
        self._quiet = False

    def _follow_curves(self, *_: object) -> None:
        for name, overlay in self.curves.items():
            if not self.mrs.destroyed:
                self.mrs.displayCtx.getDisplay(overlay).enabled = getattr(self.settings, name)
        self._rescale()
        self.redraw()

    def _show_planes(self, *_: object) -> None:
        """Draw the chosen plane larger than the others."""
        if self._planes is not None and not self.ortho.destroyed:
            self._planes.choose(self.settings.planes)

    def _show_voxels(self, *_: object) -> None:
        """Show or hide the edges of all voxels."""
        if self.voxels is not None and not self.ortho.destroyed:
            self.ortho.displayCtx.getDisplay(self.voxels).enabled = self.settings.voxelGrid

    def redraw(self, *_: object) -> None:
        """Draw the plot again."""
        if self.alive and not self.mrs.destroyed:
            self.mrs.canvas.asyncDraw()

    def update_map(self) -> None:
        """Show the chosen map with the current settings."""
        if self.map is None:
            self.redraw()
            notify(self.frame, "mapChanged")
            return
        old = self.shown
        if old is not None and self._is_set_up and not self.ortho.destroyed:
            self._colours.keep(old, self.map_opts.cmap.name, tuple(self.map_opts.displayRange))
        picture, modulation = self._fill_maps()
        is_empty = not picture.shown.any()
        is_other = old is None or picture.title != old.title or not self._is_set_up
        self._is_set_up = True
        if not self.ortho.destroyed:
            opts, display = self.map_opts, self.ortho.displayCtx.getDisplay(self.map)
            if display.enabled == is_empty and (is_empty or self._hidden_empty):
                display.enabled = not is_empty
            self._hidden_empty = is_empty
            if is_other:
                self.show_title()
                opts.cmap, opts.displayRange = self._colours.of(picture)
            opts.clippingRange = list(picture.whole_range)
            opts.modulateRange = list(modulation)
            # Also without fading: FSLeyes draws the colour bar with the opacity of an overlay, too.
            opts.modulateAlpha = True
        self.update_marks()
        self.redraw()
        if self.comparison is not None:
            self.comparison.update()
        notify(self.frame, "mapChanged")

    def _fill_maps(self) -> tuple[map_display.Picture, tuple[float, float]]:
        """Compute the chosen map and its opacity; return the map and the range of the opacity."""
        settings, results = self.settings, self.results
        picture = map_display.picture(results, settings.quantity, settings.name, settings.criterion, settings.threshold)
        self.shown = picture
        opacity, modulation = map_display.fading(
            picture, settings.fade, settings.sure, settings.unsure, settings.opacity / 100
        )
        # FSLeyes fails at images that hold nothing but NaN.
        drawn = picture.drawn if picture.shown.any() else np.zeros(results.shape, np.float32)
        if self.certainty is not None and self.map is not None:
            write(self.certainty, padded(self.grid.drawn(opacity), self.grid.drawn_affine, modulation[0])[0])
            write(self.map, self.grid.drawn(drawn))
        return picture, modulation

    def update_marks(self, *_: object) -> None:
        """Outline the marked voxels."""
        if self.marks is not None:
            settings = self.settings
            codes = map_display.marks(self.results, settings.markFailed, settings.markOutOfDistribution)
            write(self.marks, self.grid.drawn(codes))

    def reset_range(self) -> None:
        """Set the colours to the robust range of the map again."""
        if self.shown is not None and not self.ortho.destroyed:
            self.map_opts.displayRange = list(self.shown.range)


def _view(frame: Any, kind: Any) -> Any:
    """Return a view of that kind; add one where there is none."""
    views = frame.getView(kind)
    return views[0] if views else frame.addViewPanel(kind)
