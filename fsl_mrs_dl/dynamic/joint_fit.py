"""Joint fit of a series of spectra: one likelihood, in which the parameters of every spectrum follow from free ones.

    cost(x) = sum_t |y_t - S(m_t(x))|^2 + penalty of a spline baseline,    m(x) the mapping, S FSL-MRS's model

The cost is that of FSL-MRS's dynamic fits, and so is its minimum.  Derivatives are exact, steps are those of Levenberg
and Marquardt within the bounds, and the fit ends where the distance to the minimum is far below one SD.

Of a spline baseline the penalty is weighted as in the fit of a single spectrum, so that its effective dimension is the
one that was asked for; FSL-MRS's dynamic fit weights it by twice the number of points more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..fitting.uncertainty import covariance
from ..physics.signal_model import SignalModel
from .least_squares import bounded_step, decrement, held, inside
from .mapping import Mapping

__all__ = ["CATEGORIES", "JointModel", "JointSolution", "parameter_covariance", "solve_joint"]

CATEGORIES = {"phi0": "Phi_0", "phi1": "Phi_1"}
"""FSL-MRS's names of the categories that have others in this package."""

_TOLERANCE = 1e-4  # SDs
_SPECTRA_AT_ONCE = 64
_LEAST_INFLUENCE = 1e-12  # information, relative to that of others
_LEAST_CURVATURE = 1e-8  # relative to the information of a parameter


