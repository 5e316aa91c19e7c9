"""Whether a fit can be used: its misfit against that of realistic spectra.

No model explains a brain to the noise, and the better a scan the more of the misfit is visible.  So a residual is
compared in two ways: over the noise, and, less what noise explains of it, over the fitted metabolites.  Limits are in
``data/verdict.json`` with the command that recomputes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

__all__ = [
    "DOUBTFUL",
    "GOOD",
    "LEAST_SNR",
    "MOST_DETERMINED",
    "MOST_MM",
    "MOST_NAA",
    "UNUSABLE",
    "VERDICTS",
    "WIDEST_PPM",
    "Limits",
    "exceeds_unexplained",
    "limits_for",
    "misfit_score",
    "unexplained",
    "verdicts",
]

GOOD, DOUBTFUL, UNUSABLE = range(3)
VERDICTS = ("good", "doubtful", "not usable")
"""Words of verdicts: good; more unexplained signal than in a good fit, out of distribution, an artefact, or a doubt by
SNR, line width, concentrations or a filter (:mod:`fsl_mrs_dl.results.doubts`); not converged, without signal, or with
more unexplained signal than realistic spectra have."""

LEAST_SNR, WIDEST_PPM = 5.0, 0.1
"""Of a singlet of a spectrum that is no more than doubtful beyond them: signal-to-noise ratio, and full width.  Lines
broader than 0.1 ppm are poor by the consensus on clinical spectroscopy (Wilson et al., doi 10.1002/mrm.27742)."""

MOST_NAA, MOST_MM, MOST_DETERMINED = 4.0, 3.0, 0.3
"""Ratios to total creatine that no brain has: total NAA is 1 to 2.5 times creatine, up to 4 at the longest echo times,
and macromolecules are 0.2 to 1 times; and the SD, over the ratio, up to which one counts."""

_BY_CHANCE = 2.6  # SDs of the noise's estimates that a misfit may be above one


@dataclass(frozen=True)
class Limits:
    """Limits of a spectral model.

    Attributes
    ----------
    misfit : float
        Residual over noise.
    negligible : float
        Unexplained share of the metabolites' signal that makes any misfit harmless.
    unexplained : float
        Share above which a fit is not usable.
    estimates : float
        Out-of-distribution score of the estimates that one in a hundred realistic spectra has.
    """

    misfit: float
    negligible: float
    unexplained: float
    estimates: float


@lru_cache
def _table() -> dict:
    return json.loads(resources.files("fsl_mrs_dl").joinpath("data/verdict.json").read_text(encoding="utf-8"))


def limits_for(spectral_model: str, baseline: str = "") -> Limits:
    """Return the limits of a spectral model.

    Parameters
    ----------
    spectral_model : str
        'in-vivo', or anything else for FSL-MRS's.
    baseline : str
        Its mode: 'poly', 'spline' or 'off'.
    """
    table = _table()
    kind = "in-vivo" if spectral_model == "in-vivo" else f"fsl-mrs, {'spline' if baseline == 'spline' else 'poly'}"
    return Limits(**table["models"][kind], negligible=table["negligible"])


def unexplained(residual_sd, noise_sd, signal_rms, *, n_window, n_outside) -> np.ndarray:
    """Return the residual beyond noise as a share of the metabolites' signal, ``(n,)``.

    Parameters
    ----------
    residual_sd, noise_sd, signal_rms : ndarray ``(n,)``
        Per real channel: the residual in the window, the noise of the signal-free ends, and the fitted metabolites in
        the window.
    n_window, n_outside : int or ndarray ``(n,)``
        Independent points of the window, and those that the noise was estimated from.
    """
    # A median's variance is 2.7 times that of a mean square, and second differences are correlated.
    spread = np.sqrt(0.5 / (2 * n_window) + 2.7 / (2 * n_outside))
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = (residual_sd / (1 + _BY_CHANCE * spread)) ** 2 - noise_sd**2
        return np.sqrt(np.clip(beyond, 0, None)) / signal_rms


def misfit_score(limits: Limits, misfit, share) -> np.ndarray:
    """Return a score ``(n,)`` above one where a misfit, and the unexplained ``share``, are larger than in realistic
    spectra."""
    over_noise = np.minimum(misfit / limits.misfit, share / limits.negligible)
    return np.maximum(over_noise, share / limits.unexplained)


def exceeds_unexplained(share):
    """Tell whether an unexplained share, or each of ``(n,)``, is larger than in a good fit."""
    return np.nan_to_num(share) > _table()["good"]


def verdicts(usable, share, ood, doubtful=False) -> np.ndarray:
    """Return :data:`GOOD`, :data:`DOUBTFUL` or :data:`UNUSABLE` of every spectrum, int ``(n,)``.

    Parameters
    ----------
    usable : bool ndarray ``(n,)``
    share : ndarray ``(n,)``
        Unexplained.
    ood : ndarray ``(n,)``
        Out-of-distribution score.
    doubtful : bool ndarray ``(n,)``
        Doubtful at best for another reason.
    """
    doubtful = exceeds_unexplained(share) | (np.nan_to_num(ood) > 1) | doubtful
    return np.where(usable, np.where(doubtful, DOUBTFUL, GOOD), UNUSABLE)
