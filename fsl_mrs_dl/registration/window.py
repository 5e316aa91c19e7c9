"""The window that transients are compared in, as a band of fewer points."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from ..core.errors import OptionError
from ..core.transients import squared
from ..core.units import ppm_axis, window_indices
from .nuisance_lines import _guesses, _unstable_lines


@dataclass(frozen=True)
class _Window:
    """The part of the spectrum that counts: weights and baseline vectors in FFT order, and their transforms."""

    weight: torch.Tensor  # (n_points,)
    lag: torch.Tensor  # (n_points,) transform of the weights: the energy's share of every lag
    baseline: torch.Tensor  # (n_baseline, n_points), weighted, orthonormal
    baseline_fid: torch.Tensor  # (n_baseline, n_points)
    smooth: torch.Tensor  # (n_points,) the window with wide flanks, whose transform does not ring
    unstable: torch.Tensor  # (n_unstable, n_points), weighted, orthonormal: what lines of unknown strength consist of
    unstable_fid: torch.Tensor  # (n_unstable, n_points)
    strengths: (
        torch.Tensor
    )  # (n_guesses, n_kinds) variances over the noise's that are reckoned with, none first, strongest last
    filters: torch.Tensor  # (n_guesses, n_unstable, n_unstable) part that each guess takes out: 1 - inverse covariance
    excess: torch.Tensor  # (n_guesses, n_unstable, n_unstable) covariance of each guess less the white noise
    entropy: torch.Tensor  # (n_guesses,) log determinant of the covariance
    held: torch.Tensor  # (n_sets, n_channels) the guess that holds

    @property
    def n_counted(self) -> float:
        return float(self.weight.sum()) - self.baseline.shape[0]

    @property
    def taken(self) -> torch.Tensor:
        """What is taken out of the unstable vectors, (n_sets, n_channels, n_unstable, n_unstable)."""
        return self.filters[self.held]

    @property
    def takes_out(self) -> bool:
        """Whether anything unstable is taken out of any set."""
        return bool((self.strengths[self.held] > 0).any())

    def to(self, real: torch.dtype) -> _Window:
        """The same in another precision."""
        cplx = torch.complex128 if real == torch.float64 else torch.complex64
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return _Window(
            **{
                k: x.to(cplx if x.is_complex() else real if x.is_floating_point() else x.dtype)
                for k, x in tensors.items()
            }
        )

    def on(self, band: _Band) -> _Window:
        """The same on a band of the spectrum that holds everything in the window."""
        weight, baseline, unstable = self.weight[band.index], self.baseline[:, band.index], self.unstable[:, band.index]
        return replace(
            self,
            weight=weight,
            lag=(torch.fft.fft(weight) / len(weight)).to(self.lag.dtype),
            baseline=baseline,
            baseline_fid=_inverse(baseline).to(self.lag.dtype),
            smooth=self.smooth[band.index],
            unstable=unstable,
            unstable_fid=_inverse(unstable).to(self.lag.dtype),
        )


def _inverse(spec: torch.Tensor) -> torch.Tensor:
    """FIDs of spectra, of none as well."""
    return torch.fft.ifft(spec, norm="ortho") if len(spec) else spec


@dataclass(frozen=True)
class _Band:
    """The part of the spectrum that a registration can touch: the window, and as far around it as shifts reach."""

    index: torch.Tensor  # (n_band,) places in the spectrum (FFT order) of neighbouring bins
    edge: torch.Tensor  # (n_band,) 1, and a fall to 0 at both ends: a sharp cut would ring through the short FIDs


def _make_window(
    n_points: int,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str,
    ppmlim: tuple[float, float] | None,
    taper_ppm: float,
    baseline_order: int | None,
    device: torch.device,
    real: torch.dtype,
    unstable: tuple[str, ...] = (),
) -> _Window:
    """Weights of the spectral points in ``ppmlim``, the orthonormal baseline polynomials on them, and what unstable
    lines consist of."""
    limits = None if ppmlim is None else (float(ppmlim[0]), float(ppmlim[1]))
    arrays = _window_arrays(
        n_points,
        float(dwelltime),
        float(spec_freq_mhz),
        nucleus,
        limits,
        float(taper_ppm),
        baseline_order,
        tuple(unstable),
    )
    cplx = torch.complex128 if real == torch.float64 else torch.complex64
    tensors = {
        name: torch.tensor(array, dtype=cplx if np.iscomplexobj(array) else real, device=device)
        for name, array in arrays.items()
    }
    return _Window(**tensors, held=torch.full((1, 1), len(tensors["filters"]) - 1, device=device))


@functools.lru_cache(maxsize=4)
def _window_arrays(
    n_points, dwelltime, spec_freq_mhz, nucleus, ppmlim, taper_ppm, baseline_order, unstable
) -> dict[str, np.ndarray]:
    """What :func:`_make_window` holds; kept, as finding out what unstable lines consist of takes longer than dozens of
    transients."""
    ppm = ppm_axis(n_points, dwelltime, spec_freq_mhz, nucleus)
    first, last = window_indices(ppm, ppmlim)
    n_baseline = 0 if baseline_order is None else baseline_order + 1
    if last - first < 8 + n_baseline:
        raise OptionError(
            f"The ppm window {ppmlim} holds {last - first} spectral points (axis {ppm[0]:.2f} to {ppm[-1]:.2f} ppm): "
            "give limits inside the axis, or wider ones."
        )
    weight = np.zeros(n_points)
    weight[first:last] = 1.0
    if taper_ppm > 0:
        inside = np.minimum(ppm[first:last] - ppm[first], ppm[last - 1] - ppm[first:last])
        weight[first:last] = 0.5 - 0.5 * np.cos(np.pi * np.clip((inside + 1e-9) / taper_ppm, 0, 1))
    powers = np.zeros((n_points, n_baseline))
    x = np.linspace(-1, 1, last - first)
    powers[first:last] = np.stack([x**m for m in range(n_baseline)], axis=1) if n_baseline else 0.0
    root = np.sqrt(weight)
    orthonormal, _ = np.linalg.qr(powers * root[:, None])
    baseline = np.fft.ifftshift((orthonormal * root[:, None]).T, axes=-1)
    smooth = np.zeros(n_points)
    smooth[first:last] = 1.0 if ppmlim is None else np.hanning(last - first + 2)[1:-1]
    weight, smooth = np.fft.ifftshift(weight), np.fft.ifftshift(smooth)
    lag = np.fft.fft(weight) / n_points
    baseline_fid = np.fft.ifft(baseline, axis=-1, norm="ortho")
    lines, covariance = _unstable_lines(unstable, n_points, dwelltime, spec_freq_mhz, nucleus, weight, baseline)
    strengths, filters, excess, entropy = _guesses(covariance)
    return {
        "weight": weight,
        "lag": lag,
        "baseline": baseline,
        "baseline_fid": baseline_fid,
        "smooth": smooth,
        "unstable": lines,
        "unstable_fid": np.fft.ifft(lines, axis=-1, norm="ortho"),
        "strengths": strengths,
        "filters": filters.astype(complex),
        "excess": excess.astype(complex),
        "entropy": entropy,
    }


_GUARD = 10  # bins either side of the search's range that its interpolation may use


_WORTHWHILE = 0.8  # of the spectrum: a wider band would save nothing


def _everything(window: _Window) -> _Band:
    return _Band(torch.arange(len(window.weight), device=window.weight.device), torch.ones_like(window.weight))


def _make_band(window: _Window, duration: float, max_shift_hz: float) -> _Band:
    """The window, and twice the largest shift around it: the range between two transients that lie at opposite ends of
    the search."""
    n_points = len(window.weight)
    counted = np.flatnonzero(np.fft.fftshift(window.smooth.cpu().numpy()))
    flat, fall = math.ceil(max_shift_hz * duration) + _GUARD, math.ceil(max_shift_hz * duration)
    n_band = _fast_length(counted[-1] + 1 - counted[0] + 2 * (flat + fall))
    if n_band > _WORTHWHILE * n_points:
        return _everything(window)
    inside = counted[0] + counted[-1] + 1 - n_band  # twice the first bin
    index = (inside // 2 + np.arange(n_band) - n_points // 2) % n_points
    depth = np.minimum(np.arange(n_band), np.arange(n_band)[::-1])
    edge = 0.5 - 0.5 * np.cos(np.pi * np.clip((depth + 0.5) / fall, 0, 1))
    return _Band(
        torch.as_tensor(index, device=window.weight.device),
        torch.as_tensor(edge, dtype=window.weight.dtype, device=window.weight.device),
    )


def _fast_length(n: int) -> int:
    """The least length from ``n`` on that has no prime factors but 2, 3 and 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def _window_spec(window: _Window, spec: torch.Tensor, taken: torch.Tensor | None = None) -> torch.Tensor:
    """The spectrum (FFT order) as the likelihood sees it: weighted, with the best baseline and what is unstable taken
    out.

    ``taken``, the window's unless given, broadcasts to ``spec`` with two axes of unstable vectors in place of points.
    """
    out = spec * window.weight
    for vector in window.baseline:
        out = out - vector * (spec * vector).sum(-1, keepdim=True)
    if len(window.unstable):
        if window.takes_out:
            taken = window.taken if taken is None else taken
            part = _unstable_part(window, spec)
            if spec.ndim == 3 or taken.ndim > 4:
                part = (part[..., None, :] @ taken)[..., 0, :]
            else:
                part = part @ taken
            out = out - part @ window.unstable
    return out


def _unstable_part(window: _Window, spec: torch.Tensor) -> torch.Tensor:
    """How much of each unstable vector is in the spectra, ``(..., n_unstable)``."""
    return spec @ window.unstable.conj().T


def _window_energy(window: _Window, spec: torch.Tensor) -> torch.Tensor:
    """Product of each spectrum with itself as the likelihood sees it; (n_sets, n_channels, n_transients, n_points) less
    the last."""
    energy = squared(spec) @ window.weight
    for vector in window.baseline:
        part = (spec * vector).sum(-1)
        energy = energy - squared(part)
    if window.takes_out:
        part = _unstable_part(window, spec)
        energy = energy - ((part @ window.taken) * part.conj()).sum(-1).real
    return energy
