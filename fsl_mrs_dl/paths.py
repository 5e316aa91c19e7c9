"""Where the files are that travel with the package but are not code, and how files come to where they belong."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import FslMrsDlError

__all__ = ["models_folder", "put_in_place"]


def put_in_place(temporary: str | Path, path: Path) -> None:
    """Move a finished temporary file to where it belongs; it is private to its owner until then, and gets the ordinary mode."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, path)


def models_folder() -> Path:
    """The folder with one sub-folder for each trained network.

    A wheel carries it inside the package; in a checkout, and so in an editable installation, it lies beside the package,
    where a reader of the repository looks for it.  Raises FslMrsDlError when it is in neither place.
    """
    package = Path(__file__).resolve().parent
    # The README, not the bare folder, is asked for: beside an installed package, "models" could be anybody's.
    for folder in (package / "models", package.parent / "models"):
        if (folder / "README.md").is_file():
            return folder
    raise FslMrsDlError(f"{package / 'models'}: the folder of trained networks is missing; install FSL-MRS-DL again.")
