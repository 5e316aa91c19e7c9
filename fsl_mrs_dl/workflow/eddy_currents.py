"""Eddy-current correction by a water reference (Klose, doi 10.1002/mrm.1910140104), where it makes the fit better.

The in-vivo model corrects within its own fit; this is for FSL-MRS's model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..fitting.data import fit_data, water_fids
from ..fitting.fitted_data import FittedData
from ..fitting.header_facts import with_header
from ..fitting.in_vivo.water_reference import water_reference
from ..fitting.options import FitOptions
from ..io.basis import Basis
from ..io.nifti import MrsData, with_record
from .steps import Step

__all__ = ["without_eddy_currents"]

_CLEARLY = 10.0  # gain in log likelihood per spectrum from which a correction is kept


def without_eddy_currents(
    fitted: FittedData, water: MrsData, basis: Basis, options: FitOptions
) -> tuple[FittedData, Step]:
    """Fit again with the phase of water taken off, and return the better of the two fits.

    Parameters
    ----------
    fitted : FittedData
        The fit without correction.
    water : MrsData
    basis : Basis
    options : FitOptions

    Raises
    ------
    DataError
        If the water was not acquired as the data were.
    """
    name, data = "eddy currents", fitted.data
    if with_header(options, data).eddy_currents_corrected:
        return fitted, Step(name, False, "corrected before, as the header says")
    fids = np.moveaxis(data.fids, 3, -1)
    rows = fids.reshape(-1, fids.shape[-1])
    reference = water_reference(water_fids(water, data, False), data.axes)
    if len(reference.usable) == 1 and len(rows) > 1:
        reference = reference.rows(np.zeros(len(rows), int))
    corrected = np.moveaxis(reference.corrected(rows).reshape(fids.shape), -1, 3).astype(data.fids.dtype)
    details = "fsl_mrs_dl run, phase of the water reference."
    again = fit_data(with_record(replace(data, fids=corrected), "Eddy current correction", details), basis, options)
    gain = float(np.nanmedian(_log_likelihood(again) - _log_likelihood(fitted)))
    misfit = {"misfit_without": _misfit(fitted), "misfit_with": _misfit(again)}
    if gain > _CLEARLY:
        return again, Step(name, True, "the phase of the water reference was taken off; the fit is better", misfit)
    return fitted, Step(name, False, "the phase of the water reference does not make the fit better", misfit)


def _log_likelihood(fitted: FittedData) -> np.ndarray:
    """Return the log likelihood of every spectrum at its own noise, but for a constant, ``(n,)``."""
    fit = fitted.fit
    first, last = fitted.data.axes.window(fit.model.ppmlim)
    return -2 * (last - first) * np.log(fit.noise_sd / fit.fid_scale)


def _misfit(fitted: FittedData) -> float:
    return float(np.nanmedian(fitted.fit.misfit))
