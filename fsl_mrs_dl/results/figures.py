"""Pictures of a fit, for files and for the README.  Colours are safe for the colour-blind (Okabe and Ito)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core import units
from ..core.metabolites import is_macromolecule
from ..io import nifti

if TYPE_CHECKING:
    from .tables import FitResults

__all__ = ["fit_summary", "voxel_location"]

BLACK, RED, BLUE, GREY, GREEN = "#222222", "#D55E00", "#0072B2", "#888888", "#009E73"


def _display_row(results: FitResults) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Data, fit and baseline to draw, whole spectra, and what they are: the only one, or the average of those
    fitted."""
    fit = results.fit
    rows = np.flatnonzero(fit.usable)
    data = units.fid_to_spec(fit.fids[rows]).mean(0)
    full, baseline = fit.spectra("full", rows).mean(0), fit.spectra("baseline", rows).mean(0)
    return data, full, baseline, "" if len(fit.params) == 1 else f"average of {len(rows)} fits"


def fit_summary(results: FitResults, path: str | Path | None = None, *, title: str = ""):
    """Data, model, baseline, residual and every metabolite's part above; concentrations with error bars below.

    Error bars are one Cramer-Rao SD of a single spectrum; with several spectra the points are their median.  Writes
    ``path`` (PNG, PDF, SVG) if given and gives back the matplotlib figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fit, model = results.fit, results.fit.model
    data, full, baseline, note = _display_row(results)
    ppm = units.ppm_axis(model.n_points, model.dwelltime, model.spec_freq_mhz, model.nucleus)
    first, last = model.window
    x, data, full, baseline = ppm[first:last], data[first:last], full[first:last], baseline[first:last]
    residual = (data - full).real
    top = max(data.real.max(), full.real.max())
    height = top - min(data.real.min(), full.real.min(), 0)

    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    spectrum, bars = figure.subplots(2, 1, height_ratios=(2.6, 1))
    spectrum.plot(x, data.real, color=BLACK, lw=0.9, label="data")
    spectrum.plot(x, full.real, color=RED, lw=1.2, alpha=0.9, label="model")
    spectrum.plot(x, baseline.real, color=BLUE, lw=1.2, label="baseline")
    above = top + 0.08 * height - min(0, residual.min())
    spectrum.axhline(above, color=GREY, lw=0.5)
    spectrum.plot(x, residual + above, color=GREY, lw=0.8, label="residual")
    spectrum.set_xlim(x.max(), x.min())
    spectrum.set_yticks([])
    spectrum.set_xlabel("chemical shift (ppm)")
    spectrum.legend(loc="upper left", frameon=False, ncols=4, fontsize=9)
    row = np.flatnonzero(fit.usable)[0]
    notes = [note] if note else []
    notes += [f"noise SD {np.nanmedian(fit.noise_sd):.3g}", f"residual / noise {np.nanmedian(fit.misfit):.2f}"]
    notes += [] if fit.converged[fit.usable].all() else [f"{(~fit.converged[fit.usable]).sum()} not converged"]
    spectrum.set_title(
        title or f"{fit.model.name} model, baseline {model.baseline}; " + ", ".join(notes), fontsize=9, loc="left"
    )

    conc, sd = results.table
    names = [name for name in results.names if name not in fit.names] + list(fit.names)
    # Macromolecules have a unit of their own, which would set the scale for everything else.
    names = [name for name in names if not is_macromolecule(name)] or names
    order = [results.names.index(name) for name in names]
    scale, label = 1.0, "concentration (raw)"
    if results.reference is not None and np.isfinite(results.reference[row]) and results.reference[row] > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1 / np.where(results.reference > 0, results.reference, np.nan)[:, None]
        label = f"ratio to {'+'.join(results.internal_ref)}"
        sd = results.ratios[1] / scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what has no SD anywhere
        value, error = np.nanmedian((conc * scale)[:, order], 0), np.nanmedian((sd * scale)[:, order], 0)
    # What the data do not hold at all has no finite SD and gets no bar.
    error = np.where(np.isfinite(error), error, np.nan)
    position = np.arange(len(names))
    undecided = ~(error <= 0.5 * np.abs(value)) & ~np.isnan(error).all()
    for group, colour, text in zip((~undecided, undecided), (GREEN, GREY), results.decided_words):
        if group.any():
            bars.errorbar(
                position[group], value[group], error[group], fmt="o", ms=4, color=colour, capsize=2, lw=1, label=text
            )
    bars.axhline(0, color=GREY, lw=0.5)
    length = np.where(undecided, 0, np.nan_to_num(error))
    limit = 1.15 * max(np.nanmax(value + length), 1e-12)
    bars.set_ylim(min(-0.05 * limit, np.nanmin(np.where(undecided, 0, value - length))), limit)
    bars.set_xticks(position, names, rotation=60, ha="right", fontsize=8)
    bars.set_xlim(-0.7, len(names) - 0.3)
    bars.set_ylabel(label, fontsize=9)
    bars.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0, frameon=False, fontsize=8)
    for axes in (spectrum, bars):
        axes.spines[["top", "right"]].set_visible(False)
    spectrum.spines["left"].set_visible(False)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def voxel_location(t1: str | Path, data: nifti.MrsData, path: str | Path) -> None:
    """The voxel's outline on the structural image in three planes through its centre, written to ``path``.

    Raises
    ------
    DataError
        If the image cannot be read or does not cover the voxel.
    """
    import nibabel as nib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.ndimage import map_coordinates

    from ..core.errors import DataError

    try:
        image = nib.as_closest_canonical(nib.load(t1))
        volume = np.asarray(image.dataobj, float)
    except (OSError, nib.filebasedimages.ImageFileError) as exc:
        raise DataError(f"{t1}: cannot be read as an image ({exc}); give the structural image as NIfTI.") from exc
    size = np.array(data.fids.shape[:3])
    centre = (data.affine @ [*(size - 1) / 2, 1])[:3]
    middle = (image.affine @ [*(np.array(volume.shape[:3]) - 1) / 2, 1])[:3]
    in_image = (np.linalg.inv(image.affine) @ [*centre, 1])[:3]
    if (in_image < 0).any() or (in_image > np.array(volume.shape[:3]) - 1).any():
        raise DataError(
            f"{t1}: does not cover the voxel (its centre is at {np.round(centre)} mm); give the same session's image."
        )
    half, step = 110, 1.0
    grid = np.arange(-half, half + step, step)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    figure = Figure(figsize=(9, 3.1), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    to_image, to_voxel = np.linalg.inv(image.affine), np.linalg.inv(data.affine)
    bright = np.percentile(volume[volume > 0], 99.5) if (volume > 0).any() else 1
    for axes, (across, up, name) in zip(
        figure.subplots(1, 3), ((1, 2, "sagittal"), (0, 2, "coronal"), (0, 1, "axial"))
    ):
        world = np.tile(centre, (*u.shape, 1))
        world[..., across] = middle[across] + u
        world[..., up] = middle[up] + v
        flat = np.concatenate([world.reshape(-1, 3), np.ones((u.size, 1))], 1).T
        plane = map_coordinates(volume, (to_image @ flat)[:3], order=1).reshape(u.shape)
        voxel = (to_voxel @ flat)[:3]
        inside = ((voxel > -0.5) & (voxel < size[:, None] - 0.5)).all(0).reshape(u.shape)
        axes.imshow(plane.T, origin="lower", cmap="gray", vmin=0, vmax=bright, extent=(-half, half, -half, half))
        axes.contour(grid, grid, inside.T.astype(float), levels=[0.5], colors=RED, linewidths=1.2)
        axes.set_title(name, color="white", fontsize=9)
        axes.axis("off")
        # World axes run to the right and to the front: show the body as radiologists do.
        if across == 0:
            axes.invert_xaxis()
            axes.text(0.02, 0.5, "R", color="white", transform=axes.transAxes, fontsize=9)
    figure.savefig(path, dpi=150, facecolor="black")
