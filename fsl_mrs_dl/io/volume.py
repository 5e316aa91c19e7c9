"""Volumes of spectra that may exceed the memory: read voxel by voxel, written point by point."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.axes import Axes
from ..core.errors import DataError, OptionError, OutputError
from . import nifti
from .images import image_errors, open_image

__all__ = ["Volume", "open_volume", "load_mask", "n_voxels", "read_mask", "write_spectra"]

_MAPPED_BYTES = 2**26  # of a file that is mapped at a time where voxels are far apart


@dataclass(frozen=True)
class Volume:
    """A NIfTI-MRS file whose FIDs are read on demand.

    Attributes
    ----------
    about : MrsData
        Everything but the FIDs.
    shape : (int, int, int, int)
        Voxels along x, y, z, and points.
    file : path
        The uncompressed file.
    offset : int
        Byte that its array begins at.
    stored : str
        NumPy type of its numbers.
    slope, intercept : float
        Scaling of the header, ``scl_slope`` and ``scl_inter``: a value is slope * number + intercept.
    """

    about: nifti.MrsData
    shape: tuple[int, int, int, int]
    file: Path
    offset: int
    stored: str
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        return self.shape[:3]

    @property
    def n_points(self) -> int:
        """Points of an FID."""
        return self.shape[3]

    @property
    def axes(self) -> Axes:
        """Axes of the FIDs."""
        return self.about.axes.with_points(self.n_points)

    def fids(self, index: np.ndarray) -> np.ndarray:
        """Read the FIDs of voxels, complex ``(n, n_points)``, in the in-memory convention.

        ``index`` ``(n,)`` counts voxels with z fastest, as NumPy does.
        """
        from nibabel.volumeutils import apply_read_scaling

        index = np.asarray(index)
        x, y, z = np.unravel_index(index, self.grid)
        # Files count with x fastest, and one point of all voxels comes before the next.
        place = x + self.shape[0] * (y + self.shape[1] * z)
        part = self._numbers(place)
        part = apply_read_scaling(part, self.slope, self.intercept)
        wide = np.complex64 if part.dtype.itemsize <= 8 else np.complex128
        fids = np.ascontiguousarray(part.T.astype(wide, copy=False).conj())
        if self.about.moved_hz:
            time = np.arange(self.n_points) * self.about.dwelltime
            fids = (fids * nifti.carrier_turn(self.about.moved_hz, time)).astype(wide)
        return fids

    def _numbers(self, place: np.ndarray) -> np.ndarray:
        """Return stored numbers of voxels by their places in the file, ``(n_points, n)``."""
        n_voxels, size = int(np.prod(self.grid)), np.dtype(self.stored).itemsize
        low, high = int(place.min()), int(place.max()) + 1
        # The voxels of one row of the file lie together.  Those that do not touch pages all over the file, which count
        # as memory as long as it is mapped: a part at a time is.
        together = high - low <= 8 * len(place)
        n_rows = self.n_points if together else max(1, _MAPPED_BYTES // (n_voxels * size))
        parts = []
        for first in range(0, self.n_points, n_rows):
            flat = np.memmap(
                self.file,
                dtype=self.stored,
                mode="r",
                offset=self.offset + first * n_voxels * size,
                shape=(min(n_rows, self.n_points - first), n_voxels),
            )
            # A copy releases the file.
            parts.append(np.array(flat[:, low:high])[:, place - low] if together else np.array(flat[:, place]))
        return np.concatenate(parts)


def n_voxels(path: str | Path) -> int:
    """Return the number of voxels of a NIfTI-MRS file.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return int(np.prod(open_image(Path(nifti.load_header(path).path or path).resolve()).shape[:3]))


def open_volume(path: str | Path, scratch: Path, name: str = "data") -> Volume:
    """Open a NIfTI-MRS file of one spectrum per voxel; a compressed one is unpacked into the folder ``scratch``, once.

    Its file there is called ``name``.

    Raises
    ------
    DataError
        If it cannot be read, or has higher dimensions.
    """
    from nibabel.arrayproxy import ArrayProxy

    about = nifti.load_header(path)
    file = Path(about.path or path).resolve()
    image = open_image(file)
    proxy = image.dataobj
    assert isinstance(proxy, ArrayProxy)  # as of every file
    if not np.issubdtype(proxy.dtype, np.complexfloating):
        raise DataError(
            f"{path}: holds real numbers ({proxy.dtype})",
            remedy="complex FIDs are needed: convert the raw data again",
        )
    x, y, z, stored_points, *higher = (*image.shape, *[1] * (4 - len(image.shape)))
    for tag, size in zip((*about.dim_tags, "dimension 5", "dimension 6", "dimension 7"), higher):
        if size > 1:
            remedy = (
                "combine coils first (fsl_mrs_proc coilcombine)"
                if tag == "DIM_COIL"
                else "average or select it first (fsl_mrs_dl align --average, or fsl_mrs_proc)"
            )
            raise DataError(f"{path}: {tag} has {size} elements, one spectrum per voxel is needed: {remedy}.")
    # A point of all voxels comes before the next, so that the first points are left out by beginning behind them.
    n_early, point_bytes = nifti.points_before_echo(about), x * y * z * proxy.dtype.itemsize
    n_points = stored_points - n_early
    if n_points < 16:
        raise DataError(f"{path}: FIDs have {n_points} points", remedy="at least 16 are needed")
    if file.name.lower().endswith(".gz"):
        target = scratch / f"{name}.nii"
        if not target.is_file():
            _unpack(file, target, path)
        file = target
    expected = proxy.offset + stored_points * point_bytes
    if file.stat().st_size < expected:
        raise DataError(
            f"{path}: is cut short ({file.stat().st_size} bytes, {expected} are needed)", remedy="copy it again"
        )
    offset = int(proxy.offset) + n_early * point_bytes
    scaling = float(proxy.slope), float(proxy.inter)
    return Volume(nifti.from_echo(about), (x, y, z, n_points), file, offset, proxy.dtype.str, *scaling)


