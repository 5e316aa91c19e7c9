"""Fit of spectra with the in-vivo model: start, minimise, average over strengths of the baseline, estimate
amplitudes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ...core.axes import Axes
from ...core.noise import filtered_noise, noise_outside
from ...core.parallel import parallel_map
from ...core.units import fid_to_spec
from ...physics.coarse_window import make_window, points_with_signal
from ...physics.in_vivo_components import build_components, priors_table
from ...physics.in_vivo_model import InVivoModel, make_in_vivo_model
from ...physics.in_vivo_signals import concentration_names
from ...physics.nuisance import NuisanceSpace
from .estimates import Estimate, Likelihoods, parameter_covariance
from .population import Likelihood, population_model
from .prepared import PreparedModel, smooth_baseline_of
from .ratios import ConcentrationPrior
from .solver import Minimum, Problem, evidence, likelihood, minimise
from .starts import classical_start
from .study import study_model
from .variants import average_of, variants_of
from .water_reference import WaterReference

__all__ = [
    "Acquisition",
    "Fits",
    "STUDY_SPECTRA",
    "fit_prepared",
    "learnt",
    "log_evidence",
    "metabolites_rms",
    "minimum_of",
    "noise_of",
    "prepare",
]

STUDY_SPECTRA = 64
"""Spectra that a study's priors are learnt from, at most."""

_BATCH, _BATCH_ON_GPU = 32, 2048  # spectra of one batch
_FIRST_STRENGTH = 3  # index of the baseline's strength that a fit begins with


@dataclass(frozen=True)
class Acquisition:
    """Properties of a measurement that macromolecules are weighted for, and choices of its model.

    Attributes
    ----------
    te_s, tr_s : float
        Echo and repetition time in seconds.
    mm : str
        One of :data:`fsl_mrs_dl.physics.in_vivo_components.MACROMOLECULE_PRESETS`.
    ppmlim : (float, float)
        Fitted window.
    line_shape : bool
        Estimate a non-parametric line shape.
    learn : bool
        Learn priors that the spectra share, where there are enough.
    population : bool
        Learn also how much they differ, as of a volume's many voxels.
    init : str
        Initial values, one of :data:`fsl_mrs_dl.fitting.automatic_initialisation.INITIALISATIONS`.
    concentrations : ConcentrationPrior
        Of the estimate.
    start_s : float
        Time of the first point after the echo, in seconds.
    moved : bool
        Macromolecules and lipids are as far off their places as the singlets of the basis set.
    """

    te_s: float
    tr_s: float
    mm: str = "brain"
    ppmlim: tuple[float, float] = (0.2, 4.2)
    line_shape: bool = True
    learn: bool = True
    population: bool = False
    init: str = "classical"
    concentrations: ConcentrationPrior = ConcentrationPrior()
    start_s: float = 0.0
    moved: bool = True


@dataclass
class Fits:
    """Fits of ``n`` spectra.

    Attributes
    ----------
    model : InVivoModel
        With the priors that the fits had, on the CPU.
    fids : complex ndarray ``(n, n_points)``
        Corrected for eddy currents where there was a water reference.
    water : WaterReference or None
    x, x_sd : ndarray ``(n, n_params)``
        Parameters and their SDs.
    noise, misfit : ndarray ``(n,)``
        Measured SD of one real channel; residual over noise, one where the model explains everything.
    weights : ndarray ``(n, n_strengths)``
        Of the baseline's strengths.
    variants : ndarray ``(n, n_variants)``
        Weights of :func:`fsl_mrs_dl.fitting.in_vivo.variants.variants_of` the model.
    dimension : ndarray ``(n,)``
        Effective dimension of the baseline.
    fitted : complex ndarray ``(n, n_window)``
        In the window, without baseline.
    metabolites_rms : ndarray ``(n,)``
        Root mean square of the fitted metabolites per real channel in the window.
    steps, converged, cost : ndarray ``(n,)``
    estimate, population : Estimate
        With the prior of concentrations that was asked for, and with one as narrow as a healthy population.
    nuisance : int ndarray ``(n,)``
        State of the nuisances, see :class:`fsl_mrs_dl.physics.nuisance.NuisanceSpace`; zero without.
    """

    model: InVivoModel
    fids: np.ndarray
    water: WaterReference | None
    x: np.ndarray
    x_sd: np.ndarray
    noise: np.ndarray
    misfit: np.ndarray
    weights: np.ndarray
    variants: np.ndarray
    dimension: np.ndarray
    fitted: np.ndarray
    metabolites_rms: np.ndarray
    steps: np.ndarray
    converged: np.ndarray
    cost: np.ndarray
    estimate: Estimate
    population: Estimate
    nuisance: np.ndarray


