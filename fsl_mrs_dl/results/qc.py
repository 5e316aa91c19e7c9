"""Quality figures of fits, by FSL-MRS's definitions: line width and signal-to-noise ratio of each metabolite.

Those of FIDs that were filled with zeros are those of the acquired points, where FSL-MRS's change with the filling.  A
tail of water in the signal-free regions counts as noise in FSL-MRS, which takes one polynomial out of the regions of
both sides together; here the noise is that of second differences (:mod:`fsl_mrs_dl.core.noise`), which tails leave
alone.  Without a tail both are the same but for the errors of the two estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.fids import zero_filling
from ..core.noise import noise_outside
from ..fitting.quantification import Quantification

__all__ = ["fit_qc", "line_widths", "metabolite_qc"]

_ROWS_AT_ONCE = 128  # spectra whose metabolites are held in memory


def fit_qc(
    fit: Quantification, widest_hz: np.ndarray, of_narrowest: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return SNR and line width (Hz) of every fitted metabolite, ``(n, n_metabs)`` each; NaN for unusable spectra.

    ``widest_hz`` ``(n,)`` is the broadening that was fitted; ``of_narrowest`` as for :func:`metabolite_qc`.
    """
    snr, width = np.full(fit.conc.shape, np.nan), np.full(fit.conc.shape, np.nan)
    rows = np.flatnonzero(fit.fitted)
    for part in np.array_split(rows, -(-len(rows) // _ROWS_AT_ONCE)) if len(rows) else ():
        spectra = partial(fit.metabolite_spectra, part)
        snr[part], width[part] = metabolite_qc(
            fit.fids[part], spectra, axes=fit.model.axes, widest_hz=widest_hz[part], of_narrowest=of_narrowest
        )
    return snr, width


def line_widths(height: np.ndarray, widest: np.ndarray) -> np.ndarray:
    """Measure full widths in points, at half prominence, of the most prominent peaks of noise-free spectra.

    Parameters
    ----------
    height : ndarray ``(n, n_metabs, n_points)``
        Not negative.
    widest : ndarray ``(n,)``
        Points; wider peaks do not count.

    Returns
    -------
    ndarray ``(n, n_metabs)``
        Zero where no peak rises by 40 % of the highest point.
    """
    top = height.max(-1)
    at = height.argmax(-1)
    index = np.arange(height.shape[-1])
    below, above = index < at[..., None], index > at[..., None]
    # The highest point is as prominent as it is above the higher of the lowest points on its two sides.
    lowest = [np.where(side, height, np.inf).min(-1) for side in (below, above)]
    base = np.maximum(*lowest)
    # Another peak is at most as prominent as it is above the lowest point on its side.
    peaks = np.zeros(height.shape, bool)
    peaks[..., 1:-1] = (height[..., 1:-1] >= height[..., :-2]) & (height[..., 1:-1] >= height[..., 2:])
    others = [np.where(side & peaks, height, -np.inf).max(-1) - least for side, least in zip((below, above), lowest)]
    first = np.maximum(*others) < top - base
    level = ((top + base) / 2)[..., None]
    low = height <= level
    before = np.where(below & low, index, -1).max(-1)
    after = np.where(above & low, index, height.shape[-1]).min(-1)
    inside = first & np.isfinite(base) & (before >= 0) & (after < height.shape[-1])

    def crossing(outer, inner):
        a, b = (np.take_along_axis(height, np.clip(i, 0, height.shape[-1] - 1)[..., None], -1) for i in (outer, inner))
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((level - a) / (b - a))[..., 0]

    width = (after - crossing(after, after - 1)) - (before + crossing(before, before + 1))
    clear = inside & (top > 0) & (top - base >= 0.4 * top) & (width <= widest[:, None])
    flat = np.take_along_axis(height, np.clip(at + 1, 0, height.shape[-1] - 1)[..., None], -1)[..., 0] == top
    out = np.where(clear & ~flat, width, 0.0)
    # The highest point is at the edge, on too wide a peak or beside a more prominent one: another one may count.
    for row, metab in np.argwhere((~clear | flat) & (top > 0)):
        out[row, metab] = _line_width(height[row, metab], widest[row])
    return out


def _line_width(height: np.ndarray, widest: float) -> float:
    """Return the width in points of the most prominent peak that is not too wide; zero if there is none.

    As ``scipy.signal.find_peaks``, whose import takes longer than the fit of a spectrum.
    """
    most, width = 0.4 * height.max(), 0.0
    for first, last in _local_maxima(height):
        peak = (first + last) // 2
        top = height[peak]
        if top < most:
            continue  # A peak is no more prominent than it is high.
        higher = np.flatnonzero(height > top)
        begin = higher[higher < peak].max(initial=-1) + 1
        end = higher[higher > peak].min(initial=len(height))
        prominence = top - max(height[begin : peak + 1].min(), height[peak:end].min())
        if prominence < most or (prominence == most and width):
            continue
        level = top - prominence / 2
        own = _crossing(height[peak:end], level) + _crossing(height[begin : peak + 1][::-1], level)
        if own <= widest:
            most, width = prominence, own
    return float(width)


def _local_maxima(height: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first and last point of every maximum, which may be flat; ends of the spectrum are none."""
    starts = np.flatnonzero(np.r_[True, np.diff(height) != 0])
    values = height[starts]
    for i in np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])) + 1:
        yield int(starts[i]), int(starts[i + 1]) - 1


def _crossing(height: np.ndarray, level: float) -> float:
    """Return how many points after the first one a curve has come down to a level."""
    low = np.flatnonzero(height <= level)
    if not low.size:
        return float(len(height) - 1)
    i = low[0]
    return float(i - (level - height[i]) / (height[i - 1] - height[i])) if i else 0.0


def metabolite_qc(
    fids: np.ndarray,
    spectra: Callable[[np.ndarray], np.ndarray],
    *,
    axes: Axes,
    widest_hz: np.ndarray,
    of_narrowest: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return matched-filter SNR and line width (Hz) of every metabolite.

    Both are NaN for a nucleus whose signal-free regions are not known.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        The data.
    spectra : callable
        Additional dampings ``(n,)`` in 1/s -> the fitted spectra of the metabolites in the window, complex ``(n,
        n_metabs, n_window)``.
    axes : Axes
        Those of the data.
    widest_hz : ndarray ``(n,)``
        The broadening that was fitted.
    of_narrowest : float, optional
        Lines up to this factor of the spectrum's narrowest one count, too: those of a fit whose widths are added to a
        line shape.  The matched filter is then that of the narrowest line, whether or not every metabolite has one.

    Returns
    -------
    snr : ndarray ``(n, n_metabs)``
        Height after the filter over the noise after it, which is the root of two times the SD of a real channel.
    widths : ndarray ``(n, n_metabs)``
        Zero of metabolites without a line.
    """
    plain = spectra(np.zeros(len(fids)))
    if units.nucleus(axes.nucleus).signal_free is None:
        nothing = np.full(plain.shape[:2], np.nan)
        return nothing, nothing.copy()
    height, widest, step = np.abs(plain.real), np.asarray(widest_hz), axes.dwelltime * axes.n_points
    if of_narrowest is not None:
        every = line_widths(height, np.full(len(height), np.inf)) / step
        narrowest = np.nanmin(np.where(every > 0, every, np.nan), axis=1, initial=np.inf)
        widest = np.fmax(widest, np.where(np.isfinite(narrowest), of_narrowest * narrowest, 0))
    # FSL-MRS compares a peak's width in points with twice the broadening in Hz.  Here they are points of the spectrum
    # that was acquired: zeros that are filled in make none of its lines wider.
    filling = zero_filling(fids)
    widths = line_widths(height, 2 * widest * filling) / step
    # It takes the narrowest line, in Hz, as the rate of the matched filter, and leaves the filter out where a
    # metabolite has no line.  Lipids of the in-vivo model often have none, and the filter would come and go with them.
    decay = widths.min(1)
    if of_narrowest is not None:
        decay = np.where(widths > 0, widths, np.inf).min(1)
        decay = np.where(np.isfinite(decay), decay, 0)
    noise = np.sqrt(2) * noise_outside(units.fid_to_spec(fids), axes) * _noise_after_filter(decay, filling, axes)
    with np.errstate(divide="ignore", invalid="ignore"):  # of data without noise
        return np.abs(spectra(decay).real).max(-1) / noise[:, None], widths


def _noise_after_filter(decay: np.ndarray, filling: np.ndarray, axes: Axes) -> np.ndarray:
    """Return what part of white noise remains after filters of rates ``decay`` ``(n,)`` in 1/s, of FIDs that were
    filled with zeros by factors ``filling`` ``(n,)``."""
    time = axes.time()
    acquired = time < (axes.n_points * axes.dwelltime / filling)[:, None] - axes.dwelltime / 2
    return np.sqrt(np.mean(np.exp(-2 * decay[:, None] * time), axis=1, where=acquired))
