"""The axes of FIDs and their spectra: number of points, dwell time, frequency and nucleus in one object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import units
from .errors import OptionError

__all__ = ["Axes"]

_DWELLTIMES_S, _FREQUENCIES_MHZ = (1e-6, 0.1), (1.0, 2000.0)  # of scanners and of spectrometers
_BEYOND_BAND_PPM, _BEYOND_SIGNAL_PPM = 0.5, 10.0  # that limits of a window may lie beyond the band, and the signal


@dataclass(frozen=True)
class Axes:
    """Time and frequency axes of an array of FIDs.

    Attributes
    ----------
    n_points : int
        Points of a FID.
    dwelltime : float
        Time between two points, in seconds.
    spec_freq_mhz : float
        Spectrometer frequency, in MHz.
    nucleus : str
        '1H', '31P' and the like, see :func:`fsl_mrs_dl.core.units.nucleus`.
    """

    n_points: int
    dwelltime: float
    spec_freq_mhz: float
    nucleus: str = "1H"

    def __post_init__(self):
        """Raise OptionError for a dwell time or frequency that no measurement has, such as one in another unit."""
        for name, unit, limits in (("dwelltime", "s", _DWELLTIMES_S), ("spec_freq_mhz", "MHz", _FREQUENCIES_MHZ)):
            value = getattr(self, name)
            value = float(value) if _is_number(value) else value
            if _is_number(value) and limits[0] <= value <= limits[1]:
                continue
            raise OptionError(
                f"is in {unit}, {limits[0]:g} to {limits[1]:g}",
                option=name,
                value=f"{value:.12g}" if _is_number(value) else value,
                remedy=_other_unit(name, value),
            )

    @property
    def bandwidth(self) -> float:
        """Spectral width in Hz."""
        return 1 / self.dwelltime

    @property
    def ppm_per_point(self) -> float:
        """Distance of two spectral points in ppm."""
        return 1 / (self.n_points * self.dwelltime * self.spec_freq_mhz)

    @property
    def usual_window(self) -> tuple[float, float] | None:
        """Window in ppm that spectra of this nucleus are usually fitted in; None where there is none."""
        return units.nucleus(self.nucleus).ppmlim

    def time(self) -> np.ndarray:
        """Return the time of every point in seconds, shape ``(n_points,)``; starts at one dwell time."""
        return units.time_axis(self.n_points, self.dwelltime)

    def hz(self) -> np.ndarray:
        """Return the offset of every spectral point from the carrier in Hz, shape ``(n_points,)``, ascending."""
        return units.frequency_axis(self.n_points, self.dwelltime)

    def ppm(self) -> np.ndarray:
        """Return the chemical shift of every spectral point in ppm, shape ``(n_points,)``, ascending."""
        return units.ppm_axis(self.n_points, self.dwelltime, self.spec_freq_mhz, self.nucleus)

    def window(self, ppmlim: tuple[float, float] | None) -> tuple[int, int]:
        """Return first and last+1 index of the points between two chemical shifts; None means every point."""
        return units.window_indices(self.ppm(), ppmlim)

    def check_window(self, ppmlim: tuple[float, float] | None, option: str = "ppmlim") -> None:
        """Raise OptionError if limits in ppm, other than the usual ones, lie beyond the spectra, or far from all signal
        of the nucleus; None are those of every point.

        Raises
        ------
        OptionError
        """
        if ppmlim is None:
            return
        ppm, free, usual = self.ppm(), units.nucleus(self.nucleus).signal_free, self.usual_window or ()
        low, high = float(ppm[0]), float(ppm[-1])
        if free is not None:
            low, high = max(low, free[0] - _BEYOND_SIGNAL_PPM), min(high, free[1] + _BEYOND_SIGNAL_PPM)
        within = (low - _BEYOND_BAND_PPM <= limit <= high + _BEYOND_BAND_PPM or limit in usual for limit in ppmlim)
        if not all(within):
            raise OptionError(
                f"reaches beyond the spectra of {self.nucleus}, {low:.1f} to {high:.1f} ppm",
                option=option,
                value=" ".join(f"{limit:g}" for limit in ppmlim),
                remedy="give limits in ppm between these",
            )

    def ppm_to_hz(self, ppm):
        """Turn a chemical shift in ppm into an offset from the carrier in Hz."""
        return units.ppm_to_hz(ppm, self.spec_freq_mhz, self.nucleus)

    def hz_to_ppm(self, hz):
        """Turn an offset from the carrier in Hz into a chemical shift in ppm."""
        return units.hz_to_ppm(hz, self.spec_freq_mhz, self.nucleus)

    def with_points(self, n_points: int) -> Axes:
        """Return the axes of FIDs that are longer or shorter."""
        return replace(self, n_points=n_points)


def _is_number(value) -> bool:
    """Tell whether a value is one number; networks hold them as tensors."""
    if isinstance(value, (str, bytes, bool, complex)) or value is None:
        return False
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError, RuntimeError):
        return False


def _other_unit(name: str, value) -> str | None:
    """Return the remedy for a dwell time or frequency that would be one in another unit; None where none fits."""
    if not _is_number(value) or not value > 0:
        return None
    if name == "spec_freq_mhz":
        plausible = _FREQUENCIES_MHZ[0] <= value / 1e6 <= _FREQUENCIES_MHZ[1]
        return f"give {value / 1e6:.9g} for {value:.12g} Hz" if plausible else None
    if _DWELLTIMES_S[0] <= 1 / value <= _DWELLTIMES_S[1]:
        return f"give 1/{value:.12g} for a bandwidth of {value:.12g} Hz"
    return None
