"""Priors of a study: proportions and widths of macromolecules that its spectra share.

A prior's variance has two parts: errors of tables, sequence and field, which all spectra of a study share, and the
differences between spectra.  The mean of the first is estimated from all spectra together (empirical Bayes; Efron,
Large-Scale Inference, 2010).  A stated share of its variance stays, because a systematic error of the model does not
average out.  Means of single lines' shifts are not learnt: errors that all spectra share would become part of them, and
glutamate was a tenth too small where those of macromolecules were.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...physics.in_vivo_components import priors_table
from ...physics.in_vivo_model import InVivoModel
from .solver import Minimum

__all__ = ["study_model"]

_MOST_MISFIT = 2.0  # times the typical one, of spectra that take part
_OUTLIER_SD = 4.0  # a line further from its prior's centre does not take part


def study_model(model: InVivoModel, minimum: Minimum, cov: torch.Tensor, noise: torch.Tensor) -> InVivoModel:
    """Return the model with the priors of the study that some spectra are from.

    Each parameter is compared with its own prior as if they were independent; the likelihood of one spectrum is its
    posterior divided by its prior.

    Parameters
    ----------
    model : InVivoModel
        That was fitted.
    minimum : Minimum
        Of ``b`` spectra.
    cov : Tensor ``(b, n_params, n_params)``
        Covariance of their parameters, priors included.
    noise : Tensor ``(b,)``
        Measured noise SD.
    """
    about = priors_table()["learning"]
    index, before = _contrasts(model)
    if not len(index):  # there are no macromolecules
        return model
    pick = _rows(model, index)
    value = (minimum.x - model.prior_mean) @ pick.mT
    variance = torch.einsum("kp,bpq,kq->bk", pick, cov, pick)
    misfit = minimum.noise / noise
    usable = ((misfit <= _MOST_MISFIT * misfit.median()) & cov.isfinite().all((1, 2)))[:, None]
    own, common = about["individual_share"] / before, (1 - about["individual_share"]) / before
    information = (1 / variance - before).clamp(min=0)
    informative = usable & (information > 1e-3 * before)
    information = torch.where(informative, information, torch.ones_like(information))
    centre = value / variance / information
    weight = torch.where(informative, 1 / (1 / information + own), torch.zeros_like(information))
    inlier = centre.abs() < _OUTLIER_SD * (1 / weight.clamp(min=1e-300) + common).sqrt()
    weight = torch.where(inlier, weight, torch.zeros_like(weight))
    total = weight.sum(0) + 1 / common
    mean = (weight * torch.where(weight > 0, centre, torch.zeros_like(centre))).sum(0) / total
    remaining = torch.maximum(1 / total, about["stays"] * common)
    change = 1 / (own + remaining) - before
    prior_mean = model.prior_mean.clone()
    prior_mean[index] += about["mean_share"] * mean
    precision = model.prior_precision + pick.mT @ (change[:, None] * pick)
    return replace(model, prior_mean=prior_mean, prior_precision=precision)


def _contrasts(model: InVivoModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the indices of parameters that a study shares ``(k,)``, and their prior precision ``(k,)``."""
    s = model.slices
    numbers = list(range(s["log_amp"].start + model.n_linear, s["log_amp"].stop))
    numbers += list(range(s["q"].start, s["q"].stop)) if "q" in s else []
    index = torch.as_tensor(numbers, dtype=torch.long)
    return index, model.prior_precision.diagonal()[index]


def _rows(model: InVivoModel, index: torch.Tensor) -> torch.Tensor:
    """Return rows that take parameters to the shared ones ``(k, n_params)``: macromolecules relative to their scale."""
    rows = torch.zeros(len(index), model.n_params, dtype=model.prior_mean.dtype, device=model.prior_mean.device)
    rows[torch.arange(len(index)), index] = 1.0
    rows[: model.n_components - model.n_linear, model.slices["mm_scale"].start] = -1.0
    return rows
