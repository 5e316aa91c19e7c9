"""Fits of FSL-MRS's objects, with FSL-MRS's result objects.  The wing ``fslmrs`` alone imports ``fsl_mrs``.

FSL-MRS changed the signature of ``FitRes`` and its baselines between releases; both are distinguished
by inspection, never by a version number.  Importing this module does not load torch, because FSL-MRS's worker processes
import it when they unpickle results that were fitted elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from fsl_mrs.utils.results import FitRes

from ..core import units
from ..core.errors import DataError, OptionError
from ..core.fids import UNUSABLE
from ..fitting.options import FitOptions
from ..fitting.serialise import plain_row
from . import in_vivo
from .baselines import fsl_mrs_baseline, matching_baseline
from .in_vivo_options import check_model
from .in_vivo_result import InVivoFitRes
from .result import DlFitRes, ReadOnlyMRS
from .solution import METHOD, Solution, check_alike, same_model
from .volume import VolumeMapCollector

__all__ = ["fit", "fit_together", "fit_batched", "options_of", "signal_model_of"]

# MRS objects of a volume that are held and fitted at once; each carries a copy of the basis set.
_BATCH = 512
_FOR_PRIOR = 2048  # voxels that a prior is estimated from


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
    options = options_of(mrs, arguments, options or FitOptions(spectral_model="fsl-mrs"))
    solution = mrs.__dict__.pop("_dl_solution", None)
    if solution is None or not same_model(solution.options, options):
        ((solution,), fits, _) = _fit_batch([mrs], options.check(), arguments)
        if solution.params is None:
            raise DataError(f"the FID {UNUSABLE}; there is nothing to fit.")
        solution.advice = _advice(fits)
    return _result(mrs, solution)


def fit_together(spectra: Iterable, arguments: dict, options: FitOptions | None = None) -> list[FitRes]:
    """Fit MRS objects that share basis set and options in batches; their results in their order.

    A spectrum that is not usable (:func:`~fsl_mrs_dl.core.fids.usable_fids`) gets a result of NaN, as FSL-MRS would
    give it.
    """
    voxels = fit_batched(((mrs,) for mrs in spectra), arguments, options or FitOptions(spectral_model="fsl-mrs"))
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
    voxels, shared = iter(voxels), None
    size = _FOR_PRIOR if options.prior == "volume" else _BATCH
    while batch := list(islice(voxels, size)):
        spectra = [voxel[0] for voxel in batch]
        resolved = options_of(spectra[0], arguments, options)
        solutions, fits, shared = _fit_batch(spectra, resolved, arguments, shared)
        if volume is not None:
            volume.keep(fits, [voxel[1] for voxel in batch], spectra)
        for mrs, solution in zip(spectra, solutions):
            mrs._dl_solution = solution
        yield from batch
        size = _BATCH


# -- one problem ---------------------------------------------------------------------------------------------------


def options_of(mrs, arguments: dict, options: FitOptions) -> FitOptions:
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
    check_model(options, arguments)
    if options.spectral_model == "in-vivo":
        return replace(options, ppmlim=(float(ppmlim[0]), float(ppmlim[1])))
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


def _fit_batch(spectra: list, options: FitOptions, arguments: dict, shared=None) -> tuple[list[Solution], Any, Any]:
    """Fit MRS objects that share everything but the FID.

    Returns
    -------
    list of Solution
    Quantification
    Prior, Study or None
        All that the batches of a volume share, for the next call.
    """
    if options.spectral_model == "in-vivo":
        fits, study = in_vivo.fit_spectra(spectra, options, shared)
        return in_vivo.solutions(fits, study, options), fits, study if fits.fitted.any() else shared
    fits = _fit_spectra(spectra, options, shared, x0=arguments.get("x0"))
    prior = shared or (fits.posterior.prior if fits.posterior is not None else None)
    return _solutions(fits, options), fits, prior


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
    from ..fitting.automatic_initialisation import WithKnownParameters
    from ..fitting.quantify import fit_scaled

    one = spectra[0]
    check_alike(spectra)
    model = signal_model_of(one, options)
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


def signal_model_of(mrs, options: FitOptions):
    """Return the signal model of an MRS object, with FSL-MRS's basis spectra and baseline.

    Raises
    ------
    DataError, OptionError
    """
    from ..core.axes import Axes
    from ..physics import signal_model

    signal_model.check_model(options.model)
    assert options.ppmlim is not None  # FSL-MRS always has a window
    axes = Axes(mrs.numPoints, mrs.dwellTime, mrs.centralFrequency / 1e6, mrs.nucleus)
    axes.check_window(options.ppmlim)
    _, regressor = fsl_mrs_baseline(mrs, options.ppmlim, options.baseline)
    return signal_model.SignalModel(
        mrs.basis.T,
        axes,
        model=options.model,
        groups=options.metab_groups,
        ppmlim=options.ppmlim,
        baseline=matching_baseline(options.baseline, regressor, mrs.ppmlim_to_range(options.ppmlim), options.ppmlim),
    )


def _advice(fits) -> tuple[str, ...]:
    """Return the artefacts of one fitted spectrum, each with its remedy in FSL-MRS's options."""
    from ..fitting.artefacts import artefacts_of, fitted_spectrum
    from ..fitting.filtered_band import band_of, filter_artefact

    if not fits.fitted[0] or fits.empty[0] or fits.model.axes.nucleus != "1H":
        return ()
    ours = {"mm": "--dl-mm", "spectral_model": "--dl-spectral-model"}
    of_filter = filter_artefact(fits, band_of(fits.fids, fits.model.axes))
    artefacts = [*([of_filter] if of_filter else []), *artefacts_of(fitted_spectrum(fits, 0))]
    return tuple(artefact.text(lambda name: ours.get(name, f"--{name}")) for artefact in artefacts)


def _solutions(fits, options: FitOptions) -> list[Solution]:
    """Return the solution of each spectrum."""
    misfit, ood = fits.misfit, fits.ood
    params = fits.params.copy()
    params[:, : len(fits.names)] = fits.estimate(options.estimate)[0]
    return [
        Solution(
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


def _n_shape(options: FitOptions, n_metabs: int) -> int:
    """Return the number of parameters between concentrations and baseline."""
    assert options.metab_groups is not None  # FSL-MRS always has groups
    n_groups = max(options.metab_groups) + 1
    widths = n_groups if "lorentzian" in options.model else 2 * n_groups
    return widths + (n_metabs if "free_shift" in options.model else n_groups) + 2


def _result(mrs, solution: Solution) -> FitRes:
    """Return FSL-MRS's result object at the solution; NaN where there is none, as FSL-MRS gives for a FID it cannot
    fit."""
    options = solution.options
    if solution.in_vivo is not None:
        return InVivoFitRes(mrs, solution)
    assert options.ppmlim is not None and options.metab_groups is not None  # FSL-MRS always has both
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
    result.dl, result.dl_row, result.dl_advice = solution.dl, solution.row, solution.advice
    return result
