"""Spectra as the MRS view of FSLeyes draws them: of the conjugated FID, first point halved, over ppm or Hz.  NumPy
only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from fsl_mrs_dl.core.errors import DataError

__all__ = ["COLOURS", "PPM_SHIFT", "PPM_WINDOW", "Axis", "displayed", "read_fid", "limits", "z95"]

COLOURS = {
    "data": (0.15, 0.15, 0.15),
    "fit": (0.84, 0.37, 0.0),
    "baseline": (0.0, 0.45, 0.70),
    "residual": (0.55, 0.55, 0.55),
    "contribution": (0.0, 0.62, 0.45),
    "band": (0.84, 0.37, 0.0),
}
"""Red, green, blue of each curve; they differ for the colour-blind, too."""

PPM_SHIFT = {"1H": 4.65, "2H": 4.80, "13C": 0.0, "31P": 0.0}
"""What the spectrometer frequency is in ppm, by NIfTI-MRS's convention."""

PPM_WINDOW = {"1H": (0.2, 4.2), "2H": (0.0, 6.0), "13C": (10.0, 100.0), "31P": (-20.0, 10.0)}
"""Where metabolites are."""

z95 = 1.959964


@dataclass(frozen=True)
class Axis:
    """The frequency axis of an FID: dwell time in s, spectrometer frequency in MHz, nucleus, points."""

    dwelltime: float
    spec_freq_mhz: float
    nucleus: str
    n_points: int

    @classmethod
    def of(cls, path: str | Path) -> Axis:
        """That of a NIfTI-MRS file.

        Raises
        ------
        DataError
            If it is none.
        """
        try:
            image = nibabel.load(path)
            codes = image.header.extensions.get_codes()
            about = json.loads(image.header.extensions[codes.index(44)].get_content())
            frequency, nucleus = about["SpectrometerFrequency"], about["ResonantNucleus"]
            first = lambda value: value[0] if isinstance(value, list) else value  # noqa: E731
            return cls(
                float(image.header["pixdim"][4]), float(first(frequency)), str(first(nucleus)), int(image.shape[3])
            )
        except (OSError, ValueError, KeyError, IndexError, nibabel.filebasedimages.ImageFileError) as exc:
            raise DataError(f"{path}: is no NIfTI-MRS file with spectra ({' '.join(str(exc).split())}).") from exc

    @property
    def hz(self) -> np.ndarray:
        """Offsets from the spectrometer frequency, ascending, ``(n_points,)``."""
        return np.fft.fftshift(np.fft.fftfreq(self.n_points, self.dwelltime))

    def ppm(self, hz: np.ndarray) -> np.ndarray:
        """Chemical shifts of such offsets."""
        return np.asarray(hz) / self.spec_freq_mhz + PPM_SHIFT.get(self.nucleus, 0.0)

    @property
    def window(self) -> tuple[float, float]:
        """The ppm in which metabolites are; all of the axis for nuclei that are not known."""
        ends = self.ppm(self.hz[[0, -1]])
        return PPM_WINDOW.get(self.nucleus, (float(ends[0]), float(ends[1])))


def displayed(fid: np.ndarray) -> np.ndarray:
    """Stored FIDs ``(..., n)`` -> complex spectra as they are displayed, over :attr:`Axis.hz`."""
    fid = np.conj(np.asarray(fid, complex))
    fid[..., 0] *= 0.5
    return np.fft.fftshift(np.fft.fft(fid, axis=-1), axes=-1)


def read_fid(image, voxel: tuple[int, int, int]) -> np.ndarray | None:
    """The FID of a voxel, complex ``(n,)``, the mean over what dimensions there are beyond time; None outside of the
    grid."""
    if any(not 0 <= index < size for index, size in zip(voxel, image.shape[:3])):
        return None
    values = np.asarray(image[voxel])
    return values.reshape(values.shape[0], -1).mean(1)


def limits(axis: Axis, spectra: list[np.ndarray]) -> tuple[float, float] | None:
    """From where to where curves reach within the window, with a margin; None where there is nothing but zeros."""
    ppm = axis.ppm(axis.hz)
    inside = (ppm >= axis.window[0]) & (ppm <= axis.window[1])
    values = [spec.real[inside] for spec in spectra if spec is not None and len(spec) == len(ppm)]
    values = np.concatenate(values) if values else np.zeros(0)
    values = values[np.isfinite(values)]
    if not values.size or not values.any():
        return None
    low, high = float(values.min()), float(values.max())
    return low - 0.1 * (high - low), high + 0.12 * (high - low)
