"""Joint fit of the sub-spectra of edited data: one likelihood, common parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from ...core.axes import Axes
from ...core.parallel import parallel_map
from ...physics.coarse_window import make_window, points_with_signal
from ...physics.edited_components import edited_components
from ...physics.edited_model import EditedModel, efficiency_weights, make_edited_model, partners_of
from ...physics.in_vivo_components import priors_table
from ...physics.in_vivo_model import InVivoModel, make_in_vivo_model
from ...physics.smooth_baseline import SmoothBaseline
from .estimates import Estimate, Likelihoods, parameter_covariance
from .fit import Acquisition, Fits, metabolites_rms, minimum_of, noise_of
from .prepared import PreparedModel, smooth_baseline_of
from .solver import Problem, minimise
from .variants import average_of

__all__ = ["EditedFits", "EditedPrepared", "costs_of_orders", "fit_edited", "prepare_edited", "problem_of"]

_HELD_STEPS = 2  # first steps of the joint fit, which begins at the fit of one condition
_BATCH = 8


@dataclass(frozen=True)
class _EditedBaseline:
    """A smooth baseline of each combination of conditions, as a problem needs it.

    Strengths ``(k, 2)`` are that of the sum, and the factor of it that differences have.
    """

    of_one: SmoothBaseline
    n: int
    n_sums: int = 1

    @property
    def free(self) -> np.ndarray:
        return np.kron(np.eye(self.n), self.of_one.free)

    @property
    def vectors(self) -> np.ndarray:
        return np.kron(np.eye(self.n), self.of_one.vectors)

    def shares(self, strengths) -> np.ndarray:
        strength, factor = np.asarray(strengths, float).T
        each = [self.of_one.shares(strength)] * self.n_sums
        each += [self.of_one.shares(strength * factor)] * (self.n - self.n_sums)
        return np.concatenate(each, -1)


@dataclass(frozen=True)
class EditedPrepared:
    """What is settled before edited data are fitted.

    Attributes
    ----------
    each : tuple of PreparedModel
        Of every condition by itself.
    model : EditedModel
        Of all together.
    reference : int
        Condition that the joint fit starts from.
    places : tuple of float
        Chemical shifts (ppm) of the pulses that have an efficiency.
    """

    each: tuple[PreparedModel, ...]
    model: EditedModel
    reference: int
    places: tuple[float, ...]


@dataclass(frozen=True)
class EditedFits:
    """Joint fits of ``n`` sets of sub-spectra.

    Attributes
    ----------
    of_condition : tuple of Fits
        The joint fit as each condition has it: its own parameters, and the estimates of all.
    x, x_sd : ndarray ``(n, n_params)``
        Parameters of the joint model.
    baseline : complex ndarray ``(n, n_conditions, n_window)``
        In the window.
    """

    of_condition: tuple[Fits, ...]
    x: np.ndarray
    x_sd: np.ndarray
    baseline: np.ndarray


def _strengths() -> np.ndarray:
    """Return strengths of the baseline and factors of them in differences, ``(k, 2)``."""
    table = priors_table()
    factors = table["edited"]["difference_strengths"]
    return np.array([(one, factor) for one in table["baseline"]["strengths"] for factor in factors])


def prepare_edited(
    fids: np.ndarray,
    bases: np.ndarray,
    names: tuple[str, ...],
    axes: Axes,
    acquisition: Acquisition,
    *,
    survivals: Sequence[Callable[[float], complex]],
    places: Sequence[tuple[float, ...]],
    reference: int = 0,
    device: str | torch.device = "cpu",
) -> EditedPrepared:
    """Make the models of the conditions and of all together.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_conditions, n_points)``
        Data, which decide how many points hold signal.
    bases : complex ndarray ``(n_conditions, n_metabs, n_points)``
        On the same time grid.
    names : tuple of str
    axes : Axes
    acquisition : Acquisition
    survivals
        See :func:`fsl_mrs_dl.physics.edited_components.edited_components`.
    places : sequence of tuples of float
        Chemical shifts (ppm) that the pulses of each condition invert.
    reference : int
        Condition that is fitted first.

    Raises
    ------
    OptionError
    """
    used = axes.with_points(points_with_signal(fids.reshape(-1, fids.shape[-1]), axes, acquisition.ppmlim))
    window = make_window(used, acquisition.ppmlim)
    components, signals = edited_components(
        bases,
        names,
        axes,
        survivals,
        te_s=acquisition.te_s,
        tr_s=acquisition.tr_s,
        mm=acquisition.mm,
        start_s=acquisition.start_s,
        reference=reference,
    )
    baseline = smooth_baseline_of(window.ppm, axes.nucleus)
    each = []
    for one in signals:
        model = make_in_vivo_model(
            replace(components, fids=one), window, line_shape=acquisition.line_shape, device=device
        )
        prepared = PreparedModel(model, baseline, axes, acquisition.ppmlim, np.ones(len(names)))
        each.append(replace(prepared, concentrations=acquisition.concentrations))
    of_pulses, partners = partners_of(tuple(places))
    joint = make_edited_model(each[reference].model, signals, partners, of_pulses)
    return EditedPrepared(tuple(each), joint, reference, of_pulses)


def costs_of_orders(fids: np.ndarray, prepared: EditedPrepared, max_iter: int = 12) -> np.ndarray:
    """Return negative log likelihoods ``(n_conditions, n_conditions)`` of sub-spectra ``(n_conditions, n_points)``,
    rows, fitted as each of the conditions; a residual larger than the noise counts as noise."""
    columns = []
    for one in prepared.each:
        spectra, noise = one.model.window.transform(fids), noise_of(fids, one.model.window.axes)
        minimum = minimum_of(one, spectra, noise, max_iter)
        columns.append((minimum.cost + 2 * spectra.shape[-1] * torch.log(minimum.noise)).cpu().numpy())
    return np.stack(columns, 1)


def fit_edited(
    fids: np.ndarray,
    prepared: EditedPrepared,
    *,
    max_iter: int = 40,
    progress: Callable[[int], None] | None = None,
) -> EditedFits:
    """Fit usable sets of sub-spectra jointly.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_conditions, n_points)``
        In the order of the prepared conditions.
    prepared : EditedPrepared
    max_iter : int
        Most steps of a set.
    progress : callable, optional
        Called with the number of sets that were finished.
    """
    device = prepared.model.basis.device
    batches = [np.arange(len(fids))[at : at + _BATCH] for at in range(0, len(fids), _BATCH)]
    parts = []
    for part in parallel_map(lambda rows: _fit_batch(fids[rows], prepared, max_iter), batches, device=device):
        parts.append(part)
        if progress:
            progress(len(part["x"]))
    estimates: dict[str, Any] = {
        name: Estimate.joined([part.pop(name) for part in parts]) for name in ("estimate", "population")
    }
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _by_condition(fids, prepared, arrays, estimates)


def problem_of(prepared: EditedPrepared, fids: np.ndarray, *, differences_only: bool = False) -> Problem:
    """Return the joint fit of sub-spectra ``(n, n_conditions, n_points)`` as a problem; ``differences_only`` leaves the
    sum of the conditions out, as a fit of difference spectra does."""
    model, first = prepared.model, prepared.each[prepared.reference]
    if differences_only:
        model = replace(model, mixing=model.mixing[1:])
    window, n = first.model.window, len(model.mixing)
    noise = noise_of(fids.reshape(-1, fids.shape[-1]), window.axes).reshape(len(fids), -1)
    mixed = model.mixed(torch.as_tensor(window.transform(fids)).to(model.mixing)).cpu().numpy()
    baseline = _EditedBaseline(first.baseline, n, 0 if differences_only else 1)
    # All that minimisations ask of a model it has.
    problem = Problem.make(cast(InVivoModel, model), mixed, np.sqrt((noise**2).mean(1)), baseline, _strengths())
    n_factors = len(priors_table()["edited"]["difference_strengths"])
    return replace(problem, neighbours=(-n_factors, -1, 1, n_factors))


def _fit_batch(fids: np.ndarray, prepared: EditedPrepared, max_iter: int) -> dict:
    """Return arrays and estimates of one batch."""
    model, first, n = prepared.model, prepared.each[prepared.reference], prepared.model.n_conditions
    window, own = first.model.window, fids[:, prepared.reference]
    alone = minimum_of(first, window.transform(own), noise_of(own, window.axes), max_iter)
    together = problem_of(prepared, fids)
    n_factors = len(priors_table()["edited"]["difference_strengths"])
    extra = model.prior_mean[model.plain.n_params :].expand(len(fids), -1)
    start = torch.cat([alone.x, extra], 1)
    strength = alone.strength * n_factors + n_factors // 2
    minimum = minimise(together, start, strength, max_iter=max_iter, held_steps=_HELD_STEPS)
    at_noise = replace(together, noise=minimum.noise)
    average = average_of(at_noise, minimum)
    likelihoods, asked = Likelihoods.of(at_noise, minimum, average), first.concentrations
    weights = average.strengths
    variance = parameter_covariance(together, minimum).diagonal(dim1=-2, dim2=-1)
    residual = together.spectra - model.spectrum(minimum.x)
    share = (weights @ together.shares)[:, None]
    smooth = ((residual[:, None] @ together.vectors.conj()) * share) @ together.vectors.mT
    smooth = smooth[:, 0] + (residual @ together.free.conj()) @ together.free.mT
    out: dict[str, Any] = {
        "x": minimum.x,
        "x_sd": variance.clamp(min=0).sqrt(),
        "noise": together.noise,
        "misfit": minimum.noise / together.noise,
        "weights": weights.unflatten(-1, (-1, n_factors)).sum(-1),
        "variants": average.by_variant,
        "dimension": (weights @ together.shares).sum(-1) / n + first.baseline.free.shape[1],
        "fitted": model.spectra(minimum.x),
        "baseline": model.unmixed(smooth),
        "metabolites_rms": metabolites_rms(together, minimum.x),
        "steps": minimum.steps + alone.steps,
        "converged": minimum.converged,
        "cost": minimum.cost,
    }
    out = {name: tensor.cpu().numpy() for name, tensor in out.items()}
    out["estimate"], out["population"] = (
        likelihoods.estimate(each) for each in (asked, replace(asked, prior="population"))
    )
    return out


def _by_condition(fids: np.ndarray, prepared: EditedPrepared, arrays: dict, estimates: dict) -> EditedFits:
    """Return the joint fit as each condition has it."""
    model, common = prepared.model, dict(arrays)
    x, x_sd, baseline, fitted = (common.pop(name) for name in ("x", "x_sd", "baseline", "fitted"))
    out = []
    for k, one in enumerate(prepared.each):
        own = model.parameters_of(torch.as_tensor(x), k).cpu().numpy()
        out.append(
            Fits(
                model=_with_efficiency(one, prepared, x, k).to("cpu").model,
                fids=fids[:, k],
                water=None,
                x=own,
                x_sd=x_sd[:, : own.shape[1]],
                fitted=fitted[:, k],
                nuisance=np.zeros(len(x), int),
                **common,
                **estimates,
            )
        )
    return EditedFits(tuple(out), x, x_sd, baseline)


def _with_efficiency(one: PreparedModel, prepared: EditedPrepared, x: np.ndarray, k: int) -> PreparedModel:
    """Return the model of one condition with basis spectra of the efficiency that was fitted; of several sets, their
    median one."""
    model = prepared.model
    middle = torch.as_tensor(np.median(x, axis=0, keepdims=True)) if len(x) else model.prior_mean[None]
    middle = middle.to(model.prior_mean)
    weights = efficiency_weights(model.partners.cpu().numpy(), model.efficiencies(middle)[0].cpu().numpy())
    fids = np.stack([each.model.components.fids for each in prepared.each])
    changes = model.mm_changes(middle)[0, k].cpu().numpy()
    own = np.einsum("cl,lcn->cn", weights[:, k], fids) + changes[:, None] * fids[prepared.reference]
    components = replace(one.model.components, fids=own)
    return replace(one, model=replace(one.model, components=components, basis=model.bases_of(middle)[0, k]))