def prepare(
    fids: np.ndarray,
    basis: np.ndarray,
    names: tuple[str, ...],
    axes: Axes,
    acquisition: Acquisition,
    *,
    from_water: bool = False,
    nuisance: NuisanceSpace | None = None,
    device: str | torch.device = "cpu",
) -> PreparedModel:
    """Make the model of a study, with the priors of the table.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        Spectra of the study, which decide how many points hold signal.
        Corrected for eddy currents where there is a water reference.
    basis : complex ndarray ``(n_metabs, n_points)``
        On the same time grid.
    names : tuple of str
        Of the basis spectra.
    axes : Axes
    acquisition : Acquisition
    from_water : bool
        Every spectrum will come with a line shape from water.
    nuisance : NuisanceSpace, optional
        Signals that leak into the spectra.

    Raises
    ------
    OptionError
    """
    used = axes.with_points(points_with_signal(fids, axes, acquisition.ppmlim))
    window = make_window(used, acquisition.ppmlim)
    components = build_components(
        basis,
        names,
        axes,
        te_s=acquisition.te_s,
        tr_s=acquisition.tr_s,
        mm=acquisition.mm,
        start_s=acquisition.start_s,
        moved=acquisition.moved,
    )
    model = make_in_vivo_model(
        components, window, line_shape=acquisition.line_shape, from_water=from_water, device=device
    )
    baseline = smooth_baseline_of(window.ppm, axes.nucleus)
    if acquisition.init != "classical":
        from .network_starts import check_network

        check_network(model, acquisition.init)
    return PreparedModel(
        model,
        baseline,
        axes,
        acquisition.ppmlim,
        np.ones(len(names)),
        init=acquisition.init,
        concentrations=acquisition.concentrations,
        nuisance=None if nuisance is None else nuisance.normalised(window.transform),
    )


def learnt(
    prepared: PreparedModel,
    fids: np.ndarray,
    acquisition: Acquisition,
    reference: WaterReference | None = None,
    max_iter: int = 40,
) -> tuple[PreparedModel, Minimum | None]:
    """Return the model with the priors of a study, learnt from at most 64 of its spectra.

    Returns
    -------
    PreparedModel
        As it was where learning is off or spectra are too few.
    Minimum or None
        Of all spectra with the priors of the table, where all took part.
    """
    if not acquisition.learn or len(fids) < priors_table()["learning"]["least_spectra"]:
        return prepared, None
    most = len(fids) if acquisition.population else STUDY_SPECTRA
    rows = np.unique(np.linspace(0, len(fids) - 1, min(len(fids), most)).astype(int))
    problems = _Problems.of(prepared, fids, reference)

    def fit_of(some: np.ndarray) -> tuple[Minimum, Any]:
        problem = problems.rows(some)
        minimum = _minimise(problem, max_iter, prepared.init)
        if acquisition.population:
            return minimum, _likelihood_of(problem, minimum)
        return minimum, parameter_covariance(problem, minimum)

    batches, device = problems.batches(rows), prepared.model.basis.device
    minima, covariances = zip(*parallel_map(fit_of, batches, device=device))
    # Batches are of one state of the nuisances each; all together are in the order of the rows again.
    order = np.argsort(np.concatenate(batches))
    minimum = Minimum.joined(list(minima)).rows(order)
    if acquisition.population:
        sample = Likelihood.joined(list(covariances), order)
        model, population = population_model(prepared.model, sample)
        prepared = replace(prepared, model=model, population=population)
        return prepared, minimum if len(rows) == len(fids) else None
    noise = torch.as_tensor(problems.noise[rows]).to(minimum.noise)
    prepared = replace(prepared, model=study_model(prepared.model, minimum, torch.cat(covariances)[order], noise))
    return prepared, minimum if len(rows) == len(fids) else None


