"""Levenberg-Marquardt for the in-vivo model, batched over spectra: priors as part of the normal equations, the baseline
eliminated.

The normal matrix without baseline and the derivatives in the baseline's eigenbasis are formed once for each trial
point; every strength of the baseline is then a small correction, so that the evidence of all strengths costs little
more than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch

from ...physics.in_vivo_model import InVivoModel
from ...physics.nuisance import Whitening

__all__ = [
    "Minimum",
    "NormalEquations",
    "Problem",
    "chunks",
    "cost_of",
    "evidence",
    "laplace",
    "likelihood",
    "minimise",
    "systems",
]

_CHUNK, _CHUNK_ON_GPU = 16, 512  # spectra whose derivatives are held at once; on a CPU they stay in the cache
_CHOOSE_EVERY, _CHOICES = 3, 4  # steps between choices of the baseline's strength, and how many there are
_HELD_STEPS = 5  # first steps, which leave details of single lines alone
_TOLERANCE = 0.05  # SDs of all parameters together
_SMALL, _SMALL_STEPS, _PROGRESS = 2.0, 4, 0.6
"""Steps that are small (SDs of all parameters together) keep the derivatives, at most so many in a row and as long as
each is that much smaller than the last."""
_NEAR, _NO_PROGRESS, _SLOW_STEPS = 0.3, 1e-4, 8
"""Steps that are shorter than this (SDs of all parameters together) and lower the cost by no more than this: after so
many in a row a spectrum has converged.  They cross a valley from side to side, where one width replaces another."""
_CLEARLY_BETTER = 0.3  # log evidence


class Baseline(Protocol):
    """Eigenbasis of a baseline, as :class:`fsl_mrs_dl.physics.smooth_baseline.SmoothBaseline` has it."""

    @property
    def free(self) -> np.ndarray: ...

    @property
    def vectors(self) -> np.ndarray: ...

    def shares(self, strength) -> np.ndarray: ...


@dataclass(frozen=True)
class Problem:
    """Spectra and all that is common to their fits.

    Attributes
    ----------
    model : InVivoModel
        Or a :class:`fsl_mrs_dl.physics.edited_model.EditedModel`, which stands in for it.
    spectra, target : complex Tensor ``(b, n_window)``
        As measured, and without what the baseline projects out wholly.
    noise : Tensor ``(b,)``
        SD of one real channel.
    water : Tensor ``(b, n_time)`` or None
        Line shapes from water.
    free, vectors : complex Tensor ``(n_window, k)``
        See :class:`fsl_mrs_dl.physics.smooth_baseline.SmoothBaseline`.
    shares : Tensor ``(n_strengths, rank)``
    log_det : Tensor ``(n_strengths,)``
        Of the baseline's covariance plus noise, complex points, less the log probability of the strength.
    neighbours : tuple of int
        Distances to strengths of the baseline that a minimisation compares with the one it has.
    whitening : (complex Tensor ``(n_window, r)``, Tensor ``(r,)``), optional
        Vectors and shares of a :class:`fsl_mrs_dl.physics.nuisance.Whitening` that comes before the baseline, which
        is that of whitened spectra.
    """

    model: InVivoModel
    spectra: torch.Tensor
    target: torch.Tensor
    noise: torch.Tensor
    water: torch.Tensor | None
    free: torch.Tensor
    vectors: torch.Tensor
    shares: torch.Tensor
    log_det: torch.Tensor
    neighbours: tuple[int, ...] = (-1, 1)
    whitening: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def make(
        cls,
        model: InVivoModel,
        spectra: np.ndarray,
        noise: np.ndarray,
        baseline: Baseline,
        strengths,
        water: np.ndarray | None = None,
        whitening: Whitening | None = None,
        log_prior: np.ndarray | None = None,
    ) -> Problem:
        """Bring arrays to the model's device and precision; with a whitening, the baseline is that of whitened
        spectra; ``log_prior`` ``(n_strengths,)`` are log probabilities of its strengths."""
        kind, real, device = model.basis.dtype, model.time.dtype, model.basis.device
        free = torch.as_tensor(baseline.free).to(device, kind)
        data = torch.as_tensor(spectra).to(device, kind)
        shares = baseline.shares(np.asarray(strengths))
        log_det = -np.log1p(-shares).sum(-1)
        problem = cls(
            model=model,
            spectra=data,
            target=data,
            noise=torch.tensor(noise).to(device, real),
            water=None if water is None else torch.as_tensor(water).to(device, kind),
            free=free,
            vectors=torch.as_tensor(baseline.vectors).to(device, kind),
            shares=torch.as_tensor(shares).to(device, real),
            log_det=torch.as_tensor(log_det if log_prior is None else log_det - log_prior).to(device, real),
        )
        if whitening is not None and len(whitening.taken):
            vectors, taken = torch.as_tensor(whitening.vectors), torch.as_tensor(whitening.taken)
            problem = replace(problem, whitening=(vectors.to(device, kind), taken.to(device, kind)))
        return replace(problem, target=problem.without_free(data))

    def rows(self, index) -> Problem:
        """Return some of the spectra."""
        water = None if self.water is None else self.water[index]
        return replace(
            self, spectra=self.spectra[index], target=self.target[index], noise=self.noise[index], water=water
        )

    def without_free(self, spectra: torch.Tensor) -> torch.Tensor:
        """Whiten spectra ``(..., n_window)`` where nuisances are expected, and project out what the baseline takes
        wholly."""
        spectra = self._whitened(spectra)
        return spectra - (spectra @ self.free.conj()) @ self.free.mT

    def back(self, residual: torch.Tensor) -> torch.Tensor:
        """Return the adjoint of :meth:`without_free` of residuals that it has given, ``(..., n_window)``."""
        return self._whitened(residual)

    def _whitened(self, spectra: torch.Tensor) -> torch.Tensor:
        if self.whitening is None:
            return spectra
        vectors, taken = self.whitening
        return spectra - ((spectra @ vectors.conj()) * taken) @ vectors.mT


@dataclass
class NormalEquations:
    """Parts of the normal equations at one point, for unit noise.

    ``gram`` ``(b, p, p)`` and ``pull`` ``(b, p)`` without baseline; ``by_baseline`` ``(b, p, 2 rank)`` and
    ``residual`` ``(b, 2 rank)``, derivatives and residual in the baseline's eigenbasis; ``energy`` ``(b,)`` of the
    residual.
    """

    gram: torch.Tensor
    pull: torch.Tensor
    by_baseline: torch.Tensor
    residual: torch.Tensor
    energy: torch.Tensor

    def rows(self, index) -> NormalEquations:
        """Return those of some spectra."""
        return NormalEquations(*(part[index] for part in self._parts()))

    @classmethod
    def joined(cls, several: list[NormalEquations]) -> NormalEquations:
        """Join those of several batches."""
        return cls(*(torch.cat(parts) for parts in zip(*(each._parts() for each in several))))

    def copied(self) -> NormalEquations:
        """Return a copy."""
        return NormalEquations(*(part.clone() for part in self._parts()))

    def update(self, index, other: NormalEquations, which) -> None:
        """Overwrite rows ``index`` with rows ``which`` of others."""
        for own, new in zip(self._parts(), other._parts()):
            own[index] = new[which]

    def _parts(self):
        return self.gram, self.pull, self.by_baseline, self.residual, self.energy

    @classmethod
    def at(cls, problem: Problem, x: torch.Tensor) -> NormalEquations:
        """Compute them at parameters ``(b, p)``."""
        parts = []
        # Taking the baseline out twice is the same as once, whitening twice is not.
        data = problem.target if problem.whitening is None else problem.spectra
        for some in chunks(x):
            water = None if problem.water is None else problem.water[some]
            model, jacobian = problem.model.jacobian(x[some], water)
            both = problem.without_free(torch.cat([jacobian, (data[some] - model)[:, None]], 1))
            in_baseline, flat = _real(both @ problem.vectors.conj()), _real(both)
            gram = flat[:, :-1] @ flat.mT
            energy = flat[:, -1].square().sum(-1)
            parts.append((gram[..., :-1], gram[..., -1], in_baseline[:, :-1], in_baseline[:, -1], energy))
        return cls(*(torch.cat(part) for part in zip(*parts)))

    def nearby(self, problem: Problem, before: torch.Tensor, x: torch.Tensor, share: torch.Tensor) -> NormalEquations:
        """Return them at parameters ``x`` ``(b, p)`` near those that they are of, for a baseline's shares ``(b,
        rank)``: gradient and residual anew, and the derivatives as they were but for amplitudes and dampings that they
        are in proportion to."""
        factor = problem.model.growth(before, x)
        gram = self.gram * (factor[:, :, None] * factor[:, None])
        near = NormalEquations(gram, self.pull, self.by_baseline * factor[..., None], self.residual, self.energy)
        parts = [near._slopes(problem, x, share, rows) for rows in chunks(x)]
        pull, residual, energy = (torch.cat(part) for part in zip(*parts))
        return replace(near, pull=pull, residual=residual, energy=energy)

    def _slopes(self, problem: Problem, x: torch.Tensor, share: torch.Tensor, rows: slice):
        held = {}

        def weigh(spectra: torch.Tensor) -> torch.Tensor:
            residual = problem.target[rows] - problem.without_free(spectra)
            in_baseline = residual @ problem.vectors.conj()
            held["residual"], held["energy"] = _real(in_baseline), residual.abs().square().sum(-1)
            return problem.back(residual - (in_baseline * share[rows]) @ problem.vectors.mT)

        water = None if problem.water is None else problem.water[rows]
        _, pull = problem.model.spectrum_and_pull(x[rows], weigh, water)
        # The gradient with the baseline taken out, in the form that :func:`likelihood` takes it out of.
        taken = share[rows].repeat_interleave(2, -1) * held["residual"]
        return pull + (self.by_baseline[rows] @ taken[..., None])[..., 0], held["residual"], held["energy"]


@dataclass
class Minimum:
    """End of a minimisation.

    Attributes
    ----------
    x : Tensor ``(b, p)``
    normal : NormalEquations
        At ``x``.
    strength : Tensor ``(b,)``
        Index of the baseline's strength.
    cost : Tensor ``(b,)``
        Half the sum of squares, priors included.
    converged : Tensor ``(b,)``
    steps : Tensor ``(b,)``
    noise : Tensor ``(b,)``
        SD that explains the residual, at least the measured one.
    """

    x: torch.Tensor
    normal: NormalEquations
    strength: torch.Tensor
    cost: torch.Tensor
    converged: torch.Tensor
    steps: torch.Tensor
    noise: torch.Tensor

    @classmethod
    def joined(cls, several: list[Minimum]) -> Minimum:
        """Join those of several batches."""
        names = [each.name for each in fields(cls) if each.name != "normal"]
        parts = {name: torch.cat([getattr(each, name) for each in several]) for name in names}
        return cls(normal=NormalEquations.joined([each.normal for each in several]), **parts)

    def rows(self, index) -> Minimum:
        """Return those of some spectra."""
        parts = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "normal"}
        return Minimum(normal=self.normal.rows(index), **{name: part[index] for name, part in parts.items()})


def chunks(x: torch.Tensor) -> Iterator[slice]:
    """Yield slices of rows whose derivatives are held at once."""
    size = _CHUNK if x.device.type == "cpu" else _CHUNK_ON_GPU
    for start in range(0, len(x), size):
        yield slice(start, start + size)


def _real(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x).flatten(-2)


def likelihood(
    problem: Problem, normal: NormalEquations, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return normal matrix ``(b, p, p)``, gradient ``(b, p)`` and sum of squares ``(b,)`` of the spectra, over the
    noise and without priors, for a baseline's shares ``(b, rank)`` or ``(rank,)``."""
    weight = problem.noise**-2
    both = share.repeat_interleave(2, -1)
    taken = normal.by_baseline * both[..., None, :]
    gram = (normal.gram - taken @ normal.by_baseline.mT) * weight[:, None, None]
    pull = (normal.pull - (taken @ normal.residual[..., None])[..., 0]) * weight[:, None]
    energy = normal.energy - (both * normal.residual.square()).sum(-1)
    return gram, pull, energy * weight


