"""Pictures of a fit, in colours safe for the colour-blind (Okabe and Ito)."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core import units
from ..core.errors import DataError
from ..core.metabolites import is_macromolecule
from ..fitting.verdict import DOUBTFUL, GOOD, UNUSABLE, VERDICTS
from ..io import nifti
from ..io.images import image_errors, open_any_image
from .fit_results import FitResults, hardly_determined

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

__all__ = [
    "AMBER",
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "RED",
    "VERDICT_COLOURS",
    "fit_summary",
    "macromolecules_label",
    "sd_labels",
    "verdict_colour",
    "check_structural_image",
    "check_voxel_in_image",
    "voxel_location",
]

BLACK, RED, BLUE, GREY, GREEN, AMBER = "#222222", "#D55E00", "#0072B2", "#888888", "#009E73", "#E69F00"
_NOT_USABLE = "#B2182B"  # beside amber, vermilion is hardly another colour

_SMALLEST_VOXEL = 1e-9  # mm³, of an image with a position
_GIVE_IMAGE = "give a structural image, such as NIfTI, or leave `t1` out"
_TITLE_WIDTH = 115  # characters of a line

VERDICT_COLOURS = {GOOD: (GREEN, "#e8f6f1"), DOUBTFUL: (AMBER, "#fdf4e0"), UNUSABLE: (_NOT_USABLE, "#fbe9eb")}
"""Colour of each verdict, and its tint for backgrounds."""

_LONGEST_VERDICT = 330  # characters, three lines


def verdict_colour(verdicts: np.ndarray) -> tuple[str, str]:
    """Return the colour of estimates, and the word, of the verdict that most spectra ``(n,)`` have."""
    counts = np.bincount(np.asarray(verdicts, int), minlength=len(VERDICTS))
    most = int(counts.argmax())
    return VERDICT_COLOURS[most][0], VERDICTS[most]


def fit_summary(results: FitResults, path: str | Path | None = None, *, title: str = ""):
    """Draw data, model, baseline and residual above, concentrations with error bars below, and the verdict with its
    reasons at the head, in a frame of its colour.

    Error bars are one SD of a single spectrum; with several spectra points and bars are medians of those whose fit is
    usable.

    Parameters
    ----------
    results : FitResults
    path : path, optional
        File to write, PNG, PDF or SVG.
    title : str
        In place of verdict, model and quality of the fit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # In inches: the frame about the title is wider than it.
    figure = Figure(figsize=(9, 8), layout=ConstrainedLayoutEngine(h_pad=0.1))
    FigureCanvasAgg(figure)
    spectrum, bars = figure.subplots(2, 1, height_ratios=(2.6, 1))
    note = _draw_spectrum(spectrum, results)
    lines = (title or f"{_verdict_text(results)}\n{_quality_text(results, note)}").split("\n")
    text = "\n".join(textwrap.fill(line, _TITLE_WIDTH) for line in lines)
    frame = None if title else _frame(results)
    figure.suptitle(text, fontsize=9, x=0.07, ha="left", linespacing=1.35, bbox=frame)
    _draw_concentrations(bars, results)
    for panel in (spectrum, bars):
        panel.spines[["top", "right"]].set_visible(False)
    spectrum.spines["left"].set_visible(False)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def macromolecules_label(names: Sequence[str]) -> str:
    """Return the legend's words for the sum of macromolecules, and of lipids where some were fitted."""
    lipids = any(name.startswith("Lip") for name in names)
    return "macromolecules and lipids" if lipids else "macromolecules"


def sd_labels(results: FitResults, verdict: str = VERDICTS[GOOD]) -> tuple[str, str]:
    """Return the legend's words for estimates that the spectrum determines, and hardly determines."""
    decided, undecided = _sd_words(results)
    return decided if verdict == VERDICTS[GOOD] else f"{decided}; fit {verdict}", undecided


