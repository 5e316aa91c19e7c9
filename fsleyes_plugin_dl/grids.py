"""Grids of voxels in space: the orientation that maps are drawn in, positions in mm, nearest voxels.  NumPy and nibabel
only.

Maps are drawn along their own axes.  Where FSLeyes draws an oblique map along the axes of another image without
interpolation, it takes colours from up to half a slice away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

__all__ = ["DrawnGrid", "Voxel", "as_voxel", "box_mask", "checkerboard", "is_inside", "padded", "sampled", "to_mm"]


Voxel = tuple[int, int, int]
"""Index of a voxel along x, y and z, or the number of voxels along each."""


def as_voxel(index: Sequence[float] | np.ndarray) -> Voxel:
    """Return the nearest voxel of an index ``(3,)``, which may have fractions."""
    x, y, z = (int(one) for one in np.rint(index))
    return x, y, z


def to_mm(affine: np.ndarray, index: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return positions in mm of indices ``(..., 3)`` of voxels, which may be fractions."""
    return np.asarray(index, float) @ affine[:3, :3].T + affine[:3, 3]


def is_inside(index: Sequence[int], shape: Sequence[int]) -> bool:
    """Tell whether an index ``(3,)`` is one of a grid's."""
    return all(0 <= one < size for one, size in zip(index, shape))


def sampled(values: np.ndarray, affine: np.ndarray, mm: np.ndarray, outside: float = np.nan) -> np.ndarray:
    """Return the nearest voxels of an image at positions in mm ``(..., 3)``; ``outside`` beyond its grid."""
    inverse = np.linalg.inv(affine)
    index = np.rint(to_mm(inverse, mm)).astype(int)
    inside = ((index >= 0) & (index < values.shape)).all(-1)
    index = np.where(inside[..., None], index, 0)
    return np.where(inside, values[tuple(np.moveaxis(index, -1, 0))], outside)


def padded(values: np.ndarray, affine: np.ndarray, fill: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an array with one more voxel of ``fill`` at either end of every axis, and its affine.

    An outline needs background around it; and FSLeyes treats the outermost voxels of an image that fades another as
    outside of it.
    """
    moved = np.array(affine, float)
    moved[:3, 3] -= moved[:3, :3].sum(1)
    return np.pad(values, 1, constant_values=fill), moved


def box_mask(shape: Sequence[int], affine: np.ndarray, step: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return which voxels of a fine grid along the axes of the room lie in a grid, uint8 ``(x, y, z)``, and its affine.

    The outline of an oblique voxel can be drawn along the axes of the room with it; the fine grid has a margin of one
    voxel, and at most 200 voxels along an axis.
    """
    corners = to_mm(affine, (np.indices((2, 2, 2)).reshape(3, -1).T * np.asarray(shape)) - 0.5)
    low, high = corners.min(0), corners.max(0)
    step = max(step, float((high - low).max()) / 200)
    size = np.ceil((high - low) / step).astype(int) + 2
    fine = np.diag([step, step, step, 1.0])
    fine[:3, 3] = (low + high) / 2 - step * (size - 1) / 2
    mm = to_mm(fine, np.moveaxis(np.indices(size), 0, -1))
    return sampled(np.ones(shape, np.uint8), affine, mm, 0).astype(np.uint8), fine


def checkerboard(shape: Sequence[int]) -> np.ndarray:
    """Return labels 1 to 8 that differ between neighbours, int16 ``(x, y, z)``: their outlines are edges of
    voxels."""
    parity = np.indices(shape) % 2
    return (1 + parity[0] + 2 * parity[1] + 4 * parity[2]).astype(np.int16)


@dataclass(frozen=True)
class DrawnGrid:
    """The grid of a map with its axes in the order and direction right, anterior, superior, as near as they go.

    Attributes
    ----------
    shape : (int, int, int)
        Of the stored map.
    affine : ndarray
        Of the stored map, from indices to mm, ``(4, 4)``.
    """

    shape: Voxel
    affine: np.ndarray

    @cached_property
    def _orientation(self) -> np.ndarray:
        return io_orientation(self.affine)

    @cached_property
    def drawn_affine(self) -> np.ndarray:
        """Affine of the drawn map, ``(4, 4)``."""
        return self.affine @ self._to_stored

    @cached_property
    def _to_stored(self) -> np.ndarray:
        return inv_ornt_aff(self._orientation, self.shape)

    @property
    def drawn_shape(self) -> Voxel:
        """Voxels of the drawn map along its axes."""
        order = np.argsort(self._orientation[:, 0])
        return as_voxel([self.shape[axis] for axis in order])

    def drawn(self, values: np.ndarray) -> np.ndarray:
        """Return stored values ``(x, y, z)`` along the axes of the drawn map."""
        return np.ascontiguousarray(apply_orientation(values, self._orientation))

    def voxel(self, drawn_index: Sequence[float] | np.ndarray) -> Voxel:
        """Return the stored voxel of an index of the drawn map."""
        return as_voxel(to_mm(self._to_stored, drawn_index))

    def drawn_index(self, voxel: Voxel) -> Voxel:
        """Return the index in the drawn map of a stored voxel."""
        return as_voxel(to_mm(np.linalg.inv(self._to_stored), voxel))

    @cached_property
    def axes(self) -> np.ndarray:
        """Unit vectors of the drawn axes in mm, in columns ``(3, 3)``."""
        columns = self.drawn_affine[:3, :3]
        return columns / np.linalg.norm(columns, axis=0)

    @property
    def is_oblique(self) -> bool:
        """Whether its axes are more than a degree away from those of the room."""
        return bool((np.abs(np.diag(self.axes)) < np.cos(np.pi / 180)).any())
