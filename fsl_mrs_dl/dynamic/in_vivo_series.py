"""Dynamic fit of a series with the in-vivo spectral model: :func:`fit_series_in_vivo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from ..core import units
from ..core.axes import Axes
from ..core.metabolites import is_macromolecule
from ..core.parallel import one_thread
from ..fitting.in_vivo.estimates import Likelihoods
from ..fitting.in_vivo.fit import Fits, fit_prepared, minimum_of, noise_of, prepare
from ..fitting.in_vivo.prepared import PreparedModel, whole_baseline_of
from ..fitting.in_vivo.quantify import scaled_basis
from ..fitting.in_vivo.result import signal_of
from ..fitting.in_vivo.solver import Minimum, Problem
from ..fitting.in_vivo.variants import average_of
from ..fitting.in_vivo.whole_spectra import whole_components
from ..fitting.options import FitOptions
from ..io.basis import Basis
from ..physics.in_vivo_signals import MACROMOLECULES, concentration_names
from ..physics.signal_model import SignalModel
from .configuration import Configuration
from .in_vivo_joint import (
    DONE,
    InVivoJoint,
    InVivoSolution,
    LevelPrior,
    posterior_of,
    solve_in_vivo_joint,
    strengths_of_series,
)
from .joint_fit import JointSolution
from .mapping import Mapping
from .series import DynamicFit, mapped_sd_of, mean_noise, scaled_series, time_tensors

__all__ = ["InVivoDynamicFit", "fit_series_in_vivo"]

_MOST_STEPS = 60  # of fits of single spectra


@dataclass(frozen=True, repr=False)
class InVivoDynamicFit(DynamicFit):
    """The result of a dynamic fit with the in-vivo model.

    ``cov`` includes nuisances, baselines and priors.

    Attributes
    ----------
    prepared : PreparedModel
        The spectral model.
    fitted_fids : complex ndarray ``(n_times, n_points)``
        Of the model with baseline, scaled.
    weights : ndarray ``(n_strengths,)``
        Of the baseline's strengths.
    log_evidence : float
        Nuisances and baselines integrated out, at the best parameters of the configuration.
    misfit : float
        Residual over measured noise; one where the model explains everything.
    single_misfit : float
        The same of fits of each spectrum alone.
    """

    prepared: PreparedModel
    fitted_fids: np.ndarray
    weights: np.ndarray
    log_evidence: float
    misfit: float
    single_misfit: float

    def model_fids(self) -> np.ndarray:
        """Return FIDs of the model, baseline included, in the scale of the data, ``(n_times, n_points)``."""
        return self.fitted_fids / self.fid_scale

    def information_criteria(self) -> dict[str, float]:
        """Return the log likelihood, AIC, BIC and the log evidence that BIC stands for.

        Parameters of the spectral model that the configuration does not speak of are integrated out.
        """
        k = int((self.mapping.lower < self.mapping.upper).sum())
        bic = k * np.log(2 * self.spectra.size) - 2 * self.log_evidence
        return {
            "log likelihood": self.log_evidence,
            "AIC": 2 * k - 2 * self.log_evidence,
            "BIC": float(bic),
            "log evidence": float(-bic / 2),
        }


@one_thread()
def fit_series_in_vivo(
    fids: np.ndarray,
    basis: Basis,
    axes: Axes,
    configuration: Configuration,
    time_variable,
    options: FitOptions = FitOptions(spectral_model="in-vivo"),
    when_mapped: Callable[[Mapping], None] | None = None,
) -> InVivoDynamicFit:
    """Fit a series of spectra jointly with the in-vivo model.

    Parameters
    ----------
    fids : complex ndarray ``(n_times, n_points)``
        In the in-memory sign convention.
    basis : Basis
        Chosen metabolites only.
    axes : Axes
    configuration : Configuration
        Written for FSL-MRS's model: its baseline is replaced by that of the in-vivo model, macromolecules of the basis
        set by MM.  Lipids and MM are free for every spectrum where it does not speak of them.
    time_variable : array ``(n_times,)`` or ``(n_times, k)``, or dict of such
    options : FitOptions
        As for :func:`fsl_mrs_dl.fitting.in_vivo.quantify.quantify_in_vivo`.
    when_mapped : callable, optional
        Called with the mapping before anything is fitted.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    rows, fid_scale = scaled_series(fids, options)
    on_grid, basis_scale, acquisition = scaled_basis(basis, axes, options)
    prepared = replace(prepare(rows, on_grid, basis.names, axes, acquisition), basis_scale=basis_scale)
    model = prepared.model
    names = concentration_names(model.components)
    own = _for_in_vivo(configuration, basis.names, names)
    mapping = Mapping(own, InVivoJoint.sizes_of(len(names)), names, time_tensors(time_variable), len(rows))
    if when_mapped is not None:
        when_mapped(mapping)
    single = fit_prepared(rows, prepared, max_iter=_MOST_STEPS)
    aligned = _aligned(rows, single, axes)
    noise = noise_of(aligned, model.window.axes) if len(rows) > 1 else single.noise
    typical = minimum_of(prepared, model.window.transform(aligned), noise, _MOST_STEPS)
    problem = _problem(prepared, rows, single.noise)
    joint = InVivoJoint(problem, mapping, _levels(prepared, aligned, noise, typical))
    initial, initial_sd = _initial(single, names)
    start = torch.cat([mapping.start(torch.as_tensor(initial)), joint.nuisances(typical.x[0])])
    solution = solve_in_vivo_joint(joint, start)
    posterior = posterior_of(solution)
    whole, fitted = _fitted(solution, prepared, rows, posterior.weights)
    first, last = axes.window(prepared.ppmlim)
    noise_sd = float(solution.joint.problem.noise[0])
    return InVivoDynamicFit(
        # Of a signal model only what describes it is used.
        model=cast(SignalModel, signal_of(prepared)),
        metabolites=names,
        mapping=mapping,
        x=posterior.x.numpy(),
        cov=posterior.cov.numpy(),
        mapped=mapping.mapped(posterior.x).numpy(),
        mapped_sd=mapped_sd_of(mapping, posterior.x, posterior.cov).numpy(),
        initial=initial,
        initial_sd=initial_sd,
        initial_x=start[: mapping.n_free].numpy(),
        spectra=whole[:, first:last],
        fitted=fitted[:, first:last],
        noise_sd=noise_sd,
        solution=JointSolution(
            solution.y[: mapping.n_free], solution.cost, solution.distance, solution.n_iter, limit=DONE
        ),
        fid_scale=fid_scale,
        noise_outside_sd=mean_noise(rows, axes),
        prepared=prepared,
        fitted_fids=units.spec_to_fid(fitted),
        weights=posterior.weights,
        log_evidence=posterior.log_evidence,
        misfit=noise_sd / float(problem.noise[0]),
        single_misfit=float(np.sqrt(np.mean(single.misfit**2))),
    )


