"""Fit of models in which metabolites, or groups of them, have shifts and widths of their own.

Their cost has many minima: a weak line can move to the place of another one, or become so broad that it is baseline.
So lines are released in levels, from a fit in which all of them share shift and width, by short and by long first
steps.  At the lowest end the cost is computed for one line after the other over a grid of places and widths, the
concentrations of all solved for at each of them.  The fit goes on from the lowest minima of these profiles, and all of
this is repeated until none of them leads lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..physics.baseline import real_rows
from ..physics.signal_model import SignalModel
from . import varpro
from .coarse_model import ReducedModel, reduced
from .initialisation import InitialValues
from .optimise import STEPS_IN_NOISE, TOLERANCE, fit_spectra, holds_noise_only, solve, solve_fast

__all__ = ["fit_lines", "has_free_lines", "lines_of_their_own"]

# Damping of the first step after a release: a Newton step, and a short one.
_DAMPINGS = (1e-3, 10.0)
# Steps of a fit that is only compared with others, after a release and after a move, and its tolerance (SDs).
_STEPS_OF_RELEASE, _STEPS_OF_MOVE, _TOLERANCE = 40, 12, 0.1
# Places of a profile: measured lines are within a few hundredths of a ppm of those of a basis set.
_RANGE_PPM, _STEP_PPM = 0.05, 0.01
_BROAD_HZ = 20.0  # the broader one of the widths of a profile
_SAME = 1e-4  # costs of one minimum, in parts of the cost
# Moves that are tried at once, the most rounds of them, the height of a minimum that is worth a try, and the decrease
# that makes another round; the last two in parts of the cost.
_MOVES, _ROUNDS, _HIGHEST, _LEAST_GAIN = 4, 12, 0.1, 1e-5
# Steps with the approximate curvature, see :func:`fsl_mrs_dl.fitting.varpro.solve`.
_APPROXIMATE_STEPS = 25
_ANY_ROWS = 1_000_000  # so many evaluations that the reduced model is worth its construction


def has_free_lines(model: SignalModel) -> bool:
    """Tell whether metabolites have shifts, or groups of them shifts and widths, of their own."""
    return model.shape.free_shift or model.n_groups > 1


def fit_lines(
    spec: torch.Tensor,
    model: SignalModel,
    names: list[str],
    initial_values: InitialValues,
    max_iter: int = 60,
    tolerance: float = TOLERANCE,
) -> varpro.Solution:
    """Fit spectra as :func:`fsl_mrs_dl.fitting.optimise.fit_spectra` does, with free lines where the model has some.

    Arguments are the same.
    """
    if not has_free_lines(model):
        return fit_spectra(spec, model, names, initial_values, max_iter, tolerance)
    target = model.eliminate_baseline(spec)
    small = reduced(model, _ANY_ROWS)
    best, agree = _released(spec, target, model, small, names, initial_values, max_iter)
    empty = holds_noise_only(target, best.cost, model)
    active = (~empty & ~agree).nonzero()[:, 0]
    for _ in range(_ROUNDS):
        moves, owner = _moves(target, small, best.theta, active, nonnegative=not model.shape.negative)
        if not len(owner):
            break
        ends = solve(target[owner], small, moves, _STEPS_OF_MOVE, tolerance=_TOLERANCE)
        active = _take_lowest(best, owner, ends)
        if not len(active):
            break
    steps = [(empty, min(max_iter, STEPS_IN_NOISE)), (~empty, 2 * max_iter)]
    parts = [(part.nonzero()[:, 0], most) for part, most in steps if part.any()]
    end = varpro.Solution.joined(
        [
            (
                part,
                solve_fast(target[part], model, best.theta[part], most, tolerance, exact_after=_APPROXIMATE_STEPS),
            )
            for part, most in parts
        ]
    )
    end.n_iter += best.n_iter
    return end


def _released(
    spec: torch.Tensor,
    target: torch.Tensor,
    model: SignalModel,
    small: SignalModel | ReducedModel,
    names: list[str],
    initial_values: InitialValues,
    max_iter: int,
) -> tuple[varpro.Solution, torch.Tensor]:
    """Fit roughly from where lines are held together.

    Groups are released from the fit with the shift and width of the first one for all, and are fitted from the initial
    values, too; shifts of metabolites are released from the fit of the groups.

    Returns
    -------
    Solution
        The lowest ends.
    bool tensor ``(batch,)``
        Whether groups end at one cost from all starts.  Free shifts have too many minima for that to mean anything.
    """
    level = model.with_shared_shifts() if model.shape.free_shift else model
    first = fit_spectra(spec, level, names, initial_values, max_iter)
    blocks = level.split_theta(first.theta)
    starts, ends = [], []
    if model.shape.free_shift:
        starts.append(_spread(model, blocks))
    else:
        ends.append(first)
    if model.n_groups > 1:
        one = model.with_one_group()
        theta = one.join_theta(**{name: values[:, :1] for name, values in blocks.items()})
        starts.append(_spread(model, one.split_theta(solve_fast(target, one, theta, max_iter, _TOLERANCE).theta)))
    for start in starts:
        ends += [solve(target, small, start, _STEPS_OF_RELEASE, each, _TOLERANCE) for each in _DAMPINGS]
    cost = torch.stack([end.cost for end in ends])
    agree = (cost.amax(0) < cost.amin(0) * (1 + _SAME)) & (not model.shape.free_shift)
    best, owner = ends[0], torch.arange(len(target), device=target.device)
    for end in ends[1:]:
        _take_lowest(best, owner, end)
    return best, agree


def _spread(model: SignalModel, blocks: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return nonlinear parameters of the model from those of one with fewer, each spread over its metabolites."""
    eps = blocks["eps"]
    if model.shape.free_shift and eps.shape[-1] > 1:
        eps = eps[:, model.group_index]
    return model.join_theta(**{**blocks, "eps": eps})


