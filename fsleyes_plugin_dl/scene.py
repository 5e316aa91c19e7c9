"""Results on the screen: the overlays of one folder in an ortho view and an MRS view, and the settings that say how
they are shown.

Two images carry what changes with a choice: the map, and the relative SD that fades it.  They stay the same
overlays while their values change, so that what a user sets in FSLeyes's own panels stays, too.
"""

from __future__ import annotations

import logging
from pathlib import Path
from weakref import WeakKeyDictionary

import fsleyes.colourmaps as colourmaps
import fsleyes.plugins as plugins
import fsleyes_props as props
import nibabel
import numpy as np
import wx
from fsl.data.image import Image
from fsleyes.views.orthopanel import OrthoPanel
from fsleyes_plugin_mrs.utils import is_nifti_mrs
from fsleyes_plugin_mrs.views import MRSView

from fsl_mrs_dl.core.errors import DataError, FslMrsDlError

from . import maps, spectra
from .artists import Band, Contribution, SpectrumLegend
from .results import Results, Voxel

__all__ = ["Scene", "Settings", "scene_of", "show"]

log = logging.getLogger(__name__)

LUT_KEY = "mrs_dl_marks"
CURVES = ("data", "fit", "baseline", "residual")

_scenes: WeakKeyDictionary = WeakKeyDictionary()
_listeners: list = []


def scene_of(frame) -> Scene | None:
    """What is shown in a window of FSLeyes; None before results were loaded."""
    scene = _scenes.get(frame)
    return scene if scene is not None and scene.alive else None


class MemoryImage(Image):
    """An image that is made from results.  It never counts as unsaved: there is nothing in it that could be lost."""

    @property
    def saveState(self):  # noqa: N802, FSLeyes's name
        return True


class Settings(props.HasProperties):
    """What the panels change.  Maps: which one, what hides voxels, whether unsure ones fade.  Spectra: which curves."""

    metab = props.Choice()
    quantity = props.Choice()
    criterion = props.Choice(tuple(maps.CRITERIA))
    threshold = props.Real(minval=0, default=20, clamped=True)
    fade = props.Boolean(default=True)
    sure = props.Real(minval=0, maxval=200, default=10, clamped=True)
    unsure = props.Real(minval=0, maxval=200, default=50, clamped=True)
    markFailed = props.Boolean(default=True)
    markUnlike = props.Boolean(default=True)
    data = props.Boolean(default=True)
    fit = props.Boolean(default=True)
    baseline = props.Boolean(default=True)
    residual = props.Boolean(default=True)
    contribution = props.Boolean(default=True)
    band = props.Boolean(default=True)
    autoScale = props.Boolean(default=True)


