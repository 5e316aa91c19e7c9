"""Cramer-Rao bounds of shift and phase."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ..core.errors import OptionError
from .window import _make_window, _unstable_part, _Window, _window_spec

__all__ = ["cramer_rao"]


def _decay_gain(power: torch.Tensor, floor: torch.Tensor, end: float = 1.0) -> Callable[[torch.Tensor], torch.Tensor]:
    """Wiener gain at any times (0 to 1), from the model ``power(t) = a exp(-2 t / tau) + b`` with ``b >= floor``.

    ``power``: (n_sets, n_points) from 0 to ``end``, ``floor``: (n_sets,).  Means over blocks are gamma distributed:
    weighted least squares for ``a`` and ``b``, reweighted twice, and the decay of a fixed list that has the highest
    likelihood.
    """
    n_points = power.shape[-1]
    n_blocks = min(64, n_points // 4)
    length = n_points // n_blocks
    level = power[..., : n_blocks * length].reshape(-1, n_blocks, length).mean(-1)[:, None]  # (n_sets, 1, n_blocks)
    tiny = torch.finfo(power.dtype).tiny
    tau = torch.logspace(-2.3, 0.7, 25, device=power.device, dtype=power.dtype)
    t = (torch.arange(n_points, device=power.device, dtype=power.dtype) + 0.5) * (end / n_points)
    decay = torch.exp(-2 * t / tau[:, None])  # (n_tau, n_points)
    block = decay[:, : n_blocks * length].reshape(-1, n_blocks, length).mean(-1)[None]
    least = floor[:, None, None].clamp_min(tiny)
    model = level.mean(-1, keepdim=True).clamp_min(tiny).expand(level.shape[0], len(tau), n_blocks)
    for _ in range(4):
        weight = (model.amin(-1, keepdim=True) / model) ** 2
        w0, w1, w2 = weight.sum(-1), (weight * block).sum(-1), (weight * block**2).sum(-1)
        y0, y1 = (weight * level).sum(-1), (weight * block * level).sum(-1)
        b = (w2 * y0 - w1 * y1) / (w0 * w2 - w1**2).clamp_min(tiny)
        b = torch.maximum(b[..., None], least)
        a = ((y1 - b[..., 0] * w1) / w2.clamp_min(tiny)).clamp_min(0)[..., None]
        model = (a * block + b).clamp_min(tiny)
    best = (torch.log(model) + level / model).sum(-1).argmin(-1)
    row = torch.arange(len(best), device=best.device)
    a, b, tau = a[row, best], b[row, best], tau[best][:, None]

    def gain(time: torch.Tensor) -> torch.Tensor:
        # What a band's FID has before its first point is found at its end, where hardly anything but noise is.
        signal = a * torch.exp(-2 * time.remainder(1.0) / tau)
        return signal / (signal + b).clamp_min(tiny)

    return gain


def _changes(reference: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """How the spectrum changes with shift, phase and amplitude, (n_sets, 3, n_channels, n_points); ``time`` in
    seconds."""
    spec = torch.fft.fft(reference, norm="ortho")
    slope = torch.fft.fft(2j * math.pi * time * reference, norm="ortho")
    return torch.stack([slope, 1j * spec, spec], 1)


def _unit_sd(window: _Window, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SD of shift (Hz) and phase (rad) for unit noise and unit amplitude from what :func:`_changes` gives, each
    (n_sets,).

    The sandwich form covers tapered windows, whose weights are not the inverse noise variance.  What is unstable counts
    as noise.
    """
    taken = window.taken[:, None]
    projected = _window_spec(window, columns, taken)
    bread = torch.einsum("saxn,sbxn->sab", columns.conj(), projected).real
    # Noise passes the window once more than the signal: weight squared.
    meat = torch.einsum("saxn,sbxn->sab", projected.conj(), projected).real
    if len(window.unstable):
        part = _unstable_part(window, projected)
        excess = window.excess[window.held][:, None]
        meat = meat + torch.einsum("saxk,sbxk->sab", part.conj(), (part[..., None, :] @ excess)[..., 0, :]).real
    scale = bread.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(bread.dtype).tiny).rsqrt()
    bread = bread * scale[:, :, None] * scale[:, None, :]
    meat = meat * scale[:, :, None] * scale[:, None, :]
    eye = torch.eye(3, device=bread.device, dtype=bread.dtype)
    inverse = torch.linalg.pinv(bread + 1e-14 * eye, hermitian=True)
    variance = (inverse @ meat @ inverse).diagonal(dim1=-2, dim2=-1) * scale**2
    return variance[:, 0].sqrt(), variance[:, 1].sqrt()


def cramer_rao(
    reference,
    noise_sd,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    taper_ppm: float = 0.0,
    baseline_order: int | None = None,
    unstable: tuple[str, ...] = (),
) -> tuple[float, float]:
    """Cramer-Rao bound of one transient's shift and phase, amplitude unknown, reference noise-free.

    Parameters
    ----------
    reference : complex array, shape (n_points,) or (n_channels, n_points)
        The noise-free transient, seen by each channel.
    noise_sd : float or array, shape (n_channels,)
        Noise SD of the real and of the imaginary part of every FID point.
    dwelltime, spec_freq_mhz : float
        Seconds, MHz.
    ppmlim, taper_ppm, baseline_order
        As in :func:`align_transients`.
    unstable : tuple of {'water', 'lipids'}
        Lines whose strength is unknown, too, however strong they are.

    Returns
    -------
    shift_sd_hz, phase_sd_deg : float
    """
    reference = torch.as_tensor(np.asarray(reference), dtype=torch.complex128)
    reference = reference.reshape(-1, reference.shape[-1])
    sd = torch.as_tensor(np.broadcast_to(np.asarray(noise_sd, dtype=float), reference.shape[:1]).copy())
    if not bool((sd > 0).all()):
        raise OptionError(f"The noise SD is {noise_sd}: give a positive value for every channel.")
    window = _make_window(
        reference.shape[-1],
        dwelltime,
        spec_freq_mhz,
        nucleus,
        ppmlim,
        taper_ppm,
        baseline_order,
        reference.device,
        torch.float64,
        unstable,
    )
    time = torch.arange(reference.shape[-1], dtype=sd.dtype) * dwelltime
    shift, phase = _unit_sd(window, _changes((reference / sd[:, None])[None], time))
    return float(shift[0]), float(torch.rad2deg(phase[0]))
