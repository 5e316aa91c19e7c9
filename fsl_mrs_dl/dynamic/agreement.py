"""Whether a joint fit can be used: it has converged, and its curves agree with fits of each spectrum alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..fitting.verdict import DOUBTFUL, GOOD, UNUSABLE, VERDICTS, limits_for
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
    converged : bool
        Whether the joint fit ended at a minimum.
    to_minimum : float
        Distance from the minimum at its end, in SDs.
    """

    distance: dict[str, float]
    misfit: float
    single_misfit: float
    converged: bool = True
    to_minimum: float = 0.0

    @property
    def missed(self) -> list[str]:
        """Metabolites whose curve misses the single fits, the worst first."""
        far = [name for name, value in self.distance.items() if value > _MOST_SDS]
        return sorted(far, key=lambda name: -self.distance[name])

    @property
    def holds(self) -> bool:
        """Whether the joint fit has converged, and the model over the series is compatible with the single fits."""
        return self.converged and not self.missed and not self.misfit > _MOST_MISFIT * self.single_misfit

    @property
    def verdict(self) -> str:
        """One of :data:`fsl_mrs_dl.fitting.verdict.VERDICTS`."""
        if not self.converged:
            return VERDICTS[UNUSABLE]
        return VERDICTS[GOOD if self.holds else DOUBTFUL]

    @property
    def in_brief(self) -> str:
        """The verdict with its reason in a few words, as a picture has it; empty where it is good."""
        if not self.converged:
            return f"{VERDICTS[UNUSABLE]}: the joint fit has not converged"
        return "" if self.holds else f"{VERDICTS[DOUBTFUL]}: the model over the series does not hold"

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
        if not self.converged:
            return [*out, self._not_converged()]
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

    def _not_converged(self) -> str:
        """Return the verdict on a joint fit that is at no minimum."""
        away = (
            f"it ended {self.to_minimum:.2g} SDs away from a minimum" if np.isfinite(self.to_minimum) else "it failed"
        )
        return (
            f"Verdict: not usable. The joint fit has not converged: {away}, so that its values are no estimates, and"
            " there are no z and p of them. Check the time variable (`time_variables`); leave out metabolites that are"
            " not detectable (`ignore`), or let `dyn_config` have fewer parameters ('fixed' in place of 'variable') and"
            " narrower bounds."
        )


def agreement_of(fit: DynamicFit) -> Agreement:
    """Return whether a dynamic fit has converged, and its comparison with fits of each spectrum alone."""
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
    misfits = (fit.misfit, fit.single_misfit) if isinstance(fit, InVivoDynamicFit) else (np.nan, np.nan)
    return Agreement(distance, *misfits, fit.solution.converged, fit.solution.distance)
