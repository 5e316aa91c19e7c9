"""The window that transients are compared in, and the band of the spectrum that a registration can touch."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.transients import squared
from ..core.units import window_indices
from .nuisance_lines import nuisance_subspace, strength_hypotheses

__all__ = ["Band", "Window", "make_band", "make_window", "smooth_window", "whole_band"]

_GUARD = 10  # bins either side of the search's range that its interpolation may use
_NOTCH_PPM = 0.2  # width of the flanks of an excluded range
_WORTHWHILE = 0.8  # of the spectrum: a wider band would save nothing


@dataclass(frozen=True)
class Window:
    """The part of the spectrum that counts: weights, baseline and nuisance vectors in FFT order, and their transforms.

    Attributes
    ----------
    weight, lag : tensor, shape (n_points,)
        Weights of the points, and their transform: the share of every lag in the energy.
    baseline, baseline_fid : tensor, shape (n_baseline, n_points)
        Baseline vectors, weighted and orthonormal, and their FIDs.
    smooth : tensor, shape (n_points,)
        The window with wide flanks, whose transform does not ring.
    unstable, unstable_fid : tensor, shape (n_unstable, n_points)
        Vectors that span the nuisance lines, weighted and orthonormal, and their FIDs.
    strengths : tensor, shape (n_hypotheses, n_kinds)
        Variances of the nuisance lines over that of the noise; none first, strongest last.
    filters, excess : tensor, shape (n_hypotheses, n_unstable, n_unstable)
        The part that each hypothesis removes (1 - inverse covariance), and its covariance less the white noise.
    entropy : tensor, shape (n_hypotheses,)
        Log determinants of the covariances.
    hypothesis : tensor of int, shape (n_sets, n_channels)
        The hypothesis in force.
    """

    weight: torch.Tensor
    lag: torch.Tensor
    baseline: torch.Tensor
    baseline_fid: torch.Tensor
    smooth: torch.Tensor
    unstable: torch.Tensor
    unstable_fid: torch.Tensor
    strengths: torch.Tensor
    filters: torch.Tensor
    excess: torch.Tensor
    entropy: torch.Tensor
    hypothesis: torch.Tensor

    @property
    def n_counted(self) -> float:
        """Spectral points that count, less those that a baseline uses up."""
        return float(self.weight.sum()) - self.baseline.shape[0]

    @property
    def removed(self) -> torch.Tensor:
        """The part of the nuisance vectors that is removed, (n_sets, n_channels, n_unstable, n_unstable)."""
        return self.filters[self.hypothesis]

    @property
    def removes_lines(self) -> bool:
        """Whether nuisance lines are removed from any set."""
        return bool((self.strengths[self.hypothesis] > 0).any())

    def to(self, real: torch.dtype) -> Window:
        """Return the same window in another precision."""
        cplx = torch.complex128 if real == torch.float64 else torch.complex64
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return Window(
            **{
                k: x.to(cplx if x.is_complex() else real if x.is_floating_point() else x.dtype)
                for k, x in tensors.items()
            }
        )

    def on(self, band: Band) -> Window:
        """Return the same window on a band of the spectrum that contains it."""
        weight, baseline, unstable = self.weight[band.index], self.baseline[:, band.index], self.unstable[:, band.index]
        return replace(
            self,
            weight=weight,
            lag=(torch.fft.fft(weight) / len(weight)).to(self.lag.dtype),
            baseline=baseline,
            baseline_fid=_to_fid(baseline).to(self.lag.dtype),
            smooth=self.smooth[band.index],
            unstable=unstable,
            unstable_fid=_to_fid(unstable).to(self.lag.dtype),
        )

    def apply(self, spec: torch.Tensor, removed: torch.Tensor | None = None) -> torch.Tensor:
        """Weight spectra (FFT order) as the likelihood does; best baseline and nuisance lines are removed.

        ``removed``, the window's own unless given, broadcasts to ``spec`` with two axes of nuisance vectors in place of
        points.
        """
        out = spec * self.weight
        for vector in self.baseline:
            out = out - vector * (spec * vector).sum(-1, keepdim=True)
        if len(self.unstable) and self.removes_lines:
            removed = self.removed if removed is None else removed
            part = self.nuisance_part(spec)
            if spec.ndim == 3 or removed.ndim > 4:
                part = (part[..., None, :] @ removed)[..., 0, :]
            else:
                part = part @ removed
            out = out - part @ self.unstable
        return out

    def nuisance_part(self, spec: torch.Tensor) -> torch.Tensor:
        """Return the coefficients of the nuisance vectors in spectra, ``(..., n_unstable)``."""
        return spec @ self.unstable.conj().T

    def energy(self, spec: torch.Tensor) -> torch.Tensor:
        """Return the product of each spectrum with itself in the window, ``(n_sets, n_channels, n_transients)``."""
        energy = squared(spec) @ self.weight
        for vector in self.baseline:
            part = (spec * vector).sum(-1)
            energy = energy - squared(part)
        if self.removes_lines:
            part = self.nuisance_part(spec)
            energy = energy - ((part @ self.removed) * part.conj()).sum(-1).real
        return energy


def _to_fid(spec: torch.Tensor) -> torch.Tensor:
    """Return FIDs of spectra, which may be none."""
    return torch.fft.ifft(spec, norm="ortho") if len(spec) else spec


@dataclass(frozen=True)
class Band:
    """The part of the spectrum that a registration can touch: the window, and as far around it as shifts reach.

    Attributes
    ----------
    index : tensor of int, shape (n_band,)
        Places in the spectrum (FFT order) of neighbouring bins.
    edge : tensor, shape (n_band,)
        1, and a fall to 0 at both ends: a sharp cut would ring through the short FIDs.
    """

    index: torch.Tensor
    edge: torch.Tensor


def make_window(
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None,
    taper_ppm: float = 0.0,
    baseline_order: int | None = None,
    unstable: tuple[str, ...] = (),
    exclude: tuple[tuple[float, float], ...] = (),
    device: torch.device | str = "cpu",
    real: torch.dtype = torch.float64,
) -> Window:
    """Return the weights of the spectral points in ``ppmlim`` with baseline polynomials and nuisance lines on them.

    Parameters
    ----------
    axes : Axes
    ppmlim : (float, float) or None
        None takes the whole spectrum.
    taper_ppm : float
        Width of a cosine taper inside either edge.
    baseline_order : int, optional
        Order of the polynomial that may differ in every transient.
    unstable : tuple of str
        Keys of :data:`fsl_mrs_dl.registration.nuisance_lines.NUISANCE_LINES`.
    exclude : tuple of (float, float)
        Ranges in ppm that do not count; tails of lines in them are nuisance lines.
    device : torch.device
    real : torch.dtype
        Precision.

    Raises
    ------
    OptionError
        If the window holds too few points.
    """
    plain = Axes(axes.n_points, float(axes.dwelltime), float(axes.spec_freq_mhz), axes.nucleus)
    limits = None if ppmlim is None else (float(ppmlim[0]), float(ppmlim[1]))
    left_out = tuple((float(low), float(high)) for low, high in exclude)
    arrays = _window_arrays(plain, limits, float(taper_ppm), baseline_order, tuple(unstable), left_out)
    cplx = torch.complex128 if real == torch.float64 else torch.complex64
    tensors = {
        name: torch.tensor(array, dtype=cplx if np.iscomplexobj(array) else real, device=device)
        for name, array in arrays.items()
    }
    return Window(**tensors, hypothesis=torch.full((1, 1), len(tensors["filters"]) - 1, device=device))


@functools.lru_cache(maxsize=4)
def _window_arrays(axes: Axes, ppmlim, taper_ppm, baseline_order, unstable, exclude=()) -> dict[str, np.ndarray]:
    """Return the arrays of :func:`make_window`; cached, since the nuisance subspace takes longer than dozens of
    transients."""
    n_points, ppm = axes.n_points, axes.ppm()
    first, last = window_indices(ppm, ppmlim)
    n_baseline = 0 if baseline_order is None else baseline_order + 1
    if last - first < 8 + n_baseline:
        raise OptionError(
            f"ppm window {ppmlim}: holds {last - first} spectral points (axis {ppm[0]:.2f} to {ppm[-1]:.2f} ppm)",
            remedy="give limits inside the axis, or wider ones",
        )
    weight = np.zeros(n_points)
    weight[first:last] = 1.0
    if taper_ppm > 0:
        inside = np.minimum(ppm[first:last] - ppm[first], ppm[last - 1] - ppm[first:last])
        weight[first:last] = 0.5 - 0.5 * np.cos(np.pi * np.clip((inside + 1e-9) / taper_ppm, 0, 1))
    for low, high in exclude:
        weight[(ppm >= low) & (ppm <= high)] = 0.0
    if (weight > 0).sum() < 8 + n_baseline:
        raise OptionError(
            f"hardly anything of the ppm window {ppmlim} remains",
            option="exclude",
            value=exclude,
            remedy="exclude less",
        )
    powers = np.zeros((n_points, n_baseline))
    x = np.linspace(-1, 1, last - first)
    powers[first:last] = np.stack([x**m for m in range(n_baseline)], axis=1) if n_baseline else 0.0
    root = np.sqrt(weight)
    orthonormal, _ = np.linalg.qr(powers * root[:, None])
    baseline = np.fft.ifftshift((orthonormal * root[:, None]).T, axes=-1)
    weight = np.fft.ifftshift(weight)
    lines, covariance = nuisance_subspace(unstable, axes, weight, baseline, exclude)
    strengths, filters, excess, entropy = strength_hypotheses(covariance)
    return {
        "weight": weight,
        "lag": np.fft.fft(weight) / n_points,
        "baseline": baseline,
        "baseline_fid": np.fft.ifft(baseline, axis=-1, norm="ortho"),
        "smooth": smooth_window(axes, ppmlim) * (np.fft.ifftshift(_notches(ppm, exclude)) if exclude else 1.0),
        "unstable": lines,
        "unstable_fid": np.fft.ifft(lines, axis=-1, norm="ortho"),
        "strengths": strengths,
        "filters": filters.astype(complex),
        "excess": excess.astype(complex),
        "entropy": entropy,
    }


def _notches(ppm: np.ndarray, exclude) -> np.ndarray:
    """Return 1 with smooth notches, 0 in the excluded ranges, ``(n_points,)``."""
    distance = np.min([np.maximum(np.maximum(low - ppm, ppm - high), 0) for low, high in exclude], axis=0)
    return np.sin(0.5 * np.pi * np.clip(distance / _NOTCH_PPM, 0, 1)) ** 2


def smooth_window(axes: Axes, ppmlim: tuple[float, float] | None) -> np.ndarray:
    """Return a window with wide flanks, ``(n_points,)`` in FFT order; 1 throughout where ``ppmlim`` is None."""
    first, last = axes.window(ppmlim)
    smooth = np.zeros(axes.n_points)
    smooth[first:last] = 1.0 if ppmlim is None else np.hanning(last - first + 2)[1:-1]
    return np.fft.ifftshift(smooth)


def whole_band(window: Window) -> Band:
    """Return the band that is the whole spectrum of a window."""
    return Band(torch.arange(len(window.weight), device=window.weight.device), torch.ones_like(window.weight))


def make_band(window: Window, duration: float, max_shift_hz: float) -> Band:
    """Return the window and twice the largest shift around it.

    That is the range between two transients at opposite ends of the search.  ``duration`` is that of the FIDs, in
    seconds.
    """
    n_points = len(window.weight)
    counted = np.flatnonzero(np.fft.fftshift(window.smooth.cpu().numpy()))
    flat, fall = math.ceil(max_shift_hz * duration) + _GUARD, math.ceil(max_shift_hz * duration)
    n_band = _fast_length(counted[-1] + 1 - counted[0] + 2 * (flat + fall))
    if n_band > _WORTHWHILE * n_points:
        return whole_band(window)
    inside = counted[0] + counted[-1] + 1 - n_band  # twice the first bin
    index = (inside // 2 + np.arange(n_band) - n_points // 2) % n_points
    depth = np.minimum(np.arange(n_band), np.arange(n_band)[::-1])
    edge = 0.5 - 0.5 * np.cos(np.pi * np.clip((depth + 0.5) / fall, 0, 1))
    return Band(
        torch.as_tensor(index, device=window.weight.device),
        torch.as_tensor(edge, dtype=window.weight.dtype, device=window.weight.device),
    )


def _fast_length(n: int) -> int:
    """Return the least length from ``n`` on that has no prime factors but 2, 3 and 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
