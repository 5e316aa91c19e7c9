"""Slice-selective refocusing pulses: the waveform of a usual one, and its rotations at places of the slice's gradient.

Scanners select a volume with pulses of 5 to 7 ms.  At the edges of a slice spins turn by less than 180 degrees, and
their couplings evolve less; so they do while a pulse lasts, and where one of two coupled spins is turned alone because
its slice lies elsewhere (chemical shift displacement).  Which waveform it is matters little: sincs of 4 to 7 ms and 0.8
to 1.8 kHz agree alike with basis sets that others simulated with the pulses of three vendors (PRESS 35 ms of Philips,
GE and Siemens, 30 ms of GE: schorschinho/osprey).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.units import ppm_to_hz
from .editing_pulses import turned

__all__ = ["REFOCUSING", "RefocusingPulse", "usual_refocusing_pulse"]

REFOCUSING = ("ideal", "slice-selective")
"""Kinds of refocusing pulses: ideal ones take no time and turn all spins."""

_LOBES = 5.0  # zero crossings to either side
_USUAL_MS, _SHORTEST_MS = 7.0, 0.5
_STEPS = 40
_PLACES_IN_SLICE = 7


@dataclass(frozen=True)
class RefocusingPulse:
    """A sinc with five zero crossings to either side under a Hann window, which turns spins in its band by 180 degrees.

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
        offsets = np.linspace(0, 3e3 * _LOBES / self.duration_ms, 601)
        return float(2 * offsets[np.argmax(self._refocused(offsets) < 0.5)])

    def centre_hz(self, spec_freq_mhz: float) -> float:
        """Return the frequency of the pulse in Hz from the carrier."""
        return float(ppm_to_hz(np.array(self.centre_ppm), spec_freq_mhz))

    def waveform(self) -> np.ndarray:
        """Return the field in Hz in the middle of every time step, ``(n_steps,)``."""
        x = (np.arange(_STEPS) + 0.5) / _STEPS * 2 - 1
        shape = np.sinc(_LOBES * x) * np.cos(0.5 * np.pi * x) ** 2
        # On resonance the magnetisation turns by half a turn.
        return shape * 0.5 / (shape.sum() * self.step_s)

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
