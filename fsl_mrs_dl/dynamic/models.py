"""Ready-made models of how a parameter changes over a series, with analytic derivatives.

A configuration names one without defining it.  ``p`` holds the model's parameters in the order that is given here,
``t`` the time variable: b values, echo times, inversion times, or the design matrix of a linear model.

exponential        p0 exp(-p1 t)
exponential_offset p2 + p0 exp(-p1 t)
biexponential      p0 (p3 exp(-p1 t) + (1 - p3) exp(-p2 t))
stretched          p0 exp(-(p1 t)^p2)
kurtosis           p0 exp(-p1 t + p2 (p1 t)^2 / 6)
linear             p0 - p1 t
t2                 p0 exp(-t / p1)
inversion          p0 (1 - 2 p2 exp(-t / p1)); p2 is the efficiency of the inversion
saturation         p0 (1 - exp(-t / p1))
glm                design matrix times p

Kurtosis: Jensen et al., doi 10.1002/mrm.20508.  Stretched exponential: Bennett et al., doi 10.1002/mrm.10581.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = [
    "ExecutedModel",
    "Initial",
    "InterpretedModel",
    "MatrixModel",
    "Model",
    "READY_MADE",
    "ReadyModel",
    "recognised",
]


class Model(ABC):
    """How a parameter of the spectra follows from free parameters and the time variable."""

    @abstractmethod
    def values(self, p: torch.Tensor, t) -> torch.Tensor:
        """Return the time courses ``(n, n_times)`` of n sets of parameters ``(n, k)``."""

    @abstractmethod
    def jacobian(self, p: torch.Tensor, t) -> torch.Tensor:
        """Return the derivatives of the time courses, ``(n, n_times, k)``."""

    def curvature(self, p: torch.Tensor, t, weights: torch.Tensor) -> torch.Tensor:
        """Return the second derivatives ``(n, k, k)`` of the time courses, summed with weights ``(n, n_times)``.

        They guide steps only, and are differences of the first derivatives.
        """
        n, k = p.shape
        size = 1e-4 * p.abs() + 1e-8
        moves = torch.diag_embed(size)
        ends = torch.stack([p[:, None] + moves, p[:, None] - moves]).flatten(0, 2)
        slopes = self.jacobian(ends, t).reshape(2, n, k, -1, k)
        change = (slopes[0] - slopes[1]) / (2 * size[:, :, None, None])
        blocks = torch.einsum("nitj,nt->nij", change.nan_to_num(0, 0, 0), weights)
        return (blocks + blocks.mT) / 2


def _columns(p: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return each parameter of ``(n, k)`` as ``(n, 1)``."""
    return torch.split(p, 1, dim=-1)


def _exponential(p, t):
    amplitude, rate = _columns(p)
    decay = torch.exp(-rate * t)
    return amplitude * decay, (decay, -amplitude * t * decay)


def _exponential_offset(p, t):
    amplitude, rate, offset = _columns(p)
    decay = torch.exp(-rate * t)
    return offset + amplitude * decay, (decay, -amplitude * t * decay, torch.ones_like(decay))


def _biexponential(p, t):
    amplitude, slow, fast, share = _columns(p)
    one, other = torch.exp(-slow * t), torch.exp(-fast * t)
    sum_ = share * one + (1 - share) * other
    by = (sum_, -amplitude * share * t * one, -amplitude * (1 - share) * t * other, amplitude * (one - other))
    return amplitude * sum_, by


def _stretched(p, t):
    amplitude, rate, power = _columns(p)
    # At t = 0 the derivatives are zero; logarithms there are not finite.
    scaled = (rate * t).clamp(min=1e-300)
    raised = scaled**power
    decay = torch.exp(-raised)
    by_rate = -amplitude * decay * power * raised / rate.clamp(min=1e-300)
    return amplitude * decay, (decay, by_rate, -amplitude * decay * raised * torch.log(scaled))


def _kurtosis(p, t):
    amplitude, rate, excess = _columns(p)
    scaled = rate * t
    decay = torch.exp(-scaled + excess * scaled**2 / 6)
    by_rate = amplitude * decay * (-t + excess * scaled * t / 3)
    return amplitude * decay, (decay, by_rate, amplitude * decay * scaled**2 / 6)


def _linear(p, t):
    amplitude, slope = _columns(p)
    return amplitude - slope * t, (torch.ones_like(amplitude * t), -t + 0 * slope)


def _t2(p, t):
    amplitude, time = _columns(p)
    decay = torch.exp(-t / time)
    return amplitude * decay, (decay, amplitude * decay * t / time**2)


def _inversion(p, t):
    amplitude, time, efficiency = _columns(p)
    decay = torch.exp(-t / time)
    by_time = -2 * amplitude * efficiency * decay * t / time**2
    return amplitude * (1 - 2 * efficiency * decay), (1 - 2 * efficiency * decay, by_time, -2 * amplitude * decay)


def _saturation(p, t):
    amplitude, time = _columns(p)
    decay = torch.exp(-t / time)
    return amplitude * (1 - decay), (1 - decay, -amplitude * decay * t / time**2)


def _glm(p, t):
    # A design matrix of one column is read as the values of a time variable.
    t = t[:, None] if t.ndim == 1 else t
    return p @ t.mT, tuple(column.expand(len(p), -1) for column in t.mT)


@dataclass(frozen=True)
class ReadyModel(Model):
    """A ready-made model with ``n_params`` parameters, any number where that is None."""

    function: Callable
    n_params: int | None

    def values(self, p, t):
        return self.function(p, t)[0]

    def jacobian(self, p, t):
        return torch.stack(self.function(p, t)[1], dim=-1)


