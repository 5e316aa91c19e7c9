"""FSL-MRS's objects in, FSL-MRS's objects out.  The only module that imports ``fsl_mrs``.

FSL-MRS changed the signature of ``FitRes`` and the making of baselines between its releases; both are met by looking at
what is there, never at a version number.  Importing this module does not load torch, because FSL-MRS's worker processes
import it when they unpickle results that were fitted elsewhere.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from fsl_mrs.utils import baseline as fsl_baseline
from fsl_mrs.utils.results import FitRes

from ..core.errors import DataError, OptionError
from ..fitting.options import DlOptions
from ..physics.baseline import Baseline
from .result import _REGRESSORS, DlFitRes, _Held
from .volume import Kept

__all__ = ["fit", "fit_together", "fit_batched"]

METHOD = "dlquant"

# MRS objects of a volume that are held and fitted at once; each carries a copy of the basis set.
_BATCH = 512
_FOR_PRIOR = 2048  # voxels that a prior is learnt from


# -- results -------------------------------------------------------------------------------------------------------


if hasattr(fsl_baseline, "Baseline"):

    class _Baseline(fsl_baseline.Baseline):
        """FSL-MRS's baseline, its regressors made once and shared by all results of a volume.

        FSL-MRS makes them anew at every use.  Polynomials of order two and more come from a rank-deficient inverse
        whose rounding may differ between two calls, and then coefficients found with one do not belong to the other.
        """

        @property
        def regressor(self):
            # Kept outside of the object: every result holds one, and sends it from process to process.
            key = tuple(sorted((name, str(value)) for name, value in vars(self).items()))
            if key not in _REGRESSORS:
                if len(_REGRESSORS) >= 8:
                    _REGRESSORS.clear()
                _REGRESSORS[key] = super().regressor
            return _REGRESSORS[key]


@dataclass
class _Job:
    """The arguments of one call of ``fit_FSLModel``, resolved."""

    model: str
    groups: list[int]
    ppmlim: tuple[float, float]
    words: str
    order: int | None
    x0: np.ndarray | None

    def same(self, other: _Job) -> bool:
        """Would the other call fit the same?  A start does not count: it is no part of the question."""
        return (self.model, self.groups, self.ppmlim, self.words, self.order) == (
            other.model,
            other.groups,
            other.ppmlim,
            other.words,
            other.order,
        )


@dataclass
class _Solution:
    """A fit made beforehand, travelling with its MRS object to where FSL-MRS asks for the result."""

    job: _Job
    params: np.ndarray | None
    dl: dict = field(default_factory=dict)
    row: bytes | None = None


def fit(mrs, arguments: dict, options: DlOptions | None = None) -> FitRes:
    """Fit one spectrum; what ``fit_FSLModel(mrs, method='dlquant', ...)`` does.

    Parameters
    ----------
    mrs : fsl_mrs.core.MRS
        With a basis; scaled or not.
    arguments : dict
        The other arguments of ``fit_FSLModel`` by name, in whichever form this FSL-MRS has them.
    options : DlOptions, optional

    Returns
    -------
    FitRes
        A :class:`DlFitRes`.

    Raises
    ------
    DataError, OptionError
    """
    job = _job(mrs, arguments)
    solution = mrs.__dict__.pop("_dl_solution", None)
    if solution is None or not solution.job.same(job):
        (solution,) = _solve([mrs], job, (options or DlOptions()).check())
        if solution.params is None:
            raise DataError("the FID is zero or holds NaN; there is nothing to fit.")
    return _result(mrs, solution)


def fit_together(spectra: Iterable, arguments: dict, options: DlOptions | None = None) -> list[FitRes]:
    """Fit MRS objects that share basis set and options in batches; their results in their order.

    A spectrum that is zero or holds NaN gets a result of NaN, as FSL-MRS would give it.
    """
    voxels = fit_batched(((mrs,) for mrs in spectra), arguments, options or DlOptions())
    return [fit(mrs, arguments, options) for (mrs,) in voxels]


def fit_batched(
    voxels: Iterable[tuple], arguments: dict, options: DlOptions, volume: Kept | None = None
) -> Iterator[tuple]:
    """Iterate over tuples that begin with an MRS object, a batch of them fitted at once and the fits travelling along.

    A later ``fit_FSLModel(mrs, method='dlquant', ...)`` with the same arguments, in this process or another, finds the
    fit there. What is expected of concentrations is brought to the scale of the first batch, or learnt from it, and is
    the same for all.  With ``volume``, what maps are made of is kept there.
    """
    options = options.check()
    voxels, expected = iter(voxels), None
    size = _FOR_PRIOR if options.prior == "volume" else _BATCH
    while batch := list(islice(voxels, size)):
        spectra = [voxel[0] for voxel in batch]
        job = _job(spectra[0], arguments)
        fits = _fits(spectra, job, options, expected)
        expected = expected or (fits.posterior.prior if fits.posterior is not None else None)
        if volume is not None:
            volume.keep(fits, [voxel[1] for voxel in batch], spectra)
        for mrs, solution in zip(spectra, _solutions(fits, job, options)):
            mrs._dl_solution = solution
        yield from batch
        size = _BATCH


# -- one problem ---------------------------------------------------------------------------------------------------


def _job(mrs, arguments: dict) -> _Job:
    """The arguments of ``fit_FSLModel`` resolved: defaults filled in as FSL-MRS does."""
    if mrs.names is None:
        raise DataError("the MRS object has no basis; create it with basis=...")
    ppmlim = arguments.get("ppmlim")
    if ppmlim is None:
        from ..core import units

        ppmlim = getattr(mrs, "default_ppm_range", None) or units.nucleus(mrs.nucleus).ppmlim
    if ppmlim is None:
        raise OptionError(f"--ppmlim: there is no usual window for {mrs.nucleus}; give its limits in ppm.")
    groups = arguments.get("metab_groups")
    order = arguments.get("baseline_order")
    return _Job(
        model=arguments.get("model") or "voigt",
        groups=list(groups) if groups is not None else [0] * mrs.numBasis,
        ppmlim=(float(ppmlim[0]), float(ppmlim[1])),
        words=arguments.get("baseline") or ("poly, 2" if order is None else ""),
        order=int(order) if order is not None else None,
        x0=arguments.get("x0"),
    )


def _their_baseline(mrs, job: _Job):
    """FSL-MRS's baseline: ``(arguments of FitRes that carry it, complex regressors (n_points, 2 n), our words for
    it)``."""
    words = job.words
    if job.order is not None:
        words = f"poly, {job.order}" if job.order >= 0 else "off"
    if hasattr(fsl_baseline, "Baseline"):
        theirs = _Baseline(mrs, job.ppmlim, words, None)
        return {"baseline_obj": theirs}, theirs.regressor, words
    if not hasattr(fsl_baseline, "prepare_baseline_regressor"):
        raise DataError("this FSL-MRS makes its baselines in a way that this version does not know; use --algo Newton.")
    kind = Baseline.parse(words, mrs.numPoints, 1.0)
    if kind.mode == "spline":
        raise OptionError(
            f"--baseline '{words}': this FSL-MRS has no spline baseline; use a polynomial or a newer FSL-MRS."
        )
    regressor = fsl_baseline.prepare_baseline_regressor(mrs, kind.order, job.ppmlim)
    return {"baseline_order": kind.order, "B": regressor}, regressor, words


def _our_baseline(words: str, regressor: np.ndarray, window: tuple[int, int], ppmlim) -> Baseline:
    """Our baseline on FSL-MRS's regressors, so that the coefficients mean the same."""
    first, last = window
    plain = Baseline.parse(words, last - first, abs(ppmlim[1] - ppmlim[0]))
    columns = (
        regressor[first:last, : regressor.shape[1] // 2] if plain.mode == "spline" else regressor[first:last, 0::2]
    )
    return Baseline(
        plain.mode,
        plain.n_window,
        plain.width_ppm,
        plain.order,
        plain.effective_dimension,
        np.ascontiguousarray(columns.real),
    )


def _solve(spectra: list, job: _Job, options: DlOptions) -> list[_Solution]:
    """Fit MRS objects that share everything but the FID; ``params`` is None where nothing could be fitted."""
    return _solutions(_fits(spectra, job, options), job, options)


def _fits(spectra: list, job: _Job, options: DlOptions, expected=None):
    """Fits of MRS objects that share everything but the FID; ``expected`` is a prior in the units of the scaled data
    already."""
    from ..fitting.automatic_initialisation import AlsoFrom
    from ..fitting.quantify import fit_scaled
    from ..physics.signal_model import MODELS, SignalModel

    one = spectra[0]
    for other in spectra[1:]:
        if _setting(other) != _setting(one):
            raise DataError("the spectra differ in basis set, length, bandwidth or frequency; fit them one by one.")
    if job.model not in MODELS:
        raise OptionError(f"model '{job.model}': unknown; choose one of {', '.join(MODELS)}.")
    _, regressor, words = _their_baseline(one, job)
    model = SignalModel(
        one.basis.T,
        one.dwellTime,
        one.centralFrequency / 1e6,
        one.nucleus,
        model=job.model,
        groups=job.groups,
        ppmlim=job.ppmlim,
        baseline=_our_baseline(words, regressor, one.ppmlim_to_range(job.ppmlim), job.ppmlim),
    )
    starter = options.make_starter().for_model(model)
    if job.x0 is not None:
        starter = AlsoFrom(starter, job.x0, model)
    fids = np.stack([mrs.FID for mrs in spectra])
    return fit_scaled(
        fids,
        model,
        list(one.names),
        starter=starter,
        prior=options.prior if expected is None else expected,
        prior_scaled=expected is not None,
        relative=_relative(one),
        estimate=options.estimate,
        device=options.device,
    )


def _solutions(fits, job: _Job, options: DlOptions) -> list[_Solution]:
    """One for each spectrum."""
    misfit, ood = fits.misfit, fits.ood
    params = fits.params.copy()
    params[:, : len(fits.names)] = fits.estimate(options.estimate)[0]
    return [
        _Solution(
            job,
            params[row] if fits.usable[row] else None,
            {
                "starter": fits.starter,
                "estimate": options.estimate,
                "converged": bool(fits.converged[row]),
                "n_iter": int(fits.n_iter[row]),
                "misfit": float(misfit[row]),
                "ood_score": float(ood[row]),
            },
            pickle.dumps(fits.row(row)) if fits.usable[row] else None,
        )
        for row in range(len(fits.params))
    ]


def _relative(mrs):
    """What a prior's numbers are multiplied by where FSL-MRS scaled basis spectra one by one."""
    scale = np.atleast_1d(np.asarray(mrs.scaling["basis"], dtype=float))
    return np.median(scale) / scale if scale.size == len(mrs.names) else 1.0


def _setting(mrs) -> tuple:
    """What spectra of one batch must share."""
    return (
        tuple(mrs.names),
        mrs.numPoints,
        mrs.bandwidth,
        mrs.centralFrequency,
        mrs.nucleus,
        mrs.conj_Basis,
        mrs.scaling["basis"],
    )


def _n_shape(job: _Job, n_metabs: int) -> int:
    """Number of parameters between concentrations and baseline."""
    n_groups = max(job.groups) + 1
    widths = n_groups if "lorentzian" in job.model else 2 * n_groups
    return widths + (n_metabs if "free_shift" in job.model else n_groups) + 2


def _result(mrs, solution: _Solution) -> FitRes:
    """FSL-MRS's result object at the solution; NaN where there is none, as FSL-MRS gives for a FID it cannot fit."""
    job = solution.job
    baseline, regressor, _ = _their_baseline(mrs, job)
    params = solution.params
    if params is None:
        params = np.full(len(mrs.names) + _n_shape(job, len(mrs.names)) + regressor.shape[1], np.nan)
    values = {
        "mrs": _Held.of(mrs),
        "results": params,
        "model": job.model,
        "method": METHOD,
        "metab_groups": job.groups,
        "ppmlim": job.ppmlim,
        **baseline,
    }
    known = inspect.signature(FitRes.__init__).parameters
    unknown = [name for name, p in known.items() if p.default is p.empty and name not in ("self", *values)]
    if unknown:
        raise DataError(
            f"this FSL-MRS's results need {', '.join(unknown)}, which this version does not know; use --algo Newton."
        )
    result = DlFitRes(**values)
    result.dl, result.dl_row = solution.dl, solution.row
    return result


# -- to compare with -----------------------------------------------------------------------------------------------
