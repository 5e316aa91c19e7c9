"""The two panels: what is shown and how, beside the images; concentrations with their uncertainties, beside the
spectrum."""

from __future__ import annotations

import fsleyes_props as props
import wx
from fsleyes.controls.controlpanel import ControlPanel, SettingsPanel
from fsleyes.views.orthopanel import OrthoPanel
from fsleyes_plugin_mrs.views import MRSView

from . import maps
from .scene import CURVES, scene_of

__all__ = ["ResultsPanel", "TablePanel"]

_NOTHING = "Nothing is loaded.\nTools > Load DL-MRS results"
_BAD, _DOUBTFUL = wx.Colour(190, 30, 20), wx.Colour(150, 95, 0)
_TEXTS = {
    "data": "Data",
    "fit": "Fit",
    "baseline": "Baseline",
    "residual": "Residual",
    "contribution": "The metabolite's part of the fit",
    "band": "95 % band of the fit",
    "autoScale": "Scale to each voxel",
}


class ResultsPanel(SettingsPanel):
    """Which map is shown and how, what is marked, and which curves the spectrum has."""

    @staticmethod
    def title():
        """What menus call it."""
        return "DL-MRS results"

    @staticmethod
    def supportedViews():
        """It belongs to ortho views."""
        return [OrthoPanel]

    @staticmethod
    def defaultLayout():
        """Where it opens."""
        return {"location": wx.LEFT}

    def __init__(self, parent, overlayList, displayCtx, viewPanel):
        super().__init__(parent, overlayList, displayCtx, viewPanel)
        self.texts: dict[str, wx.StaticText] = {}
        self.scene = None
        self.sceneChanged()

    def destroy(self):
        """FSLeyes says that the panel is no longer needed."""
        self.scene = None
        super().destroy()

    # -- building ------------------------------------------------------------------------------------------------------

    def sceneChanged(self) -> None:
        """Other results are shown: build the widgets for what they have."""
        self.scene = scene_of(self.frame)
        self.getWidgetList().Clear()
        self.texts = {}
        if self.scene is None:
            self._group("none", "DL-MRS results")
            self._text("none", "", "state", _NOTHING)
        elif self.scene.results.kind == "MRSI":
            self._map()
            self._certainty()
            self._marks()
            self._spectrum()
            self.mapChanged()
        else:
            self._group("map", f"Single voxel: {self.scene.results.folder.name}")
            self._choice("map", "Metabolite", "metab", "Whose part of the fit is drawn")
            self._spectrum()
        self.Layout()

    def _group(self, key: str, title: str) -> None:
        self.getWidgetList().AddGroup(key, title)

    def _add(self, group: str, title: str, widget, tip: str = "") -> None:
        self.getWidgetList().AddWidget(widget, displayName=title, tooltip=tip or None, groupName=group)
        if widget.GetBestSize()[0] > 180:
            # The longest label must not push the others out of sight; the list that opens shows all of it.
            widget.SetMinSize((180 if isinstance(widget, wx.Choice) else 260, -1))

    def _text(self, group: str, title: str, key: str, text: str = "", tip: str = "") -> wx.StaticText:
        self.texts[key] = wx.StaticText(self.getWidgetList(), label=text)
        self._add(group, title, self.texts[key], tip)
        return self.texts[key]

    def _choice(self, group: str, title: str, name: str, tip: str, labels=None) -> None:
        widget = props.makeWidget(self.getWidgetList(), self.scene.settings, name, labels=labels)
        self._add(group, title, widget, tip)

    def _number(self, group: str, title: str, name: str, tip: str) -> None:
        widget = props.makeWidget(
            self.getWidgetList(), self.scene.settings, name, slider=False, spin=True, showLimits=False
        )
        self._add(group, title, widget, tip)

    def _tick(self, group: str, title: str, name: str, tip: str = "") -> None:
        self._add(group, title, props.makeWidget(self.getWidgetList(), self.scene.settings, name), tip)

    def _map(self) -> None:
        scene, parent = self.scene, self.getWidgetList()
        self._group("map", f"Map: {scene.results.folder.name}")
        self._choice("map", "Metabolite", "metab", "Whose map is shown, and whose part of the fit is drawn")
        self._choice("map", "Quantity", "quantity", "What the map shows", labels=scene.results.label)
        opts = scene.map_opts
        colours = props.makeWidget(parent, opts, "cmap", labels=_cmap_label)
        self._add("map", "Colours", colours, "Colour map")
        if isinstance(colours, wx.ComboBox):
            colours.SetInsertionPoint(0)  # or its text begins out of sight
        self._add(
            "map",
            "Range",
            _range(parent, opts, "displayRange"),
            "The values of the first and the last colour, in the unit of the map",
        )
        again = wx.Button(parent, label="Robust range")
        again.Bind(wx.EVT_BUTTON, lambda _: scene.robust())
        self._add(
            "map",
            "",
            again,
            "From zero to the 98th percentile of voxels whose relative SD is below 50 % and that are not outlined",
        )

    def _certainty(self) -> None:
        self._group("sure", "Certainty")
        self._tick(
            "sure",
            "Fade what is uncertain",
            "fade",
            "Opacity goes by the relative SD of what is shown; for concentrations and ratios only",
        )
        self._number("sure", "Opaque up to (%)", "sure", "Relative SD up to which a voxel is opaque")
        self._number("sure", "Invisible from (%)", "unsure", "Relative SD from which on a voxel is invisible")
        self._choice("sure", "Hide above", "criterion", "What voxels are hidden by", labels=maps.CRITERIA)
        self._number("sure", "Threshold", "threshold", "In percent, or in the unit of the map")
        self._text("sure", "Shown", "shown")

    def _marks(self) -> None:
        scene = self.scene
        found = maps.marks(scene.results, True, True)
        self._group("marks", "Outlined voxels")
        kinds = (("markFailed", "Failed", "failed", (1, 2)), ("markUnlike", "Unlike clean data", "ood-score", (3,)))
        for name, title, quantity, keys in kinds:
            if not scene.results.has(quantity):
                continue
            self._tick("marks", title, name)
            for key in keys:
                meaning, colour = maps.MARKS[key]
                text = self._text(
                    "marks", "", f"mark{key}", f"■ {int((found == key).sum())} {meaning.split(' (')[0]}", meaning
                )
                text.SetForegroundColour(wx.Colour(*(int(220 * part) for part in colour)))
        if not any(scene.results.has(kind[2]) for kind in kinds):
            self._text("marks", "", "marks", "The folder does not tell.")

    def _spectrum(self) -> None:
        scene = self.scene
        self._group("spectrum", "Spectrum at the cursor")
        there = [what for what in CURVES if what in scene.curves]
        if scene.results.evaluator is not None:
            there += ["contribution", "band"]
        for name in [*there, "autoScale"]:
            self._tick("spectrum", _TEXTS[name], name)
        if scene.results.evaluator is None:
            self._text("spectrum", "", "model", "No model in the folder:\nneither parts nor band.")

    # -- following -----------------------------------------------------------------------------------------------------

    def mapChanged(self) -> None:
        """Another map, or another threshold."""
        scene = self.scene
        if scene is None or scene.shown is None or "shown" not in self.texts:
            return
        fitted = int(scene.results.fitted.sum())
        seen = maps.visible(scene.shown, scene.settings.fade, scene.settings.sure, scene.settings.unsure)
        self.texts["shown"].SetLabel(f"  {int(seen.sum())} of {fitted} fitted voxels")

    def voxelChanged(self) -> None:
        """Another voxel; nothing here depends on it."""


