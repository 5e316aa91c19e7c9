"""Sub-spectra of edited data aligned to each other, so that lines which editing does not change cancel when they are
subtracted.

Editing changes some lines and not the others.  A least-squares registration is pulled by the lines that change (NAA,
where the pulse saturates it; GABA under creatine), and by their tails everywhere.  Three things keep them out:

- FIDs are compared with a smooth rise, which takes broad signals and the tails of lines away, and a smooth end, behind
  which there is noise only.
- Where the spectra still differ after the best shift and phase, within 0.2 ppm, the difference is a change of
  lines and not an error of these: the variance there is that of the difference, which is estimated with the shift and
  the phase (compare Cleve et al., doi 10.1002/mrm.26440, and Mikkelsen et al., doi 10.1002/nbm.4368, who minimise the
  sum of magnitudes; that is the start here).
- Tails of residual water of any strength are removed.

Changes below the noise, and those that look like a shift, remain.  Regions of the spectrum disagree by them, and the
standard deviations of shift and phase are those of noise and of this disagreement.  Offsets that are not larger are
not corrected: sub-spectra that were acquired in turn drift together and lie closer than that already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from ..core.axes import Axes
from ..core.units import wrap_degrees
from ..registration.alignment import align_transients
from ..registration.window import make_window

__all__ = ["SubspectraMatch", "match_subspectra"]

_AMPLITUDES = (0.02, 50.0)
_MOST_STEPS, _LONGEST_STEP_HZ = 100, 2.0
_LATE_ENERGY = 0.125  # share of the energy behind the rise of the weight
_END = 10.0  # of the rise, where the weight ends
_RISE_S = (0.005, 0.1)
_REGION_PPM = 0.2  # regions that are changed or not as a whole, and that may disagree
_SURE = 4.0  # squared Mahalanobis distance that offsets are shrunk by: 86 % of those without an offset lie below
_FLOOR = 1e-4  # of the highest point, least noise: lets simulations without noise through


class SubspectraMatch(NamedTuple):
    """Shifts and phases that sub-spectra differ by.

    Attributes
    ----------
    shift_hz, phase_deg : ndarray, shape (..., n_conditions)
        Of each condition, about their common mean; :func:`fsl_mrs_dl.core.transients.apply_shift_phase` removes them.
    shift_sd_hz, phase_sd_deg : ndarray, shape (..., n_conditions)
        Standard deviation of the difference that remains between a condition and the first; 0 for the first, NaN where
        a condition was not found in it.
    """

    shift_hz: np.ndarray
    phase_deg: np.ndarray
    shift_sd_hz: np.ndarray
    phase_sd_deg: np.ndarray

    @property
    def largest_sd(self) -> tuple[float, float]:
        """The largest standard deviations of shift (Hz) and phase (degrees); NaN where none is known."""
        known = [sds[np.isfinite(sds) & (sds > 0)] for sds in (self.shift_sd_hz, self.phase_sd_deg)]
        shift_sd, phase_sd = (float(sds.max()) if len(sds) else float("nan") for sds in known)
        return shift_sd, phase_sd


def match_subspectra(
    fids,
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    exclude: tuple[tuple[float, float], ...] = (),
    same_size: bool = True,
) -> SubspectraMatch:
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
    SubspectraMatch
        Arrays ``(n_conditions,)``. Offsets are shrunk by their uncertainty: those below two standard deviations are 0.
        0 throughout where one of the conditions is empty; a condition too weak to be found in the first one is not
        moved against it.
    """
    fids = np.asarray(fids, dtype=complex)
    n = len(fids)
    if n < 2 or not all(np.isfinite(one).all() and one.any() for one in fids):
        unknown = np.where(np.arange(n) > 0, np.nan, 0.0)
        return SubspectraMatch(np.zeros(n), np.zeros(n), unknown, unknown)
    pairs = [_match_pair(fids[0], one, axes, ppmlim, tuple(exclude), same_size) for one in fids[1:]]
    shift, phase, *sds = np.array([(0.0, 0.0, 0.0, 0.0), *pairs]).T
    return SubspectraMatch(shift - shift.mean(), phase - phase.mean(), *sds)


