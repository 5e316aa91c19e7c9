"""Standard deviations of all parameters of FSL-MRS's model, the baseline's included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.fids import zero_filling

if TYPE_CHECKING:
    from .quantification import Quantification

__all__ = ["parameter_sd"]


def parameter_sd(fit: Quantification) -> np.ndarray:
    """Return the SDs of all parameters in FSL-MRS's order, ``(n, n_params)``."""
    model = fit.model
    sd = np.sqrt(np.clip(np.diagonal(fit.cov, axis1=1, axis2=2), 0, None)).copy()
    n_metabs, groups = len(fit.names), model.n_groups
    if model.shape.gaussian:
        # From sigma**2 to sigma; where sigma is zero, the SD of the variance sets the scale of a hidden broadening.
        block = slice(n_metabs + groups, n_metabs + 2 * groups)
        sigma = fit.block("sigma")
        with np.errstate(divide="ignore", invalid="ignore"):
            sd[:, block] = np.where(sigma**2 > sd[:, block], sd[:, block] / (2 * sigma), np.sqrt(sd[:, block]))
    k = sd.shape[1]
    out = np.full(fit.params.shape, np.nan)
    out[:, :k] = sd
    if model.baseline.mode == "off":
        out[fit.fitted, k:] = 0.0
        return out
    share = np.diag(model.baseline.solver @ model.baseline.solver.T)
    for row in np.flatnonzero(fit.fitted):
        out[row, k:] = _baseline_sd(fit, row, share)
    return out


def _baseline_sd(fit: Quantification, row: int, share: np.ndarray) -> np.ndarray:
    """Return the SDs of the baseline's coefficients of one spectrum; ``share`` is the noise variance of each, in units
    of that of a point."""
    model, solver = fit.model, fit.model.baseline.solver
    theta, conc, _ = model.unpack(torch.as_tensor(fit.params[row : row + 1]).to(model.time))
    derivatives = torch.cat([model.plain_columns(theta), model.theta_derivatives(theta, conc, eliminate=False)], 1)
    leak = derivatives[0].cpu().numpy() @ solver.T
    cov = np.where(np.isfinite(fit.cov[row]), fit.cov[row], 0.0)
    # The baseline has its own share of the noise, and takes over the errors of the other parameters.
    noise = share * fit.noise_sd[row] ** 2 * zero_filling(fit.fids[row])
    real, imag = (noise + np.einsum("ki,kl,li->i", part, cov, part) for part in (leak.real, leak.imag))
    return model.baseline.order_coefficients(np.sqrt(real) + 1j * np.sqrt(imag))
