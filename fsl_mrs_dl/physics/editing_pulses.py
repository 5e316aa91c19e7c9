"""Physics of editing pulses: their waveforms, the rotations of uncoupled spins, and the signal that passes them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ..core.editing import EditingPulse
from ..core.errors import OptionError
from ..core.units import ppm_to_hz

__all__ = [
    "EditingPulse",
    "band_centre_hz",
    "inversion_bandwidth_hz",
    "n_steps",
    "rotation",
    "survival",
    "turned",
    "waveform",
]

_STEP_MS = 0.1
# Products of bandwidth and duration that the family of shapes has.
_NARROWEST, _WIDEST = 1.16, 2.9


def n_steps(pulse: EditingPulse) -> int:
    """Return the number of time steps in which a pulse is simulated."""
    assert pulse.duration_ms is not None  # of every pulse with a waveform
    return max(100, int(np.ceil(pulse.duration_ms / _STEP_MS)))


def band_centre_hz(pulse: EditingPulse, spec_freq_mhz: float) -> float:
    """Return the mean centre of the bands in Hz from the carrier: the frame of :func:`waveform`."""
    return float(np.mean(ppm_to_hz(np.array(pulse.centres_ppm), spec_freq_mhz)))


def waveform(pulse: EditingPulse, spec_freq_mhz: float, steps: int | None = None) -> np.ndarray:
    """Return the field of a sinc-Gaussian pulse in Hz in the middle of every time step, complex ``(steps,)``.

    One band is the main lobe of a sinc times a Gaussian whose width gives the bandwidth; several are the sum of such
    pulses at their frequencies, in phase at the middle.  The frame rotates with the mean centre of the bands.

    Raises
    ------
    OptionError
        If no pulse of this duration has this bandwidth.
    """
    steps = n_steps(pulse) if steps is None else steps
    assert pulse.duration_ms is not None and pulse.bandwidth_hz is not None  # of every pulse with a waveform
    product = pulse.bandwidth_hz * pulse.duration_ms * 1e-3
    if not _NARROWEST <= product <= _WIDEST:
        low, high = (1e3 * limit / pulse.duration_ms for limit in (_NARROWEST, _WIDEST))
        raise OptionError(
            f"no sinc-Gaussian pulse of {pulse.duration_ms:g} ms has it",
            option="edit_bandwidth_hz",
            value=f"{pulse.bandwidth_hz:g}",
            remedy=f"give {low:.0f} to {high:.0f} Hz, or another duration",
        )
    x = _middles(steps)
    shape = np.sinc(x) * np.exp(-_gaussian(round(product, 9)) * x**2)
    # On resonance the magnetisation turns by half a turn.
    shape *= 0.5 / (np.mean(shape) * pulse.duration_ms * 1e-3)
    offsets = ppm_to_hz(np.array(pulse.centres_ppm), spec_freq_mhz) - band_centre_hz(pulse, spec_freq_mhz)
    time = 0.5e-3 * pulse.duration_ms * x
    return shape * np.exp(2j * np.pi * offsets[:, None] * time).sum(axis=0)


def _middles(steps: int) -> np.ndarray:
    """Return the middles of equal steps from -1 to 1."""
    return (np.arange(steps) + 0.5) / steps * 2 - 1


@functools.cache
def _gaussian(product: float) -> float:
    """Return the decay of the Gaussian with which bandwidth times duration is ``product``, by bisection."""
    x = _middles(200)
    low, high = -0.2, 20.0
    for _ in range(40):
        decay = (low + high) / 2
        shape = np.sinc(x) * np.exp(-decay * x**2)
        a, _b = turned(0.5 * shape / shape.mean(), 1 / 200, np.array([product / 2]))
        # More of the magnetisation is inverted at the edge of the band the wider it is.
        low, high = (decay, high) if np.abs(a[0]) ** 2 > 0.5 else (low, decay)
    return decay


def turned(field_hz: np.ndarray, step_s: float, offsets_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Cayley-Klein parameters a and b of a waveform at offsets, complex ``(n_offsets,)`` each."""
    a = np.ones(len(offsets_hz), complex)
    b = np.zeros(len(offsets_hz), complex)
    for field in field_hz:
        total = np.sqrt(offsets_hz**2 + abs(field) ** 2)
        sine = np.pi * step_s * np.sinc(total * step_s)
        one, two = np.cos(np.pi * total * step_s) - 1j * offsets_hz * sine, -1j * field * sine
        a, b = one * a - two.conj() * b, two * a + one.conj() * b
    return a, b


