"""Priors of a volume: line widths, first-order phase and macromolecules, how much these, shifts and dampings of single
lines and the line shape differ between its voxels, and the strength of the baseline (empirical Bayes; Efron,
Large-Scale Inference, 2010).

Each fit gives a Gaussian likelihood of all parameters about its minimum.  With it the mean and the spread that make the
spectra together most probable are found by the EM algorithm, without another fit.  The table's priors are the prior of
both: the mean is as uncertain as the part of a prior's variance that all spectra share, and the spread of a group of
parameters has the weight of a stated number of spectra.  A volume of few voxels so keeps the priors of the table.

Means of shifts and dampings of single lines are not learnt: there, errors of the model that all spectra share would
become part of the prior, and concentrations worse (``benchmarks/mrsi_population.md``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...physics.in_vivo_components import priors_table
from ...physics.in_vivo_model import InVivoModel

__all__ = ["Likelihood", "Population", "population_model"]

_MOST_MISFIT = 2.0  # times the typical one, of spectra that take part
_OUTLIER = 8.0  # mean square over the expected one, less one, times the root of the number, of spectra that do not
_LEAST, _MOST = 0.01, 4.0  # of the squares of spreads over those of the table
_MOST_MM_WIDTH = 1.0  # likewise: macromolecules with wider priors become as narrow as the metabolites beside them
_PASSES, _FASTER = 20, 1.7  # of the EM algorithm, and the power of its steps


@dataclass(frozen=True)
class Likelihood:
    """Gaussian likelihoods of all parameters about the minima of ``b`` spectra.

    Attributes
    ----------
    x : Tensor ``(b, p)``
        Minima.
    gram, pull : Tensor ``(b, p, p)`` and ``(b, p)``
        Precision, and gradient at ``x``, without priors.
    by_strength : Tensor ``(b, n_strengths)``
        Log evidence of the baseline's strengths.
    misfit : Tensor ``(b,)``
        Residual over noise.
    """

    x: torch.Tensor
    gram: torch.Tensor
    pull: torch.Tensor
    by_strength: torch.Tensor
    misfit: torch.Tensor

    @classmethod
    def joined(cls, several: list[Likelihood], order: np.ndarray) -> Likelihood:
        """Join those of several batches and put them in an order."""
        names = cls.__dataclass_fields__
        return cls(**{name: torch.cat([getattr(each, name) for each in several])[order] for name in names})

    def usable(self) -> Likelihood:
        """Return those of spectra that the model explains about as well as most."""
        good = (self.misfit <= _MOST_MISFIT * self.misfit.median()) & self.gram.isfinite().all((1, 2))
        good &= self.pull.isfinite().all(-1) & self.by_strength.isfinite().all(-1)
        return Likelihood(**{name: getattr(self, name)[good] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Population:
    """What was learnt of a volume.

    Attributes
    ----------
    n_spectra : int
        Spectra that took part.
    sd_factor : dict of str to float
        By group of parameters: SD of the prior over that of the table.
    shift_sd : dict of str to float
        By group of parameters: by how much the prior's mean has moved, root mean square over the table's SD.
    strengths : tuple of float
        Probabilities of the baseline's strengths.
    """

    n_spectra: int
    sd_factor: dict[str, float]
    shift_sd: dict[str, float]
    strengths: tuple[float, ...]

    @property
    def note(self) -> str:
        """Return it in a line."""
        factors = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in self.sd_factor.items())
        likely = ", ".join(f"{100 * value:.0f}" for value in self.strengths)
        return (
            f"Priors of the volume, learnt from {self.n_spectra} voxels; SDs over those of the table: {factors};"
            f" strengths of the baseline, %: {likely}."
        )


@dataclass(frozen=True)
class _Group:
    """Parameters whose spreads are in proportion to those of the table.

    ``rows`` ``(k, n_params)`` take parameters to those that a volume shares.
    """

    name: str
    rows: torch.Tensor
    has_mean: bool


def _groups(model: InVivoModel) -> list[_Group]:
    s, kinds = model.slices, model.components.kinds
    eye = torch.eye(model.n_params, dtype=model.prior_mean.dtype, device=model.prior_mean.device)
    groups = [_Group(name, eye[s[name]], True) for name in ("gamma", "variance", "phi1")]
    scale, mm_scale = s["scale"].start, s["mm_scale"].start
    lines = slice(s["log_amp"].start + model.n_linear, s["log_amp"].stop)
    if lines.stop > lines.start:
        groups.append(_Group("mm_scale", (eye[mm_scale] - eye[scale])[None], True))
        groups.append(_Group("mm", eye[lines] - eye[mm_scale], True))
    if "q" in s:
        groups.append(_Group("mm_width", eye[s["q"]], False))
    for kind in ("metabolite", "mm"):
        index = torch.as_tensor(np.flatnonzero(kinds == kind))
        if len(index):
            groups.append(_Group(f"{kind}_shift", eye[s["own_shift"]][index], False))
    metabolites = torch.as_tensor(np.flatnonzero(kinds[: model.n_linear] == "metabolite"))
    groups.append(_Group("metabolite_width", eye[s["own_width"]][metabolites], False))
    if "pattern_width" in s:
        groups.append(_Group("pattern_width", eye[s["pattern_width"]], True))
    if "shape" in s:
        groups.append(_Group("shape", eye[s["shape"]], False))
    return groups


def _sd_of_table(model: InVivoModel, groups: list[_Group]) -> torch.Tensor:
    """Return the SDs of the priors on differences or single parameters, ``(k,)``."""
    places = [torch.nonzero(row)[:, 0] for group in groups for row in group.rows]
    weights = [
        model.prior_precision[at[0], at[0]] if len(at) == 1 else -model.prior_precision[at[0], at[1]] for at in places
    ]
    return torch.stack(weights) ** -0.5


def population_model(model: InVivoModel, sample: Likelihood) -> tuple[InVivoModel, Population]:
    """Return the model with the priors of the volume that some spectra are from, and what was learnt.

    Spectra whose misfit is far larger than the typical one take no part, and one whose parameters of a group are far
    outside of the spread takes no part in that group.

    Parameters
    ----------
    model : InVivoModel
        That was fitted.
    sample : Likelihood
        Of some spectra.
    """
    about, groups = priors_table()["volume"], _groups(model)
    sample = sample.usable()
    rows, sd = torch.cat([group.rows for group in groups]), _sd_of_table(model, groups)
    number = torch.cat([torch.full((len(group.rows),), k) for k, group in enumerate(groups)])
    has_mean = torch.tensor([group.has_mean for group in groups])[number]
    most = torch.tensor([_MOST_MM_WIDTH if group.name == "mm_width" else _MOST for group in groups]).to(sd)[number]
    # Squares of spreads, over those of the table; the rest of a prior's variance is that of the mean.
    base = torch.where(has_mean, about["individual_share"], 1.0).to(sd)
    common = (1 - base) * sd**2
    mean, factor, remaining = torch.zeros_like(sd), base.clone(), common
    for _ in range(_PASSES):
        variance_before = factor * sd**2
        precision = model.prior_precision + rows.mT @ ((1 / variance_before - sd**-2)[:, None] * rows)
        value, variance = _posterior(model, sample, rows, mean, precision)
        weight = _inliers(((value - mean).square() + variance) / variance_before, number).to(sd)
        information = (1 / variance - 1 / variance_before).clamp(min=0)
        at_mean = (weight * value).sum(0) / (weight.sum(0) + variance_before / common.clamp(min=1e-300))
        mean = torch.where(has_mean, mean + _FASTER * (at_mean - mean), mean)
        known = (weight * information / (1 + information * variance_before)).sum(0)
        remaining = torch.where(has_mean, 1 / (known + 1 / common.clamp(min=1e-300)), common)
        deviation = ((value - mean).square() + variance) / sd**2
        factor = _spreads(weight, deviation, number, base, factor, about["weight"]).clamp(max=most)
    after = factor * sd**2 + remaining
    precision = model.prior_precision + rows.mT @ ((1 / after - sd**-2)[:, None] * rows)
    ratio = after / sd**2
    learnt = Population(
        n_spectra=len(sample.x),
        sd_factor={group.name: float(ratio[number == k].mean().sqrt()) for k, group in enumerate(groups)},
        shift_sd={
            group.name: float((mean / sd)[number == k].square().mean().sqrt())
            for k, group in enumerate(groups)
            if group.has_mean
        },
        strengths=tuple(_strengths(sample.by_strength, about["weight"]).tolist()),
    )
    model = replace(
        model,
        prior_mean=model.prior_mean + _shifts(model, rows, mean),
        prior_precision=0.5 * (precision + precision.mT),
    )
    return model, learnt


def _shifts(model: InVivoModel, rows: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the change of the prior's mean ``(n_params,)`` that changes the shared parameters by ``mean`` ``(k,)``."""
    change = torch.zeros_like(model.prior_mean)
    s = model.slices
    change[rows.clamp(min=0).argmax(-1)] = mean
    lines = slice(s["log_amp"].start + model.n_linear, s["log_amp"].stop)
    change[lines] += change[s["mm_scale"]]
    return change


