"""What is drawn of a map, as arrays: values, how sure they are, where they are hidden, what is marked.  Knows neither
wx nor FSLeyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsl_mrs_dl.results import layout

from .results import OOD_LIMIT, Results

__all__ = [
    "CRITERIA",
    "MARKS",
    "PERCENT_CAP",
    "Picture",
    "picture",
    "robust_range",
    "marks",
    "good_voxel",
    "opacity",
    "visible",
    "padded",
]

CRITERIA = {"off": "no threshold", "percent": "CRLB (%)", "sd": "SD (unit of the map)"}
"""What voxels may be hidden by."""

PERCENT_CAP = 200.0
"""Relative SDs are drawn as if none were larger: graphics cards may hold no more than 16 bits of a number."""

MARKS = {
    1: ("did not converge", (1.0, 0.55, 0.0)),
    2: ("could not be fitted", (1.0, 0.1, 0.1)),
    3: (f"unlike clean data (out-of-distribution score above {OOD_LIMIT:g})", (0.9, 0.2, 1.0)),
}
"""Values of :func:`marks`: what they mean, and the colour (red, green, blue) that they are drawn in."""


@dataclass(frozen=True)
class Picture:
    """A map as it is drawn, all arrays float32 ``(x, y, z)``.

    ``values`` in ``unit``; ``percent`` is the relative SD in percent, at most :data:`PERCENT_CAP`, and that where
    nothing was fitted; ``shown`` (bool) says which voxels are.  ``fades`` is whether the map has an uncertainty of its
    own.
    """

    title: str
    unit: str
    values: np.ndarray
    percent: np.ndarray
    shown: np.ndarray
    fades: bool
    cmap: str
    range: tuple[float, float]

    @property
    def drawn(self) -> np.ndarray:
        """The values of shown voxels, NaN elsewhere: FSLeyes draws nothing there.  (What another image hides it draws
        at the edges all the same.)"""
        return np.where(self.shown, self.values, np.float32(np.nan))

    @property
    def whole_range(self) -> tuple[float, float]:
        """From below the lowest to above the highest of the shown values."""
        values = self.values[self.shown]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        margin = 0.01 * max(high - low, abs(high), 1e-12)
        return low - margin, high + margin


_ENOUGH = 0.2  # of what is shown has to be unmarked, for the range of the colours to be taken from there


def robust_range(values: np.ndarray, low: float | None = 0.0) -> tuple[float, float]:
    """From ``low`` (None: the 2nd percentile) to the 98th percentile of the values, which are of shown voxels; never
    empty."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    first, last = np.percentile(values, (2, 98))
    first = first if low is None else low
    if last <= first:
        last = max(values.max(), first)
    if last <= first:
        return float(first), float(first) + 1.0
    # Three digits are enough for a colour bar.
    return float(f"{first:.3g}"), float(f"{last:.3g}")