def rotation(pulse: EditingPulse, ppm, spec_freq_mhz: float, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation of uncoupled spins by a sinc-Gaussian pulse, free precession during it taken out.

    Parameters
    ----------
    pulse : EditingPulse
    ppm : array_like ``(n,)``
    spec_freq_mhz : float
    steps : int, optional
        Time steps; one in 0.1 ms by default.

    Returns
    -------
    a, b : complex ndarray ``(n,)``
        Cayley-Klein parameters: 1 and 0 far away, 0 and a phase on resonance.
    """
    ppm = np.atleast_1d(np.asarray(ppm, float))
    return _rotation(pulse, tuple(ppm.tolist()), float(spec_freq_mhz), n_steps(pulse) if steps is None else steps)


@functools.lru_cache(maxsize=256)
def _rotation(pulse, ppm, spec_freq_mhz, steps):
    offsets = ppm_to_hz(np.array(ppm), spec_freq_mhz) - band_centre_hz(pulse, spec_freq_mhz)
    seconds = 1e-3 * pulse.duration_ms
    a, b = turned(waveform(pulse, spec_freq_mhz, steps), seconds / steps, offsets)
    half_turn = np.exp(1j * np.pi * offsets * seconds)
    a, b = a * half_turn, b / half_turn
    a.flags.writeable = b.flags.writeable = False
    return a, b


def survival(pulses: Sequence[EditingPulse], ppm, spec_freq_mhz: float, n_applied: int = 2) -> np.ndarray:
    """Return the factor by which editing pulses multiply the signal of an uncoupled proton.

    Opposite gradients around each pulse keep the signal that it does not turn; the phases (Bloch-Siegert shifts) of two
    pulses with an odd number of refocusing pulses between them cancel.

    Parameters
    ----------
    pulses : sequence of EditingPulse
        Those of one edit condition; none leave all signal.
    ppm : array_like ``(n,)`` or float
    spec_freq_mhz : float
    n_applied : int
        How often they are played out in the sequence.

    Returns
    -------
    complex ndarray, of the shape of ``ppm``
        1 far away, 0 on resonance.
    """
    shape, flat = np.shape(ppm), np.atleast_1d(np.asarray(ppm, float)).ravel()
    once = np.ones(len(flat), complex)
    for pulse in pulses:
        if pulse.shape == "ideal":
            assert pulse.bandwidth_hz is not None  # chosen when the pulse was made
            apart = np.abs(flat[:, None] - np.array(pulse.centres_ppm)) * spec_freq_mhz
            once = np.where((apart <= pulse.bandwidth_hz / 2).any(axis=1), 0, once)
        else:
            once = once * rotation(pulse, flat, spec_freq_mhz)[0].conj() ** 2
    total = np.ones(len(flat), complex)
    for _ in range(n_applied):
        total = total.conj() * once
    return total.reshape(shape)


def inversion_bandwidth_hz(pulse: EditingPulse) -> float:
    """Return the full width in Hz of the band around the first centre in which a pulse inverts to less than zero."""
    assert pulse.bandwidth_hz is not None  # chosen when the pulse was made
    if pulse.shape == "ideal":
        return float(pulse.bandwidth_hz)
    assert pulse.duration_ms is not None  # of every pulse with a waveform
    one = EditingPulse(0.0, pulse.shape, pulse.duration_ms, pulse.bandwidth_hz)
    offsets = np.linspace(0, 2, 4001) * pulse.bandwidth_hz
    _a, b = turned(waveform(one, 1.0), 1e-3 * pulse.duration_ms / n_steps(pulse), offsets)
    return float(2 * offsets[np.argmax(np.abs(b) ** 2 < 0.5)])
