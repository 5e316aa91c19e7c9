"""Amplitudes with every other parameter integrated out, averaged over the baseline's strengths.

The likelihood of linear amplitudes is Gaussian about the minimum once shifts, widths, line shape, phases,
macromolecules and baseline are integrated out with their priors; amplitudes are not negative and have a prior of their
own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...physics.in_vivo_components import priors_table
from .amplitudes import AmplitudePosterior, AmplitudePrior, amplitude_posterior, mixture_interval
from .solver import Minimum, Problem, systems

__all__ = ["CONCENTRATION_PRIORS", "Estimate", "amplitude_posteriors", "estimate_amplitudes", "parameter_covariance"]

CONCENTRATION_PRIORS = ("wide", "none", "population")
"""Priors of concentrations about typical proportions, whose unit is free: a factor of e; none; a factor of 1.35."""

_LEAST_WEIGHT = 1e-3  # of a strength of the baseline that takes part


@dataclass(frozen=True)
class Estimate:
    """Amplitudes of metabolites and lipids.

    Attributes
    ----------
    mean : ndarray ``(b, m)``
    cov : ndarray ``(b, m, m)``
        With the variance between models.
    between : ndarray ``(b, m)``
        Share of the variance that is disagreement between models.
    prior_share : ndarray ``(b, m)``
        Share of the likelihood's variance that priors take away.
    low, high : ndarray ``(b, m)``
        Ends of the 95 % interval.
    """

    mean: np.ndarray
    cov: np.ndarray
    between: np.ndarray
    prior_share: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def joined(cls, parts: list[Estimate]) -> Estimate:
        """Join those of several batches."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def estimate_amplitudes(problem: Problem, minimum: Minimum, weights: torch.Tensor, prior: str) -> Estimate:
    """Estimate amplitudes of metabolites and lipids.

    Parameters
    ----------
    problem : Problem
        With the noise that explains the residual.
    minimum : Minimum
    weights : Tensor ``(b, n_strengths)``
        Of the baseline's strengths, summing up to one.
    prior : str
        One of :data:`CONCENTRATION_PRIORS`.
    """
    posteriors, weights = amplitude_posteriors(problem, minimum, weights, prior)
    means = torch.stack([posterior.mean for posterior in posteriors], 1)
    mean = (weights[..., None] * means).sum(1)
    distance = means - mean[:, None]
    between = torch.einsum("bk,bki,bkj->bij", weights, distance, distance)
    within = torch.einsum("bk,bkij->bij", weights, torch.stack([posterior.cov for posterior in posteriors], 1))
    share = torch.einsum("bk,bki->bi", weights, torch.stack([posterior.prior_share for posterior in posteriors], 1))
    low, high = mixture_interval(posteriors, weights)
    cov = within + between
    variance = cov.diagonal(dim1=-2, dim2=-1).clamp(min=1e-300)
    disagreement = between.diagonal(dim1=-2, dim2=-1) / variance
    return Estimate(*(part.cpu().numpy() for part in (mean, cov, disagreement, share, low, high)))


def amplitude_posteriors(
    problem: Problem, minimum: Minimum, weights: torch.Tensor, prior: str
) -> tuple[list[AmplitudePosterior], torch.Tensor]:
    """Return the posterior of amplitudes for every strength of the baseline that takes part, and the weights of these
    ``(b, n_kept)``; arguments are those of :func:`estimate_amplitudes`."""
    model, x, m = problem.model, minimum.x, problem.model.n_linear
    scale = x[:, model.slices["scale"]]
    amplitude = torch.exp(x[:, model.slices["log_amp"]][:, :m]).clamp(min=1e-12 * torch.exp(scale))
    amplitude_prior = _amplitude_prior(problem, scale, prior)
    kept = [k for k in range(weights.shape[1]) if float(weights[:, k].max()) > _LEAST_WEIGHT]
    weights = weights[:, kept] / weights[:, kept].sum(-1, keepdim=True)
    posteriors = []
    for k in kept:
        precision, linear = _likelihood(problem, minimum, amplitude, problem.shares[k])
        posteriors.append(amplitude_posterior(precision, linear, amplitude_prior))
    return posteriors, weights


def _amplitude_prior(problem: Problem, scale: torch.Tensor, prior: str) -> AmplitudePrior:
    components, m = problem.model.components, problem.model.n_linear
    median = torch.as_tensor(np.log(components.expected[:m])).to(scale) + scale
    sd = torch.as_tensor(components.log_sd[:m]).to(scale).expand_as(median)
    metabolite = torch.as_tensor(components.kinds[:m] == "metabolite", device=scale.device)
    if prior == "none":
        sd = torch.where(metabolite, torch.full_like(sd, torch.inf), sd)
    elif prior == "population":
        table = priors_table()["concentrations"]
        sd = torch.where(metabolite, sd * (table["population_log_sd"] / table["log_sd"]), sd)
    return AmplitudePrior(median, sd)


def _likelihood(
    problem: Problem, minimum: Minimum, amplitude: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return precision ``(b, m, m)`` and linear term ``(b, m)`` of the Gaussian likelihood of amplitudes ``(b, m)``."""
    model, normal, m = problem.model, minimum.normal, problem.model.n_linear
    others = torch.as_tensor(np.setdiff1d(np.arange(model.n_params), np.r_[0:m, model.slices["scale"].start]))
    weight = problem.noise**-2
    both = share.repeat_interleave(2, -1)
    taken = normal.by_baseline * both
    gram = (normal.gram - taken @ normal.by_baseline.mT) * weight[:, None, None]
    pull = (normal.pull - (taken @ normal.residual[..., None])[..., 0]) * weight[:, None]
    force = (minimum.x - model.prior_mean) @ model.prior_precision
    block = gram[:, others][:, :, others] + model.prior_precision[others][:, others]
    gradient = pull[:, others] - force[:, others]
    cross = gram[:, :m][:, :, others]
    size = block.diagonal(dim1=-2, dim2=-1).sqrt()
    factor = torch.linalg.cholesky(block / (size[:, :, None] * size[:, None]))
    right = torch.cat([cross.mT, gradient[..., None]], -1) / size[..., None]
    solved = torch.cholesky_solve(right, factor) / size[..., None]
    precision = gram[:, :m, :m] - cross @ solved[..., :-1]
    gradient = pull[:, :m] - (cross @ solved[..., -1:])[..., 0]
    # From logarithms to amplitudes.
    precision = precision / (amplitude[:, :, None] * amplitude[:, None])
    precision = 0.5 * (precision + precision.mT)
    return precision, (precision @ amplitude[..., None])[..., 0] + gradient / amplitude


def parameter_covariance(problem: Problem, minimum: Minimum) -> torch.Tensor:
    """Return the covariance of all parameters ``(b, p, p)`` at the chosen strength of the baseline, priors included."""
    at_noise = replace(problem, noise=minimum.noise)
    matrix = systems(at_noise, minimum.normal, minimum.x, problem.shares[minimum.strength])[0]
    size = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    scaled = size[:, :, None] * size[:, None]
    return torch.linalg.inv(matrix / scaled) / scaled
