"""Fits, limits and measures of the benchmark of quantification."""

from __future__ import annotations

import numpy as np
import torch

import fsl_mrs_dl
from benchmarks.papers.loss_minimum import minimise
from fsl_mrs_dl.fitting import quantify, uncertainty
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis

__all__ = ["auroc", "bayes_limit", "bounds", "crps", "fit_set", "losses", "mape", "r2", "slopes"]

_FIT = {"model": "lorentzian", "baseline": "off", "rescale": False}


def fit_set(basis: Basis, data: dict, *, prior="shamaei-table2", **options):
    """Fit a set of :func:`benchmarks.papers.quantification_data.make_set` with the model that it was simulated with."""
    return fsl_mrs_dl.quantify(
        data["fid"],
        basis,
        dwelltime=basis.dwelltime,
        spec_freq_mhz=basis.spec_freq_mhz,
        prior=prior,
        **{"init": "classical", **options},
        **_FIT,
    )


def bounds(basis: Basis, data: dict) -> np.ndarray:
    """Return Cramer-Rao bounds of the concentrations at the truth, as covariances ``(n, n_metabs, n_metabs)``."""
    model, _ = quantify.model_for(basis, basis.axes.with_points(data["fid"].shape[-1]), FitOptions(**_FIT))
    column = lambda values: torch.as_tensor(values)[:, None]  # noqa: E731
    theta = model.join_theta(
        gamma=column(np.pi * data["lorentz_hz"]),
        eps=column(-2 * np.pi * data["shift_hz"]),
        phi0=column(data["phi0"]),
        phi1=column(np.zeros(len(data["fid"]))),
    )
    parts = []
    for rows in np.array_split(np.arange(len(theta)), -(-len(theta) // 128)):
        information = uncertainty.fisher_information(model, theta[rows], torch.as_tensor(data["conc"][rows]))
        parts.append(uncertainty.covariance(information, torch.as_tensor(data["noise_sd"][rows])).numpy())
    return np.concatenate(parts)[:, : basis.n_metabs, : basis.n_metabs]


def losses(network, basis: Basis, data: dict, *, steps: int = 500) -> dict[str, float | dict[str, float]]:
    """Return a network's mean published loss at the truth, with its own answers and at the minimum, and the
    coefficients of determination by metabolite with its own answers and at the minimum.

    The minimum of every spectrum is the lower one of two searches, from the truth and from the network's answer.  Lines
    of macromolecules sum up to the pattern of ``basis`` and have its concentration as truth; the truth has no cut-off,
    its loss is taken at that of the network.

    Parameters
    ----------
    network : torch.nn.Module
        DQ-nMM, DQ-pMM or DQ-rpMM.
    basis : Basis
    data : dict
        Of :func:`benchmarks.papers.quantification_data.make_set`.
    steps : int
        Of each search.
    """
    names = list(basis.names)
    fid = torch.as_tensor(data["fid"])[:, : network.n_points].to(torch.complex64)
    truth = torch.as_tensor(data["conc"]).float()
    with torch.no_grad():
        prepared, scale, own = network.prepared(fid), network.scale(fid), network(fid)
        columns = [truth[:, names.index(name if name in names else "mm")] for name in network.names]
        true = own | {
            "conc": torch.stack(columns, 1) / scale[:, None],
            "damping": torch.as_tensor(np.pi * data["lorentz_hz"]).float(),
            "shift_hz": torch.as_tensor(data["shift_hz"]).float(),
            "phi0": torch.as_tensor(data["phi0"]).float(),
        }
    longest = 0.5 * network.n_points * network.dwelltime

    def misfit(values):
        # The encoder's own limit of the cut-off of DQ-rpMM.
        limit = {"cutoff_s": values["cutoff_s"].clamp(max=longest)} if "cutoff_s" in values else {}
        return network.misfit(prepared, values | limit)

    searches = [minimise(misfit, start, {"shift_hz": 1.0, "phi0": 0.2}, steps=steps) for start in (true, own)]
    with torch.no_grad():
        first, second = (misfit(one) for one in searches)
        values = {"loss, truth": float(misfit(true).mean()), "loss, network": float(misfit(own).mean())}
        values["loss, minimum"] = float(torch.minimum(first, second).mean())
    least = torch.where((first <= second)[:, None], searches[0]["conc"], searches[1]["conc"])
    known = [name for name in network.names if name in names]
    rows, columns = [network.names.index(name) for name in known], [names.index(name) for name in known]
    for label, conc in (("network", own["conc"]), ("minimum", least)):
        score = r2((conc * scale[:, None])[:, rows].numpy(), data["conc"][:, columns])
        values[f"R2, {label}"] = dict(zip(known, map(float, score)))
    return values


def r2(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return coefficients of determination, ``(n_metabs,)``."""
    return 1 - np.mean((estimate - truth) ** 2, 0) / truth.var(0)


def slopes(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return slopes of estimate on truth, ``(n_metabs,)``."""
    centred = truth - truth.mean(0)
    return (centred * estimate).sum(0) / (centred**2).sum(0)


def mape(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return mean absolute errors in percent, ``(n_metabs,)``."""
    return 100 * np.mean(np.abs(estimate - truth) / truth, 0)


def bayes_limit(bound: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return coefficients of determination ``(n_metabs,)`` of the best linear estimate.

    ``bound`` are covariances ``(n, n_metabs, n_metabs)``, ``spread`` ``(n_metabs,)`` the variances of the prior.
    """
    posterior = np.linalg.inv(np.linalg.inv(bound) + np.diag(1 / spread))
    return 1 - np.diagonal(posterior, axis1=1, axis2=2).mean(0) / spread


def auroc(clean: np.ndarray, strange: np.ndarray) -> float:
    """Return the probability that a strange spectrum has a higher score than a clean one."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([clean, strange]))
    return float((ranks[len(clean) :].sum() - len(strange) * (len(strange) + 1) / 2) / len(clean) / len(strange))


def crps(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability scores of normal distributions, of the shape of the arrays."""
    from scipy.special import ndtr

    z = (truth - mean) / sd
    return sd * (z * (2 * ndtr(z) - 1) + 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
