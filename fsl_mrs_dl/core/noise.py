"""Noise of spectra without a model: points of noise only, and its SD."""

from __future__ import annotations

import numpy as np

from . import units
from .axes import Axes

__all__ = ["noise_outside", "quiet_points"]


def quiet_points(axes: Axes) -> np.ndarray:
    """Tell which points of a spectrum hold noise only, bool ``(n_points,)``.

    The filtered edges of oversampled data have less noise, so the outer eighth of the bandwidth on either side is left
    out where enough remains.
    """
    ppm, n_points = axes.ppm(), axes.n_points
    low, high = units.nucleus(axes.nucleus).signal_free or (ppm[n_points // 8], ppm[-n_points // 8])
    quiet = (ppm < low) | (ppm > high)
    inner = quiet.copy()
    inner[: n_points // 8] = inner[-n_points // 8 :] = False
    quiet = inner if inner.sum() >= 256 else quiet
    if quiet.sum() < 64:
        quiet = np.zeros(n_points, bool)
        quiet[:50] = quiet[-50:] = True
    return quiet


def noise_outside(spec: np.ndarray, axes: Axes) -> np.ndarray:
    """Return the noise SD per real channel from the signal-free ends of whole spectra, ``(..., n_points)`` ->
    ``(...,)``.

    Second differences remove the tails of strong lines.
    """
    quiet = quiet_points(axes)
    difference = np.diff(spec, n=2, axis=-1)
    use = quiet[:-2] & quiet[1:-1] & quiet[2:]
    values = difference[..., use]
    values = np.concatenate([values.real, values.imag], axis=-1)
    # 6 = 1 + 4 + 1, the variance of a second difference of white noise; 1.4826 turns a median deviation into an SD.
    return 1.4826 * np.median(np.abs(values), axis=-1) / np.sqrt(6)
