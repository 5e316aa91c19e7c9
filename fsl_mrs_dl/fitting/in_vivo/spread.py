"""Covariance of all parameters of in vivo fits, and the SD of the fitted spectra, computed from the parameters.

Fits keep neither, which would be a thousand times the memory of their parameters; both take about as long as two steps
of a fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...physics.in_vivo_components import priors_table
from ...physics.nuisance import Whitening, whitened_baseline
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
        factor, size = _root(problem, x, share)
        real = _remainder(problem, problem.model.jacobian(x, problem.water)[1], share).real
        variance = torch.linalg.solve_triangular(factor, real / size[..., None], upper=False).square().sum(1)
        variance = variance + _taken(problem, share) * problem.noise[:, None] ** 2
        return variance.clamp(min=0).sqrt().numpy()

    # The window's transform is unitary over the first points of a FID.
    return _in_batches(fit, rows, spread) * np.sqrt(fit.fitted_model.window.axes.n_points)


def _remainder(problem: Problem, spectra: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return what baseline and nuisances leave of spectra ``(b, n, n_window)``."""
    once = problem.without_free(spectra)
    taken = (once @ problem.vectors.conj()) * share[:, None]
    return problem.back(once - taken @ problem.vectors.mT)


def _taken(problem: Problem, share: torch.Tensor) -> torch.Tensor:
    """Return the part of the noise's variance that baseline and nuisances take up at each point, ``(b, n_window)``."""
    if problem.whitening is None:
        return share @ problem.vectors.abs().square().mT + problem.free.abs().square().sum(-1)
    eye = torch.eye(len(problem.vectors), dtype=problem.vectors.dtype)
    return 1 - _remainder(problem, eye[None], share).diagonal(dim1=-2, dim2=-1).real


def _root(problem: Problem, x: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Cholesky factor ``(b, p, p)`` of the normal matrix with ones on its diagonal, and the roots of the
    diagonal before ``(b, p)``."""
    matrix = systems(problem, NormalEquations.at(problem, x), x, share)[0]
    size = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    # As where evidence is computed: rounding must not make a matrix of nearly dependent parameters indefinite.
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.cholesky(matrix / (size[:, :, None] * size[:, None]) + 1e-10 * eye), size


def _covariance(problem: Problem, x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    factor, size = _root(problem, x, share)
    return torch.cholesky_inverse(factor) / (size[:, :, None] * size[:, None])


def _in_batches(fit: InVivoFit, rows: np.ndarray, function: Callable) -> np.ndarray:
    """Return ``function(problem, parameters, shares of the baseline)`` of spectra, a batch at a time."""
    model, batches = fit.fitted_model, []
    baseline = whole_baseline_of(model.window.ppm, fit.model.nucleus)
    strengths = priors_table()["baseline"]["strengths"]
    for state in np.unique(fit.nuisance_state[rows]):
        of_state = np.flatnonzero(fit.nuisance_state[rows] == state)
        batches += [of_state[first : first + _BATCH] for first in range(0, len(of_state), _BATCH)]
    parts = []
    for batch in batches or [np.zeros(0, int)]:
        some = rows[batch]
        water = None if fit.water is None else fit.water.rows(some).shape(model.window.time)
        whitening, own = None, baseline
        if fit.nuisance is not None and len(some) and fit.nuisance_state[some[0]] > 0:
            whitening = Whitening.of(fit.nuisance.root(int(fit.nuisance_state[some[0]]), model.window.transform))
            own = whitened_baseline(baseline, whitening)
        spectra = model.window.transform(fit.fids[some])
        problem = Problem.make(model, spectra, fit.noise_sd[some], own, strengths, water, whitening)
        share = torch.as_tensor(fit.baseline_weights[some]) @ problem.shares
        parts.append(function(problem, torch.as_tensor(fit.x[some]), share))
    return np.concatenate(parts)[np.argsort(np.concatenate([*batches, np.zeros(0, int)]))]
