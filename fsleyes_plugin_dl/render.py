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

from . import maps
from .results import Results
from .view import existing, missing

__all__ = ["Look", "render"]

# FSLeyes's colour maps for matplotlib, from the first to the last colour.
_CMAPS = {
    "red-yellow": ["#ff0000", "#ffff00"],
    "red": ["#640000", "#ff0000"],
    "blue": ["#000064", "#0000ff"],
    "greyscale": ["#000000", "#ffffff"],
}
_VOXEL = (1.0, 0.85, 0.0)
_SIZE = (1500, 560)


@dataclass(frozen=True)
class Look:
    """What is drawn and how: the metabolite, the quantity's key, the voxel that the slices go through, CRLB in percent
    above which voxels are hidden (None: nothing is), whether uncertain voxels fade, and the relative SDs in percent
    between which they do."""

    metab: str
    quantity: str | None
    voxel: tuple[int, int, int]
    hide_above: float | None = None
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
    hide_above: float | None = None,
    fade: bool = True,
    renderer: str = "auto",
) -> str:
    """Draw results into a PNG file; what drew it, as words for the user.

    Parameters
    ----------
    folder, out, t1 : path
    metab, quantity : str
        By default NAA and the concentration.
    voxel : (int, int, int)
        Through which the slices go, in the grid of the results; by default a good one near the middle.
    hide_above : float
        CRLB in percent; voxels above it are not shown.
    renderer : "auto", "fsleyes" or "matplotlib"

    Raises
    ------
    DataError
        If the folder holds no results, or a file is missing or cannot be read.
    OptionError
        If there is no such metabolite, quantity or voxel, or FSLeyes was asked for and cannot draw.
    OutputError
        If the picture cannot be written.
    """
    results = Results.open(folder)
    t1, out = existing(t1, "--t1"), Path(out)
    if out.suffix.lower() != ".png":
        raise OptionError(f"--out {out}: pictures are PNG files; end the name with .png.")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"--out {out}: the folder {out.parent} does not exist; make it first.")
    look = _look(results, metab, quantity, voxel, hide_above, fade)
    if t1 is not None:
        _read(t1)  # one that cannot be drawn is refused by either renderer
    reason = missing()
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / "picture.png"
        if renderer != "matplotlib" and reason is None:
            reason = _by_fsleyes(results, look, t1, Path(scratch), drawn)
        if renderer == "fsleyes" and reason:
            raise OptionError(f"--renderer fsleyes: {reason}; --renderer matplotlib needs nothing more.")
        by_fsleyes = renderer != "matplotlib" and reason is None
        if not by_fsleyes:
            _by_matplotlib(results, look, t1, drawn)
        try:
            out.write_bytes(drawn.read_bytes())
        except OSError as exc:
            raise OutputError(f"--out {out}: cannot be written ({exc.strerror}).") from exc
    if by_fsleyes:
        return "drawn by FSLeyes"
    return "drawn by matplotlib" + (f"; {reason}" if renderer != "matplotlib" else "")


def _look(results: Results, metab, quantity, voxel, hide_above, fade) -> Look:
    metab = results.default_metab if metab is None else results.check_metab(metab)
    if quantity is not None:
        results.check_quantity(quantity)
    elif results.kind == "MRSI":
        quantity = results.default_quantity
    if results.kind == "MRSI" and results.map(quantity, metab) is None:
        there = [name for name in results.metabs if results.path(quantity, name)]
        raise OptionError(f"--metab {metab}: has no map of {quantity}; those that have are {', '.join(there)}.")
    if voxel is None:
        voxel = maps.good_voxel(results, metab)
    elif any(not 0 <= index < size for index, size in zip(voxel, results.shape)):
        raise OptionError(
            f"--slice {' '.join(map(str, voxel))}: is outside of the grid of {' x '.join(map(str, results.shape))}"
            " voxels; counting starts at 0."
        )
    if hide_above is not None and hide_above <= 0:
        raise OptionError(f"--max_crlb {hide_above:g}: give a percentage above 0.")
    return Look(metab, quantity, tuple(voxel), hide_above, fade)


def _picture(results: Results, look: Look) -> maps.Picture | None:
    if results.kind == "SVS":
        return None
    how = ("off", 0.0) if look.hide_above is None else ("percent", look.hide_above)
    return maps.picture(results, look.quantity, look.metab, *how)


