"""Spikes in FIDs: single points, or few, far above those of the other transients.

A spike adds its energy to every point of the spectrum and to every estimate.  For the estimates it is replaced by its
neighbours' mean; the data are not changed, and a transient whose spikes hold more energy than its noise is an outlier.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..registration.alignment import Alignment

__all__ = ["flag_spikes", "without_spikes"]

_SURE = 12.0  # robust standard deviations above the other transients
_ALONE = 0.2  # of a spike's height that the points around it may exceed the other transients by
_AROUND, _WIDEST = 8, 4  # points around a spike, and most of these that it may take itself
_FEWEST, _ENOUGH = 4, 64  # transients
_MORE_NOISE = 0.28  # variance over that of the noise, from which a residual stands apart as well


def without_spikes(fids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace spikes by the mean of their nearest neighbours.

    Parameters
    ----------
    fids : complex array, shape (n_sets, n_channels, n_transients, n_points)

    Returns
    -------
    fids : complex array
        The same array where there are no spikes.
    energy : ndarray, shape (n_sets, n_channels, n_transients)
        Energy of what was replaced.
    """
    n = fids.shape[2]
    energy = np.zeros(fids.shape[:3])
    if n < _FEWEST:
        return fids, energy
    out = fids
    chosen = np.unique(np.linspace(0, n - 1, min(n, _ENOUGH)).astype(int))
    for index in np.ndindex(*fids.shape[:2]):
        height = np.nan_to_num(np.abs(fids[index]), nan=0.0, posinf=0.0)
        usual = np.median(height[chosen], axis=0)
        spread = 1.4826 * np.median(np.abs(height[chosen] - usual), axis=0)
        # Of few transients the spread at a point is a matter of chance.
        spread = np.maximum(spread, np.median(spread))
        for row in np.flatnonzero((height > usual + _SURE * spread).any(-1) & (spread > 0).any()):
            excess = height[row] - usual
            points = np.flatnonzero(excess > _SURE * spread)
            around = points[:, None] + np.r_[-_AROUND:0, 1 : _AROUND + 1]
            near = np.sort(excess[around.clip(0, len(excess) - 1)], axis=1)[:, : 2 * _AROUND - _WIDEST]
            points = points[near.max(1) < _ALONE * excess[points]]
            if len(points):
                out = fids.copy() if out is fids else out
                fid = out[(*index, row)]
                good = np.setdiff1d(np.arange(len(fid)), points)
                new = np.interp(points, good, fid[good].real) + 1j * np.interp(points, good, fid[good].imag)
                energy[(*index, row)] = (np.abs(fid[points] - new) ** 2).sum()
                fid[points] = new
    return out, energy


def flag_spikes(alignment: Alignment, energy: np.ndarray, noise: np.ndarray, n_points: int) -> Alignment:
    """Return the alignment with transients flagged as outliers whose spikes add much to their noise.

    Parameters
    ----------
    alignment : Alignment
        Of FIDs without spikes.
    energy : ndarray, shape (n_sets, n_channels, n_transients)
        As :func:`without_spikes` returns it.
    noise : ndarray, shape (n_sets, n_channels, n_transients)
        SD of real and imaginary part, without spikes.
    n_points : int
        Points of a FID.
    """
    if not energy.any():
        return alignment
    more = (energy / np.maximum(2 * n_points * noise**2, np.finfo(float).tiny)).mean(1)
    spiked = (more > _MORE_NOISE) & np.isin(alignment.flag, ("ok", "weak"))
    flag, reason = alignment.flag.copy(), alignment.reason.copy()
    flag[spiked], reason[spiked] = "outlier", "spikes"
    weight = np.where(spiked, 0.0, alignment.weight / (1 + more))
    weight = weight / np.maximum(weight.max(1, keepdims=True), np.finfo(float).tiny)
    return replace(alignment, flag=flag, reason=reason, weight=weight)
