"""What can be said of an FID without a model: whether it is usable, its noise, its combination from coils, a shift and
a phase applied to it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from . import units

__all__ = ["quiet_points", "noise_outside", "normalised", "apply_shift_phase"]


def _usable(rows: np.ndarray) -> np.ndarray:
    """Which FIDs ``(n, n_points)`` can be fitted: those that are finite and not all zero."""
    return np.isfinite(rows).all(-1) & (rows != 0).any(-1)


def quiet_points(n_points: int, dwelltime: float, spec_freq_mhz: float, nucleus: str = "1H") -> np.ndarray:
    """Which points of a spectrum hold noise only, bool ``(n_points,)``.

    Filtered edges of oversampled data would read low, so the outer eighth of the bandwidth on either side is left out
    where enough remains.
    """
    ppm = units.ppm_axis(n_points, dwelltime, spec_freq_mhz, nucleus)
    low, high = units.nucleus(nucleus).signal_free or (ppm[n_points // 8], ppm[-n_points // 8])
    quiet = (ppm < low) | (ppm > high)
    inner = quiet.copy()
    inner[: n_points // 8] = inner[-n_points // 8 :] = False
    quiet = inner if inner.sum() >= 256 else quiet
    if quiet.sum() < 64:
        quiet = np.zeros(n_points, bool)
        quiet[:50] = quiet[-50:] = True
    return quiet


def noise_outside(spec: np.ndarray, dwelltime: float, spec_freq_mhz: float, nucleus: str = "1H") -> np.ndarray:
    """Noise SD per real channel from the signal-free ends of whole spectra, ``(..., n_points)`` -> ``(...,)``.

    Second differences remove the tails of strong lines.
    """
    quiet = quiet_points(spec.shape[-1], dwelltime, spec_freq_mhz, nucleus)
    difference = np.diff(spec, n=2, axis=-1)
    use = quiet[:-2] & quiet[1:-1] & quiet[2:]
    values = difference[..., use]
    values = np.concatenate([values.real, values.imag], axis=-1)
    # 6 = 1 + 4 + 1, the variance of a second difference of white noise; 1.4826 turns a median deviation into an SD.
    return 1.4826 * np.median(np.abs(values), axis=-1) / np.sqrt(6)


def normalised(fid: torch.Tensor, n_points: int) -> torch.Tensor:
    """FIDs over their largest magnitude, cut to ``n_points``, zeros appended where they are shorter (Eq. 1 of the
    paper)."""
    fid = fid / fid.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    return nn.functional.pad(fid, (0, max(0, n_points - fid.shape[-1])))[..., :n_points].to(torch.complex64)


def combination(fid: torch.Tensor) -> torch.Tensor:
    """Weights that add up channels ``(n_channels, n_transients, n_points)`` to most signal, complex
    ``(n_channels,)``."""
    if fid.shape[0] == 1:
        return torch.ones(1, dtype=fid.dtype, device=fid.device)
    flat = fid[..., : min(256, fid.shape[-1])].flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    return vectors[:, -1].conj()


_TWO_PI = 2 * math.pi


def _squared(x: torch.Tensor) -> torch.Tensor:
    """``|x|^2``, without the square root that the absolute value would take first."""
    return x.real**2 + x.imag**2


def _rotation(turns: torch.Tensor, cplx: torch.dtype) -> torch.Tensor:
    """``exp(2j pi turns)`` in another precision; whole turns are dropped in that of ``turns``."""
    turns = (_TWO_PI * (turns - turns.round())).to(torch.float32 if cplx == torch.complex64 else torch.float64)
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
    ndarray or tensor like ``fid``; FIDs whose shift and phase are both 0 come back bit for bit.
    """
    if isinstance(fid, torch.Tensor):
        real = torch.float64
        shift = torch.as_tensor(shift_hz, dtype=real, device=fid.device)[..., None]
        phase = torch.deg2rad(torch.as_tensor(phase_deg, dtype=real, device=fid.device))[..., None]
        t = torch.arange(fid.shape[-1], dtype=real, device=fid.device) * dwelltime
        angle = -(_TWO_PI * shift * t + phase)
        out = fid * torch.polar(torch.ones_like(angle), angle).to(fid.dtype)
        return torch.where((shift == 0) & (phase == 0), fid, out)
    fid = np.asarray(fid)
    shift = np.asarray(shift_hz, dtype=float)[..., None]
    phase = np.deg2rad(np.asarray(phase_deg, dtype=float))[..., None]
    t = np.arange(fid.shape[-1]) * dwelltime
    out = (fid * np.exp(-1j * (_TWO_PI * shift * t + phase))).astype(np.result_type(fid.dtype, np.complex64))
    return np.where((shift == 0) & (phase == 0), fid, out)


def _noise_sd(spec: torch.Tensor) -> torch.Tensor:
    """Noise SD per real and imaginary part, (...), from the median second difference of the spectrum.

    Peaks occupy few points and baselines are smooth, so neither reaches the median of the second differences.
    """
    second = spec[..., 2:] - 2 * spec[..., 1:-1] + spec[..., :-2]
    return _squared(second).median(-1).values.sqrt() / (math.sqrt(6) * math.sqrt(2 * math.log(2)))
