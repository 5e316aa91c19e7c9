"""Results on the screen: the overlays of one folder in an ortho view and an MRS view, and the settings of their
display.

Two images change with a choice: the map, and the relative SD that fades it.  They stay the same overlays while their
values change, so that settings in FSLeyes's own panels persist.

Panels :func:`subscribe` to the scene of their window; this module imports none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import fsleyes.colourmaps as colourmaps
import fsleyes.plugins as plugins
import fsleyes_props as props
import numpy as np
import wx
from fsl.data.image import Image
from fsleyes.views.orthopanel import OrthoPanel
from fsleyes_plugin_mrs.views import MRSView

from fsl_mrs_dl.core.errors import DataError

from . import map_display, spectra
from .artists import Band, Contribution, SpectrumLegend
from .images import CURVES, MemoryImage, open_image, padded_image, read_curves
from .results_folder import Results
from .voxel_table import VoxelTable

__all__ = ["Scene", "Settings", "Subscriber", "scene_of", "show", "subscribe", "unsubscribe"]

_LUT_KEY = "mrs_dl_marks"

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


def _notify(frame, change: str) -> None:
    """Call the method of that name of every subscriber."""
    for subscriber in list(_subscribers.get(frame, ())):
        getattr(subscriber, change)()


def scene_of(frame) -> Scene | None:
    """Return the scene in a window of FSLeyes; None without results."""
    scene = _scenes.get(frame)
    return scene if scene is not None and scene.alive else None


class Settings(props.HasProperties):
    """Settings that the panels change: map, threshold, fading and marks; curves of the spectrum."""

    metab = props.Choice()
    quantity = props.Choice()
    criterion = props.Choice(tuple(map_display.CRITERIA))
    threshold = props.Real(minval=0, default=20, clamped=True)
    fade = props.Boolean(default=True)
    sure = props.Real(minval=0, maxval=200, default=10, clamped=True)
    unsure = props.Real(minval=0, maxval=200, default=50, clamped=True)
    markFailed = props.Boolean(default=True)
    markOutOfDistribution = props.Boolean(default=True)
    data = props.Boolean(default=True)
    fit = props.Boolean(default=True)
    baseline = props.Boolean(default=True)
    residual = props.Boolean(default=True)
    contribution = props.Boolean(default=True)
    band = props.Boolean(default=True)
    autoScale = props.Boolean(default=True)


def show(frame, results: Results, t1: str | Path | None = None, data: str | Path | None = None) -> Scene:
    """Show results in a window of FSLeyes, in place of earlier ones.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    # The MRS view asks for controls that FSLeyes hides until a layout of this package is loaded.
    plugins.showThirdPartyPlugin(__package__)
    old = scene_of(frame)
    scene = Scene(frame, results, t1, data)
    if old is not None:
        old.close()
    scene.open()
    _scenes[frame] = scene
    _notify(frame, "sceneChanged")
    return scene


