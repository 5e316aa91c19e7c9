"""The switch of :mod:`fsl_mrs_dl._hook` in an environment: on, off, and its state."""

from __future__ import annotations

import site
import sys
import sysconfig
from importlib import resources
from pathlib import Path

from .. import _hook
from ..core.errors import OutputError

__all__ = ["PTH", "starter_files", "starter_text", "status", "turn_on", "turn_off"]

PTH = "fsl_mrs_dl_hook.pth"


def starter_files() -> list[Path]:
    """Return the ``.pth`` files that start the hook of this Python, in its folders of packages."""
    folders = [sysconfig.get_path("purelib"), *getattr(site, "getsitepackages", list)()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return [path for folder in dict.fromkeys(folders) if (path := Path(folder) / PTH).is_file()]


def starter_text() -> str:
    """Return the content of such a file."""
    return resources.files("fsl_mrs_dl").joinpath("data/hook_starter.txt").read_text(encoding="utf-8")


def status() -> tuple[bool, str]:
    """Return whether the hook is on for this Python, and the reason in a line."""
    reason = _hook.switched_off()
    if reason:
        remedy = "unset it" if reason.startswith(_hook.VARIABLE) else "'fsl_mrs_dl hook on' removes it"
        return False, f"off, because of {reason} ({remedy})"
    files = starter_files()
    if not files:
        return (
            False,
            f"not installed: {PTH} is in no folder of packages of {sys.prefix} ('fsl_mrs_dl hook on' puts it there)",
        )
    return True, f"on ({files[0]})"


def turn_off() -> Path:
    """Switch the hook off for this environment, or for this user where the environment cannot be written.

    Returns
    -------
    Path
        The file that switches it off.

    Raises
    ------
    OutputError
        If neither can be written.
    """
    for path in map(Path, _hook.off_files()):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "While this file exists FSL-MRS-DL adds nothing to FSL-MRS; 'fsl_mrs_dl hook on' removes it.\n",
                encoding="utf-8",
            )
            return path
        except OSError:
            continue
    raise OutputError(f"{path}: cannot be written", remedy=f"set the environment variable {_hook.VARIABLE}=off instead")


def turn_on() -> list[Path]:
    """Undo :func:`turn_off`, and install the ``.pth`` file if it is missing.

    Returns
    -------
    list of Path
        The files that were removed or written.

    Raises
    ------
    OutputError
        If a file cannot be removed or written.
    """
    changed = []
    for path in map(Path, _hook.off_files()):
        if path.exists():
            try:
                path.unlink()
            except OSError as exc:
                raise OutputError(
                    f"{path}: cannot be removed ({exc.strerror})", remedy="ask the maintainer of this environment"
                ) from exc
            changed.append(path)
    if not starter_files():
        path = Path(sysconfig.get_path("purelib")) / PTH
        try:
            path.write_text(starter_text(), encoding="utf-8")
        except OSError as exc:
            raise OutputError(
                f"{path}: cannot be written ({exc.strerror})", remedy="ask the maintainer of this environment"
            ) from exc
        changed.append(path)
    return changed
