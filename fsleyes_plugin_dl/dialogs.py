"""Dialogs for files and folders: where they begin, and the names that they propose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wx

from . import starts

__all__ = ["ask_for_file", "ask_for_folder", "ask_where_to_save"]


def ask_for_file(parent: Any, title: str, wildcard: str, purpose: str, folders: list[Path]) -> str | None:
    """Return the file that a user chose; None where the dialog was cancelled.

    Parameters
    ----------
    parent : wx.Window
    title, wildcard : str
    purpose : str
        Of the file: the dialog begins where the latest one for that purpose was.
    folders : list of Path
        Places to begin at first, of which the first that exists counts.
    """
    style = wx.FD_OPEN | wx.FD_FILE_MUST_EXIST
    start = starts.folder_for(purpose, folders)
    with wx.FileDialog(parent, title, start, wildcard=wildcard, style=style) as dialog:
        if dialog.ShowModal() != wx.ID_OK:
            return None
        return starts.chosen(purpose, dialog.GetPath())


def ask_for_folder(parent: Any, title: str, purpose: str, folders: list[Path]) -> str | None:
    """Return the folder that a user chose, as :func:`ask_for_file` does; the next dialog begins beside it."""
    start = starts.folder_for(purpose, folders)
    with wx.DirDialog(parent, title, start, wx.DD_DIR_MUST_EXIST) as dialog:
        if dialog.ShowModal() != wx.ID_OK:
            return None
        return starts.chosen(purpose, dialog.GetPath())


def ask_where_to_save(parent: Any, title: str, wildcard: str, proposal: str, folders: list[Path]) -> str | None:
    """Return the file to write, with the ending of the proposed name; None where the dialog was cancelled, or an
    existing file is to be kept."""
    start = starts.folder_for("save", folders)
    style = wx.FD_SAVE | wx.FD_OVERWRITE_PROMPT
    with wx.FileDialog(parent, title, start, proposal, wildcard, style) as dialog:
        if dialog.ShowModal() != wx.ID_OK:
            return None
        path = Path(starts.chosen("save", dialog.GetPath()))
    ending = Path(proposal).suffix
    if path.suffix.lower() != ending:
        path = path.with_name(path.name + ending)
        # The dialog asked about the name without the ending.
        question = f"{path} exists. Replace it?"
        if path.exists() and wx.MessageBox(question, title, wx.YES_NO | wx.ICON_QUESTION, parent) != wx.YES:
            return None
    return str(path)
