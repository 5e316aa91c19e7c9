"""Dynamic fit of the series of spectra in a file or in memory: :func:`fit_series`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import DataError, OptionError
from ..core.fids import UNUSABLE, zero_filling
from ..core.noise import noise_outside
from ..core.parallel import one_thread
from ..core.units import fid_to_spec, spec_to_fid
from ..fitting import optimise
from ..fitting.options import FitOptions
from ..fitting.quantify import fit_scaled, model_for
from ..fitting.rows import rows_to_fit
from ..io.basis import Basis
from ..physics.signal_model import SignalModel
from .configuration import Configuration
from .joint_fit import CATEGORIES, JointModel, JointSolution, parameter_covariance, solve_joint
from .mapping import Mapping

__all__ = [
    "DynamicFit",
    "InitialFits",
    "SeriesProblem",
    "fit_problem",
    "fit_series",
    "initial_fits",
    "mapped_sd_of",
    "mapping_of",
    "mean_noise",
    "read_time_variables",
    "scaled_series",
    "time_tensors",
]

_SAME_COST, _FIRST_STEPS = 1e-9, 15


@dataclass(frozen=True, repr=False)
class DynamicFit:
    """The result of a dynamic fit.

    Attributes
    ----------
    model : SignalModel
        The model of a single spectrum, with its basis scaled.
    metabolites : list of str
    mapping : Mapping
    x : ndarray ``(n_free,)``
        Free parameters, in the units of the scaled data.
    cov : ndarray ``(n_free, n_free)``
        Their covariance: Cramer-Rao bound with the noise of the residual.
    mapped, mapped_sd : ndarray ``(n_times, n_mapped)``
        Parameters of every spectrum, and their SDs.
    initial : ndarray ``(n_times, n_mapped)``
        Parameters of fits of every spectrum on its own.
    initial_sd : ndarray ``(n_times, n_metabs)``
        Cramer-Rao SDs of the concentrations of these.
    initial_x : ndarray ``(n_free,)``
        Free parameters that the mapping gives for them.
    spectra, fitted : complex ndarray ``(n_times, n_window)``
        Data and model in the window, scaled.
    noise_sd, noise_outside_sd : float
        SDs per real channel of the scaled spectra: of the residual, which counts as noise in the SDs of parameters, and
        of the noise by itself, from the signal-free ends.
    solution : JointSolution
    fid_scale : float
        The data were multiplied by this before fitting.
    zero_filling : float
        All points over those that were acquired.
    """

    model: SignalModel
    metabolites: list[str]
    mapping: Mapping
    x: np.ndarray
    cov: np.ndarray
    mapped: np.ndarray
    mapped_sd: np.ndarray
    initial: np.ndarray
    initial_sd: np.ndarray
    initial_x: np.ndarray
    spectra: np.ndarray
    fitted: np.ndarray
    noise_sd: float
    solution: JointSolution
    fid_scale: float
    zero_filling: float = field(default=1.0, kw_only=True)
    noise_outside_sd: float = field(default=np.nan, kw_only=True)

    @property
    def names(self) -> list[str]:
        """Names of the free parameters."""
        return self.mapping.names

    @property
    def sd(self) -> np.ndarray:
        """SDs of the free parameters, ``(n_free,)``."""
        return np.sqrt(np.clip(np.diag(self.cov), 0, None))

    def derived(self, function: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> tuple[float, float]:
        """Return a quantity of the free parameters and its SD, to first order with all covariances.

        ``function`` takes a dict of the free parameters by name, tensors, and returns one number.
        """
        x = torch.tensor(self.x, requires_grad=True)
        value = function(dict(zip(self.names, x)))
        (slope,) = torch.autograd.grad(value, x)
        used = slope.numpy() != 0
        slope, cov = slope.numpy()[used], self.cov[np.ix_(used, used)]
        return float(value.detach()), float(np.sqrt(max(slope @ cov @ slope, 0)))

    def model_fids(self) -> np.ndarray:
        """Return FIDs of the model, baseline included, in the scale of the data, ``(n_times, n_points)``."""
        with torch.no_grad():
            return spec_to_fid(self.model(torch.as_tensor(self.mapped)).numpy()) / self.fid_scale

    def information_criteria(self) -> dict[str, float]:
        """Return log likelihood at its maximum, AIC, BIC and the log evidence that BIC stands for.

        The noise is Gaussian, independent, of one unknown SD, in both channels.
        """
        variance, n = self.solution.cost / (2 * self.spectra.size), 2 * self.spectra.size / self.zero_filling
        k = int((self.mapping.lower < self.mapping.upper).sum()) + 1
        log_likelihood = -n / 2 * (np.log(2 * np.pi * variance) + 1)
        bic = k * np.log(n) - 2 * log_likelihood
        return {
            "log likelihood": log_likelihood,
            "AIC": 2 * k - 2 * log_likelihood,
            "BIC": bic,
            "log evidence": -bic / 2,
        }


def read_time_variables(paths: Sequence[str | Path], n_times: int):
    """Return the time variables of a series: ``(n_times,)`` or ``(n_times, k)``, a row of the array for each spectrum.

    Several files of one column each become columns.

    Raises
    ------
    OptionError
        If a file cannot be read, or does not have a row for each spectrum.
    """
    columns = [_read_table(Path(path)) for path in paths]
    for path, values in zip(paths, columns):
        if values.shape[0] != n_times:
            raise OptionError(
                f"has {values.shape[0]} rows, and the series {n_times} spectra",
                option="time_variables",
                value=path,
                remedy="give one row for each spectrum",
            )
        if not np.isfinite(values).all():
            raise OptionError("holds values that are not finite", option="time_variables", value=path)
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def _read_table(path: Path) -> np.ndarray:
    try:
        values = np.loadtxt(path, delimiter="," if path.suffix == ".csv" else None)
    except (OSError, ValueError) as exc:
        raise OptionError(
            f"cannot be read ({exc})",
            option="time_variables",
            value=path,
            remedy="give a text file of numbers, one row for each spectrum; .csv with commas",
        ) from exc
    return np.atleast_1d(values)


def time_tensors(time_variable):
    """Return a time variable, an array or a dict of arrays, as tensors in double precision."""
    if isinstance(time_variable, dict):
        return {key: torch.as_tensor(np.asarray(value, float)) for key, value in time_variable.items()}
    return torch.as_tensor(np.asarray(time_variable, float))


def mapped_sd_of(mapping: Mapping, x: torch.Tensor, cov: torch.Tensor) -> torch.Tensor:
    """Return the SDs of the parameters of every spectrum ``(n_times, n_mapped)``, to first order."""
    slope = mapping.jacobian(x)
    blocks = cov[mapping.active[:, :, None], mapping.active[:, None, :]].nan_to_num(posinf=1e300)
    return torch.einsum("tpa,tab,tpb->tp", slope, blocks, slope).clamp(min=0).sqrt()


def scaled_series(fids: np.ndarray, options: FitOptions) -> tuple[np.ndarray, float]:
    """Return the FIDs of a series ``(n_times, n_points)`` in FSL-MRS's scale, and what they were multiplied by.

    Concentrations and their bounds are in the units of that scale.

    Raises
    ------
    DataError
        If one is not usable.
    """
    rows, usable = rows_to_fit(fids)
    if not usable.all():
        raise DataError(f"spectrum {int(np.flatnonzero(~usable)[0])} of the series {UNUSABLE}")
    scale = float(np.mean(100 / np.linalg.norm(rows, axis=-1))) if options.rescale else 1.0
    return rows.astype(np.complex128) * scale, scale


@one_thread()
def fit_series(
    fids: np.ndarray,
    basis: Basis,
    axes: Axes,
    configuration: Configuration,
    time_variable,
    options: FitOptions = FitOptions(prior="none"),
    when_mapped: Callable[[Mapping], None] | None = None,
) -> DynamicFit:
    """Fit a series of spectra jointly.

    Parameters
    ----------
    fids : complex ndarray ``(n_times, n_points)``
        In the in-memory sign convention.
    basis : Basis
        Chosen metabolites only.
    axes : Axes
    configuration : Configuration
        See :func:`fsl_mrs_dl.dynamic.configuration.read_configuration`.
    time_variable : array ``(n_times,)`` or ``(n_times, k)``, or dict of such
    options : FitOptions
        Of these ``model``, ``ppmlim``, ``baseline``, ``metab_groups`` and ``rescale`` count.
    when_mapped : callable, optional
        Called with the mapping before anything is fitted.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    rows, fid_scale = scaled_series(fids, options)
    model, _ = model_for(basis, axes, options)
    problem = SeriesProblem(rows, model, list(basis.names), options)
    mapping = mapping_of(configuration, problem, time_variable)
    if when_mapped is not None:
        when_mapped(mapping)
    return fit_problem(problem, mapping, initial_fits([problem])[0], fid_scale=fid_scale)


