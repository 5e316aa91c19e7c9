"""Spectra as the MRS view of FSLeyes draws them: of the conjugated FID, first point halved, over ppm or Hz.  NumPy
only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.io.images import image_errors, open_image

from .grids import Voxel, is_inside

if TYPE_CHECKING:
    from fsl.data.image import Image

__all__ = ["COLOURS", "Z95", "DisplayAxes", "displayed", "read_fid", "vertical_limits"]

COLOURS = {
    "data": (0.15, 0.15, 0.15),
    "fit": (0.84, 0.37, 0.0),
    "baseline": (0.0, 0.45, 0.70),
    "residual": (0.55, 0.55, 0.55),
    "contribution": (0.0, 0.62, 0.45),
    "band": (0.84, 0.37, 0.0),
}
"""Red, green, blue of each curve; also distinct to the colour-blind."""

Z95 = 1.959964
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""


class DisplayAxes(Axes):
    """Axes of a FID whose frequencies are the bins of the discrete Fourier transform, as in the MRS view."""

    @classmethod
    def of(cls, path: str | Path) -> DisplayAxes:
        """Return the axes of a NIfTI-MRS file.

        Raises
        ------
        DataError
            If the file is not NIfTI-MRS.
        """
        faults: tuple[type[Exception], ...] = (*image_errors(), LookupError, TypeError)
        try:
            image = open_image(Path(path))
            if not isinstance(image, nibabel.Nifti1Image):  # and those of version 2, which are of this class, too
                raise ValueError("it is of another format")
            codes = image.header.extensions.get_codes()
            header = json.loads(image.header.extensions[codes.index(44)].content)
            frequency, nucleus = (
                value[0] if isinstance(value, list) else value
                for value in (header["SpectrometerFrequency"], header["ResonantNucleus"])
            )
            return cls(int(image.shape[3]), float(image.header["pixdim"][4]), float(frequency), str(nucleus))
        except faults as exc:
            raise DataError(f"{path}: is no NIfTI-MRS file with spectra ({' '.join(str(exc).split())}).") from exc

    def hz(self) -> np.ndarray:
        """Return the offset of every spectral point from the carrier in Hz, shape ``(n_points,)``, ascending."""
        return np.fft.fftshift(np.fft.fftfreq(self.n_points, self.dwelltime))

    def ppm(self) -> np.ndarray:
        """Return the chemical shift of every spectral point in ppm, shape ``(n_points,)``, ascending."""
        return self.hz_to_ppm(self.hz())

    @property
    def metabolite_window(self) -> tuple[float, float]:
        """Range of the metabolites in ppm; the whole axis for nuclei without a usual window."""
        ppm = self.ppm()
        return self.usual_window or (float(ppm[0]), float(ppm[-1]))


def displayed(fid: np.ndarray) -> np.ndarray:
    """Return the complex spectra that are displayed of stored FIDs ``(..., n)``, over :meth:`DisplayAxes.hz`."""
    fid = np.conj(np.asarray(fid, complex))
    fid[..., 0] *= 0.5
    return np.fft.fftshift(np.fft.fft(fid, axis=-1), axes=-1)


def read_fid(image: Image | np.ndarray, voxel: Voxel) -> np.ndarray | None:
    """Return the FID of a voxel, complex ``(n,)``, averaged over every dimension beyond time; None outside of the
    grid."""
    if not is_inside(voxel, image.shape[:3]):
        return None
    values = np.asarray(image[voxel])
    return values.reshape(values.shape[0], -1).mean(1)


def vertical_limits(axes: DisplayAxes, spectra: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return the lowest and highest value of spectra within the metabolites' window, with a margin; None where all are
    zero."""
    ppm = axes.ppm()
    first, last = axes.metabolite_window
    inside = (ppm >= first) & (ppm <= last)
    parts = [spec.real[inside] for spec in spectra if len(spec) == len(ppm)]
    values = np.concatenate(parts) if parts else np.zeros(0)
    values = values[np.isfinite(values)]
    if not values.size or not values.any():
        return None
    low, high = float(values.min()), float(values.max())
    return low - 0.1 * (high - low), high + 0.12 * (high - low)
