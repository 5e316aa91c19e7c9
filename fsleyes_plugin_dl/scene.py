"""Results on the screen: the overlays of one folder in an ortho view and an MRS view, and the settings of their
display.

The images that change with a choice stay the same overlays while their values change, so that settings in FSLeyes's own
panels persist.  They lie along the axes of the spectra's grid (:class:`.grids.DrawnGrid`), and so does the display.

Panels :func:`subscribe` to the scene of their window; this module imports none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import fsleyes.plugins as plugins
import numpy as np
import wx
from fsl.data.image import Image
from fsleyes.views.orthopanel import OrthoPanel
from fsleyes_plugin_mrs.views import MRSView

from . import map_display, overlays, spectra
from .artists import Band, Contribution, SpectrumLegend
from .canvas_layout import large_plane_of
from .grids import DrawnGrid, box_mask, checkerboard, is_inside, padded, to_mm
from .images import CURVES, READING_ERRORS, MemoryImage, open_image, read_curves, write
from .results_folder import Results
from .scene_tools import SceneTools
from .settings import Kept, Settings
from .voxel_table import VoxelTable

__all__ = ["Scene", "Subscriber", "notify", "scene_of", "show", "subscribe", "unsubscribe"]

_log = logging.getLogger(__name__)

_LOOK_EVERY = 500  # ms between looks for closed views

# By window of FSLeyes: its scene, and the subscribers to it in the order of their subscription.
_scenes: WeakKeyDictionary = WeakKeyDictionary()
_subscribers: WeakKeyDictionary = WeakKeyDictionary()


class Subscriber(Protocol):
    """A panel that follows the scene of its window."""

    def sceneChanged(self) -> None:
        """Show the scene of other results, or none."""

    def mapChanged(self) -> None:
        """Show another map, metabolite or threshold."""

    def voxelChanged(self) -> None:
        """Show another voxel."""


def subscribe(frame, subscriber: Subscriber) -> None:
    """Notify a subscriber of every change of the scene in a window, until :func:`unsubscribe`."""
    _subscribers.setdefault(frame, WeakKeyDictionary())[subscriber] = True


def unsubscribe(frame, subscriber: Subscriber) -> None:
    """Notify a subscriber no longer."""
    _subscribers.get(frame, {}).pop(subscriber, None)


def notify(frame, change: str) -> None:
    """Call the method of that name of every subscriber.  One that fails does not keep the others from being called."""
    for subscriber in list(_subscribers.get(frame, ())):
        try:
            getattr(subscriber, change)()
        except Exception:
            _log.exception("A panel did not follow the results.")


def scene_of(frame) -> Scene | None:
    """Return the scene in a window of FSLeyes; None without results."""
    scene = _scenes.get(frame)
    return scene if scene is not None and scene.alive else None


def show(
    frame,
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
    if t1 is None and old is not None:
        t1 = old.t1
    scene = Scene(frame, results, t1, data, progress)
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
    shown : Picture or None
        The map on the screen.
    map, certainty, marks, voxels, regions, outline : Image or None
        Overlays of maps; ``outline`` is that of a single voxel instead.
    followers : list of callable
        Called with the scene when its views were opened again.
    """

    def __init__(self, frame, results: Results, t1=None, data=None, progress=lambda done, total: None):
        self.frame, self.results = frame, results
        self.settings = Settings()
        self.name = f"mrs_dl_scene_{id(self)}"
        self.alive = True
        self.grid = DrawnGrid(results.shape, results.affine)
        results.read_all(progress)
        self.t1 = t1 if t1 is None or isinstance(t1, Image) else open_image(t1, "T1")
        self.curves: dict[str, Image] = read_curves(results, data)
        results.at(map_display.good_voxel(results))
        self.voxel: tuple[int, int, int] | None = None
        self.shown: map_display.Picture | None = None
        self.map = self.certainty = self.marks = self.voxels = self.regions = self.outline = None
        self.ortho = self.mrs = None
        self.artists: list = []
        self.followers: list[Callable[[Scene], None]] = []
        self._colours, self._percent = map_display.ChosenColours(), 20.0
        self._quiet = self._hidden_empty = self._is_set_up = False
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
            self._make_maps()
            # Before they are drawn: FSLeyes may miss the first display of an image that changes meanwhile.
            self._fill_maps()
            self.update_marks()
            layers = [self.certainty, self.map, self.voxels, self.regions, self.marks]
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
            if kept is not None and kept.colours is not None and kept.colours[0] == self.shown.title:
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

    def _kept_voxel(self, kept: Kept | None) -> tuple[int, int, int] | None:
        """Return the voxel at the earlier cursor; None where nothing was fitted there."""
        if kept is None or kept.mm is None:
            return None
        voxel = tuple(int(one) for one in np.rint(to_mm(np.linalg.inv(self.results.affine), kept.mm)))
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
        if self._timer is not None:
            self._timer.Stop()
        overlays = self.frame.overlayList
        overlays.removeListener("overlays", self.name)
        if not self.ortho.destroyed:
            self.ortho.displayCtx.removeListener("location", self.name)
        if not self.mrs.destroyed:
            canvas = self.mrs.canvas
            canvas.artists = [artist for artist in canvas.artists if artist not in self.artists]
        # The map first: it must not be drawn without the image that fades it.
        for overlay in sorted(self.overlays, key=lambda image: image is not self.map):
            if overlay in overlays and overlay is not keep:
                overlays.remove(overlay)

    def _make_maps(self) -> None:
        empty, affine = np.zeros(self.grid.drawn_shape, np.float32), self.grid.drawn_affine
        grid, moved = padded(empty, affine)
        self.certainty = MemoryImage(grid, name="opacity of the map", xform=moved)
        self.map = MemoryImage(empty.copy(), name="map", xform=affine)
        self.voxels = MemoryImage(checkerboard(empty.shape), name="voxel grid", xform=affine)
        self.regions = MemoryImage(empty.astype(np.int16), name="region", xform=affine)
        self.marks = MemoryImage(empty.astype(np.int16), name="marked voxels", xform=affine)

    def _set_up_ortho(self) -> None:
        """Set up the display in the ortho view; at first, and in one that was opened later."""
        context = self.ortho.displayCtx
        context.autoDisplay = False
        for overlay in self.curves.values():
            context.getDisplay(overlay).enabled = False
        # Along the grid's own axes: FSLeyes draws maps that are oblique to the display up to half a slice off.  A
        # single voxel's outline lies on a fine grid along the axes of the room.  FSLeyes goes back to its default at
        # any change of the list of overlays.
        space = "ref" if self.map is not None else "world"
        for one in (self.frame.displayCtx, context, self.mrs.displayCtx):
            one.defaultDisplaySpace = space
        context.displaySpace = self.map if self.map is not None else "world"
        overlays.set_up_scene(self.ortho, self.map is not None)
        self._planes = large_plane_of(self.ortho)
        self._planes.arranged = self.show_title
        self._show_planes()
        if self.t1 is not None:
            overlays.set_up_t1(context, self.t1)
        if self.map is not None:
            overlays.set_up_map(self.frame, context, self.map, self.certainty)
            overlays.set_up_labels(self.frame, context, self.marks, "marks", 2)
            overlays.set_up_labels(self.frame, context, self.voxels, "voxels", 1)
            overlays.set_up_labels(self.frame, context, self.regions, "regions", 3)
            context.selectOverlay(self.map)
            overlays.draw_colour_bar(self.ortho)
            self._show_voxels()
            context.getDisplay(self.regions).enabled = self.region is not None
        else:
            overlays.set_up_outline(context, self.outline)
            context.selectOverlay(self.outline)

    def _set_up_mrs(self) -> None:
        """Set up the plot in the MRS view; at first, and in one that was opened later."""
        view, context = self.mrs, self.mrs.displayCtx
        context.autoDisplay = False
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

    @property
    def map_opts(self):
        """FSLeyes's display options of the map: colour map, ranges, fading."""
        return self.ortho.displayCtx.getOpts(self.map)

    def series(self, name: str):
        """Return the series of a curve in the MRS view; None where there is none."""
        overlay = self.curves.get(name)
        return None if overlay is None or self.mrs.destroyed else self.mrs.getDataSeries(overlay)

    def all_series(self) -> list[tuple[str, object]]:
        """Return names and series of all curves."""
        return [(name, self.series(name)) for name in self.curves]

    def drawn_lines(self) -> list[tuple[object, object]]:
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

    def voxel_at(self, place) -> tuple[int, int, int] | None:
        """Return the voxel at a place in the coordinates of the display; None outside of the grid."""
        opts = self.ortho.displayCtx.getOpts(self._anchor)
        if self.map is not None:
            index = opts.transformCoords(place, "display", "voxel")
            voxel = self.grid.voxel(np.rint(index))
        else:
            mm = opts.transformCoords(place, "display", "world")
            voxel = tuple(int(one) for one in np.rint(to_mm(np.linalg.inv(self.results.affine), mm)))
        return voxel if is_inside(voxel, self.results.shape) else None

    def go_to(self, voxel: tuple[int, int, int]) -> None:
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
        self._timer = wx.Timer(self.frame)
        self.frame.Bind(wx.EVT_TIMER, self._look_for_views, self._timer)
        self._timer.Start(_LOOK_EVERY)

    @property
    def _anchor(self) -> Image:
        """Image that every scene has: the map, or the outline."""
        return self.map if self.map is not None else self.outline

    def _check_overlays(self, *_) -> None:
        """Close the scene once a user removed the map, or the outline; go on without another image."""
        overlays = self.frame.overlayList
        if not self.alive:
            return
        if self.t1 is not None and self.t1 not in overlays:
            self.t1 = None
        if any(image not in overlays for image in (self._anchor, self.certainty) if image is not None):
            self.close()
            notify(self.frame, "sceneChanged")

    def _look_for_views(self, *_) -> None:
        """Follow views that were opened in place of closed ones."""
        if not self.alive or not self.frame:
            return
        opened = False
        if self.comparison is not None and not self.comparison.alive:
            self.end_comparison()
        second = None if self.comparison is None else self.comparison.view
        views = [view for view in self.frame.getView(OrthoPanel) if view is not second]
        if self.ortho.destroyed and views:
            self.ortho, opened = views[0], True
            if not self.mrs.destroyed:
                self._set_up_ortho()
            self.ortho.displayCtx.addListener("location", self.name, self._follow_cursor, overwrite=True)
            if self.map is not None:
                self._is_set_up = False
                self.update_map()
        if self.mrs.destroyed and self.frame.getView(MRSView):
            self.mrs, opened = self.frame.getView(MRSView)[0], True
            self._set_up_mrs()
            self._follow_curves()
        if opened:
            for follower in self.followers:
                follower(self)
            self._follow_cursor()
            notify(self.frame, "sceneChanged")

    def _follow_cursor(self, *_) -> None:
        overlay = self._anchor
        if not self.alive or overlay not in self.frame.overlayList or self.ortho.destroyed:
            return
        voxel = self.voxel_at(self.ortho.displayCtx.location.xyz)
        if voxel == self.voxel:
            return
        self.voxel = voxel
        self._rescale()
        notify(self.frame, "voxelChanged")

    def _rescale(self, *_) -> None:
        """Set the vertical range of the plot from the shown curves within the metabolites' window."""
        if not self.settings.autoScale or self.voxel is None or not self.curves or self.mrs.destroyed:
            return
        shown = [image for name, image in self.curves.items() if getattr(self.settings, name)]
        try:
            fids = [spectra.read_fid(image, self.voxel) for image in shown]
        except READING_ERRORS:
            return  # the file vanished; what was read stays
        if not fids:
            return
        header = next(iter(self.curves.values())).nifti_mrs.axes
        axes = spectra.DisplayAxes(len(fids[0]), header.dwelltime, header.SpectrometerFrequency, header.ResonantNucleus)
        limits = spectra.vertical_limits(axes, [spectra.displayed(fid) for fid in fids if fid is not None])
        if limits is not None:
            self.mrs.canvas.limits.y = limits
            self.mrs.canvas.asyncDraw()

    def _follow_settings(self, *_) -> None:
        if not self._quiet:
            if self.settings.criterion == "percent":
                self._percent = self.settings.threshold
            self.update_when_drawn()

    def _follow_map(self, *_) -> None:
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

    def _follow_criterion(self, *_) -> None:
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

    def _follow_curves(self, *_) -> None:
        for name, overlay in self.curves.items():
            if not self.mrs.destroyed:
                self.mrs.displayCtx.getDisplay(overlay).enabled = getattr(self.settings, name)
        self._rescale()
        self.redraw()

    def _show_planes(self, *_) -> None:
        """Draw the chosen plane larger than the others."""
        if not self.ortho.destroyed:
            self._planes.choose(self.settings.planes)

    def _show_voxels(self, *_) -> None:
        """Show or hide the edges of all voxels."""
        if self.voxels is not None and not self.ortho.destroyed:
            self.ortho.displayCtx.getDisplay(self.voxels).enabled = self.settings.voxelGrid

    def redraw(self, *_) -> None:
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
        if self._is_set_up and not self.ortho.destroyed:
            self._colours.keep(old, self.map_opts.cmap.name, tuple(self.map_opts.displayRange))
        modulation = self._fill_maps()
        picture, is_empty = self.shown, not self.shown.shown.any()
        is_other = picture.title != old.title or not self._is_set_up
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

    def _fill_maps(self) -> tuple[float, float]:
        """Compute the chosen map and its opacity; return the range of the opacity."""
        settings, results = self.settings, self.results
        picture = map_display.picture(results, settings.quantity, settings.name, settings.criterion, settings.threshold)
        self.shown = picture
        opacity, modulation = map_display.fading(
            picture, settings.fade, settings.sure, settings.unsure, settings.opacity / 100
        )
        write(self.certainty, padded(self.grid.drawn(opacity), self.grid.drawn_affine, modulation[0])[0])
        # FSLeyes fails at images that hold nothing but NaN.
        is_empty = not picture.shown.any()
        write(self.map, self.grid.drawn(np.zeros(results.shape, np.float32) if is_empty else picture.drawn))
        return modulation

    def changed(self, what: str) -> None:
        """Notify the subscribers of a change, by the name of their method."""
        notify(self.frame, what)

    def update_marks(self, *_) -> None:
        """Outline the marked voxels."""
        settings = self.settings
        codes = map_display.marks(self.results, settings.markFailed, settings.markOutOfDistribution)
        write(self.marks, self.grid.drawn(codes))

    def reset_range(self) -> None:
        """Set the colours to the robust range of the map again."""
        if self.shown is not None:
            self.map_opts.displayRange = list(self.shown.range)


def _view(frame, kind):
    """Return a view of that kind; add one where there is none."""
    views = frame.getView(kind)
    return views[0] if views else frame.addViewPanel(kind)