def _take_lowest(best: varpro.Solution, owner: torch.Tensor, ends: varpro.Solution) -> torch.Tensor:
    """Overwrite solutions with lower ``ends`` of theirs; ``owner`` holds the row of each end.

    Returns
    -------
    tensor of int
        The rows that are lower now by a part worth mentioning.
    """
    cost = torch.where(ends.cost.isfinite(), ends.cost, torch.inf)
    lowest = torch.full_like(best.cost, torch.inf).scatter_reduce(0, owner, cost, "amin")
    chosen = (cost == lowest[owner]) & (cost < best.cost[owner])
    index = chosen.nonzero()[:, 0]
    gained = lowest < best.cost * (1 - _LEAST_GAIN)
    used = best.n_iter + torch.zeros_like(best.n_iter).scatter_reduce(0, owner, ends.n_iter, "amax")
    best.update(owner[index], ends[index])
    best.n_iter = used
    return gained.nonzero()[:, 0]


def _moves(
    target: torch.Tensor,
    model: SignalModel | ReducedModel,
    theta: torch.Tensor,
    rows: torch.Tensor,
    *,
    nonnegative: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return nonlinear parameters ``(n, n_theta)`` with one line elsewhere, the most promising ones of each of
    ``rows``, and the row of each ``(n,)``."""
    moves, owner = [theta[:0]], [rows[:0]]
    for row in rows:
        found = _Profiles.of(target[row], model, theta[row], nonnegative).moves()
        moves.append(found)
        owner.append(row.expand(len(found)))
    return torch.cat(moves), torch.cat(owner)


@dataclass(frozen=True)
class _Profiles:
    """Costs of one spectrum with one line at a time elsewhere.

    Attributes
    ----------
    model : SignalModel or ReducedModel
    theta : ``(n_theta,)``
        Where all lines are.
    elsewhere : ``(n_widths, n_places, n_theta)``
        The same with all lines moved together.
    cost : ``(n_widths, n_places, n_lines)``
        With one of them moved and the best concentrations; infinite where these do not use the line.
    """

    model: SignalModel | ReducedModel
    theta: torch.Tensor
    elsewhere: torch.Tensor
    cost: torch.Tensor

    @classmethod
    def of(
        cls, target: torch.Tensor, model: SignalModel | ReducedModel, theta: torch.Tensor, nonnegative: bool
    ) -> _Profiles:
        """Compute the profiles of a spectrum ``(n_window,)`` at ``theta``.

        All lines are moved together, and the inner products of one moved line with the unmoved others are picked from
        those.
        """
        elsewhere = _elsewhere(model, theta)
        rows = real_rows(model.columns(torch.cat([theta[None], elsewhere.flatten(0, 1)])))
        here, there, data = rows[0], rows[1:], real_rows(target)
        gram = here @ here.mT
        cross = (there.flatten(0, 1) @ here.mT).unflatten(0, there.shape[:2])
        line = _lines(model)  # (n_lines, n_metabs)
        first, second = line[:, :, None], line[:, None, :]
        mixed = torch.where(
            first,
            torch.where(second, (there @ there.mT)[:, None], cross[:, None]),
            torch.where(second, cross.mT[:, None], gram),
        ).flatten(0, 1)
        right = torch.where(line, (there @ data)[:, None], here @ data).flatten(0, 1)
        conc, _ = varpro.nonnegative_least_squares(
            mixed, right, torch.full((len(gram),), nonnegative, device=target.device)
        )
        cost = data.square().sum() - (conc * (2 * right - (conc[:, None] @ mixed)[:, 0])).sum(-1)
        used = (conc.unflatten(0, (-1, len(line))) * line).ne(0).any(-1)
        cost = torch.where(used & cost.unflatten(0, used.shape).isfinite(), cost.unflatten(0, used.shape), torch.inf)
        return cls(model, theta, elsewhere, cost.unflatten(0, elsewhere.shape[:2]))

    def moves(self) -> torch.Tensor:
        """Return the nonlinear parameters of the lowest minima over places, ``(n, n_theta)``."""
        middle = self.cost.shape[1] // 2
        edge = torch.full_like(self.cost[:, :1], torch.inf)
        before, after = torch.cat([edge, self.cost[:, :-1]], 1), torch.cat([self.cost[:, 1:], edge], 1)
        here = self.cost[0, middle].amin()
        minimum = (self.cost < before) & (self.cost <= after) & (self.cost < here * (1 + _HIGHEST))
        minimum[0, middle - 1 : middle + 2] = False
        width, place, line = minimum.nonzero(as_tuple=True)
        order = self.cost[width, place, line].argsort()[:_MOVES]
        moved = self.elsewhere[width[order], place[order]]
        return torch.where(self._parameters()[line[order]], moved, self.theta)

    def _parameters(self) -> torch.Tensor:
        """Tell which nonlinear parameters are those of a line, bool ``(n_lines, n_theta)``."""
        sizes = {name: part.shape[-1] for name, part in self.model.split_theta(self.theta).items()}
        n = sizes["eps"]
        own = torch.eye(n, dtype=torch.bool, device=self.theta.device)
        none = own[:, :0]
        # The widths of a metabolite whose shift is free are its group's.
        widths = torch.zeros_like(own[:, : sizes["gamma"]]) if self.model.shape.free_shift else own
        parts = {"gamma": widths, "variance": widths, "eps": own}
        return torch.cat(
            [parts.get(name, torch.zeros(n, size, dtype=torch.bool)).to(none) for name, size in sizes.items()], -1
        )


def _lines(model: SignalModel | ReducedModel) -> torch.Tensor:
    """Tell which metabolites move together, bool ``(n_lines, n_metabs)``."""
    if model.shape.free_shift:
        return torch.eye(model.n_metabs, dtype=torch.bool, device=model.group_index.device)
    return torch.nn.functional.one_hot(model.group_index, model.n_groups).bool().mT


def _elsewhere(model: SignalModel | ReducedModel, theta: torch.Tensor) -> torch.Tensor:
    """Return nonlinear parameters ``(n_widths, n_places, n_theta)`` with all lines moved, and of groups with other
    widths, too: none, those of the first group, and broad ones."""
    n = round(_RANGE_PPM / _STEP_PPM)
    shift = torch.arange(-n, n + 1, device=theta.device).to(theta) * (2 * torch.pi * _STEP_PPM * model.spec_freq_mhz)
    blocks = model.split_theta(theta)
    blocks = {name: part.expand(len(shift), -1) for name, part in blocks.items()}
    blocks["eps"] = blocks["eps"] + shift[:, None]
    chosen = [blocks]
    if not model.shape.free_shift:
        none = {name: torch.zeros_like(blocks[name]) for name in ("gamma", "variance") if name in blocks}
        first = {name: blocks[name][:, :1].expand_as(none[name]) for name in none}
        broad = {**none, "gamma": none["gamma"] + torch.pi * _BROAD_HZ}
        chosen += [blocks | widths for widths in (none, first, broad)]
    return torch.stack([model.join_theta(**each) for each in chosen])


def lines_of_their_own(model: SignalModel, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far fitted lines are from the others.

    Parameters
    ----------
    model : SignalModel
    params : ``(batch, n_params)``
        FSL-MRS's parameter vectors.

    Returns
    -------
    shift_ppm : ``(batch, n_metabs)``
        Distances from the place of the lines in the middle, half of the signal being on either side, to higher ppm; NaN
        of metabolites without a signal.
    width_ppm : ``(batch, n_metabs)``
        Full widths added to the basis set's, likewise.
    """
    theta, conc, _ = model.unpack(params)
    blocks = model.split_theta(theta)
    eps = blocks["eps"] if model.shape.free_shift else blocks["eps"][:, model.group_index]
    shift = -eps / (2 * torch.pi * model.spec_freq_mhz)
    size = (conc.abs() * torch.linalg.vector_norm(model.basis, dim=-1)).nan_to_num()
    order = shift.nan_to_num().argsort(-1)
    half = size.gather(-1, order).cumsum(-1) >= size.sum(-1, keepdim=True) / 2
    middle = shift.gather(-1, order.gather(-1, half.to(torch.uint8).argmax(-1, keepdim=True)))
    variance = blocks.get("variance", torch.zeros_like(blocks["gamma"]))
    width = blocks["gamma"] / torch.pi + 2 * (math.log(2) * variance).sqrt() / torch.pi
    none = torch.where(size > 0, 0.0, torch.nan)
    return shift - middle + none, width[:, model.group_index] / model.spec_freq_mhz + none
