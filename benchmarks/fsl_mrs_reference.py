"""Alignment and Newton fit of FSL-MRS, as reference methods of the benchmarks."""

from __future__ import annotations

import numpy as np
from fsl_mrs.core import MRS

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.io.basis import Basis

__all__ = ["fsl_mrs_align", "fsl_mrs_newton"]


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
    from fsl_mrs.core.basis import Basis as FslMrsBasis
    from fsl_mrs.utils.fitting import fit_FSLModel

    n_points = fids.shape[-1]
    headers = [
        {
            "centralFrequency": axes.spec_freq_mhz,
            "bandwidth": axes.bandwidth,
            "dwelltime": axes.dwelltime,
            "fwhm": None,
            "nucleus": basis.nucleus,
        }
        for _ in basis.names
    ]
    fsl_basis = FslMrsBasis(basis.resampled(axes.dwelltime, n_points).T, list(basis.names), headers)
    concentrations = []
    for fid in fids:
        mrs = MRS(FID=fid, cf=axes.spec_freq_mhz, bw=axes.bandwidth, nucleus=basis.nucleus, basis=fsl_basis)
        mrs.processForFitting()
        result = fit_FSLModel(mrs, method="Newton", model=model, ppmlim=ppmlim, baseline="off")
        scale = np.asarray(mrs.scaling["basis"], float) / float(mrs.scaling["FID"])
        concentrations.append(np.asarray(result.getConc(scaling="raw"))[: len(basis.names)] * scale)
    return np.array(concentrations)
