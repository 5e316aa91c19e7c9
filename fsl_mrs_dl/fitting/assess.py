"""Posterior and out-of-distribution score of fits, for weak spectra with the model linearised at the posterior."""

from __future__ import annotations

import numpy as np
import torch

from ..core import units
from ..core.fids import zero_filling
from ..core.metabolites import is_macromolecule
from ..physics.signal_model import SignalModel
from . import out_of_distribution, priors, uncertainty, verdict
from .batches import rows_per_batch
from .posterior import Posterior, posterior
from .priors import Prior
from .quantification import Quantification

__all__ = ["assess"]


def assess(result: Quantification, expected: Prior | None, source: str, relative: np.ndarray | float) -> None:
    """Add posterior and out-of-distribution score to fits by the likelihood alone.

    Parameters
    ----------
    result : Quantification
        Changed in place.
    expected : Prior, optional
        Prior of the concentrations; without one there is no posterior.
    source : str
        'volume' for a prior that is learnt from these fits, 'scaled' for one in their units, 'population' for one whose
        scale is estimated.
    relative : float or ndarray ``(n_metabs,)``
        Factor of the numbers of a prior of 'population'.
    """
    model, m = result.model, len(result.names)
    free, cov = result.free[:, :m], result.cov[:, :m, :m]
    if source == "volume":
        expected = priors.learn(free[result.converged], cov[result.converged], result.names)
    elif expected is not None and source != "scaled":
        expected = expected.times(relative)
        expected = expected.times(priors.scale_to(expected, free, cov))
    if expected is not None:
        lower, upper = _limits(model, expected)
        weak = _weak(result)
        whole = posterior(expected, result.free, result.cov, lower, upper, rough=weak)
        result.posterior = whole
        _relinearise(result, whole, np.flatnonzero(weak), lower, upper, source not in ("volume", "scaled"))
    group = _main_group(model, result.names)
    with np.errstate(invalid="ignore", divide="ignore"):
        width, width_sd = _width_hz(result, group)
        sd = np.sqrt(np.clip(np.diagonal(result.cov, axis1=1, axis2=2), 0, None))
        result.ood_latent = out_of_distribution.latent_score(
            expected,
            free,
            cov,
            fwhm_hz=width,
            fwhm_sd=width_sd,
            shift_hz=-result.block("eps")[:, group] / (2 * np.pi),
            shift_sd=sd[:, _offsets(model)["eps"] + group] / (2 * np.pi),
            widest_hz=verdict.WIDEST_PPM * model.spec_freq_mhz,
        )
    result.ood_latent[~result.fitted] = np.nan
    if model.baseline.mode != "off":
        result.ood_latent /= verdict.limits_for("fsl-mrs", model.baseline.mode).estimates