def _match_pair(
    reference: np.ndarray, fid: np.ndarray, axes: Axes, ppmlim, exclude, same_size: bool
) -> tuple[float, float, float, float]:
    """Return shift (Hz) and phase (degrees) of ``fid`` against ``reference``, each ``(n_channels, n_points)``, and the
    standard deviations of what remains."""
    start = align_transients(fid[:, None], axes, reference=reference, ppmlim=ppmlim, exclude=exclude)
    if start.flag[0] != "ok":
        return 0.0, 0.0, np.nan, np.nan
    problem = _Difference.of(reference, fid, axes.with_points(fid.shape[-1]), ppmlim, exclude)
    phase = np.deg2rad(start.phase_deg[0])
    starts = [np.array(p) for p in ((start.shift_hz[0], phase), (0.0, phase), (0.0, 0.0))]
    if not same_size:
        starts = [np.append(p, np.log(np.clip(start.amplitude[0], *_AMPLITUDES))) for p in starts]
    _, best = min((problem.minimise(p, problem.of_magnitude) for p in starts), key=lambda one: one[0])
    _, best = problem.minimise(best, problem.of_variance)
    covariance = problem.covariance(best)[:2, :2]
    offset = best[:2] - [0.0, 2 * np.pi * np.round(best[1] / (2 * np.pi))]
    distance = float(offset @ np.linalg.pinv(covariance) @ offset)
    moved = offset * max(0.0, 1 - _SURE / distance) if distance > 0 else 0 * offset
    sd = np.sqrt(np.diag(covariance) + (offset - moved) ** 2)
    return float(moved[0]), float(wrap_degrees(np.rad2deg(moved[1]))), float(sd[0]), float(np.rad2deg(sd[1]))


