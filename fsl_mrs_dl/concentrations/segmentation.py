"""Tissue fractions of spectroscopy voxels from segmentations of an anatomical image.

Segmentations are those of FSL fast (``pve_0`` to ``pve_2``, or ``pveseg``), FreeSurfer and SynthSeg (label volumes),
SPM (``c1`` to ``c3``) and BIDS derivatives (``probseg``, ``dseg``).  Voxels are boxes at the place that the files'
affines give them: neither the point-spread function of MRSI nor chemical-shift displacement is taken into account.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import DataError, OptionError
from ..io.images import image_errors, open_any_image
from ..io.nifti import MrsData
from .tissue import DEFAULT_SD, TissueFractions

__all__ = ["NO_SEGMENTATION", "fractions_from_segmentation", "mean_over_voxels", "tissue_fractions"]

TISSUES = ("white", "grey", "csf")

NO_SEGMENTATION = (
    "The structural image (`t1`) gives a picture of the voxel only; tissue fractions need a segmentation of it, by FSL"
    " fast, FreeSurfer, SynthSeg or SPM (`tissue_frac`)."
)
"""Remark on an image that was given without a segmentation; options in backticks."""

_FAST = {1: "csf", 2: "grey", 3: "white"}
_BIDS = {1: "grey", 2: "white", 3: "csf"}
_FREESURFER = {
    "white": [2, 7, 16, 28, 41, 46, 60, 77, 78, 79, 85, *range(251, 256), *range(3000, 3036), *range(4000, 4036), 5001]
    + [5002],
    "grey": [3, 8, 9, 10, 11, 12, 13, 17, 18, 19, 20, 26, 27, 42, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 58, 59]
    + [80, 81, 82, *range(1000, 1036), *range(2000, 2036)],
    "csf": [4, 5, 14, 15, 24, 30, 31, 43, 44, 62, 63, 72],
}

_NAMES = {
    # The last part of a file's name, tissue by tissue.
    "white": re.compile(r"(pve_2|label-WM(_\w+)*_probseg)$|^m?w?[wr]*c2\w*", re.IGNORECASE),
    "grey": re.compile(r"(pve_1|label-GM(_\w+)*_probseg)$|^m?w?[wr]*c1\w*", re.IGNORECASE),
    "csf": re.compile(r"(pve_0|label-CSF(_\w+)*_probseg)$|^m?w?[wr]*c3\w*", re.IGNORECASE),
}

# Of points along a voxel's edge, and points for each voxel of the image, of few voxels and of many.
_FEW, _COARSEST, _FINEST, _DENSITY = 8, 8, (96, 16), (4, 2)
_AT_ONCE = 2_000_000  # points
_MOST_OUTSIDE = 0.001


def tissue_fractions(values: Sequence[str | float | Path], data: MrsData, sd: float = DEFAULT_SD) -> TissueFractions:
    """Return the tissue fractions that an option names.

    Parameters
    ----------
    values : sequence
        White, grey and CSF fraction; or one file of them (see :meth:`TissueFractions.read`); or segmentations (see
        :func:`fractions_from_segmentation`), or a folder that holds those of fsl_anat.
    data : MrsData
        Of the spectra, with their affine.
    sd : float
        SD of each fraction.

    Raises
    ------
    DataError, OptionError
    """
    numbers = [number for number in map(_number, values) if number is not None]
    if len(numbers) == len(values):
        if len(numbers) != 3:
            raise OptionError(
                f"{len(numbers)} {'fraction is' if len(numbers) == 1 else 'fractions are'} given, and three are needed",
                option="tissue_frac",
                value=" ".join(map(str, values)),
                remedy="give white, grey and CSF, as 0.4 0.5 0.1, or files",
            )
        white, grey, csf = numbers
        return TissueFractions.from_values(white, grey, csf, sd=sd)
    paths = [Path(str(value)) for value in values]
    if len(paths) == 1 and paths[0].suffix.lower() in (".json", ".csv"):
        return TissueFractions.read(paths[0], sd=sd)
    return fractions_from_segmentation(paths, data, sd=sd)


def _number(value) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def fractions_from_segmentation(paths: Sequence[str | Path], data: MrsData, sd: float = DEFAULT_SD) -> TissueFractions:
    """Return the tissue fractions of every voxel of data, ``(n,)`` with z fastest, from segmentations.

    Parameters
    ----------
    paths : sequence of path
        One volume of labels; or three images of tissue volumes, which their names tell apart, and otherwise FSL-MRS's
        order: white, grey, CSF.  Images may have any grid.
    data : MrsData
    sd : float
        SD of each fraction.

    Raises
    ------
    DataError, OptionError
    """
    if data.affine is None:
        raise DataError(
            f"{data.name}: has no position, and segmentations cannot be laid over it",
            remedy="give the fractions of white matter, grey matter and CSF as numbers (`tissue_frac`)",
        )
    files = [Path(path) for path in paths]
    if len(files) == 1 and files[0].is_dir():
        files = _of_folder(files[0])
    images = [_image(path) for path in files]
    grid, affine = data.fids.shape[:3], np.asarray(data.affine, float)
    shares, outside = {}, np.zeros(())
    if len(files) == 1:
        labels = np.rint(images[0][0]).astype(int)
        meaning = _meaning(files[0], labels)
        for tissue in TISSUES:
            part = np.isin(labels, meaning[tissue]).astype(np.float32)
            shares[tissue], outside = mean_over_voxels(part, images[0][1], grid, affine)
        names = files[0].name
    elif len(files) == 3:
        for tissue, number in zip(TISSUES, _order(files)):
            values, image_affine = images[number]
            most = float(np.nanmax(values)) if values.size else 0.0
            scale = 1 / 255 if 1.5 < most <= 255.5 else 1.0
            if most > 255.5:
                raise OptionError(
                    f"holds values up to {most:g}, and no shares from 0 to 1", option="tissue_frac", value=files[number]
                )
            shares[tissue], beyond = mean_over_voxels(np.nan_to_num(values) * scale, image_affine, grid, affine)
            outside = np.maximum(outside, beyond)
        names = ", ".join(path.name for path in files)
    else:
        raise OptionError(
            f"is one segmentation or three (here {len(files)})",
            option="tissue_frac",
            remedy="give a volume of labels, or images of white matter, grey matter and CSF",
        )
    volumes = [shares[tissue] for tissue in TISSUES]
    fractions = TissueFractions.from_volumes(volumes, sd, f"from {names}", names)
    return replace(fractions, notes=(*_outside_notes(outside, names), *fractions.notes))


def _outside_notes(outside: np.ndarray, names: str) -> tuple[str, ...]:
    beyond = outside > _MOST_OUTSIDE
    if not beyond.any():
        return ()
    if outside.size == 1:
        return (f"{names}: {outside.item():.0%} of the voxel lies outside of the image",)
    return (f"{names}: {int(beyond.sum())} of {outside.size} voxels lie partly or wholly outside of the image",)


def _image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a 3D image and its affine.

    Raises
    ------
    DataError
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file",
            remedy="give the white, grey and CSF fraction as numbers, or segmentations as files (`tissue_frac`)",
        )
    try:
        image = open_any_image(path)
        values, affine = np.asarray(image.dataobj, np.float32), np.asarray(image.affine, np.float64)
    except image_errors() as exc:
        raise DataError(f"{path}: cannot be read as an image ({str(exc).splitlines()[0]})") from exc
    values = values.reshape(values.shape[:3]) if values.ndim > 3 and np.prod(values.shape[3:]) == 1 else values
    if values.ndim != 3 or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{path}: is no 3D image with a position ({values.shape})")
    return values, affine


def _of_folder(folder: Path) -> list[Path]:
    """Return the segmentations of a folder of fsl_anat.

    Raises
    ------
    DataError
    """
    parts = [next(iter(sorted(folder.glob(f"*_fast_pve_{number}.nii*"))), None) for number in (2, 1, 0)]
    if None in parts:
        raise DataError(
            f"{folder}: holds no *_fast_pve_0, _1 and _2 of fsl_anat", remedy="give the segmentation's files themselves"
        )
    return [part for part in parts if part is not None]


def _stem(path: Path) -> str:
    return re.sub(r"\.(nii(\.gz)?|mg[hz]|img|hdr)$", "", path.name, flags=re.IGNORECASE)


def _order(files: list[Path]) -> list[int]:
    """Return which of three files is white matter, grey matter and CSF, by their names; as they are by default."""
    stems = [_stem(path) for path in files]
    numbers = []
    for tissue in TISSUES:
        matching = [number for number, stem in enumerate(stems) if _NAMES[tissue].search(stem)]
        numbers.append(matching[0] if len(matching) == 1 else None)
    if sorted(number for number in numbers if number is not None) == [0, 1, 2]:
        return [int(number) for number in numbers if number is not None]
    return [0, 1, 2]


def _meaning(path: Path, labels: np.ndarray) -> dict[str, list[int]]:
    """Return the labels of each tissue in a volume of labels: by its table, its name and its values.

    Raises
    ------
    OptionError
        If they cannot be determined.
    """
    table = path.with_name(_stem(path) + ".tsv")
    stem, present = _stem(path).lower(), set(np.unique(labels).tolist()) - {0}
    if table.is_file():
        meaning = _of_table(table)
        if all(meaning.values()):
            return meaning
    if present & {2, 41} and present & {3, 42, *range(1000, 1036), *range(2000, 2036)} and max(present) > 3:
        return _FREESURFER
    if present and present <= {1, 2, 3}:
        kinds = _BIDS if stem.endswith("dseg") else _FAST if stem.endswith(("pveseg", "_seg", "fast_seg")) else None
        if kinds is not None:
            return {tissue: [label for label, name in kinds.items() if name == tissue] for tissue in TISSUES}
    shown = ", ".join(str(label) for label in sorted(present)[:8])
    raise OptionError(
        f"has labels of unknown meaning ({shown or 'none'})",
        option="tissue_frac",
        value=path,
        remedy=(
            "give a volume of FreeSurfer or SynthSeg, a pveseg of FSL fast, a dseg of BIDS (with its .tsv), or three"
            " images of white matter, grey matter and CSF"
        ),
    )


def _of_table(table: Path) -> dict[str, list[int]]:
    """Return the labels of each tissue by a BIDS table of labels; none for a table of other names."""
    meaning: dict[str, list[int]] = {tissue: [] for tissue in TISSUES}
    words = {"wm": "white", "gm": "grey", "csf": "csf", "white": "white", "grey": "grey", "gray": "grey"}
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                name = (row.get("abbreviation") or row.get("name") or "").lower()
                tissue = next((tissue for word, tissue in words.items() if re.match(rf"{word}\b", name)), None)
                if tissue is not None:
                    meaning[tissue].append(int(row["index"]))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError):
        return {tissue: [] for tissue in TISSUES}
    return meaning


def mean_over_voxels(
    values: np.ndarray, image_affine: np.ndarray, grid: tuple[int, ...], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of an image over each voxel of a grid, and the share of the voxel outside of the image, ``(n,)``
    each, with z fastest.

    A voxel is a box of points, two to four for each voxel of the image, each of which takes the value of the image's
    voxel that it is in; outside of the image the value is zero.

    Parameters
    ----------
    values : ndarray ``(x, y, z)``
    image_affine : ndarray ``(4, 4)``
        Voxels of the image to millimetres.
    grid : (int, int, int)
    affine : ndarray ``(4, 4)``
        Voxels of the grid to millimetres.
    """
    to_image = np.linalg.inv(image_affine) @ affine
    n = int(np.prod(grid[:3]))
    finest, density = (values[n > _FEW] for values in (_FINEST, _DENSITY))
    # Extent of a voxel of the grid along each of its axes, in voxels of the image.
    extent = np.abs(to_image[:3, :3]).max(0)
    counts = np.clip(np.ceil(density * extent - 1e-6), _COARSEST, finest).astype(int)
    steps = [(np.arange(count) + 0.5) / count - 0.5 for count in counts]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3) @ to_image[:3, :3].T
    centres = np.stack(np.unravel_index(np.arange(n), grid[:3]), 1) @ to_image[:3, :3].T + to_image[:3, 3]
    mean, outside = np.empty(n), np.empty(n)
    shape, flat = np.array(values.shape), np.ascontiguousarray(values).reshape(-1)
    at_once = max(1, _AT_ONCE // len(points))
    for start in range(0, n, at_once):
        place = np.rint(centres[start : start + at_once, None] + points).astype(int)
        inside = ((place >= 0) & (place < shape)).all(-1)
        place = np.clip(place, 0, shape - 1)
        index = (place[..., 0] * shape[1] + place[..., 1]) * shape[2] + place[..., 2]
        mean[start : start + at_once] = np.where(inside, flat[index], 0.0).mean(1)
        outside[start : start + at_once] = 1 - inside.mean(1)
    return mean, outside
