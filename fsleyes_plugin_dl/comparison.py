"""Two folders of results side by side, and their difference: values and SDs on one grid.  NumPy only."""

from __future__ import annotations

import numpy as np

from . import map_display, quantities
from .grids import sampled, to_mm
from .results_folder import Results
from .titles import shortened

__all__ = ["at_voxels", "difference", "difference_sd"]


def at_voxels(results: Results, other: Results, values: np.ndarray) -> np.ndarray:
    """Return values on the grid of other results at the centres of the voxels of ``results``, NaN outside of it."""
    centres = to_mm(results.affine, np.moveaxis(np.indices(results.shape), 0, -1))
    return sampled(np.asarray(values, float), other.affine, centres)


def difference(results: Results, other: Results, key: str, name: str) -> map_display.Picture | None:
    """Return the map minus that of other results, where both have a value; None where one has no such map."""
    first, second = results.map(key, name), other.map(key, name)
    if first is None or second is None:
        return None
    moved = at_voxels(results, other, np.where(other.has_value(key, name), second, np.nan))
    shown = results.has_value(key, name) & np.isfinite(moved)
    values = np.where(shown, first - np.nan_to_num(moved), 0.0).astype(np.float32)
    # Uncertain differences must not dim the certain ones.
    sd = difference_sd(results, other, key, name)
    known = np.zeros(0) if sd is None else sd[shown & np.isfinite(sd)]
    certain = shown & (sd <= np.median(known)) if sd is not None and known.size else shown
    high = map_display.robust_range(np.abs(values[certain]))[1]
    unit = quantities.by_key(key).unit
    names = [shortened(one.folder.name) for one in (results, other)]
    return map_display.Picture(
        title=f"{results.title(key, name)}: {results.folder.name} minus {other.folder.name}",
        unit=unit,
        values=values,
        percent=np.where(shown, 0, map_display.PERCENT_CAP).astype(np.float32),
        shown=shown,
        fades=False,
        cmap="mrsdl_signed",
        range=(-high, high),
        short_title=f"{results.short_title(key, name)}: {' − '.join(names)}",
    )


def difference_sd(results: Results, other: Results, key: str, name: str) -> np.ndarray | None:
    """Return the SD of the difference of two independent fits, ``(x, y, z)``, NaN where unknown; None without any."""
    first, second = results.sd(key, name), other.sd(key, name)
    if first is None or second is None:
        return None
    return np.hypot(first, at_voxels(results, other, second))
