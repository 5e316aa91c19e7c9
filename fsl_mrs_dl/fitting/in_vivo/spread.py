"""Covariance of all parameters of in vivo fits, and the SD of the fitted spectra, computed from the parameters.

Fits keep neither, which would be a thousand times the memory of their parameters; both take about as long as two steps
of a fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...physics.in_vivo_components import priors_table
from .prepared import whole_baseline_of
from .result import InVivoFit
from .solver import NormalEquations, Problem, systems

__all__ = ["fitted_sd", "parameter_covariances"]

_BATCH = 64  # spectra whose derivatives are held at once


def parameter_covariances(fit: InVivoFit, rows: np.ndarray) -> np.ndarray:
    """Return the covariance of all parameters of usable spectra ``(n, n_params, n_params)``, priors included.

    The baseline is integrated out with the mean of its strengths.
    """
    return _in_batches(fit, rows, lambda problem, x, share: _covariance(problem, x, share).numpy())


def fitted_sd(fit: InVivoFit, rows: np.ndarray) -> np.ndarray:
    """Return the SD of the real part of the fitted spectra, baseline included, ``(n, n_window)``.

    It is that of ``numpy.fft.fft`` of the scaled FIDs, at the points of ``fit.fitted_model.window``, which are fewer
    than those of whole spectra.
    """

    def spread(problem: Problem, x: torch.Tensor, share: torch.Tensor) -> np.ndarray:
        cov = _covariance(problem, x, share)
        jacobian = problem.without_free(problem.model.jacobian(x, problem.water)[1])
        taken = (jacobian @ problem.vectors.conj()) * share[:, None]
        real = (jacobian - taken @ problem.vectors.mT).real
        variance = (real * (cov @ real)).sum(1)
        # The baseline takes up a part of the noise.
        by_baseline = share @ problem.vectors.abs().square().mT + problem.free.abs().square().sum(-1)
        variance = variance + by_baseline * problem.noise[:, None] ** 2
        return variance.clamp(min=0).sqrt().numpy()

    # The window's transform is unitary over the first points of a FID.
    return _in_batches(fit, rows, spread) * np.sqrt(fit.fitted_model.window.axes.n_points)


def _covariance(problem: Problem, x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    matrix = systems(problem, NormalEquations.at(problem, x), x, share)[0]
    size = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    scaled = size[:, :, None] * size[:, None]
    return torch.linalg.inv(matrix / scaled) / scaled


def _in_batches(fit: InVivoFit, rows: np.ndarray, function: Callable) -> np.ndarray:
    """Return ``function(problem, parameters, shares of the baseline)`` of spectra, a batch at a time."""
    model = fit.fitted_model
    baseline = whole_baseline_of(model.window.ppm, fit.model.nucleus)
    strengths = priors_table()["baseline"]["strengths"]
    parts = []
    for first in range(0, max(len(rows), 1), _BATCH):
        some = rows[first : first + _BATCH]
        water = None if fit.water is None else fit.water.rows(some).shape(model.window.time)
        spectra = model.window.transform(fit.fids[some])
        problem = Problem.make(model, spectra, fit.noise_sd[some], baseline, strengths, water)
        share = torch.as_tensor(fit.baseline_weights[some]) @ problem.shares
        parts.append(function(problem, torch.as_tensor(fit.x[some]), share))
    return np.concatenate(parts)
