"""``fsl_mrs_dl render``: the viewer's picture as a file, drawn without a screen by FSLeyes, or by matplotlib where
FSLeyes cannot."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from fsl_mrs_dl.core.errors import OptionError, OutputError

from . import map_display, render_fsleyes, render_matplotlib
from .grids import Voxel, as_voxel, is_inside
from .look import Look, Structural, picture_of, read_structural
from .render_row import draw_row, is_row
from .results_folder import Results
from .view import existing_file, missing_software

__all__ = ["render"]

_ROW_TEXT = "; voxels in a row are plotted against their number"


def render(
    folder: str | Path,
    out: str | Path,
    *,
    t1: str | Path | None = None,
    metab: str | None = None,
    quantity: str | None = None,
    voxel: Voxel | None = None,
    max_crlb: float | None = None,
    fade: bool = True,
    opacity: float | None = None,
    voxel_grid: bool = False,
    mosaic: bool = False,
    renderer: str = "auto",
) -> str:
    """Draw results into a PNG file and return a text on the program that drew it.

    Voxels in one row are plotted against their number, unless there is a structural image or FSLeyes is asked for.

    Parameters
    ----------
    folder, out, t1 : path
    metab, quantity : str
        By default NAA and the concentration.
    voxel : (int, int, int)
        Voxel of the results that the slices go through; by default a good one near the middle.
    max_crlb : float
        CRLB in percent; voxels above it are not shown.
    opacity : float
        Of the whole map in percent; by default 80 above a structural image, 100 without.
    voxel_grid : bool
        Draw the edges of all voxels.
    mosaic : bool
        Draw every axial slice in place of three planes; matplotlib does.
    renderer : "auto", "fsleyes" or "matplotlib"

    Raises
    ------
    DataError
        If the folder holds no results, or a file is missing or cannot be read.
    OptionError
        If there is no such metabolite, quantity or voxel, FSLeyes is demanded and cannot draw, or a single voxel has
        no structural image to be drawn on.
    OutputError
        If the picture cannot be written.
    """
    results = Results.open(folder)
    path, out = existing_file(t1, "t1"), Path(out)
    _check_output(out, Path(folder))
    metab = results.default_metab if metab is None else results.check_metab(metab)
    quantity, voxel = _quantity(results, metab, quantity), _voxel(results, metab, voxel)
    look = Look(metab, quantity, _percent(max_crlb), fade, opacity=_opacity(opacity, path), voxel_grid=voxel_grid)
    if mosaic:
        _check_mosaic(results, renderer)
        renderer = "matplotlib"
    _check_voxel_has_image(results, path)
    structural = None if path is None else read_structural(path)
    row = is_row(results) and structural is None and renderer != "fsleyes"
    renderer = "matplotlib" if row else renderer
    reason = missing_software()
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / "picture.png"
        if renderer != "matplotlib" and reason is None:
            reason = render_fsleyes.draw(results, look, voxel, structural, Path(scratch), drawn)
        if renderer == "fsleyes" and reason:
            raise OptionError(
                reason, option="renderer", value="fsleyes", remedy="`renderer` matplotlib needs no further software"
            )
        by_fsleyes = renderer != "matplotlib" and reason is None
        if not by_fsleyes:
            _draw_by_matplotlib(results, look, voxel, structural, drawn, mosaic)
        try:
            out.write_bytes(drawn.read_bytes())
        except OSError as exc:
            raise OutputError(f"cannot be written ({exc.strerror})", option="out", value=out) from exc
    told = f"; {reason}" if reason and renderer != "matplotlib" else _ROW_TEXT * row
    return ("drawn by FSLeyes" if by_fsleyes else "drawn by matplotlib") + told + _hidden_text(results, look)


def _draw_by_matplotlib(
    results: Results, look: Look, voxel: Voxel, structural: Structural | None, drawn: Path, mosaic: bool
) -> None:
    """Draw planes, a mosaic of slices, or a plot of voxels in one row, whose planes would be lines."""
    if is_row(results) and structural is None:
        draw_row(results, look, drawn)
    elif mosaic:
        render_matplotlib.draw_mosaic(results, look, structural, drawn)
    else:
        render_matplotlib.draw(results, look, voxel, structural, drawn)


def _check_output(out: Path, folder: Path) -> None:
    """Raise an OptionError, or an OutputError, where no picture can be written, or one may replace a result."""
    if out.suffix.lower() != ".png":
        raise OptionError("pictures are PNG files", option="out", value=out, remedy="end the name with .png")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"the folder {out.parent} does not exist", option="out", value=out, remedy="make it first")
    if out.exists() and folder.resolve() in out.resolve().parents:
        raise OutputError(
            "is there already, among the results", option="out", value=out, remedy="give another name, or remove it"
        )


def _opacity(percent: float | None, t1: Path | None) -> float:
    """Return the opacity of the map, 0 to 1; raise an OptionError where it is none."""
    percent = (100.0 if t1 is None else 80.0) if percent is None else percent
    if not 0 < percent <= 100:
        raise OptionError("give a percentage above 0, and at most 100", option="opacity", value=f"{percent:g}")
    return percent / 100


def _check_voxel_has_image(results: Results, t1: Path | None) -> None:
    """Raise an OptionError where a single voxel has nothing to be drawn on."""
    if results.kind == "SVS" and t1 is None:
        raise OptionError(
            "a single voxel is drawn on a structural image",
            option="t1",
            remedy="give one; the fit itself is drawn in fit_summary.png of its folder",
        )


def _check_mosaic(results: Results, renderer: str) -> None:
    """Raise an OptionError where no mosaic can be drawn."""
    if results.kind == "SVS":
        raise OptionError("a single voxel has no slices", option="mosaic", remedy="leave it out")
    if renderer == "fsleyes":
        raise OptionError(
            "FSLeyes draws no mosaic", option="renderer", value="fsleyes", remedy="matplotlib does; leave it out"
        )


def _hidden_text(results: Results, look: Look) -> str:
    """Return a remark where no voxel of the map can be seen."""
    picture = picture_of(results, look)
    if picture is None or map_display.visible(picture, look.fade, look.sure, look.unsure).any():
        return ""
    percent = results.crlb_percent(look.metab)
    known = np.array([]) if percent is None else percent[results.fitted & np.isfinite(percent)]
    lowest = f": the lowest relative SD of {look.metab} is {known.min():.0f} %" if known.size else ""
    return f"; no voxel can be seen{lowest}"


def _quantity(results: Results, metab: str, quantity: str | None) -> str | None:
    """Return the quantity to draw, by default that of the folder; None for a single voxel.

    Raises
    ------
    OptionError
        If the results do not have it, or not of this metabolite.
    """
    if quantity is not None:
        results.check_quantity(quantity)
    elif results.kind == "MRSI":
        quantity = results.default_quantity
    if quantity is not None and results.map(quantity, metab) is None:
        names = [name for name in results.metabs if results.path(quantity, name)]
        raise OptionError(
            f"has no map of {quantity}", option="metab", value=metab, remedy=f"choose one of {', '.join(names)}"
        )
    return quantity


def _voxel(results: Results, metab: str, voxel: Voxel | None) -> Voxel:
    """Return the voxel of the planes, by default a good one; raise an OptionError where it is outside of the grid."""
    if voxel is None:
        return map_display.good_voxel(results, metab)
    if not is_inside(voxel, results.shape):
        raise OptionError(
            f"is outside of the grid of {' x '.join(map(str, results.shape))} voxels",
            option="slice",
            value=" ".join(map(str, voxel)),
            remedy="counting starts at 0",
        )
    return as_voxel(voxel)


def _percent(max_crlb: float | None) -> float | None:
    """Return the CRLB in percent above which voxels are hidden; raise an OptionError where it is none."""
    if max_crlb is not None and max_crlb <= 0:
        raise OptionError("give a percentage above 0", option="max_crlb", value=f"{max_crlb:g}")
    return max_crlb
