"""Measured spectra and transients as training data."""

from __future__ import annotations

import sys

from ..core.errors import DataError

__all__ = ["measured_fids", "without_lipids"]


def measured_fids(paths, basis=None, mean_of: int | None = None, n_means: int = 64, seed: int = 0):
    """Read the FIDs of files of one protocol.

    Parameters
    ----------
    paths : list of path
        NIfTI-MRS files.
    basis : Basis, optional
        Basis set that nucleus and frequency must match.
    mean_of : int, optional
        Return means of so many random transients of each file instead, the transients aligned first (section 4.1.2 of
        doi 10.1016/j.compbiomed.2023.106837).
    n_means : int
        Means of each file.
    seed : int

    Returns
    -------
    fids : complex array ``(n, n_points)``
        Cut to the shortest file's.
    axes : Axes

    Raises
    ------
    DataError
        Files that cannot be read, of different protocols, or with too few transients.
    """
    import numpy as np

    from ..io import nifti

    fids, first = [], None
    for path in paths:
        data = nifti.load(path)
        if basis is not None:
            basis.check_match(data.spec_freq_mhz, data.nucleus, path)
        first = first or data
        same = np.isclose(data.dwelltime, first.dwelltime, rtol=1e-3)
        if not same or not np.isclose(data.spec_freq_mhz, first.spec_freq_mhz, rtol=5e-3):
            raise DataError(f"{path}: has another bandwidth or frequency than {paths[0]}; train one network for each.")
        transients = _transients(data)
        if mean_of is not None:
            transients = _random_means(transients, data.axes, mean_of, n_means, seed, path)
        fids.append(transients)
    assert first is not None  # there is a path at least
    n_points = min(part.shape[-1] for part in fids)
    return np.concatenate([part[:, :n_points] for part in fids]), first.axes.with_points(n_points)


def _random_means(fids, axes, mean_of: int, n_means: int, seed: int, path):
    """Return means of random transients of one file, aligned, ``(n_means, n_points)``."""
    import numpy as np

    from ..core.units import nucleus
    from ..registration.alignment import align_transients

    if len(fids) < 2 * mean_of:
        raise DataError(
            f"{path}: has {len(fids)} transients, means of {mean_of} need {2 * mean_of} at least",
            remedy="give a lower `mean_of`",
        )
    alignment = align_transients(fids[None, None], axes, ppmlim=nucleus(axes.nucleus).ppmlim)
    aligned = alignment.apply(fids[None, None])[0, 0]
    good = np.flatnonzero(np.isin(alignment.flag[0], ("ok", "weak")))
    random = np.random.default_rng(seed)
    return np.stack([aligned[random.choice(good, mean_of, replace=False)].mean(0) for _ in range(n_means)])


def _transients(data):
    """Return all FIDs of a file, coils combined with weights of their own, ``(n, n_points)``."""
    import numpy as np
    import torch

    from ..core.transients import combination

    fids = np.moveaxis(data.fids, 3, -1)
    if "DIM_COIL" in data.dim_tags:
        axis = data.axis("DIM_COIL") - 1
        fids = np.moveaxis(fids, axis, 0).reshape(fids.shape[axis], -1, fids.shape[-1])
        weights = combination(torch.as_tensor(np.nan_to_num(fids)))
        return np.einsum("c,ctn->tn", weights.numpy(), fids)
    return fids.reshape(-1, fids.shape[-1])


_LIPID_PPM, _BRAIN_PPM = (0.0, 1.85), (1.85, 4.2)


def without_lipids(fids, recipe, axes, source: str):
    """Return measured FIDs without those with strong lipids.

    As in section 4.1.2 of doi 10.1016/j.compbiomed.2023.106837.

    Parameters
    ----------
    fids : complex array ``(n, n_points)``
    recipe : Recipe
        Its ``augment`` may hold ``most_lipid``, the largest ratio of mean magnitudes, 0 to 1.85 over 1.85 to 4.2 ppm;
        otherwise all FIDs are kept.
    axes : Axes
    source : str
        Name of the data in errors.

    Raises
    ------
    DataError
        Where fewer than four are left.
    """
    import torch

    from ..core import units

    fids = torch.as_tensor(fids).to(torch.complex64)
    most = (recipe.get("augment") or {}).get("most_lipid")
    if most is None:
        return fids
    ppm = units.ppm_axis(fids.shape[-1], axes.dwelltime, axes.spec_freq_mhz)
    size = units.fid_to_spec(fids).abs()
    lipid, brain = (size[:, (ppm > low) & (ppm < high)].mean(-1) for low, high in (_LIPID_PPM, _BRAIN_PPM))
    keep = (lipid <= most * brain) | ~torch.isfinite(lipid)
    n_kept = int(keep.sum())
    if n_kept < 4:
        raise DataError(
            f"{source}: lipids are stronger than {most:g} times the metabolites in all but {n_kept} of {len(fids)}"
            " spectra",
            remedy="give other files, or a recipe with a higher 'most_lipid'",
        )
    if n_kept < len(fids):
        print(f"Left out for their lipids: {len(fids) - n_kept} of {len(fids)} spectra.", file=sys.stderr, flush=True)
    return fids[keep]
