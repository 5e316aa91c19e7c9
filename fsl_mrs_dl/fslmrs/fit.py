"""Fits of FSL-MRS's objects, with FSL-MRS's result objects.  The wing ``fslmrs`` alone imports ``fsl_mrs``.

FSL-MRS changed the signature of ``FitRes`` and its baselines between releases; both are told apart by
inspection, never by a version number.  Importing this module does not load torch, because FSL-MRS's worker processes
import it when they unpickle results that were fitted elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from fsl_mrs.utils.results import FitRes

from ..core import units
from ..core.errors import DataError, OptionError
from ..fitting.options import FitOptions
from ..fitting.serialise import Plain, plain_row
from .baselines import fsl_mrs_baseline, matching_baseline
from .result import DlFitRes, ReadOnlyMRS
from .volume import VolumeMapCollector

__all__ = ["fit", "fit_together", "fit_batched"]

METHOD = "dlquant"

# MRS objects of a volume that are held and fitted at once; each carries a copy of the basis set.
_BATCH = 512
_FOR_PRIOR = 2048  # voxels that a prior is estimated from


@dataclass
class _Solution:
    """A fit made beforehand, carried by its MRS object to the call for the result.

    ``options`` are those of the fit, ``params`` is None where nothing could be fitted.
    """

    options: FitOptions
    params: np.ndarray | None
    dl: dict = field(default_factory=dict)
    row: Plain | None = None


def fit(mrs, arguments: dict, options: FitOptions | None = None) -> FitRes:
    """Fit one spectrum, as ``fit_FSLModel(mrs, method='dlquant', ...)``.

    Parameters
    ----------
    mrs : fsl_mrs.core.MRS
        With a basis; scaled or not.
    arguments : dict
        The other arguments of ``fit_FSLModel`` by name, in whichever form this FSL-MRS has them.
    options : FitOptions, optional
        Those that ``fit_FSLModel`` does not have: initial values, network, estimate, prior, device.

    Returns
    -------
    FitRes
        A :class:`DlFitRes`.

    Raises
    ------
    DataError, OptionError
    """
    options = _options_of(mrs, arguments, options or FitOptions())
    solution = mrs.__dict__.pop("_dl_solution", None)
    if solution is None or not _same_model(solution.options, options):
        fits = _fit_spectra([mrs], options.check(), x0=arguments.get("x0"))
        (solution,) = _solutions(fits, options)
        if solution.params is None:
            raise DataError("the FID is zero or holds NaN; there is nothing to fit.")
    return _result(mrs, solution)


def fit_together(spectra: Iterable, arguments: dict, options: FitOptions | None = None) -> list[FitRes]:
    """Fit MRS objects that share basis set and options in batches; their results in their order.

    A spectrum that is zero or holds NaN gets a result of NaN, as FSL-MRS would give it.
    """
    voxels = fit_batched(((mrs,) for mrs in spectra), arguments, options or FitOptions())
    return [fit(mrs, arguments, options) for (mrs,) in voxels]


def fit_batched(
    voxels: Iterable[tuple], arguments: dict, options: FitOptions, volume: VolumeMapCollector | None = None
) -> Iterator[tuple]:
    """Iterate over tuples that begin with an MRS object, a batch of them fitted at once and the fits travelling along.

    A later ``fit_FSLModel(mrs, method='dlquant', ...)`` with the same arguments, in this process or another, finds the
    fit there.  The prior is brought to the scale of the first batch, or estimated from it, and is the same for all.
    With ``volume``, the values of maps are collected there.
    """
    options.check()
    voxels, prior = iter(voxels), None
    size = _FOR_PRIOR if options.prior == "volume" else _BATCH
    while batch := list(islice(voxels, size)):
        spectra = [voxel[0] for voxel in batch]
        resolved = _options_of(spectra[0], arguments, options)
        fits = _fit_spectra(spectra, resolved, prior, x0=arguments.get("x0"))
        prior = prior or (fits.posterior.prior if fits.posterior is not None else None)
        if volume is not None:
            volume.keep(fits, [voxel[1] for voxel in batch], spectra)
        for mrs, solution in zip(spectra, _solutions(fits, resolved)):
            mrs._dl_solution = solution
        yield from batch
        size = _BATCH


# -- one problem ---------------------------------------------------------------------------------------------------


def _options_of(mrs, arguments: dict, options: FitOptions) -> FitOptions:
    """Return the options with the arguments of ``fit_FSLModel`` in them, defaults filled in as FSL-MRS does."""
    if mrs.names is None:
        raise DataError("the MRS object has no basis; create it with basis=...")
    ppmlim = arguments.get("ppmlim")
    if ppmlim is None:
        ppmlim = getattr(mrs, "default_ppm_range", None) or units.nucleus(mrs.nucleus).ppmlim
    if ppmlim is None:
        raise OptionError(
            f"there is no usual window for {mrs.nucleus}", option="ppmlim", remedy="give its limits in ppm"
        )
    groups, order = arguments.get("metab_groups"), arguments.get("baseline_order")
    words = arguments.get("baseline") or "poly, 2"
    if order is not None:
        words = f"poly, {int(order)}" if order >= 0 else "off"
    return replace(
        options,
        model=arguments.get("model") or "voigt",
        metab_groups=tuple(groups) if groups is not None else (0,) * mrs.numBasis,
        ppmlim=(float(ppmlim[0]), float(ppmlim[1])),
        baseline=words,
    )


def _same_model(one: FitOptions, other: FitOptions) -> bool:
    """Tell whether two calls fit the same model; initial values do not count."""
    names = ("model", "metab_groups", "ppmlim", "baseline")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _fit_spectra(spectra: list, options: FitOptions, prior=None, x0=None):
    """Fit MRS objects that share everything but the FID.

    Parameters
    ----------
    spectra : list of MRS
    options : FitOptions
    prior : Prior, optional
        In the units of the scaled data, in place of that of the options.
    x0 : array, optional
        FSL-MRS's parameter vector of an earlier fit, which is tried too.
    """
    from ..core.axes import Axes
    from ..fitting.automatic_initialisation import WithKnownParameters
    from ..fitting.quantify import fit_scaled
    from ..physics.signal_model import SignalModel, check_model

    one = spectra[0]
    for other in spectra[1:]:
        if _shared_by_batch(other) != _shared_by_batch(one):
            raise DataError("the spectra differ in basis set, length, bandwidth or frequency; fit them one by one.")
    check_model(options.model)
    _, regressor = fsl_mrs_baseline(one, options.ppmlim, options.baseline)
    model = SignalModel(
        one.basis.T,
        Axes(one.numPoints, one.dwellTime, one.centralFrequency / 1e6, one.nucleus),
        model=options.model,
        groups=options.metab_groups,
        ppmlim=options.ppmlim,
        baseline=matching_baseline(options.baseline, regressor, one.ppmlim_to_range(options.ppmlim), options.ppmlim),
    )
    initial_values = options.initialisation().for_model(model)
    if x0 is not None:
        initial_values = WithKnownParameters(initial_values, x0, model)
    return fit_scaled(
        np.stack([mrs.FID for mrs in spectra]),
        model,
        list(one.names),
        options,
        initial_values=initial_values,
        prior=prior,
        relative=_relative(one),
    )


def _solutions(fits, options: FitOptions) -> list[_Solution]:
    """Return the solution of each spectrum."""
    misfit, ood = fits.misfit, fits.ood
    params = fits.params.copy()
    params[:, : len(fits.names)] = fits.estimate(options.estimate)[0]
    return [
        _Solution(
            options,
            params[row] if fits.fitted[row] else None,
            {
                "init": fits.init,
                "estimate": options.estimate,
                "converged": bool(fits.converged[row]),
                "n_iter": int(fits.n_iter[row]),
                "misfit": float(misfit[row]),
                "ood_score": float(ood[row]),
            },
            plain_row(fits, row) if fits.fitted[row] else None,
        )
        for row in range(len(fits.params))
    ]


def _relative(mrs):
    """Return the factors of a prior's numbers where FSL-MRS scaled basis spectra one by one."""
    scale = np.atleast_1d(np.asarray(mrs.scaling["basis"], dtype=float))
    return np.median(scale) / scale if scale.size == len(mrs.names) else 1.0


