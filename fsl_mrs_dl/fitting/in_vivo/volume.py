"""Slope of the volume that integrated parameters have: what a minimum does not see of an integral.

A posterior integrated over widths, line shape, phases, macromolecules and baseline is its height times the volume that
these parameters have there (Laplace's method; Tierney and Kadane, doi 10.1080/01621459.1986.10478240).  Broad lines of
large area leave them more room than narrow lines of small area above a higher baseline, so that amplitudes at the
minimum are on average smaller than those of the integral.
"""

from __future__ import annotations

import numpy as np
import torch

from .solver import NormalEquations, Problem, chunks, likelihood

__all__ = ["log_volume_slope"]


def log_volume_slope(problem: Problem, x: torch.Tensor, share: torch.Tensor, fixed: list[int]) -> torch.Tensor:
    """Return the derivatives of the log volume of integrated parameters by all parameters, ``(b, n_params)``.

    Parameters
    ----------
    problem : Problem
        With the noise that explains the residual.
    x : Tensor ``(b, n_params)``
        Of the minimum.
    share : Tensor ``(b, rank)``
        Of the baseline.
    fixed : list of int
        Parameters that are not integrated over.

    Notes
    -----
    The volume is that of the normal matrix, priors included, whose derivatives are those of the model's derivatives.
    """
    others = torch.as_tensor(np.setdiff1d(np.arange(x.shape[1]), fixed), device=x.device)
    prior = problem.model.prior_precision[others][:, others]
    slopes = []
    for some in chunks(x):
        part = problem.rows(some)
        with torch.enable_grad():
            at = x[some].detach().clone().requires_grad_(True)
            gram, _, _ = likelihood(part, NormalEquations.at(part, at), share[some])
            matrix = gram[:, others][:, :, others] + prior
            size = matrix.diagonal(dim1=-2, dim2=-1).detach().sqrt()
            factor = torch.linalg.cholesky(matrix / (size[:, :, None] * size[:, None]))
            (slope,) = torch.autograd.grad(-factor.diagonal(dim1=-2, dim2=-1).log().sum(), at)
        slopes.append(slope)
    return torch.cat(slopes) if slopes else torch.zeros_like(x)
