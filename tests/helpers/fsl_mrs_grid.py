"""Basis sets on another time grid as FSL-MRS has them, for comparisons with its fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np


def cut_as_lcmodel(basis, dwelltime, n_points):
    """FIDs as LCModel and FSL-MRS bring them to another bandwidth: whole bins are cut from, or added to, both sides of
    the spectrum."""
    half = round((1 / dwelltime - basis.bandwidth) * basis.n_points / basis.bandwidth / 2)
    spectra = np.fft.fftshift(np.fft.fft(basis.fids), axes=-1)
    spectra = spectra[:, -half:half] if half < 0 else np.pad(spectra, ((0, 0), (half, half)))
    return np.fft.ifft(np.fft.ifftshift(spectra, axes=-1))[:, :n_points] * spectra.shape[1] / basis.n_points


def as_fsl_mrs(basis, dwelltime, n_points):
    """The basis set with the FIDs that FSL-MRS fits to such data."""
    return replace(basis, fids=cut_as_lcmodel(basis, dwelltime, n_points), dwelltime=dwelltime)
