"""Maps as they are drawn: arrays of values, uncertainties, visible voxels and marks.  Needs neither wx nor FSLeyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsl_mrs_dl.results import layout

from . import quantities
from .grids import Voxel, as_voxel
from .results_folder import Results

__all__ = [
    "CRITERIA",
    "ChosenColours",
    "MARKS",
    "PERCENT_CAP",
    "Picture",
    "changed_threshold",
    "picture",
    "robust_range",
    "marks",
    "good_voxel",
    "fading",
    "opacity",
    "visible",
]

CRITERIA = {"off": "no threshold", "percent": "CRLB (%)", "sd": "SD (unit of the map)"}
"""Criteria that voxels may be hidden by."""

PERCENT_CAP = 200.0
"""Largest relative SD that is drawn; larger ones are drawn like it, since graphics cards may hold 16 bits only."""

MARKS = {
    1: ("did not converge", (0.0, 1.0, 1.0)),
    2: ("could not be fitted", (0.2, 1.0, 0.2)),
    3: (f"out of distribution (score above {layout.OOD_LIMIT:g})", (1.0, 0.0, 1.0)),
}
"""Meaning of the values of :func:`marks`, and the colour (red, green, blue) of their outlines: far from every colour of
the maps."""


@dataclass(frozen=True)
class Picture:
    """A map as it is drawn.

    Attributes
    ----------
    title, unit : str
    values : ndarray
        In ``unit``, float32 ``(x, y, z)``.
    percent : ndarray
        Relative SD in percent, at most :data:`PERCENT_CAP`, which also stands for voxels without a fit; as ``values``.
    shown : ndarray
        Mask of the voxels that are shown, bool.
    fades : bool
        Whether the map has an uncertainty of its own.
    cmap : str
        Name of a colour map.
    range : (float, float)
        Values of the first and last colour.
    short_title : str
        Title for narrow places.
    """

    title: str
    unit: str
    values: np.ndarray
    percent: np.ndarray
    shown: np.ndarray
    fades: bool
    cmap: str
    range: tuple[float, float]
    short_title: str = ""

    @property
    def drawn(self) -> np.ndarray:
        """Values of shown voxels, NaN elsewhere, where FSLeyes draws nothing.  (It draws voxels that another image
        hides at their edges nevertheless.)"""
        return np.where(self.shown, self.values, np.float32(np.nan))

    @property
    def whole_range(self) -> tuple[float, float]:
        """Range from below the lowest to above the highest of the shown values."""
        values = self.values[self.shown]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        margin = 0.01 * max(high - low, abs(high), 1e-12)
        return low - margin, high + margin


class ChosenColours:
    """Colour maps and ranges that a user chose, by the titles of the pictures: a map that is shown again has them."""

    def __init__(self) -> None:
        self._chosen: dict[str, tuple[str, tuple[float, float]]] = {}

    def keep(self, picture: Picture, cmap: str, limits: tuple[float, float]) -> None:
        """Remember the colours of a picture, if they are not its own."""
        self._chosen.pop(picture.title, None)
        if cmap != picture.cmap or not np.allclose(limits, picture.range):
            self._chosen[picture.title] = (cmap, limits)

    def of(self, picture: Picture) -> tuple[str, list[float]]:
        """Return colour map and range of a picture: its own, or those that were chosen."""
        cmap, limits = self._chosen.get(picture.title, (picture.cmap, picture.range))
        return cmap, list(limits)


_ENOUGH = 0.2  # share of the shown voxels without a mark from which on they alone determine the range of the colours


def robust_range(values: np.ndarray, low: float | None = 0.0) -> tuple[float, float]:
    """Return the range from ``low`` (None: the 2nd percentile) to the 98th percentile of values; never empty."""
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
    """Return the picture of a quantity and metabolite; a metabolite without that map gives one that shows nothing.

    Parameters
    ----------
    results : Results
    key : str
        Of the quantity.
    metab : str
    criterion : str
        One of :data:`CRITERIA`.
    threshold : float
        In percent, or in the unit of the map.
    """
    quantity = quantities.by_key(key)
    values = results.map(key, metab)
    exists = values is not None
    values = np.zeros(results.shape) if values is None else values
    fitted = results.has_value(key, metab) & exists
    if key in ("failed", "fitted"):
        fitted = values > 0
    fades = results.is_estimate(key)
    relative = results.percent(key, metab) if fades else None
    fades = fades and relative is not None
    percent = np.where(fitted, 0.0, PERCENT_CAP) if relative is None else np.where(fitted, relative, PERCENT_CAP)
    percent = np.clip(np.nan_to_num(percent, nan=PERCENT_CAP, posinf=PERCENT_CAP), 0, PERCENT_CAP)

    shown = fitted
    uncertainty = None
    if criterion == "percent" and quantity.per_metab:
        uncertainty = results.crlb_percent(metab)
    elif criterion == "sd" and quantity.per_metab:
        uncertainty = results.sd(key, metab)
    if uncertainty is not None:
        # Unknown uncertainties, and those of values held at zero, are above any threshold.
        shown = fitted & (np.nan_to_num(uncertainty, nan=np.inf) <= threshold)
    colours = quantities.fixed_range(key) or _colour_range(results, key, values, fitted, percent, fades)
    above = f", white above {quantities.CRLB_LIMIT:g}" if quantities.colour_map(key) == "mrsdl_capped" else ""
    return Picture(
        title=results.title(key, metab) + above,
        unit=quantity.unit,
        values=values.astype(np.float32),
        percent=percent.astype(np.float32),
        shown=shown,
        fades=fades,
        cmap=quantities.colour_map(key),
        range=colours,
        short_title=results.short_title(key, metab) + above,
    )


def _colour_range(
    results: Results, key: str, values: np.ndarray, fitted: np.ndarray, percent: np.ndarray, fades: bool
) -> tuple[float, float]:
    """Return the values of the first and last colour from those of the reliable voxels."""
    reliable = values[_reliable(results, values, fitted, percent, fades)]
    if quantities.colour_map(key) == "mrsdl_signed":
        high = robust_range(np.abs(reliable))[1]
        return -high, high
    # A map that is the same everywhere, such as a metabolite over itself, has its value in the middle of the colours.
    if reliable.size and np.ptp(reliable) <= 1e-6 * abs(reliable[0]) and reliable[0] > 0:
        return 0.0, float(f"{2 * reliable[0]:.3g}")
    low = 0.0 if fades or (fitted.any() and values[fitted].min() >= 0) else None
    return robust_range(reliable, low)


def changed_threshold(
    criterion: str, results: Results, key: str, metab: str, threshold: float, percent: float = 20.0
) -> float:
    """Return the threshold to begin with under a criterion for a map: ``percent``, the latest one in percent, or the
    90th percentile of the SDs in the unit of the map; the given one without a criterion."""
    if criterion == "percent":
        return percent
    if criterion != "sd":
        return threshold
    sd = results.sd(key, metab)
    sd = np.zeros(0) if sd is None else sd[np.isfinite(sd)]
    return float(f"{np.percentile(sd, 90):.2g}") if sd.size else 0.0


def _reliable(results: Results, values: np.ndarray, fitted: np.ndarray, percent: np.ndarray, fades: bool) -> np.ndarray:
    """Return the mask of the voxels that determine the range of the colours."""
    known = fitted & np.isfinite(values) & (values != 0)
    # Uncertain values must not dim the certain ones.
    reliable = known & (percent <= 50)
    reliable = reliable if reliable.sum() >= 3 else known
    if fades:
        # Nor must the scalp dim the brain, where its lipids were fitted with metabolites: marked voxels may saturate,
        # unless nearly all are marked.
        unmarked = reliable & (marks(results) == 0)
        reliable = unmarked if unmarked.sum() >= max(3, _ENOUGH * reliable.sum()) else reliable
    return reliable


def opacity(percent: np.ndarray, sure: float, unsure: float) -> np.ndarray:
    """Return 1 where the relative SD is at most ``sure`` percent, 0 from ``unsure`` percent on, linear in between."""
    return np.clip((unsure - np.asarray(percent, float)) / max(unsure - sure, 1e-9), 0, 1)


def fading(
    shown: Picture, fade: bool, sure: float, unsure: float, strength: float
) -> tuple[np.ndarray, tuple[float, float]]:
    """Return an image whose values set the opacity of a map in FSLeyes, and its values for invisible and opaque.

    They are below all values of the map: FSLeyes fades its colour bar as if the values of the map faded it, which
    leaves the bar whole then.
    """
    share = opacity(shown.percent, sure, unsure) if fade and shown.fades else np.ones(shown.values.shape)
    last = -10.0 * max(1.0, abs(shown.range[0]), abs(shown.range[1]))
    return (last * (2 - strength * share)).astype(np.float32), (2 * last, last)


def visible(shown: Picture, fade: bool, sure: float, unsure: float) -> np.ndarray:
    """Return the mask of the voxels that are neither hidden nor faded completely, bool ``(x, y, z)``."""
    return shown.shown & (opacity(shown.percent, sure, unsure) > 0) if fade and shown.fades else shown.shown


def marks(results: Results, failed: bool = True, out_of_distribution: bool = True) -> np.ndarray:
    """Return the mark of every voxel, int16 ``(x, y, z)``: a key of :data:`MARKS`, or 0 for none.  A failure takes
    precedence."""
    codes = np.zeros(results.shape, np.int16)
    if out_of_distribution:
        codes[results.out_of_distribution] = 3
    if failed:
        # Voxels of noise are not shown, and need no mark.
        failures = (results.failed > 0) & (results.failed != layout.NOISE)
        codes = np.where(failures, np.minimum(results.failed, 2), codes).astype(np.int16)
    return codes


def good_voxel(results: Results, metab: str | None = None) -> Voxel:
    """Return a voxel to begin with: unmarked, with a low bound on the metabolite, near the middle."""
    metab = metab or results.default_metab
    if results.kind == "SVS" or not results.fitted.any():
        return as_voxel([size // 2 for size in results.shape])
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
    return as_voxel(nearest)
