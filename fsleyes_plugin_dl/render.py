"""``fsl_mrs_dl render``: the viewer's picture as a file, drawn without a screen by FSLeyes, or by matplotlib where
FSLeyes cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from fsl_mrs_dl.core.errors import DataError, OptionError, OutputError

from . import map_display
from .results_folder import Results
from .view import existing_file, missing_software

__all__ = ["Look", "colour_map", "render"]

# Colour maps of FSLeyes for matplotlib: their first and last colour.
_CMAPS = {
    "red-yellow": ["#ff0000", "#ffff00"],
    "red": ["#640000", "#ff0000"],
    "blue": ["#000064", "#0000ff"],
    "greyscale": ["#000000", "#ffffff"],
}
_VOXEL_COLOUR = (1.0, 0.85, 0.0)
_SIZE = (1500, 560)


@dataclass(frozen=True)
class Look:
    """Contents and style of a picture.

    Attributes
    ----------
    metab : str
    quantity : str or None
        Key of the quantity; None for a single voxel.
    voxel : (int, int, int)
        Voxel that the slices go through.
    max_crlb : float or None
        CRLB in percent above which voxels are hidden; None hides none.
    fade : bool
        Whether uncertain voxels fade.
    sure, unsure : float
        Relative SDs in percent up to which voxels are opaque, and from which on they are invisible.
    """

    metab: str
    quantity: str | None
    voxel: tuple[int, int, int]
    max_crlb: float | None = None
    fade: bool = True
    sure: float = 10.0
    unsure: float = 50.0


def render(
    folder: str | Path,
    out: str | Path,
    *,
    t1: str | Path | None = None,
    metab: str | None = None,
    quantity: str | None = None,
    voxel: tuple[int, int, int] | None = None,
    max_crlb: float | None = None,
    fade: bool = True,
    renderer: str = "auto",
) -> str:
    """Draw results into a PNG file and return a text on the program that drew it.

    Parameters
    ----------
    folder, out, t1 : path
    metab, quantity : str
        By default NAA and the concentration.
    voxel : (int, int, int)
        Voxel of the results that the slices go through; by default a good one near the middle.
    max_crlb : float
        CRLB in percent; voxels above it are not shown.
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
    t1, out = existing_file(t1, "t1"), Path(out)
    if out.suffix.lower() != ".png":
        raise OptionError("pictures are PNG files", option="out", value=out, remedy="end the name with .png")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"the folder {out.parent} does not exist", option="out", value=out, remedy="make it first")
    look = _look(results, metab, quantity, voxel, max_crlb, fade)
    if results.kind == "SVS" and t1 is None:
        raise OptionError(
            "a single voxel is drawn on a structural image",
            option="t1",
            remedy="give one; the fit itself is drawn in fit_summary.png of its folder",
        )
    if t1 is not None:
        _read_structural(t1)  # both renderers refuse an image that cannot be drawn
    reason = missing_software()
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / "picture.png"
        if renderer != "matplotlib" and reason is None:
            reason = _by_fsleyes(results, look, t1, Path(scratch), drawn)
        if renderer == "fsleyes" and reason:
            raise OptionError(
                reason, option="renderer", value="fsleyes", remedy="`renderer` matplotlib needs no further software"
            )
        by_fsleyes = renderer != "matplotlib" and reason is None
        if not by_fsleyes:
            _by_matplotlib(results, look, t1, drawn)
        try:
            out.write_bytes(drawn.read_bytes())
        except OSError as exc:
            raise OutputError(f"cannot be written ({exc.strerror})", option="out", value=out) from exc
    hidden = _hidden_text(results, look)
    if by_fsleyes:
        return "drawn by FSLeyes" + hidden
    return "drawn by matplotlib" + (f"; {reason}" if renderer != "matplotlib" else "") + hidden


def _hidden_text(results: Results, look: Look) -> str:
    """Return a remark where no voxel of the map can be seen."""
    picture = _picture(results, look)
    if picture is None or map_display.visible(picture, look.fade, look.sure, look.unsure).any():
        return ""
    percent = results.crlb_percent(look.metab)
    known = np.array([]) if percent is None else percent[results.fitted & np.isfinite(percent)]
    lowest = f": the lowest relative SD of {look.metab} is {known.min():.0f} %" if known.size else ""
    return f"; no voxel can be seen{lowest}"


