"""Pictures drawn by FSLeyes off the screen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

from . import colours, map_display
from .colours import EDGE_LABELS
from .grids import DrawnGrid, Voxel, box_mask, checkerboard, padded, to_mm
from .look import (
    CAPTION_HEIGHT,
    SIZE,
    VOXEL_COLOUR,
    Colour,
    Look,
    Structural,
    brightness,
    caption,
    picture_of,
    place_text,
    write_with_caption,
)
from .results_folder import Results

__all__ = ["draw"]


def draw(results: Results, look: Look, voxel: Voxel, t1: Structural | None, scratch: Path, out: Path) -> str | None:
    """Draw planes through a voxel with FSLeyes off the screen; return None on success, else the reason of the
    failure."""
    picture = picture_of(results, look)
    drawn = scratch / "fsleyes.png"
    words = [
        sys.executable,
        "-m",
        "fsleyes.render",
        "--outfile",
        str(drawn),
        "--size",
        str(SIZE[0]),
        str(SIZE[1] - CAPTION_HEIGHT),
    ]
    words += ["--hideCursor", "--layout", "horizontal", "--labelSize", "11", "--performance", "3"]
    words += ["--worldLoc", *(f"{mm:.3f}" for mm in to_mm(results.affine, voxel))]
    # Along the grid's own axes: drawn obliquely, maps are up to half a slice off.
    if picture is not None:
        layers = _maps(results, look, picture, scratch)
        words += ["--displaySpace", layers[0]]
    else:
        layers = _voxel(results, scratch)
        words += ["--displaySpace", "world"]
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
    if t1 is not None:
        low, high = brightness(t1.values)
        words += [str(t1.path), "--name", "T1", "--interpolation", "linear", "--displayRange", f"{low:g}", f"{high:g}"]
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
    write_with_caption(drawn, out, caption(results, look, picture), place_text(results, voxel))
    return None


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


def _maps(results: Results, look: Look, picture: map_display.Picture, scratch: Path) -> list[str]:
    """Return the arguments that show a map; first the file of its image."""
    grid = DrawnGrid(results.shape, results.affine)
    affine = grid.drawn_affine
    opacity, modulation = map_display.fading(picture, look.fade, look.sure, look.unsure, look.opacity)
    shown = _save(scratch / "map.nii.gz", grid.drawn(picture.drawn), affine)
    certainty = _save(scratch / "opacity.nii.gz", *padded(grid.drawn(opacity), affine, modulation[0]))
    words = [shown, "--name", picture.title, "--cmap", str(colours.write_table(picture.cmap, scratch))]
    words += ["--displayRange", *(f"{end:g}" for end in picture.range)]
    words += [
        "--interpolation",
        "none",
        "--unlinkLowRanges",
        "--clippingRange",
        *(f"{end:g}" for end in picture.whole_range),
    ]
    words += ["--modulateImage", certainty, "--modulateAlpha", "--modulateRange", *(f"{end:g}" for end in modulation)]
    if look.voxel_grid:
        words += _labels(scratch, "edges", checkerboard(grid.drawn_shape), affine, EDGE_LABELS, 1)
    codes = map_display.marks(results)
    if codes.any():
        words += _labels(scratch, "marks", grid.drawn(codes), affine, map_display.MARKS, 2)
    return [*words, certainty, "--disabled"]


def _labels(
    scratch: Path,
    name: str,
    codes: np.ndarray,
    affine: np.ndarray,
    labels: Mapping[int, tuple[str, Colour]],
    width: int,
) -> list[str]:
    """Return the arguments that outline labels, with their meanings and colours by value."""
    table = scratch / f"{name}.lut"
    lines = [f"{key} {r} {g} {b} {text.split(' (')[0]}\n" for key, (text, (r, g, b)) in labels.items()]
    table.write_text("".join(lines), encoding="utf-8")
    words = [_save(scratch / f"{name}.nii.gz", codes, affine), "--overlayType", "label", "--lut", str(table)]
    return [*words, "--outline", "--outlineWidth", str(width)]


def _voxel(results: Results, scratch: Path) -> list[str]:
    """Return the arguments that show the outline of a single voxel; first the file of its image."""
    shown = _save(scratch / "voxel.nii.gz", *box_mask(results.shape, results.affine))
    return [
        shown,
        "--overlayType",
        "mask",
        "--maskColour",
        *map(str, VOXEL_COLOUR),
        "--outline",
        "--outlineWidth",
        "3",
        "--interpolation",
        "none",
    ]
