"""Means over regions: a mask on any grid, or a ball, with the part of every voxel that lies inside.  NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .grids import sampled, to_mm
from .voxel_table import with_sd

__all__ = [
    "SPATIAL_NOTE",
    "RegionMean",
    "ball",
    "fractions",
    "mask_region",
    "mean_over",
    "midline",
    "mirrored",
    "outlined",
    "report",
]

Region = Callable[[np.ndarray], np.ndarray]
"""Function from positions in mm ``(..., 3)`` to the membership there, 0 to 1 ``(...)``."""

_MOST_POINTS = 8  # along an axis of a voxel

SPATIAL_NOTE = "The spatial prior couples neighbours: the SE is too small."
"""Remark on standard errors of means of maps whose neighbours are not independent."""


@dataclass(frozen=True)
class RegionMean:
    """Mean of a map over a region; each voxel has the part of it that lies inside as its weight.

    Attributes
    ----------
    mean : float
        NaN where no voxel has a value.
    sd : float
        Standard deviation between voxels.
    se : float
        Standard error of the mean from the SDs of the voxels, whose errors count as independent; NaN where unknown.
    voxels : float
        Sum of the weights.
    volume : float
        Volume of these voxels in ml.
    left_out : float
        Sum of the weights of voxels that are not usable.
    without_sd : int
        Number of the voxels whose SD is unknown.
    """

    mean: float
    sd: float
    se: float
    voxels: float
    volume: float
    left_out: float = 0.0
    without_sd: int = 0


def mask_region(values: np.ndarray, affine: np.ndarray) -> Region:
    """Return the region of a mask, or of tissue fractions; values above 1 count as 1."""
    values = np.clip(np.nan_to_num(np.asarray(values, float)), 0, 1)
    return lambda mm: sampled(values, affine, mm, 0.0)


def ball(centre: Sequence[float] | np.ndarray, radius: float) -> Region:
    """Return the region of points within a radius of a centre, both in mm."""
    return lambda mm: (((mm - np.asarray(centre)) ** 2).sum(-1) <= radius**2).astype(float)


def mirrored(region: Region, middle: float) -> Region:
    """Return the region on the other side of the sagittal plane at ``middle`` mm."""
    return lambda mm: region(np.asarray(mm) * [-1, 1, 1] + [2 * middle, 0, 0])


def midline(values: np.ndarray, affine: np.ndarray) -> float:
    """Return the middle of a head from left to right in mm: halfway between the ends of what is brighter than a tenth
    of its brightest part, 1 % cut off at either end."""
    values = np.asarray(values, float)
    bright = values[values > 0]
    if not bright.size:
        return float(to_mm(affine, (np.array(values.shape) - 1) / 2)[0])
    places = np.argwhere(values > 0.1 * np.percentile(bright, 98))
    x = to_mm(affine, places)[:, 0]
    return float(np.percentile(x, (1, 99)).mean())


def fractions(region: Region, shape: Sequence[int], affine: np.ndarray, step: float = 2.0) -> np.ndarray:
    """Return the part of every voxel ``(x, y, z)`` that lies in a region, from points ``step`` mm apart, at most 8
    along an axis."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    counts = np.clip(np.ceil(size / step).astype(int), 1, _MOST_POINTS)
    index = np.moveaxis(np.indices(shape), 0, -1).astype(float)
    offsets = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in counts), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    total = np.zeros(tuple(shape))
    for offset in offsets:
        total += region(to_mm(affine, index + offset))
    return total / len(offsets)


def mean_over(
    values: np.ndarray, weights: np.ndarray, sd: np.ndarray | None, usable: np.ndarray, affine: np.ndarray
) -> RegionMean:
    """Return the mean of a map over the weights of :func:`fractions`, of usable voxels only.

    Parameters
    ----------
    values, weights : ndarray ``(x, y, z)``
    sd : ndarray, optional
        Standard deviation of every value, NaN where unknown.
    usable : bool ndarray
    affine : ndarray
    """
    used = usable & np.isfinite(values)
    left_out = float(weights[~used].sum())
    weights = np.where(used, weights, 0.0)
    total = weights.sum()
    volume = float(total * abs(np.linalg.det(affine[:3, :3])) / 1000)
    if total <= 0:
        return RegionMean(np.nan, np.nan, np.nan, 0.0, 0.0, left_out)
    values = np.where(weights > 0, values, 0.0)
    mean = (weights * values).sum() / total
    # Unbiased for weights that say how much of each voxel counts.
    divisor = total - (weights**2).sum() / total
    spread = np.sqrt((weights * (values - mean) ** 2).sum() / divisor) if divisor > 1e-9 * total else np.nan
    error, without_sd = np.nan, 0
    if sd is not None:
        known = np.where(weights > 0, sd, 0.0)
        error = np.sqrt(((weights * known) ** 2).sum()) / total
        without_sd = int(np.isnan(known).sum())
    return RegionMean(float(mean), float(spread), float(error), float(total), volume, left_out, without_sd)


def outlined(parts: np.ndarray) -> np.ndarray:
    """Return the mask of the voxels to outline of a region whose part of every voxel is ``parts`` ``(x, y, z)``: at
    least half of the largest part, since a region may be smaller than a voxel."""
    return parts >= max(0.5 * float(parts.max(initial=0.0)), 1e-6)


def report(title: str, name: str, here: RegionMean, there: RegionMean | None, notes: Sequence[str] = ()) -> list[str]:
    """Return lines on the mean of a map in a region, in its mirror image, and on their difference.

    Parameters
    ----------
    title : str
        Of the map.
    name : str
        Of the region.
    here, there : RegionMean
        In the region and in its mirror image.
    notes : sequence of str
        Further remarks on the standard errors.
    """
    lines = [title, f"Region: {name}", f"Inside: {_text(here)}"]
    known = [np.isfinite(here.se)]
    if there is not None:
        lines.append(f"Other side: {_text(there)}")
        known.append(np.isfinite(there.se))
        if np.isfinite(here.mean) and np.isfinite(there.mean):
            lines.append(f"Difference: {with_sd(here.mean - there.mean, float(np.hypot(here.se, there.se)))}")
    if any(known):
        lines += ["± SE of the mean, from the voxels' SDs as if independent", *notes]
    return lines


def _text(one: RegionMean) -> str:
    if not np.isfinite(one.mean):
        return "no voxel can be used"
    words = [with_sd(one.mean, one.se)]
    if one.without_sd:
        words[0] += f" (SE unknown: {one.without_sd} voxels without SD)"
    if np.isfinite(one.sd):
        words.append(f"SD between voxels {one.sd:.2g}")
    words.append(f"{one.voxels:.1f} voxels, {one.volume:.1f} ml")
    if one.left_out >= 0.05:
        words.append(f"{one.left_out:.1f} voxels left out")
    return "; ".join(words)
