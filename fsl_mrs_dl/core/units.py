"""Axes, units and the Fourier convention: the one statement of sign and conjugation.

In memory every FID follows FSL-MRS: a resonance at ``ppm`` evolves as ``exp(+2j*pi*f*t)`` with ``f = (ppm -
ppm_reference) * spec_freq_mhz`` hertz, so that after :func:`fid_to_spec` the ppm axis rises with the index. NIfTI-MRS
files hold the complex conjugate; :mod:`fsl_mrs_dl.io.nifti` and :mod:`fsl_mrs_dl.io.basis` convert on the way in and
out, and nothing else in the package conjugates.

Functions take NumPy arrays or torch tensors and return the same kind; torch is never imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import OptionError

__all__ = [
    "Nucleus",
    "check_limits",
    "nucleus",
    "time_axis",
    "frequency_axis",
    "ppm_axis",
    "fid_to_spec",
    "spec_to_fid",
    "window_indices",
    "ppm_to_hz",
    "hz_to_ppm",
    "in_mhz",
    "wrap_degrees",
    "wrap_radians",
]


@dataclass(frozen=True)
class Nucleus:
    """Constants of one nucleus.

    Attributes
    ----------
    name : str
    gamma_mhz_per_t : float
        Gyromagnetic ratio, in MHz/T.
    ppm_reference : float
        Chemical shift at the carrier, in ppm.
    ppmlim : (float, float), optional
        Default fitting window, in ppm.
    signal_free : (float, float), optional
        Limits in ppm below and above which body and brain have no signal.
    """

    name: str
    gamma_mhz_per_t: float
    ppm_reference: float
    ppmlim: tuple[float, float] | None
    signal_free: tuple[float, float] | None = None


# The gyromagnetic ratios are CODATA's; references, windows and signal-free regions are FSL-MRS's, so that both programs
# use the same points.
_NUCLEI = {
    "1H": Nucleus("1H", 42.577, 4.65, (0.2, 4.2), (-2.0, 10.0)),
    "2H": Nucleus("2H", 6.536, 4.8, (0.0, 6.0), (-2.0, 10.0)),
    "13C": Nucleus("13C", 10.708, 0.0, (10.0, 100.0)),
    "31P": Nucleus("31P", 17.235, 0.0, (-20.0, 10.0), (-15.0, 12.0)),
}


def nucleus(name: str) -> Nucleus:
    """Return the constants of a nucleus ('1H', '2H', '13C', '31P'); any other has its carrier at 0 ppm and no window.

    Raises
    ------
    OptionError
        If ``name`` does not look like a nucleus (a mass number followed by an element).
    """
    if name in _NUCLEI:
        return _NUCLEI[name]
    element = name.lstrip("0123456789")
    # 1h, taken for another nucleus than 1H, would have its carrier at 0 ppm.
    if not (name[:1].isdigit() and element.isalpha() and element[0].isupper()):
        raise OptionError(
            f"'{name}' is not a nucleus", remedy="write the mass number and the element, for example 1H or 31P"
        )
    return Nucleus(name, float("nan"), 0.0, None)


def _xp(array):
    """Return the module of ``array``: torch if it is a tensor, NumPy otherwise."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def in_mhz(frequency: float) -> float:
    """Return a spectrometer frequency in MHz, which some programs write in Hz; none is 100 GHz."""
    return frequency / 1e6 if frequency > 1e5 else frequency


def time_axis(n_points: int, dwelltime: float) -> np.ndarray:
    """Return the time of every point in seconds, shape ``(n_points,)``; starts at one dwell time, as in FSL-MRS."""
    return np.linspace(dwelltime, dwelltime * n_points, n_points)


def frequency_axis(n_points: int, dwelltime: float) -> np.ndarray:
    """Return the offset of every spectral point from the carrier in Hz, shape ``(n_points,)``, ascending.

    FSL-MRS includes both ends of the bandwidth.  The true bins of the discrete Fourier transform are up to one
    bin lower; the difference is kept because windows and first-order phases must mean the same points in both programs.
    """
    return np.linspace(-0.5 / dwelltime, 0.5 / dwelltime, n_points)


def ppm_axis(n_points: int, dwelltime: float, spec_freq_mhz: float, nucleus_name: str = "1H") -> np.ndarray:
    """Return the chemical shift of every spectral point in ppm, shape ``(n_points,)``, ascending."""
    return frequency_axis(n_points, dwelltime) / spec_freq_mhz + nucleus(nucleus_name).ppm_reference


def ppm_to_hz(ppm, spec_freq_mhz: float, nucleus_name: str = "1H"):
    """Turn a chemical shift in ppm into an offset from the carrier in Hz."""
    return (ppm - nucleus(nucleus_name).ppm_reference) * spec_freq_mhz


def hz_to_ppm(hz, spec_freq_mhz: float, nucleus_name: str = "1H"):
    """Turn an offset from the carrier in Hz into a chemical shift in ppm."""
    return hz / spec_freq_mhz + nucleus(nucleus_name).ppm_reference


def wrap_degrees(angle):
    """Bring angles in degrees to -180 up to 180."""
    return (angle + 180) % 360 - 180


def wrap_radians(angle):
    """Bring angles in radians to -pi up to pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def window_indices(ppm: np.ndarray, ppmlim: tuple[float, float] | None) -> tuple[int, int]:
    """Return first and last+1 index of the points between two chemical shifts.

    The nearest points to the limits are taken, and the one nearest to the upper limit is left out: FSL-MRS's rule.
    ``None`` means every point.
    """
    if ppmlim is None:
        return 0, len(ppm)
    first, last = (int(np.argmin(np.abs(ppm - limit))) for limit in ppmlim)
    return (first, last) if first <= last else (last, first)


def check_limits(option: str, limits: Sequence[float]) -> None:
    """Raise OptionError unless the limits of a window in ppm are two numbers, the lower one first."""
    low, high = sorted(limits)
    value = f"{limits[0]:g} {limits[1]:g}"
    if not (np.isfinite(limits).all() and low < high):
        raise OptionError("is no window in ppm", option=option, value=value, remedy="give its lower and upper end")
    if limits[0] > limits[1]:
        raise OptionError(
            "begins above its end",
            option=option,
            value=value,
            remedy=f"give the lower end first: `{option}` {low:g} {high:g}",
        )


def fid_to_spec(fid):
    """Turn FIDs into spectra along the last axis, ``(..., n_points)``: first point halved, unitary FFT, zero frequency
    centred."""
    xp = _xp(fid)
    halved = fid.clone() if xp is not np else np.array(fid, copy=True)
    halved[..., 0] = halved[..., 0] * 0.5
    if xp is np:
        return np.fft.fftshift(np.fft.fft(halved, axis=-1, norm="ortho"), axes=-1)
    return xp.fft.fftshift(xp.fft.fft(halved, dim=-1, norm="ortho"), dim=-1)


def spec_to_fid(spec):
    """Turn spectra into FIDs along the last axis, ``(..., n_points)``; the exact inverse of :func:`fid_to_spec`."""
    xp = _xp(spec)
    if xp is np:
        fid = np.fft.ifft(np.fft.ifftshift(spec, axes=-1), axis=-1, norm="ortho")
    else:
        fid = xp.fft.ifft(xp.fft.ifftshift(spec, dim=-1), dim=-1, norm="ortho")
    fid[..., 0] = fid[..., 0] * 2
    return fid
