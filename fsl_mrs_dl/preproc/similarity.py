"""Similarity of transients."""

from __future__ import annotations

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import DataError

__all__ = ["similarity_matrix", "mean_pairwise_correlation", "similarity_index"]


def similarity_matrix(fid, axes: Axes, *, ppmlim: tuple[float, float] | None = (0.2, 4.2)) -> np.ndarray:
    """Return the pairwise correlation of the transients' complex spectra in the window.

    Real part of ``<S_i, S_j> / (|S_i| |S_j|)`` over the spectral points of the window (plain Fourier transform, mean
    not removed): 1 only for spectra that agree in frequency, phase and shape.

    Parameters
    ----------
    fid : complex ndarray or tensor, shape (..., n_transients, n_points)
    axes : Axes
        Of the FIDs, whose number of points counts.
    ppmlim : (float, float) or None
        None takes the whole spectrum.

    Returns
    -------
    ndarray, shape (..., n_transients, n_transients); NaN for transients that cannot be used

    Raises
    ------
    DataError
        If there is no axis of transients.
    """
    fid = fid.detach().cpu().numpy() if isinstance(fid, torch.Tensor) else np.asarray(fid)
    if fid.ndim < 2:
        raise DataError(f"FIDs of shape {fid.shape}: have no transients", remedy="give (..., n_transients, n_points)")
    first, last = axes.with_points(fid.shape[-1]).window(ppmlim)
    spec = np.fft.fftshift(np.fft.fft(fid, axis=-1), axes=-1)[..., first:last].astype(np.complex128)
    with np.errstate(invalid="ignore", divide="ignore"):
        spec = spec / np.linalg.norm(spec, axis=-1, keepdims=True)
    return (spec @ np.conj(np.swapaxes(spec, -1, -2))).real


def mean_pairwise_correlation(fid, axes: Axes, *, ppmlim: tuple[float, float] | None = (0.2, 4.2)) -> np.ndarray:
    """Return the mean of :func:`similarity_matrix` over all pairs of different transients, failed ones left out; shape
    (...).

    Raises
    ------
    DataError
        If there is one transient only.
    """
    matrix = similarity_matrix(fid, axes, ppmlim=ppmlim)
    row, column = np.triu_indices(matrix.shape[-1], 1)
    if not len(row):
        raise DataError("pairwise correlation: there is one transient only", remedy="give at least two")
    pairs = matrix[..., row, column]
    finite = np.isfinite(pairs)
    return np.where(finite, pairs, 0.0).sum(-1) / np.maximum(finite.sum(-1), 1)


def similarity_index(fid, axes: Axes, *, ppmlim: tuple[float, float] | None = (2.5, 3.5)) -> np.ndarray:
    """Return the similarity index of the alignment paper: the mean of all elements of :func:`similarity_matrix`
    between 2.5 and 3.5 ppm; shape (...).

    The paper (doi 10.1002/mrm.29498, section 2.6.1) sums the elements; its figures, which do not grow with the number
    of transients, are those of the mean.  Failed transients are left out.
    """
    matrix = similarity_matrix(fid, axes, ppmlim=ppmlim)
    finite = np.isfinite(matrix)
    return np.where(finite, matrix, 0.0).sum((-2, -1)) / np.maximum(finite.sum((-2, -1)), 1)