class Scene:
    """The overlays, artists and settings of one folder of results in a window.

    Its construction reads the files; :meth:`open` shows it, :meth:`close` removes it.

    Attributes
    ----------
    results : Results
    settings : Settings
    alive : bool
        False once it was closed.
    t1 : Image or None
    curves : dict
        Images of the spectra by name.
    voxel : (int, int, int) or None
        Voxel at the cursor; None outside of the grid.
    shown : Picture or None
        The map on the screen.
    map, certainty, marks, outline : Image or None
        Overlays of maps; ``outline`` is that of a single voxel instead.
    """

    def __init__(self, frame, results: Results, t1=None, data=None):
        self.frame, self.results = frame, results
        self.settings = Settings()
        self.name = f"mrs_dl_scene_{id(self)}"
        self.alive = True
        self.t1 = None if t1 is None else open_image(t1, "T1")
        self.curves: dict[str, Image] = read_curves(results, data)
        self.voxel: tuple[int, int, int] | None = None
        self.padding = 0  # voxels in front of the first one of the grid
        self.shown: map_display.Picture | None = None
        self.map = self.certainty = self.marks = self.outline = None
        self._quiet = False

    # -- overlays ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Show everything."""
        frame, results, settings = self.frame, self.results, self.settings
        settings.getProp("metab").setChoices(results.metabs, instance=settings)
        settings.metab = results.default_metab
        if results.kind == "MRSI":
            settings.getProp("quantity").setChoices([one.key for one in results.quantities], instance=settings)
            settings.quantity = results.default_quantity
        self.ortho = _view(frame, OrthoPanel)
        self.mrs = _view(frame, MRSView)
        overlays = []
        if self.t1 is not None:
            overlays.append(self.t1)
        if results.kind == "MRSI":
            self._make_maps()
            overlays += [self.certainty, self.map, self.marks]
        else:
            self.padding = 1
            self.outline = padded_image(np.ones(results.shape, np.uint8), results.affine, "voxel")
            overlays.append(self.outline)
        self.overlays = [*overlays, *self.curves.values()]
        frame.overlayList.extend(self.overlays)
        context = self.ortho.displayCtx
        for overlay in self.curves.values():
            context.getDisplay(overlay).enabled = False
        self._set_up_ortho()
        self._set_up_mrs()
        self._listen()
        if results.kind == "MRSI":
            self.update_map()
        self.go_to(map_display.good_voxel(results))
        # FSLeyes keeps the section of earlier overlays, which may be empty.
        self.ortho.resetDisplay()
        wx.CallAfter(self._reset)

    def _reset(self) -> None:
        if self.alive and not self.ortho.destroyed:
            self.ortho.resetDisplay()

    def close(self) -> None:
        """Remove everything again."""
        if not self.alive:
            return
        self.alive = False
        overlays = self.frame.overlayList
        overlays.removeListener("overlays", self.name)
        if not self.ortho.destroyed:
            self.ortho.displayCtx.removeListener("location", self.name)
        if not self.mrs.destroyed:
            canvas = self.mrs.canvas
            canvas.artists = [artist for artist in canvas.artists if artist not in self.artists]
        # The map first: it must not be drawn without the image that fades it.
        for overlay in sorted(self.overlays, key=lambda image: image is not self.map):
            if overlay in overlays:
                overlays.remove(overlay)

    def _make_maps(self) -> None:
        empty, affine = np.zeros(self.results.shape, np.float32), self.results.affine
        self.padding = 0
        self.certainty = padded_image(empty, affine, "certainty (minus relative SD, %)")
        self.map = MemoryImage(empty.copy(), name="map", xform=affine)
        self.marks = MemoryImage(empty.astype(np.int16), name="marked voxels", xform=affine)

    def _set_up_ortho(self) -> None:
        context = self.ortho.displayCtx
        scene = self.ortho.sceneOpts
        context.autoDisplay = False
        # Upright with a structural image, however it is stored; along the grid's own axes without.  FSLeyes goes back
        # to its default at any change of the list of overlays.
        for one in (self.frame.displayCtx, context, self.mrs.displayCtx):
            one.defaultDisplaySpace = "world" if self.t1 is not None else "ref"
        context.displaySpace = "world" if self.t1 is not None else self._anchor
        scene.showColourBar = self.map is not None
        scene.colourBarLocation = "bottom"
        scene.colourBarLabelSide = "top-left"
        scene.labelSize = 11
        if self.t1 is not None:
            display, opts = context.getDisplay(self.t1), context.getOpts(self.t1)
            display.name = "T1"
            opts.cmap, opts.interpolation = "greyscale", "linear"
            low, high = map_display.robust_range(np.asarray(self.t1[:]).ravel()[::7], 0.0)
            opts.displayRange = [low, 1.1 * high]
        if self.map is not None:
            context.getDisplay(self.certainty).enabled = False
            opts = self.map_opts
            opts.interpolation = "none"
            opts.linkLowRanges = False
            opts.modulateImage = self.certainty
            self._set_up_marks()
            context.selectOverlay(self.map)
        else:
            display = context.getDisplay(self.outline)
            display.overlayType = "mask"
            display.name = "voxel"
            opts = context.getOpts(self.outline)
            opts.colour = (1.0, 0.85, 0.0)
            opts.outline, opts.outlineWidth = True, 3
            opts.interpolation = "none"
            context.selectOverlay(self.outline)

    def _set_up_marks(self) -> None:
        if not colourmaps.isLookupTableRegistered(_LUT_KEY):
            table = colourmaps.LookupTable(_LUT_KEY, "Marks of FSL-MRS-DL")
            for value, (text, colour) in map_display.MARKS.items():
                table.insert(value, name=text, colour=colour, enabled=True)
            colourmaps.registerLookupTable(table, self.frame.overlayList, self.ortho.displayCtx)
        display = self.ortho.displayCtx.getDisplay(self.marks)
        display.overlayType = "label"
        opts = self.ortho.displayCtx.getOpts(self.marks)
        opts.lut = _LUT_KEY
        opts.outline, opts.outlineWidth = True, 2

    def _set_up_mrs(self) -> None:
        view, context = self.mrs, self.mrs.displayCtx
        for overlay in self.overlays:
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
        return None if overlay is None else self.mrs.getDataSeries(overlay)

    def all_series(self) -> list[tuple[str, object]]:
        """Return names and series of all curves."""
        return [(name, self.series(name)) for name in self.curves]

    def drawn_lines(self) -> list[tuple[object, object]]:
        """Return the drawn series and their lines."""
        canvas = self.mrs.canvas
        return [(series, canvas.getArtist(series)) for series, _, _ in canvas.getDrawnDataSeries()]

    def contribution(self) -> np.ndarray | None:
        """Return the FID of the chosen metabolite in the voxel, conjugated as in the file of the fit; None where it is
        unknown."""
        evaluator = self.results.evaluator
        if evaluator is None or self.voxel is None:
            return None
        try:
            return evaluator.contribution(self.voxel, self.settings.metab)
        except DataError:
            # A sum of metabolites, which the tables have and the model has not.
            return None

    def table(self) -> VoxelTable:
        """Return the table of the voxel at the cursor."""
        return self.results.at(self.voxel)

    def go_to(self, voxel: tuple[int, int, int]) -> None:
        """Move the cursor to a voxel."""
        overlay = self._anchor
        opts = self.ortho.displayCtx.getOpts(overlay)
        index = np.asarray(voxel, float) + self.padding
        self.ortho.displayCtx.location.xyz = opts.transformCoords(index, "voxel", "display")
        self._follow_cursor()

    # -- changes -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self.frame.overlayList.addListener("overlays", self.name, self._check_overlays)
        self.ortho.displayCtx.addListener("location", self.name, self._follow_cursor)
        settings = self.settings
        for name in ("metab", "quantity", "threshold", "fade", "sure", "unsure"):
            settings.addListener(name, self.name, self._follow_settings)
        settings.addListener("criterion", self.name, self._follow_criterion)
        for name in ("markFailed", "markOutOfDistribution"):
            settings.addListener(name, self.name, self.update_marks)
        for name in CURVES:
            settings.addListener(name, self.name, self._follow_curves)
        for name in ("contribution", "band"):
            settings.addListener(name, self.name, self.redraw)
        settings.addListener("autoScale", self.name, self._rescale)

    @property
    def _anchor(self) -> Image:
        """Image on the grid of the voxels that every scene has: the map, or the outline."""
        return self.map if self.map is not None else self.outline

    def _check_overlays(self, *_) -> None:
        """Close the scene once a user removed the map, or the outline."""
        if self.alive and any(
            image not in self.frame.overlayList for image in self.overlays if image not in self.curves.values()
        ):
            self.close()
            _notify(self.frame, "sceneChanged")

    def _follow_cursor(self, *_) -> None:
        overlay = self._anchor
        if not self.alive or overlay not in self.frame.overlayList:
            return
        index = self.ortho.displayCtx.getOpts(overlay).getVoxel()
        voxel = None if index is None else tuple(int(n) for n in np.asarray(index) - self.padding)
        if voxel is not None and any(not 0 <= index < size for index, size in zip(voxel, self.results.shape)):
            voxel = None
        if voxel == self.voxel:
            return
        self.voxel = voxel
        self._rescale()
        _notify(self.frame, "voxelChanged")

    def _rescale(self, *_) -> None:
        """Set the vertical range of the plot from the shown curves within the metabolites' window."""
        if not self.settings.autoScale or self.voxel is None or not self.curves:
            return
        shown = [image for name, image in self.curves.items() if getattr(self.settings, name)]
        fids = [spectra.read_fid(image, self.voxel) for image in shown]
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
            self.update_map()

    def _follow_criterion(self, *_) -> None:
        """Begin with a sensible threshold, since every criterion has another scale."""
        settings = self.settings
        if settings.criterion == "percent":
            start = 20.0
        elif settings.criterion == "sd":
            sd = self.results.sd(settings.quantity, settings.metab)
            sd = np.zeros(0) if sd is None else sd[np.isfinite(sd)]
            start = float(f"{np.percentile(sd, 90):.2g}") if sd.size else 0.0
        else:
            start = settings.threshold
        self._quiet = True
        settings.threshold = start
        self._quiet = False
        self.update_map()

    def _follow_curves(self, *_) -> None:
        for name, overlay in self.curves.items():
            self.mrs.displayCtx.getDisplay(overlay).enabled = getattr(self.settings, name)
        self._rescale()
        self.redraw()

    def redraw(self, *_) -> None:
        """Draw the plot again."""
        if self.alive and not self.mrs.destroyed:
            self.mrs.canvas.asyncDraw()

    def update_map(self) -> None:
        """Show the chosen map with the current settings."""
        settings, results = self.settings, self.results
        picture = map_display.picture(
            results, settings.quantity, settings.metab, settings.criterion, settings.threshold
        )
        is_other = self.shown is None or picture.title != self.shown.title
        self.shown = picture
        # Negative, since FSLeyes fades its colour bar as if the values of the map faded it: they are above zero, which
        # keeps the bar whole.
        self.certainty[:] = map_display.padded(-picture.percent, results.affine, -map_display.PERCENT_CAP)[0]
        self.map[:] = picture.drawn
        opts = self.map_opts
        if is_other:
            self.ortho.displayCtx.getDisplay(self.map).name = picture.title
            opts.cmap = picture.cmap
            opts.displayRange = list(picture.range)
        opts.clippingRange = list(picture.whole_range)
        opts.modulateRange = [-max(settings.unsure, settings.sure + 0.1), -settings.sure]
        opts.modulateAlpha = bool(settings.fade and picture.fades)
        self.update_marks()
        self.redraw()
        _notify(self.frame, "mapChanged")

    def update_marks(self, *_) -> None:
        """Outline the marked voxels."""
        settings = self.settings
        self.marks[:] = map_display.marks(self.results, settings.markFailed, settings.markOutOfDistribution)

    def reset_range(self) -> None:
        """Set the colours to the robust range of the map again."""
        if self.shown is not None:
            self.map_opts.displayRange = list(self.shown.range)


def _view(frame, kind):
    """Return a view of that kind; add one where there is none."""
    views = frame.getView(kind)
    return views[0] if views else frame.addViewPanel(kind)
