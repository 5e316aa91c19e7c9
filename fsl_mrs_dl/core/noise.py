"""Noise of spectra without a model: points of noise only, and its SD."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np

from . import units
from .axes import Axes
from .fids import FEWEST_ACQUIRED

__all__ = ["filtered_noise", "noise_outside", "noise_within", "quiet_points", "remaining_band"]

# Noise between signals over that of signal-free ends: 0.7 to 1.6 in measured and simulated data of any SNR, and 7 and
# more where a filter took the ends.
_FILTERED = 5.0
_OF_CORE = 3.0  # the same of noise among the metabolites over that of the whole window
# Of half a normal distribution, the SD over which are quantiles of 10 and 25 %.
_TENTH, _QUARTER = 0.12566, 0.31864
_LEAST_POINTS = 48
_HIGHEST = 50.0  # strong lines that were cut off fill the window
_LEAST_SECONDS = 0.35  # of an acquisition at whose middle lines have decayed
_ROUNDING = 30.0  # of the precision: what a Fourier transform and its inverse leave of zeros, over the largest point
_FILLED = 0.95  # of the points; where more were acquired, zeros behind them make no difference

_CORE_PPM = (1.9, 3.4)  # NAA to choline: no filter takes these
_STEP_PPM, _HALF_PPM, _FEWEST_CHANGES = 0.05, 0.1, 5  # of places where the noise of a band is measured
_EDGE, _TAKEN = 0.55, 0.2  # noise over that among the metabolites, at the edge of a band and behind it
_UNEVEN = 3.0  # noise near lines over that between them, from which on it is that of lines
_LEAST_SHARE = 0.25  # of spectra with noise between their lines
_FEWEST_PLACES = 4  # without noise: one may have little of it by chance
_MOST_SPECTRA = 64  # of an acquisition, that its band is found from


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


def noise_within(spec: np.ndarray, axes: Axes, ppmlim: tuple[float, float]) -> np.ndarray:
    """Return the noise SD per real channel between two chemical shifts, from between the signals there,
    ``(..., n_points)`` -> ``(...,)``."""
    first, last = axes.window(ppmlim)
    return np.quantile(_fast_changes(spec[..., first:last], 4), 0.25, axis=-1) / _QUARTER


def remaining_band(spec: np.ndarray, axes: Axes) -> tuple[float, float]:
    """Return the limits in ppm between which spectra of one acquisition have kept their noise.

    A filter takes the noise with the signals, whatever these are.  So the band is where the noise between the signals,
    in the median over spectra, is that among NAA, creatine and choline, and it ends where the noise falls to less than
    a fifth of that as far as the end of the usual window.

    Parameters
    ----------
    spec : complex ndarray ``(n, n_points)``
    axes : Axes

    Returns
    -------
    (float, float)
        Infinite on a side where nothing of the usual window was taken, or where that cannot be measured: nuclei other
        than 1H, short acquisitions, and spectra without noise.
    """
    whole = (-np.inf, np.inf)
    if axes.nucleus != "1H" or axes.n_points * axes.dwelltime < _LEAST_SECONDS or not len(spec):
        return whole
    spec = spec[np.unique(np.linspace(0, len(spec) - 1, min(len(spec), _MOST_SPECTRA)).astype(int))]
    low, high = axes.usual_window or whole
    places = np.arange(low, high + _STEP_PPM / 2, _STEP_PPM).round(3)
    places = places[(places > axes.ppm()[0] + _HALF_PPM) & (places < axes.ppm()[-1] - _HALF_PPM)]
    profiles: list[np.ndarray] = []
    for _, acquired, used in _acquisitions(spec, axes):
        _, white = _white_noise(acquired, used, _CORE_PPM)
        profiles += list(_noise_profiles(acquired[white], used, places)) if white.any() else []
    if not profiles or len(profiles) < _LEAST_SHARE * len(spec):
        return whole  # lines hide the noise
    profile, middle = np.median(profiles, axis=0), int(np.abs(places - np.mean(_CORE_PPM)).argmin())
    # At a very high SNR lines add to the noise of most of the core, but hardly of all.
    most = _TAKEN * profile[(places > _CORE_PPM[0]) & (places < _CORE_PPM[1])].min()
    below, above = _edge(profile[middle::-1], most), _edge(profile[middle:], most)
    return (
        whole[0] if below is None else float(places[middle - below]),
        whole[1] if above is None else float(places[middle + above]),
    )


def _noise_profiles(spec: np.ndarray, axes: Axes, places: np.ndarray) -> np.ndarray:
    """Return the noise at some chemical shifts over that among NAA, creatine and choline, ``(n, n_places)``, of the
    spectra where it is much alike among these."""
    order = 4
    fast = _fast_changes(spec, order).reshape(len(spec), 2, -1)
    ppm = axes.ppm()[order // 2 : -order // 2]
    out = np.empty((len(spec), len(places)))
    for column, place in enumerate(places):
        near = np.abs(ppm - place) <= max(_HALF_PPM, _FEWEST_CHANGES / 2 * axes.ppm_per_point)
        out[:, column] = np.quantile(fast[..., near].reshape(len(spec), -1), 0.25, axis=-1)
    core = (places > _CORE_PPM[0]) & (places < _CORE_PPM[1])
    # Lines only ever add to the noise between them.
    quarter, most = np.quantile(out[:, core], (0.25, 0.9), axis=1)
    alike = (most < _UNEVEN * quarter) & (quarter > 0)
    return out[alike] / quarter[alike, None]


def _edge(profile: np.ndarray, most: float) -> int | None:
    """Return the last place from the first outwards before a filter takes the noise, but for ``most`` of it; None if
    none does."""
    for place in range(1, len(profile) - _FEWEST_PLACES):
        if profile[place] < _EDGE and np.median(profile[place + 1 :]) < most:
            return place - 1
    return None


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
    """Return the SD of fast changes between signals, and whether they are white noise, ``(...,)`` each: those of the
    usual window, or between NAA and choline, where a filter took a large part of that window."""
    if axes.usual_window is None or axes.n_points * axes.dwelltime < _LEAST_SECONDS:
        return np.zeros(spec.shape[:-1]), np.zeros(spec.shape[:-1], bool)
    between, white = _white_noise(spec, axes, axes.usual_window)
    if axes.nucleus != "1H":
        return between, white
    core, core_white = _white_noise(spec, axes, _CORE_PPM)
    taken = core_white & (core > _OF_CORE * between)
    if taken.any() and np.isinf(remaining_band(spec.reshape(-1, axes.n_points), axes)).all():
        return between, white
    return np.where(taken, core, between), white | taken


def _white_noise(spec: np.ndarray, axes: Axes, ppmlim: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the SD of fast changes in a window, and whether they are white noise, ``(...,)`` each.

    High differences narrow lines to a few points, so that a low quantile is of the points between them.  White noise
    gives one SD whatever their order and the quantile; what remains of lines does not.
    """
    first, last = axes.window(ppmlim)
    if last - first < _LEAST_POINTS:
        return np.zeros(spec.shape[:-1]), np.zeros(spec.shape[:-1], bool)
    fast = _fast_changes(spec[..., first:last], 4)
    tenth, quarter = np.quantile(fast, (0.1, 0.25), axis=-1)
    between, of_quarter = tenth / _TENTH, quarter / _QUARTER
    of_sixth = np.quantile(_fast_changes(spec[..., first:last], 6), 0.25, axis=-1) / _QUARTER
    white = (of_sixth > 0.6 * of_quarter) & (between > 0.5 * of_quarter)
    return between, white & (fast.max(-1) < _HIGHEST * between)


def _fast_changes(spec: np.ndarray, order: int) -> np.ndarray:
    """Return differences of an even order, real and imaginary parts ``(..., 2 (n - order))``, of the SD of the
    noise."""
    values = np.diff(spec, n=order, axis=-1)
    return np.abs(np.concatenate([values.real, values.imag], axis=-1)) / np.sqrt(comb(2 * order, order))
