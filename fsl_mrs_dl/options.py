"""The options of quantification that FSL-MRS does not have, checked in one place for every door."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import OptionError

__all__ = ["DlOptions", "ESTIMATES"]

ESTIMATES = ("ml",)
"""The estimates that a result can hold: ``ml`` is the maximum of the likelihood."""


@dataclass(frozen=True)
class DlOptions:
    """How to quantify, beyond FSL-MRS's options.

    Attributes
    ----------
    starter : str or None
        Name of what proposes the starts, one of :data:`fsl_mrs_dl.starters.STARTERS`.
    model : str or None
        Trained network that proposes them, by name or folder.
    estimate : str
        Which of the estimates the concentrations are, one of :data:`ESTIMATES`.
    device : str
        'auto', 'cpu' or 'cuda'.
    """

    starter: str | None = None
    model: str | None = None
    estimate: str = "ml"
    device: str = "auto"

    def check(self, prefix: str = "") -> DlOptions:
        """Raise OptionError if a value cannot be served, naming the option with ``prefix``; returns itself."""
        from .pipeline import choose_device

        if self.estimate not in ESTIMATES:
            raise OptionError(
                f"{prefix}estimate {self.estimate}: there is no such estimate; choose one of {', '.join(ESTIMATES)}."
            )
        try:
            self.make_starter()
        except OptionError as exc:
            text = str(exc).removeprefix("--")
            raise OptionError(prefix + text) from None
        try:
            choose_device(self.device)
        except OptionError as exc:
            raise OptionError(str(exc).replace("--device", f"{prefix}device")) from None
        return self

    def make_starter(self):
        """What chooses the starter once the data are known."""
        from .starters import Automatic

        return Automatic(self.starter, self.model)
