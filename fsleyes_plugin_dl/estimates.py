"""Maps of a folder of results with their titles and uncertainties, sums and ratios of metabolites included.  NumPy
only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np

from fsl_mrs_dl.core.metabolites import name_among
from fsl_mrs_dl.results.in_vivo_model_file import InVivoEvaluator
from fsl_mrs_dl.results.model_file import Evaluator

from . import derived, quantities
from .grids import Voxel

__all__ = ["PREFERRED", "Estimates"]

PREFERRED = ("conc-ml", "conc-in-vivo", "raw-concentrations")
"""Quantities of which the first that exists is shown at the start."""

# Ratios to the internal reference that a folder has maps of, and the concentrations that they are made of.
_MADE_OF = {
    "ratio-ml": "conc-ml",
    "ratio-in-vivo": "conc-in-vivo",
    "ratio-posterior": "conc-posterior",
    "conc-internal": "raw-concentrations",
}
_RATIO_OF = {made_of: ratio for ratio, made_of in _MADE_OF.items()}


class Estimates(ABC):
    """Mixin of :class:`.results_folder.Results`, which describes the attributes, and has the abstract methods."""

    metabs: list[str]
    shape: Voxel
    reference: str

    @abstractmethod
    def has(self, key: str) -> bool:
        """Return whether the folder has such a map, for any metabolite."""

    @abstractmethod
    def map(self, key: str, metab: str | None = None) -> np.ndarray | None:
        """Return a map on the grid; None where there is none."""

    @property
    @abstractmethod
    def fitted(self) -> np.ndarray:
        """Mask of the fitted voxels."""

    @property
    @abstractmethod
    def default_quantity(self) -> str:
        """Key of the map to begin with."""

    @property
    @abstractmethod
    def evaluator(self) -> Evaluator | InVivoEvaluator | None:
        """Fitted model."""

    # -- names ---------------------------------------------------------------------------------------------------------

    def expression(self, metab: str | None) -> derived.Expression | None:
        """Return the sum or ratio of metabolites that a name stands for; None for those with maps of their own."""
        return None if metab is None or metab in self.metabs else derived.parse(metab, self.metabs)

    @property
    def usual_sums(self) -> list[str]:
        """Names of the usual sums whose members the folder has, as tCho."""
        names = {name: derived.parse(name, self.metabs) for name in derived.USUAL_SUMS}
        return [name for name, one in names.items() if one is not None and len(one.numerator) > 1]

    @property
    def in_vivo(self) -> bool:
        """Whether the maps are of the in-vivo model, whose SDs are those of posteriors."""
        return self.has("in-vivo-sd")

    def is_estimate(self, key: str) -> bool:
        """Return whether a quantity is a concentration or a ratio, which has an uncertainty of its own."""
        return key in quantities.SD_OF

    def label(self, key: str) -> str:
        """Return the name of a quantity with its unit."""
        unit = quantities.by_key(key).unit
        return self._words(key) + (f" ({unit})" if unit else "")

    def _words(self, key: str) -> str:
        """Return the name of a quantity without its unit."""
        if key == "sd" and self.in_vivo:
            return "relative posterior SD, in-vivo model"
        return quantities.by_key(key).label.replace("the internal reference", self.reference)

    def title(self, key: str, metab: str) -> str:
        """Return the title of a map with its unit."""
        if not quantities.by_key(key).per_metab:
            return self.label(key)
        expression = self.expression(metab)
        if expression is None or not expression.denominator:
            return f"{metab}: {self.label(key)}"
        ratio = " / ".join(str(expression).split("/"))
        if key == "sd":
            return f"{ratio}: relative SD of the ratio (%)"
        if key in quantities.ESTIMATE_OF:
            return f"{ratio}: SD of the ratio of maps ({self._words(quantities.ESTIMATE_OF[key])})"
        if quantities.is_additive(key):
            return f"{ratio}: ratio of maps ({self._words(key)})"
        return f"{ratio}: {self.label(key)}"

    def short_title(self, key: str, metab: str) -> str:
        """Return a title for narrow places, which leaves out how the quantity was estimated."""
        one = quantities.by_key(key)
        if not one.per_metab:
            return self.label(key)
        expression = self.expression(metab)
        unit = "" if key != "sd" and expression is not None and expression.denominator else one.unit
        spread = key == "sd" or key in quantities.ESTIMATE_OF
        if not spread and not self.is_estimate(key):
            return f"{metab}: {self.label(key)}"
        is_ratio = quantities.ratio_of_folder(quantities.ESTIMATE_OF.get(key, key)) and expression is None
        over = f"/{self.reference}" if is_ratio else ""
        return f"{'SD of ' if spread else ''}{metab}{over}" + (f" ({unit})" if unit else "")

    # -- values --------------------------------------------------------------------------------------------------------

    def expression_map(self, key: str, expression: derived.Expression) -> np.ndarray | None:
        """Return the map of a sum or ratio; None where a quantity has none."""
        if key == "sd":
            percent = self.crlb_percent(str(expression))
            return None if percent is None else np.nan_to_num(percent, nan=0.0, posinf=999.0)
        if key in quantities.ESTIMATE_OF:
            sd = self.sd(quantities.ESTIMATE_OF[key], str(expression))
            return None if sd is None else np.nan_to_num(sd, nan=0.0, posinf=0.0)
        return expression.value(lambda name: self.map(key, name)) if quantities.is_additive(key) else None

    def has_value(self, key: str, metab: str) -> np.ndarray:
        """Return the mask of the fitted voxels where a quantity has a value, bool ``(x, y, z)``: a ratio has none where
        its denominator is zero."""
        key = quantities.ESTIMATE_OF.get(key, key)
        expression = self.expression(metab)
        source: str | None
        if expression is not None and expression.denominator:
            source = key if quantities.is_additive(key) else self._preferred
            below = "+".join(expression.denominator)
        elif quantities.ratio_of_folder(key):
            source, below = _MADE_OF.get(key), self.reference
        else:
            return self.fitted
        known = derived.parse(below, self.metabs)
        values = None if source is None or known is None else known.value(lambda name: self.map(source, name))
        return self.fitted if values is None else self.fitted & (values > 0)

    @property
    def _preferred(self) -> str | None:
        """Key of the concentrations whose relative SDs the folder has; None without any concentration."""
        return next((key for key in PREFERRED if self.has(key)), None)

    # -- uncertainty ---------------------------------------------------------------------------------------------------

    def sd(self, key: str, metab: str) -> np.ndarray | None:
        """Return standard deviations in the unit of an estimate, ``(x, y, z)``, NaN where unknown; None without any."""
        if (expression := self.expression(metab)) is not None:
            if not quantities.is_additive(key):
                return None
            sd = self._sd_of_ratio_to_reference(key, expression)
            if sd is None:
                sd = expression.sd(lambda name: self.map(key, name), lambda name: self.sd(key, name), self._correlation)
            return None if sd is None else np.where(self.fitted, sd, np.nan)
        for sd_key in quantities.SD_OF.get(key, ()):
            if (sd := self.map(sd_key, metab)) is not None:
                return np.where(self.fitted & (sd > 0), sd, np.nan)
        percent, values = self.map("sd", metab), self.map(key, metab)
        if percent is None or values is None or not self.is_estimate(key):
            return None
        return np.where(self.fitted & (values > 0) & (percent > 0), percent / 100 * values, np.nan)

    def _sd_of_ratio_to_reference(self, key: str, expression: derived.Expression) -> np.ndarray | None:
        """Return the SD of a ratio that the folder has maps of, where it has no covariances; None of any other."""
        ratio = _RATIO_OF.get(key)
        reference = derived.parse(self.reference, self.metabs)
        if not expression.denominator or self._correlation(*expression.members[:2]) is not None:
            return None
        if ratio is None or reference is None or len(expression.numerator) != 1:
            return None
        if set(expression.denominator) != set(reference.numerator) or not any(map(self.has, quantities.SD_OF[ratio])):
            return None
        return self.sd(ratio, expression.numerator[0])

    @cached_property
    def _correlation(self) -> Callable[[str, str], np.ndarray | None]:
        return derived.correlations(self.evaluator, self.shape)

    def _is_one(self, key: str, metab: str) -> bool:
        """Return whether a map is that of the internal reference over itself, which is 1 and has no error."""
        return quantities.ratio_of_folder(key) and name_among(self.reference, [metab]) is not None

    def percent(self, key: str, metab: str) -> np.ndarray | None:
        """Return standard deviations in percent of an estimate, ``(x, y, z)``, NaN where not fitted, infinite at zero;
        None without any."""
        sd, values = self.sd(key, metab), self.map(key, metab)
        if sd is None or values is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.where(values > 0, 100 * sd / values, np.inf)
        if self._is_one(key, metab):
            out = np.where(values > 0, 0.0, out)
        return np.where(self.fitted, np.where(np.isnan(out), np.inf, out), np.nan)

    def sd_is_of_independent(self, metab: str, key: str | None = None) -> bool:
        """Return whether the SD of a sum or ratio is computed as if its members were independent, of a quantity, or of
        the one to begin with."""
        expression = self.expression(metab)
        if expression is None or len(expression.members) < 2:
            return False
        key = self.default_quantity if key is None else key
        estimate = self._preferred if key == "sd" else quantities.ESTIMATE_OF.get(key, key)
        if estimate is None or not quantities.is_additive(estimate):
            return False
        if self._sd_of_ratio_to_reference(estimate, expression) is not None:
            return False
        return self._correlation(*expression.members[:2]) is None

    def crlb_percent(self, metab: str) -> np.ndarray | None:
        """Return SDs of concentrations in percent, as :meth:`percent` does: Cramer-Rao bounds, or those of the in-vivo
        model."""
        for key in PREFERRED:
            if self.has(key):
                percent = self.percent(key, metab)
                if percent is not None:
                    return percent
        return None