def _look(results: Results, metab, quantity, voxel, max_crlb, fade) -> Look:
    """Return the look with defaults for everything that is None.

    Raises
    ------
    OptionError
        If the results do not have it.
    """
    metab = results.default_metab if metab is None else results.check_metab(metab)
    if quantity is not None:
        results.check_quantity(quantity)
    elif results.kind == "MRSI":
        quantity = results.default_quantity
    if results.kind == "MRSI" and results.map(quantity, metab) is None:
        names = [name for name in results.metabs if results.path(quantity, name)]
        raise OptionError(
            f"has no map of {quantity}", option="metab", value=metab, remedy=f"choose one of {', '.join(names)}"
        )
    if voxel is None:
        voxel = map_display.good_voxel(results, metab)
    elif any(not 0 <= index < size for index, size in zip(voxel, results.shape)):
        raise OptionError(
            f"is outside of the grid of {' x '.join(map(str, results.shape))} voxels",
            option="slice",
            value=" ".join(map(str, voxel)),
            remedy="counting starts at 0",
        )
    if max_crlb is not None and max_crlb <= 0:
        raise OptionError("give a percentage above 0", option="max_crlb", value=f"{max_crlb:g}")
    return Look(metab, quantity, tuple(voxel), max_crlb, fade)


def _picture(results: Results, look: Look) -> map_display.Picture | None:
    if results.kind == "SVS":
        return None
    threshold = ("off", 0.0) if look.max_crlb is None else ("percent", look.max_crlb)
    return map_display.picture(results, look.quantity, look.metab, *threshold)


def caption(
    results: Results, look: Look, picture: map_display.Picture | None
) -> list[tuple[str, tuple[float, float, float]]]:
    """Return the texts below a picture with their colours."""
    grey = (0.85, 0.85, 0.85)
    if picture is None:
        return [("the voxel of the spectrum", _VOXEL_COLOUR)]
    texts = []
    if look.fade and picture.fades:
        texts.append((f"opaque up to {look.sure:g} % relative SD, invisible from {look.unsure:g} %", grey))
    if look.max_crlb is not None:
        texts.append((f"hidden above {look.max_crlb:g} % {'SD' if results.in_vivo else 'CRLB'}", grey))
    codes = map_display.marks(results)
    for key, (meaning, colour) in map_display.MARKS.items():
        if (codes == key).any():
            texts.append((f"outlined: {meaning}", colour))
    return texts


def _world(results: Results, voxel) -> np.ndarray:
    return results.affine[:3, :3] @ np.asarray(voxel, float) + results.affine[:3, 3]


# -- by FSLeyes --------------------------------------------------------------------------------------------------------