def _sd_words(results: FitResults) -> tuple[str, str]:
    if results.estimate != "network":
        large = "SD" if results.share_of_prior is None else "SD or share of the prior"
        return f"{large} below 50 %".replace("SD or", "SD and"), f"{large} above 50 %: hardly determined"
    assert results.fit.networks is not None
    if len(results.fit.networks) == 1:
        return "estimate of one network, SD unknown", ""
    return "estimate of the networks, spread below 50 %", "estimate of the networks, spread above 50 %"


def _draw_spectrum(panel, results: FitResults) -> str:
    """Draw data, model, baseline and residual of the spectrum, or of the average, and macromolecules below them.

    Returns a note on the average.
    """
    fit, model = results.fit, results.fit.model
    rows = np.flatnonzero(fit.fitted)
    first, last = model.window
    x = model.axes.ppm()[first:last]

    turn = fit.upright(rows)

    def mean_of(spectra: np.ndarray) -> np.ndarray:
        return (spectra * turn).mean(0).real[first:last]

    data = mean_of(units.fid_to_spec(fit.fids[rows]))
    full, baseline = (mean_of(fit.spectra(what, rows)) for what in ("full", "baseline"))
    residual = data - full
    top, bottom = max(data.max(), full.max()), min(data.min(), full.min(), baseline.min())
    gap = 0.06 * (top - bottom)
    panel.plot(x, data, color=BLACK, lw=0.9, label="data")
    panel.plot(x, full, color=RED, lw=1.2, alpha=0.9, label="model")
    panel.plot(x, baseline, color=BLUE, lw=1.2, label="baseline")
    broad = [name for name in fit.names if is_macromolecule(name)]
    if broad:
        # Beside the data, because a sum of broad lines would cross them.
        mm = mean_of(fit.spectra("+".join(broad), rows))
        below = bottom - gap - mm.max()
        panel.axhline(below, color=GREY, lw=0.5)
        panel.plot(x, mm + below, color=GREEN, lw=1.0, label=macromolecules_label(fit.names))
    above = top + gap - min(0, residual.min())
    panel.axhline(above, color=GREY, lw=0.5)
    panel.plot(x, residual + above, color=GREY, lw=0.8, label="residual")
    panel.set_xlim(x.max(), x.min())
    panel.set_yticks([])
    panel.set_xlabel("chemical shift (ppm); turned upright by the fitted phase")
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, frameon=False, ncols=5, fontsize=9)
    return "" if len(fit.params) == 1 else f"average of {len(rows)} fits"


def _verdict_text(results: FitResults) -> str:
    """Return the verdict with its reasons, or how many of several spectra have each."""
    words = results.verdict_words(0) if len(results.fit.params) == 1 else results.verdict_text
    return f"VERDICT: {textwrap.shorten(words, _LONGEST_VERDICT, placeholder=' ...')}"


def _frame(results: FitResults) -> dict:
    """Return the frame of the title: in the colour of the verdict, amber where spectra have different ones."""
    verdicts = set(results.verdict[results.fit.fitted].tolist())
    verdict = verdicts.pop() if len(verdicts) == 1 else DOUBTFUL
    colour, tint = VERDICT_COLOURS[verdict]
    return {"boxstyle": "round,pad=0.5", "facecolor": tint, "edgecolor": colour, "lw": 2}


def _quality_text(results: FitResults, note: str) -> str:
    """Return the model in a line, and noise and convergence in another."""
    fit = results.fit
    notes = [note] if note else []
    notes += [
        f"noise SD {np.nanmedian(fit.noise_outside_sd):.3g}",
        f"residual / noise {np.nanmedian(fit.misfit[results.median_rows]):.2f}",
    ]
    failed = (~fit.converged[fit.fitted]).sum()
    notes += [f"{failed} not converged"] if failed else []
    return f"{fit.model.name} model, baseline {fit.model.baseline}\n" + ", ".join(notes)


