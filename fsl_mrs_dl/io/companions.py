"""Files that a file is read with: headers of their own, parameters of the scanner, LCModel's control file."""

from __future__ import annotations

import re
from pathlib import Path

from .lcmodel_raw import control_files, is_lcmodel_raw

__all__ = ["companions"]

_HEAD_BYTES = 4096
_ENDINGS = {
    ".sdat": (".spar",),
    ".spar": (".sdat",),
    ".data": (".list", ".spar"),
    ".list": (".data", ".spar"),
    # Structural images and segmentations: NIfTI and Analyze in pairs (SPM's with a position), AFNI, Philips.
    ".img": (".hdr", ".mat"),
    ".hdr": (".img", ".mat"),
    ".head": (".brik",),
    ".brik": (".head",),
    ".par": (".rec",),
    ".rec": (".par",),
}
_PARAMETERS = ("acqp", "method", "visu_pars", "procpar")
_IN_ONE_FOLDER = {
    "fid": _PARAMETERS,
    "rawdata.job0": _PARAMETERS,
    "2dseq": _PARAMETERS,
    "card.json": ("model.safetensors",),
    "model.safetensors": ("card.json",),
}


def companions(path: str | Path) -> list[Path]:
    """Return the files beside a file that reading it depends on, in order of their names; none of a folder.

    Parameters
    ----------
    path : path
        Spectra of any format, an image, or a file of a model.

    Raises
    ------
    OSError
        If a file or folder cannot be read.
    """
    path = Path(path).resolve()
    if not path.is_file():
        return []
    found = [path.parent / name for name in _IN_ONE_FOLDER.get(path.name, ())]
    if path.name == "2dseq":
        found += [path.parent.parent.parent / name for name in ("acqp", "method")]
    stem, ending = _parted(path)
    others = _ENDINGS.get(ending, ())
    if others:
        found += [one for one in path.parent.iterdir() if _parted(one)[0] == stem and _parted(one)[1] in others]
    with open(path, "rb") as file:
        if is_lcmodel_raw(file.read(_HEAD_BYTES)):
            found += control_files(path)
    return sorted((one for one in found if one.is_file()), key=lambda one: (one.name, one))


def _parted(path: Path) -> tuple[str, str]:
    """Return a file's name without its ending, and the ending in small letters, both without .gz."""
    name = re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
    return Path(name).stem, Path(name).suffix.lower()
