"""Signal of a residual that begins late: spurious echoes, and lines that cancel each other and return."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .artefacts import FittedSpectrum

__all__ = ["SINGLETS", "echo_size", "lines_that_return"]

SINGLETS = {"NAA": 2.008, "creatine": 3.027, "choline": 3.2}
"""Chemical shifts of strong singlets."""

_ECHO_S = 0.04  # before it a misfit of ordinary lines looks like an echo
_OVER_BEGINNING = 1.25  # an echo over the residual at the beginning
_RETURN_S, _RETURN_SIZE, _RETURNED = 0.035, 5.0, 0.1  # about a time, SDs of noise, and of the fitted line's beginning


@dataclass(frozen=True)
class _Cells:
    """Amplitudes of parts of a spectrum in cells of time and frequency, in SDs of noise."""

    one: FittedSpectrum

    @cached_property
    def length(self) -> int:
        """Points of a cell along time."""
        return max(4, int(round(0.03 / self.step)))

    @property
    def step(self) -> float:
        """Time (s) between two points of the window's FID."""
        return 1 / (len(self.one.ppm) * self.one.axes.ppm_per_point * self.one.axes.spec_freq_mhz)

    @cached_property
    def starts(self) -> np.ndarray:
        """First point of the cells of each time."""
        return np.arange(0, min(len(self.one.ppm), int(0.5 / self.step)) - self.length, max(1, self.length // 2))

    @property
    def times(self) -> np.ndarray:
        """Middle (s) of the cells of each time."""
        return (self.starts + self.length / 2) * self.step

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the amplitudes of a part of the window, ``(n_window,)`` -> ``(n_times, n_frequencies)``."""
        fid = np.fft.ifft(values, norm="ortho")
        taper = np.hanning(self.length + 2)[1:-1]
        taper /= np.linalg.norm(taper)
        cut = np.stack([fid[start : start + self.length] for start in self.starts])
        return np.abs(np.fft.fft(cut * taper, axis=-1)) / (np.sqrt(2) * self.one.noise_sd)

    def ppm_of(self, column: int) -> float:
        """Return the chemical shift of a frequency."""
        ppm = self.one.ppm
        if column == 0:
            # It is that of both ends of the window.
            size, half = np.abs(self.one.residual), max(1, len(ppm) // (2 * self.length))
            return float(ppm[0] if size[:half].max() > size[-half:].max() else ppm[-1])
        return float(ppm[0] + (column / self.length) * (ppm[-1] - ppm[0]))

    def column_of(self, ppm: float) -> int:
        """Return the frequency that is nearest to a chemical shift."""
        ends = self.one.ppm
        return int(round((ppm - ends[0]) / (ends[-1] - ends[0]) * self.length)) % self.length


def echo_size(one: FittedSpectrum) -> tuple[float, float, float]:
    """Return how strong a signal of the residual begins late, with its time (s) and ppm.

    The residual's energy in cells of time and frequency is compared with that of the same frequencies before and
    after, and with the residual of all frequencies at the beginning: a model that misses the first points of an FID, or
    its lines, misses later ones, too.  The size is the cell's amplitude in SDs of noise.
    """
    cells = _Cells(one)
    if len(cells.starts) < 4:
        return 0.0, np.nan, np.nan
    size = cells.of(one.residual)
    early = np.minimum.accumulate(size, 0)
    rises = np.where(size > 2.5 * np.concatenate([size[:1], early[:-1]]), size, 0.0)
    rises[cells.times < _ECHO_S] = 0.0
    rises[size < _OVER_BEGINNING * size[:2].max()] = 0.0
    block, column = np.unravel_index(rises.argmax(), rises.shape)
    return float(rises.max()), float(cells.times[block]), cells.ppm_of(int(column))


def lines_that_return(one: FittedSpectrum, time: float) -> list[str]:
    """Return the strong singlets that the residual has about a time (s), where the fitted ones have decayed: two lines
    of nearly the same frequency cancel each other and return."""
    cells = _Cells(one)
    about = np.abs(cells.times - time) < _RETURN_S
    if len(cells.starts) < 4 or not about.any():
        return []
    residual, fitted = cells.of(one.residual), cells.of(one.metabolites)
    out = []
    for name, ppm in SINGLETS.items():
        column = cells.column_of(ppm)
        late = residual[about, column]
        strong = (late > _RETURN_SIZE) & (late > fitted[about, column]) & (late > _RETURNED * fitted[0, column])
        out += [name] * bool(strong.any())
    return out
