"""Posterior and out-of-distribution score of fits, also where a weak parameter makes the covariance depend on the point
it is taken at."""

from __future__ import annotations

import numpy as np
import torch

from ..core import units
from ..core.metabolites import is_macromolecule
from ..physics.signal_model import SignalModel
from . import out_of_distribution, priors, uncertainty
from .batches import rows_per_batch
from .posterior import posterior
from .priors import Prior
from .quantification import Quantification

__all__ = ["assess"]

_WIDEST_PPM = 0.1  # doi 10.1002/mrm.27742: wider lines are not usable


def assess(result: Quantification, expected: Prior | None, source, relative) -> None:
    """Add posterior and out-of-distribution score to the result of the likelihood alone.

    ``source`` is 'volume' for a prior that is learnt from these fits, 'scaled' for one in their units, and anything
    else for one whose scale is to be found; ``relative`` multiplies the numbers of the latter.
    """
    model, m = result.model, len(result.names)
    free, cov = result.free[:, :m], result.cov[:, :m, :m]
    if isinstance(source, str) and source == "volume":
        expected = priors.learn(free[result.converged], cov[result.converged], result.names)
    elif expected is not None and source != "scaled":
        expected = expected.times(relative)
        expected = expected.times(priors.scale_to(expected, free, cov))
    if expected is not None:
        lower = np.concatenate(
            [np.full(m, -np.inf if model.shape.negative else 0.0), model.theta_bounds[0].cpu().numpy()]
        )
        lower[m:] = np.where(lower[m:] == 0, 0.0, -np.inf)  # limits far outside of what can be a spectrum say nothing
        upper = np.full(len(lower), np.inf)
        if expected.fwhm_hz is not None and not model.shape.gaussian:
            at = _offsets(model)["gamma"]
            upper[at : at + model.n_groups] = np.pi * expected.fwhm_hz[1]
        weak = _weak(result)
        result.posterior = posterior(expected, result.free, result.cov, lower, upper, rough=weak)
        _relinearise(result, np.flatnonzero(weak), lower, upper, source not in ("volume", "scaled"))
    blocks = {name: result.block(name) for name in ("gamma", "sigma", "eps") if name in model.sizes}
    group = _main_group(model, result.names)
    at, sd = _offsets(model), np.sqrt(np.clip(np.diagonal(result.cov, axis1=1, axis2=2), 0, None))
    gamma, gauss = blocks["gamma"][:, group] / np.pi, np.zeros(len(free))
    with np.errstate(invalid="ignore", divide="ignore"):
        gamma_sd = sd[:, at["gamma"] + group] / np.pi
        if "sigma" in blocks:
            # Gaussian widths are fitted as sigma**2; the sum of both widths is better known than either.
            gauss = 2 * np.sqrt(2 * np.log(2)) * np.sqrt(2) * blocks["sigma"][:, group] / (2 * np.pi)
        root = np.sqrt(0.2166 * gamma**2 + gauss**2)
        width, by_gamma = 0.5346 * gamma + root, 0.5346 + 0.2166 * gamma / np.maximum(root, 1e-12)
        variance = (by_gamma * gamma_sd) ** 2
        if "sigma" in blocks:
            i, j = at["gamma"] + group, at["variance"] + group
            by_variance = 4 * np.log(2) / np.pi**2 / (2 * np.maximum(root, 1e-12))
            part = by_gamma / np.pi
            full = (
                part**2 * result.cov[:, i, i]
                + 2 * part * by_variance * result.cov[:, i, j]
                + by_variance**2 * result.cov[:, j, j]
            )
            variance = np.where(full > 0, full, variance)
        shift = -blocks["eps"][:, group] / (2 * np.pi)
        shift_sd = sd[:, at["eps"] + group] / (2 * np.pi)
        result.ood_latent = out_of_distribution.latent_score(
            expected,
            free,
            cov,
            fwhm_hz=width,
            fwhm_sd=np.sqrt(variance),
            shift_hz=shift,
            shift_sd=shift_sd,
            widest_hz=_WIDEST_PPM * model.spec_freq_mhz,
        )
    result.ood_latent[~result.usable] = np.nan


_SAME_POINT, _DIVERGED = 0.3, 20.0  # SDs of the likelihood alone


