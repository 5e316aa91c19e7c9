"""Read and write NIfTI-MRS files, through the ``nifti-mrs`` package.

Arrays leave this module in the in-memory convention of :mod:`fsl_mrs_dl.core.units`; files keep the NIfTI-MRS one.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..core import units
from ..core.axes import Axes
from ..core.errors import DataError, OutputError
from ..core.fids import usable_fids, why_unusable
from .files import json_content
from .header_keys import carrier_ppm, start_time_s, tidy_header
from .images import damage_of, image_errors, open_image
from .output import whole_file

__all__ = [
    "PROGRAM",
    "MrsData",
    "load",
    "load_header",
    "on_grid",
    "from_image",
    "as_stored",
    "carrier_turn",
    "from_echo",
    "points_before_echo",
    "image_of",
    "save",
    "processing_record",
    "with_record",
    "check_fids",
    "conjugated",
    "element",
    "without",
    "without_dimension",
]

PROGRAM = "FSL-MRS-DL"
_EXTENSION = 44  # code of the standard's header extension
_LONGEST_DWELLTIME_S = 0.1
_NO_FIDS = (1, 1, 1, 2)
_CONVERT = "convert the scanner's file with spec2nii"
_NO_SPECTRA = "convert the scanner's spectra with spec2nii; a structural image is given as `t1`"


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
    notes : tuple of str
        Repairs made when they were read, in sentences.
    moved_hz : float
        Hz that spectra were moved up by when they were read, because the file's carrier is not at the nucleus' usual
        chemical shift.
    stored_points : int
        Points of an FID in the file, where the FIDs were not read.
    """

    fids: np.ndarray
    dwelltime: float
    spec_freq_mhz: float
    nucleus: str
    dim_tags: tuple[str, ...] = ()
    header: dict = field(default_factory=dict)
    affine: np.ndarray | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()
    moved_hz: float = 0.0
    stored_points: int = 0

    def __repr__(self) -> str:
        tags = "".join(f", {tag} {size}" for tag, size in zip(self.dim_tags, self.fids.shape[4:]))
        voxels = " x ".join(map(str, self.fids.shape[:3]))
        return (
            f"MrsData({self.name}: {voxels} voxels, {self.n_points} points{tags}, {self.nucleus} at"
            f" {self.spec_freq_mhz:g} MHz, dwell time {1e3 * self.dwelltime:g} ms)"
        )

    @property
    def n_points(self) -> int:
        """Points of an FID."""
        return self.fids.shape[3]

    @property
    def axes(self) -> Axes:
        """Axes of the FIDs."""
        return Axes(self.n_points, self.dwelltime, self.spec_freq_mhz, self.nucleus)

    @property
    def usual_ppm(self) -> float:
        """Chemical shift in the middle of spectra."""
        return units.nucleus(self.nucleus).ppm_reference

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
            have = ", ".join(self.dim_tags)
            raise DataError(
                f"{self.name}: no dimension {tag} (higher dimensions: {have or 'none'})",
                remedy="choose one of these" if have else "leave it out",
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


def on_grid(data: MrsData) -> MrsData:
    """Return data that :func:`load_header` read with FIDs of a single zero, in the number of voxels of the file."""
    assert data.path is not None
    shape = (*open_image(data.path.resolve()).shape, 1, 1, 1)[:3]
    return replace(data, fids=np.zeros((*shape, 1), complex))


def _read(path: str | Path, convert: Callable[..., MrsData]) -> MrsData:
    """Open a file as ``NIFTI_MRS`` and convert that; every failure becomes a DataError."""
    from nifti_mrs.nifti_mrs import NIFTI_MRS, NotNIFTI_MRS

    path = Path(path)
    file = next((p for p in (path, *(Path(str(path) + ext) for ext in (".nii.gz", ".nii"))) if p.is_file()), None)
    if file is None:
        raise DataError(f"{path}: no such file", remedy="give the path of a NIfTI-MRS file (.nii or .nii.gz)")
    try:
        source = open_image(file.resolve())
        notes = _tidy(source, str(path))
        # The library prints what it thinks of a header, and takes determinants of positions that hold NaN.
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(invalid="ignore"):
            image = NIFTI_MRS(source, validate_on_creation=False)
        data = convert(image, path=file, name=str(path))
        return replace(data, notes=(*notes, *data.notes))
    except NotNIFTI_MRS as exc:
        raise DataError(f"{path}: not a NIfTI-MRS file ({exc})", remedy=_NO_SPECTRA) from exc
    except _header_errors() as exc:
        raise _unreadable(path, file, exc) from exc
    except Exception as exc:  # fslpy raises bare classes of its own for a name that is not an image
        if type(exc).__module__.split(".")[0] not in ("fsl", "nifti_mrs", "nibabel"):
            raise
        raise _unreadable(path, file, exc) from exc


def _unreadable(path: Path, file: Path, exc: Exception) -> DataError:
    """Return the error for a file that is no image of spectra, or is damaged."""
    damage = damage_of(file, exc)
    if damage:
        return DataError(f"{path}: the file is {damage}", remedy="copy or convert it again")
    detail = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return DataError(f"{path}: cannot be read as NIfTI-MRS ({detail})", remedy=_CONVERT)


def _header_errors() -> tuple[type[Exception], ...]:
    """Return the errors that files raise which are no NIfTI-MRS."""
    return *image_errors(), KeyError, AttributeError, TypeError


def _tidy(image, name: str) -> tuple[str, ...]:
    """Bring header extension and dwell time of an image into the standard's form, and return remarks."""
    from nibabel.nifti1 import Nifti1Extension

    extensions = [one for one in image.header.extensions if one.get_code() == _EXTENSION]
    if not extensions:
        return ()
    text = extensions[0].content.decode("utf-8-sig")
    header = json_content(text.rstrip("\0 \n"))
    if not isinstance(header, dict):
        raise ValueError("its header extension is no JSON object")
    header, notes = tidy_header(header, image.shape, name)
    unit = {"msec": 1e-3, "usec": 1e-6}.get(image.header.get_xyzt_units()[1], 1.0)
    stored = float(image.header["pixdim"][4]) * unit
    dwelltime, more = _dwelltime(stored, header.get("SpectralWidth"), name)
    if dwelltime != stored:
        image.header["pixdim"][4] = dwelltime / unit
    if "SpectralWidth" in header:
        header["SpectralWidth"] = 1 / dwelltime
    image.header.extensions[:] = [Nifti1Extension(_EXTENSION, json.dumps(header).encode())]
    return (*notes, *more)


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
    data = _without_fids(image, path=path, name=name)
    fids = stored.conj().reshape(image.shape)
    return replace(data, fids=_moved(fids, data.moved_hz, data.dwelltime))


def conjugated(data: MrsData) -> MrsData:
    """Return data whose frequency axis runs the other way."""
    return replace(data, fids=data.fids.conj())


def as_stored(data: MrsData) -> np.ndarray:
    """Return FIDs about the carrier of the file that they were read from, for an image that keeps its header."""
    return _moved(data.fids, -data.moved_hz, data.dwelltime)


def _moved(fids: np.ndarray, hz: float, dwelltime: float) -> np.ndarray:
    """Return FIDs whose fourth axis is time with their lines moved up."""
    if not hz:
        return fids
    turn = carrier_turn(hz, np.arange(fids.shape[3]) * dwelltime)
    return (fids * turn.reshape(-1, *[1] * (fids.ndim - 4))).astype(fids.dtype)


def carrier_turn(hz: float, time: np.ndarray) -> np.ndarray:
    """Return the factor that moves lines of an FID up by ``hz``, at times in seconds."""
    return np.exp(2j * np.pi * hz * time)


def _without_fids(image, *, path: Path | None = None, name: str | None = None) -> MrsData:
    """Convert everything of a ``NIFTI_MRS`` object but its FIDs, which are zero."""
    header, notes = tidy_header(image.hdr_ext.to_dict(), tuple(image.shape), name or "the data")
    frequency, kind = header["SpectrometerFrequency"][0], header["ResonantNucleus"][0]
    dwelltime, more = _dwelltime(float(image.dwelltime), header.get("SpectralWidth"), name or "the data")
    if "SpectralWidth" in header:
        header["SpectralWidth"] = 1 / dwelltime
    usual, centre = units.nucleus(kind).ppm_reference, carrier_ppm(header)
    moved_hz = (centre - usual) * frequency
    if moved_hz:
        more += (
            f"the middle of its spectra is at {centre:g} ppm (SpecFreqChemShift + RxOffset); they were moved to have"
            f" {usual:g} ppm there",
        )
        header = {key: value for key, value in header.items() if key not in ("SpecFreqChemShift", "RxOffset")}
    affine: np.ndarray | None = np.asarray(image.voxToWorldMat)
    if affine is None or not _is_position(affine):
        affine, more = None, (*more, "its position is none (NaN, or voxels of no or endless size) and was left out")
    return MrsData(
        fids=np.zeros(_NO_FIDS, np.complex64),
        dwelltime=dwelltime,
        spec_freq_mhz=frequency,
        nucleus=kind,
        dim_tags=tuple(header.get(f"dim_{number}", "") for number in range(5, len(image.shape) + 1)),
        header=header,
        affine=affine,
        path=path or (Path(name) if name else None),
        notes=(*notes, *more),
        moved_hz=moved_hz,
        stored_points=int(image.shape[3]),
    )


def _is_position(affine: np.ndarray) -> bool:
    """Tell whether a matrix from voxels to millimetres is of numbers that images can be written with."""
    return bool(np.isfinite(affine).all() and ((affine == 0) | (np.abs(affine) > 1e-9) & (np.abs(affine) < 1e9)).all())


def _dwelltime(dwelltime: float, bandwidth: float | None, name: str) -> tuple[float, tuple[str, ...]]:
    """Return the dwell time of a file in seconds, that of ``SpectralWidth`` where the other is none, and remarks.

    Raises
    ------
    DataError
        If there is none.
    """
    possible = 0 < dwelltime < _LONGEST_DWELLTIME_S
    if possible and (not bandwidth or abs(dwelltime * bandwidth - 1) < 1e-3):
        return dwelltime, ()
    if possible:
        return dwelltime, (
            f"SpectralWidth {bandwidth:g} Hz contradicts the dwell time, which gives {1 / dwelltime:g} Hz and is used",
        )
    if not bandwidth or not 0 < 1 / bandwidth < _LONGEST_DWELLTIME_S:
        raise DataError(
            f"{name}: has a dwell time of {dwelltime:g} s (pixdim 4)",
            remedy="write the right one into its header, or convert the scanner's file again",
        )
    return 1 / bandwidth, (f"its dwell time of {dwelltime:g} s is none; that of SpectralWidth is used",)


def from_echo(data: MrsData) -> MrsData:
    """Return data without the points that were acquired before the echo, by ``AcquisitionStartTime``; without FIDs
    where those of a volume are read by :mod:`fsl_mrs_dl.io.volume`."""
    n = points_before_echo(data)
    if not n:
        return data
    start = start_time_s(data.header) + n * data.dwelltime
    # A hundredth of a dwell time is rounding.
    header = {**data.header, "AcquisitionStartTime": start if start > 0.01 * data.dwelltime else 0.0}
    note = f"the first {n} points were acquired before the echo (AcquisitionStartTime) and were left out"
    fids = data.fids if data.fids.shape == _NO_FIDS else data.fids[:, :, :, n:]
    return replace(data, fids=fids, header=header, notes=(*data.notes, note))


def points_before_echo(data: MrsData) -> int:
    """Return the number of points that were acquired before the echo, by ``AcquisitionStartTime``."""
    return max(0, int(np.ceil(-start_time_s(data.header) / data.dwelltime - 0.01)))


def processing_record(method: str, details: str) -> dict[str, str]:
    """Return an entry of the standard's ``ProcessingApplied`` for a step of this package."""
    return {
        "Time": datetime.datetime.now().isoformat(sep="T", timespec="milliseconds"),
        "Program": PROGRAM,
        "Version": __version__,
        "Method": method,
        "Details": details,
    }


def with_record(data: MrsData, method: str, details: str) -> MrsData:
    """Return data with a step of this package in their header's ``ProcessingApplied``."""
    steps = [*data.header.get("ProcessingApplied", []), processing_record(method, details)]
    return replace(data, header={**_header_of(data), "ProcessingApplied": steps})


def check_fids(data: MrsData, *, need_signal: bool = True) -> np.ndarray:
    """Return which spectra can be used, bool of the shape of ``data.fids`` without the time axis.

    A spectrum with a value that is not finite, or with zeros at its beginning or everywhere, is unusable.

    Raises
    ------
    DataError
        If ``need_signal`` and not one spectrum is usable, or there are fewer than 16 points.
    """
    if data.n_points < 16:
        raise DataError(f"{data.name}: FIDs have {data.n_points} points", remedy="at least 16 are needed")
    fids = data.fids[:, :, :, points_before_echo(data) :]
    usable = usable_fids(fids, axis=3)
    if need_signal and not usable.any():
        problem, remedy = why_unusable(fids, axis=3)
        raise DataError(f"{data.name}: {problem}", remedy=remedy or "there is nothing to work on: check the conversion")
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


def element(data: MrsData, tag: str, number: int) -> MrsData:
    """Return one element of a higher dimension, which is removed.

    Raises
    ------
    DataError
        If there is no such dimension.
    """
    return without_dimension(data, tag, data.fids.take(number, data.axis(tag)))


def without_dimension(data: MrsData, tag: str, fids: np.ndarray) -> MrsData:
    """Return data with FIDs that lack a dimension, which is removed from the header, too."""
    axis = data.axis(tag)
    header = {key: value for key, value in data.header.items() if not key.startswith("dim_")}
    for number, old in enumerate((k for k in range(4, data.fids.ndim) if k != axis), start=5):
        for suffix in ("", "_info", "_header"):
            if f"dim_{old + 1}{suffix}" in data.header:
                header[f"dim_{number}{suffix}"] = data.header[f"dim_{old + 1}{suffix}"]
    return replace(data, fids=fids, dim_tags=tuple(one for one in data.dim_tags if one != tag), header=header)


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
    image = image_of(with_record(data, method, details) if method else data)
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

    header = Hdr_Ext.from_header_ext(_header_of(data))
    fids = data.fids.astype(np.complex64 if data.fids.dtype.itemsize <= 8 else np.complex128, copy=False)
    return gen_nifti_mrs_hdr_ext(fids, data.dwelltime, header, affine=data.affine)


def _header_of(data: MrsData) -> dict:
    """Return the header extension of data, the required keys at least."""
    if data.header:
        return dict(data.header)
    tags = {f"dim_{number}": tag for number, tag in enumerate(data.dim_tags, start=5)}
    return {"SpectrometerFrequency": [data.spec_freq_mhz], "ResonantNucleus": [data.nucleus], **tags}
