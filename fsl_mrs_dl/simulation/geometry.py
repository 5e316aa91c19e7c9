"""Grids of voxels, their positions in millimetres, and smooth random functions of position."""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "RandomField",
    "grid_affine",
    "grid_positions",
    "length",
    "refined_affine",
    "rotation_matrix",
    "shifted_affine",
]


class RandomField:
    """A smooth random function of position, of mean 0, variance 1 and about one wavelength: a sum of plane waves.

    Parameters
    ----------
    random : numpy Generator
    wavelength_mm : float
        Median wavelength.
    n : int
        Number of waves.
    spread : float
        SD of the logarithm of the wavelengths.
    squeeze : (float, float, float)
        Factors by which wavelengths are longer along x, y, z.
    """

    def __init__(
        self, random: np.random.Generator, wavelength_mm: float, *, n: int = 40, spread: float = 0.25, squeeze=(1, 1, 1)
    ):
        direction = random.standard_normal((n, 3))
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True) / np.asarray(squeeze, float)
        number = 2 * np.pi / wavelength_mm * np.exp(spread * random.standard_normal((n, 1)))
        self._k = (direction * number).astype(np.float32)
        self._phase = random.uniform(0, 2 * np.pi, n).astype(np.float32)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return values ``(...,)`` at positions ``(..., 3)`` in mm, float32."""
        points = np.asarray(points, np.float32)
        values = np.zeros(points.shape[:-1], np.float32)
        # One wave at a time: a table of all waves would take forty times the memory of the image.
        for k, phase in zip(self._k, self._phase):
            values += np.cos(points[..., 0] * k[0] + points[..., 1] * k[1] + (points[..., 2] * k[2] + phase))
        return values * np.float32(math.sqrt(2 / len(self._k)))

    def on_grid(self, affine: np.ndarray, size) -> np.ndarray:
        """Return values on a grid, float32 ``(x, y, z)``: those at :func:`grid_positions`, but faster, since a plane
        wave is a product over the axes."""
        k, start = self._k.astype(float), np.asarray(affine, float)[:3, 3]
        x, y, z = (np.exp(1j * np.outer(np.arange(n), k @ affine[:3, axis])) for axis, n in enumerate(size))
        x = x * np.exp(1j * (k @ start + self._phase))
        plane = (x[:, None] * y).reshape(-1, len(k))
        left = np.concatenate([plane.real, -plane.imag], 1).astype(np.float32)
        right = np.concatenate([z.real, z.imag], 1).astype(np.float32) * np.float32(math.sqrt(2 / len(k)))
        return (left @ right.T).reshape(size)


def length(vectors: np.ndarray) -> np.ndarray:
    """Return the length of vectors ``(..., 3)``; far quicker than ``numpy.linalg.norm`` over so short an axis."""
    return np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2 + vectors[..., 2] ** 2)


def rotation_matrix(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    """Return the matrix ``(3, 3)`` of rotations about x, then y, then z."""
    x, y, z = np.deg2rad([x_deg, y_deg, z_deg])
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def grid_affine(rotation: np.ndarray, voxel_mm, size, centre_mm) -> np.ndarray:
    """Return the affine ``(4, 4)`` from voxels to mm of a grid with its centre at a position."""
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.asarray(voxel_mm, float)
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.asarray(size) - 1) / 2)
    return affine


def refined_affine(affine: np.ndarray, parts) -> np.ndarray:
    """Return the affine of a grid with ``parts`` points per voxel along every axis, evenly spread over the voxel."""
    parts = np.asarray(parts)
    fine = affine @ np.diag([*(1 / parts), 1.0])
    fine[:3, 3] = (affine @ [*((1 - parts) / (2 * parts)), 1])[:3]
    return fine


def shifted_affine(affine: np.ndarray, axis: int, step: float) -> np.ndarray:
    """Return the affine of a grid that is shifted by ``step`` voxels along an axis."""
    shifted = affine.copy()
    shifted[:3, 3] += step * affine[:3, axis]
    return shifted


def grid_positions(affine: np.ndarray, size) -> np.ndarray:
    """Return the positions of voxels in mm, float32 ``(x, y, z, 3)``; each coordinate is contiguous in memory, which is
    quicker."""
    x, y, z = (np.arange(n) * affine[:3, axis, None] for axis, n in enumerate(size))
    x, y, z = (step.astype(np.float32) for step in (x + affine[:3, 3, None], y, z))
    return np.moveaxis(x[:, :, None, None] + y[:, None, :, None] + z[:, None, None], 0, -1)
