"""How alike transients are."""

from __future__ import annotations

import numpy as np
import torch

from ..core.errors import DataError
from ..core.units import ppm_axis, window_indices

__all__ = ["similarity_matrix", "mean_pairwise_correlation", "similarity_index"]


def similarity_matrix(
    fid,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
) -> np.ndarray:
    """Pairwise correlation of the transients' complex spectra in the window.

    Real part of ``<S_i, S_j> / (|S_i| |S_j|)`` over the spectral points of the window (plain Fourier transform, mean
    not removed): 1 only for spectra that agree in frequency, phase and shape.

    Parameters
    ----------
    fid : complex ndarray or tensor, shape (..., n_transients, n_points)

    Returns
    -------
    ndarray, shape (..., n_transients, n_transients); NaN for transients that are zero or not finite
    """
    fid = fid.detach().cpu().numpy() if isinstance(fid, torch.Tensor) else np.asarray(fid)
    if fid.ndim < 2:
        raise DataError(f"The FIDs have shape {fid.shape}: give (..., n_transients, n_points).")
    first, last = window_indices(ppm_axis(fid.shape[-1], dwelltime, spec_freq_mhz, nucleus), ppmlim)
    spec = np.fft.fftshift(np.fft.fft(fid, axis=-1), axes=-1)[..., first:last].astype(np.complex128)
    with np.errstate(invalid="ignore", divide="ignore"):
        spec = spec / np.linalg.norm(spec, axis=-1, keepdims=True)
    return (spec @ np.conj(np.swapaxes(spec, -1, -2))).real


def mean_pairwise_correlation(
    fid,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
) -> np.ndarray:
    """Mean of :func:`similarity_matrix` over all pairs of different transients, failed ones left out; shape (...)."""
    matrix = similarity_matrix(fid, dwelltime=dwelltime, spec_freq_mhz=spec_freq_mhz, nucleus=nucleus, ppmlim=ppmlim)
    row, column = np.triu_indices(matrix.shape[-1], 1)
    if not len(row):
        raise DataError("There is one transient only: a pairwise correlation needs at least two.")
    pairs = matrix[..., row, column]
    seen = np.isfinite(pairs)
    return np.where(seen, pairs, 0.0).sum(-1) / np.maximum(seen.sum(-1), 1)


def similarity_index(
    fid,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (2.5, 3.5),
) -> np.ndarray:
    """The alignment paper's similarity index: mean of all elements of :func:`similarity_matrix` between 2.5 and 3.5
    ppm; shape (...).

    The paper (doi 10.1002/mrm.29498, section 2.6.1) sums the elements; its figures, which do not grow with the number
    of transients, are those of the mean.  Failed transients are left out.
    """
    matrix = similarity_matrix(fid, dwelltime=dwelltime, spec_freq_mhz=spec_freq_mhz, nucleus=nucleus, ppmlim=ppmlim)
    seen = np.isfinite(matrix)
    return np.where(seen, matrix, 0.0).sum((-2, -1)) / np.maximum(seen.sum((-2, -1)), 1)
