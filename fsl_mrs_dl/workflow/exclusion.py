"""Which sessions enter a group: stated rules, each with its threshold, and a reason for every session left out.

Uncertainties of single metabolites are no rule: leaving out values with a large SD relative to them leaves out low
concentrations (Kreis, doi 10.1002/mrm.25568).  Their SDs are part of every mean and interval instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..fitting.verdict import LEAST_SNR, WIDEST_PPM
from ..results.layout import OOD_LIMIT

__all__ = ["ExclusionRules"]

_NOT_CONVERGED = "the fit did not converge"
_NOT_USABLE = "the fit is not usable: it has no signal, or a larger residual than realistic spectra"


@dataclass(frozen=True)
class ExclusionRules:
    """Thresholds of a session's quality; None switches a rule off.

    Attributes
    ----------
    min_snr : float, optional
        Smallest signal-to-noise ratio.
    max_fwhm_ppm : float, optional
        Largest line width.  Lines broader than 0.1 ppm are poor by the consensus on clinical spectroscopy (Wilson
        et al., doi 10.1002/mrm.27742).
    max_misfit : float, optional
        Largest residual over noise; off by default, because the better a scan the more of any misfit is visible: the
        verdict of the fit weighs it against the signal.
    max_ood : float, optional
        Largest out-of-distribution score.
    usable : bool
        Leave out fits whose verdict is 'not usable': not converged, or a residual that realistic spectra do not have.
    """

    min_snr: float | None = LEAST_SNR
    max_fwhm_ppm: float | None = WIDEST_PPM
    max_misfit: float | None = None
    max_ood: float | None = OOD_LIMIT
    usable: bool = True

    def reasons(self, quality: Mapping) -> list[str]:
        """Return why a session with these figures of quality is left out, a phrase each; empty where it is not.

        Parameters
        ----------
        quality : mapping
            The entry ``quality`` of ``run.json``; a figure that is missing breaks no rule.
        """
        out = []
        if self.usable and quality.get("usable") is False:
            out.append(_NOT_CONVERGED if quality.get("converged") is False else _NOT_USABLE)
        for key, name, limit, largest in (
            ("snr", "SNR", self.min_snr, False),
            ("fwhm_ppm", "FWHM in ppm", self.max_fwhm_ppm, True),
            ("misfit", "residual over noise", self.max_misfit, True),
            ("ood_score", "out-of-distribution score", self.max_ood, True),
        ):
            value = quality.get(key)
            if limit is None or not isinstance(value, (int, float)) or not math.isfinite(value):
                continue
            if value > limit if largest else value < limit:
                out.append(f"{name} {value:.4g} {'above' if largest else 'below'} {limit:g}")
        return out

    def as_dict(self) -> dict:
        """Return the thresholds by their names, for a file."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """Return the rules in words, for a page."""
        rules = [
            ("SNR below", self.min_snr),
            ("line width (ppm) above", self.max_fwhm_ppm),
            ("residual over noise above", self.max_misfit),
            ("out-of-distribution score above", self.max_ood),
        ]
        words = [f"{text} {limit:g}" for text, limit in rules if limit is not None]
        return [*(["fit not usable"] if self.usable else []), *words]
