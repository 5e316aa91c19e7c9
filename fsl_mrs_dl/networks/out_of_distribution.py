"""Out-of-distribution score of a network: the distance of spectra from those that it was trained on."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["CLEAN_PART", "clean_statistics", "network_scores"]

CLEAN_PART = 0.99
"""Part of clean spectra with a score below one."""


def _latents(network, fid) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a network's parameters as numbers without bounds ``(batch, k)``, and the logarithm of the residual's
    energy ``(batch,)``."""
    first = getattr(network, "members", [network])[0]
    parameters = network(fid)
    x = first.prepared(fid)
    residual = (x - first.limited(first.decode(parameters))).abs().square().mean(-1)
    rows = [
        (parameters["conc"] / first.usual).clamp(min=1e-3).log(),
        parameters["damping"].clamp(min=1e-2).log()[:, None],
    ]
    rows += [parameters["shift_hz"][:, None], parameters["phi0"][:, None]]
    return torch.cat(rows, 1).double(), residual.clamp(min=1e-30).log().double()


def clean_statistics(network, batches) -> dict:
    """Return the statistics of clean spectra for the model card.

    Parameters
    ----------
    network : torch.nn.Module
        One of :mod:`fsl_mrs_dl.networks.self_supervised_quantification`.
    batches : list of complex tensor ``(n, n_points)``
        FIDs that the network was not trained on; half of them set the mean, the others the limits.

    Returns
    -------
    dict
        ``mean``, ``precision`` and ``distance`` (limit) of the latents; ``log_residual`` (limit) and
        ``log_residual_sd``.
    """
    with torch.no_grad():
        parts = [_latents(network, fid) for fid in batches]
    latents, residual = (torch.cat(values) for values in zip(*parts))
    half = len(latents) // 2
    mean = latents[:half].mean(0)
    cov = torch.cov(latents[:half].mT) + 1e-6 * torch.eye(latents.shape[1])
    precision = torch.linalg.inv(cov)
    distance = _distance(latents[half:], mean, precision)
    return {
        "mean": [float(f"{value:.6g}") for value in mean],
        "precision": [[float(f"{value:.6g}") for value in row] for row in precision],
        "distance": float(f"{torch.quantile(distance, CLEAN_PART):.5g}"),
        "log_residual": float(f"{torch.quantile(residual, CLEAN_PART):.5g}"),
        "log_residual_sd": float(f"{max(float(residual.std()), 1e-3):.5g}"),
    }


def _distance(latents: torch.Tensor, mean: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    """Return the Mahalanobis distance."""
    difference = latents - mean
    return (difference @ precision * difference).sum(-1).clamp(min=0).sqrt()


def network_scores(network, clean: dict, fid: torch.Tensor) -> np.ndarray:
    """Return the score of spectra for a network, ``(batch,)``: the larger of its latents' and its residual's.

    Parameters
    ----------
    network : torch.nn.Module
    clean : dict
        See :func:`clean_statistics`.
    fid : complex tensor ``(batch, n_points)``
    """
    with torch.no_grad():
        latents, residual = _latents(network, fid)
    mean, precision = (
        torch.as_tensor(clean[name], dtype=torch.float64, device=latents.device) for name in ("mean", "precision")
    )
    distance = _distance(latents, mean, precision) / clean["distance"]
    of_residual = 1 + (residual - clean["log_residual"]) / (3 * clean["log_residual_sd"])
    return torch.maximum(distance, of_residual).cpu().numpy()
