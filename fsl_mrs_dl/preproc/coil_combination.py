"""Combination of receive coils: the weights of highest SNR, by the noise's covariance and the coils' sensitivities.

With signal ``s`` (sensitivity times FID) and noise of covariance ``C``, the combination of highest SNR is
``s^H C^-1 f`` (Roemer et al., doi 10.1002/mrm.1910160203; for spectra Rodgers and Robson, doi 10.1002/mrm.22230).  The
sensitivities are the first singular vector of whitened FIDs, those of unsuppressed water where there are some.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import DataError
from ..core.fids import usable_fids
from ..core.noise import quiet_points
from ..core.units import fid_to_spec
from ..io.nifti import MrsData
from .averaging import weighted_mean

__all__ = ["COIL_DIM", "CoilCombination", "coil_combination", "combine_coils", "n_coils"]

COIL_DIM = "DIM_COIL"
_SIGNAL_S = 0.1  # of the beginning of FIDs, that sensitivities are estimated from
_SAMPLES_PER_COIL = 10  # fewer would make an inverse covariance noise
_MOST_SAMPLES = 200_000


@dataclass(frozen=True)
class CoilCombination:
    """Weights that combine coils, and what they gain.

    Attributes
    ----------
    weights : complex ndarray, shape (x, y, z, n_coils)
        The combined FID is the sum of weights times FIDs.  Signal keeps the size that it has in the norm over coils.
    from_water : bool
        Whether sensitivities are those of a water reference, otherwise those of the data.
    whitened : bool
        Whether correlations of the noise were taken into account; otherwise only its variances, for lack of samples.
    snr_gain : float
        SNR over that of the best single coil, median over voxels.
    """

    weights: np.ndarray
    from_water: bool
    whitened: bool
    snr_gain: float

    @property
    def n_coils(self) -> int:
        """Number of coils."""
        return self.weights.shape[-1]


def n_coils(data: MrsData) -> int:
    """Return the number of coils of data, 1 where they are combined."""
    return data.fids.shape[data.axis(COIL_DIM)] if COIL_DIM in data.dim_tags else 1


def coil_combination(data: MrsData, reference: MrsData | None = None, *, from_water: bool = False) -> CoilCombination:
    """Estimate the weights of highest SNR of every voxel.

    Parameters
    ----------
    data : MrsData
        With ``DIM_COIL``; its noise is what the weights are made for.
    reference : MrsData, optional
        Signal of the same voxels and coils that sensitivities are estimated from: unsuppressed water, or the mean of
        aligned transients; by default the mean of the data.
    from_water : bool
        Whether the reference is water.

    Raises
    ------
    DataError
        If there is no dimension of coils, the reference has other coils or voxels, or no coil holds a signal.
    """
    if reference is None:
        reference = data
    if n_coils(reference) != n_coils(data) or reference.fids.shape[:3] != data.fids.shape[:3]:
        raise DataError(
            f"{reference.name}: has {n_coils(reference)} coils and {reference.fids.shape[:3]} voxels, {data.name}"
            f" {n_coils(data)} and {data.fids.shape[:3]}",
            remedy="give the water reference of the same acquisition",
        )
    fids = _by_voxel(data)
    covariance, whitened = _noise_covariance(fids, data)
    alive = np.diag(covariance).real > 0
    if not alive.any():
        raise DataError(f"{data.name}: no coil holds a signal", remedy="check the conversion")
    mean = _mean(_by_voxel(reference))[..., : max(16, int(_SIGNAL_S / reference.dwelltime))]
    half = np.linalg.cholesky(covariance[np.ix_(alive, alive)])
    weights = np.zeros((len(fids), len(alive)), complex)
    gains = np.full(len(fids), np.nan)
    for voxel, signal in enumerate(mean[:, alive]):
        if signal.any():
            weights[voxel, alive], gains[voxel] = _weights(signal, half)
    return CoilCombination(
        weights=weights.reshape(*data.fids.shape[:3], -1),
        from_water=from_water,
        whitened=whitened,
        snr_gain=float(np.nanmedian(gains)) if np.isfinite(gains).any() else 1.0,
    )


def combine_coils(data: MrsData, combination: CoilCombination) -> MrsData:
    """Return data with their coils combined and without ``DIM_COIL``.

    Raises
    ------
    DataError
        If the data have other coils or voxels than the weights.
    """
    axis = data.axis(COIL_DIM)
    shape = [1] * data.fids.ndim
    shape[:3], shape[axis] = data.fids.shape[:3], data.fids.shape[axis]
    if combination.weights.shape != (*data.fids.shape[:3], data.fids.shape[axis]):
        raise DataError(
            f"{data.name}: has {data.fids.shape[axis]} coils, the weights are for {combination.n_coils}",
            remedy="give data of the same acquisition",
        )
    weights = combination.weights.reshape(shape)
    # A coil without weight may hold anything, and an FID that is not usable in one coil is not in any.
    bad = ~np.isfinite(data.fids) & (weights != 0)
    combined = weighted_mean(data, COIL_DIM, weights)
    return combined if not bad.any() else _with_nan(combined, bad.any(axis=(3, axis)))


def _with_nan(data: MrsData, unusable: np.ndarray) -> MrsData:
    """Return data whose unusable FIDs, bool of their shape without the time axis, are NaN."""
    return replace(data, fids=np.where(np.expand_dims(unusable, 3), np.nan, data.fids).astype(data.fids.dtype))


def _by_voxel(data: MrsData) -> np.ndarray:
    """Return FIDs ``(n_voxels, n_coils, n_others, n_points)``."""
    axis = data.axis(COIL_DIM)
    order = [0, 1, 2, axis, *(k for k in range(4, data.fids.ndim) if k != axis), 3]
    fids = data.fids.transpose(order)
    return fids.reshape(int(np.prod(fids.shape[:3])), fids.shape[3], -1, data.n_points)


def _mean(fids: np.ndarray) -> np.ndarray:
    """Return the mean over the FIDs of every voxel that are usable in all coils, ``(n_voxels, n_coils, n_points)``."""
    usable = usable_fids(fids).any(1, keepdims=True) & np.isfinite(fids).all(-1).all(1, keepdims=True)
    count = np.maximum(usable.sum(2), 1)[..., None]
    return np.where(usable[..., None], fids, 0).sum(2) / count


def _noise_covariance(fids: np.ndarray, data: MrsData) -> tuple[np.ndarray, bool]:
    """Return the noise covariance of coils ``(n_coils, n_coils)``, zero for coils without any, and whether correlations
    were estimated.

    The noise is that of second differences of spectra where there is no signal, which the tails of strong lines do not
    reach.
    """
    n = fids.shape[1]
    rows = np.moveaxis(fids, 1, 0).reshape(n, -1, fids.shape[-1])
    rows = rows[:, np.isfinite(rows).all((0, 2)) & rows.any((0, 2))]
    quiet = quiet_points(data.axes)
    use = quiet[:-2] & quiet[1:-1] & quiet[2:]
    some = max(1, _MOST_SAMPLES // int(use.sum()))
    rows = rows[:, :: max(1, rows.shape[1] // some)]
    noise = np.diff(fid_to_spec(rows), n=2, axis=-1)[..., use].reshape(n, -1) / np.sqrt(6)
    covariance = noise @ noise.conj().T / max(noise.shape[1], 1)
    variance = np.diag(np.diag(covariance).real).astype(complex)
    # Second differences of neighbours are correlated: about a third of them is independent.
    independent = noise.shape[1] / 3
    if independent < _SAMPLES_PER_COIL * n:
        return variance, False
    share = n / independent
    return (1 - share) * covariance + share * variance, True


def _weights(signal: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the weights of one voxel for FIDs ``(n_coils, n_points)`` and the factor of the covariance, and the SNR
    over that of the best coil."""
    whitened = np.linalg.solve(half, signal)
    left, _, _ = np.linalg.svd(whitened, full_matrices=False)
    sensitivity = half @ left[:, 0]
    sensitivity /= np.linalg.norm(sensitivity)
    direction = np.linalg.solve(half.conj().T, np.linalg.solve(half, sensitivity))
    snr = float((sensitivity.conj() @ direction).real)
    weights = direction.conj() / snr
    # The combined signal begins with phase 0.
    start = weights @ signal[:, 0]
    weights = weights * np.exp(-1j * np.angle(start))
    variance = (np.abs(half) ** 2).sum(1)
    return weights, float(np.sqrt(snr / (np.abs(sensitivity) ** 2 / variance).max()))
