"""Files that come with the package, and fingerprints of settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .. import __version__
from ..core.errors import FslMrsDlError, OptionError, OutputError

__all__ = ["models_folder", "claim", "fingerprint", "json_content"]


def models_folder() -> Path:
    """Return the folder with one sub-folder for each trained network.

    A wheel has it inside the package; in a checkout, and so in an editable installation, it lies beside the package.

    Raises
    ------
    FslMrsDlError
        If it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    # The README distinguishes it from another folder "models" beside an installed package.
    for folder in (package / "models", package.parent / "models"):
        if (folder / "README.md").is_file():
            return folder
    raise FslMrsDlError(
        f"{package / 'models'}: the folder of trained networks is missing", remedy="install FSL-MRS-DL again"
    )


_DEEPEST = 100


def json_content(text: str | bytes):
    """Return the content of a JSON text; bytes are UTF-8, with or without a byte-order mark.

    Raises
    ------
    ValueError
        If it is none, or lists and objects are nested more than a hundred deep.
    """
    try:
        content = json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    level, depth = [content], 1
    while level := [one for holder in level if isinstance(holder, (dict, list)) for one in _inside(holder)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("is nested too deeply")
    return content


def _inside(holder: dict | list) -> list:
    """Return what may hold something itself of the values of an object or a list."""
    return [one for one in (holder.values() if isinstance(holder, dict) else holder) if isinstance(one, (dict, list))]


def fingerprint(*about) -> str:
    """Return a short hash of the version and of numbers, texts, arrays, and lists and dictionaries of these."""
    text = json.dumps(
        [__version__, *about], sort_keys=True, default=lambda array: hashlib.sha256(array.tobytes()).hexdigest()
    )
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def claim(output: Path, about: dict) -> None:
    """Make the folder ``models`` of a benchmark's networks and record their settings, or check them against a record.

    Raises
    ------
    OptionError
        If the folder holds networks of other settings.
    OutputError
        If it holds something else, or cannot be made.
    """
    path = output / "models" / "settings.json"
    try:
        if not path.is_file() and any(output.iterdir() if output.is_dir() else ()):
            raise OutputError(
                f"{output}: holds something else than this benchmark",
                remedy="choose another `output`, a new or an empty folder",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")
            return
        before = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise OutputError(f"{output}: cannot be written to ({exc.strerror})", remedy="choose another `output`") from exc
    except ValueError as exc:
        raise OutputError(
            f"{path}: is no list of the networks beside it ({exc})", remedy="choose another `output`"
        ) from exc
    if before != about:
        changed = ", ".join(f"{key} {before.get(key)}" for key in about if before.get(key) != about[key])
        raise OptionError(
            f"holds networks of another run ({changed})",
            option="output",
            value=output,
            remedy="give its options, or another folder",
        )
