"""NIfTI-MRS in and out, through the ``nifti-mrs`` package.

Arrays leave this module in the in-memory convention of :mod:`fsl_mrs_dl.core.units`; files keep the NIfTI-MRS one.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..core.axes import Axes
from ..core.errors import DataError, OutputError
from ..core.fids import usable_fids
from .files import put_in_place

__all__ = [
    "MrsData",
    "load",
    "load_header",
    "from_image",
    "image_of",
    "save",
    "processing_record",
    "check_fids",
    "without",
]

PROGRAM = "FSL-MRS-DL"


@dataclass(frozen=True)
class MrsData:
    """Spectroscopy data in memory.

    ``fids`` is complex, shape ``(x, y, z, n_points[, dim_5[, dim_6[, dim_7]]])``, in the in-memory sign convention;
    ``dim_tags`` names dimensions 5 to 7 that are there; ``header`` is the NIfTI-MRS header extension as a dictionary.
    """

    fids: np.ndarray
    dwelltime: float
    spec_freq_mhz: float
    nucleus: str
    dim_tags: tuple[str, ...] = ()
    header: dict = field(default_factory=dict)
    affine: np.ndarray | None = None
    path: Path | None = None

    @property
    def n_points(self) -> int:
        return self.fids.shape[3]

    @property
    def axes(self) -> Axes:
        """Axes of the FIDs."""
        return Axes(self.n_points, self.dwelltime, self.spec_freq_mhz, self.nucleus)

    @property
    def bandwidth(self) -> float:
        """Spectral width in Hz."""
        return 1 / self.dwelltime

    @property
    def name(self) -> str:
        """The file's name for messages."""
        return str(self.path) if self.path else "the data"

    def axis(self, tag: str) -> int:
        """Array axis of the dimension ``tag``.

        Raises
        ------
        DataError
            If the data have no such dimension; the message lists those there are.
        """
        if tag not in self.dim_tags:
            have = ", ".join(self.dim_tags) or "none"
            raise DataError(f"{self.name}: no dimension {tag} (higher dimensions: {have}); choose one of these.")
        return 4 + self.dim_tags.index(tag)


def load(path: str | Path) -> MrsData:
    """Read a NIfTI-MRS file.

    Raises
    ------
    DataError
        If the file is missing, is not NIfTI-MRS, or holds real numbers.
    """
    return _read(path, from_image)


def load_header(path: str | Path) -> MrsData:
    """As :func:`load` with empty FIDs in place of the file's, which are not read: ``fids`` is ``(1, 1, 1, 2)``.

    Raises
    ------
    DataError
    """
    return _read(path, _described)


def _read(path: str | Path, understand) -> MrsData:
    from nibabel.filebasedimages import ImageFileError
    from nifti_mrs.nifti_mrs import NIFTI_MRS, NotNIFTI_MRS

    path = Path(path)
    file = next((p for p in (path, *(Path(str(path) + ext) for ext in (".nii.gz", ".nii"))) if p.is_file()), None)
    if file is None:
        raise DataError(f"{path}: no such file; give the path of a NIfTI-MRS file (.nii or .nii.gz).")
    try:
        # Links are resolved because the image library reads the extension from the target's name.
        image = NIFTI_MRS(file.resolve(), validate_on_creation=False)
        return understand(image, path=file, name=str(path))
    except NotNIFTI_MRS as exc:
        raise DataError(f"{path}: not a NIfTI-MRS file ({exc}); convert it with spec2nii.") from exc
    except (ImageFileError, OSError, ValueError, KeyError, EOFError, AttributeError) as exc:
        detail = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise DataError(
            f"{path}: cannot be read as NIfTI-MRS ({detail}); convert the scanner's file with spec2nii."
        ) from exc
    except Exception as exc:  # fslpy raises bare classes of its own for a name that is not an image
        if type(exc).__module__.split(".")[0] not in ("fsl", "nifti_mrs", "nibabel"):
            raise
        raise DataError(
            f"{path}: cannot be read as NIfTI-MRS ({exc}); convert the scanner's file with spec2nii."
        ) from exc


def from_image(image, *, path: Path | None = None, name: str | None = None) -> MrsData:
    """A ``NIFTI_MRS`` object of the ``nifti-mrs`` package, or FSL-MRS's, which is one -> data in memory.

    Raises
    ------
    DataError
        If it holds real numbers.
    """
    stored = np.asarray(image.image[:])
    if not np.iscomplexobj(stored):
        raise DataError(
            f"{name or 'the data'}: holds real numbers ({stored.dtype}); complex FIDs are needed: convert the raw data"
            " again."
        )
    return replace(_described(image, path=path, name=name), fids=stored.conj().reshape(image.shape))