READY_MADE = {
    "exponential": ReadyModel(_exponential, 2),
    "exponential_offset": ReadyModel(_exponential_offset, 3),
    "biexponential": ReadyModel(_biexponential, 4),
    "stretched": ReadyModel(_stretched, 3),
    "kurtosis": ReadyModel(_kurtosis, 3),
    "linear": ReadyModel(_linear, 2),
    "t2": ReadyModel(_t2, 2),
    "inversion": ReadyModel(_inversion, 3),
    "saturation": ReadyModel(_saturation, 2),
    "glm": ReadyModel(_glm, None),
}
"""Ready-made models by name."""


@dataclass(frozen=True)
class InterpretedModel(Model):
    """A function of a configuration that was read, with derivatives by automatic differentiation.

    Attributes
    ----------
    function : callable
        Of parameters ``(k,)`` and the time variable.
    elementwise : bool
        Every value follows from its own time only, so that all sets of parameters are evaluated at once.
    """

    function: Callable
    elementwise: bool = False

    def values(self, p, t):
        if self.elementwise:
            return self._of_spread(self._spread(p, t), t)
        # A function may ignore the time variable and return one number.
        return torch.stack([_tensor_row(self.function(one, t), _n_times(t)) for one in p])

    def jacobian(self, p, t):
        if self.elementwise:
            spread = self._spread(p, t).requires_grad_()
            values = self._of_spread(spread, t)
            if not values.requires_grad:
                return values.new_zeros(*values.shape, p.shape[-1])
            (slope,) = torch.autograd.grad(values.sum(), spread)
            return slope.movedim(0, -1)
        rows = [
            torch.autograd.functional.jacobian(lambda q: _tensor_row(self.function(q, t), _n_times(t)), one)
            for one in p.detach()
        ]
        return torch.stack(rows)

    def _spread(self, p, t):
        """Return the parameters repeated for every time, ``(k, n, n_times)``."""
        return p.detach().mT[:, :, None].repeat(1, 1, _n_times(t))

    def _of_spread(self, spread, t):
        values = torch.as_tensor(self.function(spread, t), dtype=torch.float64)
        return values.expand(spread.shape[1:])


@dataclass(frozen=True)
class MatrixModel(Model):
    """A model that is linear in its parameters: a matrix ``(n_times, k)``."""

    matrix: torch.Tensor

    def values(self, p, t):
        return p @ self.matrix.mT

    def jacobian(self, p, t):
        return self.matrix.expand(len(p), -1, -1)

    def curvature(self, p, t, weights):
        return p.new_zeros(*p.shape, p.shape[-1])


def recognised(model: Model, n_params: int, t) -> Model:
    """Return the linear or ready-made model that an interpreted function is, or the quickest form of itself.

    Functions are compared by their values for many parameters of both signs, at the times of the series.
    """
    if not isinstance(model, InterpretedModel):
        return model
    p = 2 * torch.rand(24, n_params, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 0.5
    values = model.values(p, t)

    def is_same(other: Model) -> bool:
        return torch.allclose(other.values(p, t), values, rtol=1e-12, atol=1e-14, equal_nan=True)

    if isinstance(t, torch.Tensor) and t.ndim == 1:
        for ready in READY_MADE.values():
            if ready.n_params == n_params and is_same(ready):
                return ready
    linear = MatrixModel(model.values(torch.eye(n_params, dtype=torch.float64), t).mT)
    if linear.matrix.isfinite().all() and is_same(linear):
        return linear
    quick = InterpretedModel(model.function, elementwise=True)
    try:
        slopes = quick.jacobian(p[:1], t), model.jacobian(p[:1], t)
        elementwise = is_same(quick) and torch.allclose(*slopes, rtol=1e-10, atol=1e-14, equal_nan=True)
    except Exception:  # of a function that needs parameters without further dimensions
        elementwise = False
    return quick if elementwise else model


@dataclass(frozen=True)
class ExecutedModel(Model):
    """A function of a configuration that was executed, with the file's own gradient."""

    function: Callable
    gradient: Callable

    def values(self, p, t):
        rows = [_row(self.function(one, _arrays(t)), _n_times(t)) for one in p.numpy()]
        return torch.stack(rows)

    def jacobian(self, p, t):
        rows = []
        for one in p.numpy():
            rows.append(torch.stack([_row(part, _n_times(t)) for part in self.gradient(one, _arrays(t))], dim=-1))
        return torch.stack(rows)


@dataclass(frozen=True)
class Initial:
    """A function of a configuration that proposes parameters of a model for a time course.

    ``executed`` ones take arrays, those that were read take tensors.
    """

    function: Callable
    executed: bool

    def __call__(self, course: torch.Tensor, t) -> torch.Tensor:
        """Return parameters ``(k,)`` for a course ``(n_times,)``."""
        if self.executed:
            import numpy as np

            values = [np.asarray(one, dtype=float) for one in self.function(course.numpy(), _arrays(t))]
            return torch.tensor(np.array(values), dtype=torch.float64)
        values = self.function(course, t)
        if isinstance(values, torch.Tensor):
            return values.to(torch.float64)
        return torch.stack([torch.as_tensor(one, dtype=torch.float64) for one in values])


def _tensor_row(values, n_times: int) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64).expand(n_times)


def _row(values, n_times: int) -> torch.Tensor:
    import numpy as np

    return torch.as_tensor(np.asarray(values, dtype=float)).expand(n_times)


def _n_times(t) -> int:
    return len(next(iter(t.values())) if isinstance(t, dict) else t)


def _arrays(t):
    """Return the time variable as numpy arrays."""
    return {key: value.numpy() for key, value in t.items()} if isinstance(t, dict) else t.numpy()
