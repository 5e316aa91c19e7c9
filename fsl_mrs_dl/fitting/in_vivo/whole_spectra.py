"""Spectra of the in-vivo model over all points of the data, of which a fit uses a window."""

from __future__ import annotations

import numpy as np
import torch

from ...core import units
from ...core.axes import Axes
from ...physics.in_vivo_model import InVivoModel

__all__ = ["whole_components"]

_ROWS_AT_ONCE = 8  # spectra whose components are held in memory


def whole_components(
    model: InVivoModel,
    axes: Axes,
    x: torch.Tensor,
    basis: torch.Tensor,
    *,
    water: torch.Tensor | None = None,
    groups: list[list[int]] | None = None,
    window: slice = slice(None),
    phased: bool = True,
) -> np.ndarray:
    """Return the spectra of sums of components, complex ``(b, n_groups, n_points)``, in the units of
    :func:`fsl_mrs_dl.core.units.fid_to_spec`.

    Parameters
    ----------
    x : Tensor ``(b, n_params)``
    basis : complex Tensor ``(..., n_components, n_points)``
        On the time grid of ``axes``; of every spectrum where there are three dimensions.
    water : complex Tensor ``(b, n_points)``, optional
        Line shapes from water.
    groups : list of list of int, optional
        Components of each sum; all of them together by default.
    window : slice
        Points of the spectra to return, all by default.
    phased : bool
        With the phases of the data; without them lines are upright.
    """
    time = torch.as_tensor(axes.time())
    hz = torch.as_tensor(((np.arange(len(time)) - len(time) // 2) / (len(time) * axes.dwelltime))[window])
    parts = []
    for at in range(0, max(1, len(x)), _ROWS_AT_ONCE):
        rows = slice(at, at + _ROWS_AT_ONCE)
        own = (basis[rows] if basis.dim() == 3 else basis, None if water is None else water[rows])
        signal = model.signals(x[rows], own[0], time, own[1])
        # A transform of a sum costs less than the sum of transforms.
        sums = [signal.sum(1)] if groups is None else [signal[:, group].sum(1) for group in groups]
        line = model.line_shape(x[rows], time)[0]
        spectra = units.fid_to_spec((torch.stack(sums, 1) * line[:, None]).numpy())[..., window]
        parts.append(spectra * model.phase_factor(x[rows], hz).numpy()[:, None] if phased else spectra)
    return np.concatenate(parts)
