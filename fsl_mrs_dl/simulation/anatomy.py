"""A head made of ellipsoids: tissue fractions, T1-weighted image and mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

__all__ = ["TISSUES", "Field", "Anatomy", "draw_anatomy"]


TISSUES = ("gm", "wm", "csf", "lesion")


"""What concentrations are known of."""


_LAYERS = ("soft", "fat", "bone", "marrow", "csf", "gm", "wm", "deep", "lesion", "core", "eye")


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


class Field:
    """A smooth random function of place, of mean 0 and variance 1 and about one wavelength: a sum of plane waves."""

    def __init__(
        self, random: np.random.Generator, wavelength_mm: float, *, n: int = 40, spread: float = 0.25, squeeze=(1, 1, 1)
    ):
        direction = random.standard_normal((n, 3))
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True) / np.asarray(squeeze, float)
        number = 2 * np.pi / wavelength_mm * np.exp(spread * random.standard_normal((n, 1)))
        self._k = (direction * number).astype(np.float32)
        self._phase = random.uniform(0, 2 * np.pi, n).astype(np.float32)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values ``(...,)`` at places ``(..., 3)`` in mm, float32."""
        points = np.asarray(points, np.float32)
        out = np.zeros(points.shape[:-1], np.float32)
        # One wave at a time: a table of all waves would be forty times the image.
        for k, phase in zip(self._k, self._phase):
            out += np.cos(points[..., 0] * k[0] + points[..., 1] * k[1] + (points[..., 2] * k[2] + phase))
        return out * np.float32(math.sqrt(2 / len(self._k)))

    def on(self, affine: np.ndarray, size) -> np.ndarray:
        """Values on a grid, float32 ``(x, y, z)``: as if called with :func:`_places`, but fast, a plane wave being a
        product."""
        k, start = self._k.astype(float), np.asarray(affine, float)[:3, 3]
        x, y, z = (np.exp(1j * np.outer(np.arange(n), k @ affine[:3, axis])) for axis, n in enumerate(size))
        x = x * np.exp(1j * (k @ start + self._phase))
        plane = (x[:, None] * y).reshape(-1, len(k))
        left = np.concatenate([plane.real, -plane.imag], 1).astype(np.float32)
        right = np.concatenate([z.real, z.imag], 1).astype(np.float32) * np.float32(math.sqrt(2 / len(k)))
        return (left @ right.T).reshape(size)


def _length(vectors: np.ndarray) -> np.ndarray:
    # Far quicker than numpy.linalg.norm where the axis is this short.
    return np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2 + vectors[..., 2] ** 2)


def _ellipsoid(p: np.ndarray, centre, axes) -> np.ndarray:
    """About the distance to an ellipsoid in mm, negative inside."""
    q = (p - np.asarray(centre, np.float32)) / np.asarray(axes, np.float32)
    size = _length(q)
    slope = _length(q / np.asarray(axes, np.float32))
    return size * (size - 1) / np.maximum(slope, 1e-6)


def _capsule(p: np.ndarray, ends, radii) -> np.ndarray:
    """The distance to a rod from one end to the other whose radius changes along it, negative inside."""
    a, b = (np.asarray(end, np.float32) for end in ends)
    along = (b - a) / np.sum((b - a) ** 2)
    part = np.clip((p[..., 0] - a[0]) * along[0] + (p[..., 1] - a[1]) * along[1] + (p[..., 2] - a[2]) * along[2], 0, 1)
    return _length(p - a - part[..., None] * (b - a)) - (radii[0] + part * (radii[1] - radii[0]))


def _join(one: np.ndarray, other: np.ndarray, soft_mm: float = 6.0) -> np.ndarray:
    """The union of two shapes, its edges rounded."""
    part = np.clip(0.5 + 0.5 * (other - one) / soft_mm, 0, 1)
    return other + part * (one - other) - soft_mm * part * (1 - part)


def _meet(one: np.ndarray, other: np.ndarray, soft_mm: float = 6.0) -> np.ndarray:
    """The intersection of two shapes, its edges rounded."""
    return -_join(-one, -other, soft_mm)


