"""Nuisance lines, such as residual water, that differ from transient to transient and are removed from the
comparison."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np
import torch

from ..core.axes import Axes
from ..core.parallel import batched_linalg

__all__ = ["NUISANCE_LINES", "Lines", "nuisance_subspace", "strength_hypotheses"]


class Lines(TypedDict):
    """Where lines of one kind lie and how wide they are."""

    ppm: tuple[float, float]
    step: float
    hz: NotRequired[tuple[float, ...]]
    in_ppm: NotRequired[tuple[float, ...]]


NUISANCE_LINES: dict[str, Lines] = {
    # Ranges in ppm, widths (full, at half maximum) in Hz or, where susceptibility makes them, in ppm.
    "water": {"ppm": (4.3, 5.1), "step": 0.04, "hz": (4.0, 8.0, 16.0, 32.0)},
    "lipids": {"ppm": (0.9, 1.6), "step": 0.05, "in_ppm": (0.08, 0.12, 0.2, 0.3)},
}
"""Where lines of each kind lie and how wide they are."""

_EXCLUDED_STEP_PPM, _EXCLUDED_HZ = 0.03, (2.0, 5.0, 12.0, 30.0)
_MISSED = 1e-3  # of a line's height that its subspace may miss, root mean square over the window


def nuisance_subspace(
    kinds: tuple[str, ...],
    axes: Axes,
    weight: np.ndarray,
    baseline: np.ndarray,
    exclude: tuple[tuple[float, float], ...] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return the subspace of the spectrum that lines of these kinds span.

    Parameters
    ----------
    kinds : tuple of str
        Keys of :data:`NUISANCE_LINES`.
    axes : Axes
    weight : ndarray, shape (n_points,)
        Weights of the spectral points, in FFT order.
    baseline : ndarray, shape (n_baseline, n_points)
        Weighted, orthonormal baseline vectors, in FFT order.
    exclude : tuple of (float, float)
        Ranges in ppm that do not count; lines in them, whose tails reach beyond, are one more kind.

    Returns
    -------
    spectra : ndarray, shape (k, n_points)
        Weighted, orthonormal spectra.
    covariance : ndarray, shape (n_kinds, k, k)
        Covariance of the coefficients of each kind.
    """
    root = np.sqrt(weight)
    counted = np.flatnonzero(weight > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        smooth = np.nan_to_num(np.where(weight > 0, baseline / root, 0.0))[:, counted]
    families = []
    line_fids = [_line_fids(axes, **NUISANCE_LINES[kind]) for kind in kinds]
    if exclude:
        parts = [_line_fids(axes, ppm=ppm, step=_EXCLUDED_STEP_PPM, hz=_EXCLUDED_HZ) for ppm in exclude]
        line_fids.append(np.concatenate(parts))
    for fids in line_fids:
        spec = (np.fft.fft(fids, axis=-1) * root)[:, counted]
        # The part that a baseline explains is removed with it.
        families.append(spec - (spec @ smooth.T) @ smooth)
    if not families:
        return np.zeros((0, axes.n_points), complex), np.zeros((0, 0, 0), complex)
    weights, size, vectors = batched_linalg(torch.linalg.svd, np.concatenate(families), full_matrices=False)
    missed = np.cumsum((np.abs(weights * size) ** 2)[:, ::-1], axis=1)[:, ::-1].max(0) / len(counted)
    k = int((missed > _MISSED**2).sum())
    spectra = np.zeros((k, axes.n_points), complex)
    spectra[:, counted] = vectors[:k]
    parts = [family @ vectors[:k].conj().T for family in families]
    return spectra * root, np.array([part.T @ part.conj() / len(part) for part in parts])


def _line_fids(axes: Axes, *, ppm: tuple[float, float], step: float, hz=(), in_ppm=()) -> np.ndarray:
    """Return FIDs of unit height at every place and of every width of a kind, ``(n, n_points)``.

    Widths that susceptibility makes (``in_ppm``) have Gaussian lines as well.
    """
    t = np.arange(axes.n_points) * axes.dwelltime
    turn = np.exp(2j * np.pi * axes.ppm_to_hz(np.arange(ppm[0], ppm[1] + 1e-9, step))[:, None] * t)
    fids = []
    for width in np.array([*hz, *(w * axes.spec_freq_mhz for w in in_ppm)]):
        lorentz = np.exp(-np.pi * width * t)
        fids.append(turn * lorentz / lorentz.sum())
        if in_ppm:
            gauss = np.exp(-((np.pi * width * t) ** 2) / (4 * np.log(2)))
            fids.append(turn * gauss / gauss.sum())
    return np.concatenate(fids)


def strength_hypotheses(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return hypotheses on how strong the lines of each kind are.

    Parameters
    ----------
    covariance : ndarray, shape (n_kinds, k, k)
        As :func:`nuisance_subspace` returns it.

    Returns
    -------
    strengths : ndarray, shape (n, n_kinds)
        Variances of the lines over that of the noise; none first, strongest last.
    filters, excess : ndarray, shape (n, k, k)
        The part of the coefficients that each hypothesis removes, and the covariance that it adds to white noise.
    entropy : ndarray, shape (n,)
        Log determinants of the covariances.
    """
    n_kinds, k = covariance.shape[:2]
    if not k:
        return np.zeros((1, n_kinds)), np.zeros((1, 0, 0)), np.zeros((1, 0, 0)), np.zeros(1)
    # Of three kinds or more so many combinations would take too long.
    steps = np.concatenate([[0.0], np.logspace(-1, 12, 14 if n_kinds < 3 else 8)])
    strengths = np.stack([one.ravel() for one in np.meshgrid(*[steps] * n_kinds, indexing="ij")], -1)
    total = np.eye(k) + np.einsum("gb,bij->gij", strengths, covariance)
    # Rows of coefficients are multiplied from the left, which takes the transpose.
    values, vectors = batched_linalg(torch.linalg.eigh, total)
    values = np.maximum(values, 1.0)
    share, back = 1 - 1 / values, vectors.swapaxes(-1, -2)
    filters = (vectors.conj() * share[:, None]) @ back
    excess = (vectors.conj() * (share * np.minimum(values, 1e9))[:, None]) @ back
    return strengths, filters, excess, np.log(values).sum(-1)