def caption(results: Results, look: Look, picture: maps.Picture | None) -> list[tuple[str, tuple[float, float, float]]]:
    """What the picture needs to be understood, as texts with their colours."""
    grey = (0.85, 0.85, 0.85)
    if picture is None:
        return [("the voxel of the spectrum", _VOXEL)]
    texts = []
    if look.fade and picture.fades:
        texts.append((f"opaque up to {look.sure:g} % relative SD, invisible from {look.unsure:g} %", grey))
    if look.hide_above is not None:
        texts.append((f"hidden above {look.hide_above:g} % CRLB", grey))
    found = maps.marks(results)
    for key, (meaning, colour) in maps.MARKS.items():
        if (found == key).any():
            texts.append((f"outlined: {meaning}", colour))
    return texts


def _world(results: Results, voxel) -> np.ndarray:
    return results.affine[:3, :3] @ np.asarray(voxel, float) + results.affine[:3, 3]


# -- by FSLeyes --------------------------------------------------------------------------------------------------------


def _by_fsleyes(results: Results, look: Look, t1: Path | None, scratch: Path, out: Path) -> str | None:
    """Draw with FSLeyes off the screen; None when that went well, otherwise why not."""
    picture = _picture(results, look)
    made = scratch / "fsleyes.png"
    words = [
        sys.executable,
        "-m",
        "fsleyes.render",
        "--outfile",
        str(made),
        "--size",
        str(_SIZE[0]),
        str(_SIZE[1] - 40),
    ]
    words += ["--hideCursor", "--layout", "horizontal", "--labelSize", "11", "--performance", "3"]
    words += ["--worldLoc", *(f"{mm:.3f}" for mm in _world(results, look.voxel))]
    layers = _fsleyes_maps(results, look, picture, scratch) if picture is not None else _fsleyes_voxel(results, scratch)
    words += ["--displaySpace", "world" if t1 else layers[0]]
    if picture is not None:
        # The bar is that of the selected overlay: they are counted from the bottom.
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
        values = np.asarray(_read(t1).dataobj)
        low, high = maps.robust_range(values.ravel()[:: max(values.size // 200_000, 1)], 0.0)
        words += [str(t1), "--name", "T1", "--interpolation", "linear", "--displayRange", f"{low:g}", f"{1.1 * high:g}"]
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
    if done.returncode or not made.is_file():
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        return (
            "FSLeyes cannot draw without a screen here"
            f" ({lines[-1].strip()[:160] if lines else f'status {done.returncode}'})"
        )
    _with_caption(made, out, caption(results, look, picture))
    return None


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


def _fsleyes_maps(results: Results, look: Look, picture: maps.Picture, scratch: Path) -> list[str]:
    """The words that show a map; the image that it is drawn from first."""

    shown = _save(scratch / "map.nii.gz", picture.drawn, results.affine)
    certainty = _save(scratch / "certainty.nii.gz", *maps.padded(-picture.percent, results.affine, -maps.PERCENT_CAP))
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
    marked = maps.marks(results)
    if marked.any():
        table = scratch / "marks.lut"
        table.write_text(
            "".join(f"{key} {r} {g} {b} {text.split(' (')[0]}\n" for key, (text, (r, g, b)) in maps.MARKS.items())
        )
        words += [
            _save(scratch / "marks.nii.gz", marked, results.affine),
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
    grid, affine = maps.padded(np.ones(results.shape, np.uint8), results.affine)
    shown = _save(scratch / "voxel.nii.gz", grid, affine)
    return [
        shown,
        "--overlayType",
        "mask",
        "--maskColour",
        *map(str, _VOXEL),
        "--outline",
        "--outlineWidth",
        "3",
        "--interpolation",
        "none",
    ]


def _with_caption(picture: Path, out: Path, texts) -> None:
    """A picture with a line of text below it."""
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


def _read(path: Path):
    try:
        image = nibabel.squeeze_image(nibabel.load(path))
    except (OSError, nibabel.filebasedimages.ImageFileError) as exc:
        raise DataError(f"--t1 {path}: cannot be read ({' '.join(str(exc).split())}).") from exc
    if image.ndim != 3:
        size = " x ".join(map(str, image.shape))
        raise DataError(f"--t1 {path}: has {size} voxels; give one structural volume, in three dimensions.")
    return image


def _sampled(values: np.ndarray, affine: np.ndarray, mm: np.ndarray, outside: float = np.nan) -> np.ndarray:
    """Nearest voxels of an image at places in mm ``(..., 3)``."""
    inverse = np.linalg.inv(affine)
    index = np.rint(mm @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < values.shape)).all(-1)
    index = np.where(inside[..., None], index, 0)
    return np.where(inside, values[tuple(np.moveaxis(index, -1, 0))], outside)


def _planes(centre: np.ndarray, low: np.ndarray, high: np.ndarray, step: float):
    """Coronal, sagittal and axial planes through a point in the order of FSLeyes: places ``(rows, columns, 3)``,
    extent, letters."""
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


def _cmap(name: str):
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(name, _CMAPS[name]) if name in _CMAPS else colormaps[name]


def _by_matplotlib(results: Results, look: Look, t1: Path | None, out: Path) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    picture = _picture(results, look)
    background = None if t1 is None else _read(t1)
    shape, affine = (results.shape, results.affine) if background is None else (background.shape[:3], background.affine)
    low, high = _box(shape, affine)
    figure = _figure(*_SIZE)
    bottom = 0.22 if picture is not None else 0.1
    step = max(float((high - low).max()) / 300, 0.2)
    for number, (mm, extent, letters) in enumerate(_planes(_world(results, look.voxel), low, high, step)):
        axes = figure.add_axes([0.01 + number * 0.33, bottom, 0.32, 0.97 - bottom])
        axes.set_facecolor("black")
        kwargs = {"origin": "lower", "extent": extent, "interpolation": "none"}
        if background is not None:
            values = np.asarray(background.dataobj, float)
            values = values.reshape(*shape, -1)[..., 0]
            first, last = maps.robust_range(values.ravel()[:: max(values.size // 200_000, 1)], 0.0)
            axes.imshow(_sampled(values, affine, mm, 0.0), cmap="gray", vmin=first, vmax=1.1 * last, **kwargs)
        else:
            axes.imshow(np.zeros(mm.shape[:2]), cmap="gray", vmin=0, vmax=1, **kwargs)
        if picture is not None:
            shown = _sampled(picture.shown.astype(float), results.affine, mm, 0.0)
            percent = _sampled(picture.percent, results.affine, mm, maps.PERCENT_CAP)
            alpha = shown * (maps.opacity(percent, look.sure, look.unsure) if look.fade and picture.fades else 1.0)
            values = np.nan_to_num(_sampled(picture.values, results.affine, mm, 0.0))
            axes.imshow(
                values, cmap=_cmap(picture.cmap), vmin=picture.range[0], vmax=picture.range[1], alpha=alpha, **kwargs
            )
            marked = maps.marks(results)
            for key, (_, colour) in maps.MARKS.items():
                _outline(axes, _sampled((marked == key).astype(float), results.affine, mm, 0.0), extent, colour, 1.5)
        else:
            _outline(axes, _sampled(np.ones(results.shape), results.affine, mm, 0.0), extent, _VOXEL, 2.0)
        if extent[0] < extent[1] and letters[0] == "L":
            axes.invert_xaxis()  # radiological: the patient's right on the left
        for x, y, letter in (
            (0.02, 0.5, letters[1] if letters[0] == "L" else letters[0]),
            (0.98, 0.5, letters[0] if letters[0] == "L" else letters[1]),
        ):
            axes.text(x, y, letter, transform=axes.transAxes, color="white", ha="center", va="center", fontsize=9)
        for y, letter in ((0.97, letters[2]), (0.03, letters[3])):
            axes.text(0.5, y, letter, transform=axes.transAxes, color="white", ha="center", va="center", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    if picture is not None:
        axes = figure.add_axes([0.05, 0.115, 0.9, 0.035])
        bar = figure.colorbar(
            ScalarMappable(Normalize(*picture.range), _cmap(picture.cmap)), cax=axes, orientation="horizontal"
        )
        bar.ax.tick_params(colors="white", labelsize=8)
        bar.ax.set_title(picture.title, color="white", fontsize=10, pad=5)
    _write_caption(figure, caption(results, look, picture))
    figure.savefig(out, dpi=100, facecolor="black")


def _outline(axes, mask: np.ndarray, extent, colour, width: float) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width, origin="lower", extent=extent)
