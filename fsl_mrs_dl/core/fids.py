"""Properties of FIDs without a model, in NumPy."""

from __future__ import annotations

import numpy as np

__all__ = ["usable_fids"]


def usable_fids(fids: np.ndarray, axis: int = -1) -> np.ndarray:
    """Tell which FIDs are usable, ``(..., n_points)`` -> bool ``(...)``: those that are finite and not all zero.

    ``axis`` is that of time.
    """
    return np.isfinite(fids).all(axis) & (fids != 0).any(axis)
