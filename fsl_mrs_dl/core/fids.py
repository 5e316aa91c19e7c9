"""Properties of FIDs without a model, in NumPy."""

from __future__ import annotations

import numpy as np

__all__ = ["usable_fids", "zero_filling"]


def usable_fids(fids: np.ndarray, axis: int = -1) -> np.ndarray:
    """Tell which FIDs are usable, ``(..., n_points)`` -> bool ``(...)``: those that are finite and not all zero.

    ``axis`` is that of time.
    """
    return np.isfinite(fids).all(axis) & (fids != 0).any(axis)


def zero_filling(fids: np.ndarray) -> np.ndarray:
    """Return all points of FIDs ``(..., n_points)`` over those up to the last that is not zero, ``(...)``; one of FIDs
    that are zero everywhere.

    Zeros at the end add neither signal nor noise: of a spectrum, only one in so many points is independent.
    """
    n_points = fids.shape[-1]
    acquired = n_points - np.argmax(fids[..., ::-1] != 0, axis=-1)
    return n_points / acquired
