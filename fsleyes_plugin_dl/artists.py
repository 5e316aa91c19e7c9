"""What is added to the plot of the MRS view: a metabolite's contribution, the 95 % band of the fit, and a legend in
plain words.

They are matplotlib artists that work out at each drawing what they look like, since FSLeyes clears the plot and draws
it again whenever the cursor moves.
"""

from __future__ import annotations

import numpy as np
from fsleyes.plotting.powerspectrumseries import phaseCorrection
from matplotlib.artist import Artist
from matplotlib.collections import PolyCollection
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from .spectra import COLOURS, displayed, z95

__all__ = ["Band", "Contribution", "SpectrumLegend"]


class _OfFit:
    """What follows the line of the fit in an MRS view.  ``scene`` says which series is the fit and which voxel the
    cursor is in."""

    def follow(self, scene) -> None:
        self.scene = scene
        self.known: dict = {}

    def cached(self, key, make):
        """What ``make()`` gives; only the latest is kept, since the plot is drawn far more often than the cursor
        moves."""
        if key not in self.known:
            self.known = {key: make()}
        return self.known[key]

    def fit_line(self):
        """The series of the fit and its line as it is drawn; None where there is none."""
        scene = self.scene
        if not scene.alive or not scene.mrs.plotReal:
            return None
        series = scene.series("fit")
        try:
            line = scene.mrs.canvas.getArtist(series)
        except KeyError:
            return None
        return series, np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)

    def axis_of(self, series, x: np.ndarray) -> np.ndarray | None:
        """Offsets in Hz of the drawn points; None where that is not known."""
        hz = np.asarray(series.axes.frequencyAxis, float)
        return hz if len(hz) == len(x) else None


class Band(PolyCollection, _OfFit):
    """The 95 % band: the fit and 1.96 SDs of it on either side."""

    def __init__(self, scene):
        super().__init__([], facecolors=[(*COLOURS["band"], 0.28)], edgecolors="none", zorder=1.5)
        self.follow(scene)

    def vertices(self) -> np.ndarray | None:
        """The band's outline in the plot's coordinates, ``(2 n, 2)``; None where there is none."""
        scene = self.scene
        if not scene.alive or not scene.settings.band or scene.results.evaluator is None or scene.voxel is None:
            return None
        found = self.fit_line()
        # A band is known of the real spectrum as it was fitted.
        if found is None or any(
            getattr(found[0], name)
            for name in ("zeroOrderPhaseCorrection", "firstOrderPhaseCorrection", "apodizeSeries")
        ):
            return None
        series, x, y = found
        hz = self.axis_of(series, x)
        band = self.cached(scene.voxel, lambda: scene.results.evaluator.band(scene.voxel))
        if hz is None or band is None:
            return None
        at, sd = band
        order = np.argsort(hz)
        inside = (hz[order] >= at[0] - 1e-6) & (hz[order] <= at[-1] + 1e-6)
        spread = z95 * np.interp(hz[order][inside], at, sd) * scene.mrs.canvas.yScale
        x, y = x[order][inside], y[order][inside]
        return np.concatenate([np.c_[x, y - spread], np.c_[x, y + spread][::-1]]) if len(x) else None

    def draw(self, renderer):
        found = self.vertices()
        self.set_verts([] if found is None else [found])
        if found is not None:
            super().draw(renderer)


class Contribution(Line2D, _OfFit):
    """One metabolite's part of the fit."""

    def __init__(self, scene):
        super().__init__([], [], color=COLOURS["contribution"], linewidth=1.8, zorder=2.5)
        self.follow(scene)

    def points(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The curve in the plot's coordinates; None where there is none."""
        scene = self.scene
        if not scene.alive or not scene.settings.contribution or scene.voxel is None:
            return None
        found = self.fit_line()
        if found is None:
            return None
        series, x, _ = found
        hz = self.axis_of(series, x)
        fid = self.cached((scene.voxel, scene.settings.metab), scene.contribution)
        if hz is None or fid is None or len(fid) != len(x):
            return None
        spec = displayed(fid)
        if series.zeroOrderPhaseCorrection or series.firstOrderPhaseCorrection:
            spec = phaseCorrection(spec, hz, series.zeroOrderPhaseCorrection, series.firstOrderPhaseCorrection / 1000)
        return x, spec.real * scene.mrs.canvas.yScale + scene.mrs.canvas.yOffset

    def draw(self, renderer):
        found = self.points()
        self.set_data(*(found if found is not None else ([], [])))
        if found is not None:
            super().draw(renderer)


class SpectrumLegend(Artist):
    """A legend of what is drawn now."""

    def __init__(self, scene, band: Band, contribution: Contribution):
        super().__init__()
        self.scene, self.band, self.contribution = scene, band, contribution
        self.set_zorder(5)

    def entries(self) -> list[tuple[object, str]]:
        """Handles and what they stand for."""
        scene = self.scene
        if not scene.alive:
            return []
        drawn = {series: line for series, line in scene.drawn_lines()}
        found = [(drawn[series], what) for what, series in scene.all_series() if series in drawn]
        if self.contribution.points() is not None:
            found.append(
                (Line2D([], [], color=COLOURS["contribution"], linewidth=1.8), f"{scene.settings.metab} in the fit")
            )
        if self.band.vertices() is not None:
            found.append((Patch(facecolor=(*COLOURS["band"], 0.28)), "95 % band of the fit"))
        return found

    def draw(self, renderer):
        entries = self.entries()
        if not entries or not self.get_visible():
            return
        legend = Legend(
            self.axes, [handle for handle, _ in entries], [text for _, text in entries], loc="upper right", fontsize=10
        )
        legend.get_frame().set_alpha(0.8)
        legend.draw(renderer)
        unit = "chemical shift (ppm)" if self.scene.mrs.xAxisMode == "PPM" else "frequency (Hz)"
        voxel = (
            "Voxel"
            if self.scene.results.kind == "SVS"
            else "Voxel " + " ".join(str(index) for index in self.scene.voxel or ())
        )
        title = Text(
            0.01,
            0.99,
            f"{voxel}: real spectrum (a.u.) over {unit}",
            transform=self.axes.transAxes,
            fontsize=10,
            va="top",
        )
        title.set_figure(self.axes.figure)
        title.set_bbox({"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2})
        title.draw(renderer)
