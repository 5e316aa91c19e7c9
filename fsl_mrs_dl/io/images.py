"""Open images of voxels, on which spectra lie or are stored, through nibabel."""

from __future__ import annotations

import contextlib
import logging
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nibabel.filebasedimages import FileBasedImage
    from nibabel.spatialimages import SpatialImage

__all__ = ["damage_of", "image_errors", "open_any_image", "open_image"]

_MOST_PACKED = 1100  # bytes of a byte of gzip's
_LEAST_HEADER, _LEAST_PACKED = 348, 60  # bytes of a NIfTI header, as it is and in gzip
_BEGINNINGS = (b"\x1f\x8b", *(size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")))
"""First bytes of gzip and of NIfTI headers."""


def image_errors() -> tuple[type[Exception], ...]:
    """Return the errors that libraries raise for files that are no images, or damaged ones."""
    import zlib

    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    damaged = (EOFError, OSError, OverflowError, MemoryError, ValueError, struct.error, zlib.error)
    return ImageFileError, HeaderDataError, *damaged


def damage_of(path: Path, exc: Exception) -> str:
    """Return how a file is damaged that an image library's error is about, as 'empty' or 'cut short, 20 bytes'; empty
    where it is not."""
    import zlib

    from nibabel.wrapstruct import WrapStructError

    text = str(exc)
    if "cut short" in text:
        return text.partition("is ")[2] or text
    least = _LEAST_PACKED if path.suffix.lower() == ".gz" else _LEAST_HEADER
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size == 0:
            return "empty"
        if size < least and path.read_bytes().startswith(_BEGINNINGS):
            return f"cut short, {size} bytes"
    short = re.search(r"expected \d+ bytes, got \d+|end-of-stream|wrong size|buffer is smaller", text, re.IGNORECASE)
    return "cut short, or damaged" if isinstance(exc, (EOFError, zlib.error, WrapStructError)) or short else ""


def open_image(path: Path) -> SpatialImage:
    """Open a NIfTI file, whatever letters its ending is written in; its array is read on demand.

    The image library itself reads the ending from the name of a link's target, and in small letters only.

    Raises
    ------
    Exception
        One of :func:`image_errors`, if it is no NIfTI file, or holds less than its header says.
    """
    import nibabel

    image = _of_voxels(nibabel.load(path)) if path.name.endswith((".nii", ".nii.gz")) else _opened(path)
    if min(image.shape, default=0) < 1:
        raise ValueError(f"its array has the size {image.shape}")
    # Nothing is allocated for an array that the file cannot hold, however well packed.
    needed = int(np.prod([int(size) for size in image.shape], dtype=object)) * image.get_data_dtype().itemsize
    there = path.stat().st_size
    if needed > there * (_MOST_PACKED if path.name.lower().endswith(".gz") else 1):
        raise ValueError(f"is cut short, {there} bytes for an array of {needed}")
    return image


def open_any_image(path: Path) -> SpatialImage:
    """Open an image of voxels: NIfTI, or another format of the image library, such as FreeSurfer's .mgz.

    Raises
    ------
    Exception
        One of :func:`image_errors`.
    """
    import nibabel

    return open_image(path) if path.name.lower().endswith((".nii", ".nii.gz")) else _of_voxels(nibabel.load(path))


def _of_voxels(image: FileBasedImage) -> SpatialImage:
    """Return an image as it is; a ValueError if it is none of voxels, as surfaces and CIFTI are, which the library also
    reads."""
    from nibabel.spatialimages import SpatialImage

    if not isinstance(image, SpatialImage):
        raise ValueError("is no image of voxels")
    return image


def _opened(path: Path) -> SpatialImage:
    """Open a NIfTI file whose ending is not in small letters."""
    import nibabel
    from nibabel.fileholders import FileHolder

    holders = {"header": FileHolder(str(path)), "image": FileHolder(str(path))}
    # The library logs what it would repair in the header of a file that may be no image.
    logger = nibabel.imageglobals.logger
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return nibabel.Nifti2Image.from_file_map(holders)
    except (nibabel.spatialimages.HeaderDataError, nibabel.filebasedimages.ImageFileError, ValueError):
        return nibabel.Nifti1Image.from_file_map(holders)
    finally:
        logger.setLevel(level)