def _draw_concentrations(panel, results: FitResults) -> None:
    """Draw the concentrations, or ratios where there is a reference, with error bars."""
    names, value, error, label, undecided = _median_concentrations(results)
    position = np.arange(len(names))
    colour_of_all, word = verdict_colour(results.verdict[results.median_rows])
    for group, colour, text in zip((~undecided, undecided), (colour_of_all, GREY), sd_labels(results, word)):
        if group.any():
            panel.errorbar(
                position[group], value[group], error[group], fmt="o", ms=4, color=colour, capsize=2, lw=1, label=text
            )
    panel.axhline(0, color=GREY, lw=0.5)
    length = np.where(undecided, 0, np.nan_to_num(error))
    limit = 1.15 * max(np.nanmax(value + length), 1e-12)
    panel.set_ylim(min(-0.05 * limit, np.nanmin(np.where(undecided, 0, value - length))), limit)
    panel.set_xticks(position, names, rotation=60, ha="right", fontsize=8)
    panel.set_xlim(-0.7, len(names) - 0.3)
    panel.set_ylabel(f"{label}\nbars: one SD", fontsize=9)
    panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0, frameon=False, fontsize=8)


def _median_concentrations(results: FitResults) -> tuple[list[str], np.ndarray, np.ndarray, str, np.ndarray]:
    """Return names, medians of values and of SDs (NaN where unknown), the label of the axis, and which of the medians
    are hardly determined."""
    fit = results.fit
    conc, sd = results.concentrations
    row = np.flatnonzero(fit.fitted)[0]
    names = [*results.sums, *fit.names]
    # Macromolecules have a scale of their own, which would hide everything else.
    names = [name for name in names if not is_macromolecule(name)] or names
    order = [results.names.index(name) for name in names]
    scale, label = np.ones((len(conc), 1)), "concentration (raw)"
    ratios, reference = results.ratios, results.reference
    if ratios is not None and reference is not None and np.isfinite(reference[row]) and reference[row] > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1 / np.where(reference > 0, reference, np.nan)[:, None]
        label = f"ratio to {results.reference_name}"
        sd = ratios[1] / scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of metabolites without a finite SD
        of_rows = np.ix_(results.median_rows, np.array(order, int))
        value, error = np.nanmedian((conc * scale)[of_rows], 0), np.nanmedian((sd * scale)[of_rows], 0)
        percent = np.nanmedian(results.percent[of_rows], 0)
        share = None if results.share_of_prior is None else np.nanmedian(results.share_of_prior[of_rows], 0)
    if len(conc) > 1:
        label += f"\n{results.median_words}"
    weak = hardly_determined(percent, share)
    return names, value, np.where(np.isfinite(error), error, np.nan), label, weak


def check_structural_image(path: str | Path) -> None:
    """Raise DataError if a structural image cannot be read, or is no volume of one number per voxel; its header alone
    is read."""
    image = _structural_image(Path(path))
    if image.get_data_dtype().kind == "c":
        raise DataError(f"{path}: holds spectra, not an image", remedy=_GIVE_IMAGE)
    shape = image.shape
    if image.get_data_dtype().kind == "V" or len(shape) < 3 or np.prod(shape[3:]) > 1:
        what = "colours" if image.get_data_dtype().kind == "V" else f"{' x '.join(map(str, shape))} values"
        raise DataError(f"{path}: holds {what}, not one volume", remedy=_GIVE_IMAGE)


