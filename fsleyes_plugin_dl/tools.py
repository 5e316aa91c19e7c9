"""*Tools > Load DL-MRS results*."""

from __future__ import annotations

import os
from pathlib import Path

import fsl.utils.settings as fslsettings
import wx
from fsleyes.actions import Action

from fsl_mrs_dl.core.errors import FslMrsDlError

from .panels import ResultsPanel, TablePanel
from .results_folder import Results
from .scene import Scene, show

__all__ = ["LoadResults", "load"]


def load(frame, folder: str | Path, t1: str | Path | None = None, data: str | Path | None = None) -> Scene:
    """Show a folder of results in a window of FSLeyes, with the panels of this package open.

    Raises
    ------
    DataError
        If the folder holds no results, or a file cannot be read.
    """
    scene = show(frame, Results.open(folder), t1, data)
    for view, panel in ((scene.ortho, ResultsPanel), (scene.mrs, TablePanel)):
        if not view.isPanelOpen(panel):
            view.togglePanel(panel, **panel.defaultLayout())
    return scene


class LoadResults(Action):
    """The entry of the menu: ask for a folder of results and show it."""

    def __init__(self, overlayList, displayCtx, frame):
        super().__init__(overlayList, displayCtx, self.loadResults)
        self.frame = frame

    def loadResults(self, folder=None, t1=None, data=None) -> Scene | None:
        """Show a folder, or ask for one.  Errors are shown in a window, but raised for a given folder."""
        if folder is not None:
            return load(self.frame, folder, t1, data)
        start = fslsettings.read("loadSaveOverlayDir", os.getcwd())
        with wx.DirDialog(
            self.frame, "Folder of results (fsl_mrs_dl mrsi or fit, fsl_mrsi, fsl_mrs)", start, wx.DD_DIR_MUST_EXIST
        ) as dialog:
            if dialog.ShowModal() != wx.ID_OK:
                return None
            folder = dialog.GetPath()
        try:
            scene = load(self.frame, folder)
        except FslMrsDlError as exc:
            wx.MessageBox(str(exc), "Load DL-MRS results", wx.OK | wx.ICON_ERROR, self.frame)
            return None
        fslsettings.write("loadSaveOverlayDir", str(Path(folder).parent))
        return scene
