"""Alignment and Newton fit of FSL-MRS, as reference methods of the benchmarks."""

from __future__ import annotations

import numpy as np
import torch
from fsl_mrs.core import MRS

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.io.basis import Basis

__all__ = ["fsl_mrs_align", "fsl_mrs_newton", "mrs_of", "squared_residual"]


def fsl_mrs_align(fids, axes: Axes, *, ppmlim=(0.2, 4.2), target=None) -> tuple[np.ndarray, np.ndarray]:
    """Align transients by FSL-MRS with the default options of its command.

    Parameters
    ----------
    fids : complex array ``(n_transients, n_points)``
    axes : Axes
        Of the FIDs.
    ppmlim : (float, float)
        Window in ppm.
    target : complex array ``(n_points,)``, optional
        FID that transients are aligned to; chosen by FSL-MRS by default.

    Returns
    -------
    shift_hz, phase_deg : ndarray ``(n_transients,)``
        With :mod:`fsl_mrs_dl.registration.alignment`'s signs.
    """
    from fsl_mrs.utils.preproc import phase_freq_align

    _, phase, shift = phase_freq_align(
        list(fids), axes.bandwidth, axes.spec_freq_mhz * 1e6, nucleus="1H", ppmlim=ppmlim, niter=2, target=target
    )
    return np.array(shift), np.rad2deg(np.array(phase))


def fsl_mrs_newton(fids, basis: Basis, axes: Axes, *, model: str = "lorentzian", ppmlim=(0.2, 4.2)) -> np.ndarray:
    """Fit concentrations by FSL-MRS Newton in the units of FIDs and basis set, spectrum by spectrum, without baseline.

    Parameters
    ----------
    fids : complex array ``(n, n_points)``
    basis : Basis
    axes : Axes
        Of the FIDs.
    model : str
        Line shape, by FSL-MRS's names.
    ppmlim : (float, float)
        Window in ppm.

    Returns
    -------
    ndarray ``(n, n_metabs)``
    """
    from fsl_mrs.utils.fitting import fit_FSLModel

    concentrations = []
    for fid in fids:
        mrs = mrs_of(fid, basis, axes)
        mrs.processForFitting()
        result = fit_FSLModel(mrs, method="Newton", model=model, ppmlim=ppmlim, baseline="off")
        scale = np.asarray(mrs.scaling["basis"], float) / float(mrs.scaling["FID"])
        concentrations.append(np.asarray(result.getConc(scaling="raw"))[: len(basis.names)] * scale)
    return np.array(concentrations)


def mrs_of(fid: np.ndarray, basis: Basis, axes: Axes) -> MRS:
    """Return FSL-MRS's object of a FID ``(n_points,)`` and a basis set, not scaled yet."""
    from fsl_mrs.core.basis import Basis as FslMrsBasis

    header = {
        "centralFrequency": axes.spec_freq_mhz,
        "bandwidth": axes.bandwidth,
        "dwelltime": axes.dwelltime,
        "fwhm": None,
        "nucleus": basis.nucleus,
    }
    fids = basis.resampled(axes.dwelltime, fid.shape[-1])
    fsl_basis = FslMrsBasis(fids.T, list(basis.names), [dict(header) for _ in basis.names])
    return MRS(FID=fid, cf=axes.spec_freq_mhz, bw=axes.bandwidth, nucleus=basis.nucleus, basis=fsl_basis)


def squared_residual(fit, mrs: MRS, theirs) -> float:
    """Return the squared residual of FSL-MRS's fit as that of ours is counted, with the spline's penalty.

    FSL-MRS makes its polynomials with a rank-deficient inverse whose rounding differs from call to call, so that its
    own prediction is not always that of its fit: both get the best baseline for their metabolites.

    Parameters
    ----------
    fit : fsl_mrs_dl.fitting.quantification.Quantification
        Of the same spectrum.
    mrs : fsl_mrs.core.MRS
    theirs : fsl_mrs.utils.results.FitRes
    """
    first, last = fit.model.window
    metabolites = fid_to_spec(theirs.predictedFID(mrs, mode="Full", noBaseline=True))
    rest = torch.as_tensor((mrs.get_spec() - metabolites)[first:last])
    return fit.model.eliminate_baseline(rest[None]).abs().square().sum().item()
