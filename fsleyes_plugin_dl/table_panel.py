"""The panel with the concentrations of the voxel at the cursor, beside the spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wx
from fsleyes.controls.controlpanel import ControlPanel
from fsleyes_plugin_mrs.views import MRSView

from . import dialogs, starts, titles
from .panel_groups import copy_text
from .scene import Scene, scene_of
from .subscribers import subscribe, unsubscribe
from .voxel_table import VoxelTable, as_text

__all__ = ["BAD_COLOUR", "DOUBTFUL_COLOUR", "NOTHING_LOADED", "TablePanel"]

NOTHING_LOADED = "Nothing is loaded.\nTools > Load DL-MRS results"
BAD_COLOUR, DOUBTFUL_COLOUR = wx.Colour(190, 30, 20), wx.Colour(150, 95, 0)


class TablePanel(ControlPanel):
    """Concentrations of the voxel at the cursor, with uncertainties and remarks."""

    @staticmethod
    def title() -> str:
        """Return the name in menus."""
        return "DL-MRS table"

    @staticmethod
    def supportedViews() -> list[type]:
        """Return the views that it belongs to: MRS views."""
        return [MRSView]

    @staticmethod
    def defaultLayout() -> dict[str, Any]:
        """Return the place where it opens."""
        return {"location": wx.BOTTOM}

    def __init__(self, parent: Any, overlayList: Any, displayCtx: Any, viewPanel: Any):
        super().__init__(parent, overlayList, displayCtx, viewPanel)
        # It keeps the size that its row gives it, whatever is written in it.
        self.state = wx.StaticText(self, style=wx.ST_NO_AUTORESIZE)
        self._said, self._width = "", 0
        self.list = wx.ListCtrl(self, style=wx.LC_REPORT | wx.LC_SINGLE_SEL | wx.LC_HRULES | wx.LC_VRULES)
        copy, save = (wx.Button(self, label=text, style=wx.BU_EXACTFIT) for text in ("Copy", "Save…"))
        copy.SetToolTip("Copy the table, for a spreadsheet")
        save.SetToolTip("Write the table into a file, with the folder and the voxel")
        copy.Bind(wx.EVT_BUTTON, lambda _: self.copy())
        save.Bind(wx.EVT_BUTTON, lambda _: self.ask_and_save())
        row = wx.BoxSizer(wx.HORIZONTAL)
        row.Add(self.state, proportion=1, flag=wx.ALIGN_CENTRE_VERTICAL | wx.ALL, border=5)
        self.buttons = (copy, save)
        for button in self.buttons:
            row.Add(button, flag=wx.ALL, border=2)
        self._beside = sum(button.GetBestSize()[0] + 4 for button in self.buttons)
        sizer = wx.BoxSizer(wx.VERTICAL)
        sizer.Add(row, flag=wx.EXPAND)
        sizer.Add(self.list, proportion=1, flag=wx.EXPAND)
        self.SetSizer(sizer)
        self.SetMinSize((300, 140))
        self.titles: list[str] = []
        self.list.Bind(wx.EVT_LIST_ITEM_ACTIVATED, self._activated)
        self.list.SetToolTip("A double click shows the metabolite's map and its part of the fit")
        self.Bind(wx.EVT_SIZE, self._resized)
        self.scene: Scene | None = None
        subscribe(self.frame, self)
        self.sceneChanged()

    def destroy(self) -> None:
        """Stop following the scene; FSLeyes calls this when the panel is closed."""
        unsubscribe(self.frame, self)
        self.scene = None
        super().destroy()

    def sceneChanged(self) -> None:
        """Show the table of the new scene."""
        self.scene = scene_of(self.frame)
        self.voxelChanged()

    def mapChanged(self) -> None:
        """Emphasise the row of the new metabolite."""
        self._emphasise()

    def voxelChanged(self) -> None:
        """Fill the table with the new voxel."""
        if self.scene is not scene_of(self.frame):
            return  # between two scenes
        if self.scene is None:
            self._say(NOTHING_LOADED.replace("\n", " "))
            self.list.DeleteAllItems()
            return
        table = self.scene.table()
        self.state.SetForegroundColour(wx.NullColour if table.good else BAD_COLOUR)
        self._say(table.state)
        self.list.Freeze()
        try:
            self._fill(table)
        finally:
            self.list.Thaw()
        self._emphasise()

    def _fill(self, table: VoxelTable) -> None:
        """Write the rows of a table into the list."""
        self.list.DeleteAllItems()
        if table.titles and table.titles != self.titles:
            self.list.DeleteAllColumns()
            for column, title in enumerate(table.titles):
                plain = title in ("Metabolite", "Remarks")
                self.list.InsertColumn(column, title, wx.LIST_FORMAT_LEFT if plain else wx.LIST_FORMAT_RIGHT)
            self.titles = table.titles
        for row, (cells, doubtful) in enumerate(zip(table.rows, table.doubtful)):
            self.list.InsertItem(row, cells[0])
            for column, text in enumerate(cells[1:], 1):
                self.list.SetItem(row, column, text)
            if doubtful:
                self.list.SetItemTextColour(row, DOUBTFUL_COLOUR)
        self._set_widths(table)

    def _say(self, text: str) -> None:
        """Write the line on the voxel, in as many lines as its row needs."""
        self._said = text
        # All but the buttons and the borders around them.
        pixels = max(self.GetClientSize()[0] - self._beside - 10, 100)
        self.state.SetLabelText(titles.wrapped(text, pixels, lambda line: self.state.GetTextExtent(line)[0]))
        self.state.SetToolTip(text)
        lines = self.state.GetLabel().count("\n") + 1
        self.state.SetMinSize((-1, lines * self.GetCharHeight()))
        self.Layout()

    def _resized(self, event: Any) -> None:
        event.Skip()
        if self.GetClientSize()[0] != self._width:
            self._width = self.GetClientSize()[0]
            wx.CallAfter(self._wrap_again)

    def _wrap_again(self) -> None:
        if self and not self.destroyed:
            self._say(self._said)

    def _set_widths(self, table: VoxelTable) -> None:
        for column, title in enumerate(table.titles):
            widest = max([title, *(cells[column] for cells in table.rows)], key=len)
            # A tenth more for bold letters.
            self.list.SetColumnWidth(column, int(1.1 * self.list.GetTextExtent(widest)[0]) + 12)

    def _emphasise(self) -> None:
        """Show the row of the chosen metabolite in bold, and scroll to it."""
        if self.scene is None:
            return
        font = self.list.GetFont()
        for row in range(self.list.GetItemCount()):
            chosen = self.list.GetItemText(row) == self.scene.settings.metab
            self.list.SetItemFont(row, font.Bold() if chosen else font)
            if chosen:
                self.list.EnsureVisible(row)

    def _activated(self, event: Any) -> None:
        if self.scene is not None:
            self.scene.settings.metab = self.list.GetItemText(event.GetIndex())

    def text(self) -> str:
        """Return the table as tab-separated text, with the folder and the line on the voxel above it."""
        folder = "" if self.scene is None else str(self.scene.results.folder)
        return as_text(folder, self._said, self.titles, self.cells())

    def copy(self) -> None:
        """Copy the table to the clipboard."""
        copy_text(self, self.text())

    def save(self, path: str | Path) -> None:
        """Write the table into a file; show an error in a window."""
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.text())
        except OSError as exc:
            wx.MessageBox(f"{path}: cannot be written ({exc.strerror}).", self.title(), wx.OK | wx.ICON_ERROR, self)

    def ask_and_save(self) -> None:
        """Ask for a file and write the table into it."""
        if self.scene is None:
            return
        results = self.scene.results
        name = starts.table_name(results, self.scene.voxel)
        path = dialogs.ask_where_to_save(self, "Save the table", "Tables (*.tsv)|*.tsv", name, [results.folder.parent])
        if path is not None:
            self.save(path)

    def cells(self) -> list[list[str]]:
        """Return the text of the table, a list for every row."""
        return [
            [self.list.GetItemText(row, column) for column in range(self.list.GetColumnCount())]
            for row in range(self.list.GetItemCount())
        ]
