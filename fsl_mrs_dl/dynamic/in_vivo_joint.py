"""Joint fit of a series with the in-vivo model: one likelihood of all spectra, with the model's priors.

    cost(x, z, w) = sum_t |y_t - S(a_t(x), g_t(x), z, w_t)|^2 / (2 noise^2) + priors of z, w, g and the levels of a

The configuration's free parameters x give amplitudes a and what all lines have in common, g (damping, width, shift,
phases), of every spectrum.  Shifts and dampings of single lines, line shape and proportions of macromolecules, z, are
one set for the series.  Each spectrum keeps a small shift, phase and damping of its own, w, that alignment has left
over, for those that the configuration does not let vary anyway.  Spectra are linear in amplitudes, which may be
negative.  Baselines are Gaussian processes and integrated out: one that all spectra share, and a weaker one of each;
both strengths follow the evidence.

A prior that is meant for one spectrum counts once for the series: that of the common parameters for their mean, that of
concentrations for the mean of each amplitude over the series.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..fitting.in_vivo.solver import Problem
from ..fitting.uncertainty import covariance
from ..physics.in_vivo_components import priors_table
from .least_squares import bounded_step, decrement
from .mapping import Mapping

__all__ = [
    "DONE",
    "InVivoJoint",
    "InVivoSolution",
    "LevelPrior",
    "Posterior",
    "posterior_of",
    "solve_in_vivo_joint",
    "strengths_of_series",
]

DONE = 0.05
"""Distance from the minimum, in SDs of all parameters together, at which a fit has converged."""

_TOLERANCE, _ROUGHLY = 0.02, 0.5  # SDs of all parameters together
_CHOOSE_EVERY, _CHOICES = 4, 6  # steps between choices of the baseline's strengths and the noise, and how many
_CHUNK = 16  # spectra whose derivatives are held at once
_LEAST = 1e-6  # of the largest amplitude, that counts as zero
_LEAST_WIDTH = 1e-3  # 1/s
_LEAST_WEIGHT = 0.01  # of a baseline that takes part in the average
_SHARED = ("own_shift", "own_width", "pattern_width", "q", "shape")
_COMMON = {"gamma": "gamma", "sigma": "variance", "eps": "shift", "Phi_0": "phi0", "Phi_1": "phi1"}
"""FSL-MRS's names of parameters that all lines have in common, and the in-vivo model's."""


def strengths_of_series(n_times: int) -> np.ndarray:
    """Return the table's strengths of a baseline, for one spectrum and for the normalised sum of a series."""
    strengths = np.asarray(priors_table()["baseline"]["strengths"])
    return np.concatenate([strengths, strengths * n_times**0.5])


@dataclass(frozen=True)
class LevelPrior:
    """Gaussian prior of the mean over the series of each amplitude: precision and linear term, ``(n_conc,)`` each."""

    precision: torch.Tensor
    linear: torch.Tensor


@dataclass(frozen=True)
class _Equations:
    """Parts of the normal equations at one point, for unit noise.

    ``gram`` ``(n, n)`` and ``pull`` ``(n,)`` without baseline; ``by_baseline`` ``(n_times, n_active, 2 rank)``,
    ``in_common`` ``(n, 2 rank)`` and ``residual`` ``(n_times, 2 rank)``: derivatives and residual in the baseline's
    eigenbasis; ``energy`` of the residual; ``mapped_pull`` ``(n_times, n_mapped)`` and ``mapped_by_baseline``
    ``(n_times, n_mapped, 2 rank)``: the same of the parameters of every spectrum that the configuration speaks of.
    """

    gram: torch.Tensor
    pull: torch.Tensor
    by_baseline: torch.Tensor
    in_common: torch.Tensor
    residual: torch.Tensor
    energy: torch.Tensor
    mapped_pull: torch.Tensor
    mapped_by_baseline: torch.Tensor