_CURVED = 0.03  # relative SD of the best known metabolite from which on a spectrum is no longer linear in its widths


def _weak(result: Quantification) -> np.ndarray:
    """Return the spectra whose posterior is linearised again, bool ``(n,)``: weak ones, but not those of noise only."""
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.nanmin(np.where(result.conc > 0, result.crlb_sd / result.conc, np.inf), 1)
    return (best > _CURVED) & result.usable & result.converged & ~result.empty


def _relinearise(
    result: Quantification, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray, rescale: bool, passes: int = 2
) -> None:
    """Compute the posterior of weak spectra with the model linearised at the posterior, not at the maximum of the
    likelihood.

    Amplitude and width of a weak line are correlated, and the bound of an estimate that is too high by chance is too
    wide.
    """
    model, m = result.model, len(result.names)
    rows = rows[np.isfinite(result.posterior.point[rows]).all(1)]
    untouched = np.zeros(len(result.params), bool)
    untouched[rows] = True
    first, last = model.window
    # Less at once than for a fit: derivatives by everything are held together.
    chunk = max(1, rows_per_batch(model, model.time.device) // 2)
    for _ in range(passes if len(rows) else 0):
        estimates, cov = np.empty((len(rows), len(lower))), np.empty((len(rows), len(lower), len(lower)))
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            spec = units.fid_to_spec(torch.as_tensor(result.fids[rows[part]]).to(model.basis))[:, first:last]
            point = torch.as_tensor(result.posterior.point[rows[part]]).to(model.time)
            conc, theta = point[:, :m], point[:, m:]
            sensitivities = uncertainty.sensitivities(model, theta, conc)
            noise = torch.as_tensor(result.noise_sd[rows[part]]).to(model.time)
            unit = uncertainty.covariance(sensitivities @ sensitivities.mT, torch.ones_like(noise))
            explained = (conc[:, None] @ sensitivities[:, :m])[:, 0].unflatten(-1, (-1, 2))
            remainder = model.eliminate_baseline(spec) - torch.view_as_complex(explained)
            everything = torch.ones_like(point, dtype=torch.bool)
            free, moved = uncertainty.without_bounds(
                sensitivities, remainder, conc, everything, unit, torch.full_like(noise, torch.inf)
            )
            estimates[part] = torch.cat([free, theta + moved], -1).cpu().numpy()
            cov[part] = (unit * noise[:, None, None] ** 2).cpu().numpy()
        prior = result.posterior.prior
        if rescale and len(rows) > len(result.params) // 2:
            prior = prior.times(priors.scale_to(prior, estimates[:, :m], cov[:, :m, :m]))
            result.posterior.prior = prior
        again = posterior(prior, estimates, cov, lower, upper, near=result.posterior.taken(rows))
        with np.errstate(invalid="ignore", over="ignore"):
            own = np.sqrt(np.diagonal(result.cov[rows], axis1=1, axis2=2))
            good = (np.abs(again.point - result.posterior.point[rows]) < _DIVERGED * own).all(1)
            far = np.abs(again.point - result.posterior.point[rows]) > _SAME_POINT * np.sqrt(
                np.diagonal(cov, axis1=1, axis2=2)
            )
        result.posterior.update(rows[good], again.taken(good))
        untouched[rows[good]] = False
        # Where the posterior has not moved, another linearisation gives the same.
        rows = rows[good & far.any(1)]
        if not len(rows):
            break
    # Where that diverged, the rough posterior of the first pass is completed.
    rows = np.flatnonzero(untouched)
    if len(rows):
        near = result.posterior.taken(rows)
        finished = posterior(result.posterior.prior, result.free[rows], result.cov[rows], lower, upper, near=near)
        result.posterior.update(rows, finished)


def _offsets(model: SignalModel) -> dict[str, int]:
    """Return the index in the covariance at which each block of nonlinear parameters begins."""
    out, at = {}, model.n_metabs
    for name, size in model.theta_sizes.items():
        out[name] = at
        at += size
    return out


def _main_group(model: SignalModel, names: list[str]) -> int:
    """Return the group that most metabolites are in; macromolecules do not count."""
    groups = [group for group, name in zip(model.groups, names) if not is_macromolecule(name)] or list(model.groups)
    return max(sorted(set(groups)), key=groups.count)