class TablePanel(ControlPanel):
    """Concentrations of the cursor's voxel, with uncertainties and remarks."""

    @staticmethod
    def title():
        """What menus call it."""
        return "DL-MRS table"

    @staticmethod
    def supportedViews():
        """It belongs to MRS views."""
        return [MRSView]

    @staticmethod
    def defaultLayout():
        """Where it opens."""
        return {"location": wx.BOTTOM}

    def __init__(self, parent, overlayList, displayCtx, viewPanel):
        super().__init__(parent, overlayList, displayCtx, viewPanel)
        self.state = wx.StaticText(self, style=wx.ST_ELLIPSIZE_END)
        self.list = wx.ListCtrl(self, style=wx.LC_REPORT | wx.LC_SINGLE_SEL | wx.LC_HRULES | wx.LC_VRULES)
        sizer = wx.BoxSizer(wx.VERTICAL)
        sizer.Add(self.state, flag=wx.EXPAND | wx.ALL, border=5)
        sizer.Add(self.list, proportion=1, flag=wx.EXPAND)
        self.SetSizer(sizer)
        self.SetMinSize((300, 140))
        self.titles: list[str] = []
        self.list.Bind(wx.EVT_LIST_ITEM_ACTIVATED, self._activated)
        self.list.SetToolTip("A double click shows the metabolite's map and its part of the fit")
        self.scene = None
        self.sceneChanged()

    def destroy(self):
        """FSLeyes says that the panel is no longer needed."""
        self.scene = None
        super().destroy()

    def sceneChanged(self) -> None:
        """Other results are shown."""
        self.scene = scene_of(self.frame)
        self.voxelChanged()

    def mapChanged(self) -> None:
        """Another metabolite: its line is brought out."""
        self._bring_out()

    def voxelChanged(self) -> None:
        """Another voxel: fill the table."""
        if self.scene is None:
            self.state.SetLabel(_NOTHING.replace("\n", " "))
            self.list.DeleteAllItems()
            return
        found = self.scene.table()
        self.state.SetLabel(found.state)
        self.state.SetToolTip(found.state)
        self.state.SetForegroundColour(wx.NullColour if found.good else _BAD)
        self.list.Freeze()
        self.list.DeleteAllItems()
        if found.titles and found.titles != self.titles:
            self.list.DeleteAllColumns()
            for column, title in enumerate(found.titles):
                plain = title in ("Metabolite", "Remarks")
                self.list.InsertColumn(column, title, wx.LIST_FORMAT_LEFT if plain else wx.LIST_FORMAT_RIGHT)
            self.titles = found.titles
        for row, (cells, doubtful) in enumerate(zip(found.rows, found.doubtful)):
            self.list.InsertItem(row, cells[0])
            for column, text in enumerate(cells[1:], 1):
                self.list.SetItem(row, column, text)
            if doubtful:
                self.list.SetItemTextColour(row, _DOUBTFUL)
        self._widths(found)
        self.list.Thaw()
        self._bring_out()

    def _widths(self, found) -> None:
        for column, title in enumerate(found.titles):
            widest = max([title, *(cells[column] for cells in found.rows)], key=len)
            # A tenth more for bold letters.
            self.list.SetColumnWidth(column, int(1.1 * self.list.GetTextExtent(widest)[0]) + 12)

    def _bring_out(self) -> None:
        """The chosen metabolite's line in bold, and in sight."""
        if self.scene is None:
            return
        font = self.list.GetFont()
        for row in range(self.list.GetItemCount()):
            chosen = self.list.GetItemText(row) == self.scene.settings.metab
            self.list.SetItemFont(row, font.Bold() if chosen else font)
            if chosen:
                self.list.EnsureVisible(row)

    def _activated(self, event) -> None:
        if self.scene is not None:
            self.scene.settings.metab = self.list.GetItemText(event.GetIndex())

    def cells(self) -> list[list[str]]:
        """The text of the table as it is shown, a list for every line."""
        return [
            [self.list.GetItemText(row, column) for column in range(self.list.GetColumnCount())]
            for row in range(self.list.GetItemCount())
        ]


def _range(parent, opts, name: str):
    return props.makeWidget(
        parent, opts, name, showLimits=False, slider=False, spin=True, spinWidth=7, labels=["from", "to"]
    )


def _cmap_label(key: str) -> str:
    import fsleyes.colourmaps as colourmaps

    return colourmaps.getColourMapLabel(key)
