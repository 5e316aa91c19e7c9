"""The axes of FIDs and their spectra: number of points, dwell time, frequency and nucleus in one object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import units

__all__ = ["Axes"]


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

    def ppm_to_hz(self, ppm):
        """Turn a chemical shift in ppm into an offset from the carrier in Hz."""
        return units.ppm_to_hz(ppm, self.spec_freq_mhz, self.nucleus)

    def hz_to_ppm(self, hz):
        """Turn an offset from the carrier in Hz into a chemical shift in ppm."""
        return units.hz_to_ppm(hz, self.spec_freq_mhz, self.nucleus)

    def with_points(self, n_points: int) -> Axes:
        """Return the axes of FIDs that are longer or shorter."""
        return replace(self, n_points=n_points)
