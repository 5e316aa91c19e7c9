"""Chemical shifts that a basis set has by itself, from the singlets in it.

Programs put 4.65 or 4.68 ppm, or another shift, at the middle of the spectra that they simulate, and LCModel's format
does not say which.  All metabolites of a set are then as far from their places, which a fit takes for a shift of the
data; lines that are added at places of their own would be the only ones out of place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import units
from .axes import Axes
from .metabolites import canonical_name

__all__ = ["reference_offset_ppm"]

_SINGLETS_PPM = {"NAA": 2.008, "Cr": 3.027, "PCr": 3.029, "GPC": 3.212, "PCh": 3.208, "Scyllo": 3.340, "Gly": 3.548}
"""Highest lines of metabolites: Govindaraju, Young, Maudsley, NMR Biomed 2000;13:129-153,
doi 10.1002/1099-1492(200005)13:3<129::AID-NBM619>3.0.CO;2-V."""

_FARTHEST_PPM = 0.12  # from its place
_AGREE_PPM = 0.006
_FEWEST = 3
_LEAST_PPM = 0.005  # tables of chemical shifts differ by as much
_BROADENING_HZ = 4.0
_FINE_PPM = 0.002  # of the spectra that are searched


def reference_offset_ppm(fids: np.ndarray, names: Sequence[str], axes: Axes) -> float:
    """Return how far the singlets of a basis set of protons lie from their places, in ppm.

    Parameters
    ----------
    fids : complex ndarray ``(n_metabs, n_points)``
    names : sequence of str
    axes : Axes

    Returns
    -------
    float
        Positive to the left, where shifts are higher.  Zero below 0.005 ppm, for other nuclei, and where fewer than
        three singlets, or most of them, do not agree on it within 0.006 ppm.
    """
    if axes.nucleus != "1H":
        return 0.0
    time = np.arange(axes.n_points) * axes.dwelltime
    window = np.exp(-np.pi * _BROADENING_HZ * time)
    n_points = 2 ** int(np.ceil(np.log2(max(1 / (_FINE_PPM * axes.dwelltime * axes.spec_freq_mhz), axes.n_points))))
    ppm = axes.with_points(n_points).ppm()
    found = []
    for fid, name in zip(fids, names):
        place = _SINGLETS_PPM.get(canonical_name(name))
        if place is None or not np.any(fid):
            continue
        near = np.flatnonzero(np.abs(ppm - place) < _FARTHEST_PPM)
        size = np.abs(units.fid_to_spec(np.pad(fid * window, (0, n_points - axes.n_points))))[near]
        top = int(size.argmax())
        if 0 < top < len(near) - 1:  # a line, and no slope of another one
            found.append(ppm[near[top]] - place)
    offset = float(np.median(found)) if found else 0.0
    agree = int((np.abs(np.array(found) - offset) < _AGREE_PPM).sum())
    if agree < _FEWEST or 2 * agree <= len(found) or abs(offset) < _LEAST_PPM:
        return 0.0
    return offset
