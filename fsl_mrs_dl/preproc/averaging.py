"""Weighted mean of aligned transients.

The mean of highest SNR weights transients with their inverse noise variance.  The variances are those of the residuals
that the alignment left; they do not depend on the size of the signal, so that the mean has no bias.  Estimated
variances scatter, and weights that follow their scatter would cost SNR: those near the median count as equal.
"""

from __future__ import annotations

import numpy as np

from ..io.nifti import MrsData, without_dimension
from ..registration.alignment import Alignment

__all__ = ["averaging_weights", "weighted_mean"]

_EQUAL = 1.25  # ratio to the median up to which weights are equal


def averaging_weights(alignment: Alignment) -> np.ndarray:
    """Return the weights of the mean of each set, ``(n_sets, n_transients)``; they add up to 1.

    Outliers and failed transients have none; where there are no others, all that did not fail count alike.
    """
    weight = np.where(np.isin(alignment.flag, ("ok", "weak")), alignment.weight, 0.0)
    weight = np.where((weight > 0).any(1, keepdims=True), weight, alignment.flag != "failed")
    some = (weight > 0).any(1, keepdims=True)
    usual = np.nanmedian(np.where((weight > 0) | ~some, weight, np.nan), axis=1, keepdims=True)
    ratio = np.where(weight > 0, weight / np.where(some, usual, 1.0), 0.0)
    ratio = np.where((ratio > 1 / _EQUAL) & (ratio < _EQUAL), 1.0, ratio)
    return ratio / np.maximum(ratio.sum(1, keepdims=True), np.finfo(float).tiny)


def weighted_mean(data: MrsData, tag: str, weights: np.ndarray) -> MrsData:
    """Return the weighted mean over a dimension, which is removed from the data and their header.

    Parameters
    ----------
    data : MrsData
    tag : str
    weights : ndarray
        Of the FIDs, broadcastable to their shape, real or complex; elements of weight 0 may be anything.

    Raises
    ------
    DataError
        If there is no such dimension.
    """
    axis = data.axis(tag)
    fids = np.where(weights != 0, data.fids, 0)
    return without_dimension(data, tag, (fids * weights).sum(axis).astype(data.fids.dtype))