def _for_in_vivo(configuration: Configuration, basis_names, names: list[str]) -> Configuration:
    """Return a configuration that was written for FSL-MRS's model as the in-vivo model needs it."""
    parameters = {key: value for key, value in configuration.parameters.items() if key != "baseline"}
    conc = parameters.get("conc")
    if isinstance(conc, dict) and "dynamic" not in conc:
        replaced = [name for name in basis_names if is_macromolecule(name) and name not in names]
        spoken = {MACROMOLECULES if key in replaced else key: value for key, value in conc.items()}
        metabolites = set(basis_names) - set(replaced)
        if "other" not in spoken:
            spoken |= {name: "variable" for name in names if name not in metabolites and name not in spoken}
        parameters["conc"] = {key: value for key, value in spoken.items() if key != MACROMOLECULES or key in names}
    # Bounds of what was left out belong to no parameter any more.
    gone = _roles(configuration.parameters) - _roles(parameters)
    bounds = {key: value for key, value in configuration.bounds.items() if key not in gone}
    bounds = {key: value for key, value in bounds.items() if key.partition("_")[0] != "baseline"}
    return replace(configuration, parameters=parameters, bounds=bounds)


def _roles(behaviour) -> set[str]:
    """Return the names of the parameters of all models in a behaviour, or in a dict of such."""
    if not isinstance(behaviour, dict):
        return set()
    if "dynamic" in behaviour:
        return set(behaviour.get("params") or ())
    return {role for one in behaviour.values() for role in _roles(one)}


