"""Steps of Levenberg and Marquardt within bounds."""

from __future__ import annotations

import torch

__all__ = ["bounded_step", "decrement", "held", "inside"]


_FLAT = 1e-8  # damping


def _solved(
    information: torch.Tensor, pull: torch.Tensor, damping: torch.Tensor, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """Return ``(H + damping D)^-1 g`` for batches ``(n, k, k)`` and ``(n, k)``.

    D is diagonal with ``scale``, by default that of H.
    """
    diagonal = information.diagonal(dim1=-2, dim2=-1) if scale is None else scale
    size = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).sqrt()
    scaled = information / (size[..., :, None] * size[..., None, :])
    eye = torch.eye(scaled.shape[-1], dtype=scaled.dtype)
    return torch.linalg.solve(scaled + (damping[..., None, None] + 1e-12) * eye, pull / size) / size


def held(x: torch.Tensor, pull: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """Tell which parameters ``(n, k)`` are at a bound that the cost pulls them against."""
    return ((x <= lower) & (pull < 0)) | ((x >= upper) & (pull > 0)) | (lower == upper)


def inside(information: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Return the information with those that are not free cut off."""
    both = free[..., :, None] & free[..., None, :]
    return torch.where(both, information, torch.diag_embed((~free).to(information)))


def bounded_step(
    x: torch.Tensor,
    information: torch.Tensor,
    pull: torch.Tensor,
    damping: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the damped Gauss-Newton step ``(n, k)`` that stays within the bounds.

    Parameters that a step would take over a bound end at it, and the others move given that.

    Parameters
    ----------
    x : ``(n, k)``
    information : ``(n, k, k)``
        Half the second derivatives of the cost.
    pull : ``(n, k)``
        Minus half its first derivatives.
    damping : ``(n,)``
    lower, upper : ``(n, k)``
    scale : ``(n, k)``, optional
        What damping multiplies: by default the diagonal of the information (Marquardt).  The largest one so far (More,
        as in MINPACK) keeps a parameter whose influence vanishes, such as the rate of a signal that has decayed, from
        steps without limit.
    """
    fixed = held(x, pull, lower, upper)
    step = torch.zeros_like(x)
    for _ in range(x.shape[-1] + 1):
        free = ~fixed
        known = torch.where(fixed, step, torch.zeros_like(step))
        rest = torch.where(free, pull - (information @ known[..., None])[..., 0], torch.zeros_like(pull))
        step = torch.where(free, _solved(inside(information, free), rest, damping, scale), known)
        new = x + step
        over = free & ((new < lower) | (new > upper))
        if not over.any():
            break
        step = torch.where(over, new.clamp(lower, upper) - x, step)
        fixed = fixed | over
    return (x + step).clamp(lower, upper) - x


def decrement(
    x: torch.Tensor,
    information: torch.Tensor,
    pull: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the square of the distance to the minimum, for unit noise, in SDs, ``(n,)``.

    With a ``scale`` as of :func:`bounded_step`, a parameter whose influence has all but vanished counts as far as a
    step of its former size would go: a cost that falls towards infinity has no other minimum.
    """
    fixed = held(x, pull, lower, upper)
    pull = torch.where(fixed, torch.zeros_like(pull), pull)
    damping = torch.full(x.shape[:-1], 0.0 if scale is None else _FLAT, dtype=x.dtype)
    step = _solved(inside(information, ~fixed), pull, damping, scale)
    return (step * pull).sum(-1).clamp(min=0)
