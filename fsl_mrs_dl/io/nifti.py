"""Read and write NIfTI-MRS files, through the ``nifti-mrs`` package.

Arrays leave this module in the in-memory convention of :mod:`fsl_mrs_dl.core.units`; files keep the NIfTI-MRS one.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..core.axes import Axes
from ..core.errors import DataError, OutputError
from ..core.fids import usable_fids
from ..core.units import in_mhz
from .output import whole_file

__all__ = [
    "MrsData",
    "load",
    "load_header",
    "open_image",
    "from_image",
    "image_of",
    "save",
    "processing_record",
    "check_fids",
    "without",
]

PROGRAM = "FSL-MRS-DL"
_CONVERT = "convert the scanner's file with spec2nii"


@dataclass(frozen=True)
class MrsData:
    """Spectroscopy data in memory.

    Attributes
    ----------
    fids : complex ndarray, shape ``(x, y, z, n_points[, dim_5[, dim_6[, dim_7]]])``
        In the in-memory sign convention.
    dwelltime : float
        Seconds.
    spec_freq_mhz : float
    nucleus : str
    dim_tags : tuple of str
        Tags of the dimensions from the fifth on.
    header : dict
        NIfTI-MRS header extension.
    affine : ndarray ``(4, 4)``, optional
        Voxels to millimetres.
    path : path, optional
        File that the data were read from.
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
        """Points of an FID."""
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
        """Name of the file, for messages."""
        return str(self.path) if self.path else "the data"

    def axis(self, tag: str) -> int:
        """Return the array axis of the dimension ``tag``.

        Raises
        ------
        DataError
            If the data have no such dimension; the message lists the others.
        """
        if tag not in self.dim_tags:
            have = ", ".join(self.dim_tags) or "none"
            raise DataError(
                f"{self.name}: no dimension {tag} (higher dimensions: {have})", remedy="choose one of these"
            )
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
    """Read everything of a NIfTI-MRS file but its FIDs; ``fids`` is zero and of shape ``(1, 1, 1, 2)``.

    Raises
    ------
    DataError
    """
    return _read(path, _without_fids)


def _read(path: str | Path, convert: Callable[..., MrsData]) -> MrsData:
    """Open a file as ``NIFTI_MRS`` and convert that; every failure becomes a DataError."""
    from nibabel.filebasedimages import ImageFileError
    from nifti_mrs.nifti_mrs import NIFTI_MRS, NotNIFTI_MRS

    path = Path(path)
    file = next((p for p in (path, *(Path(str(path) + ext) for ext in (".nii.gz", ".nii"))) if p.is_file()), None)
    if file is None:
        raise DataError(f"{path}: no such file", remedy="give the path of a NIfTI-MRS file (.nii or .nii.gz)")
    try:
        # The image library reads the extension from the name of a link's target, and in small letters only.
        target = file.resolve()
        source = target if target.name.endswith((".nii", ".nii.gz")) else open_image(target)
        image = NIFTI_MRS(source, validate_on_creation=False)
        return convert(image, path=file, name=str(path))
    except NotNIFTI_MRS as exc:
        raise DataError(f"{path}: not a NIfTI-MRS file ({exc})", remedy="convert it with spec2nii") from exc
    except (ImageFileError, OSError, ValueError, KeyError, EOFError, AttributeError) as exc:
        detail = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise DataError(f"{path}: cannot be read as NIfTI-MRS ({detail})", remedy=_CONVERT) from exc
    except Exception as exc:  # fslpy raises bare classes of its own for a name that is not an image
        if type(exc).__module__.split(".")[0] not in ("fsl", "nifti_mrs", "nibabel"):
            raise
        raise DataError(f"{path}: cannot be read as NIfTI-MRS ({exc})", remedy=_CONVERT) from exc


def open_image(path: Path):
    """Open a NIfTI file, whatever letters its ending is written in; its array is read on demand.

    Raises
    ------
    nibabel.filebasedimages.ImageFileError, OSError
        If it is no NIfTI file.
    """
    import nibabel
    from nibabel.fileholders import FileHolder

    if path.name.endswith((".nii", ".nii.gz")):
        return nibabel.load(path)
    holders = {"header": FileHolder(str(path)), "image": FileHolder(str(path))}
    try:
        return nibabel.Nifti2Image.from_file_map(holders)
    except (nibabel.spatialimages.HeaderDataError, nibabel.filebasedimages.ImageFileError, ValueError):
        return nibabel.Nifti1Image.from_file_map(holders)


def from_image(image, *, path: Path | None = None, name: str | None = None) -> MrsData:
    """Convert a ``NIFTI_MRS`` object of the ``nifti-mrs`` package or of FSL-MRS to data in memory.

    Raises
    ------
    DataError
        If it holds real numbers.
    """
    stored = np.asarray(image.image[:])
    if not np.iscomplexobj(stored):
        raise DataError(
            f"{name or 'the data'}: holds real numbers ({stored.dtype})",
            remedy="complex FIDs are needed: convert the raw data again",
        )
    return replace(_without_fids(image, path=path, name=name), fids=stored.conj().reshape(image.shape))


