"""Amplitudes with every other parameter integrated out, averaged over models.

The likelihood of linear amplitudes is Gaussian near the minimum once shifts, widths, line shape, phases,
macromolecules and baseline are integrated out with their priors; its centre is moved by the volume that these have.
Amplitudes are not negative and have a prior of their own.
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
from .volume import log_volume_slope

__all__ = ["Estimate", "Likelihoods", "parameter_covariance"]

_SHARE_OF_MM = 0.5
"""Share of the volume's slope by the amount of macromolecules that counts.  The slope at the minimum is not that of
smaller amounts: in spectra that are drawn from the priors the whole of it leaves macromolecules as much too small as
none of it leaves them too large."""
_SMALLEST = 27.6  # logarithm of the common scale over an amplitude that counts as zero


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

    def rows(self, index: np.ndarray) -> Estimate:
        """Return those of some spectra."""
        return Estimate(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Likelihoods:
    """Gaussian likelihoods of amplitudes, one of each model that takes part in an average.

    Attributes
    ----------
    problem : Problem
    x : Tensor ``(b, n_params)``
        Of the minimum.
    parts : list of (Tensor, Tensor, Tensor)
        Spectra ``(c,)`` that a model takes part in, precision ``(c, k, k)`` and linear term ``(c, k)`` of the
        parameters of :func:`_positive`.
    weights : Tensor ``(b, n_models)``
        Summing up to one.
    """

    problem: Problem
    x: torch.Tensor
    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    weights: torch.Tensor

    @classmethod
    def of(cls, problem: Problem, minimum: Minimum, average: Average) -> Likelihoods:
        """Integrate all other parameters out.

        Parameters
        ----------
        problem : Problem
            With the noise that explains the residual.
        minimum : Minimum
        average : Average
            Of models.
        """
        model, x = problem.model, minimum.x
        positive = _positive(model)
        values = torch.exp(torch.maximum(x[:, positive], x[:, model.slices["scale"]] - _SMALLEST))
        # One slope serves all models: they differ by little in it, and it is small beside the likelihood's width.
        fixed = [*positive, *(model.slices[name].start for name in ("scale", "mm_scale"))]
        volume = log_volume_slope(problem, x, problem.shares[average.strength], fixed)
        parts, weights = [], []
        for variant, strength, weight in average.members():
            # Spectra in which a model takes no part need none of it.
            some = torch.nonzero(weight > 0)[:, 0]
            own = (problem.rows(some), minimum.rows(some)) if len(some) < len(x) else (problem, minimum)
            at = _Place(values[some], problem.shares[strength[some]], volume[some])
            parts.append((some, *_likelihood(*own, at, variant)))
            weights.append(weight)
        weight = torch.stack(weights, -1)
        return cls(problem, x, parts, weight / weight.sum(-1, keepdim=True))

    def posteriors(self, prior: ConcentrationPrior) -> list[AmplitudePosterior]:
        """Return the posterior of each model: metabolites, lipids, scale of the macromolecules; without meaning where
        its weight is zero."""
        model = self.problem.model
        scale = self.x[:, model.slices["scale"]]
        ratios = ratio_constraints(model.components) if prior.soft_constraints else []
        priors = _priors(self.problem, scale, prior.prior)
        out = []
        for some, precision, linear in self.parts:
            own = AmplitudePrior(priors.log_median[some], priors.log_sd[some])
            posterior = amplitude_posterior(with_ratios(precision, ratios, scale[some]), linear, own)
            out.append(posterior if len(some) == len(scale) else posterior.spread(some, len(scale)))
        return out

    def estimate(self, prior: ConcentrationPrior) -> Estimate:
        """Estimate amplitudes of metabolites and lipids, and the scale of the macromolecules, averaged over models."""
        posteriors, weights = self.posteriors(prior), self.weights
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


def _positive(model: InVivoModel) -> list[int]:
    """Return the indices of parameters that are logarithms of what spectra are linear in: amplitudes of metabolites and
    lipids, and the scale of the macromolecules, if there are any."""
    has_macromolecules = len(model.components.names) > model.n_linear
    return [*range(model.n_linear), *([model.slices["mm_scale"].start] if has_macromolecules else [])]


def _priors(problem: Problem, scale: torch.Tensor, prior: str) -> AmplitudePrior:
    """Return the priors of the parameters of :func:`_positive`."""
    components, m, table = problem.model.components, problem.model.n_linear, priors_table()
    log_median, log_sd = np.log(components.expected[:m]), components.log_sd[:m].copy()
    metabolites = components.kinds[:m] == "metabolite"
    if prior == "none":
        log_sd[metabolites] = np.inf
    elif prior == "population":
        log_sd[metabolites] *= table["concentrations"]["population_log_sd"] / table["concentrations"]["log_sd"]
    if len(_positive(problem.model)) > m:
        # Macromolecules, in units of the metabolites' amplitudes.
        one, other = (problem.model.slices[name].start for name in ("mm_scale", "scale"))
        mean, precision = problem.model.prior_mean, problem.model.prior_precision
        log_median = np.append(log_median, float(mean[one] - mean[other]))
        log_sd = np.append(log_sd, float((-precision[one, other]) ** -0.5))
    median = torch.as_tensor(log_median).to(scale) + scale
    return AmplitudePrior(median, torch.as_tensor(log_sd).to(scale).expand_as(median))


@dataclass(frozen=True)
class _Place:
    """Where the likelihood of amplitudes is taken.

    Attributes
    ----------
    values : Tensor ``(b, k)``
        Exponentials of the parameters of :func:`_positive`.
    share : Tensor ``(b, rank)``
        Of the baseline.
    volume : Tensor ``(b, n_params)``
        See :func:`.volume.log_volume_slope`.
    """

    values: torch.Tensor
    share: torch.Tensor
    volume: torch.Tensor


def _likelihood(
    problem: Problem, minimum: Minimum, place: _Place, variant: Variant
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return precision ``(b, k, k)`` and linear term ``(b, k)`` of the Gaussian likelihood of the parameters of
    :func:`_positive`.

    Macromolecules are one amplitude, in which spectra are linear, and logarithms of their lines relative to it.
    """
    model, x, values = problem.model, minimum.x, place.values
    gram, pull, _ = likelihood(problem, minimum.normal, place.share)
    volume = place.volume.clone()
    lines = slice(model.slices["log_amp"].start + model.n_linear, model.slices["log_amp"].stop)
    mm_scale, positive = model.slices["mm_scale"].start, _positive(model)
    precision, distance = variant.prior_precision(model), x - model.prior_mean
    distance[:, lines] -= distance[:, [mm_scale]]
    kept = variant.kept(model)
    if len(kept) < model.n_params:
        gram, pull, _ = without(model, gram, pull, x)
        precision, distance, volume = precision[kept][:, kept], distance[:, kept], volume[:, kept]
    # All lines together, where the minimisation has a scale that only the priors see.
    gram[:, mm_scale] = gram[:, lines].sum(1)
    gram[:, :, mm_scale] = gram[:, :, lines].sum(-1)
    for each in (pull, volume):
        each[:, mm_scale] = each[:, lines].sum(1)
    scales = [model.slices[name].start for name in ("scale", "mm_scale")]
    others = torch.as_tensor(np.setdiff1d(np.arange(len(kept)), [*positive, *scales]))
    prior = precision[others][:, others]
    block = gram[:, others][:, :, others] + prior
    gradient = pull[:, others] - distance[:, others] @ prior
    cross = gram[:, positive][:, :, others]
    size = block.diagonal(dim1=-2, dim2=-1).sqrt()
    factor = torch.linalg.cholesky(block / (size[:, :, None] * size[:, None]))
    right = torch.cat([cross.mT, gradient[..., None], volume[:, others, None]], -1) / size[..., None]
    solved = torch.cholesky_solve(right, factor) / size[..., None]
    along = cross @ solved
    marginal = gram[:, positive][:, :, positive] - along[..., :-2]
    slope, of_volume = pull[:, positive] - along[..., -2], volume[:, positive] - along[..., -1]
    of_volume[:, model.n_linear :] *= _SHARE_OF_MM
    slope = slope + of_volume
    # From logarithms to their exponentials.
    marginal = marginal / (values[:, :, None] * values[:, None])
    marginal = 0.5 * (marginal + marginal.mT)
    return marginal, (marginal @ values[..., None])[..., 0] + slope / values


def parameter_covariance(problem: Problem, minimum: Minimum) -> torch.Tensor:
    """Return the covariance of all parameters ``(b, p, p)`` at the chosen strength of the baseline, priors included."""
    at_noise = replace(problem, noise=minimum.noise)
    matrix = systems(at_noise, minimum.normal, minimum.x, problem.shares[minimum.strength])[0]
    size = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    scaled = size[:, :, None] * size[:, None]
    return torch.linalg.inv(matrix / scaled) / scaled
