"""A head made of ellipsoids: tissue fractions, T1-weighted image and mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from .geometry import RandomField, grid_affine, grid_positions, length, refined_affine, rotation_matrix

__all__ = ["TISSUES", "Anatomy", "draw_anatomy"]

TISSUES = ("gm", "wm", "csf", "lesion")
"""Tissues with known concentrations."""

# Brightness in the structural image, white matter being 1.
_BRIGHTNESS = {
    "soft": 0.5,
    "fat": 1.15,
    "bone": 0.1,
    "marrow": 0.55,
    "csf": 0.2,
    "gm": 0.66,
    "wm": 1.0,
    "deep": 0.78,
    "lesion": 0.58,
    "core": 0.32,
    "eye": 0.25,
}


def _ellipsoid(p: np.ndarray, centre, axes) -> np.ndarray:
    """Return approximately the distance to an ellipsoid in mm, negative inside."""
    q = (p - np.asarray(centre, np.float32)) / np.asarray(axes, np.float32)
    size = length(q)
    slope = length(q / np.asarray(axes, np.float32))
    return size * (size - 1) / np.maximum(slope, 1e-6)


def _capsule(p: np.ndarray, ends, radii) -> np.ndarray:
    """Return the distance to a rod between two ends whose radius changes along it, negative inside."""
    a, b = (np.asarray(end, np.float32) for end in ends)
    along = (b - a) / np.sum((b - a) ** 2)
    part = np.clip((p[..., 0] - a[0]) * along[0] + (p[..., 1] - a[1]) * along[1] + (p[..., 2] - a[2]) * along[2], 0, 1)
    return length(p - a - part[..., None] * (b - a)) - (radii[0] + part * (radii[1] - radii[0]))


def _join(one: np.ndarray, other: np.ndarray, soft_mm: float = 6.0) -> np.ndarray:
    """Return the union of two shapes with rounded edges."""
    part = np.clip(0.5 + 0.5 * (other - one) / soft_mm, 0, 1)
    return other + part * (one - other) - soft_mm * part * (1 - part)


def _meet(one: np.ndarray, other: np.ndarray, soft_mm: float = 6.0) -> np.ndarray:
    """Return the intersection of two shapes with rounded edges."""
    return -_join(-one, -other, soft_mm)


def _stacked(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return coordinates as positions ``(..., 3)``, in memory as :func:`grid_positions` has them."""
    return np.moveaxis(np.stack([x, y, z]), 0, -1)


def _mirrored(p: np.ndarray) -> np.ndarray:
    """Return positions with the left side mirrored onto the right one."""
    return _stacked(np.abs(p[..., 0]), p[..., 1], p[..., 2])


def _union(parts) -> np.ndarray:
    return reduce(np.minimum, parts)


def _filled(distance: np.ndarray, mm: float) -> np.ndarray:
    """Return the fraction of a cube of side ``mm`` that lies inside a surface at that distance."""
    return np.clip(0.5 - distance / mm, 0, 1)


@dataclass(frozen=True)
class Anatomy:
    """A head on a grid of its own.

    Attributes
    ----------
    t1 : int16 ndarray ``(X, Y, Z)``
        Structural image.
    fractions : dict of float32 ndarray ``(X, Y, Z)``
        Of each voxel: 'gm' (deep nuclei included), 'wm', 'csf', 'lesion' and 'fat' (of the scalp).
    affine : ndarray ``(4, 4)``
        From voxels to mm.
    """

    t1: np.ndarray
    fractions: dict[str, np.ndarray]
    affine: np.ndarray

    def fractions_on_grid(self, names, affine: np.ndarray, size) -> dict[str, np.ndarray]:
        """Return fractions averaged over the voxels of another grid, float32 ``(x, y, z)``."""
        from scipy.ndimage import map_coordinates

        fine_mm = np.linalg.norm(self.affine[:3, 0])
        voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
        parts = np.clip(np.ceil(voxel_mm / fine_mm), 1, 30).astype(int)
        # From points that lie evenly in every voxel to the grid of the anatomy.
        to_anatomy = np.linalg.inv(self.affine) @ refined_affine(affine, parts)
        averages = {name: np.zeros(size, np.float32) for name in names}
        for k in range(size[2]):
            shape = (size[0] * parts[0], size[1] * parts[1], parts[2])
            slab = to_anatomy.copy()
            slab[:3, 3] += to_anatomy[:3, 2] * k * parts[2]
            points = np.moveaxis(grid_positions(slab, shape), -1, 0)
            for name in names:
                values = map_coordinates(self.fractions[name], points, order=1, mode="constant", output=np.float32)
                values = values.reshape(size[0], parts[0], size[1], parts[1], parts[2])
                averages[name][:, :, k] = values.mean((1, 3, 4))
        return averages


