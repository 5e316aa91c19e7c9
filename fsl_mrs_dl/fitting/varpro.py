"""Batched separable nonlinear least squares: variable projection with Levenberg-Marquardt steps.

A spectrum is linear in its concentrations once a few nonlinear parameters (shift, phases, widths) are known.  So the
search runs over these few only, and at every trial point the concentrations are solved for exactly, non-negative where
required (Golub & Pereyra, doi 10.1088/0266-5611/19/2/201; Kaufman's approximation of the Jacobian,
doi 10.1007/BF01932995).  Every spectrum of a batch has a damping and a stopping of its own; one that cannot be fitted
is flagged and the others go on.

The solver takes callables and is independent of physics and networks.  All arrays are torch tensors, the batch first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from ..physics.baseline import Elimination, real_rows

__all__ = ["Solution", "solve", "cost", "nonnegative_least_squares"]


@dataclass
class Solution:
    """Result of :func:`solve`, a row per spectrum.

    Attributes
    ----------
    theta : ``(batch, n_theta)``
    conc : ``(batch, n_columns)``
    cost : ``(batch,)``
        Residual sum of squares.
    converged : bool ``(batch,)``
    n_iter : ``(batch,)``
        Trial points used.
    information : ``(batch, n, n)``
        Inner products of the derivatives by concentrations and ``theta``, in this order, at the end.
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
        """Return the solution of a batch from those of its parts, each given with the numbers of its rows."""
        order = torch.argsort(torch.cat([rows for rows, _ in parts]))
        return cls(*(torch.cat([getattr(one, f.name) for _, one in parts])[order] for f in fields(cls)))

    def update(self, index, other: Solution) -> None:
        """Overwrite the rows ``index`` with those of ``other``."""
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
    """Minimise ``x'Gx/2 - x'h`` with ``x >= 0`` where required, a batch at once, by block principal pivoting.

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
    # The rows that still violate a condition, and their part of the arrays.
    index: slice | torch.Tensor = slice(None)
    violating: tuple[torch.Tensor, ...] = (gram, right, alive, free, tolerance, fewest, chances)
    for _ in range(10 * n):
        gram, right, alive, trial, tolerance, fewest, chances = violating
        solution = _masked_solve(gram, right[..., None], trial)[..., 0]
        dual = (solution[:, None] @ gram)[:, 0] - right
        x[index], free[index] = solution, trial
        wrong = nonnegative & alive & ((trial & (solution < -tolerance)) | (~trial & (dual < -tolerance)))
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
        violating = tuple(part[again] for part in (gram, right, alive, trial, tolerance, fewest, chances))
        index = again if isinstance(index, slice) else index[again]
    x = torch.where(nonnegative, x.clamp(min=0), x)
    return x * inverse, free


def _products(vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the inner products of vectors ``(batch, n)`` with the rows of matrices ``(batch, m, n)``, ``(batch, m)``.

    A batched product of a row and a matrix is several times faster than one of a matrix and a column.
    """
    return (vectors[:, None] @ rows.mT)[:, 0]


@dataclass(frozen=True)
class _Problem:
    """Least-squares problem without its data: arguments of :func:`solve` that all spectra share."""

    columns: Callable[[torch.Tensor], torch.Tensor]
    nonnegative: torch.Tensor
    eliminate: Elimination | None

    def weighted(self, target: torch.Tensor) -> torch.Tensor:
        """Return targets as they enter inner products with columns: the elimination once more, real."""
        return real_rows(target if self.eliminate is None else self.eliminate(target))

    def evaluate(
        self, target: torch.Tensor, weighted: torch.Tensor, theta: torch.Tensor, free: torch.Tensor | None = None
    ) -> _Point:
        """Solve for the concentrations at ``theta``; ``free`` is a first guess of those above zero."""
        spectra = self.columns(theta)
        rows = real_rows(spectra)
        gram = rows @ rows.mT if self.eliminate is None else self.eliminate.gram(spectra)
        conc, free = nonnegative_least_squares(gram, _products(weighted, rows), self.nonnegative, free)
        modelled = torch.view_as_complex((conc[:, None] @ rows)[:, 0].unflatten(-1, (-1, 2)))
        residual = target - (modelled if self.eliminate is None else self.eliminate(modelled))
        cost = real_rows(residual).square().sum(-1)
        return _Point(rows, gram, conc, free, residual, torch.where(cost.isfinite(), cost, torch.inf))


