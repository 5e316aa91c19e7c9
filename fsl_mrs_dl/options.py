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
        from .starters import STARTERS

        if self.starter is not None and self.starter not in STARTERS:
            raise OptionError(f"{prefix}starter {self.starter}: there is no such starter; choose one of {', '.join(STARTERS)}.")
        if self.estimate not in ESTIMATES:
            raise OptionError(
                f"{prefix}estimate {self.estimate}: there is no such estimate; choose one of {', '.join(ESTIMATES)}."
            )
        if self.model is not None:
            raise OptionError(
                f"{prefix}model {self.model}: no trained network comes with this version; leave it out, the starts are then "
                "searched for."
            )
        try:
            choose_device(self.device)
        except OptionError as exc:
            raise OptionError(str(exc).replace("--device", f"{prefix}device")) from None
        return self

    def make_starter(self):
        """The starter that was chosen."""
        from .starters import STARTERS, ClassicalStarter

        return STARTERS[self.starter or ClassicalStarter.name]()
