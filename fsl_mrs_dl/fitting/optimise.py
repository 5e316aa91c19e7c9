"""Parameters of lowest cost: choice among initial values, reduced and whole model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from ..core import units
from ..physics.signal_model import SignalModel
from . import varpro
from .coarse_model import ReducedModel, reduced
from .initialisation import InitialValues

__all__ = [
    "STEPS_IN_NOISE",
    "TOLERANCE",
    "differ",
    "fit_spectra",
    "holds_noise_only",
    "solve",
    "solve_fast",
    "with_signs_of_the_data",
]

TOLERANCE = 1e-3
"""Distance from the minimum, in SDs, at which a fit has converged."""


def fit_spectra(
    spec: torch.Tensor,
    model: SignalModel,
    names: list[str],
    initial_values: InitialValues,
    max_iter: int = 60,
    tolerance: float = TOLERANCE,
) -> varpro.Solution:
    """Fit spectra in the model's window, complex ``(batch, n_window)``.

    Parameters
    ----------
    spec : complex ``(batch, n_window)``
    model : SignalModel
    names : list of str
        Metabolites of the model.
    initial_values : InitialValues
    max_iter : int
        Most trial points per spectrum.
    tolerance : float
        See :data:`TOLERANCE`.
    """
    target = model.eliminate_baseline(spec)
    proposals = [
        _best_proposal(target, model, part(spec, model, names))
        for part in getattr(initial_values, "parts", [initial_values])
    ]
    theta, cost = proposals[0]
    alternatives = []
    for other, other_cost in proposals[1:]:
        different = differ(model, theta, other)
        alternatives.append((other, different))
        better = ~different & (other_cost < cost)
        theta, cost = torch.where(better[:, None], other, theta), torch.where(better, other_cost, cost)
    # Without signal the cost has many minima, all of them due to noise: a few steps are enough.
    empty = holds_noise_only(target, cost, model)
    if empty.any():
        best = varpro.Solution.joined(
            [
                (part, solve_fast(target[part], model, theta[part], steps, tolerance))
                for part, steps in (
                    (empty.nonzero()[:, 0], min(max_iter, STEPS_IN_NOISE)),
                    ((~empty).nonzero()[:, 0], max_iter),
                )
                if len(part)
            ]
        )
    else:
        best = solve_fast(target, model, theta, max_iter, tolerance)
    for other, different in alternatives:
        index = (different & ~empty).nonzero()[:, 0]
        if len(index):
            end = solve_fast(target[index], model, other[index], max_iter, tolerance)
            lower = end.cost < best.cost[index]
            best.update(index[lower], end[lower])
    return best


STEPS_IN_NOISE = 16
"""Most trial points of a spectrum without signal."""

_MIN_EXPLAINED = 3.0


def holds_noise_only(
    target: torch.Tensor, cost: torch.Tensor, model: SignalModel, filled: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """Tell whether a fit explains no more of spectra ``(batch, n_window)`` than it would of noise, bool ``(batch,)``.

    ``cost`` ``(batch,)`` is the residual sum of squares; the baseline is eliminated.  Of noise each parameter explains
    about the energy of one point, nonlinear ones some more, and ``filled`` ``(batch,)`` times as much where zeros were
    filled in.
    """
    energy = target.abs().square().sum(-1)
    noise = filled * cost / (2 * target.shape[-1])
    return (energy - cost) < _MIN_EXPLAINED * (model.n_metabs + sum(model.theta_sizes.values())) * noise


def _best_proposal(
    target: torch.Tensor, model: SignalModel, candidates: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the candidate of lowest cost for every spectrum, ``(batch, n_theta)``, and that cost.

    Single precision is enough to compare candidates once the spectra are scaled to a size of one.
    """
    nonnegative = torch.full((model.n_metabs,), not model.shape.negative, device=target.device)
    lower, upper = model.theta_bounds
    candidates = candidates.clamp(lower, upper)
    n, rough = candidates.shape[1], reduced(model, len(target))
    size: float | torch.Tensor = 1.0
    if isinstance(rough, ReducedModel):
        rough = rough.single
        target, size = _to_single(target)
    given = candidates.isfinite().all(-1).flatten()
    costs = torch.full(given.shape, torch.inf, dtype=target.real.dtype, device=target.device)
    costs[given] = varpro.cost(
        target.repeat_interleave(n, 0)[given],
        rough.plain_columns,
        candidates.flatten(0, 1)[given],
        nonnegative=nonnegative,
        eliminate=rough.elimination,
    )
    cost, best = costs.reshape(-1, n).min(-1)
    return candidates[torch.arange(len(best), device=best.device), best], cost.to(candidates) * size**2


