"""Additions to the plot of the MRS view: the contribution of a metabolite, the 95 % band of the fit, and a legend.

They are matplotlib artists that compute their shape at each drawing, since FSLeyes clears the plot and draws it again
whenever the cursor moves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from fsleyes.plotting.powerspectrumseries import phaseCorrection
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import PolyCollection
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from .spectra import COLOURS, Z95, displayed

if TYPE_CHECKING:
    from .scene import Scene

__all__ = ["Band", "Contribution", "SpectrumLegend"]


class _FollowsFit:
    """Mixin of artists that are drawn relative to the line of the fit.  ``scene`` holds the series of the fit and the
    voxel at the cursor."""

    def follow(self, scene: Scene) -> None:
        """Draw the fit of this scene."""
        self.scene = scene
        self._latest: dict[Hashable, Any] = {}

    def cached(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return ``compute()``, from memory where ``key`` is the latest one: the plot is drawn far more often than the
        cursor moves."""
        if key not in self._latest:
            self._latest = {key: compute()}
        return self._latest[key]

    def fit_line(self) -> tuple[Any, np.ndarray, np.ndarray] | None:
        """Return the series of the fit with the x and y values of its line; None where it is not drawn."""
        scene = self.scene
        if not scene.alive or scene.mrs.destroyed or not scene.mrs.plotReal:
            return None
        series = scene.series("fit")
        try:
            line = scene.mrs.canvas.getArtist(series)
        except KeyError:
            return None
        return series, np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)

    def frequencies(self, series: Any, x: np.ndarray) -> np.ndarray | None:
        """Return the offsets in Hz of the drawn points; None where they are unknown."""
        hz = np.asarray(series.axes.frequencyAxis, float)
        return hz if len(hz) == len(x) else None


class Band(PolyCollection, _FollowsFit):
    """The 95 % band: the fit and 1.96 SDs of it on either side."""

    def __init__(self, scene: Scene):
        super().__init__([], facecolors=[(*COLOURS["band"], 0.28)], edgecolors="none", zorder=1.5)
        self.follow(scene)

    def vertices(self) -> np.ndarray | None:
        """Return the outline of the band in the coordinates of the plot, ``(2 n, 2)``; None where there is none."""
        scene = self.scene
        evaluator, voxel = scene.results.evaluator, scene.voxel
        if not scene.alive or not scene.settings.band or evaluator is None or voxel is None:
            return None
        fit = self.fit_line()
        # The band applies to the real spectrum as it was fitted.
        if fit is None or any(
            getattr(fit[0], name) for name in ("zeroOrderPhaseCorrection", "firstOrderPhaseCorrection", "apodizeSeries")
        ):
            return None
        series, x, y = fit
        hz = self.frequencies(series, x)
        band = self.cached(voxel, lambda: evaluator.band(voxel))
        if hz is None or band is None:
            return None
        band_hz, sd = band
        order = np.argsort(hz)
        inside = (hz[order] >= band_hz[0] - 1e-6) & (hz[order] <= band_hz[-1] + 1e-6)
        spread = Z95 * np.interp(hz[order][inside], band_hz, sd) * scene.mrs.canvas.yScale
        x, y = x[order][inside], y[order][inside]
        return np.concatenate([np.c_[x, y - spread], np.c_[x, y + spread][::-1]]) if len(x) else None

    def draw(self, renderer: RendererBase) -> None:
        """Draw the band where there is one."""
        vertices = self.vertices()
        self.set_verts([] if vertices is None else [vertices])
        if vertices is not None:
            super().draw(renderer)


class Contribution(Line2D, _FollowsFit):
    """The contribution of one metabolite to the fit."""

    def __init__(self, scene: Scene):
        super().__init__([], [], color=COLOURS["contribution"], linewidth=1.8, zorder=2.5)
        self.follow(scene)

    def points(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the curve in the coordinates of the plot; None where there is none."""
        scene = self.scene
        if not scene.alive or not scene.settings.contribution or scene.voxel is None:
            return None
        fit = self.fit_line()
        if fit is None:
            return None
        series, x, _ = fit
        hz = self.frequencies(series, x)
        fid = self.cached((scene.voxel, scene.settings.top), scene.contribution)
        if hz is None or fid is None or len(fid) != len(x):
            return None
        spec = displayed(fid)
        if series.zeroOrderPhaseCorrection or series.firstOrderPhaseCorrection:
            spec = phaseCorrection(spec, hz, series.zeroOrderPhaseCorrection, series.firstOrderPhaseCorrection / 1000)
        return x, spec.real * scene.mrs.canvas.yScale + scene.mrs.canvas.yOffset

    def draw(self, renderer: RendererBase) -> None:
        """Draw the curve where there is one."""
        points = self.points()
        if points is None:
            self.set_data([], [])
        else:
            self.set_data(*points)
            super().draw(renderer)


class SpectrumLegend(Artist):
    """A legend of the curves that are drawn, and a title."""

    def __init__(self, scene: Scene, band: Band, contribution: Contribution):
        super().__init__()
        self.scene, self.band, self.contribution = scene, band, contribution
        self.set_zorder(5)

    def entries(self) -> list[tuple[Artist, str]]:
        """Return handles and their texts."""
        scene = self.scene
        if not scene.alive:
            return []
        drawn = dict(scene.drawn_lines())
        entries: list[tuple[Artist, str]] = [
            (drawn[series], name) for name, series in scene.all_series() if series in drawn
        ]
        if self.contribution.points() is not None:
            handle = Line2D([], [], color=COLOURS["contribution"], linewidth=1.8)
            entries.append((handle, f"{scene.settings.top} in the fit"))
        if self.band.vertices() is not None:
            entries.append((Patch(facecolor=(*COLOURS["band"], 0.28)), "95 % band of the fit"))
        return entries

    def title(self) -> str:
        """Return the title of the plot: voxel, quantity and unit."""
        unit = "chemical shift (ppm)" if self.scene.mrs.xAxisMode == "PPM" else "frequency (Hz)"
        voxel = "Voxel"
        if self.scene.results.kind != "SVS":
            voxel += " " + " ".join(str(index) for index in self.scene.voxel or ())
        return f"{voxel}: real part (a.u.), {unit}"

    def draw(self, renderer: RendererBase) -> None:
        """Draw legend and title where there are curves."""
        entries, axes = self.entries(), self.axes
        if not entries or not isinstance(axes, Axes) or not self.get_visible():
            return
        handles, texts = zip(*entries)
        legend = Legend(axes, handles, texts, loc="upper right", fontsize=8)
        legend.get_frame().set_alpha(0.8)
        legend.draw(renderer)
        title = Text(0.01, 0.99, self.title(), transform=axes.transAxes, fontsize=8, va="top")
        title.set_figure(axes.figure)
        title.set_bbox({"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2})
        title.draw(renderer)
