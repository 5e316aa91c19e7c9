"""Nuisance signals of a volume, lipids of the scalp and residual water, as Gaussian processes that are integrated out.

Lipids that leak into a voxel are sums of the spectra of scalp voxels with unknown complex weights, and so is residual
water of those of its line.  A Gaussian prior on the weights makes of them a covariance of low rank.  Removal by an L2
penalty (Bilgic et al., doi 10.1002/mrm.24681) is the mean of the same model without metabolites; here the spectra are
whitened by the covariance and fitted, so that the variance due to similar signals of lipids is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .smooth_baseline import SmoothBaseline

__all__ = ["NuisanceSpace", "Whitening", "whitened_baseline"]

_LIPID_STRENGTHS = (0.0, *(2.0 * 4.0**k for k in range(8)))
_WATER_STRENGTHS = (0.0, *(2.0 * 8.0**k for k in range(5)))


@dataclass(frozen=True)
class Whitening:
    """The square root of a precision ``(1 + R R^H)^-1``, as ``1 - vectors diag(taken) vectors^H``.

    Attributes
    ----------
    vectors : complex ndarray ``(n_window, rank)``
        Orthonormal.
    taken : ndarray ``(rank,)``
        From 0 to 1.
    log_det : float
        Of ``1 + R R^H``.
    """

    vectors: np.ndarray
    taken: np.ndarray
    log_det: float

    @classmethod
    def of(cls, root: np.ndarray) -> Whitening:
        """Make that of a root ``(n_window, rank)``."""
        vectors, size, _ = np.linalg.svd(root, full_matrices=False)
        return cls(vectors, 1 - 1 / np.sqrt(1 + size**2), float(np.log1p(size**2).sum()))

    def __call__(self, spectra: np.ndarray) -> np.ndarray:
        """Return whitened spectra, ``(..., n_window)``."""
        return spectra - ((spectra @ self.vectors.conj()) * self.taken) @ self.vectors.T


@dataclass(frozen=True)
class NuisanceSpace:
    """Signals whose independent complex normal weights make the nuisances of a voxel.

    Attributes
    ----------
    lipids, water : complex ndarray ``(n, n_points)``
        FIDs; at a strength of one, weights have the noise's SD.
    metabolites : complex ndarray ``(n, n_points)``
        FIDs of the same kind for what metabolites may look like; by these the strengths are chosen.
    """

    lipids: np.ndarray
    water: np.ndarray
    metabolites: np.ndarray

    @property
    def states(self) -> list[tuple[float, float]]:
        """Strengths of lipids and of water that are compared; the first is none of both."""
        lipids = _LIPID_STRENGTHS if len(self.lipids) else _LIPID_STRENGTHS[:1]
        water = _WATER_STRENGTHS if len(self.water) else _WATER_STRENGTHS[:1]
        return [(lipid, each) for lipid in lipids for each in water]

    def normalised(self, transform: Callable[[np.ndarray], np.ndarray]) -> NuisanceSpace:
        """Return it with the largest variance in a window scaled to one for each kind.

        ``transform`` takes FIDs ``(n, n_points)`` to the window ``(n, n_window)``.
        """
        kinds = {"lipids": self.lipids, "water": self.water, "metabolites": self.metabolites}
        scaled = {}
        for name, fids in kinds.items():
            size = np.linalg.norm(transform(fids), 2) if len(fids) else 1.0
            scaled[name] = fids / max(size, np.finfo(float).tiny)
        return replace(self, **scaled)

    def root(self, state: int, transform: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return a root of the nuisances' covariance over the noise's in a window, complex ``(n_window, rank)``."""
        lipid, water = self.states[state]
        parts = [size * fids for size, fids in ((lipid, self.lipids), (water, self.water)) if size and len(fids)]
        if not parts:
            return np.zeros((transform(np.zeros((1, self.n_points), complex)).shape[-1], 0), complex)
        return transform(np.concatenate(parts)).T

    @property
    def n_points(self) -> int:
        """Points of the FIDs."""
        return self.metabolites.shape[-1]


def whitened_baseline(baseline: SmoothBaseline, whitening: Whitening) -> SmoothBaseline:
    """Return the eigenbasis of a smooth baseline for spectra that are whitened, and as many eigenvectors."""
    free = np.linalg.qr(whitening(baseline.free.T).T)[0]
    vectors = whitening(baseline.vectors.T).T
    vectors = vectors - free @ (free.conj().T @ vectors)
    vectors, size, _ = np.linalg.svd(vectors * np.sqrt(baseline.values), full_matrices=False)
    return SmoothBaseline(free, vectors, size**2)
