"""Minima of the losses that networks are trained on without a truth, for every signal by itself.

An encoder is trained to answer with the minimum of its loss.  Where that is far from the truth, no training can bring
it there; where the encoder is far from the minimum, the training is too short, or the encoder too small.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["minimise"]


def minimise(
    misfit: Callable, start: dict[str, torch.Tensor], scale: dict[str, float], *, steps: int = 500, rate: float = 0.02
) -> dict[str, torch.Tensor]:
    """Minimise a loss over the parameters of every signal, with Adam and a rate that falls along a cosine.

    Parameters
    ----------
    misfit : callable
        ``misfit(parameters)`` returns the loss of every signal, ``(batch,)``.
    start : dict
        Parameters by name, the first dimension is the batch.
    scale : dict
        Size of the parameters that can be negative, by name; the logarithms of the others are varied.
    steps : int
    rate : float

    Returns
    -------
    dict
        The parameters with the least loss of each signal on the way.
    """
    free = {
        name: (value / scale[name] if name in scale else value.clamp(min=1e-6).log()).detach().clone().requires_grad_()
        for name, value in start.items()
    }
    optimiser = torch.optim.Adam(free.values(), rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    least, best = None, {}
    for step in range(steps + 1):
        values = {name: value * scale[name] if name in scale else value.exp() for name, value in free.items()}
        loss = misfit(values)
        now = {name: value.detach() for name, value in values.items()}
        better = torch.ones(len(loss), dtype=torch.bool) if least is None else loss.detach() < least
        least = loss.detach() if least is None else torch.where(better, loss.detach(), least)
        for name, value in now.items():
            chosen = better.reshape(-1, *[1] * (value.ndim - 1))
            best[name] = torch.where(chosen, value, best.get(name, value))
        if step < steps:
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
            decay.step()
    return best