def systems(
    problem: Problem, normal: NormalEquations, x: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return normal matrix ``(b, p, p)``, gradient ``(b, p)`` and cost ``(b,)``, priors included, for a baseline's
    shares ``(b, rank)``."""
    gram, pull, energy = likelihood(problem, normal, share)
    distance = x - problem.model.prior_mean
    force = distance @ problem.model.prior_precision
    return gram + problem.model.prior_precision, pull - force, 0.5 * (energy + (force * distance).sum(-1))


def cost_of(problem: Problem, normal: NormalEquations, x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return the cost ``(b,)`` of :func:`systems` alone."""
    distance = x - problem.model.prior_mean
    energy = normal.energy - (share.repeat_interleave(2, -1) * normal.residual.square()).sum(-1)
    by_prior = ((distance @ problem.model.prior_precision) * distance).sum(-1)
    return 0.5 * (energy * problem.noise**-2 + by_prior)


def evidence(problem: Problem, normal: NormalEquations, x: torch.Tensor) -> torch.Tensor:
    """Return the Laplace log evidence of every strength of the baseline ``(b, n_strengths)``, linearised about
    ``x``."""
    every = torch.arange(len(problem.shares), device=x.device)
    return torch.stack([evidence_at(problem, normal, x, each.expand(len(x))) for each in every], -1)


def evidence_at(problem: Problem, normal: NormalEquations, x: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Return the Laplace log evidence ``(b,)`` of one strength of the baseline for each spectrum, indices ``(b,)``."""
    return laplace(*systems(problem, normal, x, problem.shares[strength])) - problem.log_det[strength]


def laplace(matrix: torch.Tensor, pull: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the integral of ``exp(-cost)`` about a point by its normal matrix ``(b, p, p)``, gradient
    ``(b, p)`` and cost ``(b,)`` there, up to a constant of ``p``."""
    size = matrix.diagonal(dim1=-2, dim2=-1).clamp(min=1e-300).sqrt()
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    factor = torch.linalg.cholesky(matrix / (size[:, :, None] * size[:, None]) + 1e-10 * eye)
    step = torch.cholesky_solve((pull / size)[..., None], factor)[..., 0] / size
    half_log = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + size.log().sum(-1)
    return -(cost - 0.5 * (step * pull).sum(-1)) - half_log


def minimise(
    problem: Problem,
    x: torch.Tensor,
    strength: torch.Tensor,
    *,
    max_iter: int = 40,
    held_steps: int = _HELD_STEPS,
    adapt_noise: bool = True,
    normal: NormalEquations | None = None,
) -> Minimum:
    """Minimise the cost from ``x`` ``(b, p)``; the baseline's strength ``(b,)`` follows the evidence now and then.

    A spectrum has converged when the next step would move all parameters together by less than 0.05 SDs, or small
    steps no longer lower the cost.  The first ``held_steps`` leave details of single lines alone.  With ``adapt_noise``
    a residual larger than the noise counts as noise.  Small steps keep the derivatives of the last larger one, with the
    gradient where they are.
    ``normal`` are the normal equations at ``x``, if they are there already.
    """
    problem = replace(problem, noise=problem.noise.clone())
    floor = problem.noise.clone()
    state = _begin(problem, x, strength, normal)
    index = torch.arange(len(x), device=x.device)
    damping = torch.full((len(x),), 1e-2, dtype=x.dtype, device=x.device)
    # Of small steps in a row: how many, and the size of the last.
    n_small, last = torch.zeros_like(strength), torch.full_like(damping, torch.inf)
    n_slow = torch.zeros_like(strength)
    for iteration in range(max_iter):
        if iteration % _CHOOSE_EVERY == 0 and iteration <= _CHOICES * _CHOOSE_EVERY:
            if adapt_noise:
                problem.noise[index] = _residual_noise(problem, state, floor, index)
            if iteration:
                _choose_strength(problem, state, index)
        some, part, here = problem.rows(index), state.normal.rows(index), state.x[index]
        share = problem.shares[state.strength[index]]
        matrix, pull, cost = systems(some, part, here, share)
        if iteration < held_steps:
            matrix, pull = _held(matrix, pull, problem.model.details)
        size = matrix.diagonal(dim1=-2, dim2=-1).clamp(min=1e-300).sqrt()
        scaled = matrix / (size[:, :, None] * size[:, None])
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        step = torch.linalg.solve(scaled + damping[index, None, None] * eye, (pull / size)[..., None])[..., 0] / size
        gain = (step * pull).sum(-1)
        early = iteration <= min(held_steps, _CHOOSE_EVERY)
        done = (gain < _TOLERANCE**2) & (damping[index] < 0.5) & (not early)
        small = done | ((gain < _SMALL**2) & (n_small[index] < _SMALL_STEPS) & (gain < _PROGRESS**2 * last[index]))
        small = small & (iteration >= held_steps)
        trial = _moved(problem.model, here, step, size**2)
        new = _normal_at(some, part, here, trial, share, small)
        new_cost = cost_of(some, new, trial, share)
        better = new_cost < cost + 1e-9 * cost.abs()
        where = index[better]
        state.x[where] = trial[better]
        state.normal.update(where, new, better)
        failed = small & ~better & ~done
        if failed.any():
            rows = index[failed]
            state.normal.update(rows, NormalEquations.at(problem.rows(rows), state.x[rows]), slice(None))
        # After one that failed, the next is not small.
        n_small[index] = torch.where(failed, _SMALL_STEPS, torch.where(small & better, n_small[index] + 1, 0))
        last[index] = torch.where(small & better, gain, torch.full_like(gain, torch.inf))
        slow = (gain < _NEAR**2) & better & (cost - new_cost < _NO_PROGRESS) & (damping[index] < 0.5) & (not early)
        n_slow[index] = torch.where(slow, n_slow[index] + 1, 0)
        done = done | (n_slow[index] >= _SLOW_STEPS)
        state.converged[index[done]] = True
        state.steps[index] += 1
        state.cost[index] = torch.where(better, new_cost, cost)
        raised = (damping[index] * 8).clamp(min=3e-3)
        # Derivatives of a step before may have been to blame.
        raised = torch.where(failed, damping[index], raised)
        damping[index] = torch.where(better, damping[index] * 0.2, raised).clamp(1e-6, 1e6)
        index = index[~done & (damping[index] < 1e5)]
        if len(index) == 0:
            break
    if adapt_noise:
        state.noise = _residual_noise(problem, state, floor, torch.arange(len(x), device=x.device))
    return state


def _normal_at(
    problem: Problem,
    normal: NormalEquations,
    before: torch.Tensor,
    x: torch.Tensor,
    share: torch.Tensor,
    small: torch.Tensor,
) -> NormalEquations:
    """Return the normal equations at ``x``, with the derivatives ``before`` where the step was ``small`` ``(b,)``."""
    if not small.any():
        return NormalEquations.at(problem, x)
    near, far = torch.nonzero(small)[:, 0], torch.nonzero(~small)[:, 0]
    nearby = normal.rows(near).nearby(problem.rows(near), before[near], x[near], share[near])
    if len(far) == 0:
        return nearby
    joined = NormalEquations.joined([nearby, NormalEquations.at(problem.rows(far), x[far])])
    return joined.rows(torch.argsort(torch.cat([near, far])))


def _begin(problem: Problem, x: torch.Tensor, strength: torch.Tensor, normal: NormalEquations | None) -> Minimum:
    n, device = len(x), x.device
    return Minimum(
        x=x.clone(),
        normal=NormalEquations.at(problem, x) if normal is None else normal.copied(),
        strength=strength.clone(),
        cost=torch.full((n,), torch.inf, dtype=x.dtype, device=device),
        converged=torch.zeros(n, dtype=torch.bool, device=device),
        steps=torch.zeros(n, dtype=torch.long, device=device),
        noise=problem.noise.clone(),
    )


def _choose_strength(problem: Problem, state: Minimum, index: torch.Tensor) -> None:
    """Change to a strength of the baseline whose evidence is clearly higher."""
    some, normal, x = problem.rows(index), state.normal.rows(index), state.x[index]
    now = state.strength[index]
    last = len(problem.shares) - 1
    choices = torch.stack([now, *((now + step).clamp(0, last) for step in problem.neighbours)], -1)
    value = torch.stack([evidence_at(some, normal, x, choice) for choice in choices.unbind(-1)], -1)
    best = value.max(-1)
    better = best.values > value[:, 0] + _CLEARLY_BETTER
    state.strength[index] = torch.where(better, choices.gather(-1, best.indices[:, None])[:, 0], now)


def _residual_noise(problem: Problem, state: Minimum, floor: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return the noise that explains the residual, at least the measured one: misfit counts as noise."""
    share = problem.shares[state.strength[index]].repeat_interleave(2, -1)
    normal = state.normal.rows(index)
    energy = normal.energy - (share * normal.residual.square()).sum(-1)
    n = 2 * (problem.target.shape[-1] - problem.free.shape[-1])
    # The parameters take energy of the noise; with their priors about half an amplitude's worth each.
    used = 0.55 * problem.model.n_linear + 12.0
    return torch.maximum(floor[index], (energy / max(n - used, 1.0)).clamp(min=0).sqrt())


def _held(matrix: torch.Tensor, pull: torch.Tensor, held: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a system whose solution leaves some parameters alone."""
    matrix[:, held] = 0
    matrix[:, :, held] = 0
    matrix[:, held, held] = 1
    pull[:, held] = 0
    return matrix, pull


def _moved(model: InVivoModel, x: torch.Tensor, step: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
    """Move parameters: amplitudes that the spectrum decides by their linear change, down to a fifth at once, others by
    that of the logarithm.

    Steps are shortened so that no log width moves by more than 1.5, no phase by more than .8 rad, the common shift by
    no more than 6 Hz and no other by more than 4 SDs.
    """
    s = model.slices
    most = torch.full((model.n_params,), torch.inf, dtype=step.dtype, device=step.device)
    for name in ("gamma", "variance", "q"):
        if name in s:
            most[s[name]] = 1.5
    most[s["phi0"]], most[s["shift"]] = 0.8, 6.0
    most[s["own_shift"]] = 4 * model.prior_precision.diagonal()[s["own_shift"]] ** -0.5
    step = step / (step.abs() / most).amax(-1, keepdim=True).clamp(min=1.0)
    block = s["log_amp"]
    by_prior = (model.prior_precision.diagonal()[block] / curvature[:, block]).clamp(0, 1)
    change = step[:, block].clamp(-1.6, 30.0)
    linear = torch.log1p(change.clamp(min=-0.8))
    step[:, block] = by_prior * change.clamp(max=3.0) + (1 - by_prior) * linear
    return x + step