def _by_fsleyes(results: Results, look: Look, t1: Path | None, scratch: Path, out: Path) -> str | None:
    """Draw with FSLeyes off the screen; return None on success, else the reason of the failure."""
    picture = _picture(results, look)
    drawn = scratch / "fsleyes.png"
    words = [
        sys.executable,
        "-m",
        "fsleyes.render",
        "--outfile",
        str(drawn),
        "--size",
        str(_SIZE[0]),
        str(_SIZE[1] - 40),
    ]
    words += ["--hideCursor", "--layout", "horizontal", "--labelSize", "11", "--performance", "3"]
    words += ["--worldLoc", *(f"{mm:.3f}" for mm in _world(results, look.voxel))]
    layers = _fsleyes_maps(results, look, picture, scratch) if picture is not None else _fsleyes_voxel(results, scratch)
    words += ["--displaySpace", "world" if t1 else layers[0]]
    if picture is not None:
        # The bar belongs to the selected overlay; overlays are counted from the bottom.
        words += [
            "--selectedOverlay",
            str(int(t1 is not None)),
            "--showColourBar",
            "--colourBarLocation",
            "bottom",
            "--colourBarLabelSide",
            "top-left",
        ]
    if t1:
        low, high = _brightness(np.asarray(_read_structural(t1).dataobj))
        words += [str(t1), "--name", "T1", "--interpolation", "linear", "--displayRange", f"{low:g}", f"{high:g}"]
    environment = {
        **os.environ,
        "PYOPENGL_PLATFORM": "osmesa",
        "HOME": str(scratch),
        "XDG_CONFIG_HOME": str(scratch),
        "MPLBACKEND": "Agg",
    }
    try:
        done = subprocess.run([*words, *layers], env=environment, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"FSLeyes did not draw ({type(exc).__name__})"
    if done.returncode or not drawn.is_file():
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        return (
            "FSLeyes cannot draw without a screen here"
            f" ({lines[-1].strip()[:160] if lines else f'status {done.returncode}'})"
        )
    _write_with_caption(drawn, out, caption(results, look, picture))
    return None


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


def _fsleyes_maps(results: Results, look: Look, picture: map_display.Picture, scratch: Path) -> list[str]:
    """Return the arguments that show a map; first the file of its image."""
    shown = _save(scratch / "map.nii.gz", picture.drawn, results.affine)
    certainty = _save(
        scratch / "certainty.nii.gz", *map_display.padded(-picture.percent, results.affine, -map_display.PERCENT_CAP)
    )
    words = [
        shown,
        "--name",
        picture.title,
        "--cmap",
        picture.cmap,
        "--displayRange",
        *(f"{end:g}" for end in picture.range),
    ]
    words += [
        "--interpolation",
        "none",
        "--unlinkLowRanges",
        "--clippingRange",
        *(f"{end:g}" for end in picture.whole_range),
    ]
    if look.fade and picture.fades:
        words += [
            "--modulateImage",
            certainty,
            "--modulateAlpha",
            "--modulateRange",
            f"{-look.unsure:g}",
            f"{-look.sure:g}",
        ]
    codes = map_display.marks(results)
    if codes.any():
        table = scratch / "marks.lut"
        lines = [f"{key} {r} {g} {b} {text.split(' (')[0]}\n" for key, (text, (r, g, b)) in map_display.MARKS.items()]
        table.write_text("".join(lines), encoding="utf-8")
        words += [
            _save(scratch / "marks.nii.gz", codes, results.affine),
            "--overlayType",
            "label",
            "--lut",
            str(table),
            "--outline",
            "--outlineWidth",
            "2",
        ]
    return [*words, certainty, "--disabled"]


def _fsleyes_voxel(results: Results, scratch: Path) -> list[str]:
    """Return the arguments that show the outline of a single voxel; first the file of its image."""
    grid, affine = map_display.padded(np.ones(results.shape, np.uint8), results.affine)
    shown = _save(scratch / "voxel.nii.gz", grid, affine)
    return [
        shown,
        "--overlayType",
        "mask",
        "--maskColour",
        *map(str, _VOXEL_COLOUR),
        "--outline",
        "--outlineWidth",
        "3",
        "--interpolation",
        "none",
    ]


def _write_with_caption(picture: Path, out: Path, texts) -> None:
    """Write a picture with a line of text below it."""
    from matplotlib.image import imread

    pixels = imread(picture)
    height, width = pixels.shape[:2]
    figure = _figure(width, height + 40)
    axes = figure.add_axes([0, 40 / (height + 40), 1, height / (height + 40)])
    axes.imshow(pixels, interpolation="none", aspect="auto")
    axes.axis("off")
    _write_caption(figure, texts)
    figure.savefig(out, dpi=100, facecolor="black")


def _figure(width: int, height: int):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    return figure


def _write_caption(figure, texts) -> None:
    height = figure.get_figheight() * 100
    x = 0.01
    for text, colour in texts:
        drawn = figure.text(x, 14 / height, text, color=colour, fontsize=9.5)
        x = drawn.get_window_extent().x1 / (figure.get_figwidth() * 100) + 0.02


# -- by matplotlib -----------------------------------------------------------------------------------------------------


def _read_structural(path: Path):
    try:
        image = nibabel.squeeze_image(nibabel.load(path))
    except (OSError, nibabel.filebasedimages.ImageFileError) as exc:
        raise DataError(f"cannot be read ({' '.join(str(exc).split())})", option="t1", value=path) from exc
    if image.ndim != 3:
        size = " x ".join(map(str, image.shape))
        raise DataError(
            f"has {size} voxels", option="t1", value=path, remedy="give one structural volume, in three dimensions"
        )
    return image


def _brightness(values: np.ndarray) -> tuple[float, float]:
    """Return the values of a structural image that are drawn black and white, from a part of its voxels."""
    low, high = map_display.robust_range(values.ravel()[:: max(values.size // 200_000, 1)], 0.0)
    return low, 1.1 * high


def _sampled(values: np.ndarray, affine: np.ndarray, mm: np.ndarray, outside: float = np.nan) -> np.ndarray:
    """Return the nearest voxels of an image at positions in mm ``(..., 3)``."""
    inverse = np.linalg.inv(affine)
    index = np.rint(mm @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < values.shape)).all(-1)
    index = np.where(inside[..., None], index, 0)
    return np.where(inside, values[tuple(np.moveaxis(index, -1, 0))], outside)


def _planes(centre: np.ndarray, low: np.ndarray, high: np.ndarray, step: float):
    """Yield coronal, sagittal and axial planes through a point in the order of FSLeyes: positions in mm
    ``(rows, columns, 3)``, extent, letters."""
    for fixed, across, up in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        a, b = np.arange(low[across], high[across] + step, step), np.arange(low[up], high[up] + step, step)
        mm = np.empty((len(b), len(a), 3))
        mm[..., fixed], mm[..., across], mm[..., up] = centre[fixed], a[None], b[:, None]
        letters = ("RL", "AP", "SI")
        left, right = ("P", "A") if across == 1 else ("L", "R")
        yield (
            mm,
            (a[0], a[-1], b[0], b[-1]),
            (left, right, letters[up][0] if up != 1 else "A", letters[up][1] if up != 1 else "P"),
        )


def _box(image_shape, affine) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest position of a grid in mm, both ``(3,)``."""
    corners = np.array(
        [
            [x, y, z]
            for x in (-0.5, image_shape[0] - 0.5)
            for y in (-0.5, image_shape[1] - 0.5)
            for z in (-0.5, image_shape[2] - 0.5)
        ]
    )
    mm = corners @ affine[:3, :3].T + affine[:3, 3]
    return mm.min(0), mm.max(0)


def colour_map(name: str):
    """Return the colour map of FSLeyes with a name, for matplotlib."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(name, _CMAPS[name]) if name in _CMAPS else colormaps[name]


def _by_matplotlib(results: Results, look: Look, t1: Path | None, out: Path) -> None:
    picture = _picture(results, look)
    background = None if t1 is None else _read_structural(t1)
    shape, affine = (results.shape, results.affine) if background is None else (background.shape[:3], background.affine)
    values, brightness = None, (0.0, 1.0)
    if background is not None:
        values = np.asarray(background.dataobj, float).reshape(*shape, -1)[..., 0]
        brightness = _brightness(values)
    low, high = _box(shape, affine)
    figure = _figure(*_SIZE)
    bottom = 0.22 if picture is not None else 0.1
    step = max(float((high - low).max()) / 300, 0.2)
    for number, (mm, extent, letters) in enumerate(_planes(_world(results, look.voxel), low, high, step)):
        axes = figure.add_axes([0.01 + number * 0.33, bottom, 0.32, 0.97 - bottom])
        axes.set_facecolor("black")
        style = {"origin": "lower", "extent": extent, "interpolation": "none"}
        grey = np.zeros(mm.shape[:2]) if values is None else _sampled(values, affine, mm, 0.0)
        axes.imshow(grey, cmap="gray", vmin=brightness[0], vmax=brightness[1], **style)
        if picture is not None:
            _draw_map(axes, results, look, picture, mm, style)
        else:
            _outline(axes, _sampled(np.ones(results.shape), results.affine, mm, 0.0), extent, _VOXEL_COLOUR, 2.0)
        _draw_letters(axes, extent, letters)
    if picture is not None:
        _draw_colour_bar(figure, picture)
    _write_caption(figure, caption(results, look, picture))
    figure.savefig(out, dpi=100, facecolor="black")


def _draw_map(axes, results: Results, look: Look, picture: map_display.Picture, mm: np.ndarray, style: dict) -> None:
    """Draw the map and its marks at positions ``mm`` of one plane."""
    shown = _sampled(picture.shown.astype(float), results.affine, mm, 0.0)
    percent = _sampled(picture.percent, results.affine, mm, map_display.PERCENT_CAP)
    opacity = shown * (map_display.opacity(percent, look.sure, look.unsure) if look.fade and picture.fades else 1.0)
    values = np.nan_to_num(_sampled(picture.values, results.affine, mm, 0.0))
    low, high = picture.range
    axes.imshow(values, cmap=colour_map(picture.cmap), vmin=low, vmax=high, alpha=opacity, **style)
    codes = map_display.marks(results)
    for key, (_, colour) in map_display.MARKS.items():
        mask = _sampled((codes == key).astype(float), results.affine, mm, 0.0)
        _outline(axes, mask, style["extent"], colour, 1.5)


def _draw_letters(axes, extent, letters) -> None:
    """Write the directions at the edges of a plane, and hide its ticks."""
    left, right, top, bottom = letters
    if extent[0] < extent[1] and left == "L":
        axes.invert_xaxis()  # radiological: the patient's right on the left
        left, right = right, left
    for x, y, letter in ((0.02, 0.5, left), (0.98, 0.5, right), (0.5, 0.97, top), (0.5, 0.03, bottom)):
        axes.text(x, y, letter, transform=axes.transAxes, color="white", ha="center", va="center", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_colour_bar(figure, picture: map_display.Picture) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_axes([0.05, 0.115, 0.9, 0.035])
    colours = ScalarMappable(Normalize(*picture.range), colour_map(picture.cmap))
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal")
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.ax.set_title(picture.title, color="white", fontsize=10, pad=5)


def _outline(axes, mask: np.ndarray, extent, colour, width: float) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width, origin="lower", extent=extent)
