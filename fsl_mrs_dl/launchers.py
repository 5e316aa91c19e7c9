"""Launchers named ``fsl_mrs`` and ``fsl_mrs_proc`` for machines without FSL-MRS, so that the same words work there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from .errors import OptionError, OutputError

__all__ = ["NAMES", "add", "remove", "found"]

NAMES = ("fsl_mrs", "fsl_mrs_proc")
_MARK = "Launcher of FSL-MRS-DL"
_TEXT = """#!{python}
# {mark} for a machine without FSL-MRS; 'fsl_mrs_dl launchers remove' takes it away.
import sys

from fsl_mrs_dl.stand_in import {name}

sys.exit({name}())
"""


def _folder() -> Path:
    return Path(sysconfig.get_path("scripts"))


def is_ours(path: Path) -> bool:
    """Was this file written by :func:`add`?"""
    try:
        return _MARK in path.read_text(errors="replace")[:400]
    except OSError:
        return False


def found() -> dict[str, tuple[Path, bool]]:
    """Launchers of these names that a shell would start, or that lie in this environment: name -> (path, is it ours)."""
    out = {}
    for name in NAMES:
        first = shutil.which(name) or shutil.which(name, path=str(_folder()))
        if first:
            out[name] = (Path(first), is_ours(Path(first)))
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
        raise OptionError("FSL-MRS is installed here and has its own launchers, which do these jobs with it; nothing was added.")
    for name, (path, ours) in found().items():
        if not ours:
            raise OptionError(f"{path}: there is a launcher {name} already, and it is not replaced; nothing was added.")
    written = []
    for name in NAMES:
        path = _folder() / name
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o777), "w") as file:
                file.write(_TEXT.format(python=sys.executable, mark=_MARK, name=name))
        except OSError as exc:
            for done in written:
                done.unlink(missing_ok=True)
            raise OutputError(f"{path}: cannot be written ({exc.strerror}); choose an environment of your own.") from exc
        written.append(path)
    return written


def remove() -> list[Path]:
    """Take away the launchers that :func:`add` wrote, and no others; those that were removed."""
    removed = []
    for name in NAMES:
        path = _folder() / name
        if path.is_file() and is_ours(path):
            path.unlink()
            removed.append(path)
    return removed