def _shared_by_batch(mrs) -> tuple:
    """Return the properties that spectra of one batch must share."""
    return (
        tuple(mrs.names),
        mrs.numPoints,
        mrs.bandwidth,
        mrs.centralFrequency,
        mrs.nucleus,
        mrs.conj_Basis,
        mrs.scaling["basis"],
    )


def _n_shape(options: FitOptions, n_metabs: int) -> int:
    """Return the number of parameters between concentrations and baseline."""
    n_groups = max(options.metab_groups) + 1
    widths = n_groups if "lorentzian" in options.model else 2 * n_groups
    return widths + (n_metabs if "free_shift" in options.model else n_groups) + 2


def _result(mrs, solution: _Solution) -> FitRes:
    """Return FSL-MRS's result object at the solution; NaN where there is none, as FSL-MRS gives for a FID it cannot
    fit."""
    options = solution.options
    baseline, regressor = fsl_mrs_baseline(mrs, options.ppmlim, options.baseline)
    params = solution.params
    if params is None:
        params = np.full(len(mrs.names) + _n_shape(options, len(mrs.names)) + regressor.shape[1], np.nan)
    values = {
        "mrs": ReadOnlyMRS.of(mrs),
        "results": params,
        "model": options.model,
        "method": METHOD,
        "metab_groups": list(options.metab_groups),
        "ppmlim": options.ppmlim,
        **baseline,
    }
    parameters = inspect.signature(FitRes.__init__).parameters
    unknown = [name for name, p in parameters.items() if p.default is p.empty and name not in ("self", *values)]
    if unknown:
        raise DataError(
            f"this FSL-MRS's results need {', '.join(unknown)}, which this version does not support",
            remedy="use `algo` Newton",
        )
    result = DlFitRes(**values)
    result.dl, result.dl_row = solution.dl, solution.row
    return result
