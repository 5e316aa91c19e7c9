"""FSL-MRS's own alignment and Newton fit, as reference methods of the benchmarks."""

from __future__ import annotations

import numpy as np
from fsl_mrs.core import MRS

__all__ = ["its_align", "its_fit"]


def its_align(fids, *, dwelltime: float, spec_freq_mhz: float, ppmlim=(0.2, 4.2), target=None):
    """FSL-MRS's own alignment with the options its command has by default.

    Parameters
    ----------
    fids : complex array ``(n_transients, n_points)``
    dwelltime, spec_freq_mhz : float
        Seconds, MHz.
    target : complex array ``(n_points,)``, optional
        What is aligned to; by default FSL-MRS finds one.

    Returns
    -------
    shift_hz, phase_deg : ndarray ``(n_transients,)``
        With :mod:`fsl_mrs_dl.registration.alignment`'s signs.
    """
    from fsl_mrs.utils.preproc import phase_freq_align

    _, phase, shift = phase_freq_align(
        list(fids), 1 / dwelltime, spec_freq_mhz * 1e6, nucleus="1H", ppmlim=ppmlim, niter=2, target=target
    )
    return np.array(shift), np.rad2deg(np.array(phase))


def its_fit(fids, basis, *, dwelltime: float, spec_freq_mhz: float, model: str = "lorentzian", ppmlim=(0.2, 4.2)):
    """Concentrations by FSL-MRS Newton in the units of FIDs and basis set, one spectrum after the other, without a
    baseline.

    Parameters
    ----------
    fids : complex array ``(n, n_points)``
    basis : Basis
    dwelltime, spec_freq_mhz : float
        Seconds, MHz.

    Returns
    -------
    ndarray ``(n, n_metabs)``
    """
    from fsl_mrs.core.basis import Basis as TheirBasis
    from fsl_mrs.utils.fitting import fit_FSLModel

    n_points = fids.shape[-1]
    headers = [
        {
            "centralFrequency": spec_freq_mhz,
            "bandwidth": 1 / dwelltime,
            "dwelltime": dwelltime,
            "fwhm": None,
            "nucleus": basis.nucleus,
        }
        for _ in basis.names
    ]
    theirs = TheirBasis(basis.resampled(dwelltime, n_points).T, list(basis.names), headers)
    out = []
    for fid in fids:
        mrs = MRS(FID=fid, cf=spec_freq_mhz, bw=1 / dwelltime, nucleus=basis.nucleus, basis=theirs)
        mrs.processForFitting()
        result = fit_FSLModel(mrs, method="Newton", model=model, ppmlim=ppmlim, baseline="off")
        scale = np.asarray(mrs.scaling["basis"], float) / float(mrs.scaling["FID"])
        out.append(np.asarray(result.getConc(scaling="raw"))[: len(basis.names)] * scale)
    return np.array(out)
