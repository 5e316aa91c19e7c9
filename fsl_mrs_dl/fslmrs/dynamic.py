"""Dynamic fits of FSL-MRS's ``dynMRS`` objects, with FSL-MRS's result objects.

FSL-MRS executes the configuration when the object is made, and its functions are taken from there.  The cost is
FSL-MRS's, also in the weight of a spline baseline's penalty, and so is its minimum.  FSL-MRS 2.4.11 computes
covariances of its dynamic fits from differences in single precision, and with twice the variance of the noise; here
they are the Cramer-Rao bound with exact derivatives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fsl_mrs.dynamic import dyn_results

from .. import __version__
from ..core.errors import DataError
from ..core.fids import UNUSABLE, usable_fids
from ..core.parallel import one_thread
from ..fitting.options import FitOptions
from .fit import options_of, signal_model_of
from .solution import check_alike

__all__ = ["DlDynRes", "describe_dynamic", "fit_dynamic", "initialise_dynamic"]

_UNDETERMINED = 1e5
"""Variance that FSL-MRS gives parameters that nothing depends on, such as those of a baseline that is off."""


class DlDynRes(dyn_results.dynRes_newton):
    """FSL-MRS's result of a dynamic fit by ``dlquant``.

    Everything is FSL-MRS's own but the covariance, and with it SDs and correlations.  ``dl`` holds values that FSL-MRS
    has no place for: ``converged``, ``n_iter``, ``distance`` (to the minimum, in SDs), ``noise_sd`` and
    ``residual_sd`` (per real channel of the scaled spectra).
    """

    def __init__(self, fit, dyn, init: dict):
        """Store a :class:`fsl_mrs_dl.dynamic.series.DynamicFit` of a ``dynMRS`` object."""
        import torch

        from ..dynamic.series import mapped_sd_of

        # FSL-MRS's own class would compute its covariance here.
        dyn_results.dynRes.__init__(self, fit.x[np.newaxis], dyn, init)
        cov = fit.cov.copy()
        lost = ~np.isfinite(np.diag(cov))
        cov[lost], cov[:, lost] = 0, 0
        cov[lost, lost] = _UNDETERMINED
        sd = np.sqrt(np.clip(np.diag(cov), 0, None))
        self._cov_free, self._std_free = cov, sd
        with np.errstate(invalid="ignore", divide="ignore"):
            self._corr_free = np.nan_to_num(cov / np.outer(sd, sd))
        self._std_mapped = mapped_sd_of(fit.mapping, torch.as_tensor(fit.x), torch.as_tensor(cov)).numpy().T
        self._mapped_params = self._dyn.vm.mapped_to_dict(fit.mapped)
        self.dl = {
            "converged": bool(fit.solution.converged),
            "n_iter": int(fit.solution.n_iter),
            "distance": float(fit.solution.distance),
            "noise_sd": float(fit.noise_outside_sd),
            "residual_sd": float(fit.noise_sd),
        }

    @property
    def optimum(self):
        """The end of the fit as ``scipy.optimize`` describes it."""
        from scipy.optimize import OptimizeResult

        good = self.dl["converged"]
        message = f"{self.dl['distance']:.2g} SD from the minimum"
        x = self.x
        more = {"message": message, "nit": self.dl["n_iter"], "fun": self._dyn.dyn_loss(x)}
        return OptimizeResult(x=x, success=good, status=0 if good else 1, **more)


def describe_dynamic(result: DlDynRes) -> str:
    """Return the fit of a series in a sentence."""
    n_iter = result.dl["n_iter"]
    ended = f"converged after {n_iter} steps" if result.dl["converged"] else f"did NOT converge in {n_iter} steps"
    return (
        f"dlquant (FSL-MRS-DL {__version__}): joint fit of {result._dyn.vm.ntimes} spectra, {len(result.free_names)}"
        f" free parameters, {ended}, {result.dl['distance']:.1g} SD from the minimum."
    )


def _problem(dyn):
    """Return the series of a ``dynMRS`` object on its scale, with the model of its spectra.

    Raises
    ------
    DataError
        If a FID is not usable, or the spectra do not share basis set and axes.
    """
    from ..dynamic.series import SeriesProblem

    spectra = list(dyn.mrs_list)
    check_alike(spectra)
    rows = np.stack([mrs.FID for mrs in spectra]).astype(np.complex128)
    bad = np.flatnonzero(~usable_fids(rows))
    if len(bad):
        raise DataError(f"spectrum {int(bad[0])} of the series {UNUSABLE}")
    options = options_of(spectra[0], dyn._fit_args, FitOptions(spectral_model="fsl-mrs", prior="none")).check()
    return SeriesProblem(rows, signal_model_of(spectra[0], options), list(spectra[0].names), options)


def _mapping(dyn, problem):
    """Return the mapping of FSL-MRS's configuration, whose functions were executed."""
    from ..dynamic.configuration import Configuration
    from ..dynamic.series import mapping_of

    vm = dyn.vm
    configuration = Configuration(
        Path(dyn._config_file),
        {category: vm._Parameters[category] for category in vm.mapped_categories},
        vm.defined_bounds or {},
        vm.fcns,
        executed=True,
    )
    mapping = mapping_of(configuration, problem, vm.time_variable)
    if list(mapping.names) != list(vm.free_names):
        raise DataError(
            "this FSL-MRS orders the parameters of a series in another way than this version supports",
            remedy="leave `algo` out",
        )
    return mapping


@one_thread()
def initialise_dynamic(dyn) -> dict:
    """Fit every spectrum of a ``dynMRS`` object on its own; ``x`` and ``mapped_params`` as FSL-MRS's ``initialise``
    gives them, and ``dl`` for :func:`fit_dynamic`.

    Raises
    ------
    DataError
    """
    from ..dynamic.series import initial_fits

    fits = initial_fits([_problem(dyn)])[0]
    return {"x": fits.params, "mapped_params": dyn.vm.mapped_to_dict(fits.params), "dl": fits}


@one_thread()
def fit_dynamic(dyn, init: dict | None = None, x0=None) -> DlDynRes:
    """Fit a ``dynMRS`` object, as ``dyn.fit(method='dlquant', init=init, x0=x0)``.

    Parameters
    ----------
    dyn : fsl_mrs.dynamic.dynMRS
    init : dict, optional
        From ``dyn.initialise()``; further initial values are tried.
    x0 : array ``(n_free,)``, optional
        Free parameters that are tried first.

    Raises
    ------
    DataError, OptionError
    """
    import torch

    from ..dynamic.series import fit_problem, initial_fits

    problem = _problem(dyn)
    mapping = _mapping(dyn, problem)
    initial = (init or {}).get("dl") or initial_fits([problem])[0]
    starts = []
    if x0 is not None:
        starts, init = [np.asarray(x0, float)], {"x": dyn.vm.free_to_mapped(np.asarray(x0, float))}
    elif init is None:
        init = {"x": initial.params}
    elif "dl" not in init:
        starts = [start.numpy() for start in mapping.starts(torch.as_tensor(np.asarray(init["x"], float)))]
    # FSL-MRS adds the penalty to half the mean square of the residual.
    weight = 2.0 * problem.spectra.shape[1] if hasattr(dyn, "mapped_penalty") else 1.0
    fit = fit_problem(problem, mapping, initial, starts=starts, penalty_weight=weight)
    return DlDynRes(fit, dyn, init)
