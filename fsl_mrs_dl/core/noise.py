"""Noise of spectra without a model: points of noise only, and its SD."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np

from . import units
from .axes import Axes
from .fids import FEWEST_ACQUIRED

__all__ = ["filtered_noise", "noise_outside", "quiet_points"]

# Noise between signals over that of signal-free ends: 0.7 to 1.6 in measured and simulated data of any SNR, and 7 and
# more where a filter took the ends.
_FILTERED = 5.0
# Of half a normal distribution, the SD over which are quantiles of 10 and 25 %.
_TENTH, _QUARTER = 0.12566, 0.31864
_LEAST_POINTS = 48
_HIGHEST = 50.0  # strong lines that were cut off fill the window
_LEAST_SECONDS = 0.35  # of an acquisition at whose middle lines have decayed
_ROUNDING = 30.0  # of the precision: what a Fourier transform and its inverse leave of zeros, over the largest point
_FILLED = 0.95  # of the points; where more were acquired, zeros behind them make no difference


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
    ``(...,)``; from between their signals where a filter took the noise at the ends.

    Second differences remove the tails of strong lines.  Points of a zero-filled spectrum are not independent: its
    noise is measured in the spectrum of the points that were acquired.
    """
    noise = np.empty(spec.shape[:-1])
    for rows, acquired, used in _acquisitions(spec, axes):
        ends = _noise_of_ends(acquired, used)
        between, white = _noise_between(acquired, used)
        noise[rows] = np.where(white & (between > _FILTERED * ends), between, ends)
    return noise


def filtered_noise(spec: np.ndarray, axes: Axes) -> np.ndarray:
    """Tell which spectra have much less noise at their signal-free ends than between signals, ``(..., n_points)`` ->
    bool ``(...,)``."""
    filtered = np.zeros(spec.shape[:-1], bool)
    for rows, acquired, used in _acquisitions(spec, axes):
        between, white = _noise_between(acquired, used)
        filtered[rows] = white & (between > _FILTERED * _noise_of_ends(acquired, used))
    return filtered


def _acquisitions(spec: np.ndarray, axes: Axes) -> Iterator[tuple[np.ndarray, np.ndarray, Axes]]:
    """Yield which spectra ``(..., n_points)`` were acquired with the same number of points, bool ``(...)``, these
    spectra without the zeros that FIDs were filled with, ``(n, n_acquired)``, and their axes.

    The SD of their noise is that of the spectra as they are.
    """
    n_points = spec.shape[-1]
    fids = units.spec_to_fid(spec)
    size = np.abs(fids)
    signal = size > _ROUNDING * np.finfo(size.dtype).eps * size.max(-1, keepdims=True)
    acquired = n_points - signal[..., ::-1].argmax(-1)
    acquired = np.where(signal.any(-1) & (acquired < _FILLED * n_points), acquired, n_points)
    acquired = np.minimum(np.maximum(acquired, FEWEST_ACQUIRED), n_points)
    for n in np.unique(acquired):
        rows = acquired == n
        if n == n_points:
            yield rows, spec[rows], axes.with_points(n_points)
        else:
            yield rows, units.fid_to_spec(fids[rows][:, :n]) * np.sqrt(n / n_points), axes.with_points(int(n))


def _noise_of_ends(spec: np.ndarray, axes: Axes) -> np.ndarray:
    quiet = quiet_points(axes)
    difference = np.diff(spec, n=2, axis=-1)
    use = quiet[:-2] & quiet[1:-1] & quiet[2:]
    values = difference[..., use]
    values = np.concatenate([values.real, values.imag], axis=-1)
    # 6 = 1 + 4 + 1, the variance of a second difference of white noise; 1.4826 turns a median deviation into an SD.
    return 1.4826 * np.median(np.abs(values), axis=-1) / np.sqrt(6)


def _noise_between(spec: np.ndarray, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return the SD of fast changes between signals of the usual window, and whether they are white noise, ``(...,)``
    each.

    High differences narrow lines to a few points, so that a low quantile is of the points between them.  White noise
    gives one SD whatever their order and the quantile; what remains of lines does not.
    """
    shape = spec.shape[:-1]
    if axes.usual_window is None:
        return np.zeros(shape), np.zeros(shape, bool)
    first, last = axes.window(axes.usual_window)
    if last - first < _LEAST_POINTS or axes.n_points * axes.dwelltime < _LEAST_SECONDS:
        return np.zeros(shape), np.zeros(shape, bool)

    def changes(order: int) -> np.ndarray:
        values = np.diff(spec[..., first:last], n=order, axis=-1)
        return np.abs(np.concatenate([values.real, values.imag], axis=-1)) / np.sqrt(comb(2 * order, order))

    fast = changes(4)
    tenth, quarter = np.quantile(fast, (0.1, 0.25), axis=-1)
    between, of_quarter = tenth / _TENTH, quarter / _QUARTER
    of_sixth = np.quantile(changes(6), 0.25, axis=-1) / _QUARTER
    white = (of_sixth > 0.6 * of_quarter) & (between > 0.5 * of_quarter)
    return between, white & (fast.max(-1) < _HIGHEST * between)
