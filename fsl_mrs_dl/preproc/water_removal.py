"""Removal of residual water: the sum of damped lines that HLSVD finds about it (Barkhuijsen et al.,
doi 10.1016/0022-2364(87)90023-0; Laudadio et al., doi 10.1006/jmre.2002.2593), by the package hlsvdpropy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.axes import Axes
from ..core.errors import DataError
from ..core.fids import acquired_points, usable_fids
from ..core.noise import noise_outside
from ..core.units import fid_to_spec
from ..io.nifti import MrsData

__all__ = ["MOST_TAIL", "WATER_PPM", "WaterRemoval", "lines_within", "remove_residual_water"]

WATER_PPM = (4.3, 5.1)
"""Where lines are residual water, ppm; alpha-glucose at 5.2 and the metabolites below 4.2 are outside of it."""

MOST_TAIL = 0.5
"""Rms of the water's tail in the window over the noise up to which it stays."""

_LINES = 25
_DURATION_S = 0.4  # of an FID, that lines are found in; later it is mostly noise
_FASTEST = 1e3  # damping of a line, 1/s; faster ones are the baseline's


@dataclass(frozen=True)
class WaterRemoval:
    """What a removal of residual water did.

    Attributes
    ----------
    data : MrsData
        Without residual water where it reached into the window, otherwise as they were.
    tail : ndarray
        Rms of the water's tail in the window over the noise, of every spectrum; NaN for unusable ones.
    removed : bool ndarray
        Spectra that it was removed from.
    """

    data: MrsData
    tail: np.ndarray
    removed: np.ndarray


def remove_residual_water(data: MrsData, ppmlim: tuple[float, float] = (0.2, 4.2)) -> WaterRemoval:
    """Remove residual water from the spectra into whose window it reaches.

    Nothing is changed where the tail of the water is below half of the noise there, or where the removal would add
    energy beside the water.

    Parameters
    ----------
    data : MrsData
        Averaged, coils combined.
    ppmlim : (float, float)
        Window that is fitted.

    Raises
    ------
    DataError
        If hlsvdpropy cannot be imported.
    """
    fids = np.moveaxis(data.fids, 3, -1)
    rows = fids.reshape(-1, fids.shape[-1]).astype(complex)
    out, axes = rows.copy(), data.axes
    tail, removed = np.full(len(rows), np.nan), np.zeros(len(rows), bool)
    window, water = slice(*axes.window(ppmlim)), slice(*axes.window(WATER_PPM))
    beside = np.r_[slice(*axes.window((WATER_PPM[0] - 0.4, WATER_PPM[0]))), slice(*axes.window((WATER_PPM[1], 5.5)))]
    for row in np.flatnonzero(usable_fids(rows)):
        lines = lines_within(rows[row], axes)
        noise = float(noise_outside(fid_to_spec(rows[row]), axes))
        tail[row] = _rms(fid_to_spec(lines)[window]) / max(noise, np.finfo(float).tiny)
        before, after = fid_to_spec(rows[row]), fid_to_spec(rows[row] - lines)
        better = _rms(after[water]) < _rms(before[water]) and _rms(after[beside]) <= _rms(before[beside])
        removed[row] = tail[row] > MOST_TAIL and better
        if removed[row]:
            out[row] = rows[row] - lines
    shape = fids.shape[:-1]
    new = np.moveaxis(out.reshape(fids.shape), -1, 3).astype(data.fids.dtype)
    return WaterRemoval(replace(data, fids=new), tail.reshape(shape), removed.reshape(shape))


def lines_within(fid: np.ndarray, axes: Axes, limits: Sequence[tuple[float, float]] = (WATER_PPM,)) -> np.ndarray:
    """Return the sum of an FID's lines within limits in ppm, those of water by default, ``(n_points,)``.

    Raises
    ------
    DataError
        If hlsvdpropy cannot be imported.
    """
    # Zeros that the FID was filled with are no part of its lines.
    acquired = acquired_points(fid)
    part = fid[: min(acquired, int(_DURATION_S / axes.dwelltime))] / np.abs(fid).max()
    turns, damping = _lines(part, min(_LINES, len(part) // 4))
    # Poles that grow are noise, and beside their powers those of the others would vanish.
    steady = damping <= 0
    poles = damping[steady] + 2j * np.pi * turns[steady]
    heights = np.linalg.lstsq(np.exp(poles * np.arange(len(part))[:, None]), part, rcond=None)[0]
    hz, own = turns[steady] / axes.dwelltime, np.zeros(int(steady.sum()), bool)
    for limit in limits:
        low, high = axes.ppm_to_hz(np.array(limit))
        own |= (hz >= low) & (hz <= high)
    own &= -damping[steady] / axes.dwelltime < _FASTEST
    out = np.zeros(len(fid), complex)
    out[:acquired] = np.abs(fid).max() * (np.exp(poles[own] * np.arange(acquired)[:, None]) @ heights[own])
    return out


def _lines(fid: np.ndarray, n_lines: int) -> tuple[np.ndarray, np.ndarray]:
    """Return turns and damping per point of the damped lines of an FID, ``(n_lines,)`` each, by HLSVD."""
    # Not sparse: SciPy's sparse decomposition begins with a random vector that no argument and no seed reaches, and its
    # last digits differ from call to call.  The full one costs as much for the 500 points of a volume's voxels.
    with np.errstate(all="ignore"):  # powers of poles that grow
        _, _, turns, damping, *_ = _hlsvdpro()(fid, n_lines, sparse=False)
    return np.asarray(turns), np.asarray(damping)


def _hlsvdpro() -> Callable[..., tuple]:
    """Return the function of hlsvdpropy."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pkg_resources, which it imports
            from hlsvdpropy.hlsvd import hlsvdpro
    except ImportError as exc:
        raise DataError(
            f"lines of water and lipids are found by hlsvdpropy, which cannot be imported: {exc}",
            remedy="install it with: pip install hlsvdpropy 'setuptools<81'",
        ) from exc
    return hlsvdpro


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.abs(values) ** 2))) if values.size else 0.0
