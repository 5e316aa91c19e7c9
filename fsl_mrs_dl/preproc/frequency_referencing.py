"""Frequency and phase referencing to creatine, choline and NAA (phosphocreatine for 31P).

Transients are aligned to each other first, which leaves the shift and phase of all of them together open.  Those are
estimated from the aligned mean: the reference lines have one line shape, fixed distances, one shift and one phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.units import wrap_degrees
from ..registration.alignment import align_transients

__all__ = ["Lines", "Offset", "REFERENCE_LINES", "reference_offset", "check_nucleus"]


class Lines(TypedDict):
    """Reference lines of a nucleus: places, usual heights, and the parts of the spectrum around them that are
    fitted."""

    names: str
    ppm: tuple[float, ...]
    height: tuple[float, ...]
    search: tuple[float, float]
    pieces: tuple[tuple[float, float], ...]
    fwhm_ppm: float


REFERENCE_LINES: dict[str, Lines] = {
    "1H": {
        "names": "creatine, choline and NAA",
        # The fourth is NAAG, which would otherwise pass for a phase of NAA.
        "ppm": (3.027, 3.21, 2.008, 2.045),
        "height": (0.7, 0.6, 1.0, 0.15),
        "search": (1.6, 3.7),
        "pieces": ((1.88, 2.14), (2.92, 3.32)),
        "fwhm_ppm": 0.05,
    },
    "31P": {
        "names": "phosphocreatine",
        "ppm": (0.0,),
        "height": (1.0,),
        "search": (-6.0, 8.0),
        "pieces": ((-1.2, 1.2),),
        "fwhm_ppm": 0.25,
    },
}
"""Reference lines by nucleus."""

_BASELINE_ORDER = 2
# Lines between and under the reference lines, differing with echo time and field, bias the result by about as much
# (simulated, TE 30 to 144 ms).
_MODEL_ERROR_PPM, _MODEL_ERROR_DEG = 0.001, 3.0
_LEAST = 5.0  # height over its SD from which lines count as found
_LEAST_POINTS = 24


@dataclass(frozen=True)
class Offset:
    """Shift and phase of a whole spectrum; positive shifts lie towards higher ppm, NaN where no lines were found.

    The SDs are those of noise and of the errors of a model of a few lines, together.
    """

    shift_hz: float
    phase_deg: float
    shift_sd_hz: float
    phase_sd_deg: float

    @classmethod
    def none(cls) -> Offset:
        """Return the offset of a spectrum without lines."""
        return cls(*[float("nan")] * 4)

    @property
    def has_lines(self) -> bool:
        """Whether the reference lines stood out of the noise."""
        return bool(np.isfinite(self.shift_hz))


def check_nucleus(nucleus: str) -> None:
    """Raise OptionError for a nucleus without reference lines."""
    if nucleus not in REFERENCE_LINES:
        raise OptionError(
            f"no reference lines for {nucleus}, only for {', '.join(REFERENCE_LINES)}",
            option="absolute",
            remedy="leave it out",
        )


def reference_offset(fid, axes: Axes, *, max_shift_hz: float | None = None) -> Offset:
    """Estimate shift and phase of a spectrum from its reference lines.

    Parameters
    ----------
    fid : complex array, shape (n_points,)
        An average of aligned transients, for example; coils combined.
    axes : Axes
        Its nucleus is one of :data:`REFERENCE_LINES`.
    max_shift_hz : float, optional
        Largest shift; default 0.35 ppm.

    Returns
    -------
    Offset
        The phase is that of the first point with which the lines are upright.

    Raises
    ------
    OptionError
        For a nucleus without reference lines.
    """
    from scipy.optimize import least_squares

    check_nucleus(axes.nucleus)
    fid = np.asarray(fid, dtype=complex)
    if not np.isfinite(fid).all() or not fid.any():
        return Offset.none()
    axes = axes.with_points(fid.shape[-1])
    if max_shift_hz is None:
        max_shift_hz = 0.35 * axes.spec_freq_mhz
    start = _register(fid, axes, max_shift_hz)
    at = float(start.shift_hz[0])
    problem = _LineFit.around(at, fid, axes)
    if problem is None:
        return Offset.none()
    width = REFERENCE_LINES[axes.nucleus]["fwhm_ppm"] * axes.spec_freq_mhz
    first = (at, np.deg2rad(start.phase_deg[0]), width / 2, width / 2)
    fit = least_squares(problem.residual, first, method="lm", x_scale=(1.0, 0.1, 2.0, 2.0), max_nfev=200)
    total, total_sd, variance = problem.total_height(fit)
    if total < 0:
        # The same fit, upside down.
        fit.x[1] += np.pi
        total = -total
    sd = np.sqrt(np.clip(np.diag(np.linalg.pinv(fit.jac.T @ fit.jac)), 0, None) * variance)
    if not (total > _LEAST * total_sd and abs(fit.x[0] - at) < width and abs(fit.x[0]) <= max_shift_hz):
        return Offset.none()
    return Offset(
        shift_hz=float(fit.x[0]),
        phase_deg=float(wrap_degrees(np.rad2deg(fit.x[1]))),
        shift_sd_hz=float(np.hypot(sd[0], _MODEL_ERROR_PPM * axes.spec_freq_mhz)),
        phase_sd_deg=float(np.hypot(np.rad2deg(sd[1]), _MODEL_ERROR_DEG)),
    )


def _turns(axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return the undamped FIDs of the reference lines, ``(n_lines, n_points)``, and the time of every point."""
    time = np.arange(axes.n_points) * axes.dwelltime
    places = axes.ppm_to_hz(np.array(REFERENCE_LINES[axes.nucleus]["ppm"]))
    return np.exp(2j * np.pi * places[:, None] * time), time


