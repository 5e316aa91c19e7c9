"""Fits with the in-vivo model, read from a folder of results for ``fsl_mrs_summarise``.

FSL-MRS computes the spectra of a folder again from the parameters of its own models, which the in-vivo model has not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..io import nifti

__all__ = ["StoredFit"]


class StoredFit:
    """The part of a ``FitRes`` that ``fsl_mrs_summarise`` draws, from the files of a folder.

    Attributes
    ----------
    pred, baseline, residuals : complex ndarray ``(n_points,)``
        In the scale of the MRS object; the baseline is zero where the folder has no file of it.
    ppmlim : (float, float)
    """

    def __init__(self, mrs, folder: Path, ppmlim: tuple[float, float]):
        """Read the folder's fit.

        Raises
        ------
        DataError
            If it has none that belongs to the data.
        """
        self.ppmlim = tuple(ppmlim)
        self.pred = self._read(mrs, folder / "fit.nii.gz")
        baseline = folder / "fit_baseline.nii.gz"
        self.baseline = self._read(mrs, baseline) if baseline.is_file() else np.zeros_like(self.pred)
        self.residuals = mrs.FID - self.pred

    @staticmethod
    def _read(mrs, path: Path) -> np.ndarray:
        fids = nifti.load(path).fids.reshape(-1)
        if len(fids) != mrs.numPoints:
            raise DataError(f"{path}: has {len(fids)} points and the data {mrs.numPoints}; fit the data again.")
        return fids * mrs.fid_scaling

    def combine(self, combineList) -> None:
        """Do nothing: sums stand in the tables, which ``fsl_mrs_summarise`` reads by itself."""
