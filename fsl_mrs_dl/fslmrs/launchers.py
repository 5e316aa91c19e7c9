"""Launchers named ``fsl_mrs`` and ``fsl_mrs_proc`` for machines without FSL-MRS, so that the same words work there."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from ..core.errors import OptionError, OutputError

__all__ = ["NAMES", "add", "find", "is_ours", "remove"]

NAMES = ("fsl_mrs", "fsl_mrs_proc")
_MARK = "Launcher of FSL-MRS-DL"
# A shell starts Python because a #! line can neither hold a blank nor be long; to Python the line is a string.
_TEXT = """#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
# {mark} for a machine without FSL-MRS; 'fsl_mrs_dl launchers remove' takes it away.
import sys

from fsl_mrs_dl.cli.without_fsl_mrs import {name}

sys.exit({name}())
"""


def _folder() -> Path:
    """Return the folder of this environment's commands."""
    return Path(sysconfig.get_path("scripts"))


def is_ours(path: Path) -> bool:
    """Tell whether a file was written by :func:`add`."""
    try:
        return _MARK in path.read_text(errors="replace", encoding="utf-8")[:400]
    except OSError:
        return False


def find() -> dict[str, tuple[Path, bool]]:
    """Return the launchers that a shell would start, or that are in this environment, by name: their path, and whether
    :func:`add` wrote it."""
    out = {}
    for name in NAMES:
        first = shutil.which(name)
        path = Path(first) if first else _folder() / name
        if os.path.lexists(path):
            out[name] = (path, is_ours(path))
    return out


def add() -> list[Path]:
    """Write the launchers beside ``fsl_mrs_dl``; nothing is written unless all can be, and nothing there is replaced.

    Raises
    ------
    OptionError
        If FSL-MRS is installed, or a launcher of that name is anywhere on the path.
    OutputError
        If the folder cannot be written.
    """
    if importlib.util.find_spec("fsl_mrs") is not None:
        raise OptionError("FSL-MRS is installed here and has its own launchers for these jobs; nothing was added.")
    folder = _folder()
    for name in NAMES:
        # Every folder of the path, not the first hit alone: ours may hide another one.
        for place in [folder, *map(Path, os.environ.get("PATH", "").split(os.pathsep))]:
            path = place / name
            if os.path.lexists(path) and not is_ours(path) and (place == folder or os.access(path, os.X_OK)):
                raise OptionError(f"{path}: there is a launcher {name} already; nothing was added.")
    written = []
    try:
        for name in NAMES:
            written.append(folder / f".{name}.part")
            text = _TEXT.format(python=shlex.quote(sys.executable), mark=_MARK, name=name)
            with os.fdopen(
                os.open(written[-1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o777), "w", encoding="utf-8"
            ) as file:
                file.write(text)
        for name, path in zip(NAMES, written):
            path.replace(folder / name)
    except OSError as exc:
        for path in written:
            path.unlink(missing_ok=True)
        raise OutputError(
            f"{folder}: cannot be written ({exc.strerror})", remedy="choose an environment of your own"
        ) from exc
    return [folder / name for name in NAMES]


def remove() -> list[Path]:
    """Remove the launchers that :func:`add` wrote, and no others; returns those that were removed.

    Raises
    ------
    OutputError
        If one cannot be removed.
    """
    removed = []
    for name in NAMES:
        path = _folder() / name
        if path.is_file() and is_ours(path):
            try:
                path.unlink()
            except OSError as exc:
                raise OutputError(
                    f"{path}: cannot be removed ({exc.strerror})",
                    remedy="ask the maintainer of this environment",
                ) from exc
            removed.append(path)
    return removed
