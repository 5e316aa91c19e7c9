"""Batched separable nonlinear least squares: variable projection with Levenberg-Marquardt steps.

A spectrum is linear in its concentrations once a few nonlinear parameters (shift, phases, widths) are known.  So the
search runs over these few only, and at every trial point the concentrations are solved for exactly, non-negative where
asked (Golub & Pereyra, doi 10.1088/0266-5611/19/2/201; Kaufman's approximation of the Jacobian,
doi 10.1007/BF01932995).  Every spectrum of a batch has a damping and a stopping of its own; one that cannot be fitted
is flagged and the others go on.

The solver takes callables and knows neither physics nor networks.  All arrays are torch tensors with the batch first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from ..physics.baseline import Elimination, real_rows

__all__ = ["Solution", "solve", "cost", "nonnegative_least_squares"]


@dataclass
class Solution:
    """What :func:`solve` found, a row per spectrum.

    ``theta`` ``(batch, n_theta)``; ``conc`` ``(batch, n_columns)``; ``cost`` ``(batch,)`` the sum of squares left;
    ``converged`` ``(batch,)`` bool; ``n_iter`` ``(batch,)`` trial points used; ``information`` ``(batch, n, n)`` the
    inner products of the derivatives by concentrations and ``theta``, in this order, at the end.
    """

    theta: torch.Tensor
    conc: torch.Tensor
    cost: torch.Tensor
    converged: torch.Tensor
    n_iter: torch.Tensor
    information: torch.Tensor

    def __getitem__(self, index) -> Solution:
        return Solution(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def joined(cls, parts: list[tuple[torch.Tensor, Solution]]) -> Solution:
        """Solutions of parts of a batch, each with its rows' places, in the batch's order."""
        order = torch.argsort(torch.cat([rows for rows, _ in parts]))
        return cls(*(torch.cat([getattr(one, f.name) for _, one in parts])[order] for f in fields(cls)))

    def update(self, index, other: Solution) -> None:
        """Overwrite the rows ``index`` by ``other``'s."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(other, f.name).to(getattr(self, f.name).dtype)