class InVivoJoint:
    """The likelihood of a series, and its priors.

    Parameters
    ----------
    problem : Problem
        The spectra of the series, without a line shape from water, and one noise for all; with the strengths of
        :func:`strengths_of_series`.
    mapping : Mapping
        Of the categories of :meth:`sizes_of`.
    levels : LevelPrior
    """

    def __init__(self, problem: Problem, mapping: Mapping, levels: LevelPrior):
        model, mhz = problem.model, problem.model.window.axes.spec_freq_mhz
        self.problem, self.mapping, self.levels, self.model = problem, mapping, levels, model
        self.n_times = len(problem.spectra)
        about, names = priors_table()["series"], mapping.mapped_names
        self.columns = {name: names.index(f"{name}_0") for name in _COMMON}
        n_conc = len(mapping.metabolites)
        self.has_mm = n_conc > model.n_linear
        blocks = {name: model.slices[name] for name in _SHARED if name in model.slices}
        self.shared = np.concatenate([np.arange(each.start, each.stop) for each in blocks.values()])
        """Their places in a parameter vector of the spectral model."""
        n_mm = model.n_components - model.n_linear
        log_sd = torch.as_tensor(model.components.log_sd[model.n_linear :])
        own = {
            "shift": about["shift_ppm"] * mhz,
            "phi0": np.deg2rad(about["phase_deg"]),
            "gamma": about["gamma_log_sd"],
        }
        varies = {one.category for one in mapping.free if one.time is not None}
        self.own = {key: sd for key, sd in own.items() if not {k for k, v in _COMMON.items() if v == key} & varies}
        n_free, n_own = mapping.n_free, len(self.own) * self.n_times
        ends = np.cumsum([n_free, len(self.shared), n_mm, n_own])
        self.part = {
            name: slice(int(last - size), int(last))
            for name, last, size in zip(("free", "shared", "mm", "own"), ends, (n_free, len(self.shared), n_mm, n_own))
        }
        self.n = int(ends[-1])
        infinite = torch.full((self.n - n_free,), torch.inf, dtype=torch.float64)
        self.lower, self.upper = torch.cat([mapping.lower, -infinite]), torch.cat([mapping.upper, infinite])
        own_sd = torch.tensor(list(self.own.values()), dtype=torch.float64).repeat_interleave(self.n_times)
        # Of nuisances; all are independent of one another.
        shared_precision = model.prior_precision.diagonal()[self.shared]
        self.precision = torch.cat([shared_precision, log_sd**-2.0, own_sd**-2.0])
        self.mean = torch.cat([model.prior_mean[self.shared], torch.zeros(n_mm + n_own, dtype=torch.float64)])
        nuisances = torch.arange(self.part["shared"].start, self.part["mm"].stop).expand(self.n_times, -1)
        own_at = self.part["own"].start + torch.arange(n_own).reshape(len(self.own), self.n_times).mT
        self.active = torch.cat([mapping.active, nuisances, own_at], 1)
        """Numbers of the parameters that act on each spectrum, ``(n_times, n_active)``."""

    @staticmethod
    def sizes_of(n_conc: int) -> dict[str, int]:
        """Return the number of parameters of each category that a configuration can speak of, in FSL-MRS's order."""
        return {"conc": n_conc, "gamma": 1, "sigma": 1, "eps": 1, "Phi_0": 1, "Phi_1": 1}

    def nuisances(self, x: torch.Tensor) -> torch.Tensor:
        """Return the part of a joint vector that belongs to one parameter vector ``(n_params,)`` of the spectral
        model: its lines, line shape and macromolecules."""
        model = self.model
        lines = x[model.slices["log_amp"]][model.n_linear :]
        expected = torch.as_tensor(np.log(model.components.expected[model.n_linear :]))
        own = x.new_zeros(self.part["own"].stop - self.part["own"].start)
        return torch.cat([x[self.shared], lines - expected - x[model.slices["mm_scale"]], own])

    # -- from joint parameters to those of every spectrum ----------------------------------------------------------

    def amplitudes(self, y: torch.Tensor) -> torch.Tensor:
        """Return the amplitude of every component in every spectrum, with sign, ``(n_times, n_components)``."""
        conc, linear = self.mapping.mapped(y[self.part["free"]]), self.model.n_linear
        if not self.has_mm:
            return conc[:, :linear]
        expected = torch.as_tensor(self.model.components.expected[linear:])
        return torch.cat([conc[:, :linear], conc[:, [linear]] * (expected * torch.exp(y[self.part["mm"]]))], 1)

    def parameters(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the spectral model's parameters ``(n_times, n_params)``, and the signs of the amplitudes ``(n_times,
        n_components)``."""
        model, s = self.model, self.model.slices
        mapped, amplitude = self.mapping.mapped(y[self.part["free"]]), self.amplitudes(y)
        out = model.prior_mean.repeat(self.n_times, 1)
        least = _LEAST * amplitude.abs().max()
        out[:, s["log_amp"]] = amplitude.abs().clamp(min=least).log()
        out[:, self.shared] = y[self.part["shared"]]
        common = {name: mapped[:, column] for name, column in self.columns.items()}
        out[:, s["gamma"]] = common["gamma"].clamp(min=_LEAST_WIDTH).log()[:, None]
        out[:, s["variance"]] = 2 * common["sigma"].clamp(min=_LEAST_WIDTH).log()[:, None]
        out[:, s["shift"]] = -common["eps"][:, None] / (2 * np.pi)
        # FSL-MRS turns about the carrier, this model about the middle of the window.
        out[:, s["phi0"]] = (common["Phi_0"] + common["Phi_1"] * model.pivot)[:, None]
        out[:, s["phi1"]] = common["Phi_1"][:, None]
        own = y[self.part["own"]].reshape(len(self.own), self.n_times)
        for name, values in zip(self.own, own):
            out[:, s[name]] += values[:, None]
        return out, torch.where(amplitude < 0, -1.0, 1.0).to(out)

    def _by_mapped(self, y: torch.Tensor) -> torch.Tensor:
        """Return the derivatives of the spectral model's parameters by those of every spectrum that the configuration
        speaks of, ``(n_times, n_params, n_mapped)``."""
        model, s, linear = self.model, self.model.slices, self.model.n_linear
        mapped, first = self.mapping.mapped(y[self.part["free"]]), self.model.slices["log_amp"].start
        least = _LEAST * self.amplitudes(y).abs().max()
        conc = mapped[:, : len(self.mapping.metabolites)]
        inverse = 1 / (torch.where(conc < 0, -1.0, 1.0) * conc.abs().clamp(min=least))
        out = y.new_zeros(self.n_times, model.n_params, mapped.shape[1])
        out[:, first : first + linear, :linear] = torch.diag_embed(inverse[:, :linear])
        if self.has_mm:
            out[:, first + linear : first + model.n_components, linear] = inverse[:, [linear]]
        at = {name: (slice(None), s[own].start, self.columns[name]) for name, own in _COMMON.items()}
        out[at["gamma"]] = 1 / mapped[:, self.columns["gamma"]].clamp(min=_LEAST_WIDTH)
        out[at["sigma"]] = 2 / mapped[:, self.columns["sigma"]].clamp(min=_LEAST_WIDTH)
        out[at["eps"]] = -1 / (2 * np.pi)
        out[at["Phi_0"]] = out[at["Phi_1"]] = 1.0
        out[:, s["phi0"].start, self.columns["Phi_1"]] = model.pivot
        return out

    def _by_nuisances(self) -> torch.Tensor:
        """Return their derivatives by the nuisances that act on each spectrum, ``(n_params, n_nuisances)``."""
        s, n_shared, n_mm = self.model.slices, len(self.shared), self.part["mm"].stop - self.part["mm"].start
        out = torch.zeros(self.model.n_params, n_shared + n_mm + len(self.own), dtype=torch.float64)
        out[self.shared, torch.arange(n_shared)] = 1
        lines = slice(s["log_amp"].start + self.model.n_linear, s["log_amp"].stop)
        out[lines, n_shared : n_shared + n_mm] = torch.eye(n_mm, dtype=torch.float64)
        for number, name in enumerate(self.own):
            out[s[name].start, n_shared + n_mm + number] = 1
        return out

    def spectra(self, y: torch.Tensor) -> torch.Tensor:
        """Return the model of every spectrum in the window, without baseline, complex ``(n_times, n_window)``."""
        x, sign = self.parameters(y)
        parts = [self._signed(sign[rows]).spectrum(x[rows]) for rows in self._chunks()]
        return torch.cat(parts)

    def _signed(self, sign: torch.Tensor):
        return replace(self.model, basis=self.model.basis * sign[:, :, None])

    def _chunks(self) -> list[slice]:
        return [slice(first, first + _CHUNK) for first in range(0, self.n_times, _CHUNK)]

    # -- likelihood and priors -------------------------------------------------------------------------------------

    def equations(self, y: torch.Tensor) -> _Equations:
        """Return the normal equations of the spectra at ``y`` ``(n,)``."""
        problem, (x, sign) = self.problem, self.parameters(y)
        by_mapped, by_free = self._by_mapped(y), self.mapping.jacobian(y[self.part["free"]])
        by_nuisances = self._by_nuisances().expand(self.n_times, -1, -1)
        slopes = torch.cat([by_mapped @ by_free, by_nuisances], -1)
        gram, pull, energy = y.new_zeros(self.n, self.n), y.new_zeros(self.n), y.new_zeros(())
        parts: list[tuple[torch.Tensor, ...]] = []
        for rows in self._chunks():
            spectra, jacobian = self._signed(sign[rows]).jacobian(x[rows])
            both = problem.without_free(torch.cat([jacobian, (problem.target[rows] - spectra)[:, None]], 1))
            smooth, flat = (torch.view_as_real(part).flatten(-2) for part in (both @ problem.vectors.conj(), both))
            product, slope, active = flat @ flat.mT, slopes[rows], self.active[rows]
            where = (active[:, :, None].expand(-1, -1, active.shape[1]), active[:, None, :])
            gram.index_put_(where, slope.mT @ product[:, :-1, :-1] @ slope, accumulate=True)
            pull.index_put_((active,), (slope.mT @ product[:, :-1, -1:])[..., 0], accumulate=True)
            energy = energy + product[:, -1, -1].sum()
            mapped = by_mapped[rows].mT
            of_mapped = ((mapped @ product[:, :-1, -1:])[..., 0], mapped @ smooth[:, :-1])
            parts.append((slope.mT @ smooth[:, :-1], smooth[:, -1], *of_mapped))
        by_baseline, residual, mapped_pull, mapped_by_baseline = (torch.cat(part) for part in zip(*parts))
        common = gram.new_zeros(self.n, by_baseline.shape[-1])
        common.index_put_((self.active,), by_baseline, accumulate=True)
        common = common / self.n_times**0.5
        return _Equations(gram, pull, by_baseline, common, residual, energy, mapped_pull, mapped_by_baseline)

    def curvature(self, at: _Equations, y: torch.Tensor, strength: int) -> torch.Tensor:
        """Return what the curvature of the mapping adds to the normal matrix of :meth:`likelihood`."""
        common, own = self.shares(strength)
        taken = own * at.residual + (common - own) * at.residual.mean(0)
        pull = at.mapped_pull - (at.mapped_by_baseline @ taken[..., None])[..., 0]
        out, free = torch.zeros_like(at.gram), self.part["free"]
        out[free, free] = -self.mapping.curvature(y[free], pull / self.problem.noise[0] ** 2)
        return out

    def likelihood(self, at: _Equations, strength: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return normal matrix, gradient and sum of squares, over the noise, with the baseline integrated out."""
        common, own = self.shares(strength)
        gram, pull = at.gram.clone(), at.pull.clone()
        where = (self.active[:, :, None].expand(-1, -1, self.active.shape[1]), self.active[:, None, :])
        taken = at.by_baseline * own
        gram.index_put_(where, -(taken @ at.by_baseline.mT), accumulate=True)
        pull.index_put_((self.active,), -(taken @ at.residual[..., None])[..., 0], accumulate=True)
        # Of the sum of the spectra the baseline takes more.
        mean = at.residual.sum(0) / self.n_times**0.5
        gram -= (at.in_common * (common - own)) @ at.in_common.mT
        pull -= at.in_common @ ((common - own) * mean)
        weight = self.problem.noise[0] ** -2
        return gram * weight, pull * weight, self.energy(at.residual, at.energy, strength) * weight

    def energy(self, residual: torch.Tensor, energy: torch.Tensor, strength: int) -> torch.Tensor:
        """Return the energy of a residual with the baseline taken out; ``residual`` ``(n_times, 2 rank)`` in the
        baseline's eigenbasis."""
        common, own = self.shares(strength)
        mean = residual.sum(0) / self.n_times**0.5
        return energy - (own * residual.square()).sum() - ((common - own) * mean.square()).sum()

    @property
    def strengths(self) -> list[tuple[int, int]]:
        """Strengths of the baseline: number of the common one's, and of that in which spectra differ."""
        n = len(self.problem.shares) // 2
        return [(n + common, own) for common in range(n) for own in range(common + 1)]

    def shares(self, strength: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the shares of the baseline's eigenvectors in the sum of the spectra and in differences, ``(2 rank,)``
        each."""
        common, own = self.strengths[strength]
        return self.problem.shares[common].repeat_interleave(2), self.problem.shares[own].repeat_interleave(2)

    def log_det(self, strength: int) -> torch.Tensor:
        """Return the log determinant of baselines plus noise."""
        common, own = self.strengths[strength]
        return self.problem.log_det[common] + (self.n_times - 1) * self.problem.log_det[own]

    def with_priors(self, at: _Equations, y: torch.Tensor, strength: int, priors=None):
        """Return :meth:`likelihood` with the priors, or those of :meth:`priors` that are there already: normal matrix,
        gradient, cost."""
        gram, pull, energy = self.likelihood(at, strength)
        matrix, force, cost = self.priors(y) if priors is None else priors
        return gram + matrix, pull + force, 0.5 * energy + cost

    def priors(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return normal matrix, gradient and cost of all priors."""
        matrix, force = y.new_zeros(self.n, self.n), y.new_zeros(self.n)
        nuisances = slice(self.part["shared"].start, self.n)
        distance = y[nuisances] - self.mean
        matrix.diagonal()[nuisances] += self.precision
        force[nuisances] -= self.precision * distance
        cost = 0.5 * (self.precision * distance.square()).sum()
        for add in (self._levels, self._common):
            cost = cost + add(y, matrix, force)
        return matrix, force, cost

    def _levels(self, y: torch.Tensor, matrix: torch.Tensor, force: torch.Tensor) -> torch.Tensor:
        """Add the prior of the mean of each amplitude; return its cost."""
        x, n_conc = y[self.part["free"]], len(self.levels.precision)
        by_free, active = self.mapping.jacobian(x)[:, :n_conc] / self.n_times, self.mapping.active
        slope = y.new_zeros(self.n, n_conc)
        slope.index_put_((active,), by_free.mT, accumulate=True)
        level = self.mapping.mapped(x)[:, :n_conc].mean(0)
        precision, linear = self.levels.precision, self.levels.linear
        matrix += (slope * precision) @ slope.mT
        force += slope @ (linear - precision * level)
        return (0.5 * precision * level.square() - linear * level).sum()

    def _common(self, y: torch.Tensor, matrix: torch.Tensor, force: torch.Tensor) -> torch.Tensor:
        """Add the priors of what lines have in common, each spectrum's with the weight of its share of the series;
        return their cost."""
        model, s = self.model, self.model.slices
        at = torch.tensor([s[name].start for name in _COMMON.values()])
        own = y.clone()
        own[self.part["own"]] = 0
        x, active = self.parameters(own)[0][:, at], self.mapping.active
        slopes = self._by_mapped(own)[:, at] @ self.mapping.jacobian(y[self.part["free"]])
        precision = model.prior_precision.diagonal()[at] / self.n_times
        distance = x - model.prior_mean[at]
        where = (active[:, :, None].expand(-1, -1, active.shape[1]), active[:, None, :])
        matrix.index_put_(where, slopes.mT @ (precision[:, None] * slopes), accumulate=True)
        force.index_put_((active,), -(slopes.mT @ (precision * distance)[..., None])[..., 0], accumulate=True)
        return 0.5 * (precision * distance.square()).sum()

    def cost(self, y: torch.Tensor, strength: int) -> torch.Tensor:
        """Return the cost at ``y``, infinite where the mapping is not finite."""
        if not self.mapping.mapped(y[self.part["free"]]).isfinite().all():
            return torch.tensor(torch.inf, dtype=torch.float64)
        residual = self.problem.without_free(self.problem.target - self.spectra(y))
        smooth = torch.view_as_real(residual @ self.problem.vectors.conj()).flatten(-2)
        energy = self.energy(smooth, residual.abs().square().sum(), strength)
        value = 0.5 * energy / self.problem.noise[0] ** 2 + self.priors(y)[2]
        return value.nan_to_num(torch.inf, torch.inf)

    def log_evidence(self, at: _Equations, y: torch.Tensor) -> np.ndarray:
        """Return the log of the likelihood integrated over nuisances for every strength of the baseline
        ``(n_strengths,)``, to second order, with the parameters of the configuration where they are best; constants
        that all strengths and configurations share are left out."""
        priors, inner = self.priors(y), slice(self.part["shared"].start, self.n)
        n_real = 2 * self.n_times * (self.problem.target.shape[-1] - self.problem.free.shape[-1])
        common = 0.5 * self.precision.log().sum() - n_real * self.problem.noise[0].log()
        values = []
        for strength in range(len(self.strengths)):
            matrix, pull, cost = self.with_priors(at, y, strength, priors)
            half_log = 0.5 * torch.linalg.slogdet(matrix[inner, inner])[1]
            step = newton_step(matrix, pull, self.movable(y, pull))
            values.append(0.5 * (step * pull).sum() - cost - half_log - self.log_det(strength) + common)
        return torch.stack(values).numpy()

    def movable(self, y: torch.Tensor, pull: torch.Tensor) -> torch.Tensor:
        """Tell which parameters are not held by a bound."""
        at_bound = ((y <= self.lower) & (pull < 0)) | ((y >= self.upper) & (pull > 0))
        return ~(at_bound | (self.lower == self.upper))

    def at_noise(self, noise: torch.Tensor) -> InVivoJoint:
        """Return it with another noise."""
        return InVivoJoint(replace(self.problem, noise=noise.expand(self.n_times)), self.mapping, self.levels)


def newton_step(matrix: torch.Tensor, pull: torch.Tensor, movable: torch.Tensor) -> torch.Tensor:
    """Return the Newton step of parameters that can move; zero of others."""
    out, index = torch.zeros_like(pull), movable.nonzero()[:, 0]
    block = matrix[index][:, index]
    size = block.diagonal().clamp(min=1e-300).sqrt()
    eye = 1e-12 * torch.eye(len(index), dtype=matrix.dtype)
    out[index] = torch.linalg.solve(block / (size[:, None] * size) + eye, pull[index] / size) / size
    return out


@dataclass(frozen=True)
class InVivoSolution:
    """The end of a joint fit.

    Attributes
    ----------
    joint : InVivoJoint
        With the noise that explains the residual.
    y : Tensor ``(n,)``
    at : _Equations
        At ``y``.
    strength : int
        Of the baseline.
    cost, distance : float
        Distance to the minimum in SDs.
    n_iter : int
    """

    joint: InVivoJoint
    y: torch.Tensor
    at: _Equations
    strength: int
    cost: float
    distance: float
    n_iter: int


def solve_in_vivo_joint(joint: InVivoJoint, start: torch.Tensor, max_iter: int = 120) -> InVivoSolution:
    """Minimise the cost from ``start`` ``(n,)``.

    The baseline's strengths follow the evidence, and a residual that is larger than the measured noise counts as noise.
    """
    floor = joint.problem.noise[0]
    lower, upper = joint.lower[None], joint.upper[None]
    y, strength, damping = start.clamp(joint.lower, joint.upper), len(joint.strengths) // 2, 1e-2
    at, distance, n_iter, choices = joint.equations(y), np.inf, 0, 0
    cost = joint.with_priors(at, y, strength)[2]
    since = 0
    while n_iter < max_iter:
        if since % _CHOOSE_EVERY == 0 and choices < _CHOICES:
            joint, strength = _chosen(joint, at, y, strength, floor)
            cost, choices = joint.with_priors(at, y, strength)[2], choices + 1
        n_iter, since = n_iter + 1, since + 1
        matrix, pull = (part[None] for part in _second_order(joint, at, y, strength))
        distance = float(decrement(y[None], matrix, pull, lower, upper)[0].sqrt())
        if distance < (_TOLERANCE if choices == _CHOICES else _ROUGHLY):
            if choices == _CHOICES:
                break
            since = 0
            continue
        step = bounded_step(y[None], matrix, pull, torch.tensor([damping], dtype=torch.float64), lower, upper)[0]
        trial = y + step
        new_cost = joint.cost(trial, strength)
        if new_cost < cost + 1e-10 * abs(cost):
            y, cost, damping = trial, new_cost, max(damping / 5, 1e-9)
            at = joint.equations(y)
        elif damping > 1e8:
            break
        else:
            damping = max(damping * 6, 1e-3)
    return InVivoSolution(joint, y, at, strength, float(cost), distance, n_iter)


def _second_order(
    joint: InVivoJoint, at: _Equations, y: torch.Tensor, strength: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normal matrix and gradient, with the curvature of the mapping where the cost is convex with it."""
    matrix, pull, _ = joint.with_priors(at, y, strength)
    whole, index = matrix + joint.curvature(at, y, strength), joint.movable(y, pull).nonzero()[:, 0]
    size = matrix.diagonal()[index].clamp(min=1e-300).sqrt()
    scaled = whole[index][:, index] / (size[:, None] * size)
    convex = bool(scaled.isfinite().all()) and torch.linalg.cholesky_ex(scaled - 1e-8 * torch.eye(len(size))).info == 0
    return (whole if convex else matrix), pull


def _chosen(
    joint: InVivoJoint, at: _Equations, y: torch.Tensor, strength: int, floor: torch.Tensor
) -> tuple[InVivoJoint, int]:
    """Return the likelihood with the noise that explains the residual, and the baseline's best strength."""
    matrix = joint.with_priors(at, y, strength)[0]
    by_data = joint.likelihood(at, strength)[0]
    movable = joint.movable(y, torch.zeros_like(y)).nonzero()[:, 0]
    size = matrix.diagonal()[movable].clamp(min=1e-300).sqrt()
    scaled = matrix[movable][:, movable] / (size[:, None] * size)
    scaled = scaled + 1e-12 * torch.eye(len(size), dtype=size.dtype)
    used = torch.linalg.solve(scaled, by_data[movable][:, movable] / (size[:, None] * size)).diagonal().sum()
    problem = joint.problem
    n_real = 2 * joint.n_times * (problem.target.shape[-1] - problem.free.shape[-1])
    noise = torch.maximum(
        floor, (joint.energy(at.residual, at.energy, strength) / (n_real - used).clamp(min=1)).clamp(min=0).sqrt()
    )
    joint = joint.at_noise(noise)
    return joint, int(joint.log_evidence(at, y).argmax())


@dataclass(frozen=True)
class Posterior:
    """Mean and covariance of the configuration's parameters, averaged over strengths of the baseline.

    Attributes
    ----------
    x : Tensor ``(n_free,)``
    cov : Tensor ``(n_free, n_free)``
    weights : ndarray ``(n_strengths,)``
    log_evidence : float
        Of nuisances and baselines integrated out, at the best parameters of the configuration.
    """

    x: torch.Tensor
    cov: torch.Tensor
    weights: np.ndarray
    log_evidence: float


def posterior_of(solution: InVivoSolution) -> Posterior:
    """Return the posterior about a minimum.

    Parameters whose bounds are equal have no variance; those that lie at a bound count as free, as in FSL-MRS.
    """
    joint, y, at, n_free = solution.joint, solution.y, solution.at, solution.joint.mapping.n_free
    values = joint.log_evidence(at, y)
    weights = np.exp(values - values.max())
    weights = np.where(weights > _LEAST_WEIGHT * weights.max(), weights, 0)
    weights /= weights.sum()
    free = (joint.lower < joint.upper).nonzero()[:, 0]
    means, covs, shares = [], [], weights[weights > 0]
    for k in np.flatnonzero(weights):
        matrix, pull, _ = joint.with_priors(at, y, int(k))
        step = newton_step(matrix, pull, joint.movable(y, pull))[:n_free]
        means.append((y[:n_free] + step).clamp(joint.lower[:n_free], joint.upper[:n_free]))
        cov = torch.zeros_like(matrix)
        unit = torch.ones(1, dtype=torch.float64)
        cov[free[:, None], free] = covariance(matrix[free][:, free][None], unit)[0]
        covs.append(cov[:n_free, :n_free])
    x = sum(share * mean for share, mean in zip(shares, means))
    cov = sum(share * (own + torch.outer(mean - x, mean - x)) for share, mean, own in zip(shares, means, covs))
    log_evidence = float(values.max() + np.log(np.exp(values - values.max()).mean()))
    return Posterior(x, cov, weights, log_evidence)
