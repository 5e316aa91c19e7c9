"""Processing steps of a session: what was done, why, and figures that tell what it changed."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Step"]


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
        """Return the step as JSON holds it."""
        return {"name": self.name, "done": self.done, "reason": self.reason, "figures": self.figures}

    def __str__(self) -> str:
        """Return the step in a line for the terminal."""
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.figures.items())
        return f"{self.name}: {self.reason}" + (f" ({figures})" if figures else "")
