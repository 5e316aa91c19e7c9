"""Targets from fits of the training spectra, for self-supervised trainings with a teacher."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..fitting import priors
from ..simulation import recipes
from .batches import seeded

__all__ = ["N_TAUGHT", "check_teacher", "fitted_targets", "with_fitted_targets"]

N_TAUGHT = 20000
"""Simulated spectra that are fitted for a training with a teacher, unless another number is given."""

_SHARE_OF_VARIANCE = 0.03


def check_teacher(estimate: str | None) -> None:
    """Raise an error for an unknown estimate of the teacher.

    Raises
    ------
    OptionError
    """
    if estimate not in (None, "ml", "posterior_mean"):
        raise OptionError(
            "there is no such teacher", option="teacher", value=estimate, remedy="choose ml or posterior_mean"
        )


def with_fitted_targets(make: Callable, teach: Callable, batch_size: int, seed: int) -> Callable:
    """Return a function that draws batches with targets out of a fixed set of variations, fitted beforehand.

    Parameters
    ----------
    make : callable
        ``make(generator)`` returns a batch with ``fid`` ``(batch_size, n_points)``.
    teach : callable
        See :func:`fitted_targets`.
    batch_size, seed : int
    """
    n_batches = -(-N_TAUGHT // 4 // batch_size)
    fid = torch.cat([make(seeded(seed, 5_000_000 + index))["fid"] for index in range(n_batches)])
    target, spread = teach(fid)

    def batch(generator):
        chosen = torch.randint(len(fid), (batch_size,), generator=generator)
        return {"fid": fid[chosen], "target": target[chosen], "spread": spread}

    return batch


def fitted_targets(estimate: str, prior, basis, lines, dwelltime: float) -> Callable:
    """Return a function ``teach(fids)`` that fits FIDs and returns targets for a network.

    The function returns concentrations ``(n, n_metabs)``, in the order of ``lines`` and NaN where there is none, and
    the unit of their errors, ``(n_metabs,)``.

    Parameters
    ----------
    estimate : str
        'ml' or 'posterior_mean'.
    prior : Recipe or str or path
        Of the posterior mean.
    basis : Basis
        Basis set of the fits.
    lines : Basis
        Basis set of the network.
    dwelltime : float
        Of the FIDs in seconds.

    Raises
    ------
    OptionError
    """
    from ..fitting import quantify
    from ..fitting.options import FitOptions

    check_teacher(estimate)
    if isinstance(prior, recipes.Recipe):
        prior = priors.from_recipe(prior, list(basis.names))
    options = FitOptions(
        model="lorentzian",
        baseline="off",
        rescale=False,
        init="classical",
        prior=prior if estimate == "posterior_mean" else "none",
        device="cpu",
    )

    def teach(fids):
        print(f"Fitting {len(fids)} spectra to learn from.", file=sys.stderr, flush=True)
        axes = Axes(fids.shape[-1], dwelltime, basis.spec_freq_mhz)
        fit = quantify.quantify(fids.numpy(), basis, axes, options)
        conc, cov = fit.estimate(estimate)
        conc = np.where((fit.fitted & fit.converged)[:, None], conc, np.nan)
        spread = _error_units(conc, cov)
        target, scale = np.full((len(fids), lines.n_metabs), np.nan), np.ones(lines.n_metabs)
        for column, name in enumerate(basis.names):
            if name in lines.names:
                target[:, lines.names.index(name)], scale[lines.names.index(name)] = conc[:, column], spread[column]
        return torch.as_tensor(target).float(), torch.as_tensor(scale).float()

    return teach


def _error_units(conc: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Return the unit that errors of each metabolite are counted in, from concentrations and their covariances.

    It is the SD of the fits with a small part of the concentrations' own spread: what fits determine well is to be
    learnt well.
    """
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a metabolite without a single estimate
        variance = np.nanvar(conc, 0)
        of_fits = np.nanmedian(np.diagonal(cov, axis1=1, axis2=2), 0)
        spread = np.sqrt(np.minimum(of_fits, variance) + _SHARE_OF_VARIANCE * variance)
    return np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