@dataclass
class _Point:
    """Columns (real), their inner products, best concentrations, those above zero, residual and cost at a trial
    point."""

    rows: torch.Tensor
    gram: torch.Tensor
    conc: torch.Tensor
    free: torch.Tensor
    residual: torch.Tensor
    cost: torch.Tensor

    def __getitem__(self, index) -> _Point:
        return _Point(*(getattr(self, part.name)[index] for part in fields(self)))


_IN_CACHE = 1e7  # bytes of columns


def cost(
    target: torch.Tensor,
    columns: Callable,
    theta: torch.Tensor,
    *,
    nonnegative: torch.Tensor,
    eliminate: Elimination | None = None,
) -> torch.Tensor:
    """Return the residual sum of squares at ``theta`` with the best concentrations, ``(batch,)``.

    Arguments are those of :func:`solve`.
    """
    problem = _Problem(columns, nonnegative, eliminate)
    # At once only as many as stay in cache, because nothing but the costs is kept.
    size = len(nonnegative) * target.shape[-1] * target.element_size()
    rows = max(1, int((_IN_CACHE if target.device.type == "cpu" else 1e9) / size))
    parts = zip(*(torch.split(each, rows) for each in (target, problem.weighted(target), theta)))
    return torch.cat([problem.evaluate(part, weighted, at).cost for part, weighted, at in parts])


