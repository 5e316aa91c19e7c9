"""A smooth baseline as a Gaussian process that is integrated out; one eigenbasis serves every strength.

Covariance of the baseline in the window: the square of its strength times a sum of squared exponentials (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006, chapter 4.2).  A constant and the tail of a line outside of the
window (water) have no prior at all and are projected out first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["SmoothBaseline", "make_smooth_baseline"]


@dataclass(frozen=True)
class SmoothBaseline:
    """Eigenbasis of a smooth baseline.

    Attributes
    ----------
    free : complex ndarray ``(n_window, n_free)``
        Orthonormal; projected out wholly.
    vectors : complex ndarray ``(n_window, rank)``
        Orthonormal and orthogonal to ``free``.
    values : ndarray ``(rank,)``
        Variance of each real channel at a strength of one.
    """

    free: np.ndarray
    vectors: np.ndarray
    values: np.ndarray

    def shares(self, strength) -> np.ndarray:
        """Return the share of each eigenvector that goes to the baseline, ``(..., rank)``, at strengths ``(...)`` in
        units of the noise."""
        size = np.asarray(strength)[..., None] ** 2 * self.values
        return size / (1 + size)

    def dimension(self, strength) -> np.ndarray:
        """Return the effective dimension of the baseline in one real channel, ``(...)``."""
        return self.shares(strength).sum(-1) + self.free.shape[1]


def make_smooth_baseline(
    ppm: np.ndarray,
    lengths: tuple[tuple[float, float], ...] = ((0.35, 0.5), (1.2, 0.5)),
    tails: tuple[float, ...] = (4.65,),
    tail_width_ppm: float = 0.06,
    keep: float = 1e-7,
) -> SmoothBaseline:
    """Make the eigenbasis for points at ``ppm`` ``(n_window,)``.

    Parameters
    ----------
    lengths : pairs of (length in ppm, share of the variance)
    tails : tuple of float
        Places (ppm) of lines outside of the window whose Lorentzian tails are projected out.
    tail_width_ppm : float
        Half width of these lines at half maximum.
    keep : float
        Smallest eigenvalue that is kept, relative to the largest.
    """
    columns = [np.ones(len(ppm), complex)]
    columns += [1 / (tail_width_ppm + 1j * (ppm - place)) for place in tails]
    free = np.linalg.qr(np.stack(columns, 1))[0]
    factor = _factor(ppm, lengths)
    vectors, roots, _ = np.linalg.svd(factor - free @ (free.conj().T @ factor), full_matrices=False)
    vectors, values = vectors[:, ::-1], roots[::-1] ** 2
    kept = values > keep * values[-1]
    return SmoothBaseline(free, vectors[:, kept], values[kept])


_ROUNDING = 1e-14  # of the covariance, relative to the variance of a point


def _factor(ppm: np.ndarray, lengths: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return ``L`` ``(n_window, rank)`` with the covariance ``L @ L.T``, by Cholesky's factorisation with pivots.

    A smooth covariance has a rank far below the number of points, and is never formed: whole spectra take
    milliseconds where an eigendecomposition takes seconds (Harbrecht et al., Applied Numerical Mathematics 62:428,
    2012).
    """
    variance = sum(share for _, share in lengths)
    remaining = np.full(len(ppm), float(variance))  # variance of each point that the columns do not explain
    factor = np.zeros((0, len(ppm)))
    while len(factor) < len(ppm):
        pivot = int(remaining.argmax())
        if remaining[pivot] <= _ROUNDING * variance:
            break
        row = sum(share * np.exp(-0.5 * ((ppm - ppm[pivot]) / length) ** 2) for length, share in lengths)
        row = (row - factor[:, pivot] @ factor) / np.sqrt(remaining[pivot])
        remaining = remaining - row**2
        remaining[pivot] = 0
        factor = np.concatenate([factor, row[None]])
    return factor.T
