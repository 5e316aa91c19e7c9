"""How far a spectrum is from those that a network was trained on."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["CLEAN_PART", "of_clean", "of_network"]


CLEAN_PART = 0.99


"""Part of clean spectra that have a score below one."""


def _latents(network, fid) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network finds, as numbers without bounds ``(batch, k)``, and the logarithm of the energy it leaves
    ``(batch,)``."""
    first = getattr(network, "members", [network])[0]
    found = network(fid)
    x = first.prepared(fid)
    left = (x - first.limited(first.decode(found))).abs().square().mean(-1)
    rows = [(found["conc"] / first.usual).clamp(min=1e-3).log(), found["damping"].clamp(min=1e-2).log()[:, None]]
    rows += [found["shift_hz"][:, None], found["phi0"][:, None]]
    return torch.cat(rows, 1).double(), left.clamp(min=1e-30).log().double()


def of_clean(network, batches) -> dict:
    """What a network finds in clean spectra, for its card: ``mean``, ``precision`` and ``limit`` of the latents'
    distance, and of the residual.

    ``batches`` is a list of FIDs ``(n, n_points)`` it was not trained on; half of them set the place, the others the
    limits.
    """
    with torch.no_grad():
        parts = [_latents(network, fid) for fid in batches]
    latents, left = torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])
    half = len(latents) // 2
    mean = latents[:half].mean(0)
    cov = torch.cov(latents[:half].mT) + 1e-6 * torch.eye(latents.shape[1])
    precision = torch.linalg.inv(cov)
    distance = _distance(latents[half:], mean, precision)
    return {
        "mean": [float(f"{value:.6g}") for value in mean],
        "precision": [[float(f"{value:.6g}") for value in row] for row in precision],
        "distance": float(f"{torch.quantile(distance, CLEAN_PART):.5g}"),
        "log_residual": float(f"{torch.quantile(left, CLEAN_PART):.5g}"),
        "log_residual_sd": float(f"{max(float(left.std()), 1e-3):.5g}"),
    }


def _distance(latents: torch.Tensor, mean: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    apart = latents - mean
    return (apart @ precision * apart).sum(-1).clamp(min=0).sqrt()


def of_network(network, clean: dict, fid: torch.Tensor) -> np.ndarray:
    """Score of spectra for a network, ``(batch,)``: the larger of its latents' and of its residual's; see
    :func:`of_clean`."""
    with torch.no_grad():
        latents, left = _latents(network, fid)
    mean, precision = (
        torch.as_tensor(clean[name], dtype=torch.float64, device=latents.device) for name in ("mean", "precision")
    )
    distance = _distance(latents, mean, precision) / clean["distance"]
    above = 1 + (left - clean["log_residual"]) / (3 * clean["log_residual_sd"])
    return torch.maximum(distance, above).cpu().numpy()