def _to_single(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return spectra in single precision, scaled to a size of one, and their sizes ``(batch,)``."""
    size = target.abs().amax(-1)
    size = torch.where((size > 0) & size.isfinite(), size, torch.ones_like(size))
    return (target / size[:, None]).to(torch.complex64), size


# Initial values closer than this end in the same minimum.
_SAME_SHIFT_PPM, _SAME_PHASE_RAD = 0.02, 0.6


def differ(model: SignalModel, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Tell where two sets of parameters ``(batch, n_theta)`` differ in the shift of the first group or in the phase in
    the window, bool ``(batch,)``."""
    a, b = model.split_theta(one), model.split_theta(other)
    shift = (a["eps"] - b["eps"])[:, 0] / (2 * torch.pi * model.spec_freq_mhz)
    turn = _phase_in_the_middle(model, a) - _phase_in_the_middle(model, b)
    return (shift.abs() > _SAME_SHIFT_PPM) | (units.wrap_radians(turn)).abs().gt(_SAME_PHASE_RAD)


def _phase_in_the_middle(model: SignalModel, blocks: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the phase of the first group's lines in the middle of the window, rad ``(batch,)``."""
    middle = sum(model.ppmlim) / 2 if model.ppmlim else units.nucleus(model.nucleus).ppm_reference
    hz = units.ppm_to_hz(middle, model.spec_freq_mhz, model.nucleus)
    return (blocks["phi0"] + blocks["phi1"] * hz + blocks["eps"] * model.dwelltime)[:, 0]


def with_signs_of_the_data(model: SignalModel, solution: varpro.Solution) -> varpro.Solution:
    """Return a fit whose concentrations may be negative with the signs that the data have as they are phased.

    All signs reversed and half a turn more give the same spectrum.  Of the two, the one is returned whose phase is the
    smaller one, as in FSL-MRS, which begins without a phase.
    """
    blocks = model.split_theta(solution.theta)
    half_turns = torch.round(_phase_in_the_middle(model, blocks) / torch.pi)[:, None]
    sign = torch.ones(solution.information.shape[:2]).to(solution.information)
    sign[:, : model.n_metabs] = 1 - 2 * (half_turns % 2)
    return replace(
        solution,
        theta=model.join_theta(**blocks | {"phi0": blocks["phi0"] - torch.pi * half_turns}),
        conc=solution.conc * sign[:, : model.n_metabs],
        information=solution.information * sign[:, :, None] * sign[:, None],
    )


# The first steps in single precision: how many at most, their tolerance (SDs), and the fewest spectra for which they
# save time.
_ROUGH_STEPS, _ROUGH_TOLERANCE, _ROUGH_ROWS = 6, 0.1, 8


# Largest error of any parameter due to the coarse grid, in SDs.
_MAX_ERROR = 1e-3


def solve_fast(
    target: torch.Tensor,
    model: SignalModel,
    theta: torch.Tensor,
    max_iter: int,
    tolerance: float = TOLERANCE,
    exact_after: int | None = None,
) -> varpro.Solution:
    """Refine as :func:`solve` with the whole model, by way of the reduced one; the cost is the whole model's."""
    small = reduced(model, len(target))
    if not isinstance(small, ReducedModel):
        return solve(target, model, theta, max_iter, tolerance=tolerance, exact_after=exact_after)
    used: int | torch.Tensor = 0
    if max_iter > 3 * _ROUGH_STEPS and len(target) >= _ROUGH_ROWS:
        rough = solve(_to_single(target)[0], small.single, theta.float(), _ROUGH_STEPS, tolerance=_ROUGH_TOLERANCE)
        theta, used = torch.where(rough.cost.isfinite()[:, None], rough.theta.to(theta), theta), rough.n_iter
        max_iter -= _ROUGH_STEPS
    best = solve(target, small, theta, max_iter, tolerance=tolerance, exact_after=exact_after)
    best.n_iter += used
    # The difference of the models moves no parameter by more SDs than its norm in units of the noise.
    exact = model.join_metabolites(best.theta, best.conc)
    error = model.eliminate_baseline(exact - small.join_metabolites(best.theta, best.conc)).abs().square().sum(-1)
    cost = (target - model.eliminate_baseline(exact)).abs().square().sum(-1)
    best.cost = torch.where(cost.isfinite(), cost, torch.inf)
    index = (error > _MAX_ERROR**2 * cost / (2 * target.shape[-1])).nonzero()[:, 0]
    if len(index):
        end = solve(target[index], model, best.theta[index], max_iter, tolerance=tolerance, exact_after=exact_after)
        end.n_iter += best.n_iter[index]
        best.update(index, end)
    return best


def solve(
    target: torch.Tensor,
    model: SignalModel | ReducedModel,
    theta: torch.Tensor,
    max_iter: int,
    damping: float | torch.Tensor = 1e-3,
    tolerance: float = TOLERANCE,
    exact_after: int | None = None,
) -> varpro.Solution:
    """Refine one set of initial values ``(batch, n_theta)`` per spectrum; ``target`` ``(batch, n_window)`` has the
    baseline eliminated."""
    lower, upper = (bound.to(theta) for bound in model.theta_bounds)
    return varpro.solve(
        target,
        model.plain_columns,
        partial(model.theta_derivatives, eliminate=False),
        theta,
        lower=lower,
        upper=upper,
        nonnegative=torch.full((model.n_metabs,), not model.shape.negative, device=target.device),
        max_iter=max_iter,
        tolerance=tolerance,
        damping=damping,
        exact_after=exact_after,
        eliminate=model.elimination,
    )
