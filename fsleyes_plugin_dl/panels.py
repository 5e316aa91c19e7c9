"""The two panels: settings of map and spectrum beside the images; concentrations with their uncertainties beside the
spectrum."""

from __future__ import annotations

import fsleyes_props as props
import wx
from fsleyes.controls.controlpanel import ControlPanel, SettingsPanel
from fsleyes.views.orthopanel import OrthoPanel
from fsleyes_plugin_mrs.views import MRSView

from . import map_display
from .images import CURVES
from .scene import scene_of, subscribe, unsubscribe
from .voxel_table import VoxelTable

__all__ = ["ResultsPanel", "TablePanel"]

_NOTHING_LOADED = "Nothing is loaded.\nTools > Load DL-MRS results"
_BAD_COLOUR, _DOUBTFUL_COLOUR = wx.Colour(190, 30, 20), wx.Colour(150, 95, 0)
_CURVE_LABELS = {
    "data": "Data",
    "fit": "Fit",
    "baseline": "Baseline",
    "residual": "Residual",
    "contribution": "The metabolite's part of the fit",
    "band": "95 % band of the fit",
    "autoScale": "Scale to each voxel",
}


class ResultsPanel(SettingsPanel):
    """Settings: map, colours, thresholds, marks, and the curves of the spectrum."""

    @staticmethod
    def title():
        """Return the name in menus."""
        return "DL-MRS results"

    @staticmethod
    def supportedViews():
        """Return the views that it belongs to: ortho views."""
        return [OrthoPanel]

    @staticmethod
    def defaultLayout():
        """Return the place where it opens."""
        return {"location": wx.LEFT}

    def __init__(self, parent, overlayList, displayCtx, viewPanel):
        super().__init__(parent, overlayList, displayCtx, viewPanel)
        self.texts: dict[str, wx.StaticText] = {}
        self.scene = None
        subscribe(self.frame, self)
        self.sceneChanged()

    def destroy(self):
        """Stop following the scene; FSLeyes calls this when the panel is closed."""
        unsubscribe(self.frame, self)
        self.scene = None
        super().destroy()

    # -- building ------------------------------------------------------------------------------------------------------

    def sceneChanged(self) -> None:
        """Build the widgets that the results of the new scene need."""
        self.scene = scene_of(self.frame)
        self.getWidgetList().Clear()
        self.texts = {}
        if self.scene is None:
            self._group("none", "DL-MRS results")
            self._text("none", "", "state", _NOTHING_LOADED)
        elif self.scene.results.kind == "MRSI":
            self._add_map()
            self._add_uncertainty()
            self._add_marks()
            self._add_spectrum()
            self.mapChanged()
        else:
            self._group("map", f"Single voxel: {self.scene.results.folder.name}")
            self._choice("map", "Metabolite", "metab", "Metabolite whose part of the fit is drawn")
            self._add_spectrum()
        self.Layout()

    def _group(self, key: str, title: str) -> None:
        self.getWidgetList().AddGroup(key, title)

    def _add(self, group: str, title: str, widget, tip: str = "") -> None:
        self.getWidgetList().AddWidget(widget, displayName=title, tooltip=tip or None, groupName=group)
        if widget.GetBestSize()[0] > 180:
            # The longest label must not push the others out of sight; the opened list shows all of it.
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

    def _add_map(self) -> None:
        scene, parent = self.scene, self.getWidgetList()
        self._group("map", f"Map: {scene.results.folder.name}")
        self._choice("map", "Metabolite", "metab", "Metabolite whose map and part of the fit are shown")
        self._choice("map", "Quantity", "quantity", "Quantity that the map shows", labels=scene.results.label)
        opts = scene.map_opts
        colours = props.makeWidget(parent, opts, "cmap", labels=_cmap_label)
        self._add("map", "Colours", colours, "Colour map")
        if isinstance(colours, wx.ComboBox):
            colours.SetInsertionPoint(0)  # or its text begins out of sight
        self._add(
            "map",
            "Range",
            _range(parent, opts, "displayRange"),
            "Values of the first and the last colour, in the unit of the map",
        )
        robust = wx.Button(parent, label="Robust range")
        robust.Bind(wx.EVT_BUTTON, lambda _: scene.reset_range())
        self._add(
            "map",
            "",
            robust,
            "From zero to the 98th percentile of voxels whose relative SD is below 50 % and that are not outlined",
        )

    def _add_uncertainty(self) -> None:
        self._group("sure", "Uncertainty")
        self._tick(
            "sure",
            "Fade uncertain voxels",
            "fade",
            "Opacity follows the relative SD of the shown quantity; for concentrations and ratios only",
        )
        self._number("sure", "Opaque up to (%)", "sure", "Relative SD up to which a voxel is opaque")
        self._number("sure", "Invisible from (%)", "unsure", "Relative SD from which on a voxel is invisible")
        criteria = map_display.CRITERIA | ({"percent": "SD (%)"} if self.scene.results.in_vivo else {})
        self._choice("sure", "Hide above", "criterion", "Criterion that hides voxels", labels=criteria)
        self._number("sure", "Threshold", "threshold", "In percent, or in the unit of the map")
        self._text("sure", "Shown", "shown")

    def _add_marks(self) -> None:
        scene = self.scene
        codes = map_display.marks(scene.results)
        self._group("marks", "Outlined voxels")
        kinds = (
            ("markFailed", "Failed", "failed", (1, 2)),
            ("markOutOfDistribution", "Out of distribution", "ood-score", (3,)),
        )
        for name, title, quantity, keys in kinds:
            if not scene.results.has(quantity):
                continue
            self._tick("marks", title, name)
            for key in keys:
                meaning, colour = map_display.MARKS[key]
                text = self._text(
                    "marks", "", f"mark{key}", f"■ {int((codes == key).sum())} {meaning.split(' (')[0]}", meaning
                )
                text.SetForegroundColour(wx.Colour(*(int(220 * part) for part in colour)))
        if not any(scene.results.has(kind[2]) for kind in kinds):
            self._text("marks", "", "marks", "Not recorded in the folder.")

    def _add_spectrum(self) -> None:
        scene = self.scene
        self._group("spectrum", "Spectrum at the cursor")
        names = [name for name in CURVES if name in scene.curves]
        if scene.results.evaluator is not None:
            names += ["contribution", "band"]
        for name in [*names, "autoScale"]:
            self._tick("spectrum", _CURVE_LABELS[name], name)
        if scene.results.evaluator is None:
            self._text("spectrum", "", "model", "No model in the folder:\nneither parts nor band.")

    # -- following the scene -------------------------------------------------------------------------------------------

    def mapChanged(self) -> None:
        """Count the visible voxels of the new map or threshold."""
        scene = self.scene
        if scene is None or scene.shown is None or "shown" not in self.texts:
            return
        fitted = int(scene.results.fitted.sum())
        visible = map_display.visible(scene.shown, scene.settings.fade, scene.settings.sure, scene.settings.unsure)
        self.texts["shown"].SetLabel(f"  {int(visible.sum())} of {fitted} fitted voxels")

    def voxelChanged(self) -> None:
        """Do nothing: no setting depends on the voxel."""