def _masked_solve(gram: torch.Tensor, right: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Solve ``gram x = right`` in the free variables of each row, zero elsewhere.

    ``gram`` ``(batch, n, n)`` symmetric positive semidefinite with unit diagonal, ``right`` ``(batch, n, k)``, ``free``
    ``(batch, n)`` bool.  A ridge far below rounding of the data keeps twin columns from dividing by zero.
    """
    both = free[:, :, None] & free[:, None, :]
    ridge = 1e-12 if gram.dtype == torch.float64 else 1e-6
    matrix = torch.where(both, gram, torch.zeros_like(gram[:1]))
    matrix.diagonal(dim1=-2, dim2=-1).add_(torch.where(free, ridge, 1.0).to(gram))
    factor, _ = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_solve(right * free[..., None], factor)


def nonnegative_least_squares(
    gram: torch.Tensor, right: torch.Tensor, nonnegative: torch.Tensor, start: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimise ``x'Gx/2 - x'h`` with ``x >= 0`` where asked, a batch at once, by block principal pivoting.

    Kim & Park, doi 10.1137/110821172.

    Parameters
    ----------
    gram : ``(batch, n, n)``
    right : ``(batch, n)``
    nonnegative : ``(n,)`` bool
        Which unknowns may not be negative.
    start : ``(batch, n)`` bool, optional
        First guess of the unknowns that are not at zero.

    Returns
    -------
    x : ``(batch, n)``
    free : ``(batch, n)`` bool
        The unknowns that are not held at zero.
    """
    scale = gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    alive = scale > 0
    inverse = torch.where(alive, 1 / torch.where(alive, scale, torch.ones_like(scale)), torch.zeros_like(scale))
    gram = gram * inverse[:, :, None] * inverse[:, None, :]
    right = right * inverse
    free = (torch.ones_like(alive) if start is None else start | ~nonnegative) & alive
    n = gram.shape[-1]
    tolerance = (1e-10 if gram.dtype == torch.float64 else 1e-5) * right.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    x = torch.zeros_like(right)
    fewest = torch.full((len(gram),), n + 1, device=gram.device)
    chances = torch.full((len(gram),), 3, device=gram.device)
    # The rows that still have something wrong, and their share of the arrays.
    index, left = slice(None), (gram, right, alive, free, tolerance, fewest, chances)
    for _ in range(10 * n):
        gram, right, alive, trial, tolerance, fewest, chances = left
        found = _masked_solve(gram, right[..., None], trial)[..., 0]
        dual = (found[:, None] @ gram)[:, 0] - right
        x[index], free[index] = found, trial
        wrong = nonnegative & alive & ((trial & (found < -tolerance)) | (~trial & (dual < -tolerance)))
        count = wrong.sum(-1)
        again = count.nonzero()[:, 0]
        if len(again) == 0:
            break
        better = count < fewest
        fewest = torch.where(better, count, fewest)
        chances = torch.where(better, 3, chances - 1)
        # Exchanging all wrong ones is fast but can cycle; exchanging only the last one cannot.
        last = n - 1 - wrong.flip(-1).to(torch.uint8).argmax(-1)
        single = torch.nn.functional.one_hot(last, n).bool() & wrong
        trial = trial ^ torch.where((chances >= 0)[:, None], wrong, single)
        left = tuple(part[again] for part in (gram, right, alive, trial, tolerance, fewest, chances))
        index = again if isinstance(index, slice) else index[again]
    x = torch.where(nonnegative, x.clamp(min=0), x)
    return x * inverse, free


def _products(vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Inner products of one vector with the rows of each matrix: ``(batch, n)``, ``(batch, m, n)`` -> ``(batch, m)``.

    Written as a row times a matrix, which batched products are several times faster at than a matrix times a column.
    """
    return (vectors[:, None] @ rows.mT)[:, 0]


def _evaluate(columns, target, wanted, nonnegative, eliminate, theta, free=None):
    """Columns, best concentrations, free set and residual at ``theta``; ``wanted`` is the target with ``L`` once more,
    real."""
    spectra = columns(theta)
    rows = real_rows(spectra)
    gram = rows @ rows.mT if eliminate is None else eliminate.gram(spectra)
    conc, free = nonnegative_least_squares(gram, _products(wanted, rows), nonnegative, free)
    modelled = torch.view_as_complex((conc[:, None] @ rows)[:, 0].unflatten(-1, (-1, 2)))
    residual = target - (modelled if eliminate is None else eliminate(modelled))
    cost = real_rows(residual).square().sum(-1)
    return rows, gram, conc, free, residual, torch.where(cost.isfinite(), cost, torch.inf)


def _wanted(target: torch.Tensor, eliminate: Elimination | None) -> torch.Tensor:
    """What the inner products of columns with the target are taken with."""
    return real_rows(target if eliminate is None else eliminate(target))


_IN_CACHE = 1e7  # bytes of columns


def cost(
    target: torch.Tensor,
    columns: Callable,
    theta: torch.Tensor,
    *,
    nonnegative: torch.Tensor,
    eliminate: Elimination | None = None,
) -> torch.Tensor:
    """Sum of squares left at ``theta`` with the best concentrations, ``(batch,)``; arguments as for :func:`solve`."""
    # Side by side only as many as stay in cache: nothing but the costs is kept.
    size = len(nonnegative) * target.shape[-1] * target.element_size()
    rows = max(1, int((_IN_CACHE if target.device.type == "cpu" else 1e9) / size))
    parts = zip(*(torch.split(each, rows) for each in (target, _wanted(target, eliminate), theta)))
    return torch.cat([_evaluate(columns, part, wanted, nonnegative, eliminate, at)[-1] for part, wanted, at in parts])


def _newton_system(rows, gram, free, jacobian, residual, eliminate):
    """Gauss-Newton matrix and gradient of the nonlinear parameters with the concentrations eliminated, and information
    of both."""
    once, twice = (
        real_rows(part) for part in ((jacobian, jacobian) if eliminate is None else eliminate.both(jacobian))
    )
    gradient = _products(real_rows(residual), once)
    cross = twice @ rows.mT
    inner = once @ once.mT
    information = torch.cat([torch.cat([gram, cross.mT], -1), torch.cat([cross, inner], -1)], -2)
    scale = gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    alive = scale > 0
    inverse = torch.where(alive, 1 / torch.where(alive, scale, torch.ones_like(scale)), torch.zeros_like(scale))
    unit = gram * inverse[:, :, None] * inverse[:, None, :]
    cross = cross * inverse[:, None]
    system = inner - cross @ _masked_solve(unit, cross.mT, free & alive)
    return system, gradient, information


def solve(
    target: torch.Tensor,
    columns: Callable[[torch.Tensor], torch.Tensor],
    derivatives: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    theta: torch.Tensor,
    *,
    lower: torch.Tensor,
    upper: torch.Tensor | None = None,
    nonnegative: torch.Tensor,
    fixed: torch.Tensor | None = None,
    max_iter: int = 60,
    tolerance: float = 1e-3,
    damping: float | torch.Tensor = 1e-3,
    eliminate: Elimination | None = None,
) -> Solution:
    """Minimise ``|target - conc @ columns(theta)|**2`` over ``lower <= theta <= upper`` and ``conc``.

    Parameters
    ----------
    target : complex ``(batch, n_window)``
    columns : callable
        ``theta (b, n_theta)`` -> complex ``(b, n_columns, n_window)``.
    derivatives : callable
        ``theta (b, n_theta), conc (b, n_columns)`` -> complex ``(b, n_theta, n_window)``.
    theta : ``(batch, n_theta)``
        Where to start.
    lower, upper : ``(n_theta,)``
        Bounds, ``-inf`` and ``inf`` for none.
    nonnegative : ``(n_columns,)`` bool
    fixed : ``(n_theta,)`` bool, optional
        Nonlinear parameters that stay where they start.
    max_iter : int
        Most trial points per spectrum.
    tolerance : float
        A spectrum has converged when the next Newton step would move every nonlinear parameter by less than this
        fraction of its standard deviation (Newton decrement against the noise left in the residual).
    damping : float or ``(batch,)``
        Of the first step, relative to the curvature: small tries the Newton step, large goes gently downhill from the
        start.
    eliminate : Elimination, optional
        Applied to columns and derivatives; ``target`` has it applied already.
    """
    batch, width = target.shape
    upper = torch.full_like(lower, torch.inf) if upper is None else upper
    theta = theta.clamp(lower, upper)
    fixed = torch.zeros_like(lower, dtype=torch.bool) if fixed is None else fixed
    index = torch.arange(batch, device=theta.device)
    energy = real_rows(target).square().sum(-1)
    rounding = torch.finfo(theta.dtype).eps
    wanted = _wanted(target, eliminate)
    rows, gram, conc, free, residual, left = _evaluate(columns, target, wanted, nonnegative, eliminate, theta)
    # A start that gives no finite cost leads nowhere: it is reported as not converged.
    usable = left.isfinite() & energy.isfinite() & (energy > 0)
    system, gradient, information = _newton_system(rows, gram, free, derivatives(theta, conc), residual, eliminate)
    damping = torch.as_tensor(damping, dtype=theta.dtype, device=theta.device).expand(batch).clone()
    growth = torch.full_like(damping, 2.0)
    state = Solution(
        theta.clone(),
        conc.clone(),
        left.clone(),
        torch.zeros(batch, dtype=torch.bool, device=theta.device),
        torch.ones(batch, dtype=torch.long, device=theta.device),
        information,
    )

    def keep(mask):
        if mask.all():
            return
        nonlocal index, target, wanted, energy, theta, conc, free, left, system, gradient, damping, growth
        index, target, energy, theta, conc, free = (
            index[mask],
            target[mask],
            energy[mask],
            theta[mask],
            conc[mask],
            free[mask],
        )
        wanted = wanted[mask]
        left, system, gradient, damping, growth = left[mask], system[mask], gradient[mask], damping[mask], growth[mask]

    keep(usable)
    for _ in range(1, max_iter):
        if len(index) == 0:
            break
        held = ((theta <= lower) & (gradient < 0)) | ((theta >= upper) & (gradient > 0)) | fixed
        pull = torch.where(held, torch.zeros_like(gradient), gradient)
        diagonal = system.diagonal(dim1=-2, dim2=-1)
        # A parameter that nothing depends on (the width of a group without signal) stays where it is.
        size = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).sqrt()
        scaled = system / (size[:, :, None] * size[:, None, :])
        moving = (~held) & (diagonal > 0)
        newton = _masked_solve(scaled, (pull / size)[..., None], moving)[..., 0]
        decrement = (newton * pull / size).sum(-1)
        noise = torch.maximum(left, 1e3 * rounding**2 * energy) / (2 * width)
        done = decrement < tolerance**2 * noise
        # When a step promises less than the cost's own rounding there is nothing left to tell better from worse.
        done |= decrement < rounding * left
        state.converged[index[done]] = True
        if done.any():
            going = ~done
            pull, size, scaled, moving = pull[going], size[going], scaled[going], moving[going]
            keep(going)
            if len(index) == 0:
                break
        eye = torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)
        damped = scaled + damping[:, None, None] * eye
        step = _masked_solve(damped, (pull / size)[..., None], moving)[..., 0]
        promised = (step * (2 * pull / size - (scaled @ step[..., None])[..., 0])).sum(-1)
        trial = (theta + step / size).clamp(lower, upper)
        rows, gram, new_conc, new_free, residual, new_cost = _evaluate(
            columns, target, wanted, nonnegative, eliminate, trial, free
        )
        state.n_iter[index] += 1
        won = new_cost < left
        gain = (left - new_cost) / promised.clamp(min=torch.finfo(theta.dtype).tiny)
        shrink = (1 - (2 * gain.clamp(0, 1) - 1) ** 3).clamp(min=1 / 5)
        damping = torch.where(won, damping * shrink, damping * growth).clamp(1e-9, 1e12)
        growth = torch.where(won, torch.full_like(growth, 2.0), growth * 2)
        if won.any():
            # All of them is the usual case, which need not copy the columns.
            better = slice(None) if won.all() else won.nonzero()[:, 0]
            theta[better], conc[better], free[better], left[better] = (
                trial[better],
                new_conc[better],
                new_free[better],
                new_cost[better],
            )
            into = index[better]
            state.theta[into], state.conc[into], state.cost[into] = theta[better], conc[better], left[better]
            system[better], gradient[better], state.information[into] = _newton_system(
                rows[better],
                gram[better],
                free[better],
                derivatives(theta[better], conc[better]),
                residual[better],
                eliminate,
            )
        # Nothing improves any more, not even with tiny steps: the minimum, as far as rounding lets one see.
        stuck = damping > 1e8
        if stuck.any():
            state.converged[index[stuck]] = True
            keep(~stuck)
    return state
