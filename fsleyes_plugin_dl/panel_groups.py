"""Groups of the panel of settings: means over a region, another folder beside the first, the picture as a file."""

from __future__ import annotations

import wx

from fsl_mrs_dl.core.errors import FslMrsDlError

from .results_folder import Results

__all__ = ["add_comparison", "add_picture", "add_region", "copy_text"]

_SECOND = {"difference": "Difference", "other": "Other folder"}


def add_region(panel) -> None:
    """Add the group of means over a region to a panel."""
    scene = panel.scene
    panel.group("region", "Mean over a region")
    panel.number("region", "Radius (mm)", "radius", "Of the ball around the cursor")
    panel.button("region", "Ball at the cursor", scene.set_ball, "Mean over a ball around the cursor")
    panel.button(
        "region", "Mask…", lambda: _ask_for_mask(panel), "Mean over a mask, or tissue fractions, on any grid in mm"
    )
    panel.tick("region", "Other side, too", "mirror", "The same region mirrored at the middle of the head")
    panel.text("region", "", "region", tip="Every voxel counts with the part of it that lies inside")
    panel.button("region", "Copy", lambda: copy_text("\n".join(scene.region_report())), "Copy these lines")


def add_comparison(panel) -> None:
    """Add the group of another folder to a panel."""
    scene = panel.scene
    panel.group("compare", "Compare with another folder")
    panel.button("compare", "Folder…", lambda: _ask_for_folder(panel), "Show other results beside these")
    panel.choice("compare", "Second view", "second", "What the second view shows", labels=_SECOND)
    panel.button("compare", "End", scene.end_comparison, "Close the second view")
    panel.text("compare", "", "compare")


def add_picture(panel) -> None:
    """Add the group of the picture as a file to a panel."""
    panel.group("picture", "Picture")
    panel.button(
        "picture",
        "Save picture…",
        lambda: _ask_for_picture(panel),
        "As shown, with folder, voxel and which side is which",
    )


def copy_text(text: str) -> None:
    """Copy a text to the clipboard."""
    if wx.TheClipboard.Open():
        wx.TheClipboard.SetData(wx.TextDataObject(text))
        wx.TheClipboard.Flush()
        wx.TheClipboard.Close()


def _attempt(panel, action) -> None:
    """Do something; show its error in a window."""
    try:
        action()
    except (FslMrsDlError, OSError) as exc:
        wx.MessageBox(str(exc), panel.title(), wx.OK | wx.ICON_ERROR, panel)


def _ask_for_mask(panel) -> None:
    style = wx.FD_OPEN | wx.FD_FILE_MUST_EXIST
    with wx.FileDialog(panel, "Mask", wildcard="NIfTI images|*.nii;*.nii.gz", style=style) as dialog:
        if dialog.ShowModal() == wx.ID_OK:
            _attempt(panel, lambda: panel.scene.set_mask(dialog.GetPath()))


def _ask_for_folder(panel) -> None:
    with wx.DirDialog(panel, "Folder of results to compare with", style=wx.DD_DIR_MUST_EXIST) as dialog:
        if dialog.ShowModal() == wx.ID_OK:
            _attempt(panel, lambda: panel.scene.compare(Results.open(dialog.GetPath())))


def _ask_for_picture(panel) -> None:
    style = wx.FD_SAVE | wx.FD_OVERWRITE_PROMPT
    with wx.FileDialog(panel, "Save the picture", wildcard="PNG (*.png)|*.png", style=style) as dialog:
        if dialog.ShowModal() == wx.ID_OK:
            _attempt(panel, lambda: panel.scene.save_picture(dialog.GetPath()))
