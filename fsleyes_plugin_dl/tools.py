"""*Tools > Load DL-MRS results*."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsl.utils.settings as fslsettings
import wx
from fsleyes.actions import Action

from . import dialogs
from .panel_groups import IMAGES, show_error
from .panels import ResultsPanel, TablePanel
from .results_folder import Results
from .scene import Scene, scene_of, show

__all__ = ["LoadResults", "load"]


def load(frame: Any, folder: str | Path, t1: str | Path | None = None, data: str | Path | None = None) -> Scene:
    """Show a folder of results in a window of FSLeyes, with the panels of this package open.

    Raises
    ------
    DataError
        If the folder holds no results, or a file cannot be read.
    """
    with _progress(frame) as progress:
        scene = show(frame, Results.open(folder), t1, data, progress)
    scene.followers.append(_open_panels)
    _open_panels(scene)
    return scene


def _open_panels(scene: Scene) -> None:
    """Open the panels in the scene's views."""
    for view, panel in ((scene.ortho, ResultsPanel), (scene.mrs, TablePanel)):
        if not view.destroyed and not view.isPanelOpen(panel):
            view.togglePanel(panel, **panel.defaultLayout())


@contextmanager
def _progress(frame: Any) -> Iterator[Callable[[int, int], None]]:
    """Show in the status bar how much was read, a few times a second, until everything was, or failed."""
    bar, latest = frame.GetStatusBar(), 0.0

    def progress(done: int, total: int) -> None:
        nonlocal latest
        if bar is not None and time.monotonic() - latest > 0.2:
            latest = time.monotonic()
            bar.SetStatusText(f"Reading maps: {done} of {total}")
            bar.Update()

    try:
        with wx.BusyCursor():
            yield progress
    finally:
        if bar is not None:
            bar.SetStatusText("")


class LoadResults(Action):
    """The entry of the menu: ask for a folder of results and show it."""

    def __init__(self, overlayList: Any, displayCtx: Any, frame: Any):
        super().__init__(overlayList, displayCtx, self.loadResults)
        self.frame = frame

    def loadResults(
        self, folder: str | Path | None = None, t1: str | Path | None = None, data: str | Path | None = None
    ) -> Scene | None:
        """Show a folder, or ask for one.  Errors are shown in a window, but raised for a given folder."""
        if folder is not None:
            return load(self.frame, folder, t1, data)
        scene = scene_of(self.frame)
        beside = [] if scene is None else [scene.results.folder.absolute().parent]
        places = [*beside, Path(fslsettings.read("loadSaveOverlayDir", os.getcwd()))]
        title = "Folder of results (fsl_mrs_dl mrsi or fit, fsl_mrsi, fsl_mrs)"
        chosen = dialogs.ask_for_folder(self.frame, title, "results", places)
        if chosen is None:
            return None
        t1 = self._ask_for_t1(chosen)
        try:
            scene = load(self.frame, chosen, t1)
        except Exception as exc:  # FSLeyes would only log it
            show_error(exc, "Load DL-MRS results", self.frame)
            return None
        fslsettings.write("loadSaveOverlayDir", str(Path(chosen).parent))
        return scene

    def _ask_for_t1(self, folder: str) -> str | None:
        """Ask for a structural image where none is shown; None where the dialog is cancelled."""
        scene = scene_of(self.frame)
        if scene is not None and scene.t1 is not None:
            return None
        title = "Structural image beneath the maps (Cancel: none)"
        return dialogs.ask_for_file(self.frame, title, IMAGES, "t1", [Path(folder).parent])
