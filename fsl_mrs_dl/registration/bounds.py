"""Cramer-Rao bounds of shift and phase."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from .window import Window, make_window

__all__ = ["cramer_rao", "shift_phase_sd", "spectral_derivatives"]


def spectral_derivatives(reference: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Return how the spectrum changes with shift, phase and amplitude, (n_sets, 3, n_channels, n_points); ``time`` in
    seconds."""
    spec = torch.fft.fft(reference, norm="ortho")
    slope = torch.fft.fft(2j * math.pi * time * reference, norm="ortho")
    return torch.stack([slope, 1j * spec, spec], 1)


def shift_phase_sd(window: Window, derivatives: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the SDs of shift (Hz) and phase (rad) for unit noise and unit amplitude, each (n_sets,).

    ``derivatives`` are those of :func:`spectral_derivatives`.  The sandwich form covers tapered windows, whose weights
    are not the inverse noise variance.  Nuisance lines count as noise.
    """
    removed = window.removed[:, None]
    projected = window.apply(derivatives, removed)
    bread = torch.einsum("saxn,sbxn->sab", derivatives.conj(), projected).real
    # Noise passes the window once more than the signal: weight squared.
    meat = torch.einsum("saxn,sbxn->sab", projected.conj(), projected).real
    if len(window.unstable):
        part = window.nuisance_part(projected)
        excess = window.excess[window.hypothesis][:, None]
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
    noise_sd: float | Sequence[float],
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    taper_ppm: float = 0.0,
    baseline_order: int | None = None,
    unstable: tuple[str, ...] = (),
) -> tuple[float, float]:
    """Return the Cramer-Rao bound of one transient's shift and phase, amplitude unknown, reference noise-free.

    Parameters
    ----------
    reference : complex array, shape (n_points,) or (n_channels, n_points)
        The noise-free transient in each channel.
    noise_sd : float or array, shape (n_channels,)
        Noise SD of the real and of the imaginary part of every FID point.
    axes : Axes
        Of the reference, whose number of points counts.
    ppmlim, taper_ppm, baseline_order
        As in :func:`fsl_mrs_dl.registration.alignment.align_transients`.
    unstable : tuple of {'water', 'lipids'}
        Nuisance lines of any strength.

    Returns
    -------
    shift_sd_hz, phase_sd_deg : float

    Raises
    ------
    OptionError
        If the noise is not positive or the window holds too few points.
    """
    reference = torch.as_tensor(np.asarray(reference), dtype=torch.complex128)
    reference = reference.reshape(-1, reference.shape[-1])
    axes = axes.with_points(reference.shape[-1])
    sd = torch.as_tensor(np.broadcast_to(np.asarray(noise_sd, dtype=float), reference.shape[:1]).copy())
    if not bool((sd > 0).all()):
        raise OptionError(
            "is no noise SD", option="noise_sd", value=noise_sd, remedy="give a positive value for every channel"
        )
    window = make_window(axes, ppmlim=ppmlim, taper_ppm=taper_ppm, baseline_order=baseline_order, unstable=unstable)
    time = torch.arange(reference.shape[-1], dtype=sd.dtype) * axes.dwelltime
    shift, phase = shift_phase_sd(window, spectral_derivatives((reference / sd[:, None])[None], time))
    return float(shift[0]), float(torch.rad2deg(phase[0]))
