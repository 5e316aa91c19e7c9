"""Imperfections of MRSI of the head: the B0 field, lipids of the scalp with the point spread of encoding, residual
water."""

from __future__ import annotations

import math

import numpy as np

from ..core.axes import Axes
from .anatomy import Anatomy
from .geometry import RandomField, grid_positions, refined_affine

__all__ = [
    "K_FILTERS",
    "LIPID_HEIGHT",
    "LIPID_LINES",
    "ShiftField",
    "lipid_fid",
    "point_spread",
    "residual_water",
    "scalp_lipids",
    "water_fid",
]

LIPID_LINES = (
    (0.9, 0.20, 17),
    (1.3, 1.0, 19),
    (1.6, 0.12, 24),
    (2.03, 0.16, 22),
    (2.25, 0.1, 22),
    (2.77, 0.03, 22),
    (5.3, 0.12, 20),
)
"""Protons of fat in triglycerides, doi 10.1194/jlr.D800010-JLR200: shift in ppm, height over that of the CH2, and
Gaussian width in Hz at 123 MHz."""

# Shift in ppm, height and Lorentzian width in Hz.
_WATER_LINES = ((4.65, 1.0, 6.0), (4.70, 0.35, 14.0), (4.58, 0.25, 18.0))

# Excursions of the field above the sinuses and the ears: centre in mm, width in mm, height over the smooth field.
_EXCURSIONS = (((0, 60, -16), 24, 5.0), ((57, -22, -22), 18, -2.5), ((-57, -22, -22), 18, -2.5))

_LIPID_BINS = 5

LIPID_HEIGHT = 16.0
"""Height of lipids where a voxel is all scalp, over the median of the brain's largest metabolite peaks."""


K_FILTERS = ("hamming", "none")
"""Filters of k-space: without one, lipids ring far into the brain."""