def fit_prepared(
    fids: np.ndarray,
    prepared: PreparedModel,
    *,
    reference: WaterReference | None = None,
    max_iter: int = 40,
    starts: Minimum | None = None,
    batch: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Fits:
    """Fit usable spectra with a model that is settled.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        ``n`` may be zero.
    prepared : PreparedModel
    reference : WaterReference, optional
        Of every spectrum, whose eddy currents are corrected already.
    starts : Minimum, optional
        Of all spectra, with other priors.
    batch : int, optional
        Spectra that are fitted at once; by default as many as suit the device.
    max_iter : int
        Most steps of a spectrum.
    progress : callable, optional
        Called with the number of spectra that were finished.
    """
    problems, device = _Problems.of(prepared, fids, reference), prepared.model.basis.device

    def fit_of(rows: np.ndarray) -> dict:
        problem = problems.rows(rows)
        minimum = _minimise(problem, max_iter, prepared.init, None if starts is None else starts.rows(rows))
        return _fit_batch(problem, minimum, prepared)

    parts, batches = [], problems.batches(np.arange(len(fids)), batch)
    for part in parallel_map(fit_of, batches, device=device):
        parts.append(part)
        if progress:
            progress(len(part["steps"]))
    parts = parts or [_fit_nothing(prepared)]
    order = np.argsort(np.concatenate([*batches, np.zeros(0, int)]))
    estimates: dict[str, Any] = {
        name: Estimate.joined([part.pop(name) for part in parts]).rows(order) for name in ("estimate", "population")
    }
    arrays = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    return Fits(
        model=prepared.to("cpu").model,
        fids=fids,
        water=reference,
        noise=problems.noise,
        nuisance=problems.states,
        **estimates,
        **arrays,
    )


def _likelihood_of(problem: Problem, minimum: Minimum) -> Likelihood:
    """Return the likelihoods of a batch at its minima, for the noise that explains the residual."""
    at_noise = replace(problem, noise=minimum.noise)
    gram, pull, _ = likelihood(at_noise, minimum.normal, problem.shares[minimum.strength])
    by_strength = evidence(at_noise, minimum.normal, minimum.x)
    return Likelihood(minimum.x, gram, pull, by_strength, minimum.noise / problem.noise)


def log_evidence(
    fids: np.ndarray, prepared: PreparedModel, reference: WaterReference | None = None, max_iter: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Laplace log evidence of a model for each spectrum, and its residual over noise, ``(n,)`` each.

    Models with the same window can be compared, whatever they take from a water reference: its correction changes
    phases in time only, and the noise that is compared with is that of the data as they are.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        Not corrected for eddy currents.
    prepared : PreparedModel
    reference : WaterReference, optional
        Of every spectrum.
    max_iter : int
        Most steps of a spectrum.
    """
    problems = _Problems.of(prepared, fids if reference is None else reference.corrected(fids), reference)
    problems = replace(problems, noise=_Problems.of(prepared, fids, None).noise)
    device = prepared.model.basis.device
    by_prior = 0.5 * torch.linalg.slogdet(prepared.model.prior_precision)[1]

    def evidence_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        problem = problems.rows(rows)
        minimum = _minimise(problem, max_iter, prepared.init)
        value = torch.logsumexp(evidence(replace(problem, noise=minimum.noise), minimum.normal, minimum.x), -1)
        n_real = 2 * (problem.target.shape[-1] - problem.free.shape[-1])
        value = value + by_prior - n_real * torch.log(minimum.noise)
        return value.cpu().numpy(), (minimum.noise / problem.noise).cpu().numpy()

    batches = problems.batches(np.arange(len(fids)))
    parts, order = list(parallel_map(evidence_of, batches, device=device)), np.argsort(np.concatenate(batches))
    return np.concatenate([part[0] for part in parts])[order], np.concatenate([part[1] for part in parts])[order]


@dataclass(frozen=True)
class _Problems:
    """Spectra in the window of a prepared model, with their noise, their states of the nuisances, and their line shapes
    from water if there are any."""

    prepared: PreparedModel
    spectra: np.ndarray
    noise: np.ndarray
    states: np.ndarray
    shape: np.ndarray | None

    @classmethod
    def of(cls, prepared: PreparedModel, fids: np.ndarray, reference: WaterReference | None) -> _Problems:
        window = prepared.model.window
        used = window.axes
        noise = noise_of(fids, used)
        shape = None if reference is None else reference.shape(window.time)
        spectra, operators = window.transform(fids), prepared.nuisance_operators
        states = np.zeros(len(fids), int) if operators is None else operators.choice(spectra, noise)
        return cls(prepared, spectra, noise, states, shape)

    def rows(self, rows: np.ndarray) -> Problem:
        """Return the fit of some spectra, of one state of the nuisances, as a problem."""
        part = None if self.shape is None else self.shape[rows]
        prepared, whitening = self.prepared, None
        baseline = prepared.baseline
        if prepared.nuisance_operators is not None:
            whitening, baseline = prepared.nuisance_operators.of_state(int(self.states[rows[0]]))
        return Problem.make(
            prepared.model,
            self.spectra[rows],
            self.noise[rows],
            baseline,
            _strengths(),
            part,
            whitening,
            None if prepared.population is None else np.log(prepared.population.strengths),
        )

    def batches(self, rows: np.ndarray, size: int | None = None) -> list[np.ndarray]:
        """Return rows in batches of one state each: of the same size on any machine, so that results are the same to
        the last digit."""
        size = size or (_BATCH if self.prepared.model.basis.device.type == "cpu" else _BATCH_ON_GPU)
        parts = [rows[self.states[rows] == state] for state in np.unique(self.states[rows])]
        return [part[first : first + size] for part in parts for first in range(0, len(part), size)]


def noise_of(fids: np.ndarray, used: Axes) -> np.ndarray:
    """Return the noise SD of FIDs ``(n, n_points)`` whose first points are used, ``(n,)``."""
    whole = used.with_points(fids.shape[-1])
    spec = fid_to_spec(fids)
    ends = noise_outside(fid_to_spec(fids[:, : used.n_points]), used)
    # Between lines there is noise only where these were acquired to their end.
    return np.where(filtered_noise(spec, whole), noise_outside(spec, whole), ends)


def minimum_of(prepared: PreparedModel, spectra: np.ndarray, noise: np.ndarray, max_iter: int) -> Minimum:
    """Minimise spectra in the window ``(n, n_window)`` with noise SDs ``(n,)`` from the prepared initial values."""
    problem = Problem.make(prepared.model, spectra, noise, prepared.baseline, _strengths())
    return _minimise(problem, max_iter, prepared.init)


def _strengths() -> list[float]:
    """Return the baseline's strengths of the table of priors."""
    return priors_table()["baseline"]["strengths"]


def _minimise(problem: Problem, max_iter: int, init: str, nearby: Minimum | None = None) -> Minimum:
    """Minimise from initial values of a kind, or from a minimum with other priors."""
    if nearby is not None:
        return minimise(problem, nearby.x, nearby.strength, max_iter=max_iter, held_steps=0, normal=nearby.normal)
    if init == "classical":
        start = classical_start(problem)
    else:
        # Networks are no import of a fit that has none.
        from .network_starts import start_with_network

        start = start_with_network(problem, init)
    strength = torch.full((len(start),), min(_FIRST_STRENGTH, len(problem.shares) - 1), device=start.device)
    return minimise(problem, start, strength, max_iter=max_iter)


def _fit_batch(problem: Problem, minimum: Minimum, prepared: PreparedModel) -> dict:
    """Return the arrays and estimates of :class:`Fits` of one batch."""
    at_noise = replace(problem, noise=minimum.noise)
    average = average_of(at_noise, minimum)
    fitted = problem.model.spectrum(minimum.x, problem.water)
    variance = parameter_covariance(problem, minimum).diagonal(dim1=-2, dim2=-1)
    tensors = {
        "x": minimum.x,
        "x_sd": variance.clamp(min=0).sqrt(),
        "misfit": minimum.noise / problem.noise,
        "weights": average.strengths,
        "variants": average.by_variant,
        "fitted": fitted,
        "metabolites_rms": metabolites_rms(problem, minimum.x),
        "steps": minimum.steps,
        "converged": minimum.converged,
        "cost": minimum.cost,
    }
    out: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    out["dimension"] = (out["weights"] * prepared.baseline.dimension(_strengths())).sum(-1)
    likelihoods, own = Likelihoods.of(at_noise, minimum, average), prepared.concentrations
    out["estimate"], out["population"] = (
        likelihoods.estimate(each) for each in (own, replace(own, prior="population"))
    )
    return out


def metabolites_rms(problem: Problem, x: torch.Tensor) -> torch.Tensor:
    """Return the root mean square of the metabolites' part of spectra per real channel, ``(b,)``."""
    model, alone = problem.model, x.clone()
    others = torch.as_tensor(model.components.kinds != "metabolite")
    alone[:, model.slices["log_amp"]] = alone[:, model.slices["log_amp"]].masked_fill(others.to(x.device), -1e3)
    return model.spectrum(alone, problem.water).abs().square().mean(-1).div(2).sqrt()


def _fit_nothing(prepared: PreparedModel) -> dict:
    """Return what :func:`_fit_batch` does, of no spectra."""
    model = prepared.model
    m = len(concentration_names(model.components))
    sizes = {
        "x": model.n_params,
        "x_sd": model.n_params,
        "weights": len(_strengths()),
        "variants": len(variants_of(model)),
        "fitted": model.window.n_window,
    }
    kinds = {"fitted": complex, "steps": int, "converged": bool}
    names = [*sizes, "misfit", "metabolites_rms", "steps", "converged", "cost", "dimension"]
    out: dict = {name: np.zeros((0, sizes[name]) if name in sizes else 0, kinds.get(name, float)) for name in names}
    vector, matrix = np.zeros((0, m)), np.zeros((0, m, m))
    nothing = Estimate(vector, matrix, vector, vector, vector, vector)
    return out | {"estimate": nothing, "population": nothing}
