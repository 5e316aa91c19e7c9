"""Editing pulses, and the edit conditions of the acquisitions that use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import OptionError

__all__ = [
    "EDITING_SCHEMES",
    "PULSE_SHAPES",
    "WITH_PRESS",
    "EditingPulse",
    "editing_pulses",
    "usual_echo_time_ms",
]

PULSE_SHAPES = ("ideal", "sinc-gaussian")

EDITING_SCHEMES: dict[str, dict[str, tuple[float, ...]]] = {
    "mega-press": {"on": (1.9,), "off": (7.5,)},
    "mega-slaser": {"on": (1.9,), "off": (7.5,)},
    "hermes": {"A": (1.9, 4.56), "B": (1.9,), "C": (4.56,), "D": (7.5,)},
    "hercules": {"A": (1.9, 4.58), "B": (1.9, 4.18), "C": (4.58,), "D": (4.18,)},
}
"""Edit conditions of every scheme: name, and the centres in ppm of the bands that its editing pulses invert.

MEGA edits GABA: Mescher M, et al. NMR Biomed 1998;11:266-272.  HERMES edits GABA and GSH: Saleh MG, et al. NeuroImage
2016;142:576-582, doi 10.1016/j.neuroimage.2016.07.056.  HERCULES: Oeltzschner G, et al. NeuroImage 2019;185:181-190,
doi 10.1016/j.neuroimage.2018.10.002.
"""

WITH_PRESS = tuple(scheme for scheme in EDITING_SCHEMES if scheme != "mega-slaser")
"""Schemes whose volume is selected by the two refocusing pulses of PRESS."""

_ECHO_TIME_MS = {"mega-press": 68.0, "mega-slaser": 68.0, "hermes": 80.0, "hercules": 80.0}
_DURATION_MS = {"mega-press": 15.0, "mega-slaser": 15.0, "hermes": 20.0, "hercules": 20.0}
_IDEAL_BANDWIDTH_HZ = 80.0
# Sinc-Gaussian pulses of the literature, 14 ms with 88 Hz and 20 ms with 62 Hz, have this product.
_BANDWIDTH_TIMES_DURATION = 1.237


@dataclass(frozen=True)
class EditingPulse:
    """A frequency-selective inversion between opposite gradients.

    Attributes
    ----------
    centre_ppm : float
        Centre of the band that it inverts.
    shape : {'sinc-gaussian', 'ideal'}
        ``ideal``: instantaneous, inverts exactly within its bandwidth.
    duration_ms : float or None
        Duration of a sinc-Gaussian pulse.
    bandwidth_hz : float or None
        Full width of the band in which magnetisation is inverted to less than zero, of each band; by default 80 Hz
        (ideal), or 1.237 over the duration (sinc-Gaussian).
    other_centres_ppm : tuple of float
        Centres of further bands that the same pulse inverts.

    Raises
    ------
    OptionError
        Impossible value.
    """

    centre_ppm: float
    shape: str = "sinc-gaussian"
    duration_ms: float | None = None
    bandwidth_hz: float | None = None
    other_centres_ppm: tuple[float, ...] = ()

    def __post_init__(self):
        if self.shape not in PULSE_SHAPES:
            raise OptionError(
                "is no shape of editing pulses",
                option="edit_pulse",
                value=self.shape,
                remedy=f"choose from {', '.join(PULSE_SHAPES)}",
            )
        if not np.isfinite(self.centres_ppm).all():
            raise OptionError("is no chemical shift", option="edit_ppm", value=self.centres_ppm, remedy="give ppm")
        if self.shape == "ideal" and self.duration_ms:
            raise OptionError(
                "an ideal pulse takes no time",
                option="edit_duration_ms",
                value=self.duration_ms,
                remedy="leave it out, or choose `edit_pulse` sinc-gaussian",
            )
        if self.bandwidth_hz is None:
            product = _BANDWIDTH_TIMES_DURATION * 1e3
            width = _IDEAL_BANDWIDTH_HZ if self.shape == "ideal" else product / _positive("edit_duration_ms", self)
            object.__setattr__(self, "bandwidth_hz", width)
        if self.shape != "ideal":
            _positive("edit_duration_ms", self)
        _positive("edit_bandwidth_hz", self)

    @property
    def centres_ppm(self) -> tuple[float, ...]:
        """Centres of all bands that it inverts."""
        return (self.centre_ppm, *self.other_centres_ppm)

    def __str__(self) -> str:
        length = "" if self.shape == "ideal" else f"{self.duration_ms:g} ms, "
        bands = " and ".join(f"{centre:g}" for centre in self.centres_ppm)
        return f"{self.shape} at {bands} ppm ({length}{self.bandwidth_hz:.0f} Hz)"


def _positive(option: str, pulse: EditingPulse) -> float:
    value = getattr(pulse, option.removeprefix("edit_"))
    if value is None or not (np.isfinite(value) and value > 0):
        unit = option.rpartition("_")[2].replace("hz", "Hz")
        raise OptionError(f"{option} = {value} is impossible", remedy=f"give a positive number of {unit}")
    return value


def usual_echo_time_ms(scheme: str) -> float:
    """Return the echo time in ms at which a scheme is mostly acquired."""
    return _ECHO_TIME_MS[_known(scheme)]


def editing_pulses(
    scheme: str,
    *,
    shape: str = "sinc-gaussian",
    duration_ms: float | None = None,
    bandwidth_hz: float | None = None,
    centres_ppm: Sequence[float] | None = None,
) -> dict[str, EditingPulse]:
    """Return the editing pulse of every edit condition of a scheme, by the condition's name.

    Parameters
    ----------
    scheme : str
        A key of ``EDITING_SCHEMES``.
    shape : {'sinc-gaussian', 'ideal'}
    duration_ms : float, optional
        Duration of sinc-Gaussian pulses; by default 15 ms, of HERMES and HERCULES 20 ms.
    bandwidth_hz : float, optional
        As of :class:`EditingPulse`.
    centres_ppm : sequence of float, optional
        Centres of ``on`` and, if there are two, ``off`` of a scheme with these conditions.

    Raises
    ------
    OptionError
        Unknown scheme, or impossible value.
    """
    conditions = dict(EDITING_SCHEMES[_known(scheme)])
    if centres_ppm is not None:
        if "on" not in conditions or not 1 <= len(centres_ppm) <= 2:
            raise OptionError(
                f"does not fit {scheme}",
                option="edit_ppm",
                value=" ".join(map(str, centres_ppm)),
                remedy="give that of ON, or those of ON and OFF" if "on" in conditions else "leave it out",
            )
        conditions |= {name: (float(ppm),) for name, ppm in zip(("on", "off"), centres_ppm)}
    if shape != "ideal" and duration_ms is None:
        duration_ms = _DURATION_MS[scheme]
    return {
        name: EditingPulse(centres[0], shape, duration_ms, bandwidth_hz, centres[1:])
        for name, centres in conditions.items()
    }


def _known(scheme: str) -> str:
    if scheme not in EDITING_SCHEMES:
        raise OptionError(
            "is no editing scheme", option="scheme", value=scheme, remedy=f"choose from {', '.join(EDITING_SCHEMES)}"
        )
    return scheme
