"""Entries of model cards that several trainings share."""

from __future__ import annotations

from ..core.axes import Axes
from ..simulation import recipes

__all__ = ["protocol_ranges", "recipe_entry", "rounded"]


def protocol_ranges(axes: Axes, dwelltime: bool = True) -> dict:
    """Return the ranges of a network for one protocol: nucleus, frequency (0.5 %) and dwell time (0.1 %)."""
    frequency = axes.spec_freq_mhz
    ranges = {"nucleus": [axes.nucleus], "spec_freq_mhz": [frequency * 0.995, frequency * 1.005]}
    return ranges | ({"dwelltime": [axes.dwelltime * 0.999, axes.dwelltime * 1.001]} if dwelltime else {})


def recipe_entry(recipe: recipes.Recipe) -> dict:
    """Return a recipe with its name, as JSON."""
    return {"name": recipe.name, **recipe.content}


def rounded(value, digits: str = ".4g") -> float:
    """Return a number with four significant digits, or as ``digits`` says."""
    return float(f"{float(value):{digits}}")
