"""The likelihood of a shift and a phase, on a grid of shifts and around its maximum."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from ..core.parallel import batched_linalg
from ..core.transients import TWO_PI, squared
from .window import _Window


def _block_length(n: int) -> int:
    """Length of the blocks that ``n`` points are cut into: about as many blocks as points in each."""
    return math.isqrt(n - 1) + 1


_TAPS = np.arange(-12, 13)  # neighbours on the grid that tell what is between


_BRACKET = 2.0  # steps of the grid that Newton's method may go from a point of it


# Degrees of the power series of C and E: remainders below 1e-9 and 1e-6 within a step.
_DEGREES = {torch.complex128: (22, 32), torch.complex64: (12, 18)}


@functools.lru_cache(maxsize=8)
def _taylor_taps(degree: int) -> np.ndarray:
    """Taylor coefficients (25, degree + 1) at a sample, from its neighbours, of what is sampled at twice the least
    rate.

    What oscillates as ``exp(-2j pi x u)`` with ``|x| <= 1/4`` has the coefficients ``(-2j pi x)^n / n!``: least squares
    over these ``x`` for the weights of the neighbours at ``u = -12 ... 12``.
    """
    x = 0.25 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    order = np.arange(degree + 1)
    wanted = (-2j * np.pi * x[:, None]) ** order / np.array([math.factorial(n) for n in order], dtype=float)
    waves = np.exp(-2j * np.pi * x[:, None] * _TAPS)
    split = [np.concatenate([part.real, part.imag]) for part in (waves, wanted)]
    right = torch.as_tensor(split[1])
    return batched_linalg(lambda waves: torch.linalg.lstsq(waves, right, rcond=1e-13, driver="gelsd")[:1], split[0])[0]


def _shifted_spectra(fid: torch.Tensor, time: torch.Tensor, n_steps: int) -> torch.Tensor:
    """Spectra of FIDs shifted by ``0, 1/n_steps ...`` of a bin, (..., n_steps, n_points); ``time`` is from 0 to 1."""
    angle = TWO_PI * torch.arange(n_steps, device=fid.device)[:, None] / n_steps * time
    return torch.fft.fft(fid[..., None, :] * torch.polar(torch.ones_like(angle), angle).to(fid.dtype), norm="ortho")


def _around(values: torch.Tensor, reach: int) -> torch.Tensor:
    """Bins ``-reach ... reach`` of every step of a bin, in ascending order: (..., n_steps, n_band) -> (..., (2 reach +
    1) n_steps)."""
    index = torch.arange(-reach, reach + 1, device=values.device) % values.shape[-1]
    return values[..., index].transpose(-1, -2).flatten(-2)


def _energy_on_grid(window: _Window, spectra: torch.Tensor, reach: int) -> torch.Tensor:
    """``E`` at the shifts of :func:`_around`, (n_sets, n); ``spectra`` (n_sets, n_channels, n_steps, n_band) of the
    reference."""
    power = squared(spectra).sum(1)
    found = torch.fft.ifft(torch.fft.fft(window.weight) * torch.fft.fft(power).conj()).real
    vectors, filters = [], []
    if len(window.baseline):
        eye = torch.eye(len(window.baseline), dtype=window.lag.dtype, device=power.device)
        vectors, filters = [window.baseline_fid], [eye.expand(*window.held.shape, -1, -1)]
    if window.takes_out:
        vectors, filters = [*vectors, window.unstable_fid], [*filters, window.taken]
    found = _around(found, reach)
    for fids, taken in zip(vectors, filters):
        turned = torch.fft.ifft(spectra, norm="ortho").conj().resolve_conj()
        for channel in range(spectra.shape[1]):
            # The parts of the shifted reference that the vectors can explain; their conjugates, to be exact.
            part = [_around(torch.fft.fft(fid * turned[:, channel]), reach) for fid in fids]
            part = torch.stack(part, -1)
            out = part.conj() @ taken[:, min(channel, taken.shape[1] - 1)]
            found = found - (out * part).sum(-1).real
    return found


def _likelihood(cross: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
    """``|C|^2 / E`` at every shift of a grid, (n_sets, n_transients, n_grid)."""
    floor = energy.amax(-1, keepdim=True) * 1e-6 + torch.finfo(energy.dtype).tiny
    return squared(cross) / torch.maximum(energy, floor)[:, None]


def _series(coefficients: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value, first and second derivative at ``u`` (...) of the power series with these coefficients (..., n)."""
    order = torch.arange(coefficients.shape[-1], device=u.device, dtype=u.dtype)
    powers = torch.where(order > 0, u[..., None], torch.ones_like(u[..., None])).cumprod(-1)
    value = (coefficients * powers).sum(-1)
    first = (coefficients[..., 1:] * (order[1:] * powers[..., :-1])).sum(-1)
    second = (coefficients[..., 2:] * (order[2:] * order[1:-1] * powers[..., :-2])).sum(-1)
    return value, first, second


def _maximise(cross, energy, start, tolerance: float):
    """Newton's method on ``log |C|^2 - log E``, kept inside a shrinking bracket around 0; returns the place and ``C``
    there.

    ``cross`` and ``energy`` are power series (n_sets, n_transients, n), ``start`` (n_sets, n_transients) is where to
    begin.
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
