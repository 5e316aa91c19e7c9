"""FIDs on another time grid, by the best linear estimate of a signal with a known power spectrum."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["resample"]

# Points that each new one is estimated from; bins of the power spectrum, more than twice as many, and those that the
# wings of a damped line reach, beyond the bandwidth, too.
_TAPS, _BINS, _WING = 64, 150, 5
_FREQUENCY = (np.arange(_BINS + 2 * _WING) + 0.5 - _WING) / _BINS - 0.5  # in cycles per point
# Size of a FID, over its largest point, below which its end counts as zero: files have six digits.
_ZERO = 1e-5
_WINDOW, _LEAST_NOISE = 30.0, 1e-12
# Broad lines live for some ten milliseconds; a window twice as short would blur the edge of the new bandwidth.
_SHORTEST_WINDOW_S = 0.064


def resample(fids: np.ndarray, dwelltime: float, new_dwelltime: float, n_points: int, start: float = 0.0) -> np.ndarray:
    """Return FIDs at other times.

    A FID begins with a jump, and ends with one where it was cut and filled with zeros; cutting or padding its discrete
    Fourier transform rings at both.  Here every new point is the linear combination of up to 64 neighbours that has the
    least mean square error among random signals with the power spectrum of that FID (kriging, or Wiener filtering);
    near a jump all neighbours lie on one side of it.  Lines outside the new bandwidth are suppressed.

    Parameters
    ----------
    fids : complex ndarray ``(n_fids, n_old_points)``
    dwelltime, new_dwelltime : float
        Seconds.
    n_points : int
        Of the new grid.  Points behind the last old one are zero.
    start : float
        Time of the first new point after the first old one, in seconds.

    Returns
    -------
    complex ndarray ``(n_fids, n_points)``
    """
    place = (start + np.arange(n_points) * new_dwelltime) / dwelltime
    nyquist, shortest = 0.5 * dwelltime / new_dwelltime, int(_SHORTEST_WINDOW_S / dwelltime)
    new, grids = np.zeros((len(fids), n_points), complex), {}
    for row, fid in zip(new, fids):
        size = np.abs(fid)
        if not size.any():
            continue
        n = int(np.flatnonzero(size > _ZERO * size.max())[-1]) + 1
        if n not in grids:
            grids[n] = _grid(place, n)
        which, neighbours, waves = grids[n]
        power, unwanted = _power_spectra(fid[:n], nyquist, shortest)
        weights = _weights(power, unwanted, neighbours.shape[1], waves)
        row[: len(which)] = np.einsum("tk,tk->t", fid[neighbours], weights[which])
    return new


def _grid(place: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the new points lie among ``n`` old ones, those behind the last left out.

    They are, for every new point, the row of its distance from the first of its neighbours among all such distances,
    and the numbers of its neighbours ``(n_new, taps)``; and waves of all frequencies at these distances
    ``(n_distances, n_frequencies)``.
    """
    # A new point belongs to the signal up to half a point behind the last of it; the hundredth is rounding.
    place = place[place < n - 0.49]
    taps = min(_TAPS, n)
    start = np.clip(np.floor(place).astype(int) - taps // 2 + 1, 0, n - taps)
    distances, which = np.unique(np.round(place - start, 9), return_inverse=True)
    return which, start[:, None] + np.arange(taps), np.exp(2j * np.pi * distances[:, None] * _FREQUENCY)


def _weights(power: np.ndarray, unwanted: np.ndarray, taps: int, waves: np.ndarray) -> np.ndarray:
    """Return weights ``(n, taps)`` of neighbouring points for values where frequencies have the ``waves``.

    ``power`` is the spectrum of the signal and ``unwanted`` that of lines to be suppressed, both ``(n_frequencies,)``.
    """
    near = np.exp(2j * np.pi * np.arange(taps)[:, None] * _FREQUENCY)
    values, vectors = np.linalg.eigh((near * (power + unwanted)) @ near.conj().T)
    values = np.maximum(values, 0) + _LEAST_NOISE * values[-1]
    return waves @ ((power[:, None] * near.conj().T) @ (vectors / values) @ vectors.conj().T)


def _power_spectra(fid: np.ndarray, nyquist: float, shortest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the power, at all frequencies, of lines with a frequency up to ``nyquist``, and of lines beyond it.

    Narrow lines are seen in the whole FID, broad ones in its first part, of no fewer than ``shortest`` points.
    """
    n, spectra = len(fid), list[np.ndarray]()
    while not spectra or n >= max(1, shortest):
        # The window is zero at both jumps, so that the spectrum falls off fast beside a line.
        window = np.kaiser(n, _WINDOW)
        fine = int(np.ceil(2 * n / _BINS))
        spectrum = np.fft.fftshift(np.fft.fft(fid[:n] * window, fine * _BINS))
        spectra.append((np.abs(spectrum) ** 2).reshape(_BINS, fine).max(-1) / (window**2).sum())
        n //= 4
    power, own = np.max(spectra, axis=0), np.abs(_FREQUENCY[_WING:-_WING]) <= nyquist
    # Each bin spreads over the wings of a line in it.
    return tuple(
        sliding_window_view(np.pad(part, 2 * _WING), 2 * _WING + 1).max(-1) for part in (power * own, power * ~own)
    )
