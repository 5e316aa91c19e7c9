"""``fsl_mrs_dl view``: FSLeyes with everything loaded.  Here is what is needed to start it; nothing of it is
imported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from fsl_mrs_dl.core.errors import DataError, FslMrsDlError, OptionError

from .results import Results

__all__ = ["command", "start", "view", "missing"]

VARIABLE = "FSL_MRS_DL_VIEW"
"""The environment variable that tells the new FSLeyes what to load, as JSON: scripts that FSLeyes runs take no
arguments."""

INSTALL = "pip install 'fsl-mrs-dl[fsleyes]'"


def missing() -> str | None:
    """What FSLeyes needs and this Python has not, as a sentence; None where all is there."""
    for module, name in (("fsleyes", "FSLeyes"), ("fsleyes_plugin_mrs", "fsleyes-plugin-mrs"), ("wx", "wxPython")):
        if importlib.util.find_spec(module) is None:
            return f"{name} is not installed"
    return None


def existing(path: str | Path | None, option: str) -> Path | None:
    """The absolute path of a file that an option names.

    Raises
    ------
    DataError
        If it is not there.
    """
    if path is None:
        return None
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{option} {path}: there is no such file.")
    return path.resolve()


def command(
    folder: str | Path, t1: str | Path | None = None, data: str | Path | None = None
) -> tuple[list[str], dict[str, str]]:
    """The command that shows results in FSLeyes, and what it needs in its environment.

    Raises
    ------
    DataError
        If the folder holds no results, or a file is missing.
    OptionError
        If FSLeyes is not installed, or there is no screen.
    """
    results = Results.open(folder)
    t1, data = existing(t1, "--t1"), existing(data, "--data")
    lack = missing()
    if lack:
        raise OptionError(f"{lack}: {INSTALL}; 'fsl_mrs_dl render' makes a picture without it.")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OptionError("there is no screen (DISPLAY is not set); 'fsl_mrs_dl render' makes a picture without one.")
    what = {"folder": str(results.folder.resolve()), "t1": t1 and str(t1), "data": data and str(data)}
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
    return words, {VARIABLE: json.dumps(what)}


def view(folder: str | Path, t1: str | Path | None = None, data: str | Path | None = None) -> int:
    """Show results in FSLeyes and wait until it is closed; its exit status.  Raises what :func:`command` does."""
    words, more = command(folder, t1, data)
    return subprocess.run(words, env={**os.environ, **more}).returncode


def start(frame) -> None:
    """In FSLeyes: load what the environment says, once its window stands.  What goes wrong is said in a window."""
    import wx

    what = json.loads(os.environ[VARIABLE])

    def load() -> None:
        from .tools import load

        try:
            load(frame, what["folder"], what["t1"], what["data"])
        except Exception as exc:  # FSLeyes would hang behind a box of its own
            kind = "" if isinstance(exc, FslMrsDlError) else f"{type(exc).__name__}: "
            wx.MessageBox(f"{kind}{exc}", "DL-MRS results", wx.OK | wx.ICON_ERROR, frame)

    wx.CallAfter(load)
