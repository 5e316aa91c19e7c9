"""Images of FSLeyes that are read from results or made from them: spectra, maps, outlines."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from fsl.data.image import Image
from fsleyes_plugin_mrs.utils import is_nifti_mrs

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.io.images import image_errors

from .results_folder import Results

__all__ = ["CURVES", "MemoryImage", "first_volume", "open_image", "open_structural", "read_curves", "write"]

CURVES = ("data", "fit", "baseline", "residual")
"""Names of the spectra of a fit, in the order of their drawing."""

_KEPT_BYTES = 400e6  # size of spectra up to which they are read into memory, so that the folder may vanish


class MemoryImage(Image):
    """An image computed from results.  It never counts as unsaved, since closing it loses nothing."""

    @property
    def saveState(self) -> bool:  # noqa: N802, FSLeyes's name
        """Whether it is saved: always."""
        return True


def open_image(path: str | Path, content: str) -> Image:
    """Open a file as an image of FSLeyes.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read; ``content`` describes it, for example "T1".
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file ({content}).")
    try:
        image = Image(str(path))
        if np.prod(image.shape) * image.dtype.itemsize <= _KEPT_BYTES:
            return _in_memory(image, path)
        return image
    except Exception as exc:  # the readers of FSLeyes raise many kinds
        raise DataError(f"{path}: cannot be read as {content} ({' '.join(str(exc).split())}).") from exc


def open_structural(path: str | Path) -> Image:
    """Open a structural image.

    Raises
    ------
    DataError
        If there is no such file, it cannot be read, or it has no grey values.
    """
    image = open_image(path, "T1")
    if np.dtype(image.dtype).kind in "cV":
        raise DataError(f"{path}: holds colours or spectra; give a structural image.")
    return image


def first_volume(image: Image) -> np.ndarray:
    """Return the values of an image ``(x, y, z)``, the first ones along every dimension beyond."""
    values = np.asarray(image[:])
    return values.reshape(*image.shape[:3], -1)[..., 0]


def _in_memory(image: Image, path: Path) -> Image:
    """Return the image with its values in memory; raise an error of the reader where they cannot be read."""
    values = np.asarray(image.nibImage.dataobj)
    return MemoryImage(values, name=image.name, header=image.header, dataSource=str(path))


def read_curves(results: Results, data: str | Path | None) -> dict[str, Image]:
    """Return images of the spectra by the names of :data:`CURVES`; data and residual are computed where they have no
    file.  Files of the folder that cannot be read are added to ``results.problems``.

    Raises
    ------
    DataError
        If ``data`` cannot be read, or have another shape than the fit.
    """
    images: dict[str, Image] = {}
    for name in ("fit", "baseline", "residual"):
        path = results.spectrum(name)
        if path is not None:
            try:
                image = open_image(path, name)
            except DataError as exc:
                results.problems.append(str(exc))
                continue
            if is_nifti_mrs(image):
                images[name] = image
            else:
                results.problems.append(f"{path}: is no NIfTI-MRS file; make the results again.")
    fit = images.get("fit")
    source = data if data is not None else results.linked_data
    if source is not None:
        try:
            measured = _measured(source, fit, required=data is not None)
        except DataError as exc:
            if data is not None:
                raise
            measured = None
            results.problems.append(str(exc))
        if measured is not None:
            images["data"] = measured
    _add_missing(images, results)
    return {name: images[name] for name in CURVES if name in images}


def _add_missing(images: dict[str, Image], results: Results) -> None:
    """Compute data, or residual, from the other and the fit where they have no file."""
    fit, data, residual = (images.get(name) for name in ("fit", "data", "residual"))
    try:
        if fit is not None and data is None and residual is not None and residual.shape == fit.shape:
            images["data"] = _like(fit, np.asarray(fit[:]) + np.asarray(residual[:]), "data")
        if fit is not None and data is not None and residual is None and data.shape == fit.shape:
            images["residual"] = _like(fit, np.asarray(data[:]) - np.asarray(fit[:]), "residual")
    except image_errors() as exc:  # of spectra that are too large to be read at once
        results.problems.append(f"{results.folder}: spectra cannot be read ({' '.join(str(exc).split())}).")


def _measured(source: str | Path, fit: Image | None, required: bool) -> Image | None:
    """Return the measured data, averaged over dimensions that the fit has not; None where they do not match the fit
    and are not required."""
    measured = open_image(source, "data")
    if not is_nifti_mrs(measured):
        raise DataError(f"{source}: is no NIfTI-MRS file.")
    if fit is None:
        return measured
    if measured.shape[:4] != fit.shape[:4]:
        if not required:
            return None
        raise DataError(
            f"{source}: has {measured.shape[:4]} voxels and points, the fit {fit.shape[:4]}; give the data that were"
            " fitted."
        )
    if measured.ndim > fit.ndim:
        try:
            return _like(fit, np.asarray(measured[:]).reshape(*fit.shape[:4], -1).mean(-1), "data")
        except image_errors() as exc:
            raise DataError(f"{source}: cannot be read as data ({' '.join(str(exc).split())}).") from exc
    return measured


def _like(fit: Image, fids: np.ndarray, name: str) -> Image:
    """Return FIDs as an image in memory with the header of another, its NIfTI-MRS extension included."""
    nifti = nibabel.Nifti2Image(fids.astype(np.complex64), fit.voxToWorldMat, header=fit.header)
    image = MemoryImage(nifti, name=name)
    if not is_nifti_mrs(image):
        image.nifti_mrs = fit.nifti_mrs
    return image


def write(image: Image, values: np.ndarray) -> None:
    """Set the values of an image where they differ, since setting them draws it again."""
    values = np.asarray(values, image.dtype)
    if not np.array_equal(image[:].reshape(values.shape), values, equal_nan=values.dtype.kind == "f"):
        image[:] = values
