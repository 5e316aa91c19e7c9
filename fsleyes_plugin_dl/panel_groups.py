"""Groups of the panel of settings: means over a region, another folder beside the first, the picture as a file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wx

from fsl_mrs_dl.core.errors import FslMrsDlError

from . import dialogs, starts
from .results_folder import Results

if TYPE_CHECKING:
    from .panels import ResultsPanel

__all__ = ["IMAGES", "add_comparison", "add_picture", "add_region", "copy_text", "show_error"]

_log = logging.getLogger(__name__)

IMAGES = "NIfTI images (*.nii;*.nii.gz)|*.nii;*.nii.gz"
"""Files that dialogs for images offer."""

_SECOND = {"difference": "Difference", "other": "Other folder"}


def add_region(panel: ResultsPanel) -> None:
    """Add the group of means over a region to a panel."""
    scene = panel.current
    panel.group("region", "Mean over a region")
    panel.number("region", "Radius (mm)", "radius", "Of the ball around the cursor")
    panel.button(
        "region", "Ball at the cursor", lambda: _attempt(panel, scene.set_ball), "Mean over a ball around the cursor"
    )
    panel.button(
        "region", "Mask…", lambda: _ask_for_mask(panel), "Mean over a mask, or tissue fractions, on any grid in mm"
    )
    panel.tick("region", "Other side, too", "mirror", "The same region mirrored at the middle of the head")
    panel.wide_text("region", "region", tip="Every voxel counts with the part of it that lies inside")
    panel.button("region", "Copy", lambda: copy_text(panel, scene.region_text()), "Copy these lines, with the folder")


def add_comparison(panel: ResultsPanel) -> None:
    """Add the group of another folder to a panel."""
    scene = panel.current
    panel.group("compare", "Compare with another folder")
    panel.button("compare", "Folder…", lambda: _ask_for_folder(panel), "Show other results beside these")
    panel.choice("compare", "Second view", "second", "What the second view shows", labels=_SECOND)
    panel.button("compare", "End", scene.end_comparison, "Close the second view")
    panel.wide_text("compare", "compare")


def add_picture(panel: ResultsPanel) -> None:
    """Add the group of the picture as a file to a panel."""
    panel.group("picture", "Picture")
    panel.button(
        "picture",
        "Save picture…",
        lambda: _ask_for_picture(panel),
        "As shown, with folder, voxel and which side is which",
    )


def copy_text(panel: Any, text: str) -> None:
    """Copy a text to the clipboard; show in a window where another program holds it."""
    if not wx.TheClipboard.Open():
        wx.MessageBox("The clipboard is in use; try again.", panel.title(), wx.OK | wx.ICON_ERROR, panel)
        return
    wx.TheClipboard.SetData(wx.TextDataObject(text))
    wx.TheClipboard.Flush()
    wx.TheClipboard.Close()


def show_error(exc: Exception, title: str, parent: Any) -> None:
    """Show an error in a window; one that is a fault of the program is logged, too."""
    kind = "" if isinstance(exc, FslMrsDlError) else f"{type(exc).__name__}: "
    if kind:
        _log.error("%s failed.", title, exc_info=exc)
    wx.MessageBox(f"{kind}{exc}", title, wx.OK | wx.ICON_ERROR, parent)


def _attempt(panel: ResultsPanel, action: Callable[[], object]) -> None:
    """Do something that may take a few seconds; show its error in a window."""
    try:
        with wx.BusyCursor():
            action()
    except Exception as exc:  # FSLeyes would only log it
        show_error(exc, panel.title(), panel)


def _ask_for_mask(panel: ResultsPanel) -> None:
    scene = panel.current
    # Masks are drawn on structural images.
    beside = [] if scene.t1 is None or not scene.t1.dataSource else [Path(scene.t1.dataSource).parent]
    path = dialogs.ask_for_file(panel, "Mask", IMAGES, "mask", [*beside, scene.results.folder.parent])
    if path is not None:
        _attempt(panel, lambda: scene.set_mask(path))


def _ask_for_folder(panel: ResultsPanel) -> None:
    scene = panel.current
    folder = scene.results.folder.parent
    path = dialogs.ask_for_folder(panel, "Folder of results to compare with", "compare", [folder])
    if path is not None:
        _attempt(panel, lambda: scene.compare(Results.open(path)))


def _ask_for_picture(panel: ResultsPanel) -> None:
    scene = panel.current
    name, folder = starts.picture_name(scene.results, scene.settings.name), scene.results.folder.parent
    path = dialogs.ask_where_to_save(panel, "Save the picture", "PNG (*.png)|*.png", name, [folder])
    if path is not None:
        _attempt(panel, lambda: scene.save_picture(path))