def _newton_system(
    point: _Point, jacobian: torch.Tensor, eliminate: Elimination | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return Gauss-Newton matrix and gradient of the nonlinear parameters with the concentrations eliminated, and the
    information of both."""
    once, twice = (
        real_rows(part) for part in ((jacobian, jacobian) if eliminate is None else eliminate.both(jacobian))
    )
    gradient = _products(real_rows(point.residual), once)
    cross = twice @ point.rows.mT
    inner = once @ once.mT
    information = torch.cat([torch.cat([point.gram, cross.mT], -1), torch.cat([cross, inner], -1)], -2)
    scale = point.gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    alive = scale > 0
    inverse = torch.where(alive, 1 / torch.where(alive, scale, torch.ones_like(scale)), torch.zeros_like(scale))
    unit = point.gram * inverse[:, :, None] * inverse[:, None, :]
    cross = cross * inverse[:, None]
    system = inner - cross @ _masked_solve(unit, cross.mT, point.free & alive)
    return system, gradient, information


@dataclass
class _Rows:
    """Spectra that have not converged yet: data, current point, and the state of the damping, a row each.

    ``index`` holds their numbers in the batch; ``weighted`` is :meth:`_Problem.weighted` of the targets, ``system`` and
    ``gradient`` are those of :func:`_newton_system`, ``growth`` is the factor of the damping after the next failure,
    ``rough`` says where ``system`` is an approximation of the curvature.
    """

    index: torch.Tensor
    target: torch.Tensor
    weighted: torch.Tensor
    energy: torch.Tensor
    theta: torch.Tensor
    conc: torch.Tensor
    free: torch.Tensor
    cost: torch.Tensor
    system: torch.Tensor
    gradient: torch.Tensor
    damping: torch.Tensor
    growth: torch.Tensor
    rough: torch.Tensor

    def keep(self, mask: torch.Tensor) -> None:
        """Drop the rows outside of a mask."""
        if not mask.all():
            for part in fields(self):
                setattr(self, part.name, getattr(self, part.name)[mask])


@dataclass
class _Newton:
    """Newton steps in parameters scaled to unit curvature.

    ``pull`` is the gradient without parameters held at a bound, ``size`` the scale, ``scaled`` the matrix in that
    scale, ``moving`` the parameters that are not held, ``decrement`` the decrease of the cost that a full step
    promises.
    """

    pull: torch.Tensor
    size: torch.Tensor
    scaled: torch.Tensor
    moving: torch.Tensor
    decrement: torch.Tensor

    @classmethod
    def at(cls, rows: _Rows, lower: torch.Tensor, upper: torch.Tensor, fixed: torch.Tensor) -> _Newton:
        """Return those at the current points."""
        theta, gradient = rows.theta, rows.gradient
        held = ((theta <= lower) & (gradient < 0)) | ((theta >= upper) & (gradient > 0)) | fixed
        pull = torch.where(held, torch.zeros_like(gradient), gradient)
        diagonal = rows.system.diagonal(dim1=-2, dim2=-1)
        # A parameter that nothing depends on (the width of a group without signal) stays where it is.
        size = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).sqrt()
        scaled = rows.system / (size[:, :, None] * size[:, None, :])
        moving = (~held) & (diagonal > 0)
        newton = _masked_solve(scaled, (pull / size)[..., None], moving)[..., 0]
        return cls(pull, size, scaled, moving, (newton * pull / size).sum(-1))

    def keep(self, mask: torch.Tensor) -> None:
        """Drop the rows outside of a mask."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name)[mask])

    def damped(self, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return damped steps ``(rows, n_theta)`` and the decrease of the cost that each promises ``(rows,)``."""
        eye = torch.eye(self.scaled.shape[-1], dtype=self.scaled.dtype, device=self.scaled.device)
        damped = self.scaled + damping[:, None, None] * eye
        step = _masked_solve(damped, (self.pull / self.size)[..., None], self.moving)[..., 0]
        promised = (step * (2 * self.pull / self.size - (self.scaled @ step[..., None])[..., 0])).sum(-1)
        return step / self.size, promised

    def trial(
        self, rows: _Rows, lower: torch.Tensor, upper: torch.Tensor, *, bounded: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next points within bounds ``(rows, n_theta)`` and the decrease of the cost that each promises."""
        if bounded:
            step, promised = self.bounded(rows.damping, lower - rows.theta, upper - rows.theta)
        else:
            step, promised = self.damped(rows.damping)
        return (rows.theta + step).clamp(lower, upper), promised

    def bounded(
        self, damping: torch.Tensor, lowest: torch.Tensor, highest: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return :meth:`damped` steps between limits ``(rows, n_theta)``: parameters that would pass one go as far as
        it, and the others take the best step to go with that."""
        step = self.damped(damping)[0]
        allowed = step.clamp(lowest, highest)
        held = (allowed != step) & self.moving
        allowed = torch.where(held, allowed * self.size, torch.zeros_like(step))
        force = self.pull / self.size
        eye = torch.eye(self.scaled.shape[-1], dtype=self.scaled.dtype, device=self.scaled.device)
        damped = self.scaled + damping[:, None, None] * eye
        right = force - (self.scaled @ allowed[..., None])[..., 0]
        step = _masked_solve(damped, right[..., None], self.moving & ~held)[..., 0] + allowed
        step = (step / self.size).clamp(lowest, highest)
        moved = step * self.size
        return step, (moved * (2 * force - (self.scaled @ moved[..., None])[..., 0])).sum(-1)


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
    exact_after: int | None = None,
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
        Initial values.
    lower, upper : ``(n_theta,)``
        Bounds, ``-inf`` and ``inf`` for none.
    nonnegative : ``(n_columns,)`` bool
    fixed : ``(n_theta,)`` bool, optional
        Nonlinear parameters that keep their initial values.
    max_iter : int
        Most trial points per spectrum.
    tolerance : float
        A spectrum has converged when the next Newton step would move every nonlinear parameter by less than this
        fraction of its standard deviation (Newton decrement against the noise in the residual).
    damping : float or ``(batch,)``
        Of the first step, relative to the curvature: a small one tries the Newton step, a large one descends slowly.
    eliminate : Elimination, optional
        Applied to columns and derivatives; ``target`` has it applied already.
    exact_after : int, optional
        Trial points after which steps follow the curvature of the cost itself, for spectra far from the model; steps
        that would pass a bound are shortened in that parameter alone.

    Returns
    -------
    Solution
        A spectrum without a finite cost at its initial values is flagged as not converged.
    """
    upper = torch.full_like(lower, torch.inf) if upper is None else upper
    fixed = torch.zeros_like(lower, dtype=torch.bool) if fixed is None else fixed
    problem = _Problem(columns, nonnegative, eliminate)
    rows, state = _begin(problem, derivatives, target, theta.clamp(lower, upper), damping)
    rounding = torch.finfo(theta.dtype).eps
    for _ in range(1, max_iter):
        if len(rows.index) == 0:
            break
        if exact_after is not None:
            _use_exact_curvature(problem, derivatives, rows, state.n_iter[rows.index] >= exact_after, lower, upper)
        newton = _Newton.at(rows, lower, upper, fixed)
        noise = torch.maximum(rows.cost, 1e3 * rounding**2 * rows.energy) / (2 * target.shape[-1])
        # A step that promises less than the rounding of the cost cannot be told from none.
        done = (newton.decrement < tolerance**2 * noise) | (newton.decrement < rounding * rows.cost)
        if done.any():
            newton.keep(~done)
            _finish(rows, state, done)
            if len(rows.index) == 0:
                break
        trial, promised = newton.trial(rows, lower, upper, bounded=exact_after is not None)
        point = problem.evaluate(rows.target, rows.weighted, trial, rows.free)
        state.n_iter[rows.index] += 1
        won = _adapt_damping(rows, point.cost, promised)
        if won.any():
            # All of them is the usual case, which need not copy the columns.
            better = slice(None) if won.all() else won.nonzero()[:, 0]
            _accept(problem, derivatives, rows, state, better, trial[better], point[better])
        # Not even tiny steps improve it: the minimum, as far as rounding allows.
        _finish(rows, state, rows.damping > 1e8)
    return state


def _finish(rows: _Rows, state: Solution, done: torch.Tensor) -> None:
    """Mark the rows ``done`` as converged, and drop them."""
    state.converged[rows.index[done]] = True
    rows.keep(~done)


def _begin(
    problem: _Problem, derivatives: Callable, target: torch.Tensor, theta: torch.Tensor, damping: float | torch.Tensor
) -> tuple[_Rows, Solution]:
    """Evaluate the initial values; return the spectra that can be fitted, and the solution of all of them so far."""
    batch = len(target)
    energy, weighted = real_rows(target).square().sum(-1), problem.weighted(target)
    point = problem.evaluate(target, weighted, theta)
    usable = point.cost.isfinite() & energy.isfinite() & (energy > 0)
    system, gradient, information = _newton_system(point, derivatives(theta, point.conc), problem.eliminate)
    damping = torch.as_tensor(damping, dtype=theta.dtype, device=theta.device).expand(batch).clone()
    state = Solution(
        theta.clone(),
        point.conc.clone(),
        point.cost.clone(),
        torch.zeros(batch, dtype=torch.bool, device=theta.device),
        torch.ones(batch, dtype=torch.long, device=theta.device),
        information,
    )
    rows = _Rows(
        index=torch.arange(batch, device=theta.device),
        target=target,
        weighted=weighted,
        energy=energy,
        theta=theta,
        conc=point.conc,
        free=point.free,
        cost=point.cost,
        system=system,
        gradient=gradient,
        damping=damping,
        growth=torch.full_like(damping, 2.0),
        rough=torch.ones_like(usable),
    )
    rows.keep(usable)
    return rows, state


def _adapt_damping(rows: _Rows, cost: torch.Tensor, promised: torch.Tensor) -> torch.Tensor:
    """Change the damping by how much of the promised decrease each trial step brought; return which ones brought any.

    Nielsen's rule (Madsen, Nielsen & Tingleff, Methods for non-linear least squares problems, 2004).
    """
    won = cost < rows.cost
    gain = (rows.cost - cost) / promised.clamp(min=torch.finfo(rows.theta.dtype).tiny)
    shrink = (1 - (2 * gain.clamp(0, 1) - 1) ** 3).clamp(min=1 / 5)
    rows.damping = torch.where(won, rows.damping * shrink, rows.damping * rows.growth).clamp(1e-9, 1e12)
    rows.growth = torch.where(won, torch.full_like(rows.growth, 2.0), rows.growth * 2)
    return won


def _accept(
    problem: _Problem, derivatives: Callable, rows: _Rows, state: Solution, better, theta: torch.Tensor, point: _Point
) -> None:
    """Move the rows ``better`` to ``theta`` and the evaluation there, in the state, too."""
    rows.theta[better], rows.conc[better], rows.free[better], rows.cost[better] = (
        theta,
        point.conc,
        point.free,
        point.cost,
    )
    rows.rough[better] = True
    index = rows.index[better]
    state.theta[index], state.conc[index], state.cost[index] = theta, point.conc, point.cost
    rows.system[better], rows.gradient[better], state.information[index] = _newton_system(
        point, derivatives(theta, point.conc), problem.eliminate
    )


_DIFFERENCE = 1e-2  # step of the differences, in SDs of the parameter
_AT_ONCE = 64  # points whose gradients are computed at once


def _use_exact_curvature(
    problem: _Problem,
    derivatives: Callable,
    rows: _Rows,
    late: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
) -> None:
    """Replace the Gauss-Newton matrices of rows that are ``late`` by half the second derivatives of the cost.

    Those leave out the part of the residual, and take hundreds of steps where the model is far from the data.  These
    are differences of the gradient, which is exact.  Where they are not positive definite their eigenvalues take
    the other sign, so that a step leads down in any case (Dauphin et al., doi 10.48550/arXiv.1406.2572).
    """
    late = (late & rows.rough).nonzero()[:, 0]
    if not len(late):
        return
    theta, gradient, system = rows.theta[late], rows.gradient[late], rows.system[late]
    n, n_theta = theta.shape
    diagonal = system.diagonal(dim1=-2, dim2=-1)
    held = ((theta <= lower) & (gradient < 0)) | ((theta >= upper) & (gradient > 0)) | (diagonal <= 0)
    size = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).sqrt()
    noise = (rows.cost[late] / (2 * rows.target.shape[-1])).sqrt()
    step = _DIFFERENCE * noise[:, None] / size
    step = torch.where(theta + step > upper, -step, step)
    points = (theta[:, None] + torch.diag_embed(step)).flatten(0, 1)
    owner = late.repeat_interleave(n_theta)
    gradients = []
    for at, row in zip(points.split(_AT_ONCE), owner.split(_AT_ONCE)):
        point = problem.evaluate(rows.target[row], rows.weighted[row], at, rows.free[row])
        jacobian = derivatives(at, point.conc)
        once = jacobian if problem.eliminate is None else problem.eliminate(jacobian)
        gradients.append(_products(real_rows(point.residual), real_rows(once)))
    change = (gradient[:, None] - torch.cat(gradients).unflatten(0, (n, n_theta))) / step[..., None]
    scaled = (change + change.mT) / 2 / (size[:, :, None] * size[:, None, :])
    scaled = torch.where(held[:, :, None] | held[:, None, :], torch.zeros_like(scaled), scaled)
    scaled = scaled + torch.diag_embed(held.to(scaled))
    sane = scaled.isfinite().all(-1).all(-1)
    values, vectors = torch.linalg.eigh(torch.where(sane[:, None, None], scaled, torch.zeros_like(scaled)))
    values = torch.maximum(values.abs(), 1e-6 * values.abs().amax(-1, keepdim=True))
    exact = (vectors * values[:, None]) @ vectors.mT * size[:, :, None] * size[:, None, :]
    rows.system[late] = torch.where(sane[:, None, None], exact, system)
    rows.rough[late] = False
