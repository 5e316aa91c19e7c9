"""Amplitudes with every other parameter integrated out, averaged over models.

The likelihood of linear amplitudes is Gaussian about the minimum once shifts, widths, line shape, phases,
macromolecules and baseline are integrated out with their priors; amplitudes are not negative and have a prior of their
own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...physics.in_vivo_components import priors_table
from ...physics.in_vivo_model import InVivoModel
from .amplitudes import AmplitudePosterior, AmplitudePrior, amplitude_posterior, mixture_interval
from .ratios import ConcentrationPrior, ratio_constraints, with_ratios
from .solver import Minimum, Problem, likelihood, systems
from .variants import Average, Variant, without

__all__ = ["Estimate", "amplitude_posteriors", "estimate_amplitudes", "parameter_covariance"]


@dataclass(frozen=True)
class Estimate:
    """Amplitudes of metabolites and lipids, and the scale of the macromolecules, if there are any, as the last.

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


def estimate_amplitudes(problem: Problem, minimum: Minimum, average: Average, prior: ConcentrationPrior) -> Estimate:
    """Estimate amplitudes of metabolites and lipids, and the scale of the macromolecules.

    Parameters
    ----------
    problem : Problem
        With the noise that explains the residual.
    minimum : Minimum
    average : Average
        Of models.
    prior : ConcentrationPrior
    """
    posteriors, weights = amplitude_posteriors(problem, minimum, average, prior)
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
    problem: Problem, minimum: Minimum, average: Average, prior: ConcentrationPrior
) -> tuple[list[AmplitudePosterior], torch.Tensor]:
    """Return the posterior of amplitudes for every model that takes part, and the weights of these ``(b, n_models)``;
    arguments are those of :func:`estimate_amplitudes`."""
    model, x, m = problem.model, minimum.x, problem.model.n_linear
    scale = x[:, model.slices["scale"]]
    amplitude = torch.exp(x[:, model.slices["log_amp"]][:, :m]).clamp(min=1e-12 * torch.exp(scale))
    if _has_macromolecules(model):
        amplitude = torch.cat([amplitude, torch.exp(x[:, model.slices["mm_scale"]])], -1)
    ratios = ratio_constraints(model.components) if prior.soft_constraints else []
    amplitude_prior = _amplitude_prior(problem, scale, prior.prior)
    posteriors, weights = [], []
    for variant, strength, weight in average.members():
        precision, linear = _likelihood(problem, minimum, amplitude, problem.shares[strength], variant)
        precision = with_ratios(precision, ratios, scale)
        posteriors.append(amplitude_posterior(precision, linear, amplitude_prior))
        weights.append(weight)
    weight = torch.stack(weights, -1)
    return posteriors, weight / weight.sum(-1, keepdim=True)


def _has_macromolecules(model: InVivoModel) -> bool:
    return len(model.components.names) > model.n_linear


def _amplitude_prior(problem: Problem, scale: torch.Tensor, prior: str) -> AmplitudePrior:
    components, m = problem.model.components, problem.model.n_linear
    log_median, log_sd, kinds = np.log(components.expected[:m]), components.log_sd[:m], components.kinds[:m]
    if _has_macromolecules(problem.model):
        # Their amplitude in units of the metabolites'.
        log_median, kinds = np.append(log_median, 0.0), np.append(kinds, "mm")
        log_sd = np.append(log_sd, priors_table()["macromolecules"]["scale_log_sd"])
    median = torch.as_tensor(log_median).to(scale) + scale
    sd = torch.as_tensor(log_sd).to(scale).expand_as(median)
    metabolite = torch.as_tensor(kinds == "metabolite", device=scale.device)
    if prior == "none":
        sd = torch.where(metabolite, torch.full_like(sd, torch.inf), sd)
    elif prior == "population":
        table = priors_table()["concentrations"]
        sd = torch.where(metabolite, sd * (table["population_log_sd"] / table["log_sd"]), sd)
    return AmplitudePrior(median, sd)