class TablePanel(ControlPanel):
    """Concentrations of the voxel at the cursor, with uncertainties and remarks."""

    @staticmethod
    def title():
        """Return the name in menus."""
        return "DL-MRS table"

    @staticmethod
    def supportedViews():
        """Return the views that it belongs to: MRS views."""
        return [MRSView]

    @staticmethod
    def defaultLayout():
        """Return the place where it opens."""
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
        subscribe(self.frame, self)
        self.sceneChanged()

    def destroy(self):
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
        if self.scene is None:
            self.state.SetLabel(_NOTHING_LOADED.replace("\n", " "))
            self.list.DeleteAllItems()
            return
        table = self.scene.table()
        self.state.SetLabel(table.state)
        self.state.SetToolTip(table.state)
        self.state.SetForegroundColour(wx.NullColour if table.good else _BAD_COLOUR)
        self.list.Freeze()
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
                self.list.SetItemTextColour(row, _DOUBTFUL_COLOUR)
        self._set_widths(table)
        self.list.Thaw()
        self._emphasise()

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

    def _activated(self, event) -> None:
        if self.scene is not None:
            self.scene.settings.metab = self.list.GetItemText(event.GetIndex())

    def cells(self) -> list[list[str]]:
        """Return the text of the table, a list for every row."""
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
