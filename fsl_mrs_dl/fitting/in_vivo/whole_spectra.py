"""Spectra of the in-vivo model over all points of the data, of which a fit uses a window."""

from __future__ import annotations

import numpy as np
import torch

from ...core import units
from ...core.axes import Axes
from ...physics.in_vivo_model import InVivoModel

__all__ = ["whole_components"]


def whole_components(
    model: InVivoModel,
    axes: Axes,
    x: torch.Tensor,
    basis: torch.Tensor,
    *,
    water: torch.Tensor | None = None,
    columns: slice | list[int] | np.ndarray = slice(None),
    phased: bool = True,
) -> np.ndarray:
    """Return the spectra of components over all points, complex ``(b, n, n_points)``, in the units of
    :func:`fsl_mrs_dl.core.units.fid_to_spec`.

    Parameters
    ----------
    x : Tensor ``(b, n_params)``
    basis : complex Tensor ``(..., n_components, n_points)``
        On the time grid of ``axes``.
    water : complex Tensor ``(b, n_points)``, optional
        Line shapes from water.
    columns : slice or list of int
        Components to return.
    phased : bool
        With the phases of the data; without them lines are upright.
    """
    time, n = torch.as_tensor(axes.time()), axes.n_points
    signal = model.signals(x, basis, time, water)
    signal = (signal * model.line_shape(x, time)[0][:, None])[:, columns]
    if not phased:
        return units.fid_to_spec(signal.numpy())
    hz = torch.as_tensor((np.arange(n) - n // 2) / (n * axes.dwelltime))
    return units.fid_to_spec(signal.numpy()) * model.phase_factor(x, hz).numpy()[:, None]
