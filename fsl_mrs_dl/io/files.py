"""Where the files are that travel with the package but are not code, and how files come to where they belong."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from .. import __version__
from ..core.errors import FslMrsDlError, OptionError, OutputError

__all__ = ["models_folder", "put_in_place", "claim", "fingerprint"]


def put_in_place(temporary: str | Path, path: Path) -> None:
    """Move a finished temporary file to where it belongs; it is private to its owner until then, and gets the ordinary
    mode."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, path)


def models_folder() -> Path:
    """The folder with one sub-folder for each trained network.

    A wheel carries it inside the package; in a checkout, and so in an editable installation, it lies beside the
    package, where a reader of the repository looks for it.  Raises FslMrsDlError when it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    # The README, not the bare folder, is asked for: beside an installed package, "models" could be anybody's.
    for folder in (package / "models", package.parent / "models"):
        if (folder / "README.md").is_file():
            return folder
    raise FslMrsDlError(f"{package / 'models'}: the folder of trained networks is missing; install FSL-MRS-DL again.")


def fingerprint(*about) -> str:
    """Eight characters that change when the version or any of these does: numbers, texts, lists and dictionaries of
    them, and arrays."""
    text = json.dumps(
        [__version__, *about], sort_keys=True, default=lambda array: hashlib.sha256(array.tobytes()).hexdigest()
    )
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def claim(output: Path, about: dict) -> None:
    """Make the folder ``models`` of a benchmark's networks and write down what they are trained with, or see that it is
    the same.

    Raises
    ------
    OptionError
        If the folder holds networks that were trained otherwise.
    OutputError
        If it holds something else, or cannot be made.
    """
    path = output / "models" / "settings.json"
    try:
        if not path.is_file() and any(output.iterdir() if output.is_dir() else ()):
            raise OutputError(
                f"{output}: holds something else than this benchmark; choose another --output, a new or an empty"
                " folder."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            path.write_text(json.dumps(about) + "\n")
            return
        before = json.loads(path.read_text())
    except OSError as exc:
        raise OutputError(f"{output}: cannot be written to ({exc.strerror}); choose another --output.") from exc
    except ValueError as exc:
        raise OutputError(
            f"{path}: does not say what the networks beside it are ({exc}); choose another --output."
        ) from exc
    if before != about:
        said = ", ".join(f"{key} {before.get(key)}" for key in about if before.get(key) != about[key])
        raise OptionError(
            f"--output {output}: holds networks of another run ({said}); give its options, or another folder."
        )
