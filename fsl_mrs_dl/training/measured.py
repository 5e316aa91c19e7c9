"""Measured spectra and transients as training data."""

from __future__ import annotations

from ..core.errors import DataError


def _measured(paths, basis=None, mean_of=None, n_means=64, seed=0):
    """The FIDs of files of one protocol, cut to the shortest, ``(n, n_points)``, and the first file's data.

    With ``mean_of``, ``n_means`` means of so many random transients of each file instead, the transients aligned first
    (section 4.1.2 of doi 10.1016/j.compbiomed.2023.106837).
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
        one = _transients(data)
        fids.append(one if mean_of is None else _random_means(one, data, mean_of, n_means, seed, path))
    n_points = min(one.shape[-1] for one in fids)
    return np.concatenate([one[:, :n_points] for one in fids]), first


def _random_means(fids, data, mean_of: int, n_means: int, seed: int, path):
    """Means of random transients of one file, aligned, ``(n_means, n_points)``."""
    import numpy as np

    from ..core.units import nucleus
    from ..registration.alignment import align_transients

    if len(fids) < 2 * mean_of:
        raise DataError(
            f"{path}: has {len(fids)} transients, means of {mean_of} need {2 * mean_of} at least; give a lower"
            " --mean_of."
        )
    ppmlim = nucleus(data.nucleus).ppmlim
    found = align_transients(fids[None, None], data.axes, ppmlim=ppmlim)
    aligned = found.apply(fids[None, None])[0, 0]
    good = np.flatnonzero(np.isin(found.flag[0], ("ok", "weak")))
    random = np.random.default_rng(seed)
    return np.stack([aligned[random.choice(good, mean_of, replace=False)].mean(0) for _ in range(n_means)])


def _transients(data):
    """All FIDs of a file, coils combined with weights of their own, ``(n, n_points)``."""
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
