"""Fit of spectra in batches whose size suits the device."""

from __future__ import annotations

import numpy as np
import torch

from ..core import units
from ..core.fids import zero_filling
from ..core.metabolites import is_macromolecule
from ..core.noise import noise_outside, quiet_points
from ..physics.signal_model import SignalModel
from . import out_of_distribution, uncertainty, verdict
from .free_lines import fit_lines
from .initialisation import InitialValues
from .optimise import holds_noise_only, with_signs_of_the_data
from .quantification import Quantification

__all__ = ["rows_per_batch", "fit_rows", "prepare_network_answers"]


def rows_per_batch(model: SignalModel, device: torch.device) -> int:
    """Return the number of spectra fitted at once: enough to use all cores, few enough to stay in cache or memory."""
    if model.shape.free_shift:
        # Derivatives by every metabolite's shift need whole FIDs at once.
        return model.rows_in_cache(device)
    budget = 2e7 if device.type == "cpu" else 2e9
    width = model.window[1] - model.window[0]
    return max(1, int(budget / (model.n_metabs * width * model.basis.element_size())))


def fit_rows(
    result: Quantification,
    index: np.ndarray,
    *,
    initial_values: InitialValues,
    max_iter: int,
    tolerance: float,
    network=None,
) -> None:
    """Fit the rows ``index`` of ``result.fids`` and write their estimates into ``result``.

    ``network`` is one whose own concentrations are written, too.
    """
    model = result.model
    first, last = model.window
    filling = zero_filling(result.fids[index])
    fid, filled = torch.as_tensor(result.fids[index]).to(model.basis), torch.as_tensor(filling).to(model.time)
    whole = units.fid_to_spec(fid)
    spec = whole[:, first:last]
    solution = fit_lines(spec, model, result.names, initial_values, max_iter, tolerance)
    if model.shape.negative:
        solution = with_signs_of_the_data(model, solution)
    theta, conc = solution.theta, solution.conc
    modelled = model.join_metabolites(theta, conc)
    coefficients = model.baseline_coefficients(spec - modelled)
    residual = spec - modelled - coefficients @ model.regressors.mT.to(coefficients)
    noise = uncertainty.noise_from_residual(model, residual, conc, filled)
    independent = noise * filled.sqrt()
    unit = uncertainty.covariance(solution.information, torch.ones_like(noise))
    cov = unit * independent[:, None, None] ** 2
    held = torch.cat([(conc == 0) & (not model.shape.negative), theta <= model.theta_bounds[0]], -1)
    free, moved = conc.clone(), torch.zeros_like(theta)
    bound = held.any(-1).nonzero()[:, 0]
    if len(bound):
        rows = uncertainty.sensitivities(model, theta[bound], conc[bound])
        remainder = model.eliminate_baseline((spec - modelled)[bound])
        free[bound], moved[bound] = uncertainty.without_bounds(
            rows, remainder, conc[bound], held[bound], unit[bound], independent[bound]
        )
    result.free[index] = torch.cat([free, theta + moved], -1).cpu().numpy()
    result.params[index] = model.pack(theta, conc, coefficients).cpu().numpy()
    result.cov[index] = cov.cpu().numpy()
    result.noise_sd[index] = noise.cpu().numpy()
    result.noise_outside_sd[index] = noise_outside(whole.cpu().numpy(), model.axes)
    result.ood_residual[index] = out_of_distribution.residual_score(
        residual.cpu().numpy(),
        result.noise_sd[index],
        result.noise_outside_sd[index],
        ppm_per_point=model.axes.ppm_per_point,
        n_outside=int(quiet_points(model.axes).sum()),
        filled=filling,
    )
    metabolites = torch.as_tensor([not is_macromolecule(name) for name in result.names]).to(conc)
    signal = modelled if metabolites.all() else model.join_metabolites(theta, conc * metabolites)
    _write_misfit(result, index, (signal.abs() ** 2).mean(-1).div(2).sqrt().cpu().numpy(), filling)
    if network is not None:
        _write_network_answers(result, index, network, spec)
    result.empty[index] = holds_noise_only(model.eliminate_baseline(spec), solution.cost, model, filled).cpu().numpy()
    result.cost[index] = solution.cost.cpu().numpy()
    result.converged[index] = solution.converged.cpu().numpy() & result.determined[index]
    result.n_iter[index] = solution.n_iter.cpu().numpy()
    failed = index[~np.isfinite(result.cost[index])]
    result.params[failed] = np.nan
    result.free[failed] = np.nan
    result.ood_residual[failed] = np.nan
    result.fitted[failed] = False


def _write_misfit(result: Quantification, index: np.ndarray, signal_rms: np.ndarray, filling: np.ndarray) -> None:
    """Write the misfit of the rows ``index``, whose metabolites have this root mean square and which are filled with
    zeros by these factors, against realistic spectra's."""
    model = result.model
    limits = verdict.limits_for("fsl-mrs", model.baseline.mode)
    n_outside = int(quiet_points(model.axes).sum())
    share = verdict.unexplained(
        result.noise_sd[index],
        result.noise_outside_sd[index],
        signal_rms,
        n_window=int(np.ptp(model.window)) / filling,
        n_outside=n_outside / filling,
    )
    result.unexplained[index] = share
    result.misfit_score[index] = verdict.misfit_score(limits, result.misfit[index], share)
    # A fit without a baseline is one of simulations or phantoms: it is held to the noise.
    if model.baseline.mode != "off":
        result.ood_residual[index] = result.misfit_score[index]


def prepare_network_answers(result: Quantification, network) -> None:
    """Allocate the answers of a network; their shape is determined with one spectrum of noise."""
    model = result.model
    spec = torch.randn(1, len(model.bins), generator=torch.Generator().manual_seed(0)).to(model.basis)
    own = network.concentrations(spec, model, result.names)
    result.networks = np.full((len(own), len(result.params), own.shape[-1]), np.nan)
    if network.out_of_distribution(spec, model) is not None:
        result.ood_network = np.full(len(result.params), np.nan)


def _write_network_answers(result: Quantification, index: np.ndarray, network, spec: torch.Tensor) -> None:
    """Write the answers of a network for the rows ``index``, and their distance from its training data."""
    assert result.networks is not None
    result.networks[:, index] = network.concentrations(spec, result.model, result.names).cpu().numpy()
    if result.ood_network is not None:
        result.ood_network[index] = network.out_of_distribution(spec, result.model)
