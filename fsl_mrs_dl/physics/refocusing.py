"""Slice-selective refocusing pulses: the waveform of a usual one, and its rotations at places of the slice's gradient.

Scanners select a volume with pulses of 4 to 7 ms and 1.0 to 1.4 kHz.  At the edges of a slice spins turn by less than
180 degrees, and their couplings evolve less; so they do while a pulse lasts, and where one of two coupled spins is
turned alone because its slice lies elsewhere (chemical shift displacement).  The waveform is designed by the Shinnar-Le
Roux transform, and has edges as sharp as those of scanners' pulses; those of a sinc under a window are soft, and
couplings evolve too little in them.  Bandwidth and duration matter less.  Basis sets that others simulated with pulses
of vendors are compared in ``benchmarks/basis_validation.md`` and ``benchmarks/edited_basis.md``.

References
----------
Pauly J, et al. IEEE Trans Med Imaging 1991;10:53-65, doi:10.1109/42.75611.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..core.units import ppm_to_hz
from .editing_pulses import turned

__all__ = ["REFOCUSING", "RefocusingPulse", "usual_refocusing_pulse"]

REFOCUSING = ("ideal", "slice-selective")
"""Kinds of refocusing pulses: ideal ones take no time and turn all spins."""

_BANDWIDTH_TIMES_DURATION = 8.0  # of the slice's flat part and half of both edges, as designed
_RIPPLES = (0.0025, 0.007)  # of beta inside and outside the slice
_USUAL_MS, _SHORTEST_MS = 7.0, 0.5
_STEPS = 39  # odd, so that the filter has a middle
_PLACES_IN_SLICE = 7


@dataclass(frozen=True)
class RefocusingPulse:
    """A symmetric pulse by Shinnar and Le Roux, which turns spins in its band by 180 degrees.

    Attributes
    ----------
    duration_ms : float
    centre_ppm : float
        Chemical shift whose slice is the nominal one.
    """

    duration_ms: float
    centre_ppm: float = 3.0

    @property
    def step_s(self) -> float:
        """Length of a time step in seconds."""
        return 1e-3 * self.duration_ms / _STEPS

    @property
    def bandwidth_hz(self) -> float:
        """Full width of the band in which more than half of the magnetisation is refocused."""
        offsets = np.linspace(0, 2e3 * _BANDWIDTH_TIMES_DURATION / self.duration_ms, 641)
        return float(2 * offsets[np.argmax(self._refocused(offsets) < 0.5)])

    def centre_hz(self, spec_freq_mhz: float) -> float:
        """Return the frequency of the pulse in Hz from the carrier."""
        return float(ppm_to_hz(np.array(self.centre_ppm), spec_freq_mhz))

    def waveform(self) -> np.ndarray:
        """Return the field in Hz in the middle of every time step, ``(n_steps,)``."""
        return _turns(_STEPS) / self.step_s

    def places(self, most_offset_hz: float) -> tuple[np.ndarray, float]:
        """Return the offsets in Hz that the gradient gives to evenly spread places, ``(n_places,)``, and the weight of
        each: an uncoupled spin at the centre is refocused as a whole.

        Parameters
        ----------
        most_offset_hz : float
            Largest distance of a spin from the centre of the pulse; places reach as far as to hold its slice, too.
        """
        width = self.bandwidth_hz
        step = width / _PLACES_IN_SLICE
        n = 2 * int(np.ceil((width / 2 + 2.5e3 / self.duration_ms + most_offset_hz) / step))
        offsets = (np.arange(n) - (n - 1) / 2) * step
        return offsets, float(1 / self._refocused(offsets).sum())

    def _refocused(self, offsets_hz: np.ndarray) -> np.ndarray:
        """Return the share of the magnetisation that is refocused at offsets."""
        return np.abs(turned(self.waveform(), self.step_s, offsets_hz)[1]) ** 2


def usual_refocusing_pulse(te_ms: float, te1_ms: float, *, room_ms: float = np.inf) -> RefocusingPulse | None:
    """Return the refocusing pulse of PRESS: of 7 ms, or half the shorter of both echo times, or the room that editing
    pulses leave, if that is less; None where there is no time for any."""
    duration_ms = min(_USUAL_MS, te1_ms / 2, (te_ms - te1_ms) / 2, room_ms)
    return RefocusingPulse(duration_ms) if duration_ms >= _SHORTEST_MS else None


@functools.cache
def _turns(steps: int) -> np.ndarray:
    """Return the flip of every time step in turns, by the inverse Shinnar-Le Roux transform, ``(steps,)``."""
    beta = _low_pass(steps)
    size = 8192
    spectrum = np.abs(np.fft.fft(beta, size))
    beta *= 0.9995 / spectrum.max()
    # Of all alpha with |alpha|^2 + |beta|^2 = 1 the one of minimum phase needs the least power.
    cepstrum = np.fft.ifft(np.log(1 - (0.9995 * spectrum / spectrum.max()) ** 2) / 2).real
    cepstrum[1 : size // 2] *= 2
    cepstrum[size // 2 + 1 :] = 0
    alpha = np.fft.ifft(np.exp(np.fft.fft(cepstrum))).real[:steps]
    turns = np.zeros(steps)
    for step in range(steps)[::-1]:
        ratio = beta[0] / alpha[0]
        cosine, sine = np.array([1, ratio]) / np.sqrt(1 + ratio**2)
        turns[step] = np.arctan2(sine, cosine) / np.pi
        alpha, beta = (cosine * alpha + sine * beta)[:-1], (cosine * beta - sine * alpha)[1:]
    return turns


def _low_pass(steps: int) -> np.ndarray:
    """Return a symmetric filter that passes the slice, with the least squares of both errors, ``(steps,)``."""
    inside, outside = _RIPPLES
    # Width of an edge times the duration, by the formula of the reference.
    one, two = np.log10(inside), np.log10(outside)
    edge = (5.309e-3 * one**2 + 7.114e-2 * one - 0.4761) * two - 2.66e-3 * one**2 - 0.5941 * one - 0.4278
    frequencies = np.linspace(0, steps / 2, 40 * steps)  # over the duration
    passed = frequencies <= (_BANDWIDTH_TIMES_DURATION - edge) / 2
    stopped = frequencies >= (_BANDWIDTH_TIMES_DURATION + edge) / 2
    weights = np.sqrt(passed * outside + stopped * inside)
    half = np.arange(steps // 2 + 1)
    cosines = np.cos(2 * np.pi * np.outer(frequencies, half) / steps)
    solved = np.linalg.lstsq(weights[:, None] * cosines, weights * passed, rcond=None)[0]
    return np.concatenate([solved[:0:-1] / 2, solved[:1], solved[1:] / 2])