class JointModel:
    """The likelihood of a series.

    Parameters
    ----------
    spectra : complex ``(n_times, n_window)``
        In the model's window.
    model : SignalModel
        In double precision.
    mapping : Mapping
    penalty_weight : float
        Factor of the penalty of a spline baseline.
    """

    def __init__(self, spectra: torch.Tensor, model: SignalModel, mapping: Mapping, penalty_weight: float = 1.0):
        self.spectra, self.model, self.mapping = spectra, model, mapping
        penalty = np.zeros((model.n_params, model.n_params))
        size = model.sizes["baseline"]
        if model.baseline.mode == "spline":
            # Real coefficients come first, then imaginary ones.
            penalty[-size:, -size:] = penalty_weight * np.kron(np.eye(2), model.baseline.penalty)
        self.penalty = torch.as_tensor(penalty) if penalty.any() else None

    @property
    def n_data(self) -> int:
        """Number of real values that are fitted."""
        return 2 * self.spectra.numel()

    def fitted(self, x: torch.Tensor) -> torch.Tensor:
        """Return the model of every spectrum in the window, complex ``(n_times, n_window)``."""
        return self._spectra_of(self.mapping.mapped(x))

    def _spectra_of(self, params: torch.Tensor) -> torch.Tensor:
        theta, conc, baseline = self.model.unpack(params)
        regressors = self.model.regressors.mT.to(self.model.complex_dtype)
        return self.model.join_metabolites(theta, conc) + baseline @ regressors

    def cost(self, x: torch.Tensor) -> torch.Tensor:
        """Return the cost, infinite where the mapping is not finite."""
        params = self.mapping.mapped(x)
        if not params.isfinite().all():
            return torch.tensor(torch.inf, dtype=torch.float64)
        cost = (self.spectra - self._spectra_of(params)).abs().square().sum()
        if self.penalty is not None:
            cost = cost + (params @ self.penalty * params).sum()
        return cost.nan_to_num(torch.inf, torch.inf)

    def derivatives(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return half the Gauss-Newton second derivatives of the cost ``(n_free, n_free)``, minus half its first
        derivatives ``(n_free,)``, and what the curvature of the mapping adds to the former.

        The curvature of the spectral model is left out: unlike that of a model of the series, it matters little.
        """
        params, mapped_slope = self.mapping.mapped(x), self.mapping.jacobian(x)
        by_mapped = torch.zeros_like(params)
        information, pull = x.new_zeros(len(x), len(x)), x.new_zeros(len(x))
        for part in torch.arange(len(params)).split(_SPECTRA_AT_ONCE):
            rows = torch.view_as_real(self.model.jacobian(params[part]).mT).flatten(-2)
            residual = torch.view_as_real(self.spectra[part] - self._spectra_of(params[part])).flatten(-2)
            gram, towards = rows @ rows.mT, (rows @ residual[..., None])[..., 0]
            if self.penalty is not None:
                gram, towards = gram + self.penalty, towards - params[part] @ self.penalty
            by_mapped[part] = towards
            slope, active = mapped_slope[part], self.mapping.active[part]
            where = (active[:, :, None].expand(-1, -1, active.shape[1]), active[:, None, :])
            information.index_put_(where, slope.mT @ gram @ slope, accumulate=True)
            pull.index_put_((active,), (slope.mT @ towards[..., None])[..., 0], accumulate=True)
        return information, pull, -self.mapping.curvature(x, by_mapped)


@dataclass(frozen=True)
class JointSolution:
    """The end of a joint fit.

    ``distance`` is the distance to the minimum in SDs, ``limit`` that at which a fit has converged, ``n_iter`` the
    number of trial points.
    """

    x: torch.Tensor
    cost: float
    distance: float
    n_iter: int
    limit: float = 10 * _TOLERANCE

    @property
    def converged(self) -> bool:
        """Whether the fit ended at a minimum."""
        return self.distance < self.limit


def solve_joint(joint: JointModel, start: torch.Tensor, max_iter: int = 300) -> JointSolution:
    """Fit a series from one set of free parameters ``(n_free,)``."""
    lower, upper = joint.mapping.lower[None], joint.mapping.upper[None]
    x = start[None].clamp(lower, upper)
    cost, damping, distance = joint.cost(x[0]), torch.tensor([1e-3], dtype=torch.float64), np.inf
    information, pull, size = _second_order(joint, x)
    scale, n_iter = torch.maximum(size, _least_scale(joint.mapping, size)), 0
    while n_iter < max_iter:
        n_iter += 1
        noise = cost / max(joint.n_data - len(start), 1)
        distance = float((decrement(x, information, pull, lower, upper, scale)[0] / noise).sqrt())
        if distance < _TOLERANCE or not np.isfinite(float(cost)):
            break
        new = x + bounded_step(x, information, pull, damping, lower, upper, scale)
        new_cost = joint.cost(new[0])
        if new_cost < cost:
            x, cost, damping = new, new_cost, (damping / 5).clamp(min=1e-9)
            information, pull, size = _second_order(joint, x)
            scale = torch.maximum(scale, size)
        elif damping[0] > 1e8:
            break
        else:
            damping = damping * 6
    return JointSolution(x[0], float(cost), distance, n_iter)


def _least_scale(mapping: Mapping, size: torch.Tensor) -> torch.Tensor:
    """Return the least scale of steps ``(1, n)``: a share of the largest of all parameters of the same kind, so that
    those without influence at the start do not leave for infinity."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for number, one in enumerate(mapping.free):
        kinds.setdefault((one.category, one.role), []).append(number)
    least = torch.zeros_like(size)
    for numbers in kinds.values():
        least[:, numbers] = _LEAST_INFLUENCE * size[:, numbers].max()
    return least


def _second_order(joint: JointModel, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return half the second derivatives of the cost, ``(1, n, n)``, minus half the first, and the diagonal of the
    Gauss-Newton part of the former, ``(1, n)``.

    The curvature of the mapping counts where the cost is convex with it among parameters inside their bounds.
    """
    information, pull, curvature = (part[None] for part in joint.derivatives(x[0]))
    fixed = held(x, pull, joint.mapping.lower[None], joint.mapping.upper[None])
    whole = information + curvature
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    size = diagonal.clamp(min=1e-300).sqrt()
    scaled = inside(whole / (size[:, :, None] * size[:, None, :]), ~fixed)
    convex = bool(torch.linalg.eigvalsh(scaled)[0, 0] > _LEAST_CURVATURE) and bool(whole.isfinite().all())
    return (whole if convex else information), pull, diagonal


def parameter_covariance(joint: JointModel, solution: JointSolution, filled: float = 1.0) -> tuple[torch.Tensor, float]:
    """Return the Cramer-Rao bound of the free parameters ``(n_free, n_free)`` and the noise SD per real channel.

    The noise is that of the residual, with the degrees of freedom subtracted.  Parameters whose bounds are equal have
    no variance; those that lie at a bound count as free, as in FSL-MRS.  Of a series that is ``filled`` with zeros by
    this factor, only one in so many points is independent.
    """
    information, _, _ = joint.derivatives(solution.x)
    free = (joint.mapping.lower < joint.mapping.upper).nonzero()[:, 0]
    noise = float(np.sqrt(solution.cost / max(joint.n_data - filled * len(free), 1)))
    cov = torch.zeros_like(information)
    block = information[free][:, free][None]
    cov[free[:, None], free[None, :]] = covariance(block, torch.tensor([noise * np.sqrt(filled)], dtype=torch.float64))[
        0
    ]
    return cov, noise
