"""Sub-spectra of edited data aligned to each other, so that lines which editing does not change cancel when they are
subtracted.

Editing changes some lines and not the others.  A least-squares registration is pulled by the line that changes most
(NAA, where the pulse saturates it); the sum of magnitudes of the difference is less so: a line that changes costs much
the same wherever it is, lines that do not change can cancel.  So shift and phase are those with the smallest sum of
magnitudes (compare Cleve et al., doi 10.1002/mrm.26440, and Mikkelsen et al., doi 10.1002/nbm.4368), tails of residual
water of any strength removed.  The lines that editing changes still feign a tenth of a hertz and a degree or so, and
sub-spectra that were acquired in turn drift together and lie closer than that already.  So small offsets are not
corrected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.axes import Axes
from ..core.units import wrap_degrees
from ..registration.alignment import align_transients
from ..registration.window import make_window

__all__ = ["match_subspectra"]

_FEIGNED_PPM, _FEIGNED_DEG = 0.0025, 3.0  # offsets that lines which editing changes can feign
_AMPLITUDES = (0.02, 50.0)
_MOST_STEPS, _LONGEST_STEP_HZ = 100, 2.0


def match_subspectra(
    fids,
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    exclude: tuple[tuple[float, float], ...] = (),
    same_size: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shifts and phases that the sub-spectra differ by.

    Parameters
    ----------
    fids : complex array, shape (n_conditions, n_channels, n_points)
        Means of the aligned transients of each condition.
    axes : Axes
    ppmlim : (float, float) or None
        The part of the spectrum that is compared, in ppm.
    exclude : tuple of (float, float)
        Ranges in ppm inside the window that are not compared.
    same_size : bool
        Whether lines that do not change have one amplitude, as in edited data; it falls with the b value.

    Returns
    -------
    shift_hz, phase_deg : ndarray, shape (n_conditions,)
        Of each condition, about their common mean; :func:`fsl_mrs_dl.core.transients.apply_shift_phase` removes them.
        Offsets below 0.0025 ppm and 3 degrees count as none. 0 throughout where one of the conditions is empty; a
        condition too weak to be found in the first one is not moved against it.
    """
    fids = np.asarray(fids, dtype=complex)
    n = len(fids)
    if n < 2 or not all(np.isfinite(one).all() and one.any() for one in fids):
        return np.zeros(n), np.zeros(n)
    pairs = [(0.0, 0.0)] + [_match_pair(fids[0], one, axes, ppmlim, tuple(exclude), same_size) for one in fids[1:]]
    shift, phase = np.array(pairs).T
    return shift - shift.mean(), phase - phase.mean()


def _match_pair(
    reference: np.ndarray, fid: np.ndarray, axes: Axes, ppmlim, exclude, same_size: bool
) -> tuple[float, float]:
    """Return shift (Hz) and phase (degrees) of ``fid`` against ``reference``, each ``(n_channels, n_points)``."""
    start = align_transients(fid[:, None], axes, reference=reference, ppmlim=ppmlim, exclude=exclude)
    if start.flag[0] != "ok":
        return 0.0, 0.0
    axes = axes.with_points(fid.shape[-1])
    first, last = axes.window(ppmlim)
    ppm = axes.ppm()[first:last]
    inside = first + np.flatnonzero(~np.any([(ppm >= low) & (ppm <= high) for low, high in exclude] or [ppm != ppm], 0))

    def spec(x):
        return np.fft.fftshift(np.fft.fft(x, norm="ortho"), axes=-1)[..., inside]

    wide = np.fft.fft(np.stack([reference, fid]), norm="ortho")
    noise = np.median(np.abs(np.diff(wide, n=2, axis=-1)), axis=-1) / np.sqrt(12 * np.log(2))
    # The floor lets noise-free simulations through.
    scale = np.maximum(np.sqrt((noise**2).sum(0)), 1e-6 * np.abs(wide).max((0, 2)))[:, None]
    water = _water_tails(axes, ppmlim)[:, inside]
    time = np.arange(axes.n_points) * axes.dwelltime
    problem = _Difference(target=spec(reference) / scale, fid=fid / scale, spec=spec, time=time, water=water)
    phase = np.deg2rad(start.phase_deg[0])
    starts = [np.array(p) for p in ((start.shift_hz[0], phase), (0.0, phase), (0.0, 0.0))]
    if not same_size:
        starts = [np.append(p, np.log(np.clip(start.amplitude[0], *_AMPLITUDES))) for p in starts]
    _, best = min((problem.minimise(p) for p in starts), key=lambda one: one[0])
    shift, phase = best[:2]
    phase = wrap_degrees(np.rad2deg(phase))
    if abs(shift) < _FEIGNED_PPM * axes.spec_freq_mhz and abs(phase) < _FEIGNED_DEG:
        return 0.0, 0.0
    return float(shift), float(phase)


