"""Line shape and eddy currents from an unsuppressed water reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.axes import Axes

__all__ = ["WaterReference", "water_reference"]

_SMOOTH_S = 0.004
_NOISE_FACTOR, _LEAST_SHARE = (
    5.0,
    3e-3,
)  # water is used while above this many times its noise, and this share of its start


@dataclass(frozen=True)
class WaterReference:
    """Properties of water that spectra share.

    Attributes
    ----------
    phase : ndarray ``(n, n_points)``
        Radians; a spectrum times ``exp(-1j phase)`` is free of eddy currents (Klose, doi 10.1002/mrm.1910140104).
    log_shape : ndarray ``(n, n_points)``
        Logarithm of the magnitude of the water FID, zero at its beginning.
    axes : Axes
    """

    phase: np.ndarray
    log_shape: np.ndarray
    axes: Axes

    def corrected(self, fids: np.ndarray) -> np.ndarray:
        """Return FIDs ``(n, n_points)`` without eddy currents."""
        return fids * np.exp(-1j * self.phase)

    def shape(self, time: np.ndarray) -> np.ndarray:
        """Return the line shape at times (s, from before zero), ``(n, n_time)``."""
        t = np.arange(self.axes.n_points) * self.axes.dwelltime
        near = min(8, len(t) - 1)
        out = np.empty((len(self.log_shape), len(time)))
        for row, log in enumerate(self.log_shape):
            early = (log[near] - log[2]) / (t[near] - t[2])
            before = early * np.clip(time, -0.02, 0)
            out[row] = np.exp(np.where(time < 0, before, np.interp(time, t, log)))
        return out


def water_reference(water: np.ndarray, axes: Axes) -> WaterReference:
    """Take eddy-current phase and line shape from water FIDs, complex ``(n, n_points)``."""
    n, t = axes.n_points, np.arange(axes.n_points) * axes.dwelltime
    width = max(1, int(round(_SMOOTH_S / axes.dwelltime)))
    kernel = np.hanning(2 * width + 1) + 1e-9
    kernel /= kernel.sum()
    # The carrier's offset is taken out before smoothing.
    spectrum = np.fft.fft(water, n=4 * n, axis=-1)
    peak = np.fft.fftfreq(4 * n, axes.dwelltime)[np.abs(spectrum).argmax(-1)]
    turned = water * np.exp(-2j * np.pi * peak[:, None] * t)
    padded = np.pad(turned, ((0, 0), (width, width)), mode="edge")
    smooth = np.stack([np.convolve(row, kernel, "valid") for row in padded])
    magnitude = np.abs(smooth)
    start = np.abs(water[:, 1:4]).mean(-1, keepdims=True)
    noise = np.abs(water[:, -n // 10 :]).mean(-1, keepdims=True)
    enough = magnitude > np.maximum(_NOISE_FACTOR * noise, _LEAST_SHARE * start)
    enough = np.cumprod(enough, axis=-1).astype(bool)
    phase, log_shape = np.unwrap(np.angle(smooth), axis=-1), np.empty(water.shape)
    for row in range(len(water)):
        last = max(int(enough[row].sum()) - 1, 8)
        log = np.log(np.maximum(magnitude[row] / start[row], 1e-6))
        # Beyond the last usable point the decay goes on as over its second half.
        slope = min((log[last] - log[last // 2]) / (t[last] - t[last // 2]), 0.0)
        log[last + 1 :] = log[last] + slope * (t[last + 1 :] - t[last])
        phase[row, last + 1 :] = phase[row, last]
        log_shape[row] = log
    return WaterReference(phase, log_shape, axes)
