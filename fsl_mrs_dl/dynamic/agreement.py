"""Whether the model over a series holds: the curves of a joint fit beside fits of each spectrum alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..fitting.verdict import limits_for
from .in_vivo_series import InVivoDynamicFit
from .series import DynamicFit

__all__ = ["Agreement", "agreement_of"]

_MOST_SDS = 4.0  # root mean square distance of a curve that holds; errors of the spectra's model are larger than SDs
_MOST_MISFIT = 1.3  # residual of a joint fit over that of single ones
_MOST_NAMED = 6


@dataclass(frozen=True)
class Agreement:
    """A joint fit beside fits of each spectrum alone.

    Attributes
    ----------
    distance : dict of str to float
        Root mean square distance of each metabolite's curve from the single fits, in SDs of these; of metabolites whose
        concentrations the configuration ties together.
    misfit, single_misfit : float
        Residual over noise of the joint fit and of the single ones; NaN for FSL-MRS's model.
    """

    distance: dict[str, float]
    misfit: float
    single_misfit: float

    @property
    def missed(self) -> list[str]:
        """Metabolites whose curve misses the single fits, the worst first."""
        far = [name for name, value in self.distance.items() if value > _MOST_SDS]
        return sorted(far, key=lambda name: -self.distance[name])

    @property
    def holds(self) -> bool:
        """Whether the model over the series is compatible with the single fits."""
        return not self.missed and not self.misfit > _MOST_MISFIT * self.single_misfit

    def lines(self) -> list[str]:
        """Return the comparison in words, a sentence or more each."""
        out = []
        if np.isfinite(self.misfit):
            out.append(
                f"Residual over noise: {self.misfit:.2f} of the joint fit, {self.single_misfit:.2f} of fits of each"
                " spectrum alone."
            )
        if self.holds:
            return out
        named = ", ".join(f"{name} ({self.distance[name]:.0f} SDs)" for name in self.missed[:_MOST_NAMED])
        more = len(self.missed) - _MOST_NAMED
        why = "its residual is larger than that of fits of each spectrum alone"
        if self.missed:
            named += f" and {more} more" if more > 0 else ""
            why = f"its curves miss fits of single spectra, of {named}"
        text = (
            f"Verdict: doubtful. The model over the series does not hold: {why}. Parameters and SDs mean nothing unless"
            " it does. Compare other models (several `dyn_config`, such as biexponential), or fewer metabolites"
        )
        if self.single_misfit > limits_for("in-vivo").misfit:
            text += "; fits of each spectrum alone leave too much, too: check the basis set, and the window (`ppmlim`)"
        return [*out, f"{text}."]


def agreement_of(fit: DynamicFit) -> Agreement:
    """Return the comparison of a dynamic fit with fits of each spectrum alone."""
    tied = {str(one.member) for one in fit.mapping.free if one.category == "conc" and one.time is None}
    distance = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for column, name in enumerate(fit.metabolites):
            if name not in tied:
                continue
            away = (fit.mapped[:, column] - fit.initial[:, column]) / fit.initial_sd[:, column]
            away = away[np.isfinite(away)]
            if len(away):
                distance[name] = float(np.sqrt(np.mean(away**2)))
    if isinstance(fit, InVivoDynamicFit):
        return Agreement(distance, fit.misfit, fit.single_misfit)
    return Agreement(distance, np.nan, np.nan)