def _described(image, *, path: Path | None = None, name: str | None = None) -> MrsData:
    """All that a ``NIFTI_MRS`` object says of its FIDs, with empty ones."""
    return MrsData(
        fids=np.zeros((1, 1, 1, 2), np.complex64),
        dwelltime=float(image.dwelltime),
        spec_freq_mhz=float(image.spectrometer_frequency[0]),
        nucleus=str(image.nucleus[0]),
        dim_tags=tuple(tag for tag in image.dim_tags if tag is not None)[: max(0, len(image.shape) - 4)],
        header=image.hdr_ext.to_dict(),
        affine=np.asarray(image.voxToWorldMat),
        path=path or (Path(name) if name else None),
    )


def processing_record(method: str, details: str) -> dict[str, str]:
    """An entry of the standard's ``ProcessingApplied`` for a step of this package."""
    return {
        "Time": datetime.datetime.now().isoformat(sep="T", timespec="milliseconds"),
        "Program": PROGRAM,
        "Version": __version__,
        "Method": method,
        "Details": details,
    }


def check_fids(data: MrsData, *, need_signal: bool = True) -> np.ndarray:
    """Which spectra can be used: boolean array of the shape of ``data.fids`` without the time axis.

    A spectrum with a value that is not finite, or with nothing but zeros, is unusable.

    Raises
    ------
    DataError
        If ``need_signal`` and not one spectrum is usable, or there are fewer than 16 points.
    """
    if data.n_points < 16:
        raise DataError(f"{data.name}: FIDs have {data.n_points} points; at least 16 are needed.")
    usable = usable_fids(data.fids, axis=3)
    if need_signal and not usable.any():
        raise DataError(
            f"{data.name}: every FID is zero or holds NaN; there is nothing to work on: check the conversion."
        )
    return usable


def without(data: MrsData, tag: str, numbers) -> MrsData:
    """The data less some elements of a dimension, those of its header (``dim_N_header``) that vary along it less
    theirs.

    Raises
    ------
    DataError
        If there is no such dimension.
    """
    axis = data.axis(tag)
    size = data.fids.shape[axis]
    kept = [index for index in range(size) if index not in set(numbers)]

    def cut(value):
        if isinstance(value, list) and len(value) == size:
            return [value[index] for index in kept]
        if isinstance(value, dict) and {"start", "increment"} <= set(value):
            # Evenly spaced values are not so any more; the standard allows a list instead.
            return [value["start"] + index * value["increment"] for index in kept]
        if isinstance(value, dict) and "Value" in value:
            return {**value, "Value": cut(value["Value"])}
        return value

    header = dict(data.header)
    name = f"dim_{axis + 1}_header"
    if isinstance(header.get(name), dict):
        header[name] = {key: cut(value) for key, value in header[name].items()}
    return replace(data, fids=data.fids.take(kept, axis), header=header)


def save(
    path: str | Path,
    data: MrsData,
    *,
    method: str | None = None,
    details: str = "",
    extra: dict[str, tuple[object, str]] | None = None,
) -> Path:
    """Write a NIfTI-MRS file, whole or not at all.

    With ``method`` a record of the step is appended to ``ProcessingApplied`` as the standard asks.  ``extra`` adds
    user-defined header fields, name -> (value, description).  Returns the path written, with its extension.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        path = path.with_name(path.name + ".nii.gz")
    image = image_of(data)
    if method:
        record = processing_record(method, details)
        image.add_hdr_field("ProcessingApplied", list(data.header.get("ProcessingApplied", [])) + [record])
    for key, (value, doc) in (extra or {}).items():
        image.add_hdr_field(key, value, doc=doc)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".nii.gz" if path.name.endswith(".gz") else ".nii", dir=path.parent)
        os.close(handle)
        try:
            image.save(temporary)
            put_in_place(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror}); choose another --output.") from exc
    return path


def image_of(data: MrsData):
    """Data in memory -> a ``NIFTI_MRS`` object of the ``nifti-mrs`` package."""
    from nifti_mrs.create_nmrs import gen_nifti_mrs_hdr_ext
    from nifti_mrs.hdr_ext import Hdr_Ext

    if data.header:
        header = Hdr_Ext.from_header_ext(dict(data.header))
    else:
        header = Hdr_Ext(data.spec_freq_mhz, data.nucleus, dimensions=data.fids.ndim)
        for index, tag in enumerate(data.dim_tags):
            header.set_dim_info(index, tag)
    fids = data.fids.astype(np.complex64 if data.fids.dtype.itemsize <= 8 else np.complex128, copy=False)
    return gen_nifti_mrs_hdr_ext(fids, data.dwelltime, header, affine=data.affine)