def _aligned(rows: np.ndarray, single: Fits, axes: Axes) -> np.ndarray:
    """Return the mean of a series ``(1, n_points)``, each spectrum turned and shifted as its own fit says."""
    s = single.model.slices
    shift, phase = single.x[:, s["shift"]], single.x[:, s["phi0"]]
    shift = shift - shift.mean()
    # Turned about the first spectrum's phase, which is the one that the mean has.
    turn = np.exp(1j * (phase - phase[:1]) - 2j * np.pi * shift * axes.time())
    return (rows * turn).mean(0, keepdims=True)


def _problem(prepared: PreparedModel, rows: np.ndarray, noise: np.ndarray) -> Problem:
    common = np.full(len(rows), np.sqrt(np.mean(noise**2)))
    spectra = prepared.model.window.transform(rows)
    return Problem.make(prepared.model, spectra, common, prepared.baseline, strengths_of_series(len(rows)))


def _levels(prepared: PreparedModel, aligned: np.ndarray, noise: np.ndarray, typical: Minimum) -> LevelPrior:
    """Return the prior of the mean of each amplitude, as the fit of the mean spectrum has it."""
    strengths = strengths_of_series(1)[: len(strengths_of_series(1)) // 2]
    model = prepared.model
    problem = Problem.make(model, model.window.transform(aligned), noise, prepared.baseline, strengths)
    problem = replace(problem, noise=typical.noise)
    likelihoods = Likelihoods.of(problem, typical, average_of(problem, typical))
    posteriors = likelihoods.posteriors(prepared.concentrations)
    best = posteriors[int(likelihoods.weights[0].argmax())]
    precision, linear = best.sites
    return LevelPrior(precision[0], linear[0])


def _initial(single: Fits, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return FSL-MRS's parameters of fits of each spectrum ``(n_times, n_mapped)``, and the SDs of the
    concentrations."""
    model, x = single.model, single.x
    s = model.slices
    common = [np.exp(x[:, s["gamma"]]), np.exp(0.5 * x[:, s["variance"]]), -2 * np.pi * x[:, s["shift"]]]
    phases = [np.unwrap(x[:, s["phi0"]] - x[:, s["phi1"]] * model.pivot, axis=0), x[:, s["phi1"]]]
    variance = np.diagonal(single.estimate.cov, axis1=1, axis2=2)
    return np.concatenate([single.estimate.mean, *common, *phases], 1), np.sqrt(np.clip(variance, 0, None))


def _fitted(
    solution: InVivoSolution, prepared: PreparedModel, rows: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return spectra of the data and of the model with baseline over all points, complex ``(n_times, n_points)``."""
    joint, axes = solution.joint, prepared.axes
    x, sign = joint.parameters(solution.y)
    basis = torch.as_tensor(prepared.model.components.fids) * sign[:, :, None]
    data, model = units.fid_to_spec(rows), whole_components(prepared.model, axes, x, basis)[:, 0]
    first, last = axes.window(prepared.ppmlim)
    residual = (data - model)[:, first:last]
    baseline = whole_baseline_of(axes.ppm()[first:last], axes.nucleus)
    # A spectrum of more points has a smaller baseline in each, and the same noise.
    finer = (prepared.model.window.axes.n_points / axes.n_points) ** 0.5
    shares = baseline.shares(strengths_of_series(len(rows)) * finer)
    common, own = (weights @ shares[[pair[k] for pair in joint.strengths]] for k in (0, 1))
    smooth = residual @ baseline.vectors.conj()
    taken = smooth * own + smooth.mean(0) * (common - own)
    model[:, first:last] += taken @ baseline.vectors.T + (residual @ baseline.free.conj()) @ baseline.free.T
    return data, model
