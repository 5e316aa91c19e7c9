"""Fits as :class:`fsl_mrs_dl.fitting.options.FitOptions` say: the one place that hands these options to
:mod:`fsl_mrs_dl.fitting.quantify`, whose functions take them one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.axes import Axes
from ..io.basis import Basis
from . import quantify
from .error_fields import NamedErrors
from .options import FitOptions
from .priors import Prior

__all__ = ["model_for", "fit_scaled", "initial_values_for"]


def model_for(basis: Basis, axes: Axes, options: FitOptions):
    """Return the signal model of a basis set on the data's axes, and the factor each basis FID was scaled by.

    Raises
    ------
    BasisError, OptionError
    """
    with NamedErrors():
        return quantify.model_for(
            basis,
            axes.n_points,
            axes.dwelltime,
            axes.spec_freq_mhz,
            axes.nucleus,
            ind_scale=list(options.ind_scale) or None,
            rescale=options.rescale,
            model=options.model,
            ppmlim=options.ppmlim,
            baseline=options.baseline,
            groups=None if options.metab_groups is None else list(options.metab_groups),
        )


def initial_values_for(model, options: FitOptions):
    """Return what proposes the initial values of a fit of a model.

    Raises
    ------
    OptionError
    """
    with NamedErrors(starter="init", model="network"):
        return options.initialisation().for_model(model)


def fit_scaled(
    fids: np.ndarray,
    model,
    names: list[str],
    options: FitOptions,
    *,
    initial_values=None,
    prior: Prior | None = None,
    relative: np.ndarray | float = 1.0,
    tolerance: float | None = None,
    progress: Callable[[int], None] | None = None,
):
    """Fit scaled FIDs ``(n, n_points)`` with a ready model, see :func:`fsl_mrs_dl.fitting.quantify.fit_scaled`.

    ``prior`` is in the units of these data already, in place of that of the options.

    Raises
    ------
    OptionError
    """
    with NamedErrors(starter="init", model="network"):
        return quantify.fit_scaled(
            fids,
            model,
            names,
            starter=initial_values or options.initialisation(),
            prior=options.prior if prior is None else prior,
            relative=relative,
            estimate=options.estimate,
            prior_scaled=prior is not None,
            device=options.device,
            max_iter=options.max_iter,
            progress=progress,
            **({} if tolerance is None else {"tolerance": tolerance}),
        )
