"""Variants of the in-vivo model that estimates are averaged over: with and without a non-parametric line shape, and
with macromolecules whose proportions are held more or less tightly than the table says.

All are variants of the quadratic about one minimum.  The model is linear in the line shape, so that leaving it out is
exact up to the other parameters' curvature.  Weights are those of the evidence times prior probabilities
(``data/in_vivo.json``; Hoeting et al., doi 10.1214/ss/1009212519).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...physics.in_vivo_components import priors_table
from ...physics.in_vivo_model import InVivoModel
from .solver import Minimum, Problem, evidence, laplace, likelihood

__all__ = ["Average", "USUAL", "Variant", "average_of", "variants_of", "without"]

_LEAST_WEIGHT = 0.01  # of a model that takes part


@dataclass(frozen=True)
class Variant:
    """A model that takes part in the average.

    Attributes
    ----------
    name : str
    line_shape : bool
        Estimate the non-parametric line shape.
    mm_sd : float
        Factor of the SD of the macromolecules' proportions.
    """

    name: str = "usual"
    line_shape: bool = True
    mm_sd: float = 1.0

    def kept(self, model: InVivoModel) -> np.ndarray:
        """Return the indices of the parameters that it has."""
        every = np.arange(model.n_params)
        return every if self.line_shape or "shape" not in model.slices else np.delete(every, model.slices["shape"])

    def prior_precision(self, model: InVivoModel) -> torch.Tensor:
        """Return the precision of all parameters' prior, ``(n_params, n_params)``."""
        lines = slice(model.slices["log_amp"].start + model.n_linear, model.slices["log_amp"].stop)
        scale = model.slices["mm_scale"].start
        out = model.prior_precision.clone()
        if self.mm_sd == 1 or lines.start == lines.stop:
            return out
        more = -out[lines, scale] * (self.mm_sd**-2.0 - 1)
        out[lines, lines] += torch.diag(more)
        out[lines, scale] -= more
        out[scale, lines] -= more
        out[scale, scale] += more.sum()
        return out


USUAL = Variant()
"""The model that is fitted."""


def variants_of(model: InVivoModel) -> list[Variant]:
    """Return the usual model and its variants."""
    about, out = priors_table()["variants"], [USUAL]
    if "shape" in model.slices:
        out.append(Variant("no line shape", line_shape=False))
    if len(model.components.names) > model.n_linear:
        out += [Variant(f"macromolecules' SD x {factor:g}", mm_sd=factor) for factor in about["mm_sd"]]
    return out


@dataclass(frozen=True)
class Average:
    """Weights of models.

    Attributes
    ----------
    variants : list of Variant
    strength : Tensor ``(b,)``
        Index of the baseline's strength that variants other than the usual one have.
    by_strength : Tensor ``(b, n_strengths)``
        Weights of the baseline's strengths in the usual model, summing up to one.
    by_variant : Tensor ``(b, n_variants)``
        Summing up to one.
    """

    variants: list[Variant]
    strength: torch.Tensor
    by_strength: torch.Tensor
    by_variant: torch.Tensor

    @property
    def strengths(self) -> torch.Tensor:
        """Weights of the baseline's strengths in all models together, ``(b, n_strengths)``."""
        best = torch.nn.functional.one_hot(self.strength, self.by_strength.shape[1]).to(self.by_strength)
        usual = self.by_variant[:, :1]
        return usual * self.by_strength + (1 - usual) * best

    def members(self) -> Iterator[tuple[Variant, torch.Tensor, torch.Tensor]]:
        """Yield variant, indices of the baseline's strength ``(b,)`` and weights ``(b,)`` of models that take part;
        the weights sum up to about one."""
        strengths = range(self.by_strength.shape[1])
        models = [
            (USUAL, torch.full_like(self.strength, k), self.by_variant[:, 0] * self.by_strength[:, k])
            for k in strengths
        ]
        models += [
            (variant, self.strength, self.by_variant[:, number]) for number, variant in enumerate(self.variants[1:], 1)
        ]
        for variant, strength, weight in models:
            # Each spectrum by itself, so that it does not matter which others are in its batch.
            weight = torch.where(weight > _LEAST_WEIGHT, weight, torch.zeros_like(weight))
            if weight.any():
                yield variant, strength, weight


def average_of(problem: Problem, minimum: Minimum) -> Average:
    """Weigh models by their evidence.

    Strengths of the baseline are compared in the usual model, and variants at the best strength.

    Parameters
    ----------
    problem : Problem
        With the noise that explains the residual.
    minimum : Minimum
    """
    by_strength = torch.softmax(evidence(problem, minimum.normal, minimum.x), -1)
    strength = by_strength.argmax(-1)
    variants = variants_of(problem.model)
    log_odds = float(np.log(priors_table()["variants"]["odds"]))
    values = [
        _evidence(problem, minimum, strength, variant) + log_odds * (variant is not USUAL) for variant in variants
    ]
    return Average(variants, strength, by_strength, torch.softmax(torch.stack(values, -1), -1))


def _evidence(problem: Problem, minimum: Minimum, strength: torch.Tensor, variant: Variant) -> torch.Tensor:
    """Return the log evidence ``(b,)`` up to a constant that all variants share."""
    model = problem.model
    gram, pull, energy = likelihood(problem, minimum.normal, problem.shares[strength])
    kept = torch.as_tensor(variant.kept(model), device=gram.device)
    precision, distance = variant.prior_precision(model), minimum.x - model.prior_mean
    cost = 0.5 * energy
    if len(kept) < model.n_params:
        gram, pull, moved = without(model, gram, pull, minimum.x)
        cost = cost + moved
        precision, distance = precision[kept][:, kept], distance[:, kept]
    force = distance @ precision
    cost, pull = cost + 0.5 * (force * distance).sum(-1), pull - force
    return laplace(gram + precision, pull, cost) + torch.linalg.cholesky(precision).diagonal().log().sum()


def without(model: InVivoModel, gram: torch.Tensor, pull: torch.Tensor, x: torch.Tensor):
    """Return the quadratic of all other parameters where the line shape is none: its matrix, its gradient at ``x``, and
    the change of the cost ``(b,)``."""
    block = np.arange(model.slices["shape"].start, model.slices["shape"].stop)
    shape = torch.as_tensor(block, device=gram.device)
    kept = torch.as_tensor(np.delete(np.arange(model.n_params), block), device=gram.device)
    change = -x[:, shape]
    across = (gram[:, :, shape] @ change[..., None])[..., 0]
    moved = 0.5 * (across[:, shape] * change).sum(-1) - (pull[:, shape] * change).sum(-1)
    return gram[:, kept][:, :, kept], (pull - across)[:, kept], moved