def check_voxel_in_image(t1: str | Path, data: nifti.MrsData) -> None:
    """Raise DataError if a structural image is none, or does not hold the centre of the voxel, or if the data have no
    position; the image's header alone is read, so that this is known before a fit."""
    check_structural_image(t1)
    if data.affine is None:
        raise DataError(f"{data.name}: has no position, and no place in {t1}", remedy="leave `t1` out")
    image, centre = _structural_image(Path(t1)), _centre(data)
    if abs(np.linalg.det(image.affine[:3, :3])) < _SMALLEST_VOXEL:
        raise DataError(f"{t1}: has no position (its affine is singular)", remedy=_GIVE_IMAGE)
    place = (np.linalg.inv(image.affine) @ [*centre, 1])[:3]
    if (place < 0).any() or (place > np.array(image.shape[:3]) - 1).any():
        at = ", ".join(f"{number:.0f}" for number in centre)
        raise DataError(
            f"{t1}: does not cover the voxel of {data.name}, whose centre is at {at} mm",
            remedy="give the same session's image, or leave `t1` out",
        )


def _centre(data: nifti.MrsData) -> np.ndarray:
    """Return the centre of the voxel, or of all voxels, in mm."""
    assert data.affine is not None
    return (data.affine @ [*(np.array(data.fids.shape[:3]) - 1) / 2, 1])[:3]


def _structural_image(path: Path) -> SpatialImage:
    """Open a structural image."""
    try:
        return open_any_image(path)
    except image_errors() as exc:
        raise DataError(f"{path}: cannot be read as an image ({exc})", remedy=_GIVE_IMAGE) from exc


def voxel_location(t1: str | Path, data: nifti.MrsData, path: str | Path) -> None:
    """Draw the voxel's outline on the structural image in three planes through its centre, into the file ``path``.

    Raises
    ------
    DataError
        If the image cannot be read or does not cover the voxel, or the data have no position.
    """
    import nibabel as nib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.ndimage import map_coordinates

    check_voxel_in_image(t1, data)
    assert data.affine is not None
    try:
        image = nib.as_closest_canonical(_structural_image(Path(t1)))
        volume = np.asarray(image.dataobj, float)
        volume = volume.reshape(volume.shape[:3])
    except image_errors() as exc:
        raise DataError(f"{t1}: cannot be read as an image ({exc})", remedy=_GIVE_IMAGE) from exc
    size, centre = np.array(data.fids.shape[:3]), _centre(data)
    middle = (image.affine @ [*(np.array(volume.shape[:3]) - 1) / 2, 1])[:3]
    half, step = 110, 1.0
    grid = np.arange(-half, half + step, step)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    figure = Figure(figsize=(9, 3.1), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    to_image, to_voxel = np.linalg.inv(image.affine), np.linalg.inv(data.affine)
    bright = np.percentile(volume[volume > 0], 99.5) if (volume > 0).any() else 1
    for panel, (across, up, name) in zip(
        figure.subplots(1, 3), ((1, 2, "sagittal"), (0, 2, "coronal"), (0, 1, "axial"))
    ):
        world = np.tile(centre, (*u.shape, 1))
        world[..., across] = middle[across] + u
        world[..., up] = middle[up] + v
        flat = np.concatenate([world.reshape(-1, 3), np.ones((u.size, 1))], 1).T
        plane = map_coordinates(volume, (to_image @ flat)[:3], order=1).reshape(u.shape)
        voxel = (to_voxel @ flat)[:3]
        inside = ((voxel > -0.5) & (voxel < size[:, None] - 0.5)).all(0).reshape(u.shape)
        panel.imshow(plane.T, origin="lower", cmap="gray", vmin=0, vmax=bright, extent=(-half, half, -half, half))
        panel.contour(grid, grid, inside.T.astype(float), levels=[0.5], colors=RED, linewidths=1.2)
        # Within the panel: a title above it was cut at the edge of the figure.
        panel.text(0.5, 0.98, name, color="white", fontsize=9, ha="center", va="top", transform=panel.transAxes)
        panel.axis("off")
        # World axes run to the right and to the front; radiologists show the right on the left.
        if across == 0:
            panel.invert_xaxis()
            panel.text(0.02, 0.5, "R", color="white", transform=panel.transAxes, fontsize=9)
    figure.savefig(path, dpi=150, facecolor="black")
