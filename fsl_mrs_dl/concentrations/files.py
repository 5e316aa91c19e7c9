"""Absolute concentrations of the fit of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..fitting.data import water_fids
from ..fitting.fitted_data import FittedData
from ..io.nifti import MrsData
from .scaling import AbsoluteConcentrations, WaterScaling, absolute_concentrations

__all__ = ["absolute_of_file"]


def absolute_of_file(
    fitted: FittedData,
    water: MrsData | None,
    scaling: WaterScaling,
    *,
    sums: Sequence[str] = (),
    estimate: str | None = None,
    option: str = "h2o",
) -> tuple[AbsoluteConcentrations | None, list[str]]:
    """Scale the fits of a file by its water reference.

    Parameters
    ----------
    fitted : FittedData
    water : MrsData, optional
        One FID, or one for each spectrum; several averages are averaged.
    scaling : WaterScaling
        Echo and repetition times that it lacks are those of the headers; tissue fractions are of one voxel, or of each
        voxel of the data, with z fastest.
    sums : sequence of str
        Sums to report as well, each as 'GPC+PCh'.
    estimate : str, optional
        Estimate that is scaled.
    option : str
        That the water was given by.

    Returns
    -------
    AbsoluteConcentrations or None
    list of str
        Where it is None, a line for each thing that is missing; options stand in backticks.

    Raises
    ------
    DataError, OptionError
        DataError for water that was not acquired as the data were, or is no water.
    """
    scaling = scaling.with_headers(fitted.data, water)
    n, n_voxels = len(fitted.fit.params), int(np.prod(fitted.data.fids.shape[:3]))
    if scaling.tissue is not None and scaling.tissue.white.size > 1 and n > n_voxels:
        scaling = replace(scaling, tissue=scaling.tissue.repeated(n // n_voxels))
    fids = None if water is None else water_fids(water, fitted.data, fitted.conjugated, option=option)
    return absolute_concentrations(fitted.fit, fids, scaling, sums=sums, estimate=estimate)
