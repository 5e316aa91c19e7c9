"""Fit of spectra with the in-vivo model: start, minimise, average over strengths of the baseline, estimate
amplitudes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from ...core.axes import Axes
from ...core.noise import noise_outside
from ...core.units import fid_to_spec
from ...physics.coarse_window import make_window, points_with_signal
from ...physics.in_vivo_components import build_components, priors_table
from ...physics.in_vivo_model import InVivoModel, make_in_vivo_model
from ...physics.smooth_baseline import SmoothBaseline, make_smooth_baseline
from .estimates import Estimate, estimate_amplitudes, parameter_covariance
from .solver import Minimum, Problem, evidence, minimise
from .starts import classical_start
from .study import study_model
from .water_reference import WaterReference, water_reference

__all__ = ["Acquisition", "Fits", "fit_spectra", "smooth_baseline_of"]

_BATCH = 256  # spectra of one batch
_STUDY_SPECTRA = 64  # spectra that a study's priors are learnt from, at most
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
    """

    te_s: float
    tr_s: float
    mm: str = "brain"
    ppmlim: tuple[float, float] = (0.2, 4.2)
    line_shape: bool = True
    learn: bool = True


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
    dimension : ndarray ``(n,)``
        Effective dimension of the baseline.
    fitted, baseline : complex ndarray ``(n, n_window)``
        In the window; ``fitted`` without baseline.
    steps, converged, cost : ndarray ``(n,)``
    estimates : dict of str to Estimate
        By prior of the concentrations.
    """

    model: InVivoModel
    fids: np.ndarray
    water: WaterReference | None
    x: np.ndarray
    x_sd: np.ndarray
    noise: np.ndarray
    misfit: np.ndarray
    weights: np.ndarray
    dimension: np.ndarray
    fitted: np.ndarray
    baseline: np.ndarray
    steps: np.ndarray
    converged: np.ndarray
    cost: np.ndarray
    estimates: dict[str, Estimate]

    @property
    def spectra(self) -> np.ndarray:
        """The data in the window, complex ``(n, n_window)``."""
        return self.model.window.transform(self.fids)


def fit_spectra(
    fids: np.ndarray,
    basis: np.ndarray,
    names: tuple[str, ...],
    axes: Axes,
    acquisition: Acquisition,
    *,
    water: np.ndarray | None = None,
    priors: tuple[str, ...] = ("wide", "population"),
    max_iter: int = 40,
    device: str | torch.device = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Fits:
    """Fit usable spectra with the in-vivo model.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
    basis : complex ndarray ``(n_metabs, n_points)``
        On the same time grid.
    names : tuple of str
        Of the basis spectra.
    axes : Axes
    acquisition : Acquisition
    water : complex ndarray ``(n, n_points)``, optional
        Water references: eddy currents are corrected, and the line shape is taken from them and refined.
    priors : tuple of str
        Estimates to make, see :data:`fsl_mrs_dl.fitting.in_vivo.estimates.CONCENTRATION_PRIORS`.
    max_iter : int
        Most steps of a spectrum.
    progress : callable, optional
        Called with the number of spectra that were finished.

    Raises
    ------
    OptionError
    """
    reference = None
    if water is not None:
        reference = water_reference(water, axes)
        fids = reference.corrected(fids)
    n_used = points_with_signal(fids, axes, acquisition.ppmlim)
    used = axes.with_points(n_used)
    window = make_window(used, acquisition.ppmlim)
    components = build_components(basis, names, axes, te_s=acquisition.te_s, tr_s=acquisition.tr_s, mm=acquisition.mm)
    model = make_in_vivo_model(
        components,
        window,
        line_shape=acquisition.line_shape,
        from_water=water is not None,
        device=device,
    )
    about = priors_table()["baseline"]
    baseline = smooth_baseline_of(window.ppm, axes.nucleus)
    noise = noise_outside(fid_to_spec(fids[:, :n_used]), used)
    spectra = window.transform(fids)
    shape = None if reference is None else reference.shape(window.time)

    def problem_of(rows: np.ndarray) -> Problem:
        part = None if shape is None else shape[rows]
        return Problem.make(model, spectra[rows], noise[rows], baseline, about["strengths"], part)

    starts = None
    if acquisition.learn and len(fids) >= priors_table()["learning"]["least_spectra"]:
        rows = np.unique(np.linspace(0, len(fids) - 1, min(len(fids), _STUDY_SPECTRA)).astype(int))
        problem = problem_of(rows)
        first_pass = _minimise(problem, max_iter)
        model = study_model(problem, first_pass)
        starts = first_pass if len(rows) == len(fids) else None
    parts = []
    for first in range(0, len(fids), _BATCH):
        rows = np.arange(first, min(first + _BATCH, len(fids)))
        problem = problem_of(rows)
        minimum = _minimise(problem, max_iter, starts)
        parts.append(_fit_batch(problem, minimum, baseline, about["strengths"], priors))
        if progress:
            progress(len(rows))
    estimates = {name: Estimate.joined([part.pop(name) for part in parts]) for name in priors}
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Fits(model=_on_cpu(model), fids=fids, water=reference, noise=noise, estimates=estimates, **arrays)


def smooth_baseline_of(ppm: np.ndarray, nucleus: str) -> SmoothBaseline:
    """Return the baseline of the table of priors at points ``ppm``."""
    about = priors_table()["baseline"]
    lengths = tuple(map(tuple, about["lengths_ppm"]))
    return make_smooth_baseline(ppm, lengths, tails=(about["tail_ppm"],) if nucleus == "1H" else ())


def _minimise(problem: Problem, max_iter: int, nearby: Minimum | None = None) -> Minimum:
    """Minimise from the classical start, or from a minimum with other priors."""
    if nearby is not None:
        return minimise(problem, nearby.x, nearby.strength, max_iter=max_iter, held_steps=0)
    start = classical_start(problem)
    strength = torch.full((len(start),), min(_FIRST_STRENGTH, len(problem.shares) - 1), device=start.device)
    return minimise(problem, start, strength, max_iter=max_iter)


def _fit_batch(problem: Problem, minimum: Minimum, baseline: SmoothBaseline, strengths, priors) -> dict:
    """Return the arrays of :class:`Fits` of one batch, and its estimates by the names of their priors."""
    at_noise = replace(problem, noise=minimum.noise)
    weights = torch.softmax(evidence(at_noise, minimum.normal, minimum.x), -1)
    fitted = problem.model.spectrum(minimum.x, problem.water)
    residual = problem.spectra - fitted
    share = problem.shares[minimum.strength].to(residual.dtype)
    smooth = ((residual @ problem.vectors.conj()) * share) @ problem.vectors.mT
    variance = parameter_covariance(problem, minimum).diagonal(dim1=-2, dim2=-1)
    tensors = {
        "x": minimum.x,
        "x_sd": variance.clamp(min=0).sqrt(),
        "misfit": minimum.noise / problem.noise,
        "weights": weights,
        "fitted": fitted,
        "baseline": smooth + residual - problem.without_free(residual),
        "steps": minimum.steps,
        "converged": minimum.converged,
        "cost": minimum.cost,
    }
    out = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    out["dimension"] = (out["weights"] * baseline.dimension(strengths)).sum(-1)
    return out | {name: estimate_amplitudes(at_noise, minimum, weights, name) for name in priors}


def _on_cpu(model: InVivoModel) -> InVivoModel:
    tensors = {
        each.name: getattr(model, each.name).cpu()
        for each in fields(model)
        if isinstance(getattr(model, each.name), torch.Tensor)
    }
    return replace(model, **tensors)