def _posterior(
    model: InVivoModel, sample: Likelihood, rows: torch.Tensor, mean: torch.Tensor, precision: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return posterior mean of shared parameters relative to the table's and their variance, ``(b, k)`` each."""
    centre = model.prior_mean + _shifts(model, rows, mean)
    matrix = sample.gram + precision
    pull = sample.pull - (sample.x - centre) @ precision
    size = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    factor = torch.linalg.cholesky(matrix / (size[:, :, None] * size[:, None]))
    right = torch.cat([pull[..., None], rows.mT.expand(len(pull), -1, -1)], -1) / size[..., None]
    solved = torch.linalg.solve_triangular(factor, right, upper=False)
    step, each = solved[..., :1], solved[..., 1:]
    value = (sample.x - model.prior_mean) @ rows.mT + (each * step).sum(1)
    return value, each.square().sum(1)


def _inliers(ratio: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """Return which spectra take part for each parameter ``(b, k)``, by the squares of the deviations of its group over
    those expected."""
    out = torch.ones_like(ratio, dtype=torch.bool)
    for k in number.unique():
        of_group = number == k
        within = ratio[:, of_group].mean(-1) < 1 + _OUTLIER / float(of_group.sum()) ** 0.5
        out[:, of_group] = within[:, None]
    return out


def _spreads(
    weight: torch.Tensor,
    deviation: torch.Tensor,
    number: torch.Tensor,
    base: torch.Tensor,
    factor: torch.Tensor,
    prior_weight: float,
) -> torch.Tensor:
    """Return the squares of the spreads over those of the table, ``(k,)``, from those before."""
    new = torch.empty_like(factor)
    for k in number.unique():
        of_group = number == k
        total, size = weight[:, of_group].sum(), prior_weight * float(of_group.sum())
        found = (weight * deviation)[:, of_group].sum()
        new[of_group] = (found + size * base[of_group].mean()) / (total + size)
    return (factor * (new / factor) ** _FASTER).clamp(_LEAST, _MOST)


def _strengths(log_evidence: torch.Tensor, prior_weight: float) -> torch.Tensor:
    """Return the probabilities of the baseline's strengths."""
    n = log_evidence.shape[1]
    probability = torch.full((n,), 1 / n, dtype=log_evidence.dtype, device=log_evidence.device)
    for _ in range(_PASSES):
        each = torch.softmax(log_evidence + probability.log(), -1)
        probability = (each.sum(0) + prior_weight / n) / (len(each) + prior_weight)
    return probability
