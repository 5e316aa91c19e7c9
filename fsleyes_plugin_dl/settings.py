"""Settings of the viewer that its panels change, and what of them persists from one folder to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import fsleyes_props as props
import numpy as np

from . import map_display
from .results_folder import Results

__all__ = ["NOTHING", "PLANES", "Kept", "Settings"]

NOTHING = "–"
"""Choice of no further metabolite."""

PLANES = {"axial": "axial", "coronal": "coronal", "sagittal": "sagittal", "all": "none"}
"""Choices of the large plane, with their texts."""

_KEPT = (
    "criterion",
    "threshold",
    "fade",
    "sure",
    "unsure",
    "opacity",
    "markFailed",
    "markOutOfDistribution",
    "voxelGrid",
    "planes",
    "radius",
    "mirror",
    "data",
    "fit",
    "baseline",
    "residual",
    "contribution",
    "band",
    "autoScale",
)


class Settings(props.HasProperties):
    """Settings that the panels change: map, threshold, fading and marks; curves of the spectrum."""

    metab = props.Choice()
    plus = props.Choice((NOTHING,))
    over = props.Choice((NOTHING,))
    quantity = props.Choice()
    criterion = props.Choice(tuple(map_display.CRITERIA))
    threshold = props.Real(minval=0, default=20, clamped=True)
    fade = props.Boolean(default=True)
    sure = props.Real(minval=0, maxval=199, default=10, clamped=True)
    unsure = props.Real(minval=1, maxval=200, default=50, clamped=True)
    opacity = props.Real(minval=0, maxval=100, default=80, clamped=True)
    markFailed = props.Boolean(default=True)
    markOutOfDistribution = props.Boolean(default=True)
    voxelGrid = props.Boolean(default=False)
    planes = props.Choice(tuple(PLANES))
    second = props.Choice(("difference", "other"))
    radius = props.Real(minval=1, maxval=100, default=15, clamped=True)
    mirror = props.Boolean(default=True)
    data = props.Boolean(default=True)
    fit = props.Boolean(default=True)
    baseline = props.Boolean(default=True)
    residual = props.Boolean(default=True)
    contribution = props.Boolean(default=True)
    band = props.Boolean(default=True)
    autoScale = props.Boolean(default=True)

    @property
    def top(self) -> str:
        """Chosen metabolite, or the chosen sum of two."""
        return self.metab if self.plus in (NOTHING, self.metab) else f"{self.metab}+{self.plus}"

    @property
    def name(self) -> str:
        """What the map is of: a metabolite, a sum, or a ratio of metabolites."""
        return self.top if self.over == NOTHING else f"{self.top}/{self.over}"

    def set_choices(self, results: Results) -> None:
        """Offer what the results have, and choose what they are shown with at first."""
        sums = [name for name in results.usual_sums if name not in results.metabs]
        self.getProp("metab").setChoices([*results.metabs, *sums], instance=self)
        for name in ("plus", "over"):
            self.getProp(name).setChoices([NOTHING, *results.metabs, *sums], instance=self)
        self.plus = self.over = NOTHING
        self.metab = results.default_metab
        if results.kind == "MRSI":
            self.getProp("quantity").setChoices([one.key for one in results.quantities], instance=self)
            self.quantity = results.default_quantity

    def keep_order(self, changed: str) -> None:
        """Move the end of the fading that was not changed, where both would change places."""
        if self.unsure > self.sure:
            return
        if changed == "sure":
            self.unsure = min(self.sure + 10, 200)
            self.sure = min(self.sure, self.unsure - 1)
        else:
            self.sure = max(self.unsure - 10, 0)


@dataclass
class Kept:
    """What persists when other results are loaded: choices, the cursor, and the range of the colours.

    Attributes
    ----------
    values : dict
        Settings by name.
    choices : dict
        Metabolites and quantity by the names of their settings.
    mm : ndarray or None
        Place of the cursor.
    colours : tuple or None
        Title of the map, and the range that was set.
    """

    values: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str | None] = field(default_factory=dict)
    mm: np.ndarray | None = None
    colours: tuple[str, tuple[float, ...]] | None = None

    @classmethod
    def of(cls, settings: Settings, mm: np.ndarray | None, colours: tuple[str, tuple[float, ...]] | None) -> Kept:
        """Return what persists of these settings."""
        values = {name: getattr(settings, name) for name in _KEPT}
        choices = {name: getattr(settings, name) for name in ("metab", "plus", "over", "quantity")}
        return cls(values, choices, mm, colours)

    def apply(self, settings: Settings, results: Results) -> None:
        """Set what the new results have, too.  A threshold in the unit of the map persists for the same quantity."""
        for name, value in self.choices.items():
            if value is not None and value in settings.getProp(name).getChoices(instance=settings):
                setattr(settings, name, value)
        for name, value in self.values.items():
            setattr(settings, name, value)
        other = any(getattr(settings, name) != value for name, value in self.choices.items())
        if settings.criterion == "sd" and (other or results.kind != "MRSI"):
            settings.criterion = "off"
