"""The likelihood of a shift, on a grid of shifts and around its maximum.

``C(shift)`` is the product of a transient with the shifted reference in the window, ``E(shift)`` that of the shifted
reference with itself; the likelihood is ``|C|^2 / E``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch

from ..core.parallel import batched_linalg
from ..core.transients import TWO_PI, squared
from .window import Window

__all__ = [
    "SERIES_DEGREES",
    "TAPS",
    "ShiftGrid",
    "block_length",
    "cross_on_grid",
    "energy_on_grid",
    "likelihood_on_grid",
    "maximise",
    "shifted_spectra",
    "taylor_taps",
]

TAPS = np.arange(-12, 13)
"""Neighbours on the grid that values between its points are interpolated from."""

SERIES_DEGREES = {torch.complex128: (22, 32), torch.complex64: (12, 18)}
"""Degrees of the power series of ``C`` and ``E``: remainders below 1e-9 and 1e-6 within a step."""

_BRACKET = 2.0  # steps of the grid that Newton's method may go from a point of it


@dataclass(frozen=True)
class ShiftGrid:
    """Shifts that are searched, two to a bin of the spectrum; values between are interpolated from neighbours.

    Attributes
    ----------
    half : int
        Steps from no shift to either end of the search.
    step : float
        Hz between neighbours.
    hz : tensor, shape (2 half + 1,)
        The shifts.
    """

    half: int
    step: float
    hz: torch.Tensor

    @classmethod
    def of(cls, max_shift_hz: float, duration: float, like: torch.Tensor) -> ShiftGrid:
        """Return the grid up to a shift for FIDs of a duration (s), in the precision and on the device of ``like``."""
        half = max(2, math.floor(2 * max_shift_hz * duration))
        step = 0.5 / duration
        return cls(half, step, torch.arange(-half, half + 1, dtype=like.dtype, device=like.device) * step)

    @property
    def beyond(self) -> int:
        """Steps that transients may leave the search's range by: without a search they move with their middle."""
        return self.half // 2

    @property
    def reach(self) -> int:
        """Bins either side of no shift that values are needed at."""
        return (self.half + self.beyond + 1) // 2 + len(TAPS) // 4 + 1

    @property
    def inside(self) -> slice:
        """Place of the search's range among the values at two steps to a bin within ``reach``."""
        return slice(2 * self.reach - self.half, 2 * self.reach + self.half + 1)


def block_length(n: int) -> int:
    """Return the length of the blocks that ``n`` points are cut into: about as many blocks as points in each."""
    return math.isqrt(n - 1) + 1


@functools.lru_cache(maxsize=8)
def taylor_taps(degree: int) -> np.ndarray:
    """Return the matrix ``(25, degree + 1)`` from neighbours on the grid to Taylor coefficients at its point.

    For functions sampled at twice the least rate.  An oscillation ``exp(-2j pi x u)`` with ``|x| <= 1/4`` has the
    coefficients ``(-2j pi x)^n / n!``: least squares over these ``x`` for the weights of the neighbours at ``u = -12
    ... 12``.
    """
    x = 0.25 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    order = np.arange(degree + 1)
    coefficients = (-2j * np.pi * x[:, None]) ** order / np.array([math.factorial(n) for n in order], dtype=float)
    waves = np.exp(-2j * np.pi * x[:, None] * TAPS)
    split = [np.concatenate([part.real, part.imag]) for part in (waves, coefficients)]
    right = torch.as_tensor(split[1])
    return batched_linalg(lambda waves: torch.linalg.lstsq(waves, right, rcond=1e-13, driver="gelsd")[:1], split[0])[0]


def shifted_spectra(fid: torch.Tensor, time: torch.Tensor, n_steps: int) -> torch.Tensor:
    """Return spectra of FIDs shifted by ``0, 1/n_steps ...`` of a bin, (..., n_steps, n_points); ``time`` is from 0 to
    1."""
    angle = TWO_PI * torch.arange(n_steps, device=fid.device)[:, None] / n_steps * time
    return torch.fft.fft(fid[..., None, :] * torch.polar(torch.ones_like(angle), angle).to(fid.dtype), norm="ortho")


def _bins_around(values: torch.Tensor, reach: int) -> torch.Tensor:
    """Return bins ``-reach ... reach`` of every step of a bin, in ascending order: (..., n_steps, n_band) -> (..., (2
    reach + 1) n_steps)."""
    index = torch.arange(-reach, reach + 1, device=values.device) % values.shape[-1]
    return values[..., index].transpose(-1, -2).flatten(-2)