def _water_tails(axes: Axes, ppmlim) -> np.ndarray:
    """Return spectra ``(k, n_points)`` that span residual water of any place, width and strength in the window; none
    where there is no water."""
    if axes.nucleus != "1H" or ppmlim is None:
        return np.zeros((0, axes.n_points))
    window = make_window(axes, ppmlim=ppmlim, unstable=("water",))
    return np.fft.fftshift(window.unstable.numpy(), axes=-1)


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """Difference of two spectra in units of its noise, as a function of shift and phase.

    Attributes
    ----------
    target : complex array, shape (n_channels, n)
        Spectrum in the window.
    fid : complex array, shape (n_channels, n_points)
    spec : callable
        FIDs to spectra in the window.
    time : array, shape (n_points,)
        Seconds.
    water : complex array, shape (k, n)
        Spectra of any strength.
    """

    target: np.ndarray
    fid: np.ndarray
    spec: Callable
    time: np.ndarray
    water: np.ndarray

    def _without_water(self, residual, weight):
        """Subtract the weighted least-squares tails of water from every channel."""
        if not len(self.water):
            return residual
        weighted = self.water.conj() * weight[:, None]  # (n_channels, k, n)
        # Normal equations of three unknowns: a solver for more would spend its time on threads.
        strength = np.linalg.solve(weighted @ self.water.T, weighted @ residual[..., None])[..., 0]
        return residual - strength @ self.water

    def minimise(self, p) -> tuple[float, np.ndarray]:
        """Minimise the sum of ``sqrt(|difference|^2 + 1)`` by iteratively reweighted least squares.

        Parameters
        ----------
        p : array, shape (2,) or (3,)
            Start: shift (Hz), phase (rad) and, if it is free, the logarithm of the amplitude.

        Returns
        -------
        (float, array)
            That sum, and the same at its minimum.
        """
        weight, cost = np.ones(self.target.shape), np.inf
        for _ in range(_MOST_STEPS):
            turned = self.fid * np.exp(-1j * (2 * np.pi * p[0] * self.time + p[1]))
            # Only one is scaled: a difference of two that are scaled to nothing would be small.
            size = np.exp(p[2]) if len(p) > 2 else 1.0
            target = self.target * size
            residual = self._without_water(self.spec(turned) - target, weight)
            magnitude = np.sqrt(np.abs(residual) ** 2 + 1)
            weight, cost = 1 / magnitude, magnitude.sum()
            slopes = [self.spec(-2j * np.pi * self.time * turned), self.spec(-1j * turned)]
            if len(p) > 2:
                slopes.append(-target)
            root = np.sqrt(weight)
            design = np.stack([(self._without_water(one, weight) * root).ravel().view(float) for one in slopes])
            step = -np.linalg.solve(design @ design.T, design @ (residual * root).ravel().view(float))
            p = p + step * min(1.0, _LONGEST_STEP_HZ / max(abs(step[0]), 1e-12))
            if np.abs(p[2:]).max(initial=0) > np.log(_AMPLITUDES[1]):
                return np.inf, p  # scaled to nothing
            if abs(step[0]) < 1e-4 and (np.abs(step[1:]) < 1e-5).all():
                break
        return cost, p
