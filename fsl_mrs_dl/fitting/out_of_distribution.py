"""Out-of-distribution score: about one at the end of the range of clean data, higher for spectra unlike these.

It has two sources.  One is the residual: its energy over the noise of the signal-free ends of the spectrum, and its
highest peak after smoothing to a line width.  The other is the estimates: concentrations, a width or a shift outside of
the prior, or, for a network, latent values far from those of clean data (Lee et al., arXiv 1807.03888).
"""

from __future__ import annotations

import numpy as np

from ..networks.out_of_distribution import CLEAN_PART
from .priors import Prior, moments

__all__ = ["residual_score", "latent_score", "distance_sd", "joint_score"]


def joint_score(*scores: np.ndarray) -> np.ndarray:
    """Return one score from several, ``(n,)``: about the largest, and more where several of them are high."""
    parts = np.stack([np.nan_to_num(np.asarray(score, float), nan=0.0, posinf=1e30) for score in scores])
    # The factor corrects for the sum: without it, of two parts, more than one in a hundred clean spectra exceed one.
    return (parts**4).sum(0) ** 0.25 / 1.03


_LINE_PPM = 0.02  # assumed width of a line that the model misses


def residual_score(
    residual, noise_sd, noise_outside_sd, *, ppm_per_point: float, n_outside: int, filled: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return the score of the residual of a fit, ``(n,)``.

    Parameters
    ----------
    residual : complex ``(n, n_window)``
        Spectra.
    noise_sd, noise_outside_sd : ``(n,)``
        From the residual, and from the signal-free ends of the spectrum.
    ppm_per_point : float
        Between neighbouring points.
    n_outside : int
        Points that the latter was estimated from.
    filled : ndarray ``(n,)``, optional
        Factors that spectra are filled with zeros by.
    """
    residual = np.asarray(residual)
    n_window = residual.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # A median's variance is 2.7 times that of a mean square, and second differences are correlated.
        spread = np.sqrt(filled * (1 / (2 * n_window) * 0.5 + 2.7 / (2 * n_outside)))
        energy = np.log(noise_sd / noise_outside_sd) / (2.6 * spread)
        half = max(1, int(round(_LINE_PPM / ppm_per_point)))
        kernel = np.exp(-0.5 * (np.arange(-2 * half, 2 * half + 1) / (0.6 * half)) ** 2)
        kernel /= np.linalg.norm(kernel)
        smooth = _convolved(residual, kernel)
        highest = np.abs(smooth).max(-1) / (noise_outside_sd * np.sqrt(filled))
    independent = max(2.0, n_window / half)
    # The highest of so many Rayleigh-distributed magnitudes stays below this in 99 % of all cases.
    limit = np.sqrt(2 * np.log(independent / (1 - CLEAN_PART))) * (1 + spread)
    return np.maximum(np.maximum(energy, highest / limit), 0)


def _convolved(rows: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    n = rows.shape[-1] + len(kernel) - 1
    both = np.fft.fft(rows, n, axis=-1) * np.fft.fft(kernel, n)
    start = len(kernel) // 2
    return np.fft.ifft(both, axis=-1)[..., start : start + rows.shape[-1]]


def latent_score(
    prior: Prior | None,
    conc,
    cov,
    *,
    fwhm_hz=None,
    fwhm_sd=None,
    shift_hz=None,
    shift_sd=None,
    widest_hz: float | None = None,
) -> np.ndarray:
    """Return the score of the estimates of a fit, ``(n,)``: their distance from the prior in SDs of both.

    Parameters
    ----------
    prior : Prior, optional
        In the unit of the concentrations; without one only widths count.
    conc, cov : ``(n, n_metabs)``, ``(n, n_metabs, n_metabs)``
        Estimates and their covariance by the data alone.
    fwhm_hz, fwhm_sd, shift_hz, shift_sd : ``(n,)``, optional
        Line width added to the basis set's, shift, and their SDs.
    widest_hz : float, optional
        Line width from which on spectra are not usable, where the prior has no range.
    """
    n = len(conc)
    scores = [np.zeros(n)]
    with np.errstate(divide="ignore", invalid="ignore"):
        if prior is not None and prior.informative.any():
            sd = np.sqrt(np.clip(np.diagonal(cov, axis1=1, axis2=2), 0, None))
            far = np.stack(
                [
                    distance_sd(kind, *numbers, value=conc[:, i], sd=sd[:, i])
                    for i, (kind, numbers) in enumerate(zip(prior.kinds, prior.numbers))
                ]
            )
            far = np.where(np.isfinite(far), far, 0)
            # The largest of several: Bonferroni's limit, about 4 for twenty of them.
            scores.append(far.max(0) / _normal_limit(int(prior.informative.sum())))
        ranges = prior.fwhm_hz if prior is not None else None
        if ranges is None and widest_hz is not None:
            ranges = (0.0, widest_hz)
        if fwhm_hz is not None and ranges is not None:
            scores.append(distance_sd("uniform", *ranges, value=fwhm_hz, sd=fwhm_sd) / _normal_limit(1))
        if shift_hz is not None and prior is not None and prior.shift_hz is not None:
            scores.append(distance_sd("uniform", *prior.shift_hz, value=shift_hz, sd=shift_sd) / _normal_limit(1))
    return np.nanmax(np.where(np.isfinite(scores), scores, np.nan), 0, initial=0.0)


def _normal_limit(n: int) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - (1 - CLEAN_PART) / (2 * n)))


def distance_sd(kind: str, a: float, b: float, *, value, sd):
    """Return how many SDs values ``(n,)`` with errors ``sd`` ``(n,)`` are from a prior's entry of this kind."""
    if kind == "uniform":
        return np.maximum(np.maximum(a - value, value - b), 0) / np.maximum(sd, 1e-12 * max(abs(b), 1e-300))
    if kind == "any":
        return np.zeros_like(value)
    if kind == "lognormal":
        mean, spread = moments(kind, a, b)
        linear = np.abs(value - mean) / np.hypot(sd, spread)
        # Well-determined values are compared by their ratio to the prior's median; the logarithm of noise is
        # meaningless.
        ratio = np.abs(np.log(np.maximum(value, 1e-300) / a)) / np.hypot(sd / np.maximum(value, 1e-300), b)
        return np.where(value > 3 * sd, ratio, linear)
    return np.abs(value - a) / np.hypot(sd, b)