def _weight(fids: np.ndarray, inside: np.ndarray, dwelltime: float) -> np.ndarray:
    """Return a weight of the FIDs' points that rises and falls smoothly, ``(n,)`` with at most ``n_points``.

    It rises until an eighth of the energy in the window is left, noise not counted.
    """
    spectra = np.where(inside, np.fft.fftshift(np.fft.fft(fids), axes=-1), 0)
    energy = (np.abs(np.fft.ifft(spectra)) ** 2).sum((0, 1))
    n = len(energy)
    energy = energy[: n // 2] - np.median(energy[n // 2 :]) / np.log(2)  # of noise the median is ln 2 of the mean
    left = 1 - np.cumsum(energy) / energy.sum() if energy.sum() > 0 else np.zeros(1)
    rise = float(np.clip(np.argmax(left < _LATE_ENERGY) * dwelltime, *_RISE_S))
    n = min(n, max(int(_END * rise / dwelltime), 8))
    time = (np.arange(n) + 0.5) * dwelltime
    fall = np.cos(0.5 * np.pi * np.clip(time / (n * dwelltime), 0, 1)) ** 2
    return np.sin(0.5 * np.pi * np.clip(time / rise, 0, 1)) ** 2 * fall


def _inside(axes: Axes, ppmlim, exclude) -> np.ndarray:
    """Return which points of the spectra are compared, bool ``(n_points,)``."""
    first, last = axes.window(ppmlim)
    inside = np.zeros(axes.n_points, bool)
    inside[first:last] = True
    ppm = axes.ppm()
    for low, high in exclude:
        inside &= ~((ppm >= low) & (ppm <= high))
    return inside


def _water_tails(axes: Axes, ppmlim) -> np.ndarray:
    """Return FIDs ``(k, n_points)`` that span residual water of any place, width and strength in the window; none where
    there is no water."""
    if axes.nucleus != "1H" or ppmlim is None:
        return np.zeros((0, axes.n_points))
    window = make_window(axes, ppmlim=ppmlim, unstable=("water",))
    return np.fft.ifft(window.unstable.numpy())


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
    fids : callable
        The adjoint: spectra in the window to FIDs.
    time : array, shape (n_points,)
        Seconds.
    water : complex array, shape (k, n)
        Spectra of any strength.
    region : int
        Points of a region that is changed or not as a whole.
    white : float
        Noise SD of ``fid`` per real and imaginary part, that of both spectra together.
    """

    target: np.ndarray
    fid: np.ndarray
    spec: Callable
    fids: Callable
    time: np.ndarray
    water: np.ndarray
    region: int
    white: float

    @classmethod
    def of(cls, reference: np.ndarray, fid: np.ndarray, axes: Axes, ppmlim, exclude) -> _Difference:
        """Return the problem of two FIDs ``(n_channels, n_points)``."""
        pair = np.stack([reference, fid])
        weight = _weight(pair, _inside(axes, ppmlim, exclude), axes.dwelltime)
        short = axes.with_points(len(weight))
        inside = _inside(short, ppmlim, exclude)

        def spec(x):
            return np.fft.fftshift(np.fft.fft(x[..., : len(weight)] * weight, norm="ortho"), axes=-1)[..., inside]

        def fids(x):
            full = np.zeros((*x.shape[:-1], len(weight)), complex)
            full[..., inside] = x
            return np.fft.ifft(np.fft.ifftshift(full, axes=-1), norm="ortho") * weight

        wide = np.fft.fft(pair, norm="ortho")
        noise = np.median(np.abs(np.diff(wide, n=2, axis=-1)), axis=-1) / np.sqrt(12 * np.log(2))
        noise = np.sqrt((noise**2).sum(0))
        size = np.sqrt((weight**2).mean())  # of the noise after weighting
        noise = np.maximum(noise, _FLOOR * np.abs(spec(pair)).max((0, 2)) / size)
        scale = (np.sqrt(2) * size * noise)[:, None]
        points = axes.spec_freq_mhz * len(weight) * axes.dwelltime  # of a ppm
        return cls(
            target=spec(reference) / scale,
            fid=fid[:, : len(weight)] / scale,
            spec=spec,
            fids=fids,
            time=np.arange(len(weight)) * axes.dwelltime,
            water=spec(_water_tails(axes, ppmlim)),
            region=max(3, round(_REGION_PPM * points) | 1),
            white=1 / (np.sqrt(2) * size),
        )

    def of_magnitude(self, residual: np.ndarray) -> tuple[np.ndarray, float]:
        """Return weights of the residual ``(n_channels, n)`` and cost for the sum of magnitudes."""
        magnitude = np.sqrt(np.abs(residual) ** 2 + 1)
        return 1 / magnitude, float(magnitude.sum())

    def of_variance(self, residual: np.ndarray) -> tuple[np.ndarray, float]:
        """Return weights and cost for residuals of unknown variance, not below that of noise."""
        variance = uniform_filter1d((np.abs(residual) ** 2).mean(0), self.region, mode="nearest")
        variance = np.maximum(variance, 1)
        return np.broadcast_to(1 / variance, residual.shape), float(np.log(variance).sum())

    def _without_water(self, residual, weight):
        """Subtract the weighted least-squares tails of water from every channel."""
        if not len(self.water):
            return residual
        weighted = self.water.conj() * weight[:, None]  # (n_channels, k, n)
        # Normal equations of three unknowns: a solver for more would spend its time on threads.
        normal = weighted @ self.water.T
        normal = normal + 1e-9 * np.trace(normal, axis1=-2, axis2=-1)[:, None, None] * np.eye(len(self.water))
        strength = np.linalg.solve(normal, weighted @ residual[..., None])[..., 0]
        return residual - strength @ self.water

    def _residual(self, p, weight) -> tuple[np.ndarray, np.ndarray]:
        """Return the difference ``(n_channels, n)`` and its slopes ``(len(p), n_channels, n)``, without water."""
        turned = self.fid * np.exp(-1j * (2 * np.pi * p[0] * self.time + p[1]))
        # Only one is scaled: a difference of two that are scaled to nothing would be small.
        target = self.target * (np.exp(p[2]) if len(p) > 2 else 1.0)
        slopes = [self.spec(-2j * np.pi * self.time * turned), self.spec(-1j * turned)]
        slopes += [-target] if len(p) > 2 else []
        without = [self._without_water(one, weight) for one in (self.spec(turned) - target, *slopes)]
        return without[0], np.stack(without[1:])

    def minimise(self, p, rule: Callable) -> tuple[float, np.ndarray]:
        """Minimise a cost of the difference by iteratively reweighted least squares.

        Parameters
        ----------
        p : array, shape (2,) or (3,)
            Start: shift (Hz), phase (rad) and, if it is free, the logarithm of the amplitude.
        rule : callable
            Residuals to their weights and cost: :meth:`of_magnitude` or :meth:`of_variance`.

        Returns
        -------
        (float, array)
            The cost, and the same at its minimum.
        """
        weight, cost = np.ones(self.target.shape), np.inf
        for _ in range(_MOST_STEPS):
            residual, slopes = self._residual(p, weight)
            weight, cost = rule(residual)
            root = np.sqrt(weight)
            design = np.stack([(one * root).ravel().view(float) for one in slopes])
            step = -np.linalg.solve(design @ design.T, design @ (residual * root).ravel().view(float))
            p = p + step * min(1.0, _LONGEST_STEP_HZ / max(abs(step[0]), 1e-12))
            if np.abs(p[2:]).max(initial=0) > np.log(_AMPLITUDES[1]):
                return np.inf, p  # scaled to nothing
            if abs(step[0]) < 1e-4 and (np.abs(step[1:]) < 1e-5).all():
                break
        return cost, p

    def covariance(self, p) -> np.ndarray:
        """Return the covariance of estimates, from noise and from the disagreement of regions.

        The gradient of a region has the variance of noise where lines do not change.  Beyond that, sums over regions
        of the gradient are squared (a sandwich estimate with clusters), and enlarged for the few regions that count.

        Parameters
        ----------
        p : array, shape (2,) or (3,)
            As :meth:`minimise` returns it.

        Returns
        -------
        array, shape (2, 2) or (3, 3)
        """
        weight = self.of_variance(self._residual(p, np.ones(self.target.shape))[0])[0]
        residual, slopes = self._residual(p, weight)
        weighted = slopes * weight
        curvature = np.einsum("pcn,qcn->pq", weighted.conj(), slopes).real
        of_noise = np.stack([self.fids(one) for one in weighted]) * self.white
        of_noise = np.einsum("pcn,qcn->pq", of_noise.conj(), of_noise).real
        gradient = (weighted.conj() * residual).real.sum(1)
        summed = uniform_filter1d(gradient, self.region, axis=-1, mode="constant") * self.region
        disagreement = summed @ gradient.T
        values, vectors = np.linalg.eigh((disagreement + disagreement.T) / 2 - of_noise)
        disagreement = (vectors * np.maximum(values, 0)) @ vectors.T
        leverage = (weighted.conj() * slopes).real.sum(1)[:2]
        leverage = uniform_filter1d(leverage, self.region, axis=-1, mode="constant") * self.region
        regions = float((leverage.mean(-1) ** 2 / (leverage**2).mean(-1)).min()) * leverage.shape[-1] / self.region
        few = regions / max(regions - 2, 0.5)
        inverse = np.linalg.pinv(curvature)
        return inverse @ (of_noise + max(few, 1.0) * disagreement) @ inverse