def _limits(model: SignalModel, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper limits ``(k,)`` of concentrations and nonlinear parameters in a posterior."""
    lower = np.concatenate(
        [
            np.full(model.n_metabs, -np.inf if model.shape.negative else 0.0),
            model.theta_bounds[0].cpu().numpy(),
        ]
    )
    # Of the bounds of a fit only those at zero are physical.
    lower[model.n_metabs :] = np.where(lower[model.n_metabs :] == 0, 0.0, -np.inf)
    upper = np.full(len(lower), np.inf)
    if prior.fwhm_hz is not None and not model.shape.gaussian:
        gamma = _offsets(model)["gamma"]
        upper[gamma : gamma + model.n_groups] = np.pi * prior.fwhm_hz[1]
    return lower, upper


def _width_hz(result: Quantification, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the full width at half maximum of a group beyond the basis set's, and its SD, Hz, ``(n,)`` each."""
    model, offsets = result.model, _offsets(result.model)
    blocks = {name: result.block(name) for name in ("gamma", "sigma") if name in model.sizes}
    gamma, gauss = blocks["gamma"][:, group] / np.pi, np.zeros(len(result.params))
    sd = np.sqrt(np.clip(np.diagonal(result.cov, axis1=1, axis2=2), 0, None))
    gamma_sd = sd[:, offsets["gamma"] + group] / np.pi
    if "sigma" in blocks:
        # Gaussian widths are fitted as sigma**2; the sum of both widths is better determined than either.
        gauss = 2 * np.sqrt(2 * np.log(2)) * np.sqrt(2) * blocks["sigma"][:, group] / (2 * np.pi)
    root = np.sqrt(0.2166 * gamma**2 + gauss**2)
    width, by_gamma = 0.5346 * gamma + root, 0.5346 + 0.2166 * gamma / np.maximum(root, 1e-12)
    variance = (by_gamma * gamma_sd) ** 2
    if "sigma" in blocks:
        i, j = offsets["gamma"] + group, offsets["variance"] + group
        by_variance = 4 * np.log(2) / np.pi**2 / (2 * np.maximum(root, 1e-12))
        part = by_gamma / np.pi
        full = (
            part**2 * result.cov[:, i, i]
            + 2 * part * by_variance * result.cov[:, i, j]
            + by_variance**2 * result.cov[:, j, j]
        )
        variance = np.where(full > 0, full, variance)
    return width, np.sqrt(variance)


_SAME_POINT, _DIVERGED = 0.3, 20.0  # SDs by the likelihood alone
_CURVED = (
    0.03  # relative SD of the best determined metabolite from which on a spectrum is no longer linear in its widths
)


def _weak(result: Quantification) -> np.ndarray:
    """Tell which spectra are weak, but not noise only, bool ``(n,)``: their posterior is linearised again."""
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.nanmin(np.where(result.conc > 0, result.crlb_sd / result.conc, np.inf), 1)
    return (best > _CURVED) & result.fitted & result.converged & ~result.empty


def _relinearise(
    result: Quantification,
    whole: Posterior,
    rows: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    rescale: bool,
    passes: int = 2,
) -> None:
    """Compute the posterior of weak spectra with the model linearised at the posterior, not at the maximum of the
    likelihood; ``whole`` is changed in place.

    Amplitude and width of a weak line are correlated, and the bound of an estimate that is too high by chance is too
    wide.
    """
    m = len(result.names)
    rows = rows[np.isfinite(whole.point[rows]).all(1)]
    unfinished = np.zeros(len(result.params), bool)
    unfinished[rows] = True
    for _ in range(passes if len(rows) else 0):
        estimates, cov = _linearised_at(result, rows, whole.point[rows])
        if rescale and len(rows) > len(result.params) // 2:
            whole.prior = whole.prior.times(priors.scale_to(whole.prior, estimates[:, :m], cov[:, :m, :m]))
        again = posterior(whole.prior, estimates, cov, lower, upper, near=whole.select(rows))
        with np.errstate(invalid="ignore", over="ignore"):
            own = np.sqrt(np.diagonal(result.cov[rows], axis1=1, axis2=2))
            distance = np.abs(again.point - whole.point[rows])
            good = (distance < _DIVERGED * own).all(1)
            far = distance > _SAME_POINT * np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
        whole.update(rows[good], again.select(good))
        unfinished[rows[good]] = False
        # Where the posterior has not moved, another linearisation gives the same.
        rows = rows[good & far.any(1)]
        if not len(rows):
            break
    # Where that diverged, the approximate posterior of the first pass is completed.
    rows = np.flatnonzero(unfinished)
    if len(rows):
        whole.update(
            rows,
            posterior(whole.prior, result.free[rows], result.cov[rows], lower, upper, near=whole.select(rows)),
        )


def _linearised_at(result: Quantification, rows: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates without bounds ``(n_rows, k)`` and their covariance ``(n_rows, k, k)`` with the model linearised
    at ``points`` ``(n_rows, k)``."""
    model, m = result.model, len(result.names)
    first, last = model.window
    estimates, cov = np.empty(points.shape), np.empty((*points.shape, points.shape[1]))
    # Fewer at once than in a fit, because derivatives by all parameters are held together.
    chunk = max(1, rows_per_batch(model, model.time.device) // 2)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        spec = units.fid_to_spec(torch.as_tensor(result.fids[rows[part]]).to(model.basis))[:, first:last]
        point = torch.as_tensor(points[part]).to(model.time)
        conc, theta = point[:, :m], point[:, m:]
        sensitivities = uncertainty.sensitivities(model, theta, conc)
        filling = zero_filling(result.fids[rows[part]])
        noise = torch.as_tensor(result.noise_sd[rows[part]] * np.sqrt(filling)).to(model.time)
        unit = uncertainty.covariance(sensitivities @ sensitivities.mT, torch.ones_like(noise))
        explained = (conc[:, None] @ sensitivities[:, :m])[:, 0].unflatten(-1, (-1, 2))
        remainder = model.eliminate_baseline(spec) - torch.view_as_complex(explained)
        everything = torch.ones_like(point, dtype=torch.bool)
        free, moved = uncertainty.without_bounds(
            sensitivities, remainder, conc, everything, unit, torch.full_like(noise, torch.inf)
        )
        estimates[part] = torch.cat([free, theta + moved], -1).cpu().numpy()
        cov[part] = (unit * noise[:, None, None] ** 2).cpu().numpy()
    return estimates, cov


def _offsets(model: SignalModel) -> dict[str, int]:
    """Return the index in the covariance at which each block of nonlinear parameters begins."""
    out, at = {}, model.n_metabs
    for name, size in model.theta_sizes.items():
        out[name] = at
        at += size
    return out


def _main_group(model: SignalModel, names: list[str]) -> int:
    """Return the group of most metabolites; macromolecules do not count."""
    groups = [group for group, name in zip(model.groups, names) if not is_macromolecule(name)] or list(model.groups)
    return max(sorted(set(groups)), key=groups.count)
