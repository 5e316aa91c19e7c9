"""Quality figures of fits, by FSL-MRS's definitions: line width and signal-to-noise ratio of each metabolite.

Those of FIDs that were filled with zeros are those of the acquired points, where FSL-MRS's change with the filling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.fids import zero_filling
from ..fitting.quantification import Quantification

__all__ = ["fit_qc", "line_widths", "metabolite_qc", "noise_points"]

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


def _trend(x: np.ndarray) -> np.ndarray:
    """Return orthonormal polynomials over the points x, ``(n_points, order + 1)``; order 4, less for few points."""
    if x.size <= 2:
        return np.zeros((x.size, 0))
    order = 1 if x.size <= 20 else 4
    return np.linalg.qr(np.polynomial.polynomial.polyvander(np.interp(x, (x.min(), x.max()), (-1, 1)), order))[0]


def _detrended(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Remove a polynomial from ``(..., n_points)``."""
    trend = _trend(x)
    return values - (values @ trend) @ trend.T


def _levene(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return p-values ``(n,)`` of Levene's test of equal spread around the mean, of rows ``(n, k)`` and ``(n, l)``."""
    from scipy.special import fdtrc

    z = [np.abs(part - part.mean(1, keepdims=True)) for part in (one, other)]
    n = [part.shape[1] for part in z]
    means = [part.mean(1) for part in z]
    mean_of_all = (n[0] * means[0] + n[1] * means[1]) / sum(n)
    between = sum(size * (mean - mean_of_all) ** 2 for size, mean in zip(n, means))
    within = sum(((part - mean[:, None]) ** 2).sum(1) for part, mean in zip(z, means))
    with np.errstate(divide="ignore", invalid="ignore"):
        return fdtrc(1, sum(n) - 2, (sum(n) - 2) * between / within)


def noise_points(spec: np.ndarray, ppm: np.ndarray, nucleus: str = "1H") -> np.ndarray | None:
    """Return which points of spectra ``(..., n_points)`` hold noise only, bool of that shape; None for a nucleus
    without known regions.

    Where the outer quarters of the bandwidth are quieter or louder than the rest (Levene's test at 5 %), they are edges
    of the filter of an oversampled acquisition and are left out.
    """
    candidates = _noise_candidates(spec.reshape(-1, spec.shape[-1]), ppm, nucleus)
    if candidates is None:
        return None
    masks, which = candidates
    return masks[which].reshape(spec.shape)


def _noise_candidates(spec: np.ndarray, ppm: np.ndarray, nucleus: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return two masks for the points of noise, bool ``(2, n_points)``, and the number of that of every spectrum."""
    quiet = units.nucleus(nucleus).signal_free
    if quiet is None:
        return None
    n = spec.shape[-1]
    mask, flat = np.zeros(n, bool), np.zeros(spec.shape)
    for limits in ((ppm.min(), quiet[0]), (quiet[1], ppm.max())):
        first, last = units.window_indices(ppm, limits)
        region = slice(first, last + 1)
        mask[region] = True
        flat[:, region] = _detrended(spec.real[:, region], ppm[region])
    outer = np.zeros(n, bool)
    outer[: n // 4] = outer[n - n // 4 :] = True
    everywhere = np.zeros(len(spec), int)
    if mask.sum() < 100:
        mask[:50] = mask[-50:] = True
        return np.stack([mask, mask]), everywhere
    # FSL-MRS takes the exclusive or, so the points of the outer quarters beyond the quiet regions count, too.
    inner_points, outer_points = mask ^ outer, mask & outer
    if inner_points.sum() < 2 or outer_points.sum() < 2:
        return np.stack([mask, mask]), everywhere
    filtered = _levene(flat[:, outer_points], flat[:, inner_points]) < 0.05
    return np.stack([mask, inner_points]), filtered.astype(int)


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
    """Return matched-filter SNR and line width (Hz) of every metabolite, two arrays ``(n, n_metabs)``.

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
        line shape.
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
    # It takes the narrowest line, in Hz, as the rate of the matched filter.
    decay = widths.min(1)
    noise = np.empty(len(fids))
    for factor in np.unique(filling):
        rows = filling == factor
        noise[rows] = _filtered_noise(fids[rows, : round(axes.n_points / factor)], axes, decay[rows]) / np.sqrt(factor)
    return np.abs(spectra(decay).real).max(-1) / noise[:, None], widths


def _filtered_noise(fids: np.ndarray, axes: Axes, decay: np.ndarray) -> np.ndarray:
    """Return the noise of FIDs without zeros ``(n, n_points)`` in their spectra after a filter of rates ``decay``
    ``(n,)``: the root of two times the SD of the real part."""
    axes = axes.with_points(fids.shape[1])
    candidates = _noise_candidates(units.fid_to_spec(fids), axes.ppm(), axes.nucleus)
    assert candidates is not None
    filtered = units.fid_to_spec(fids * np.exp(-decay[:, None] * axes.time()))
    noise = np.empty(len(fids))
    masks, which = candidates
    for kind in (0, 1):
        part = filtered[which == kind][:, masks[kind]]
        noise[which == kind] = np.sqrt(2) * np.std(_detrended(part, np.arange(part.shape[1])).real, axis=1)
    return noise
