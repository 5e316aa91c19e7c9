"""Lines that do not belong to the metabolites, such as residual water, taken out of what is compared."""

from __future__ import annotations

import numpy as np
import torch

from ..core.parallel import batched_linalg
from ..core.units import ppm_to_hz

_UNSTABLE = {
    # Ranges in ppm, widths (full, at half maximum) in Hz or, where susceptibility makes them, in ppm.
    "water": {"ppm": (4.3, 5.1), "step": 0.04, "hz": (4.0, 8.0, 16.0, 32.0)},
    "lipids": {"ppm": (0.9, 1.6), "step": 0.05, "in_ppm": (0.08, 0.12, 0.2, 0.3)},
}


_UNSTABLE_LEFT = 1e-3  # of a line's height that its subspace may miss, root mean square over the window


def _unstable_lines(
    kinds, n_points, dwelltime, spec_freq_mhz, nucleus, weight, baseline
) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal spectra ``(k, n_points)`` that lines of these kinds consist of, and each kind's covariance
    ``(n_kinds, k, k)`` in them."""
    t = np.arange(n_points) * dwelltime
    root = np.sqrt(weight)
    counted = np.flatnonzero(weight > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        smooth = np.nan_to_num(np.where(weight > 0, baseline / root, 0.0))[:, counted]
    families = []
    for kind in kinds:
        lines = _UNSTABLE[kind]
        ppm = np.arange(lines["ppm"][0], lines["ppm"][1] + 1e-9, lines["step"])
        turn = np.exp(2j * np.pi * ppm_to_hz(ppm, spec_freq_mhz, nucleus)[:, None] * t)
        fids = []
        for width in np.array([*lines.get("hz", ()), *(w * spec_freq_mhz for w in lines.get("in_ppm", ()))]):
            lorentz = np.exp(-np.pi * width * t)
            fids.append(turn * lorentz / lorentz.sum())
            if kind != "water":
                gauss = np.exp(-((np.pi * width * t) ** 2) / (4 * np.log(2)))
                fids.append(turn * gauss / gauss.sum())
        spec = (np.fft.fft(np.concatenate(fids), axis=-1) * root)[:, counted]
        # What a baseline takes out nothing else need take out.
        families.append(spec - (spec @ smooth.T) @ smooth)
    if not families:
        return np.zeros((0, n_points), complex), np.zeros((0, 0, 0), complex)
    left, size, vectors = batched_linalg(torch.linalg.svd, np.concatenate(families), full_matrices=False)
    missed = np.cumsum((np.abs(left * size) ** 2)[:, ::-1], axis=1)[:, ::-1].max(0) / len(counted)
    k = int((missed > _UNSTABLE_LEFT**2).sum())
    found = np.zeros((k, n_points), complex)
    found[:, counted] = vectors[:k]
    parts = [family @ vectors[:k].conj().T for family in families]
    return found * root, np.array([part.T @ part.conj() / len(part) for part in parts])


def _guesses(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Strengths ``(n, n_kinds)`` of lines whose covariances these are, what each takes out, their covariance (both
    ``(n, k, k)``), and log determinants ``(n,)``."""
    n_kinds, k = covariance.shape[:2]
    if not k:
        return np.zeros((1, n_kinds)), np.zeros((1, 0, 0)), np.zeros((1, 0, 0)), np.zeros(1)
    steps = np.concatenate([[0.0], np.logspace(-1, 12, 14)])
    strengths = np.stack([one.ravel() for one in np.meshgrid(*[steps] * n_kinds, indexing="ij")], -1)
    total = np.eye(k) + np.einsum("gb,bij->gij", strengths, covariance)
    # Rows of coefficients are multiplied from the left, so that the transpose is what is needed.
    values, vectors = batched_linalg(torch.linalg.eigh, total)
    values = np.maximum(values, 1.0)
    share, back = 1 - 1 / values, vectors.swapaxes(-1, -2)
    filters = (vectors.conj() * share[:, None]) @ back
    excess = (vectors.conj() * (share * np.minimum(values, 1e9))[:, None]) @ back
    return strengths, filters, excess, np.log(values).sum(-1)
