"""The panel of settings beside the images; that of the table is in :mod:`.table_panel`, and is named here, where
FSLeyes looks for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import fsleyes_props as props
import wx
from fsleyes.controls.controlpanel import SettingsPanel
from fsleyes.views.orthopanel import OrthoPanel

from . import map_display, panel_groups, quantities, titles
from .images import CURVES
from .scene import Scene, scene_of
from .settings import PLANES
from .subscribers import subscribe, unsubscribe
from .table_panel import BAD_COLOUR, DOUBTFUL_COLOUR, NOTHING_LOADED, TablePanel

__all__ = ["ResultsPanel", "TablePanel"]

_WIDEST = 145  # of a widget in pixels
_MARGINS = 42  # in pixels between a panel's edges and the texts of its groups
_VIEW_CLOSED = "The view of the maps was closed; open an ortho view."
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
    def title() -> str:
        """Return the name in menus."""
        return "DL-MRS results"

    @staticmethod
    def supportedViews() -> list[type]:
        """Return the views that it belongs to: ortho views."""
        return [OrthoPanel]

    @staticmethod
    def defaultLayout() -> dict[str, Any]:
        """Return the place where it opens."""
        return {"location": wx.LEFT}

    def __init__(self, parent: Any, overlayList: Any, displayCtx: Any, viewPanel: Any):
        super().__init__(parent, overlayList, displayCtx, viewPanel)
        self.texts: dict[str, wx.StaticText] = {}
        self.ticks: dict[str, Any] = {}
        self._groups: dict[str, list[str]] = {}  # keys of the quantities by their kind
        self._cmap_names: list[str] = []
        self._wide: dict[str, str] = {}  # texts over the whole width, before they are wrapped
        self._latest: dict[str, str] = {}  # key of the quantity by its kind
        self._wrapped = 0
        self.scene: Scene | None = None
        # A panel that can be moved to the side hides the ends of its rows.
        self.getWidgetList().SetupScrolling(scroll_x=False, scrollToTop=False)
        self.getWidgetList().Bind(wx.EVT_SIZE, self._resized)
        subscribe(self.frame, self)
        self.sceneChanged()

    def destroy(self) -> None:
        """Stop following the scene; FSLeyes calls this when the panel is closed."""
        unsubscribe(self.frame, self)
        self.scene = None
        super().destroy()

    @property
    def current(self) -> Scene:
        """The scene that the widgets are of; there are none that need it without one."""
        assert self.scene is not None
        return self.scene

    # -- building ------------------------------------------------------------------------------------------------------

    def sceneChanged(self) -> None:
        """Build the widgets that the results of the new scene need."""
        scene = scene_of(self.frame)
        is_closed = scene is not None and scene.ortho.destroyed
        self.scene = None if is_closed else scene
        self.getWidgetList().Clear()
        self.texts, self.ticks, self._wide = {}, {}, {}
        if self.scene is None:
            self.group("none", "DL-MRS results")
            self.wide_text("none", "state", _VIEW_CLOSED if is_closed else NOTHING_LOADED)
        elif self.scene.results.kind == "MRSI":
            self._add_map()
            self._add_uncertainty()
            self._add_display()
            self._add_marks()
            self._add_spectrum()
            panel_groups.add_region(self)
            panel_groups.add_comparison(self)
            panel_groups.add_picture(self)
            # What is seldom changed is folded, so that the panel needs no scrolling.
            self._fold("display", "marks", "spectrum", "region", "compare", "picture")
            self.mapChanged()
        else:
            self.group("map", f"Single voxel: {self.scene.results.folder.name}")
            self._problem_line("map")
            self.choice("map", "Metabolite", "metab", "Metabolite whose part of the fit is drawn")
            self._add_spectrum()
            self.mapChanged()
        self.Layout()

    def _fold(self, *groups: str) -> None:
        for group in groups:
            self.getWidgetList().Expand(group, False)

    def _problem_line(self, group: str) -> None:
        """Add the line, in red, on what cannot be shown."""
        self.wide_text(group, "problem").SetForegroundColour(BAD_COLOUR)

    def button(self, group: str, label: str, action: Callable[[], object], tip: str) -> None:
        """Add a button that calls ``action``."""
        widget = wx.Button(self.getWidgetList(), label=label)
        widget.Bind(wx.EVT_BUTTON, lambda _: action())
        self._add(group, "", widget, tip)

    def group(self, key: str, title: str) -> None:
        """Add a group with a title that folds it."""
        self.getWidgetList().AddGroup(key, title)

    def _add(self, group: str, title: str, widget: Any, tip: str = "") -> None:
        self.getWidgetList().AddWidget(widget, displayName=title, tooltip=tip or None, groupName=group)
        if widget.GetBestSize()[0] > _WIDEST:
            # The longest label must not push the others out of sight; the opened list shows all of it.
            widget.SetMinSize((_WIDEST, -1))

    def wide_text(self, group: str, key: str, text: str = "", tip: str = "") -> wx.StaticText:
        """Add a text over the whole width of a group, which is kept in ``texts``; without words it takes no place."""
        widget = self.texts[key] = wx.StaticText(self.getWidgetList())
        self._add(group, "", widget, tip)
        for label in widget.GetParent().GetChildren():
            label.Show(label is widget)
        self._wrap(key, text)
        return widget

    def say(self, texts: dict[str, str]) -> None:
        """Set texts over the whole width, by their keys."""
        changed = [key for key, text in texts.items() if key in self.texts and self._wide.get(key) != text]
        for key in changed:
            self._wrap(key, texts[key])
        if changed:
            self._lay_out()

    def _wrap(self, key: str, text: str) -> None:
        """Set a text in as many lines as it needs; without words its row is hidden."""
        self._wide[key], widget = text, self.texts[key]
        pixels = max(self.getWidgetList().GetClientSize()[0] - _MARGINS, _WIDEST)
        widget.SetLabelText(titles.wrapped(text, pixels, lambda line: widget.GetTextExtent(line)[0]))
        widget.SetMinSize((-1, -1))  # the best size is never below the least one
        widget.SetMinSize(widget.GetBestSize())
        widget.GetParent().Show(bool(text))

    def _resized(self, event: Any) -> None:
        """Wrap the texts again."""
        event.Skip()
        width = self.getWidgetList().GetClientSize()[0]
        if width != self._wrapped:
            self._wrapped = width
            for key, text in self._wide.items():
                self._wrap(key, text)
            wx.CallAfter(self._lay_out)

    def _lay_out(self) -> None:
        """Give every row the place that it needs."""
        if self and not self.destroyed:
            widgets = self.getWidgetList()
            widgets.FitInside()
            widgets.Layout()

    def choice(self, group: str, title: str, name: str, tip: str, labels: Mapping[str, str] | None = None) -> None:
        """Add a list of the choices of a setting."""
        widget = props.makeWidget(self.getWidgetList(), self.current.settings, name, labels=labels)
        self._add(group, title, widget, tip)

    def number(self, group: str, title: str, name: str, tip: str) -> None:
        """Add the field of a number of the settings."""
        widget = props.makeWidget(
            self.getWidgetList(), self.current.settings, name, slider=False, spin=True, showLimits=False
        )
        self._add(group, title, widget, tip)

    def tick(self, group: str, title: str, name: str, tip: str = "") -> Any:
        """Add a box to tick, and return it."""
        widget = props.makeWidget(self.getWidgetList(), self.current.settings, name)
        self._add(group, title, widget, tip)
        return widget

    def _add_map(self) -> None:
        scene = self.current
        self.group("map", f"Map: {scene.results.folder.name}")
        self._problem_line("map")
        self.wide_text("map", "note").SetForegroundColour(DOUBTFUL_COLOUR)
        self.choice("map", "Metabolite", "metab", "Metabolite whose map and part of the fit are shown")
        self.choice("map", "plus", "plus", "Second metabolite of a sum; for concentrations and ratios")
        self.choice("map", "divided by", "over", "Metabolite or sum that the map is divided by")
        self._add_quantity()
        self._add_colours()
        self._add(
            "map",
            "Range",
            _range(self.getWidgetList(), scene.map_opts, "displayRange"),
            "Values of the first and the last colour, in the unit of the map",
        )
        self.button(
            "map",
            "Robust range",
            scene.reset_range,
            "From zero to the 98th percentile of voxels whose relative SD is below 50 % and that are not outlined",
        )

    def _add_quantity(self) -> None:
        """Add two lists: kinds of quantities, and those of the chosen kind."""
        scene, parent = self.current, self.getWidgetList()
        groups = quantities.grouped([one.key for one in scene.results.quantities])
        self.kinds, self.keys = wx.Choice(parent, choices=list(groups)), wx.Choice(parent)
        self._groups = groups
        self.kinds.Bind(wx.EVT_CHOICE, lambda _: self._choose_kind())
        self.keys.Bind(wx.EVT_CHOICE, lambda _: self._choose_quantity())
        self._add("map", "Kind", self.kinds, "Kind of quantity")
        self._add("map", "Quantity", self.keys, "Quantity that the map shows")
        self._show_quantity()

    def _show_quantity(self) -> None:
        """Show the chosen quantity in the two lists."""
        key = self.current.settings.quantity
        group = quantities.group_of(key)
        self._latest[group] = key
        self.kinds.SetStringSelection(group)
        self.keys.Set([self.current.results.label(one) for one in self._groups[group]])
        self.keys.SetSelection(self._groups[group].index(key))

    def _choose_kind(self) -> None:
        kind = self.kinds.GetStringSelection()
        self.current.settings.quantity = quantities.key_of_kind(kind, self._groups, self._latest)

    def _choose_quantity(self) -> None:
        self.current.settings.quantity = self._groups[self.kinds.GetStringSelection()][self.keys.GetSelection()]

    def _add_colours(self) -> None:
        """Add the list of colour maps."""
        import fsleyes.colourmaps as colourmaps

        opts = self.current.map_opts
        names = sorted(colourmaps.getColourMaps(), key=lambda name: not name.startswith("mrsdl"))
        self.cmaps = wx.Choice(self.getWidgetList(), choices=[colourmaps.getColourMapLabel(name) for name in names])
        self._cmap_names = names
        self.cmaps.Bind(wx.EVT_CHOICE, lambda _: setattr(opts, "cmap", names[self.cmaps.GetSelection()]))
        self._add("map", "Colours", self.cmaps, "Colour map")

    def _add_uncertainty(self) -> None:
        self.group("sure", "Uncertainty")
        self.tick(
            "sure",
            "Fade uncertain",
            "fade",
            "Opacity follows the relative SD of the shown quantity; for concentrations and ratios only",
        )
        self.number("sure", "Opaque up to (%)", "sure", "Relative SD up to which a voxel is opaque")
        self.number("sure", "Invisible from (%)", "unsure", "Relative SD from which on a voxel is invisible")
        criteria = map_display.CRITERIA | ({"percent": "SD (%)"} if self.current.results.in_vivo else {})
        self.choice("sure", "Hide above", "criterion", "Criterion that hides voxels", labels=criteria)
        self.number("sure", "Threshold", "threshold", "In percent, or in the unit of the map")
        self.number("sure", "Opacity (%)", "opacity", "Of the whole map: the T1 shows through below 100")
        self.wide_text("sure", "shown", tip="Voxels that are neither hidden nor faded away")

    def _add_display(self) -> None:
        scene = self.current
        self.group("display", "Planes and voxels")
        self.choice("display", "Large plane", "planes", "Plane that is drawn larger than the others", labels=PLANES)
        if scene.voxels is not None:
            self.tick("display", "Edges of voxels", "voxelGrid", "Draw the edges of all voxels")
        oblique = "oblique to the room" if scene.grid.is_oblique else "along the axes of the room"
        self.wide_text("display", "convention", f"Patient's right is on the left. Planes of the spectra: {oblique}.")

    def _add_marks(self) -> None:
        scene = self.current
        codes = map_display.marks(scene.results)
        self.group("marks", "Outlined voxels")
        kinds = (
            ("markFailed", "Failed", "failed", (1, 2)),
            ("markOutOfDistribution", "Out of distribution", "ood-score", (3,)),
        )
        for name, title, quantity, keys in kinds:
            if not scene.results.has(quantity):
                continue
            counts = {key: int((codes == key).sum()) for key in keys}
            # A tick that draws nothing cannot be set.
            self.tick("marks", title, name).Enable(any(counts.values()) and scene.marks is not None)
            for key, count in counts.items():
                meaning, colour = map_display.MARKS[key]
                text = self.wide_text("marks", f"mark{key}", f"■ {count} {meaning.split(' (')[0]}", meaning)
                text.SetForegroundColour(wx.Colour(*(int(220 * part) for part in colour)))
        if not any(scene.results.has(kind[2]) for kind in kinds):
            self.wide_text("marks", "marks", "Not recorded in the folder.")

    def _add_spectrum(self) -> None:
        scene = self.current
        self.group("spectrum", "Spectrum at the cursor")
        names = [name for name in CURVES if name in scene.curves]
        if scene.results.evaluator is not None:
            names += ["contribution", "band"]
        if names:
            for name in [*names, "autoScale"]:
                self.ticks[name] = self.tick("spectrum", _CURVE_LABELS[name], name)
        else:
            self.wide_text("spectrum", "spectra", "No spectra in the folder.")
        if scene.results.evaluator is None:
            self.wide_text("spectrum", "model", "No model in the folder: neither parts nor band.")

    # -- following the scene -------------------------------------------------------------------------------------------

    def mapChanged(self) -> None:
        """Show the new map's choices, what cannot be shown, and how many voxels can be seen."""
        scene = self.scene
        if scene is None or scene is not scene_of(self.frame) or "problem" not in self.texts or scene.ortho.destroyed:
            return
        problems = scene.problems()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        self.texts["problem"].SetToolTip("\n".join(problems))
        texts = {"problem": problems[0] + more if problems else ""}
        if "contribution" in self.ticks:
            # A part that the model does not have cannot be drawn.
            self.ticks["contribution"].Enable(scene.results.has_contribution(scene.settings.top))
        if scene.shown is None:
            self.say(texts)
            return
        self._show_quantity()
        if scene.map_opts.cmap.name in self._cmap_names:
            self.cmaps.SetSelection(self._cmap_names.index(scene.map_opts.cmap.name))
        fitted = int(scene.results.fitted.sum())
        visible = map_display.visible(scene.shown, scene.settings.fade, scene.settings.sure, scene.settings.unsure)
        texts["shown"] = f"Shown: {int(visible.sum())} of {fitted} fitted voxels"
        texts["note"] = scene.note()
        texts["region"] = "\n".join(scene.region_report()) or "No region yet."
        texts["compare"] = "Nothing is compared." if scene.comparison is None else scene.comparison.title
        self.say(texts)

    def voxelChanged(self) -> None:
        """Do nothing: no setting depends on the voxel."""


def _range(parent: Any, opts: Any, name: str) -> Any:
    return props.makeWidget(
        parent, opts, name, showLimits=False, slider=False, spin=True, spinWidth=7, labels=["from", "to"]
    )
