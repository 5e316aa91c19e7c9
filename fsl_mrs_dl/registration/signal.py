"""Which lines are the signal that transients are aligned on, and which are nuisance lines."""

from __future__ import annotations

import numpy as np
import torch

from ..core.axes import Axes
from .nuisance_lines import NUISANCE_LINES

__all__ = [
    "WATER_PPM",
    "WATER_TIMES",
    "WATER_WINDOW",
    "is_water_unsuppressed",
    "nuisance_kinds",
    "water_over_singlets",
]

WATER_PPM = 4.65
"""Place of the water in ppm."""

WATER_WINDOW = (4.0, 5.3)
"""Window in ppm for data whose water is not suppressed."""

WATER_TIMES = 200.0
"""Height over the highest of the singlets from which water is not suppressed; residual water is a tenth of it."""

_SINGLETS_PPM = (1.8, 3.4)  # where creatine, choline and NAA lie
_LIPID_MARGIN_PPM = 0.3
_HANN_S = 0.3
_FEWEST_TIMES = 50.0  # as WATER_TIMES, where noise is the highest among the singlets
_LINES_OVER_NOISE = 6.0  # a higher peak, over the median, is a line of a metabolite
_MOST_FIDS = 64


def nuisance_kinds(fids: torch.Tensor, axes: Axes, ppmlim: tuple[float, float] | None) -> tuple[str, ...]:
    """Return the kinds of lines that are not the signal asked for with a window.

    A window on the water and nothing of metabolites' singlets chooses the water.  One that holds both chooses the
    water where the water is not suppressed.  One that holds hardly more than the lipids chooses the lipids.

    Parameters
    ----------
    fids : complex tensor, shape (..., n_points)
    axes : Axes
    ppmlim : (float, float) or None
        The window; without one, and for other nuclei than 1H, there are no nuisance lines.

    Returns
    -------
    tuple of str
        Keys of :data:`fsl_mrs_dl.registration.nuisance_lines.NUISANCE_LINES`.
    """
    if axes.nucleus != "1H" or ppmlim is None:
        return ()
    low, high = min(ppmlim), max(ppmlim)
    if low < WATER_PPM < high and (low > _SINGLETS_PPM[1] or is_water_unsuppressed(fids, axes)):
        return ()
    first, last = NUISANCE_LINES["lipids"]["ppm"]
    only_lipids = low > first - 2 * _LIPID_MARGIN_PPM and high < last + _LIPID_MARGIN_PPM
    return tuple(kind for kind in NUISANCE_LINES if not (kind == "lipids" and only_lipids))


def is_water_unsuppressed(fids, axes: Axes) -> bool:
    """Tell whether FIDs hold water that was not suppressed.

    Its height is compared with the highest line of 1.8 to 3.4 ppm, which is noise in most water references.

    Parameters
    ----------
    fids : complex array or tensor, shape (..., n_points)
        The strongest of 64 of them, spread evenly, are judged.
    axes : Axes
    """
    times, has_lines = water_over_singlets(fids, axes)
    return times > (WATER_TIMES if has_lines else _FEWEST_TIMES)


def water_over_singlets(fids, axes: Axes) -> tuple[float, bool]:
    """Return the height of the water over the highest line of 1.8 to 3.4 ppm, and whether there are lines, not noise.

    The spectra are those of FIDs under a Hann window, in which the water has no tail among the metabolites.  Zero for
    other nuclei than 1H, for FIDs without signal, and where water or singlets lie beyond the spectra.

    Parameters
    ----------
    fids : complex array or tensor, shape (..., n_points)
        The strongest of 64 of them, spread evenly, are judged; the median is returned.
    axes : Axes
    """
    fids = torch.as_tensor(fids)
    if axes.nucleus != "1H":
        return 0.0, False
    rows = fids.reshape(-1, fids.shape[-1])
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_FIDS)).astype(int))]
    rows = torch.where(torch.isfinite(torch.view_as_real(rows.resolve_conj())).all(-1), rows, torch.zeros_like(rows))
    rows = rows.cpu().numpy().astype(complex)
    energy = (np.abs(rows) ** 2).sum(-1)
    rows = rows[(energy > 0) & (energy >= np.median(energy))]
    if not len(rows):
        return 0.0, False
    n_used = max(2, min(rows.shape[-1], int(_HANN_S / axes.dwelltime)))
    hann = np.sin(np.pi * (np.arange(n_used) + 0.5) / n_used) ** 2
    spectra = np.abs(np.fft.fftshift(np.fft.fft(rows[:, :n_used] * hann, rows.shape[-1], axis=-1), axes=-1))
    ppm = axes.with_points(rows.shape[-1]).ppm()

    def highest(low: float, high: float) -> np.ndarray | None:
        inside = (ppm > low) & (ppm < high)
        return spectra[:, inside].max(-1) if inside.any() else None

    water, singlets = highest(*NUISANCE_LINES["water"]["ppm"]), highest(*_SINGLETS_PPM)
    if water is None or singlets is None:
        return 0.0, False
    tiny = np.finfo(float).tiny
    times = float(np.median(water / np.maximum(singlets, tiny)))
    has_lines = float(np.median(singlets / np.maximum(np.median(spectra, -1), tiny))) > _LINES_OVER_NOISE
    return times, has_lines