class ShiftField:
    """The B0 shift in Hz by position: smooth, with excursions above the sinuses and the ears, about 0 in the middle of
    the brain.

    Parameters
    ----------
    random : numpy Generator
    anatomy : Anatomy
    largest_hz : float
        Largest shift in the brain, which scales the field.
    """

    def __init__(self, random: np.random.Generator, anatomy: Anatomy, largest_hz: float):
        self._smooth = RandomField(random, 170)
        self._offset, self._scale = 0.0, 1.0
        brain = (anatomy.fractions["gm"] + anatomy.fractions["wm"] + anatomy.fractions["lesion"]) > 0.5
        index = np.argwhere(brain)[:: max(1, int(brain.sum() // 20_000))]
        values = self((index @ anatomy.affine[:3, :3].T + anatomy.affine[:3, 3]).astype(np.float32))
        self._offset = float(np.median(values))
        self._scale = largest_hz / float(np.abs(values - self._offset).max())

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the shift in Hz ``(...,)`` at positions ``(..., 3)`` in mm."""
        return self._with_excursions(self._smooth(points), points)

    def on_grid(self, affine: np.ndarray, size) -> np.ndarray:
        """Return the shift in Hz ``(x, y, z)`` on a grid."""
        return self._with_excursions(self._smooth.on_grid(affine, size), grid_positions(affine, size))

    def _with_excursions(self, values: np.ndarray, points: np.ndarray) -> np.ndarray:
        for centre, width, height in _EXCURSIONS:
            exponent = np.sum((points - np.asarray(centre, np.float32)) ** 2, -1) / np.float32(2 * width**2)
            values = values + np.float32(height) * np.exp(-exponent)
        return (values - np.float32(self._offset)) * np.float32(self._scale)


def lipid_fid(axes: Axes) -> np.ndarray:
    """Return the FID of lipids whose spectrum has a highest peak of 1, complex64 ``(n_points,)``."""
    time = axes.time()
    fid = np.zeros(len(time), complex)
    for ppm, height, width in LIPID_LINES:
        decay = np.exp(-((np.pi * width * axes.spec_freq_mhz / 123.0 * time) ** 2) / (4 * np.log(2)))
        fid += height * decay / decay.sum() * np.exp(2j * np.pi * axes.ppm_to_hz(ppm) * time)
    return (fid * math.sqrt(len(time))).astype(np.complex64)


def water_fid(axes: Axes) -> np.ndarray:
    """Return the FID of residual water of height 1 or so: three neighbouring lines, complex64 ``(n_points,)``."""
    time = axes.time()
    fid = np.zeros(len(time), complex)
    for ppm, height, width in _WATER_LINES:
        line = np.exp((2j * np.pi * axes.ppm_to_hz(ppm) - np.pi * width) * time)
        fid += height * math.sqrt(len(time)) / np.abs(line).sum() * line
    return fid.astype(np.complex64)


def residual_water(random: np.random.Generator, affine: np.ndarray, tissue: dict[str, np.ndarray]) -> np.ndarray:
    """Return complex amplitudes of residual water, complex64 ``(x, y, z)``, about 1 in tissue.

    ``tissue`` holds the fractions of all tissues in the voxels of the grid.
    """
    fraction = np.clip(sum(tissue.values()), 0, 1)
    height = np.exp(0.6 * RandomField(random, 70).on_grid(affine, fraction.shape)) * fraction
    return (height * np.exp(1.5j * RandomField(random, 110).on_grid(affine, fraction.shape))).astype(np.complex64)


def point_spread(fine: np.ndarray, factor, k_filter: str = "hamming") -> np.ndarray:
    """Return an object as phase encoding resolves it: the centre of its k-space under a filter.

    Parameters
    ----------
    fine : complex ndarray ``(..., x * fx, y * fy, z * fz)``
        The object on a finer grid, ``factor`` ``(fx, fy, fz)`` points to a voxel, odd; an axis of one voxel is
        averaged.
    k_filter : str
        One of :data:`K_FILTERS`.

    Returns
    -------
    complex64 ndarray ``(..., x, y, z)``
    """
    from scipy import fft

    image = np.asarray(fine, np.complex64)
    for axis, f in zip((-3, -2, -1), factor):
        n = image.shape[axis] // f
        lines = np.moveaxis(image, axis, -1)
        if n == 1:
            image = np.moveaxis(lines.mean(-1, keepdims=True), -1, axis)
            continue
        k = fft.fftfreq(n, 1 / n).round().astype(int)
        # The centre of a voxel lies (f - 1) / 2 fine points after its first; the filter is 1 in the centre of k-space.
        weight = np.exp(2j * np.pi * k * ((f - 1) / 2) / (n * f)) / f
        if k_filter == "hamming":
            weight = (0.54 + 0.46 * np.cos(2 * np.pi * k / n)) * weight
        samples = fft.fft(lines, axis=-1)[..., k] * weight.astype(np.complex64)
        image = np.moveaxis(fft.ifft(samples, axis=-1), -1, axis)
    return image.astype(np.complex64)


def scalp_lipids(
    anatomy: Anatomy,
    shift: ShiftField,
    phase: RandomField,
    affine: np.ndarray,
    size,
    height: float,
    k_filter: str = "hamming",
) -> tuple[np.ndarray, np.ndarray]:
    """Return complex amplitudes of the scalp's lipids as encoding spreads them, and the frequencies of their bins.

    Lipids that leak into a voxel keep the frequency of their origin, so that those of different shifts are spread
    separately.

    Parameters
    ----------
    anatomy : Anatomy
    shift : ShiftField
    phase : RandomField
        Of the lipids, in units of 40 degrees.
    affine, size
        Grid of the voxels.
    height : float
        Height of the spectrum where a voxel is all scalp; 0 for no lipids.
    k_filter : str
        One of :data:`K_FILTERS`.

    Returns
    -------
    amplitudes : complex64 ndarray ``(x, y, z, n_bins)``
    shift_hz : ndarray ``(n_bins,)``
    """
    factor = tuple(3 if n > 1 else 1 for n in size)
    fine_affine, fine_size = refined_affine(affine, factor), tuple(n * f for n, f in zip(size, factor))
    fat = anatomy.fractions_on_grid(("fat",), fine_affine, fine_size)["fat"]
    scalp = fat * np.exp(np.complex64(1j) * np.float32(np.deg2rad(40)) * phase.on_grid(fine_affine, fine_size))
    hz = shift.on_grid(fine_affine, fine_size)
    scalp_hz = hz[fat > 0.05]
    if not scalp_hz.size or not height:
        return np.zeros((*size, 1), np.complex64), np.zeros(1)
    low, high = np.percentile(scalp_hz, [2, 98])
    bins = np.linspace(low, max(high, low + 1e-3), _LIPID_BINS)
    position = np.clip((hz - bins[0]) / (bins[1] - bins[0]), 0, _LIPID_BINS - 1)
    spread = [
        point_spread(scalp * np.maximum(0, 1 - np.abs(position - b)), factor, k_filter) for b in range(_LIPID_BINS)
    ]
    return np.float32(height) * np.stack(spread, -1), bins
