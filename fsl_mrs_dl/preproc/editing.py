"""Sub-spectra of edited data aligned to each other, so that what editing leaves alone cancels when they are subtracted.

Editing changes some lines and leaves the rest.  A least-squares registration is pulled by what changes most (NAA, where
the pulse saturates it); the sum of magnitudes of the difference is less so: a line that changes costs much the same
wherever it is, lines that do not change can cancel.  So shift and phase are those with the smallest sum of magnitudes
(compare Cleve et al., doi 10.1002/mrm.26440, and Mikkelsen et al., doi 10.1002/nbm.4368), tails of residual water of
any strength left out.  What editing changes still feigns a tenth of a hertz and a degree or so; where sub-spectra were
acquired in turn they drift together and lie closer than that already.  So small offsets are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..core.units import ppm_axis, window_indices, wrap_degrees
from ..registration.alignment import align_transients
from ..registration.window import _make_window

__all__ = ["match_subspectra"]

_FEIGNED_PPM, _FEIGNED_DEG = 0.0025, 3.0  # offsets that lines which editing changes can feign
_MOST_STEPS, _LONGEST_STEP_HZ = 100, 2.0


def match_subspectra(
    fids,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
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
        Of each condition, about their common mean; with :func:`fsl_mrs_dl.registration.solver.apply_shift_phase` they
        are removed.  Offsets below
        0.0025 ppm and 3 degrees count as none. 0 throughout where one of the conditions is empty; a condition too weak
        to be found in the first one is not moved against it.
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
    water = _water_tails(n_points, axes)[:, first:last]
    problem = _Difference(spec(reference) / scale, fid / scale, spec, np.arange(n_points) * dwelltime, water)
    phase = np.deg2rad(start.phase_deg[0])
    tried = [problem.smallest(np.array(p)) for p in ((start.shift_hz[0], phase), (0.0, phase), (0.0, 0.0))]
    _, (shift, phase) = min(tried, key=lambda one: one[0])
    phase = wrap_degrees(np.rad2deg(phase))
    if abs(shift) < _FEIGNED_PPM * axes["spec_freq_mhz"] and abs(phase) < _FEIGNED_DEG:
        return 0.0, 0.0
    return float(shift), float(phase)


def _water_tails(n_points: int, axes: dict) -> np.ndarray:
    """Spectra ``(k, n_points)`` that residual water of any place, width and strength consists of in the window; none
    where there is no water."""
    if axes["nucleus"] != "1H" or axes["ppmlim"] is None:
        return np.zeros((0, n_points))
    place = (n_points, axes["dwelltime"], axes["spec_freq_mhz"], axes["nucleus"], axes["ppmlim"], 0.0, None)
    window = _make_window(*place, torch.device("cpu"), torch.float64, ("water",))
    return np.fft.fftshift(window.unstable.numpy(), axes=-1)


@dataclass(frozen=True)
class _Difference:
    """Difference of two spectra ``(n_channels, n)`` in units of its noise, and what is smallest of it."""

    target: np.ndarray
    fid: np.ndarray
    spec: Callable
    time: np.ndarray
    water: np.ndarray

    def _without_water(self, left, weight):
        """The weighted least-squares tails of water taken out of every channel."""
        if not len(self.water):
            return left
        weighted = self.water.conj() * weight[:, None]  # (n_channels, k, n)
        # Normal equations of three unknowns: what is general enough for more would spend its time on threads.
        found = np.linalg.solve(weighted @ self.water.T, weighted @ left[..., None])[..., 0]
        return left - found @ self.water

    def smallest(self, p) -> tuple[float, np.ndarray]:
        """Iteratively reweighted least squares for the sum of ``sqrt(|difference|^2 + 1)``: that sum, and shift (Hz)
        and phase (rad)."""
        weight, cost = np.ones(self.target.shape), np.inf
        for _ in range(_MOST_STEPS):
            turned = self.fid * np.exp(-1j * (2 * np.pi * p[0] * self.time + p[1]))
            left = self._without_water(self.spec(turned) - self.target, weight)
            magnitude = np.sqrt(np.abs(left) ** 2 + 1)
            weight, cost = 1 / magnitude, magnitude.sum()
            slopes = (self.spec(-2j * np.pi * self.time * turned), self.spec(-1j * turned))
            root = np.sqrt(weight)
            design = np.stack([(self._without_water(one, weight) * root).ravel().view(float) for one in slopes])
            step = -np.linalg.solve(design @ design.T, design @ (left * root).ravel().view(float))
            p = p + step * min(1.0, _LONGEST_STEP_HZ / max(abs(step[0]), 1e-12))
            if abs(step[0]) < 1e-4 and abs(step[1]) < 1e-5:
                break
        return cost, p