@dataclass(frozen=True)
class SeriesProblem:
    """A series on its scale with the model of its spectra.

    ``rows`` are FIDs ``(n_times, n_points)``; ``names`` are those of the model's metabolites.
    """

    rows: np.ndarray
    model: SignalModel
    names: list[str]
    options: FitOptions

    @property
    def spectra(self) -> torch.Tensor:
        """Spectra in the model's window, complex ``(n_times, n_window)``."""
        first, last = self.model.window
        return torch.as_tensor(fid_to_spec(self.rows)[:, first:last])


@dataclass(frozen=True)
class InitialFits:
    """Fits of the spectra of a series one by one.

    Attributes
    ----------
    params : ndarray ``(n_times, n_params)``
    conc_sd : ndarray ``(n_times, n_metabs)``
        Cramer-Rao SDs of the concentrations.
    others : list of ndarray ``(n_times, n_params)``
        Further parameters to start from.
    """

    params: np.ndarray
    conc_sd: np.ndarray
    others: list[np.ndarray]


def mapping_of(configuration: Configuration, problem: SeriesProblem, time_variable) -> Mapping:
    """Return the mapping of a configuration for a series.

    Raises
    ------
    OptionError
    """
    sizes = {CATEGORIES.get(key, key): size for key, size in problem.model.sizes.items()}
    return Mapping(configuration, sizes, problem.names, time_tensors(time_variable), len(problem.rows))