def _without_fids(image, *, path: Path | None = None, name: str | None = None) -> MrsData:
    """Convert everything of a ``NIFTI_MRS`` object but its FIDs, which are zero."""
    frequencies = [in_mhz(float(frequency)) for frequency in image.spectrometer_frequency]
    header = image.hdr_ext.to_dict()
    if "SpectrometerFrequency" in header and header["SpectrometerFrequency"] != frequencies:
        header["SpectrometerFrequency"] = frequencies
    return MrsData(
        fids=np.zeros((1, 1, 1, 2), np.complex64),
        dwelltime=float(image.dwelltime),
        spec_freq_mhz=frequencies[0],
        nucleus=str(image.nucleus[0]),
        dim_tags=tuple(tag for tag in image.dim_tags if tag is not None)[: max(0, len(image.shape) - 4)],
        header=header,
        affine=np.asarray(image.voxToWorldMat),
        path=path or (Path(name) if name else None),
    )


def processing_record(method: str, details: str) -> dict[str, str]:
    """Return an entry of the standard's ``ProcessingApplied`` for a step of this package."""
    return {
        "Time": datetime.datetime.now().isoformat(sep="T", timespec="milliseconds"),
        "Program": PROGRAM,
        "Version": __version__,
        "Method": method,
        "Details": details,
    }


def check_fids(data: MrsData, *, need_signal: bool = True) -> np.ndarray:
    """Return which spectra can be used, bool of the shape of ``data.fids`` without the time axis.

    A spectrum with a value that is not finite, or with nothing but zeros, is unusable.

    Raises
    ------
    DataError
        If ``need_signal`` and not one spectrum is usable, or there are fewer than 16 points.
    """
    if data.n_points < 16:
        raise DataError(f"{data.name}: FIDs have {data.n_points} points", remedy="at least 16 are needed")
    usable = usable_fids(data.fids, axis=3)
    if need_signal and not usable.any():
        raise DataError(
            f"{data.name}: every FID is zero or holds NaN",
            remedy="there is nothing to work on: check the conversion",
        )
    return usable


def without(data: MrsData, tag: str, numbers) -> MrsData:
    """Remove elements of a dimension from data, and from the entries of ``dim_N_header`` that vary along it.

    Raises
    ------
    DataError
        If there is no such dimension.
    """
    axis = data.axis(tag)
    size = data.fids.shape[axis]
    remaining = [index for index in range(size) if index not in set(numbers)]

    def cut(value):
        if isinstance(value, list) and len(value) == size:
            return [value[index] for index in remaining]
        if isinstance(value, dict) and {"start", "increment"} <= set(value):
            # The values are no longer evenly spaced; the standard allows a list instead.
            return [value["start"] + index * value["increment"] for index in remaining]
        if isinstance(value, dict) and "Value" in value:
            return {**value, "Value": cut(value["Value"])}
        return value

    header = dict(data.header)
    name = f"dim_{axis + 1}_header"
    if isinstance(header.get(name), dict):
        header[name] = {key: cut(value) for key, value in header[name].items()}
    return replace(data, fids=data.fids.take(remaining, axis), header=header)


def divided(data: MrsData, tag: str, labels, new_tag: str) -> MrsData:
    """Divide a dimension into two: the elements of each label, in order, along ``tag``, and the labels along a new last
    dimension.

    The dimension's ``dim_N_header``, whose entries vary along it, is dropped.

    Parameters
    ----------
    data : MrsData
    tag : str
    labels : ndarray of int, shape (n,)
        Of every element, from 0; each as often as the others.
    new_tag : str

    Raises
    ------
    DataError
        If there is no such dimension, there is one of the new tag already or no room for it, or the labels are not
        equally frequent.
    """
    axis, labels = data.axis(tag), np.asarray(labels)
    if new_tag in data.dim_tags or len(data.dim_tags) > 2:
        raise DataError(
            f"{data.name}: has no room for a dimension {new_tag} (higher dimensions: {', '.join(data.dim_tags)})",
            remedy="combine coils first, or leave the order out where the file has that dimension",
        )
    counts = np.bincount(labels)
    if len(set(counts.tolist())) > 1:
        raise DataError(
            f"{data.name}: its {len(labels)} elements of {tag} do not divide evenly into {len(counts)} conditions",
            remedy="check the order, and whether elements are missing",
        )
    parts = [data.fids.take(np.flatnonzero(labels == label), axis) for label in range(len(counts))]
    header = {key: value for key, value in data.header.items() if key != f"dim_{axis + 1}_header"}
    if header:
        header[f"dim_{data.fids.ndim + 1}"] = new_tag
    return replace(data, fids=np.stack(parts, -1), dim_tags=(*data.dim_tags, new_tag), header=header)


def save(
    path: str | Path,
    data: MrsData,
    *,
    method: str | None = None,
    details: str = "",
    extra: dict[str, tuple[object, str]] | None = None,
) -> Path:
    """Write a NIfTI-MRS file, whole or not at all.

    Parameters
    ----------
    path : path
        ``.nii.gz`` is appended where it has no extension.
    data : MrsData
    method, details : str
        Record of the step for ``ProcessingApplied``; none without ``method``.
    extra : dict
        User-defined header fields, name -> (value, description).

    Returns
    -------
    Path
        The file, with its extension.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        path = path.with_name(path.name + ".nii.gz")
    image = image_of(data)
    if method:
        record = processing_record(method, details)
        image.add_hdr_field("ProcessingApplied", list(data.header.get("ProcessingApplied", [])) + [record])
    for key, (value, doc) in (extra or {}).items():
        image.add_hdr_field(key, value, doc=doc)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror})", remedy="choose another `output`") from exc
    with whole_file(path, ".nii.gz" if path.name.lower().endswith(".gz") else ".nii") as temporary:
        image.save(str(temporary))
    return path


def image_of(data: MrsData):
    """Convert data in memory to a ``NIFTI_MRS`` object of the ``nifti-mrs`` package."""
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
