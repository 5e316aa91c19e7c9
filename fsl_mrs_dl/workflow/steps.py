"""Processing steps of a session: what was done, why, and figures that tell what it changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..results.publication.analysis import figure_in_words

__all__ = ["ABSOLUTE", "Step", "why_not_absolute"]

ABSOLUTE = "absolute concentrations"
"""Name of the step that scales concentrations by water."""


@dataclass(frozen=True)
class Step:
    """One step of the processing of a session.

    Attributes
    ----------
    name : str
        "coil combination", "alignment", and so on.
    done : bool
        Whether the data were changed.
    reason : str
        Why it was done, or was not.
    figures : dict of str to float
        What it changed, by name; names end with their unit.
    """

    name: str
    done: bool
    reason: str
    figures: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """Return the step as JSON holds it, figures to six digits: later ones of HLSVD differ between
        computers."""
        figures = {name: float(f"{value:.6g}") for name, value in self.figures.items()}
        return {"name": self.name, "done": self.done, "reason": self.reason, "figures": figures}

    @property
    def figures_text(self) -> str:
        """The figures in words, with their units.

        >>> Step("alignment", True, "", {"shift_sd_hz": 0.70713, "transients": 64.0}).figures_text
        'shift SD 0.707 Hz, transients 64'
        """
        return ", ".join(figure_in_words(name, value) for name, value in self.figures.items())

    def __str__(self) -> str:
        """Return the step in a line for the terminal."""
        return f"{self.name}: {self.reason}" + (f" ({self.figures_text})" if self.figures else "")


def why_not_absolute(run: dict) -> str:
    """Return why the concentrations of a session are not absolute, and the remedy, from the content of ``run.json``;
    empty where they are, or where it is not known."""
    steps = run.get("steps")
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("name") == ABSOLUTE and not step.get("done"):
            return re.sub(rf"^(none, |no {ABSOLUTE}: )", "", str(step.get("reason")), flags=re.IGNORECASE).rstrip(".")
    return ""