def _register(fid: np.ndarray, axes: Axes, max_shift_hz: float):
    """Align a FID to the sum of the reference lines at their usual heights and width."""
    lines, (turns, time) = REFERENCE_LINES[axes.nucleus], _turns(axes)
    width = lines["fwhm_ppm"] * axes.spec_freq_mhz
    template = (np.array(lines["height"])[:, None] * turns).sum(0) * np.exp(-np.pi * width * time)
    return align_transients(
        fid[None],
        axes,
        reference=template,
        ppmlim=lines["search"],
        max_shift_hz=max_shift_hz,
        baseline_order=4,
        unstable=(),
    )


@dataclass(frozen=True, kw_only=True)
class _LineFit:
    """Least-squares fit of the reference lines on a polynomial baseline; heights and baseline are solved linearly.

    Attributes
    ----------
    turns, time
        As :func:`_turns` returns them.
    inside : bool array, shape (n_points,)
        Spectral points that are fitted.
    baseline : array, shape (n_baseline, 2 n_inside)
    data : array, shape (2 n_inside,)
        Real and imaginary part of the spectrum.
    """

    turns: np.ndarray
    time: np.ndarray
    inside: np.ndarray
    baseline: np.ndarray
    data: np.ndarray

    @classmethod
    def around(cls, shift_hz: float, fid: np.ndarray, axes: Axes) -> _LineFit | None:
        """Return the fit of a spectrum at about a shift; None where too few points would be fitted, or a line lies
        beyond the spectrum."""
        ppm = axes.ppm() - shift_hz / axes.spec_freq_mhz
        limits = REFERENCE_LINES[axes.nucleus]["pieces"]
        pieces = [(ppm >= low) & (ppm <= high) for low, high in limits]
        inside = np.any(pieces, axis=0)
        if inside.sum() < _LEAST_POINTS or ppm[0] > np.min(limits) or ppm[-1] < np.max(limits):
            return None
        powers = []
        for piece in pieces:
            x = (ppm - ppm[piece].mean()) / np.ptp(ppm[piece])
            powers += [np.where(piece, x**order, 0.0)[inside] for order in range(_BASELINE_ORDER + 1)]
        smooth = np.array(powers)
        baseline = np.concatenate([np.concatenate([smooth, 0 * smooth], 1), np.concatenate([0 * smooth, smooth], 1)])
        turns, time = _turns(axes)
        spec = _spectrum(fid, inside)
        data = np.concatenate([spec.real, spec.imag])
        return cls(turns=turns, time=time, inside=inside, baseline=baseline, data=data)

    def _design(self, p) -> np.ndarray:
        """Return lines and baseline for shift (Hz), phase (rad), Lorentzian and Gaussian width (Hz)."""
        shift, phase, lorentz, gauss = p
        time = self.time
        shape = np.exp(
            2j * np.pi * shift * time - np.pi * abs(lorentz) * time - (np.pi * gauss * time) ** 2 / (4 * np.log(2))
        )
        lines = _spectrum(self.turns * shape * np.exp(1j * phase), self.inside)
        return np.concatenate([np.concatenate([lines.real, lines.imag], 1), self.baseline])

    def _heights(self, design) -> np.ndarray:
        normal = design @ design.T
        return np.linalg.solve(normal + 1e-12 * np.trace(normal) * np.eye(len(design)), design @ self.data)

    def residual(self, p) -> np.ndarray:
        """Return the residual of the best heights and baseline."""
        design = self._design(p)
        return self.data - self._heights(design) @ design

    def total_height(self, fit) -> tuple[float, float, float]:
        """Return the sum of the heights of a fit, its SD, and the variance of the residual."""
        design, n_lines = self._design(fit.x), len(self.turns)
        variance = 2 * fit.cost / max(len(self.data) - len(design) - 4, 1)
        covariance = np.linalg.pinv(design @ design.T)[:n_lines, :n_lines] * variance
        return self._heights(design)[:n_lines].sum(), np.sqrt(covariance.sum()), variance


def _spectrum(fid: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the spectral points that are fitted, ``(..., n_inside)``."""
    return np.fft.fftshift(np.fft.fft(fid, norm="ortho"), axes=-1)[..., inside]