def show(frame, results: Results, t1: str | Path | None = None, data: str | Path | None = None) -> Scene:
    """Show results in a window of FSLeyes, in the place of those that were shown before.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    # The MRS view asks for controls that FSLeyes hides until a layout of ours is loaded.
    plugins.showThirdPartyPlugin(__package__)
    old = scene_of(frame)
    scene = Scene(frame, results, t1, data)
    if old is not None:
        old.close()
    scene.open()
    _scenes[frame] = scene
    for panel in panels(frame):
        panel.sceneChanged()
    return scene


def panels(frame) -> list:
    """Our panels in a window."""
    from .panel import ResultsPanel, TablePanel

    found = [
        view.getPanel(kind)
        for view in frame.viewPanels
        for kind in (ResultsPanel, TablePanel)
        if view.isPanelOpen(kind)
    ]
    return [panel for panel in found if panel is not None]


class Scene:
    """See the module.  Making one reads what it needs; :meth:`open` puts it on the screen, :meth:`close` takes it
    away."""

    def __init__(self, frame, results: Results, t1=None, data=None):
        self.frame, self.results = frame, results
        self.settings = Settings()
        self.name = f"mrs_dl_scene_{id(self)}"
        self.alive = True
        self.t1 = None if t1 is None else _image(t1, "T1")
        self.curves: dict[str, Image] = self._read_curves(data)
        self.voxel: tuple[int, int, int] | None = None
        self.before = 0  # voxels in front of the first
        self.shown: maps.Picture | None = None
        self.map = self.certainty = self.marks = self.outline = None
        self._quiet = False

    # -- overlays ------------------------------------------------------------------------------------------------------

    def _read_curves(self, data) -> dict[str, Image]:
        """Images of the spectra; what of data and residual has no file is worked out."""
        found = {}
        for what in ("fit", "baseline", "residual"):
            path = self.results.spectrum(what)
            if path is not None:
                found[what] = _image(path, what)
                if not is_nifti_mrs(found[what]):
                    raise DataError(f"{path}: is no NIfTI-MRS file; make the results again.")
        fit = found.get("fit")
        source = data if data is not None else self.results.linked_data
        if source is not None:
            measured = _image(source, "data")
            if not is_nifti_mrs(measured):
                raise DataError(f"{source}: is no NIfTI-MRS file.")
            if fit is None:
                found["data"] = measured
            elif measured.shape[:4] != fit.shape[:4]:
                if data is not None:
                    raise DataError(
                        f"{source}: has {measured.shape[:4]} voxels and points, the fit {fit.shape[:4]}; give the data"
                        " that were fitted."
                    )
            elif measured.ndim > fit.ndim:
                found["data"] = _like(fit, np.asarray(measured[:]).reshape(*fit.shape[:4], -1).mean(-1), "data")
            else:
                found["data"] = measured
        elif fit is not None and "residual" in found and found["residual"].shape == fit.shape:
            found["data"] = _like(fit, np.asarray(fit[:]) + np.asarray(found["residual"][:]), "data")
        if "residual" not in found and fit is not None and "data" in found and found["data"].shape == fit.shape:
            found["residual"] = _like(fit, np.asarray(found["data"][:]) - np.asarray(fit[:]), "residual")
        return {what: found[what] for what in CURVES if what in found}

    def open(self) -> None:
        """Put everything on the screen."""
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
            self.before = 1
            self.outline = _padded_image(np.ones(results.shape, np.uint8), results.affine, "voxel")
            overlays.append(self.outline)
        self.overlays = [*overlays, *self.curves.values()]
        frame.overlayList.extend(self.overlays)
        context = self.ortho.displayCtx
        for overlay in self.curves.values():
            context.getDisplay(overlay).enabled = False
        self._dress_ortho()
        self._dress_mrs()
        self._listen()
        if results.kind == "MRSI":
            self.update_map()
        self.go_to(maps.good_voxel(results))
        # FSLeyes keeps the section that was in sight before, which may have nothing in it.
        self.ortho.resetDisplay()
        wx.CallAfter(self._reset)

    def _reset(self) -> None:
        if self.alive and not self.ortho.destroyed:
            self.ortho.resetDisplay()

    def close(self) -> None:
        """Take everything away again."""
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
        # The map first: it must not be drawn once the image that fades it is gone.
        for overlay in sorted(self.overlays, key=lambda image: image is not self.map):
            if overlay in overlays:
                overlays.remove(overlay)

    def _make_maps(self) -> None:
        empty, affine = np.zeros(self.results.shape, np.float32), self.results.affine
        self.before = 0
        self.certainty = _padded_image(empty, affine, "certainty (minus relative SD, %)")
        self.map = MemoryImage(empty.copy(), name="map", xform=affine)
        self.marks = MemoryImage(empty.astype(np.int16), name="marked voxels", xform=affine)

    def _dress_ortho(self) -> None:
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
            low, high = maps.robust_range(np.asarray(self.t1[:]).ravel()[::7], 0.0)
            opts.displayRange = [low, 1.1 * high]
        if self.map is not None:
            context.getDisplay(self.certainty).enabled = False
            opts = self.map_opts
            opts.interpolation = "none"
            opts.linkLowRanges = False
            opts.modulateImage = self.certainty
            self._dress_marks()
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

    def _dress_marks(self) -> None:
        if not colourmaps.isLookupTableRegistered(LUT_KEY):
            table = colourmaps.LookupTable(LUT_KEY, "Marks of FSL-MRS-DL")
            for value, (text, colour) in maps.MARKS.items():
                table.insert(value, name=text, colour=colour, enabled=True)
            colourmaps.registerLookupTable(table, self.frame.overlayList, self.ortho.displayCtx)
        display = self.ortho.displayCtx.getDisplay(self.marks)
        display.overlayType = "label"
        opts = self.ortho.displayCtx.getOpts(self.marks)
        opts.lut = LUT_KEY
        opts.outline, opts.outlineWidth = True, 2

    def _dress_mrs(self) -> None:
        view, context = self.mrs, self.mrs.displayCtx
        for overlay in self.overlays:
            context.getDisplay(overlay).enabled = overlay in self.curves.values()
        for what, overlay in self.curves.items():
            context.getDisplay(overlay).name = what
            series = view.getDataSeries(overlay)
            if series is not None:
                series.colour = spectra.COLOURS[what]
                series.lineWidth = {"fit": 2, "data": 1}.get(what, 1)
                series.alpha = 1.0
        if "fit" in self.curves:
            context.selectOverlay(self.curves["fit"])
        canvas = view.canvas
        canvas.legend = False
        canvas.xlabel = canvas.ylabel = None  # they would lie over the numbers; the legend has them
        canvas.yAutoScale = False
        band, contribution = Band(self), Contribution(self)
        self.artists = [band, contribution, SpectrumLegend(self, band, contribution)]
        canvas.artists.extend(self.artists)

    # -- what is where -------------------------------------------------------------------------------------------------

    @property
    def map_opts(self):
        """FSLeyes's display options of the map: colour map, ranges, fading."""
        return self.ortho.displayCtx.getOpts(self.map)

    def series(self, what: str):
        """The series of a curve in the MRS view; None where there is none."""
        overlay = self.curves.get(what)
        return None if overlay is None else self.mrs.getDataSeries(overlay)

    def all_series(self) -> list[tuple[str, object]]:
        """Names and series of all curves."""
        return [(what, self.series(what)) for what in self.curves]

    def drawn_lines(self) -> list[tuple[object, object]]:
        """Series that are drawn and their lines."""
        canvas = self.mrs.canvas
        return [(series, canvas.getArtist(series)) for series, _, _ in canvas.getDrawnDataSeries()]

    def contribution(self) -> np.ndarray | None:
        """The chosen metabolite's FID in the voxel, as the fit's file stores FIDs; None where that is not known."""
        evaluator = self.results.evaluator
        if evaluator is None or self.voxel is None:
            return None
        try:
            return evaluator.contribution(self.voxel, self.settings.metab)
        except DataError:
            # A sum that the tables have and the model has not.
            return None

    def table(self) -> Voxel:
        """The table of the cursor's voxel."""
        return self.results.at(self.voxel)

    def go_to(self, voxel: tuple[int, int, int]) -> None:
        """Put the cursor into a voxel."""
        overlay = self._anchor
        opts = self.ortho.displayCtx.getOpts(overlay)
        place = np.asarray(voxel, float) + self.before
        self.ortho.displayCtx.location.xyz = opts.transformCoords(place, "voxel", "display")
        self._moved()

    # -- changes -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self.frame.overlayList.addListener("overlays", self.name, self._removed)
        self.ortho.displayCtx.addListener("location", self.name, self._moved)
        settings = self.settings
        for name in ("metab", "quantity", "threshold", "fade", "sure", "unsure"):
            settings.addListener(name, self.name, self._chosen)
        settings.addListener("criterion", self.name, self._criterion)
        for name in ("markFailed", "markUnlike"):
            settings.addListener(name, self.name, self.update_marks)
        for name in CURVES:
            settings.addListener(name, self.name, self._curves)
        for name in ("contribution", "band"):
            settings.addListener(name, self.name, self.redraw)
        settings.addListener("autoScale", self.name, self._scale)

    @property
    def _anchor(self) -> Image:
        """The image on the grid of the voxels that is always there."""
        return self.map if self.map is not None else self.outline

    def _removed(self, *_) -> None:
        """Somebody removed overlays: without the map, or the outline, there is nothing left to control."""
        if self.alive and any(
            image not in self.frame.overlayList for image in self.overlays if image not in self.curves.values()
        ):
            self.close()
            for panel in panels(self.frame):
                panel.sceneChanged()

    def _moved(self, *_) -> None:
        overlay = self._anchor
        if not self.alive or overlay not in self.frame.overlayList:
            return
        found = self.ortho.displayCtx.getOpts(overlay).getVoxel()
        voxel = None if found is None else tuple(int(n) for n in np.asarray(found) - self.before)
        if voxel is not None and any(not 0 <= index < size for index, size in zip(voxel, self.results.shape)):
            voxel = None
        if voxel == self.voxel:
            return
        self.voxel = voxel
        self._scale()
        for panel in panels(self.frame):
            panel.voxelChanged()

    def _scale(self, *_) -> None:
        """The vertical range of the plot from what is drawn within the metabolites' window."""
        if not self.settings.autoScale or self.voxel is None or not self.curves:
            return
        shown = [image for what, image in self.curves.items() if getattr(self.settings, what)]
        fids = [spectra.read_fid(image, self.voxel) for image in shown]
        if not fids:
            return
        about = next(iter(self.curves.values())).nifti_mrs.axes
        axis = spectra.Axis(about.dwelltime, about.SpectrometerFrequency, about.ResonantNucleus, len(fids[0]))
        found = spectra.limits(axis, [spectra.displayed(fid) for fid in fids if fid is not None])
        if found is not None:
            self.mrs.canvas.limits.y = found
            self.mrs.canvas.asyncDraw()

    def _chosen(self, *_) -> None:
        if not self._quiet:
            self.update_map()

    def _criterion(self, *_) -> None:
        """Another criterion has another scale: begin with a sensible threshold."""
        settings = self.settings
        if settings.criterion == "percent":
            start = 20.0
        elif settings.criterion == "sd":
            sd = self.results.sd(settings.quantity, settings.metab)
            known = np.zeros(0) if sd is None else sd[np.isfinite(sd)]
            start = float(f"{np.percentile(known, 90):.2g}") if known.size else 0.0
        else:
            start = settings.threshold
        self._quiet = True
        settings.threshold = start
        self._quiet = False
        self.update_map()

    def _curves(self, *_) -> None:
        for what, overlay in self.curves.items():
            self.mrs.displayCtx.getDisplay(overlay).enabled = getattr(self.settings, what)
        self._scale()
        self.redraw()

    def redraw(self, *_) -> None:
        """Draw the plot again."""
        if self.alive and not self.mrs.destroyed:
            self.mrs.canvas.asyncDraw()

    def update_map(self) -> None:
        """Show the chosen map as the settings say."""
        settings, results = self.settings, self.results
        new = maps.picture(results, settings.quantity, settings.metab, settings.criterion, settings.threshold)
        other = self.shown is None or new.title != self.shown.title
        self.shown = new
        # Negative, since FSLeyes fades its colour bar as if the fading went by the map's own values: those are above
        # zero, so the bar stays whole.
        self.certainty[:] = maps.padded(-new.percent, results.affine, -maps.PERCENT_CAP)[0]
        self.map[:] = new.drawn
        opts = self.map_opts
        if other:
            self.ortho.displayCtx.getDisplay(self.map).name = new.title
            opts.cmap = new.cmap
            opts.displayRange = list(new.range)
        opts.clippingRange = list(new.whole_range)
        opts.modulateRange = [-max(settings.unsure, settings.sure + 0.1), -settings.sure]
        opts.modulateAlpha = bool(settings.fade and new.fades)
        self.update_marks()
        self.redraw()
        for panel in panels(self.frame):
            panel.mapChanged()

    def update_marks(self, *_) -> None:
        """Outline the voxels that the settings say."""
        found = maps.marks(self.results, self.settings.markFailed, self.settings.markUnlike)
        self.marks[:] = found

    def robust(self) -> None:
        """Colours from the map's own robust range again."""
        if self.shown is not None:
            self.map_opts.displayRange = list(self.shown.range)


def _padded_image(values: np.ndarray, affine: np.ndarray, name: str) -> MemoryImage:
    grid, moved = maps.padded(values, affine)
    return MemoryImage(grid, name=name, xform=moved)


def _view(frame, kind):
    found = frame.getView(kind)
    return found[0] if found else frame.addViewPanel(kind)


def _image(path, what: str) -> Image:
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file ({what}).")
    try:
        return Image(str(path))
    except FslMrsDlError:
        raise
    except Exception as exc:  # the readers of FSLeyes raise a score of kinds
        raise DataError(f"{path}: cannot be read as {what} ({' '.join(str(exc).split())}).") from exc


def _like(fit: Image, fids: np.ndarray, name: str) -> Image:
    """FIDs as an image in memory with the header of another, its NIfTI-MRS extension included."""
    nifti = nibabel.Nifti2Image(fids.astype(np.complex64), fit.voxToWorldMat, header=fit.header)
    image = MemoryImage(nifti, name=name)
    if not is_nifti_mrs(image):
        image.nifti_mrs = fit.nifti_mrs
    return image