def _folds(p: np.ndarray, hull: np.ndarray, centre, axes, field: RandomField, mm: float) -> np.ndarray:
    """Return the distance to the middle of the next sulcus in mm, within a hull.

    Sulci are sheets where a random field is zero, which makes winding folds of even width.  The field changes less
    inwards than along the hull, so that they go down rather than along it, and there are none in the middle.
    """
    q = (p - np.asarray(centre, np.float32)) / np.asarray(axes, np.float32)
    radius = np.maximum(length(q), 1e-3)
    q = q * radius[..., None] ** np.float32(-0.6)
    inside, value = hull < 3 * mm, np.zeros(hull.shape, np.float32)
    value[inside] = field(q[inside] * np.asarray(axes, np.float32))
    slope = np.sqrt(sum(np.gradient(value, mm, axis=axis) ** 2 for axis in range(3)))
    sheet = np.minimum(np.abs(value) / np.maximum(slope, 1e-3), 20)
    return np.hypot(sheet, np.maximum(0, 0.5 - radius) * min(axes))


def _cerebrum(p: np.ndarray, random: np.random.Generator, grid, mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances in mm, negative inside: to the hull of the cerebrum, the outer surface of its cortex and its
    white matter."""
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    narrowed = _stacked(x * (1 + 0.002 * np.maximum(y + 10, 0)), y, z)
    centre, axes = (0, -17, 20), (66, 86, 56)
    base = np.interp(y, [-105, -35, -15, 0, 25, 65], [-14, -5, -10, -16, -18, -10]).astype(np.float32)
    side = _mirrored(p)
    hull = _meet(_ellipsoid(narrowed, centre, axes), base - z, 8)
    hull = _join(hull, _ellipsoid(side, (44, -14, -21), (20, 40, 19)), 5)
    sulci = _folds(p, hull, centre, axes, RandomField(random, 19, spread=0.12, n=60), mm)
    floor = 20 + 5 * RandomField(random, 45).on_grid(*grid)
    sulci = np.hypot(sulci, np.maximum(0, -hull - floor))
    # Between the hemispheres down to the corpus callosum, and between the temporal and the frontal lobe.
    sway = 1.2 * RandomField(random, 60).on_grid(*grid)
    beam = np.hypot((y + 15) / 54, (z - 6) / 27)
    middle = np.hypot(x + sway, np.maximum(0, (1 - beam) * 27))
    sylvian = np.hypot((z + 3 + 0.3 * (y - 20) + sway) / 1.05, np.maximum(0, 38 - side[..., 0]))
    sylvian = np.hypot(sylvian, np.maximum(0, np.maximum(y - 32, -38 - y)))
    depth = np.maximum(-hull, 0)
    gap = np.minimum(np.minimum(sulci - 0.25 - 0.7 * np.exp(-depth / 6), middle - 1.0), sylvian - 1.2)
    thickness = 3.4 + 0.3 * RandomField(random, 40).on_grid(*grid)
    return hull, np.maximum(hull, -gap), thickness - np.minimum(-hull, gap)


def _cerebellum(p: np.ndarray, random: np.random.Generator, mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances as :func:`_cerebrum` does; the folds are finer and lie flat."""
    y, z = p[..., 1], p[..., 2]
    roof = np.interp(y, [-105, -35], [-18, -9]).astype(np.float32)
    hull = _meet(_ellipsoid(_mirrored(p), (19, -64, -33), (33, 31, 23)), z - roof, 6)
    sulci = _folds(p, hull, (0, -48, -30), (52, 48, 26), RandomField(random, 15, squeeze=(4, 1.6, 1), spread=0.1), mm)
    gap = np.hypot(sulci, np.maximum(0, -hull - 13)) - 0.3
    return hull, np.maximum(hull, -gap), 2.3 - np.minimum(-hull, gap)


def _inner_parts(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the deep grey nuclei and to the ventricles."""
    side = _mirrored(p)
    deep = _union(
        [
            _ellipsoid(side, (11, -18, 8), (8.5, 14, 9)),  # thalamus
            _ellipsoid(side, (25, 2, 2), (5.5, 15, 10)),  # putamen and pallidum
            _capsule(side, ((13, 16, 6), (19, -10, 23)), (6, 2.5)),  # caudate
            _ellipsoid(side, (27, -22, -14), (6, 13, 5)),  # hippocampus
        ]
    )
    route = [
        ((8, 34, 6), 4.0),
        ((9, 18, 15), 5.5),
        ((10, -8, 21), 5.0),
        ((15, -32, 20), 6.5),
        ((25, -44, 9), 7.0),
        ((22, -66, 8), 3.5),
    ]
    lateral = [_capsule(side, (a, b), (r, s)) for (a, r), (b, s) in zip(route, route[1:])]
    horn = _capsule(side, ((26, -42, 4), (31, -12, -14)), (4, 2))
    third, fourth = _ellipsoid(p, (0, -14, 2), (2.6, 12, 9)), _ellipsoid(p, (0, -46, -30), (6, 4.5, 9))
    return deep, _union([*lateral, horn, third, fourth])


def draw_anatomy(seed: int = 0, *, lesion: bool = True, t1_mm: float = 1.5) -> Anatomy:
    """Return a head: scalp, skull, folded cortex, white matter, deep nuclei, ventricles, cerebellum, a lesion, and its
    T1-weighted image.

    Parameters
    ----------
    seed : int
    lesion : bool
        A tumour of about 35 mm in the white matter of one hemisphere; the rest of the head is the same without it.
    t1_mm : float
        Side of the image's voxels, mm.
    """
    random = np.random.default_rng([seed, 0])
    size = tuple(max(4, round(length_mm / t1_mm)) for length_mm in (186, 246, 204))
    affine = grid_affine(rotation_matrix(2.0, -1.5, 1.0), t1_mm, size, (1.0, -1.0, 1.0))
    grid = (affine, size)
    # Nothing is exactly an ellipsoid, nor are both sides the same.
    warp = _stacked(*(RandomField(random, 110).on_grid(*grid) for _ in range(3)))
    p = grid_positions(affine, size) + np.float32(1.4) * warp
    layers, hull = _head_layers(p, random, grid, t1_mm)
    if lesion:
        layers += _lesion_layers(p, seed, grid, hull)
    fractions: dict[str, np.ndarray] = {}
    for name, distance in layers:
        cover = _filled(distance, t1_mm).astype(np.float32)
        for other in fractions.values():
            other *= 1 - cover
        fractions[name] = fractions.get(name, 0) + cover
    t1 = _t1_image(fractions, random, grid)
    empty = np.zeros(size, np.float32)
    tissue = {
        "gm": fractions["gm"] + fractions["deep"],
        "wm": fractions["wm"],
        "csf": fractions["csf"],
        "lesion": fractions.get("lesion", empty) + fractions.get("core", empty),
        "fat": fractions["fat"],
    }
    return Anatomy(t1, tissue, affine)


def _head_layers(p: np.ndarray, random: np.random.Generator, grid, mm: float):
    """Return names of tissues with distances to their surfaces, each covering those before, and the distance to the
    hull of the cerebrum."""
    side = _mirrored(p)
    hull, pial, white = _cerebrum(p, random, grid, mm)
    folia, cerebellar_pial, cerebellar_white = _cerebellum(p, random, mm)
    stem = _capsule(p, ((0, -22, -4), (0, -33, -66)), (13, 9))
    stem = _join(stem, _ellipsoid(p, (0, -10, -4), (24, 22, 13)), 6)
    deep, ventricles = _inner_parts(p)
    inside = _join(_join(hull, folia, 10), stem, 10) - 2.2
    skin = np.minimum(inside - 12, _ellipsoid(p, (0, -17, 4), (76, 97, 72)))
    skin = skin - 1.2 * RandomField(random, 90).on_grid(*grid)
    face = _join(_ellipsoid(p, (0, 48, -52), (58, 52, 66)), _capsule(p, ((0, 88, -34), (0, 104, -60)), (5, 10)), 12)
    skin = _join(_join(skin, face, 18), _capsule(p, ((0, -28, -60), (0, -38, -150)), (55, 58)), 25)
    fat_mm = 4.5 + RandomField(random, 70).on_grid(*grid)
    layers = [
        ("soft", skin),
        ("fat", np.maximum(skin + 2, -(skin + 2 + fat_mm))),
        ("air", _union([_ellipsoid(side, (24, 62, -52), (13, 15, 15)), _ellipsoid(p, (0, 66, -48), (6, 26, 20))])),
        ("bone", inside - 6),
        ("marrow", np.abs(inside - 3.0) - 1.0),
        ("fat_of_orbit", _ellipsoid(side, (32, 62, -28), (17, 22, 15))),
        ("eye", _ellipsoid(side, (33, 70, -28), (12, 12, 12))),
        ("csf", inside),
        ("gm", pial),
        ("wm", white),
        ("gm", cerebellar_pial),
        ("wm", np.maximum(cerebellar_white, folia)),
        ("wm", stem),
        ("deep", deep),
        ("csf", ventricles),
    ]
    return layers, hull


def _lesion_layers(p: np.ndarray, seed: int, grid, hull: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the layers of the lesion, from a random stream of its own, so that it changes no other one."""
    random = np.random.default_rng([seed, 1])
    x, y, z = random.choice([-1, 1]) * random.uniform(27, 33), random.uniform(-30, 22), random.uniform(30, 38)
    centre = np.array([x, y, z])
    bumps = RandomField(random, 26).on_grid(*grid)
    ball = np.maximum(_ellipsoid(p, centre, (16, 19, 16)) + 2.0 * bumps, hull + 2)
    return [("lesion", ball), ("core", np.maximum(_ellipsoid(p, centre, (7, 9, 7)) + 1.5 * bumps, ball))]


def _t1_image(fractions: dict[str, np.ndarray], random: np.random.Generator, grid) -> np.ndarray:
    """Return the structural image of a head, int16 ``(X, Y, Z)``."""
    from scipy.ndimage import gaussian_filter

    tissue = {"fat_of_orbit": "fat"}
    image = sum(fraction * _BRIGHTNESS.get(tissue.get(name, name), 0.0) for name, fraction in fractions.items())
    image = image * (1 + 0.02 * RandomField(random, 30).on_grid(*grid))
    image = image * np.exp(0.1 * RandomField(random, 260).on_grid(*grid))
    image = gaussian_filter(image.astype(np.float32), 0.35)
    noise = random.standard_normal((2, *grid[1]), dtype=np.float32) * np.float32(0.022)
    return np.round(1000 * np.hypot(image + noise[0], noise[1])).astype(np.int16)