def _likelihood(
    problem: Problem, minimum: Minimum, amplitude: torch.Tensor, share: torch.Tensor, variant: Variant
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return precision ``(b, m, m)`` and linear term ``(b, m)`` of the Gaussian likelihood of amplitudes ``(b, m)``.

    Macromolecules are one amplitude, in which spectra are linear, and its lines' logarithms relative to it.
    """
    model, x = problem.model, minimum.x
    gram, pull, _ = likelihood(problem, minimum.normal, share)
    # Priors of all parameters but amplitudes: lines of macromolecules are held relative to their scale.
    lines = _macromolecule_lines(model)
    precision, distance = variant.prior_precision(model), x - model.prior_mean
    distance[:, lines] -= distance[:, model.slices["mm_scale"]]
    kept = variant.kept(model)
    if len(kept) < model.n_params:
        gram, pull, _ = without(model, gram, pull, x)
        precision, distance = precision[kept][:, kept], distance[:, kept]
    scales = [model.slices[name].start for name in ("scale", "mm_scale")]
    others = torch.as_tensor(np.setdiff1d(np.arange(len(kept)), [*range(model.n_linear), *scales]))
    gram, pull = _with_scale_of_macromolecules(model, gram, pull)
    m = amplitude.shape[1]
    others_of_gram = others + (len(gram[0]) - len(kept))
    prior = precision[others][:, others]
    block = gram[:, others_of_gram][:, :, others_of_gram] + prior
    gradient = pull[:, others_of_gram] - distance[:, others] @ prior
    cross = gram[:, :m][:, :, others_of_gram]
    size = block.diagonal(dim1=-2, dim2=-1).sqrt()
    factor = torch.linalg.cholesky(block / (size[:, :, None] * size[:, None]))
    right = torch.cat([cross.mT, gradient[..., None]], -1) / size[..., None]
    solved = torch.cholesky_solve(right, factor) / size[..., None]
    marginal = gram[:, :m, :m] - cross @ solved[..., :-1]
    slope = pull[:, :m] - (cross @ solved[..., -1:])[..., 0]
    # From logarithms to amplitudes.
    marginal = marginal / (amplitude[:, :, None] * amplitude[:, None])
    marginal = 0.5 * (marginal + marginal.mT)
    return marginal, (marginal @ amplitude[..., None])[..., 0] + slope / amplitude


def _macromolecule_lines(model: InVivoModel) -> slice:
    """Return where in a parameter vector the logarithms of the macromolecules' amplitudes are."""
    return slice(model.slices["log_amp"].start + model.n_linear, model.slices["log_amp"].stop)


def _with_scale_of_macromolecules(
    model: InVivoModel, gram: torch.Tensor, pull: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return matrix and gradient with one parameter more behind the metabolites and lipids: the common logarithm of all
    macromolecules."""
    if not _has_macromolecules(model):
        return gram, pull
    lines, m = _macromolecule_lines(model), model.n_linear
    gram = torch.cat([gram[:, :m], gram[:, lines].sum(1, keepdim=True), gram[:, m:]], 1)
    gram = torch.cat([gram[..., :m], gram[..., lines].sum(-1, keepdim=True), gram[..., m:]], -1)
    return gram, torch.cat([pull[:, :m], pull[:, lines].sum(1, keepdim=True), pull[:, m:]], 1)


def parameter_covariance(problem: Problem, minimum: Minimum) -> torch.Tensor:
    """Return the covariance of all parameters ``(b, p, p)`` at the chosen strength of the baseline, priors included."""
    at_noise = replace(problem, noise=minimum.noise)
    matrix = systems(at_noise, minimum.normal, minimum.x, problem.shares[minimum.strength])[0]
    size = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    scaled = size[:, :, None] * size[:, None]
    return torch.linalg.inv(matrix / scaled) / scaled
