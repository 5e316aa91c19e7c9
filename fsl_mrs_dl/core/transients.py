"""Transients as tensors, without a model: a shift and a phase applied, noise, coils combined."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

__all__ = ["TWO_PI", "squared", "rotation", "apply_shift_phase", "transient_noise_sd", "normalised", "combination"]

TWO_PI = 2 * math.pi


def squared(x: torch.Tensor) -> torch.Tensor:
    """Return ``|x|^2`` without the square root of the absolute value."""
    return x.real**2 + x.imag**2


def rotation(turns: torch.Tensor, cplx: torch.dtype) -> torch.Tensor:
    """Return ``exp(2j pi turns)`` in another precision; whole turns are dropped in that of ``turns``."""
    turns = (TWO_PI * (turns - turns.round())).to(torch.float32 if cplx == torch.complex64 else torch.float64)
    return torch.polar(torch.ones_like(turns), turns)


def apply_shift_phase(fid, shift_hz, phase_deg, dwelltime: float):
    """Remove shifts and phases: ``fid * exp(-1j * (2 pi shift_hz t + phase))`` with ``t = 0`` at the first point.

    Parameters
    ----------
    fid : ndarray or tensor, complex, shape (..., n_points)
    shift_hz, phase_deg : array, broadcastable to shape (...)
    dwelltime : float
        Seconds.

    Returns
    -------
    ndarray or tensor like ``fid``; FIDs whose shift and phase are both 0 are returned bit for bit.
    """
    if isinstance(fid, torch.Tensor):
        real = torch.float64
        shifts = torch.as_tensor(shift_hz, dtype=real, device=fid.device)[..., None]
        phases = torch.deg2rad(torch.as_tensor(phase_deg, dtype=real, device=fid.device))[..., None]
        times = torch.arange(fid.shape[-1], dtype=real, device=fid.device) * dwelltime
        angle = -(TWO_PI * shifts * times + phases)
        turned = fid * torch.polar(torch.ones_like(angle), angle).to(fid.dtype)
        return torch.where((shifts == 0) & (phases == 0), fid, turned)
    fid = np.asarray(fid)
    shift = np.asarray(shift_hz, dtype=float)[..., None]
    phase = np.deg2rad(np.asarray(phase_deg, dtype=float))[..., None]
    t = np.arange(fid.shape[-1]) * dwelltime
    out = (fid * np.exp(-1j * (TWO_PI * shift * t + phase))).astype(np.result_type(fid.dtype, np.complex64))
    return np.where((shift == 0) & (phase == 0), fid, out)


def transient_noise_sd(spec: torch.Tensor) -> torch.Tensor:
    """Return the noise SD per real and imaginary part, ``(...)``, from the median second difference of spectra.

    Peaks occupy few points and baselines are smooth, so neither reaches the median of the second differences.
    """
    second = spec[..., 2:] - 2 * spec[..., 1:-1] + spec[..., :-2]
    return squared(second).median(-1).values.sqrt() / (math.sqrt(6) * math.sqrt(2 * math.log(2)))


def normalised(fid: torch.Tensor, n_points: int) -> torch.Tensor:
    """Divide FIDs ``(..., n)`` by their largest magnitude, and cut or zero-fill them to ``n_points``."""
    fid = fid / fid.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    return nn.functional.pad(fid, (0, max(0, n_points - fid.shape[-1])))[..., :n_points].to(torch.complex64)


def combination(fid: torch.Tensor) -> torch.Tensor:
    """Return the weights that add up channels ``(n_channels, n_transients, n_points)`` to most signal, complex
    ``(n_channels,)``."""
    if fid.shape[0] == 1:
        return torch.ones(1, dtype=fid.dtype, device=fid.device)
    flat = fid[..., : min(256, fid.shape[-1])].flatten(1)
    # Squares of large values would be infinite.
    flat = torch.nan_to_num(flat / flat.abs().max().clamp(min=1e-30))
    _, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    return vectors[:, -1].conj()
