"""Exponentials of evenly spaced arguments: decays, shifts and phases over time or frequency."""

from __future__ import annotations

import torch

__all__ = ["progression"]


def progression(start: torch.Tensor, step: torch.Tensor, n: int) -> torch.Tensor:
    """Return ``exp(start + step * k)`` for k from 0 to n - 1 along a new last axis; most of it by products, which cost
    less than exponentials."""
    if step.numel() < 4:
        return torch.exp(
            start[..., None] + step[..., None] * torch.arange(n, device=step.device, dtype=step.real.dtype)
        )
    fine = max(1, round(n**0.5))
    low = torch.exp(step[..., None] * torch.arange(fine, device=step.device, dtype=step.real.dtype))
    high = torch.arange(-(-n // fine), device=step.device, dtype=step.real.dtype) * fine
    high = torch.exp(start[..., None] + step[..., None] * high)
    return (high[..., None] * low[..., None, :]).flatten(-2)[..., :n]
