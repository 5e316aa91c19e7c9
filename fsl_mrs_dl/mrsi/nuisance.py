"""Lipids of the scalp and residual water of a volume: learnt from its voxels, or removed before the fit by the usual
methods, which ours is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.fids import usable_fids
from ..core.noise import noise_outside
from ..core.units import fid_to_spec
from ..fitting.nuisance import metabolite_examples
from ..io.volume import Volume
from ..physics.nuisance import NuisanceSpace
from ..preproc.water_removal import WATER_PPM, lines_within

__all__ = ["NUISANCES", "L2Removal", "learn_l2", "learn_nuisances", "scalp_voxels", "without_lines"]

NUISANCES = ("auto", "off", "subspace", "l2", "hlsvd")
"""Handling of lipids and water: subspaces for the in-vivo model and nothing for others, nothing, subspaces inside the
likelihood, or removal before the fit."""

LIPID_PPM = (0.6, 1.8)
"""Where lipids are, and hardly anything of metabolites, ppm."""

_METABOLITES_PPM = (2.9, 3.4)
_LEAST_OVER_METABOLITES, _LEAST_OF_STRONGEST = 10.0, 1e-3
_MOST_SCALP, _LEAST_SCALP, _MOST_WATER = 768, 4, 24
_MOST_ROOTS = 40
_BLOCK = 4096


def _band(fids: np.ndarray, axes: Axes, ppm: tuple[float, float]) -> np.ndarray:
    """Return the energy of spectra between two shifts, ``(n,)``."""
    first, last = axes.window(ppm)
    return np.square(np.abs(fid_to_spec(fids)[:, first:last])).sum(-1)


def scalp_voxels(volume: Volume, axes: Axes, inside: np.ndarray, conjugated: bool) -> np.ndarray:
    """Return the voxels outside of the brain whose lipids are strong, counted with z fastest, ``(n,)``.

    Parameters
    ----------
    volume : Volume
    axes : Axes
    inside : int ndarray
        Voxels that are fitted; these are not scalp unless they are all that there is.
    conjugated : bool
        Whether FIDs are conjugated before the fit.
    """
    every = np.arange(int(np.prod(volume.grid)))
    lipid, metabolite = np.zeros(len(every)), np.zeros(len(every))
    for first in range(0, len(every), _BLOCK):
        part = every[first : first + _BLOCK]
        fids = volume.fids(part)
        fids = np.where(usable_fids(fids)[:, None], fids.conj() if conjugated else fids, 0)
        lipid[part], metabolite[part] = _band(fids, axes, LIPID_PPM), _band(fids, axes, _METABOLITES_PPM)
    outside = np.ones(len(every), bool)
    outside[inside] = False
    brain = inside if len(inside) < 0.9 * (lipid > 0).sum() else every[lipid > 0]
    candidates = outside if outside[lipid > 0].any() else ~outside
    typical = np.median(metabolite[brain]) if len(brain) else 0.0
    strong = candidates & (lipid > _LEAST_OVER_METABOLITES * typical) & (lipid > _LEAST_OF_STRONGEST * lipid.max())
    strong &= lipid > 3 * metabolite
    rows = every[strong]
    if len(rows) > _MOST_SCALP:
        rows = np.sort(rows[np.argsort(-lipid[rows], kind="stable")[:_MOST_SCALP]])
    return rows if len(rows) >= _LEAST_SCALP else rows[:0]


def _roots(fids: np.ndarray, noise: float) -> np.ndarray:
    """Return FIDs whose independent weights make sums like the given ones ``(n, n_points)``, as many as are above the
    noise."""
    if not len(fids):
        return fids
    left, size, rows = np.linalg.svd(fids, full_matrices=False)
    # Noise alone has singular values up to this (Marchenko and Pastur).
    most = noise * np.sqrt(2) * (np.sqrt(len(fids)) + np.sqrt(fids.shape[1]))
    kept = min(int((size > most).sum()), _MOST_ROOTS)
    shrunk = np.sqrt(np.clip(size[:kept] ** 2 - most**2, 0, None))
    return shrunk[:, None] * rows[:kept] / np.sqrt(len(fids))


def learn_nuisances(
    read: Callable[[np.ndarray], np.ndarray],
    scalp: np.ndarray,
    pilot: np.ndarray,
    axes: Axes,
    basis: np.ndarray,
    names: list[str],
) -> NuisanceSpace | None:
    """Return the nuisances of a volume; None where it has neither lipids nor water.

    Parameters
    ----------
    read : callable
        Voxels ``(n,)`` -> FIDs ``(n, n_points)`` as they are fitted.
    scalp : int ndarray
        Voxels whose lipids leak.
    pilot : int ndarray
        Some of the voxels that are fitted, whose water is learnt.
    axes : Axes
    basis : complex ndarray ``(n_metabs, n_points)``
        Basis FIDs on the data's time grid.
    names : list of str
        Of the basis spectra.
    """
    lipid_fids, fids = read(scalp), read(pilot)
    lipid_fids, fids = (each[usable_fids(each)] for each in (lipid_fids, fids))
    noise = float(np.median(noise_outside(fid_to_spec(fids), axes)))
    rows = np.unique(np.linspace(0, len(fids) - 1, min(len(fids), _MOST_WATER)).astype(int))
    water = np.stack([lines_within(fids[row], axes, [WATER_PPM]) for row in rows])
    if len(lipid_fids):
        # Water of the scalp voxels is that of the water's own subspace.
        lipid_fids = _without_band(lipid_fids, axes, WATER_PPM)
    space = NuisanceSpace(
        lipids=_roots(lipid_fids, noise),
        water=_roots(water, noise),
        metabolites=metabolite_examples(basis, names, axes),
    )
    return space if len(space.lipids) or len(space.water) else None


def _without_band(fids: np.ndarray, axes: Axes, ppm: tuple[float, float]) -> np.ndarray:
    """Return FIDs whose lines in a band are gone, by the lines of their strongest components."""
    left, size, rows = np.linalg.svd(fids, full_matrices=False)
    kept = min(len(size), _MOST_WATER)
    cleaned = np.stack([row - lines_within(row, axes, [ppm]) for row in rows[:kept]])
    return (left[:, :kept] * size[:kept]) @ cleaned + (left[:, kept:] * size[kept:]) @ rows[kept:]


def without_lines(fids: np.ndarray, axes: Axes) -> np.ndarray:
    """Return FIDs ``(n, n_points)`` without the lines that HLSVD finds where lipids and water are."""
    usable = usable_fids(fids)
    out = np.array(fids)
    for row in np.flatnonzero(usable):
        out[row] = fids[row] - lines_within(fids[row], axes, [WATER_PPM, LIPID_PPM])
    return out


@dataclass(frozen=True)
class L2Removal:
    """Removal by an L2 penalty on the product with spectra of the scalp (Bilgic et al., doi 10.1002/mrm.24681).

    Attributes
    ----------
    vectors : complex ndarray ``(rank, n_points)``
        Orthonormal FIDs.
    taken : ndarray ``(rank,)``
        Share of each that is removed.
    """

    vectors: np.ndarray
    taken: np.ndarray

    def __call__(self, fids: np.ndarray) -> np.ndarray:
        """Return FIDs ``(n, n_points)`` without lipids."""
        return fids - ((fids @ self.vectors.conj().T) * self.taken) @ self.vectors


def learn_l2(read: Callable[[np.ndarray], np.ndarray], scalp: np.ndarray, pilot: np.ndarray, axes: Axes) -> L2Removal:
    """Return the removal with the smallest penalty that leaves, in the median of some voxels, no more energy where
    lipids are than twice the noise's.

    Raises
    ------
    OptionError
        If there are no lipids to learn from.
    """
    if not len(scalp):
        raise OptionError("no voxel has strong lipids", option="nuisance", value="l2", remedy="give a `lipid_mask`")
    fids, lipids = read(pilot), read(scalp)
    fids, lipids = (each[usable_fids(each)] for each in (fids, lipids))
    _, size, vectors = np.linalg.svd(lipids, full_matrices=False)
    noise = float(np.median(noise_outside(fid_to_spec(fids), axes)))
    first, last = axes.window(LIPID_PPM)
    most = 2 * 2 * noise**2 * (last - first)
    removal = L2Removal(vectors, np.zeros(len(size)))
    for penalty in 10.0 ** np.arange(-4, 9, 0.5):
        taken = penalty * (size / size[0]) ** 2
        removal = L2Removal(vectors, taken / (1 + taken))
        if np.median(_band(removal(fids), axes, LIPID_PPM)) <= most:
            break
    return removal
