"""Sub-spectra of edited data aligned to each other, so that what editing leaves alone cancels when they are subtracted.

Editing changes a few lines and leaves the rest.  A least-squares registration is pulled by what changes most (NAA, where the pulse saturates
it); the sum of magnitudes of the difference is not: lines that change cost much the same wherever they are, lines that do not change must
cancel.  So shift and phase are those with the smallest sum of magnitudes (compare Cleve et al., doi 10.1002/mrm.26440, and Mikkelsen et al.,
doi 10.1002/nbm.4368), a slowly varying complex baseline left free, since residual water differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .alignment import align_transients
from .units import ppm_axis, window_indices

__all__ = ["match_subspectra"]

_BASELINE_ORDER = 3
_MOST_STEPS, _LONGEST_STEP_HZ = 100, 2.0


def match_subspectra(
    fids, *, dwelltime: float, spec_freq_mhz: float, nucleus: str = "1H", ppmlim: tuple[float, float] | None = (0.2, 4.2)
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts and phases that the sub-spectra differ by.

    Parameters
    ----------
    fids : complex array ``(n_conditions, n_channels, n_points)``
        Means of the aligned transients of each condition.
    dwelltime, spec_freq_mhz, nucleus, ppmlim
        Seconds, MHz; the part of the spectrum that is compared.

    Returns
    -------
    shift_hz, phase_deg : ndarray ``(n_conditions,)``
        Of each condition, about their common mean; with :func:`fsl_mrs_dl.alignment.apply_shift_phase` they are removed.
        0 throughout where one of the conditions is empty; a condition too weak to be found in the first one is not moved against it.
    """
    fids = np.asarray(fids, dtype=complex)
    n = len(fids)
    if n < 2 or not all(np.isfinite(one).all() and one.any() for one in fids):
        return np.zeros(n), np.zeros(n)
    axes = {"dwelltime": dwelltime, "spec_freq_mhz": spec_freq_mhz, "nucleus": nucleus, "ppmlim": ppmlim}
    found = [(0.0, 0.0)] + [_pair(fids[0], one, axes) for one in fids[1:]]
    shift, phase = np.array(found).T
    return shift - shift.mean(), phase - phase.mean()


def _pair(reference: np.ndarray, fid: np.ndarray, axes: dict) -> tuple[float, float]:
    """Shift (Hz) and phase (degrees) of ``fid`` against ``reference``, each ``(n_channels, n_points)``."""
    dwelltime = axes["dwelltime"]
    start = align_transients(fid[:, None], reference=reference, **axes)
    if start.flag[0] != "ok":
        return 0.0, 0.0
    n_points = fid.shape[-1]
    ppm = ppm_axis(n_points, dwelltime, axes["spec_freq_mhz"], axes["nucleus"])
    first, last = window_indices(ppm, axes["ppmlim"])

    def spec(x):
        return np.fft.fftshift(np.fft.fft(x, norm="ortho"), axes=-1)[..., first:last]

    wide = np.fft.fft(np.stack([reference, fid]), norm="ortho")
    noise = np.median(np.abs(np.diff(wide, n=2, axis=-1)), axis=-1) / np.sqrt(12 * np.log(2))
    # The floor lets noise-free simulations through.
    scale = np.maximum(np.sqrt((noise**2).sum(0)), 1e-6 * np.abs(wide).max((0, 2)))[:, None]
    smooth = np.linalg.qr(np.linspace(-1, 1, last - first)[:, None] ** np.arange(_BASELINE_ORDER + 1))[0].T
    problem = _Difference(spec(reference) / scale, fid / scale, spec, np.arange(n_points) * dwelltime, smooth)
    phase = np.deg2rad(start.phase_deg[0])
    tried = [problem.smallest(np.array(p)) for p in ((start.shift_hz[0], phase), (0.0, phase), (0.0, 0.0))]
    _, (shift, phase) = min(tried, key=lambda one: one[0])
    return float(shift), float((np.rad2deg(phase) + 180) % 360 - 180)


@dataclass(frozen=True)
class _Difference:
    """Difference of two spectra ``(n_channels, n)`` in units of its noise, and what is smallest of it."""

    target: np.ndarray
    fid: np.ndarray
    spec: Callable
    time: np.ndarray
    smooth: np.ndarray

    def _without_baseline(self, left, weight):
        """The weighted least-squares baseline of every channel taken out."""
        out = np.empty_like(left)
        for channel, root in enumerate(np.sqrt(weight)):
            coefficients, *_ = np.linalg.lstsq((self.smooth * root).T, left[channel] * root, rcond=None)
            out[channel] = left[channel] - coefficients @ self.smooth
        return out

    def smallest(self, p) -> tuple[float, np.ndarray]:
        """Iteratively reweighted least squares for the sum of ``sqrt(|difference|^2 + 1)``: that sum, and shift (Hz) and phase (rad)."""
        weight, cost = np.ones(self.target.shape), np.inf
        for _ in range(_MOST_STEPS):
            turned = self.fid * np.exp(-1j * (2 * np.pi * p[0] * self.time + p[1]))
            left = self._without_baseline(self.spec(turned) - self.target, weight)
            magnitude = np.sqrt(np.abs(left) ** 2 + 1)
            weight, cost = 1 / magnitude, magnitude.sum()
            slopes = (self.spec(-2j * np.pi * self.time * turned), self.spec(-1j * turned))
            root = np.sqrt(weight)
            rows = [(self._without_baseline(one, weight) * root).ravel().view(float) for one in slopes]
            step = -np.linalg.lstsq(np.stack(rows, 1), (left * root).ravel().view(float), rcond=None)[0]
            p = p + step * min(1.0, _LONGEST_STEP_HZ / max(abs(step[0]), 1e-12))
            if abs(step[0]) < 1e-4 and abs(step[1]) < 1e-5:
                break
        return cost, p
