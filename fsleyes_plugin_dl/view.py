"""``fsl_mrs_dl view``: start FSLeyes with results loaded; it is not imported here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fsl_mrs_dl.core.errors import DataError, OptionError

from .results_folder import Results

__all__ = ["VARIABLE", "command", "existing_file", "missing_software", "start", "view"]

VARIABLE = "FSL_MRS_DL_VIEW"
"""Environment variable with the files that FSLeyes loads, as JSON: scripts that FSLeyes runs take no arguments."""

INSTALL = "pip install '.[fsleyes]' in a copy of the repository"


def missing_software() -> str | None:
    """Return a sentence on the software that FSLeyes needs and this Python lacks; None where it lacks none."""
    for module, name in (("fsleyes", "FSLeyes"), ("fsleyes_plugin_mrs", "fsleyes-plugin-mrs"), ("wx", "wxPython")):
        if importlib.util.find_spec(module) is None:
            return f"{name} is not installed"
    return None


def existing_file(path: str | Path | None, option: str) -> Path | None:
    """Return the absolute path of the file of an option; None without one.

    Raises
    ------
    DataError
        If there is no such file.
    """
    if path is None:
        return None
    path = Path(path)
    if not path.is_file():
        raise DataError("there is no such file", option=option, value=path)
    return path.resolve()


def command(
    folder: str | Path, t1: str | Path | None = None, data: str | Path | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the command that shows results in FSLeyes, and the variables that it needs in its environment.

    Raises
    ------
    DataError
        If the folder holds no results, or a file is missing.
    OptionError
        If FSLeyes is not installed, or there is no screen.
    """
    results = Results.open(folder)
    t1, data = existing_file(t1, "t1"), existing_file(data, "data")
    problem = missing_software()
    if problem:
        raise OptionError(f"{problem}: {INSTALL}; 'fsl_mrs_dl render' makes a picture without it.")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OptionError("there is no screen (DISPLAY is not set); 'fsl_mrs_dl render' makes a picture without one.")
    files = {"folder": str(results.folder.resolve()), "t1": t1 and str(t1), "data": data and str(data)}
    words = [
        sys.executable,
        "-m",
        "fsleyes",
        "--skipfslcheck",
        "--scene",
        "mrs-dl",
        "--runscript",
        str(Path(__file__).with_name("_start.py")),
    ]
    return words, {VARIABLE: json.dumps(files)}


def view(folder: str | Path, t1: str | Path | None = None, data: str | Path | None = None) -> int:
    """Show results in FSLeyes, wait until it is closed, and return its exit status; raise as :func:`command` does."""
    words, variables = command(folder, t1, data)
    return subprocess.run(words, env={**os.environ, **variables}).returncode


def start(frame: Any) -> None:
    """Load the results named in the environment into FSLeyes, once its window stands; show errors in a window."""
    import wx

    files = json.loads(os.environ[VARIABLE])

    def load() -> None:
        from .panel_groups import show_error
        from .tools import load

        try:
            load(frame, files["folder"], files["t1"], files["data"])
        except Exception as exc:  # FSLeyes would hang behind a box of its own
            show_error(exc, "DL-MRS results", frame)

    wx.CallAfter(load)