def fit_problem(
    problem: SeriesProblem,
    mapping: Mapping,
    initial: InitialFits,
    *,
    fid_scale: float = 1.0,
    starts: Sequence[np.ndarray] = (),
    penalty_weight: float = 1.0,
) -> DynamicFit:
    """Fit a series that is scaled.

    Parameters
    ----------
    problem : SeriesProblem
    mapping : Mapping
    initial : InitialFits
    fid_scale : float
        The data were multiplied by this.
    starts : sequence of ndarray ``(n_free,)``
        Free parameters that are tried before those of the initial fits.
    penalty_weight : float
        Factor of the penalty of a spline baseline, see :class:`fsl_mrs_dl.dynamic.joint_fit.JointModel`.
    """
    joint = JointModel(problem.spectra, problem.model, mapping, penalty_weight)
    own = [start for params in (initial.params, *initial.others) for start in mapping.starts(torch.as_tensor(params))]
    solution = _best(joint, [*(torch.as_tensor(start) for start in starts), *own])
    filled = float(np.mean(zero_filling(problem.rows)))
    cov, noise = parameter_covariance(joint, solution, filled)
    return DynamicFit(
        model=problem.model,
        metabolites=list(problem.names),
        mapping=mapping,
        x=solution.x.numpy(),
        cov=cov.numpy(),
        mapped=mapping.mapped(solution.x).numpy(),
        mapped_sd=mapped_sd_of(mapping, solution.x, cov).numpy(),
        initial=initial.params,
        initial_sd=initial.conc_sd,
        initial_x=own[0].numpy(),
        spectra=problem.spectra.numpy(),
        fitted=joint.fitted(solution.x).numpy(),
        noise_sd=noise,
        solution=solution,
        fid_scale=fid_scale,
        zero_filling=filled,
        noise_outside_sd=mean_noise(problem.rows, problem.model.axes),
    )


def mean_noise(rows: np.ndarray, axes: Axes) -> float:
    """Return the noise SD per real channel of the spectra of FIDs ``(n_times, n_points)``, the root of the mean
    square."""
    return float(np.sqrt(np.mean(noise_outside(fid_to_spec(rows), axes) ** 2)))


def _best(joint: JointModel, starts: list[torch.Tensor]) -> JointSolution:
    """Return the solution of lowest cost from several starts.

    The one of lowest cost after a few steps is followed to its end, and others only where they are below that.
    """
    trials = sorted((solve_joint(joint, start, _FIRST_STEPS) for start in starts), key=lambda end: end.cost)
    best = solve_joint(joint, trials[0].x)
    for trial in trials[1:]:
        if trial.cost < best.cost * (1 - _SAME_COST):
            best = min(best, solve_joint(joint, trial.x), key=lambda end: end.cost)
    return best


def _near_each_other(phases: np.ndarray) -> np.ndarray:
    """Return phases ``(n, n_times)`` without whole turns, within half a turn of their mean, which is in (-pi, pi]."""
    middle = np.angle(np.exp(1j * phases).mean(-1, keepdims=True))
    return middle + np.angle(np.exp(1j * (phases - middle)))


def initial_fits(problems: Sequence[SeriesProblem]) -> list[InitialFits]:
    """Return fits of each spectrum of series on its own, and with the shape of the mean of its series.

    The series share model, names and options, and are fitted together.
    """
    one, n_times = problems[0], len(problems[0].rows)
    model = one.model
    rows, means = (np.concatenate(parts) for parts in zip(*[(p.rows, p.rows.mean(0)[None]) for p in problems]))
    mean = fit_scaled(means, model, one.names, one.options)
    single = fit_scaled(rows, model, one.names, one.options)
    theta, _, _ = model.unpack(torch.as_tensor(mean.params))
    spectra = torch.cat([problem.spectra for problem in problems])
    target = model.eliminate_baseline(spectra)
    ends = [optimise.solve(target, model, theta.repeat_interleave(n_times, 0), steps) for steps in (1, 60)]
    shaped = []
    for end in ends:
        baseline = model.baseline_coefficients(spectra - model.join_metabolites(end.theta, end.conc))
        shaped.append(model.pack(end.theta, end.conc, baseline).numpy())
    params = single.params.copy()
    unfit = ~np.isfinite(params).all(-1)
    params[unfit] = shaped[0][unfit]
    column = sum(list(model.sizes.values())[: list(model.sizes).index("phi0")])
    for values in (params, *shaped):
        values[:, column] = _near_each_other(values[:, column].reshape(-1, n_times)).ravel()
    return [
        InitialFits(params[part], single.crlb_sd[part], [values[part] for values in shaped])
        for part in (slice(at, at + n_times) for at in range(0, len(rows), n_times))
    ]