def _unpack(file: Path, target: Path, path) -> None:
    temporary = target.with_suffix(".part")
    try:
        with gzip.open(file) as source, temporary.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 22)
        temporary.replace(target)
    except EOFError as exc:
        raise DataError(f"{path}: is cut short ({exc})", remedy="copy it again") from exc
    except zlib.error as exc:
        raise DataError(f"{path}: is damaged ({exc})", remedy="copy it again") from exc
    except gzip.BadGzipFile as exc:
        raise DataError(f"{path}: is not a compressed file in spite of its name ({exc}).") from exc
    except OSError as exc:
        raise OutputError(
            f"{target.parent}: cannot unpack {path} there ({exc.strerror or exc})", remedy="choose another `output`"
        ) from exc
    finally:
        temporary.unlink(missing_ok=True)


def load_mask(path: str | Path, volume: Volume, of: str = "mask") -> np.ndarray:
    """Read a mask image on the grid of a volume, see :func:`read_mask`."""
    return read_mask(path, volume.grid, volume.about, of)


def read_mask(path: str | Path, grid: tuple[int, ...], about: nifti.MrsData, of: str = "mask") -> np.ndarray:
    """Read a mask image on the grid of data, bool ``(x, y, z)``.

    ``about`` has the name and affine of the data; ``of`` is the option that the image was given with.

    Raises
    ------
    OptionError
        If it cannot be read, has another shape, or no voxel.
    """
    try:
        image = open_image(Path(path))
        values = np.asanyarray(image.dataobj)
    except image_errors() as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise OptionError(f"cannot be read as an image ({reason})", option=of, value=path) from exc
    shape = values.shape + (1,) * (3 - values.ndim)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if shape != grid:
        size = " x ".join(map(str, values.shape))
        raise OptionError(
            f"has {size} voxels, {about.name} {' x '.join(map(str, grid))}",
            option=of,
            value=path,
            remedy="resample it to the data's grid",
        )
    mask = np.nan_to_num(values.reshape(grid)) > 0
    if not mask.any():
        raise OptionError("has no voxel in it", option=of, value=path, remedy="there is nothing to fit")
    if about.affine is not None and not np.allclose(image.affine, about.affine, atol=0.5):
        print(
            f"The mask {path} has another position than {about.name} by its header; voxels are matched by their number."
        )
    return mask


_BLOCK_BYTES = 6e7


def write_spectra(path: Path, volume: Volume, read: Callable[[slice], tuple[np.ndarray, np.ndarray]]) -> None:
    """Write FIDs on a volume's grid as NIfTI-MRS, a few points in time at once; voxels without an FID are zero.

    Parameters
    ----------
    path : path
        Ends in .nii.gz.
    volume : Volume
    read : callable
        Points in time, a slice -> ``(index (n,), fids complex64 (n_points_of_slice, n))`` in the file's own convention,
        for all voxels that have a spectrum; ``index`` counts voxels with z fastest.
    """
    header = nifti.image_of(replace(volume.about, fids=np.zeros((*volume.grid, 2), np.complex64))).header
    header.set_data_shape(volume.shape)
    header.set_data_dtype(np.complex64)
    n_voxels = int(np.prod(volume.grid))
    step = max(1, int(_BLOCK_BYTES / (8 * n_voxels)))
    with gzip.open(path, "wb", compresslevel=1) as out:
        # The header has the place where the array begins; its extensions are in between.
        header.write_to(out)
        out.write(b"\0" * (int(header.get_data_offset()) - out.tell()))
        for start in range(0, volume.n_points, step):
            part = slice(start, min(volume.n_points, start + step))
            block = np.zeros((part.stop - part.start, n_voxels), np.complex64)
            index, fids = read(part)
            x, y, z = np.unravel_index(index, volume.grid)
            block[:, x + volume.grid[0] * (y + volume.grid[1] * z)] = fids
            out.write(block.tobytes())
