"""Line shape and eddy currents from an unsuppressed water reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.axes import Axes
from ...core.fids import usable_fids
from ...physics.in_vivo_components import priors_table

__all__ = ["WATER_USES", "WaterReference", "WaterUse", "water_reference"]

_SMOOTH_S = 0.004
_NOISE_FACTOR, _LEAST_SHARE = (
    5.0,
    3e-3,
)  # water is used while above this many times its noise, and this share of its start


@dataclass(frozen=True)
class WaterUse:
    """The properties that a study takes from its water reference.

    Attributes
    ----------
    line_shape : bool
        The magnitude of water is the line shape of all lines.
    eddy_currents : bool
        The phase of water is taken out of the data.
    """

    line_shape: bool
    eddy_currents: bool

    @property
    def words(self) -> str:
        """The properties in words; 'nothing' for none."""
        parts = ["line shape"] * self.line_shape + ["eddy currents"] * self.eddy_currents
        return " and ".join(parts) or "nothing"


WATER_USES = tuple(WaterUse(shape, eddy) for shape in (True, False) for eddy in (True, False))
"""All of them, the one that takes most first."""


@dataclass(frozen=True)
class WaterReference:
    """Properties of water that spectra share; None where they are not taken from it.

    Attributes
    ----------
    phase : ndarray ``(n, n_points)`` or None
        Radians; a spectrum times ``exp(-1j phase)`` is free of eddy currents (Klose, doi 10.1002/mrm.1910140104).
    log_shape : ndarray ``(n, n_points)`` or None
        Logarithm of the magnitude of the water FID, zero at its beginning.
    usable : bool ndarray ``(n,)``
        Whether the spectrum has a water FID; without one there is no phase, and a Lorentzian line of the usual width.
    axes : Axes
    """

    phase: np.ndarray | None
    log_shape: np.ndarray | None
    usable: np.ndarray
    axes: Axes

    def using(self, use: WaterUse) -> WaterReference:
        """Return the reference with the properties of a use only."""
        phase, log_shape = self.phase if use.eddy_currents else None, self.log_shape if use.line_shape else None
        return replace(self, phase=phase, log_shape=log_shape)

    def rows(self, index) -> WaterReference:
        """Return the reference of some spectra."""
        phase, log_shape = (None if part is None else part[index] for part in (self.phase, self.log_shape))
        return replace(self, phase=phase, log_shape=log_shape, usable=self.usable[index])

    def in_rows(self, usable: np.ndarray) -> WaterReference:
        """Return the reference of usable spectra in their rows of all, bool ``(n,)``; zeros elsewhere."""

        def placed(part: np.ndarray | None) -> np.ndarray | None:
            if part is None:
                return None
            out = np.zeros((len(usable), *part.shape[1:]), part.dtype)
            out[usable] = part
            return out

        phase, log_shape, has_water = (placed(part) for part in (self.phase, self.log_shape, self.usable))
        assert has_water is not None
        return WaterReference(phase, log_shape, has_water, self.axes)

    def corrected(self, fids: np.ndarray) -> np.ndarray:
        """Return FIDs ``(n, n_points)`` without eddy currents."""
        return fids if self.phase is None else fids * np.exp(-1j * self.phase)

    def uncorrected(self, fids: np.ndarray) -> np.ndarray:
        """Return FIDs ``(n, n_points)`` with the eddy currents of the data: the opposite of :meth:`corrected`."""
        return fids if self.phase is None else fids * np.exp(1j * self.phase)

    def shape(self, time: np.ndarray) -> np.ndarray | None:
        """Return the line shape at times (s, from before zero), ``(n, n_time)``; None where there is none."""
        if self.log_shape is None:
            return None
        t = np.arange(self.axes.n_points) * self.axes.dwelltime
        near = min(8, len(t) - 1)
        out = np.empty((len(self.log_shape), len(time)))
        for row, log in enumerate(self.log_shape):
            early = (log[near] - log[2]) / (t[near] - t[2])
            before = early * np.clip(time, -0.02, 0)
            out[row] = np.exp(np.where(time < 0, before, np.interp(time, t, log)))
        return out


def water_reference(water: np.ndarray, axes: Axes) -> WaterReference:
    """Take eddy-current phase and line shape from water FIDs, complex ``(n, n_points)``; those that are zero or not
    finite are not usable."""
    usable = usable_fids(water)
    phase, log_shape = _phase_and_log_shape(water[usable], axes)
    usual = -priors_table()["damping"]["gamma_per_s"] * np.arange(axes.n_points) * axes.dwelltime
    reference = WaterReference(phase, log_shape, np.ones(len(phase), bool), axes).in_rows(usable)
    assert reference.log_shape is not None
    reference.log_shape[~usable] = usual
    return reference


def _phase_and_log_shape(water: np.ndarray, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return the phase and the logarithm of the magnitude of usable water FIDs, ``(n, n_points)`` each."""
    n, t = axes.n_points, np.arange(axes.n_points) * axes.dwelltime
    width = max(1, int(round(_SMOOTH_S / axes.dwelltime)))
    kernel = np.hanning(2 * width + 1) + 1e-9
    kernel /= kernel.sum()
    # The carrier's offset is taken out before smoothing.
    spectrum = np.fft.fft(water, n=4 * n, axis=-1)
    peak = np.fft.fftfreq(4 * n, axes.dwelltime)[np.abs(spectrum).argmax(-1)]
    turned = water * np.exp(-2j * np.pi * peak[:, None] * t)
    # Smoothed over a constant in front of its beginning, a decaying FID would begin too low.
    before = _extrapolated(turned, t, -t[width:0:-1], max(width, 4))
    padded = np.pad(turned, ((0, 0), (width, width)), mode="edge")
    padded[:, :width], padded[:, width] = before, _extrapolated(turned, t, t[:1], max(width, 4))[:, 0]
    smooth = np.zeros(water.shape, complex)
    for row, values in enumerate(padded):
        smooth[row] = np.convolve(values, kernel, "valid")
    magnitude = np.abs(smooth)
    start = magnitude[:, :1]
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
    return phase, log_shape


def _extrapolated(fids: np.ndarray, t: np.ndarray, times: np.ndarray, n: int) -> np.ndarray:
    """Return FIDs without a carrier's offset at other times, from the decay and the turn of points 1 to ``n``; the
    first point of a scanner's FID may be off."""
    early = slice(1, n + 1)
    logs = np.log(np.maximum(np.abs(fids[:, early]), 1e-300)) + 1j * np.unwrap(np.angle(fids[:, early]), axis=-1)
    centre = t[early].mean()
    slope = ((logs - logs.mean(-1, keepdims=True)) * (t[early] - centre)).sum(-1) / ((t[early] - centre) ** 2).sum()
    return np.exp(logs.mean(-1)[:, None] + slope[:, None] * (times - centre))
