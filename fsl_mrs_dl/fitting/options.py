"""The options of quantification that FSL-MRS does not have, checked in one place for every door."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import OptionError

__all__ = ["DlOptions", "ESTIMATES"]


@dataclass(frozen=True)
class DlOptions:
    """How to quantify, beyond FSL-MRS's options.

    Attributes
    ----------
    starter : str or None
        Name of what proposes the starts, one of :data:`fsl_mrs_dl.fitting.initialisation.STARTERS`.
    model : str or None
        Trained network that proposes them, by name or folder.
    estimate : str
        Which of the estimates the concentrations are, one of :data:`ESTIMATES`.
    prior : str
        What concentrations are expected, see :func:`fsl_mrs_dl.fitting.quantify.quantify`.
    device : str
        'auto', 'cpu' or 'cuda'.
    """

    starter: str | None = None
    model: str | None = None
    estimate: str = "ml"
    prior: str = "auto"
    device: str = "auto"

    def check(self, prefix: str = "") -> DlOptions:
        """Raise OptionError if a value cannot be served, naming the option with ``prefix``; returns itself."""
        from ..core.device import choose_device

        if self.estimate not in ESTIMATES:
            raise OptionError(
                f"{prefix}estimate {self.estimate}: there is no such estimate; choose one of {', '.join(ESTIMATES)}."
            )
        if self.estimate == "posterior_mean" and self.prior == "none":
            raise OptionError(f"{prefix}estimate posterior_mean: needs a prior; leave {prefix}prior none out.")
        if self.prior not in ("auto", "none", "volume"):
            self._check_prior(prefix)
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

    def _check_prior(self, prefix: str) -> None:
        from pathlib import Path

        from .priors import recipes

        if self.prior not in recipes() and not Path(self.prior).is_file():
            raise OptionError(
                f"{prefix}prior {self.prior}: no such recipe or file; there are volume, none, {', '.join(recipes())}."
            )

    def make_starter(self):
        """What chooses the starter once the data are known."""
        from .automatic_initialisation import Automatic

        return Automatic(self.starter, self.model)


ESTIMATES = ("ml", "posterior_mean", "network")


"""The estimates of a concentration: ``ml`` is the maximum of the likelihood, unbiased and the default everywhere."""
