"""Rows of stored fits by their voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["places_of", "row_at"]


def places_of(grid: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """Return the row of every voxel of a grid, -1 where nothing was fitted.

    ``rows`` are the voxels of the fits, counted with z fastest.
    """
    places = np.full(int(np.prod(grid)), -1)
    places[rows] = np.arange(len(rows))
    return places.reshape(grid)


def row_at(voxel: Sequence[int], places: np.ndarray, params: np.ndarray) -> int | None:
    """Return the row of a voxel's fit; None outside of the grid, or where nothing was fitted."""
    if len(voxel) != 3 or any(not 0 <= index < size for index, size in zip(voxel, places.shape)):
        return None
    row = int(places[tuple(int(index) for index in voxel)])
    return None if row < 0 or not np.isfinite(params[row]).all() else row
