"""Fits of FSL-MRS's objects with the in-vivo model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import DataError, OptionError
from ..fitting.options import FitOptions
from .in_vivo_result import InVivoRecipe, InVivoSolution, axes_of
from .solution import Solution, check_alike

if TYPE_CHECKING:
    from ..fitting.in_vivo.prepared import PreparedModel
    from ..fitting.in_vivo.result import InVivoFit

__all__ = ["Study", "fit_spectra", "solutions"]


@dataclass(frozen=True)
class Study:
    """All that the fits of a study share."""

    recipe: InVivoRecipe
    prepared: PreparedModel


def fit_spectra(spectra: list, options: FitOptions, study: Study | None = None) -> tuple[InVivoFit, Study]:
    """Fit MRS objects that share everything but the FID and its water reference.

    Parameters
    ----------
    spectra : list of MRS
        Those with a water reference are corrected by it, and have its line shape, where the fit is better so.
    options : FitOptions
    study : Study, optional
        Of an earlier batch; by default priors are learnt from these spectra, if there are enough.

    Raises
    ------
    DataError, OptionError
    """
    from ..fitting.in_vivo.quantify import fit_with_prepared

    check_alike(spectra)
    fids = np.stack([mrs.FID for mrs in spectra]).astype(complex)
    water = _water_of(spectra)
    if study is None:
        study = _study_of(spectra[0], fids, water, options)
    return fit_with_prepared(fids, study.prepared, water=water, max_iter=options.most_steps_in_vivo), study


def _water_of(spectra: list) -> np.ndarray | None:
    """Return the water reference of every object, complex ``(n, n_points)``; None without, or if it is none of
    unsuppressed water: FSL-MRS scales by whatever it is."""
    from ..core.fids import usable_fids
    from ..fitting.data import check_water, water_of_length

    if any(mrs.H2O is None for mrs in spectra):
        return None
    axes = axes_of(spectra[0])
    water = np.concatenate([water_of_length(mrs.H2O[None], axes.n_points) for mrs in spectra]).astype(complex)
    usable = usable_fids(water)
    try:
        check_water(water[usable], axes, "water", least=0.5)
    except DataError:
        return None
    return water if usable.any() else None


def _study_of(mrs, fids: np.ndarray, water: np.ndarray | None, options: FitOptions) -> Study:
    from ..core.device import choose_device
    from ..core.fids import usable_fids
    from ..fitting.in_vivo.fit import Acquisition
    from ..fitting.in_vivo.quantify import concentration_prior_of
    from ..fitting.in_vivo.settle import settled
    from ..fitting.in_vivo.water_reference import water_reference
    from ..physics.in_vivo_components import priors_table

    usual = priors_table()["usual"]
    recipe = _recipe_of(mrs, options, usual)
    basis, names = recipe.basis_of(mrs)
    assert options.ppmlim is not None  # FSL-MRS always has a window
    axes_of(mrs).check_window(options.ppmlim)
    acquisition = Acquisition(
        te_s=recipe.te_s,
        tr_s=recipe.tr_s,
        mm=recipe.mm,
        ppmlim=options.ppmlim,
        init=options.init or "classical",
        concentrations=concentration_prior_of(options),
    )
    usable = usable_fids(fids)
    # Without a usable spectrum the model is needed for the names only.
    reference = None if water is None or not usable.any() else water_reference(water[usable], axes_of(mrs))
    fids = fids[usable] if usable.any() else basis.sum(0)[None]
    prepared, _ = settled(
        fids,
        basis,
        names,
        axes_of(mrs),
        acquisition,
        reference=reference,
        corrected_before=options.eddy_currents_corrected,
        device=choose_device(options.device),
        max_iter=options.most_steps_in_vivo,
    )
    recipe = replace(recipe, moved=not prepared.places_note)
    return Study(recipe, replace(prepared.with_whole_baseline(), basis_scale=np.ones(len(names))))


def _recipe_of(mrs, options: FitOptions, usual: dict) -> InVivoRecipe:
    """Return the recipe of a study's components.

    Raises
    ------
    OptionError
        If the basis set is not of 1H spectra of the brain, or has the macromolecules already.
    """
    from ..fitting.in_vivo.quantify import is_in_vivo
    from ..io.basis import Basis
    from ..physics.in_vivo_components import MACROMOLECULE_PRESETS
    from ..physics.macromolecules import add_macromolecules

    axes, names, mm = axes_of(mrs), tuple(mrs.names), options.mm or "brain"
    basis = Basis(mrs.basis.T, names, axes.dwelltime, axes.spec_freq_mhz, axes.nucleus)
    if not is_in_vivo(basis):
        raise OptionError(
            f"has priors of 1H spectra of the brain; the basis set is of {axes.nucleus} with {', '.join(names[:5])}",
            option="spectral_model",
            value="in-vivo",
            remedy="choose fsl-mrs",
        )
    recipe = InVivoRecipe(
        names=names,
        te_s=usual["te_s"] if options.echo_time_s is None else options.echo_time_s,
        tr_s=usual["tr_s"] if options.repetition_time_s is None else options.repetition_time_s,
        mm=mm if mm in MACROMOLECULE_PRESETS else "brain",
    )
    if mm in MACROMOLECULE_PRESETS:
        return recipe
    whole = add_macromolecules(basis, mm)
    return replace(recipe, pattern_names=whole.names[len(names) :], pattern=whole.fids[len(names) :])


def solutions(fit: InVivoFit, study: Study, options: FitOptions) -> list[Solution]:
    """Return the solution of each spectrum."""
    from ..fitting.in_vivo.serialise import plain_in_vivo_row
    from ..results.fit_results import FitResults

    rows, recipe = np.flatnonzero(fit.fitted), study.recipe
    params, cov = _fsl_mrs_parameters(fit, rows, options.estimate)
    baselines = fit.model_fids("baseline", rows) if len(rows) else np.zeros((0, fit.model.n_points))
    snr, width = FitResults(fit, None, estimate=options.estimate).quality
    own = fit.signals
    signals, place = replace(own, fids=np.zeros((0, 0))), dict(zip(rows.tolist(), range(len(rows))))
    about = {
        "spectral_model": "in-vivo",
        "init": fit.init,
        "estimate": options.estimate,
        "mm": options.mm or "brain",
        "echo_time_s": recipe.te_s,
        "repetition_time_s": recipe.tr_s,
        "prior": fit.concentrations.prior,
        "soft_constraints": fit.constraints,
        "water_reference": study.prepared.water_note,
    }
    line_shape, eddy_phase = fit.water_shape, fit.eddy_phase
    out, nothing = [], np.full(fit.model.n_points, np.nan, complex)
    for row in range(len(fit.x)):
        at = place.get(row)
        in_vivo = InVivoSolution(
            recipe=recipe,
            signals=signals,
            dimension=float(fit.baseline_dimension[row]),
            x=None if at is None else fit.x[row],
            cov=np.full((params.shape[1],) * 2, np.nan) if at is None else cov[at],
            baseline=nothing if at is None else baselines[at],
            snr=snr[row],
            width_hz=width[row],
            line_shape=None if line_shape is None else line_shape[row],
            eddy_phase=None if eddy_phase is None else eddy_phase[row],
        )
        dl = about | {
            "converged": bool(fit.converged[row]),
            "n_iter": int(fit.n_iter[row]),
            "misfit": float(fit.misfit[row]),
            "ood_score": float(fit.ood[row]),
            "baseline_dimension": in_vivo.dimension,
        }
        plain = None if at is None else plain_in_vivo_row(fit, row)
        out.append(Solution(options, None if at is None else params[at], dl, plain, in_vivo))
    return out


def _fsl_mrs_parameters(fit: InVivoFit, rows: np.ndarray, estimate: str) -> tuple[np.ndarray, np.ndarray]:
    """Return FSL-MRS's parameter vectors of usable spectra ``(n, k)`` and their covariance ``(n, k, k)``.

    Correlations are those at the minimum, where concentrations are logarithms; variances and covariances of
    concentrations are those of the estimate.
    """
    from ..fitting.in_vivo.spread import parameter_covariances

    conc, conc_cov = (values[rows] for values in fit.estimate(estimate))
    linear, shift = _linear_parts(fit, rows)
    blocks = {name: fit.block(name)[rows] for name in ("gamma", "sigma", "phi0", "phi1")}
    eps = -2 * np.pi * np.einsum("nkp,np->nk", shift, fit.x[rows])
    n, m = conc.shape
    coefficient = np.tile([1.0, 0.0], (n, 1))
    params = np.concatenate(
        [conc, blocks["gamma"], blocks["sigma"], eps, blocks["phi0"], blocks["phi1"], coefficient], 1
    )
    cov = (
        linear @ parameter_covariances(fit, rows) @ linear.transpose(0, 2, 1)
        if n
        else np.zeros((0, 2 * m + 4, 2 * m + 4))
    )
    k = linear.shape[1]
    out = np.zeros((n, k + 2, k + 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2)).copy()
        correlation = cov / (sd[:, :, None] * sd[:, None])
    sd[:, :m] = np.sqrt(np.clip(np.diagonal(conc_cov, axis1=1, axis2=2), 0, None))
    out[:, :k, :k] = correlation * sd[:, :, None] * sd[:, None]
    out[:, :m, :m] = conc_cov
    return params, out


def _linear_parts(fit: InVivoFit, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return derivatives of FSL-MRS's parameters by those of the model ``(n, k, p)``, concentrations as logarithms,
    and those of the shifts (Hz) alone ``(n, m, p)``."""
    from ..physics.in_vivo_signals import macromolecule_shares

    model, m = fit.fitted_model, len(fit.names)
    s, n_linear, n = model.slices, model.n_linear, len(rows)
    n_lines = len(model.components.names)
    # Each concentration by the amplitudes of its components.
    weight = np.zeros((n, m, n_lines))
    weight[:, np.arange(n_linear), np.arange(n_linear)] = 1.0
    if m > n_linear:
        amplitude = np.exp(fit.x[rows][:, s["log_amp"]][:, n_linear:]) * macromolecule_shares(model.components)
        weight[:, n_linear, n_linear:] = amplitude / amplitude.sum(1, keepdims=True)
    linear = np.zeros((n, 2 * m + 4, fit.x.shape[1]))
    linear[:, :m, s["log_amp"]] = weight
    linear[:, m, s["gamma"]] = fit.block("gamma")[rows] + model.least_gamma
    linear[:, m + 1, s["variance"]] = 0.5 * fit.block("sigma")[rows]
    shift = np.zeros((n, m, fit.x.shape[1]))
    shift[:, :, s["shift"]] = 1.0
    shift[:, :, s["own_shift"]] = weight
    linear[:, m + 2 : 2 * m + 2] = -2 * np.pi * shift
    linear[:, 2 * m + 2, s["phi0"]] = 1.0
    linear[:, 2 * m + 2, s["phi1"]] = -model.pivot
    linear[:, 2 * m + 3, s["phi1"]] = 1.0
    return linear, shift