def energy_on_grid(window: Window, spectra: torch.Tensor, reach: int) -> torch.Tensor:
    """Return ``E`` at the shifts within ``reach`` bins, (n_sets, n).

    ``spectra`` (n_sets, n_channels, n_steps, n_band) are those of the reference, from :func:`shifted_spectra`.
    """
    power = squared(spectra).sum(1)
    energy = torch.fft.ifft(torch.fft.fft(window.weight) * torch.fft.fft(power).conj()).real
    vectors, filters = [], []
    if len(window.baseline):
        eye = torch.eye(len(window.baseline), dtype=window.lag.dtype, device=power.device)
        vectors, filters = [window.baseline_fid], [eye.expand(*window.hypothesis.shape, -1, -1)]
    if window.removes_lines:
        vectors, filters = [*vectors, window.unstable_fid], [*filters, window.removed]
    energy = _bins_around(energy, reach)
    for fids, removed in zip(vectors, filters):
        turned = torch.fft.ifft(spectra, norm="ortho").conj().resolve_conj()
        for channel in range(spectra.shape[1]):
            # Coefficients of the vectors in the shifted reference; their conjugates, to be exact.
            parts = [_bins_around(torch.fft.fft(fid * turned[:, channel]), reach) for fid in fids]
            part = torch.stack(parts, -1)
            out = part.conj() @ removed[:, min(channel, removed.shape[1] - 1)]
            energy = energy - (out * part).sum(-1).real
    return energy


def cross_on_grid(
    windowed: torch.Tensor, own: torch.Tensor | None, template: torch.Tensor, half_bin: torch.Tensor, reach: int
) -> torch.Tensor:
    """Return ``C`` at the shifts within ``reach`` bins, two to a bin, (n_sets, n_transients, n).

    It is the Fourier sum of windowed transient times conjugate template, summed over channels.

    Parameters
    ----------
    windowed : tensor, shape (n_sets, n_channels, n_transients, n_band)
        FIDs of the transients in the window.
    own : tensor, shape (n_sets, n_transients, n_band), optional
        The transient's own contribution to the template, which is subtracted.
    template : tensor, shape (n_sets, n_channels, 2, n_band)
        Conjugate FIDs of the reference, half a bin apart.
    half_bin : tensor, shape (2, n_band)
        Factors that shift a FID by no and by half a bin.
    """
    product = windowed[:, 0, :, None] * template[:, 0, None]
    for channel in range(1, windowed.shape[1]):
        product += windowed[:, channel, :, None] * template[:, channel, None]
    if own is not None:
        product -= own[:, :, None] * half_bin
    return _bins_around(torch.fft.fft(product), reach)


def likelihood_on_grid(cross: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
    """Return ``|C|^2 / E`` at every shift of a grid, (n_sets, n_transients, n_grid)."""
    floor = energy.amax(-1, keepdim=True) * 1e-6 + torch.finfo(energy.dtype).tiny
    return squared(cross) / torch.maximum(energy, floor)[:, None]


def _series(coefficients: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return value, first and second derivative at ``u`` (...) of the power series with these coefficients (..., n)."""
    order = torch.arange(coefficients.shape[-1], device=u.device, dtype=u.dtype)
    powers = torch.where(order > 0, u[..., None], torch.ones_like(u[..., None])).cumprod(-1)
    value = (coefficients * powers).sum(-1)
    first = (coefficients[..., 1:] * (order[1:] * powers[..., :-1])).sum(-1)
    second = (coefficients[..., 2:] * (order[2:] * order[1:-1] * powers[..., :-2])).sum(-1)
    return value, first, second


def maximise(
    cross: torch.Tensor, energy: torch.Tensor, start: torch.Tensor, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximise ``log |C|^2 - log E`` by Newton's method inside a shrinking bracket around 0.

    Parameters
    ----------
    cross, energy : tensor, shape (n_sets, n_transients, n)
        Coefficients of the power series of ``C`` and ``E``.
    start : tensor, shape (n_sets, n_transients)
    tolerance : float
        Length of the last step.

    Returns
    -------
    place, value : tensor, shape (n_sets, n_transients)
        The maximum, and ``C`` there.
    """
    place, lower, upper = start.clone(), torch.full_like(start, -_BRACKET), torch.full_like(start, _BRACKET)
    tiny = torch.finfo(start.dtype).tiny
    for _ in range(30):
        c, c1, c2 = _series(cross, place)
        e, e1, e2 = _series(energy, place)
        power = squared(c).clamp_min(tiny)
        e = e.clamp_min(tiny)
        slope_c = 2 * (c.real * c1.real + c.imag * c1.imag) / power
        slope = slope_c - e1 / e
        turning = c1.real**2 + c1.imag**2 + c.real * c2.real + c.imag * c2.imag
        curvature = 2 * turning / power - slope_c**2 - e2 / e + (e1 / e) ** 2
        lower = torch.where(slope > 0, place, lower)
        upper = torch.where(slope > 0, upper, place)
        newton = -slope / torch.where(curvature < 0, curvature, -torch.ones_like(curvature))
        proposal = place + newton
        # A start that is the maximum already sits on an end of the bracket: it must not be bisected away.
        arrived = newton.abs() <= tolerance
        inside = (curvature < 0) & (arrived | ((proposal > lower) & (proposal < upper)))
        proposal = torch.where(inside, proposal, (lower + upper) / 2)
        step = proposal - place
        place = proposal
        if not bool((step.abs() > tolerance).any()):
            break
    return place, _series(cross, place)[0]
