"""Models fitted to time courses, for initial values: many courses and many initial guesses at once."""

from __future__ import annotations

import torch

from .least_squares import bounded_step
from .models import Model

__all__ = ["fit_curves"]

_GUESSES, _REFINED, _STEPS, _IDLE = 300, 6, 40, 4


def fit_curves(
    model: Model, courses: torch.Tensor, time_variable, lower: torch.Tensor, upper: torch.Tensor
) -> torch.Tensor:
    """Return the parameters ``(n, k)`` of the model closest to each time course ``(n, n_times)``, in least squares.

    Guesses span the sizes that values and rates can have, the best ones are refined.  ``lower`` and ``upper`` are
    bounds, ``(n, k)``.
    """
    n, k = lower.shape
    guesses = _guesses(courses, time_variable, lower, upper)
    misfit = _misfit(model, guesses.flatten(0, 1), courses.repeat_interleave(guesses.shape[1], 0), time_variable)
    best = misfit.reshape(n, -1).argsort(-1)[:, :_REFINED]
    x = torch.gather(guesses, 1, best[..., None].expand(-1, -1, k)).flatten(0, 1)
    targets = courses.repeat_interleave(best.shape[1], 0)
    low, high = (bound.repeat_interleave(best.shape[1], 0) for bound in (lower, upper))
    x, cost = _refined(model, x, targets, time_variable, low, high)
    choice = cost.reshape(n, -1).argmin(-1)
    return x.reshape(n, -1, k)[torch.arange(n), choice]


def _misfit(model: Model, p: torch.Tensor, courses: torch.Tensor, t) -> torch.Tensor:
    cost = (courses - model.values(p, t)).square().sum(-1)
    return torch.where(cost.isfinite(), cost, torch.inf)


def _refined(model: Model, x, courses, t, lower, upper):
    """Return parameters after steps of Levenberg and Marquardt, and their cost."""
    cost = _misfit(model, x, courses, t)
    damping, idle = torch.full_like(cost, 1e-2), 0
    for _ in range(_STEPS):
        slope = model.jacobian(x, t).nan_to_num(0, 0, 0)
        residual = (courses - model.values(x, t)).nan_to_num(0, 0, 0)
        pull = (slope.mT @ residual[..., None])[..., 0]
        new = x + bounded_step(x, slope.mT @ slope, pull, damping, lower, upper)
        new_cost = _misfit(model, new, courses, t)
        better = new_cost < cost
        idle = 0 if (better & (new_cost < cost * (1 - 1e-6))).any() else idle + 1
        if idle > _IDLE:
            break
        x, cost = torch.where(better[:, None], new, x), torch.where(better, new_cost, cost)
        damping = torch.where(better, damping / 4, damping * 8).clamp(1e-9, 1e6)
    return x, cost


def _guesses(courses: torch.Tensor, t, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """Return guesses ``(n, n_guesses, k)``: each parameter may be like a value, a rate, a time or a share."""
    n, k = lower.shape
    times = torch.cat([value.flatten() for value in (t.values() if isinstance(t, dict) else [t])])
    longest = max(float(times.abs().max()), 1e-12)
    size = courses.abs().amax(-1)
    ones = torch.ones_like(size)
    scales = torch.stack(
        [
            *(0 * ones, size, -size, courses[:, 0], courses[:, -1], courses.mean(-1), 0.5 * ones, ones),
            *(factor * ones / longest for factor in (0.1, 0.3, 1, 3, 10, 30)),
            *(factor * ones * longest for factor in (0.03, 0.1, 0.3, 1, 3)),
        ],
        dim=-1,
    )
    pick = torch.randint(scales.shape[-1], (_GUESSES, k), generator=torch.Generator().manual_seed(0))
    guesses = scales[:, pick]
    # Between two finite bounds any value may be the best.
    share = torch.rand(_GUESSES, k, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = lower[:, None], upper[:, None]
    finite = low.isfinite() & high.isfinite()
    width = torch.where(finite, high - low, torch.zeros_like(low))
    between = torch.where(finite, low, torch.zeros_like(low)) + width * share
    use = finite & (torch.arange(_GUESSES) % 2 == 0)[None, :, None]
    return torch.where(use, between, guesses.clamp(low, high))
