"""Comparison of dynamic fits of the same data with several configurations: AIC, BIC and evidence.

Weights of AIC: Burnham and Anderson, doi 10.1177/0049124104268644.  The evidence is that which BIC stands for (Kass and
Raftery, doi 10.1080/01621459.1995.10476572), and the probabilities are those of models that were equally likely before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..core.errors import OptionError
from .series import DynamicFit

__all__ = ["ModelComparison", "compare_fits"]


@dataclass(frozen=True)
class ModelComparison:
    """Figures of several models, ``(n_models,)`` each.

    ``aic``, ``bic`` and ``log_evidence`` are differences from the best model whose fit has converged, ``weight`` that
    by AIC, ``probability`` that by the evidence; both are NaN of fits that have not converged, whose figures are those
    of no minimum.  Where none has, the differences are from the best of all.
    """

    names: tuple[str, ...]
    n_free: np.ndarray
    log_likelihood: np.ndarray
    aic: np.ndarray
    weight: np.ndarray
    bic: np.ndarray
    log_evidence: np.ndarray
    probability: np.ndarray
    residual_sd: np.ndarray
    converged: np.ndarray

    @property
    def best(self) -> str:
        """Name of the model of highest evidence among fits that have converged; empty where none has."""
        if not self.converged.any():
            return ""
        return self.names[int(np.argmax(np.where(self.converged, self.log_evidence, -np.inf)))]

    @property
    def words(self) -> str:
        """Which model is the best, in a sentence, and which take no part."""
        out = [name for name, converged in zip(self.names, self.converged) if not converged]
        if not self.best:
            return "No fit has converged, and none is the best."
        away = (
            f", of those that have converged ({', '.join(out)} {'has' if len(out) == 1 else 'have'} not)" if out else ""
        )
        return f"Best by the evidence: {self.best}{away}."

    def table(self):
        """Return the figures as a DataFrame, a row for each model: the best one by the evidence first, and fits that
        have not converged last."""
        import pandas as pd

        columns = {
            "free parameters": self.n_free,
            "log likelihood": self.log_likelihood,
            "AIC difference": self.aic,
            "AIC weight": self.weight,
            "BIC difference": self.bic,
            "log evidence difference": self.log_evidence,
            "probability": self.probability,
            "residual SD": self.residual_sd,
            "converged": self.converged,
        }
        table = pd.DataFrame(columns, index=pd.Index(self.names, name="configuration"))
        return table.sort_values(["converged", "log evidence difference"], ascending=False)


def compare_fits(fits: Mapping[str, DynamicFit]) -> ModelComparison:
    """Return the comparison of fits of the same spectra, by name.

    Raises
    ------
    OptionError
        If the spectra are not the same.
    """
    all_fits = list(fits.values())
    first = all_fits[0].spectra
    if any(one.spectra.shape != first.shape or not np.allclose(one.spectra, first) for one in all_fits):
        raise OptionError("fits of other data, or in another window, cannot be compared", option="dyn_config")
    criteria = [one.information_criteria() for one in all_fits]
    likelihood, aic, bic, evidence = (
        np.array([one[key] for one in criteria]) for key in ("log likelihood", "AIC", "BIC", "log evidence")
    )
    converged = np.array([one.solution.converged for one in all_fits], bool)
    compared = converged if converged.any() else np.ones(len(all_fits), bool)
    aic, bic, evidence = aic - aic[compared].min(), bic - bic[compared].min(), evidence - evidence[compared].max()
    weight, probability = (np.where(converged, np.exp(np.minimum(one, 0)), np.nan) for one in (-aic / 2, evidence))
    return ModelComparison(
        names=tuple(fits),
        n_free=np.array([len(one.names) for one in all_fits]),
        log_likelihood=likelihood,
        aic=aic,
        weight=weight / np.nansum(weight),
        bic=bic,
        log_evidence=evidence,
        probability=probability / np.nansum(probability),
        residual_sd=np.array([one.noise_sd for one in all_fits]),
        converged=converged,
    )
