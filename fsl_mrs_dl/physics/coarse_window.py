"""A window of the spectrum on a coarse time grid: decaying signals in a few ppm, with several times fewer points than
were acquired.

A signal is filtered once to the window and a margin, sampled as coarsely as that band allows, and continued smoothly
before time zero and after its end, where a decay may be anything (see :mod:`fsl_mrs_dl.fitting.coarse_model`).  Decays,
shifts and line shapes are then products on the coarse grid, and a short transform gives the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError

__all__ = ["CoarseWindow", "make_window", "points_with_signal"]

_BETA = 9.0  # of Kaiser's window: a line outside of the margin leaks into the window by exp(-9)
_FAST = (1, 3, 5, 9, 15, 25)  # transforms are fast at powers of two times these
_LEAST_POINTS = 16


@dataclass(frozen=True)
class CoarseWindow:
    """The fitted points of a transform of the first points of a FID, and the coarse grid that gives them.

    Attributes
    ----------
    axes : Axes
        Of the points that are used.
    first, last : int
        Fitted bins, counted from the lowest frequency; ``last`` is left out.
    n_coarse, extra : int
        Length of the coarse transform; points before and after it.
    time : ndarray ``(n_coarse + 2 extra,)``
        Seconds, from before zero.
    taper : ndarray ``(n_coarse + 2 extra,)``
        One during the FID, smoothly to zero outside.
    hz, ppm : ndarray ``(n_window,)``
        Offset from the carrier, and chemical shift, of the fitted bins.
    """

    axes: Axes
    first: int
    last: int
    n_coarse: int
    extra: int
    time: np.ndarray
    taper: np.ndarray
    hz: np.ndarray
    ppm: np.ndarray

    @property
    def n_window(self) -> int:
        """Number of fitted bins."""
        return self.last - self.first

    def transform(self, fids: np.ndarray) -> np.ndarray:
        """Transform FIDs ``(..., n_points)`` to the window, first point halved, unitary: ``(..., n_window)``."""
        n = self.axes.n_points
        used = np.array(fids[..., :n], dtype=complex)
        used[..., 0] *= 0.5
        bins = (np.arange(self.first, self.last) - n // 2) % n
        return np.fft.fft(used, axis=-1)[..., bins] / math.sqrt(n)

    def coarse(self, fids: np.ndarray) -> np.ndarray:
        """Bring noiseless signals ``(..., >= n_points)`` on the data's time grid to the extended coarse grid."""
        n, m = self.axes.n_points, self.n_coarse
        fids = np.array(fids[..., :n], dtype=complex)
        fids[..., 0] *= 0.5
        # On twice the duration, so that what the filter smears before time zero does not come out at the end.
        spectra = np.fft.fft(fids, n=2 * n, axis=-1)
        below = (m - self.n_window) // 2
        bins = np.arange(2 * m) - 2 * below
        band = np.zeros((*fids.shape[:-1], 2 * m), complex)
        band[..., bins % (2 * m)] = spectra[..., (bins + 2 * (self.first - n // 2)) % (2 * n)]
        coarse = np.fft.ifft(band, axis=-1) * (m / n)
        index = np.arange(-self.extra, m + self.extra) % (2 * m)
        return coarse[..., index] * (self.taper * (n / m / math.sqrt(n)))


def make_window(axes: Axes, ppmlim: tuple[float, float], margin_ppm: float = 0.45) -> CoarseWindow:
    """Design the coarse grid for the bins between two chemical shifts (ppm).

    Raises
    ------
    OptionError
        If the window holds too few points.
    """
    n, duration = axes.n_points, axes.n_points * axes.dwelltime
    hz = (np.arange(n) - n // 2) / duration
    ppm = axes.hz_to_ppm(hz)
    inside = np.flatnonzero((ppm >= ppmlim[0]) & (ppm <= ppmlim[1]))
    if len(inside) < _LEAST_POINTS:
        raise OptionError(
            f"holds {len(inside)} spectral points, at least {_LEAST_POINTS} are needed",
            option="ppmlim",
            value=f"{ppmlim[0]:g} {ppmlim[1]:g}",
            remedy=f"the data span {ppm[0]:.1f} to {ppm[-1]:.1f} ppm",
        )
    first, last = int(inside[0]), int(inside[-1]) + 1
    width = last - first
    least = width + 2 * math.ceil(max(margin_ppm * axes.spec_freq_mhz, 25.0) * duration)
    n_coarse = min((odd << power for odd in _FAST for power in range(3, 20) if odd << power >= least), default=n)
    n_coarse = min(n_coarse, n)
    margin_hz = max((n_coarse - width) / 2 / duration, 10.0)
    rise = math.sqrt(_BETA**2 + math.pi**2) / (math.pi * margin_hz)
    step = duration / n_coarse
    extra = min(math.ceil(rise / step), n_coarse // 2)
    index = np.arange(-extra, n_coarse + extra)
    taper = _rise_and_fall(index, extra, (n - 1) * axes.dwelltime / step)
    return CoarseWindow(
        axes, first, last, n_coarse, extra, time=index * step, taper=taper, hz=hz[first:last], ppm=ppm[first:last]
    )


def _rise_and_fall(index: np.ndarray, extra: int, last: float) -> np.ndarray:
    """Return one from 0 to ``last``, and a smooth way to zero within ``extra`` points on both sides."""
    grid = np.linspace(-1, 1, 4001)
    running = np.cumsum(np.i0(_BETA * np.sqrt(1 - grid**2)))
    outside = np.maximum(-index, index - last)
    share = 1 - 2 * np.clip(outside / max(extra, 1), 0.0, 1.0)
    return np.where(outside > 0, np.interp(share, grid, running / running[-1]), 1.0)


def points_with_signal(fids: np.ndarray, axes: Axes, ppmlim: tuple[float, float], least_s: float = 0.25) -> int:
    """Return how many points hold the signal of a window, one number for all spectra.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
    axes : Axes
    ppmlim : (float, float)
        The window in ppm.
    least_s : float
        Never shorter than this.

    Returns
    -------
    int
        Points until the mean power of the window is within a quarter of the noise's, and a quarter as many again; an
        even number.
    """
    n = fids.shape[-1]
    nonzero = np.flatnonzero(np.abs(fids).max(0) > 0)
    n = int(nonzero[-1]) + 1 if len(nonzero) else n
    low, high = (units.ppm_to_hz(limit, axes.spec_freq_mhz, axes.nucleus) for limit in ppmlim)
    frequency = np.fft.fftfreq(n, axes.dwelltime)
    spectra = np.fft.fft(fids[:, :n], axis=-1) * ((frequency >= low) & (frequency <= high))
    power = np.abs(np.fft.ifft(spectra, axis=-1)) ** 2
    typical = np.median(power, -1, keepdims=True)
    power = (power / np.where(typical > 0, typical, 1.0)).mean(0)
    size = max(4, int(round(0.016 / axes.dwelltime)))
    blocks = power[: n // size * size].reshape(-1, size).mean(-1)
    if len(blocks) < 4:
        return 2 * (n // 2)
    excess = blocks / max(np.quantile(blocks, 0.2), 1e-300) - 1
    quiet = np.flatnonzero(excess < 0.25)
    end = (quiet[0] if len(quiet) else len(blocks)) * size * 1.25
    return int(2 * (min(n, max(end, least_s / axes.dwelltime)) // 2))