def _stacked(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Coordinates as places ``(..., 3)``, in memory as :func:`_places` has them."""
    return np.moveaxis(np.stack([x, y, z]), 0, -1)


def _mirrored(p: np.ndarray) -> np.ndarray:
    """Both sides as the right one."""
    return _stacked(np.abs(p[..., 0]), p[..., 1], p[..., 2])


def _union(parts) -> np.ndarray:
    return reduce(np.minimum, parts)


def _filled(distance: np.ndarray, mm: float) -> np.ndarray:
    """The share of a cube of side ``mm`` that lies inside a surface at that distance."""
    return np.clip(0.5 - distance / mm, 0, 1)


@dataclass(frozen=True)
class Anatomy:
    """A head on a grid of its own.

    ``t1`` int16 ``(X, Y, Z)`` the structural image; ``shares`` of each voxel, float32 ``(X, Y, Z)``: 'gm' (deep nuclei
    among it), 'wm', 'csf', 'lesion' and 'fat' (of the scalp); ``affine`` from voxels to mm.
    """

    t1: np.ndarray
    shares: dict[str, np.ndarray]
    affine: np.ndarray


def _rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    x, y, z = np.deg2rad([x_deg, y_deg, z_deg])
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def _affine(rotation: np.ndarray, voxel_mm, size, centre_mm) -> np.ndarray:
    """Voxels to mm for a grid whose middle lies at a place."""
    out = np.eye(4)
    out[:3, :3] = rotation * np.asarray(voxel_mm, float)
    out[:3, 3] = np.asarray(centre_mm) - out[:3, :3] @ ((np.asarray(size) - 1) / 2)
    return out


def _places(affine: np.ndarray, size) -> np.ndarray:
    """Where the voxels of a grid are, mm, float32 ``(x, y, z, 3)``; each coordinate lies together in memory, which is
    quicker."""
    x, y, z = (np.arange(n) * affine[:3, axis, None] for axis, n in enumerate(size))
    x, y, z = (step.astype(np.float32) for step in (x + affine[:3, 3, None], y, z))
    return np.moveaxis(x[:, :, None, None] + y[:, None, :, None] + z[:, None, None], 0, -1)


def _folds(p: np.ndarray, hull: np.ndarray, centre, axes, field: Field, mm: float) -> np.ndarray:
    """The distance to the middle of the next sulcus in mm, where it matters: within a hull.

    Sulci are sheets where a random field is zero, which gives winding folds of even width.  The field changes less
    inwards than along the hull, so that they go down rather than along it, and there are none in the middle.
    """
    q = (p - np.asarray(centre, np.float32)) / np.asarray(axes, np.float32)
    radius = np.maximum(_length(q), 1e-3)
    q = q * radius[..., None] ** np.float32(-0.6)
    inside, value = hull < 3 * mm, np.zeros(hull.shape, np.float32)
    value[inside] = field(q[inside] * np.asarray(axes, np.float32))
    slope = np.sqrt(sum(np.gradient(value, mm, axis=axis) ** 2 for axis in range(3)))
    sheet = np.minimum(np.abs(value) / np.maximum(slope, 1e-3), 20)
    return np.hypot(sheet, np.maximum(0, 0.5 - radius) * min(axes))


def _cerebrum(p: np.ndarray, random: np.random.Generator, grid, mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances in mm, negative inside: to the hull of the cerebrum, to its cortex' outer surface, to its white
    matter."""
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    narrowed = _stacked(x * (1 + 0.002 * np.maximum(y + 10, 0)), y, z)
    centre, axes = (0, -17, 20), (66, 86, 56)
    base = np.interp(y, [-105, -35, -15, 0, 25, 65], [-14, -5, -10, -16, -18, -10]).astype(np.float32)
    side = _mirrored(p)
    hull = _meet(_ellipsoid(narrowed, centre, axes), base - z, 8)
    hull = _join(hull, _ellipsoid(side, (44, -14, -21), (20, 40, 19)), 5)
    sulci = _folds(p, hull, centre, axes, Field(random, 19, spread=0.12, n=60), mm)
    floor = 20 + 5 * Field(random, 45).on(*grid)
    sulci = np.hypot(sulci, np.maximum(0, -hull - floor))
    # Between the hemispheres down to the corpus callosum, and between the temporal and the frontal lobe.
    sway = 1.2 * Field(random, 60).on(*grid)
    beam = np.hypot((y + 15) / 54, (z - 6) / 27)
    middle = np.hypot(x + sway, np.maximum(0, (1 - beam) * 27))
    sylvian = np.hypot((z + 3 + 0.3 * (y - 20) + sway) / 1.05, np.maximum(0, 38 - side[..., 0]))
    sylvian = np.hypot(sylvian, np.maximum(0, np.maximum(y - 32, -38 - y)))
    depth = np.maximum(-hull, 0)
    gap = np.minimum(np.minimum(sulci - 0.25 - 0.7 * np.exp(-depth / 6), middle - 1.0), sylvian - 1.2)
    thickness = 3.4 + 0.3 * Field(random, 40).on(*grid)
    return hull, np.maximum(hull, -gap), thickness - np.minimum(-hull, gap)


def _cerebellum(p: np.ndarray, random: np.random.Generator, mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`_cerebrum`; its folds are finer and lie flat."""
    y, z = p[..., 1], p[..., 2]
    roof = np.interp(y, [-105, -35], [-18, -9]).astype(np.float32)
    hull = _meet(_ellipsoid(_mirrored(p), (19, -64, -33), (33, 31, 23)), z - roof, 6)
    sulci = _folds(p, hull, (0, -48, -30), (52, 48, 26), Field(random, 15, squeeze=(4, 1.6, 1), spread=0.1), mm)
    gap = np.hypot(sulci, np.maximum(0, -hull - 13)) - 0.3
    return hull, np.maximum(hull, -gap), 2.3 - np.minimum(-hull, gap)


def _inner_parts(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the deep grey nuclei and to the ventricles."""
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
    """A head: scalp, skull, folded cortex, white matter, deep nuclei, ventricles, cerebellum, a lesion, and its
    T1-weighted image.

    Parameters
    ----------
    seed : int
    lesion : bool
        A tumour of about 35 mm in the white matter of one hemisphere, the rest of the head being the same without it.
    t1_mm : float
        Side of the image's voxels, mm.
    """
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng([seed, 0])
    size = tuple(max(4, round(length / t1_mm)) for length in (186, 246, 204))
    affine = _affine(_rotation(2.0, -1.5, 1.0), t1_mm, size, (1.0, -1.0, 1.0))
    grid = (affine, size)
    # Nothing is quite an ellipsoid, nor are both sides the same.
    p = _places(affine, size) + np.float32(1.4) * _stacked(*(Field(random, 110).on(*grid) for _ in range(3)))
    side = _mirrored(p)
    hull, pial, white = _cerebrum(p, random, grid, t1_mm)
    folia, cerebellar_pial, cerebellar_white = _cerebellum(p, random, t1_mm)
    stem = _capsule(p, ((0, -22, -4), (0, -33, -66)), (13, 9))
    stem = _join(stem, _ellipsoid(p, (0, -10, -4), (24, 22, 13)), 6)
    deep, ventricles = _inner_parts(p)
    inside = _join(_join(hull, folia, 10), stem, 10) - 2.2
    skin = np.minimum(inside - 12, _ellipsoid(p, (0, -17, 4), (76, 97, 72))) - 1.2 * Field(random, 90).on(*grid)
    face = _join(_ellipsoid(p, (0, 48, -52), (58, 52, 66)), _capsule(p, ((0, 88, -34), (0, 104, -60)), (5, 10)), 12)
    skin = _join(_join(skin, face, 18), _capsule(p, ((0, -28, -60), (0, -38, -150)), (55, 58)), 25)
    fat_mm = 4.5 + Field(random, 70).on(*grid)
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
    # The lesion draws from a stream of its own, so that leaving it out changes nothing else.
    drawn = np.random.default_rng([seed, 1])
    centre = np.array([drawn.choice([-1, 1]) * drawn.uniform(27, 33), drawn.uniform(-30, 22), drawn.uniform(30, 38)])
    bumps = Field(drawn, 26).on(*grid)
    if lesion:
        ball = _ellipsoid(p, centre, (16, 19, 16)) + 2.0 * bumps
        ball = np.maximum(ball, hull + 2)
        layers += [("lesion", ball), ("core", np.maximum(_ellipsoid(p, centre, (7, 9, 7)) + 1.5 * bumps, ball))]
    shares: dict[str, np.ndarray] = {}
    for name, distance in layers:
        cover = _filled(distance, t1_mm).astype(np.float32)
        for other in shares.values():
            other *= 1 - cover
        shares[name] = shares.get(name, 0) + cover
    names = {"fat_of_orbit": "fat"}
    image = sum(share * _BRIGHTNESS.get(names.get(name, name), 0.0) for name, share in shares.items())
    image = image * (1 + 0.02 * Field(random, 30).on(*grid)) * np.exp(0.1 * Field(random, 260).on(*grid))
    image = gaussian_filter(image.astype(np.float32), 0.35)
    noise = random.standard_normal((2, *size), dtype=np.float32) * np.float32(0.022)
    t1 = np.round(1000 * np.hypot(image + noise[0], noise[1])).astype(np.int16)
    none = np.zeros(size, np.float32)
    tissue = {
        "gm": shares["gm"] + shares["deep"],
        "wm": shares["wm"],
        "csf": shares["csf"],
        "lesion": shares.get("lesion", none) + shares.get("core", none),
        "fat": shares["fat"],
    }
    return Anatomy(t1, tissue, affine)