def picture(results: Results, key: str, metab: str, criterion: str = "off", threshold: float = 0.0) -> Picture:
    """What is drawn of a quantity and metabolite.

    ``criterion`` is one of :data:`CRITERIA`; ``threshold`` is in percent, or in the unit of the map.  A metabolite
    without that map gives one that shows nothing.
    """
    quantity = layout.by_key(key)
    values = results.map(key, metab)
    there = values is not None
    values = np.zeros(results.shape) if values is None else values
    fitted = results.fitted & there
    if key in ("failed", "fitted"):
        fitted = values > 0
    fades = results.is_estimate(key)
    relative = results.percent(key, metab) if fades else None
    fades = fades and relative is not None
    percent = np.where(fitted, 0.0, PERCENT_CAP) if relative is None else np.where(fitted, relative, PERCENT_CAP)
    percent = np.clip(np.nan_to_num(percent, nan=PERCENT_CAP, posinf=PERCENT_CAP), 0, PERCENT_CAP)

    shown = fitted
    limit = None
    if criterion == "percent" and quantity.per_metab:
        limit = results.crlb_percent(metab)
    elif criterion == "sd" and quantity.per_metab:
        limit = results.sd(key, metab)
    if limit is not None:
        # Whatever is not known, or held at zero, is above any threshold.
        shown = fitted & (np.nan_to_num(limit, nan=np.inf) <= threshold)
    low = 0.0 if fades or (fitted.any() and values[fitted].min() >= 0) else None
    known = fitted & np.isfinite(values) & (values != 0)
    # The brightest of what is sure should not be dimmed by what is not.
    sure = known & (percent <= 50)
    sure = sure if sure.sum() >= 3 else known
    if fades:
        # Nor should the brain by the scalp, whose lipids are fitted with what is there: unless all is marked, what is
        # marked may saturate.
        clean = sure & (marks(results) == 0)
        sure = clean if clean.sum() >= max(3, _ENOUGH * sure.sum()) else sure
    found = robust_range(values[sure], low)
    if quantity.template.startswith("flags") or key == "prior-pull":
        found = (0.0, 1.0)
    elif key == "failed":
        found = (0.0, 3.0)
    single = np.float32
    return Picture(
        results.title(key, metab),
        quantity.unit,
        values.astype(single),
        percent.astype(single),
        shown,
        fades,
        quantity.cmap,
        found,
    )


def opacity(percent: np.ndarray, sure: float, unsure: float) -> np.ndarray:
    """1 where the relative SD is at most ``sure`` percent, 0 from ``unsure`` percent on, straight between."""
    return np.clip((unsure - np.asarray(percent, float)) / max(unsure - sure, 1e-9), 0, 1)


def visible(shown: Picture, fade: bool, sure: float, unsure: float) -> np.ndarray:
    """Which voxels can be seen, bool ``(x, y, z)``: neither hidden nor faded away."""
    return shown.shown & (opacity(shown.percent, sure, unsure) > 0) if fade and shown.fades else shown.shown


def marks(results: Results, failed: bool = True, unlike: bool = True) -> np.ndarray:
    """Which voxels are marked by what, int16 ``(x, y, z)`` of the keys of :data:`MARKS`; 0 is not marked.  A failure
    hides the rest."""
    out = np.zeros(results.shape, np.int16)
    if unlike:
        out[results.unlike] = 3
    if failed:
        # Noise is not shown at all, and needs no mark.
        broken = (results.failed > 0) & (results.failed != layout.NOISE)
        out = np.where(broken, np.minimum(results.failed, 2), out).astype(np.int16)
    return out


def good_voxel(results: Results, metab: str | None = None) -> tuple[int, int, int]:
    """A voxel to begin with: not marked, among the surest of the metabolite, near the middle of what was fitted."""
    metab = metab or results.default_metab
    if results.kind == "SVS" or not results.fitted.any():
        return tuple(size // 2 for size in results.shape)
    candidates = results.fitted & (marks(results) == 0)
    if not candidates.any():
        candidates = results.fitted
    percent = results.crlb_percent(metab)
    if percent is not None and np.isfinite(percent[candidates]).any():
        percent = np.where(candidates & np.isfinite(percent), percent, np.inf)
        candidates &= percent <= np.percentile(percent[np.isfinite(percent)], 25)
    places = np.argwhere(candidates)
    middle = np.argwhere(results.fitted).mean(0)
    # Distances in mm: slices are often thicker than voxels are wide.
    size = np.linalg.norm(results.affine[:3, :3], axis=0)
    nearest = places[np.argmin((((places - middle) * size) ** 2).sum(1))]
    return tuple(int(index) for index in nearest)


def padded(values: np.ndarray, affine: np.ndarray, fill: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """One voxel of ``fill`` more at either end of every axis, and the affine that goes with it.

    An outline needs something around it; and FSLeyes takes what lies on the very edge of an image that fades another
    for outside of it.
    """
    moved = np.array(affine, float)
    moved[:3, 3] -= moved[:3, :3].sum(1)
    return np.pad(values, 1, constant_values=fill), moved
