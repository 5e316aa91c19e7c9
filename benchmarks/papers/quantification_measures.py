"""Fits, limits and measures of the benchmark of quantification."""

from __future__ import annotations

import numpy as np
import torch

import fsl_mrs_dl
from fsl_mrs_dl.fitting import quantify, uncertainty
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis

__all__ = ["auroc", "bayes_limit", "bounds", "crps", "fit_set", "mape", "r2", "slopes"]

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
