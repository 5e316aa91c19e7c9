"""FSL-MRS's objects in, FSL-MRS's objects out.  The only module that imports ``fsl_mrs``.

FSL-MRS changed the signature of ``FitRes`` and the making of baselines between its releases; both are met by looking at what is
there, never at a version number.  Importing this module does not load torch, because FSL-MRS's worker processes import it when
they unpickle results that were fitted elsewhere.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from fsl_mrs.core import MRS
from fsl_mrs.utils import baseline as fsl_baseline
from fsl_mrs.utils.results import FitRes

from .. import __version__
from ..core.errors import DataError, OptionError
from ..fitting.options import DlOptions
from ..physics.baseline import Baseline

__all__ = ["DlFitRes", "fit", "fit_together", "fit_batched", "Kept", "describe_fit", "its_align", "its_fit"]

METHOD = "dlquant"

# MRS objects of a volume that are held and fitted at once; each carries a copy of the basis set.
_BATCH = 512
_FOR_PRIOR = 2048  # voxels that a prior is learnt from


# -- results -------------------------------------------------------------------------------------------------------


class DlFitRes(FitRes):
    """FSL-MRS's result of a fit by ``dlquant``.

    Everything is FSL-MRS's own.  ``dl`` holds what it has no place for: ``starter``, ``estimate``, ``converged``, ``n_iter``,
    ``misfit`` (residual over noise; one where the model explains everything but noise) and ``ood_score`` (above one the spectrum is unlike
    clean data).  :meth:`uncertainties` has every estimate with its intervals.
    """

    dl: dict = {}
    # The fit as this package knows it, without model and data; pickled, so that a worker need not load torch to pass a result on.
    dl_row: bytes | None = None

    def uncertainties(self):
        """Every estimate and what the data decided: the table of ``uncertainty.csv``, a ``pandas.DataFrame``.

        Raises
        ------
        DataError
            If the spectrum could not be fitted.
        """
        if self.dl_row is None:
            raise DataError("the FID is zero or holds NaN; nothing is known of its concentrations.")
        from ..results.tables import FitResults, row_data

        reference = self.concScalings["internalRef"] if self.concScalings.get("internal") is not None else None
        named = str(reference).split("+") if reference else []
        row = pickle.loads(self.dl_row)
        sums = [name for name in self.metabs if "+" in name and set(name.split("+")) <= set(row.names)]
        return FitResults(row, row_data(), named or ["no reference"], sums, False, self.dl["estimate"]).uncertainties()

    def to_file(self, filename, what="concentrations"):
        """As FSL-MRS's; with its summary, ``uncertainty.csv`` is written into the same folder."""
        super().to_file(filename, what=what)
        if what == "summary" and self.dl_row is not None:
            self.uncertainties().to_csv(Path(filename).with_name("uncertainty.csv"), index=False)

    def getUncertainties(self, type="percentage", metab=None):
        """As FSL-MRS's: SDs of the concentrations from the Cramer-Rao bound."""
        # FSL-MRS asks for the method by name here, and for the one it does not know returns nothing.
        newton = copy.copy(self)
        newton.method = "Newton"
        return FitRes.getUncertainties(newton, type=type, metab=metab)

    @property
    def perc_SD(self):
        """Standard deviations in percent of every parameter, sums of metabolites at the end; 999 at most, as FSL-MRS's."""
        # FSL-MRS divides by the parameters without the sums, which fails as soon as there is one.
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = np.sqrt(self.crlb) / self.params_inc_combine * 100
        return np.where(np.isnan(percent) | (percent > 999), 999.0, percent)


class _Held(MRS):
    """An MRS object for reading only, its formatted basis made once.

    FSL-MRS resamples the basis at every look, some two dozen times for one result; that is half of the time a result takes.
    """

    @classmethod
    def of(cls, mrs: MRS) -> MRS:
        held = copy.copy(mrs)
        if type(mrs) is MRS:
            held.__class__ = cls
        return held

    @cached_property
    def basis(self):
        return super().basis


if hasattr(fsl_baseline, "Baseline"):

    class _Baseline(fsl_baseline.Baseline):
        """FSL-MRS's baseline, its regressors made once and shared by all results of a volume.

        FSL-MRS makes them anew at every use.  Polynomials of order two and more come from a rank-deficient inverse whose rounding
        may differ between two calls, and then coefficients found with one do not belong to the other.
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


_REGRESSORS: dict = {}


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


def fit_batched(voxels: Iterable[tuple], arguments: dict, options: DlOptions, volume: Kept | None = None) -> Iterator[tuple]:
    """Iterate over tuples that begin with an MRS object, a batch of them fitted at once and the fits travelling along.

    A later ``fit_FSLModel(mrs, method='dlquant', ...)`` with the same arguments, in this process or another, finds the fit there.
    What is expected of concentrations is brought to the scale of the first batch, or learnt from it, and is the same for all.  With
    ``volume``, what maps are made of is kept there.
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


class Kept:
    """What maps of a volume need of its fits, collected batch by batch.

    Parameters
    ----------
    internal_ref, combine : list of str
        Internal reference, and sums written with '+'.
    estimate : str
        The one that FSL-MRS's tables hold.
    """

    def __init__(self, internal_ref: list[str], combine: list[str], estimate: str = "ml"):
        self.internal_ref, self.combine, self.estimate = internal_ref, combine, estimate
        self.parts: list[dict] = []
        self.model, self.names, self.fid_scale = None, None, 1.0

    def keep(self, fits, places: list[tuple], spectra: list) -> None:
        """Work out the values of one batch, whose voxels are at ``places``."""
        from ..results import maps, model_file
        from ..results.tables import FitResults, row_data

        if self.model is None:
            self.model, self.names, self.fid_scale = fits.model, list(fits.names), float(spectra[0].scaling["FID"])
        whole = FitResults(fits, row_data(), self.internal_ref, self.combine, bool(spectra[0].conj_FID), self.estimate)
        part = maps.values_of(whole)
        # FSL-MRS scales each voxel's FID by itself; a model for viewers has one scale.
        scale = self.fid_scale / np.array([float(mrs.scaling["FID"]) for mrs in spectra])
        params, cov = fits.params.copy(), fits.cov.copy()
        m, tail = len(fits.names), fits.model.sizes["baseline"]
        linear = [*range(m), *range(params.shape[1] - tail, params.shape[1])]
        params[:, linear] *= scale[:, None]
        cov[:, :m] *= scale[:, None, None]
        cov[:, :, :m] *= scale[:, None, None]
        part |= {"params": params.astype(np.float32), "cov": model_file.packed(cov), "noise": fits.noise_sd * scale}
        part["place"] = np.array([tuple(place)[:3] for place in places])
        part["conjugated"] = np.array([bool(mrs.conj_FID) for mrs in spectra])
        self.parts.append(part)

    def write(self, folder: str | Path) -> None:
        """Write into FSL-MRS's folder of results the maps that it has not, and what viewers need."""
        from ..results import layout, maps, model_file

        folder = Path(folder)
        if not self.parts or not (folder / "concs" / "raw").is_dir():
            return
        import nibabel

        image = nibabel.load(next((folder / "concs" / "raw").glob("*.nii.gz")))
        shape = (*image.shape, 1)[:3]
        get = lambda name: np.concatenate([part[name] for part in self.parts])  # noqa: E731
        index = np.ravel_multi_index(tuple(get("place").T), shape)
        kinds = set(self.parts[0]) - {"params", "cov", "noise", "place", "conjugated"}
        names = maps.all_names(self.names, self.internal_ref, self.combine)
        maps.write(folder, maps.Grid(shape, image.affine, index), kinds, get, names, ours_only=True)
        model_file.write_model(
            folder, self.model, self.names, grid=shape, fid_scale=self.fid_scale, conjugated=bool(get("conjugated").mean() > 0.5),
            rows=index, params=get("params"), cov=get("cov"), noise_sd=get("noise"),
        )  # fmt: skip
        written = {one.key for one in layout.QUANTITIES if one.key in kinds and (folder / one.path(names[0])).is_file()}
        written |= {one.key for one in layout.QUANTITIES if one.fsl_mrs and (folder / one.path(names[0])).is_file()}
        maps.write_for_viewer(folder, names, written | {key for key, path in layout.SPECTRA.items() if (folder / path).is_file()})


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
    """FSL-MRS's baseline: ``(arguments of FitRes that carry it, complex regressors (n_points, 2 n), our words for it)``."""
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
        raise OptionError(f"--baseline '{words}': this FSL-MRS has no spline baseline; use a polynomial or a newer FSL-MRS.")
    regressor = fsl_baseline.prepare_baseline_regressor(mrs, kind.order, job.ppmlim)
    return {"baseline_order": kind.order, "B": regressor}, regressor, words


def _our_baseline(words: str, regressor: np.ndarray, window: tuple[int, int], ppmlim) -> Baseline:
    """Our baseline on FSL-MRS's regressors, so that the coefficients mean the same."""
    first, last = window
    plain = Baseline.parse(words, last - first, abs(ppmlim[1] - ppmlim[0]))
    columns = regressor[first:last, : regressor.shape[1] // 2] if plain.mode == "spline" else regressor[first:last, 0::2]
    return Baseline(
        plain.mode, plain.n_window, plain.width_ppm, plain.order, plain.effective_dimension, np.ascontiguousarray(columns.real)
    )


def _solve(spectra: list, job: _Job, options: DlOptions) -> list[_Solution]:
    """Fit MRS objects that share everything but the FID; ``params`` is None where nothing could be fitted."""
    return _solutions(_fits(spectra, job, options), job, options)


def _fits(spectra: list, job: _Job, options: DlOptions, expected=None):
    """Fits of MRS objects that share everything but the FID; ``expected`` is a prior in the units of the scaled data already."""
    from ..fitting.initialisation import AlsoFrom
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
        raise DataError(f"this FSL-MRS's results need {', '.join(unknown)}, which this version does not know; use --algo Newton.")
    result = DlFitRes(**values)
    result.dl, result.dl_row = solution.dl, solution.row
    return result


def describe_fit(result) -> str:
    """A result's ``dl`` in a sentence, for reports and terminals; empty for results of another method."""
    dl = getattr(result, "dl", None)
    if not dl:
        return ""
    ended = f"converged after {dl['n_iter']} steps" if dl["converged"] else f"did NOT converge in {dl['n_iter']} steps"
    what = {
        "ml": "",
        "posterior_mean": " Concentrations are posterior means.",
        "network": " Concentrations are the network's own.",
    }
    strange = " The spectrum is unlike clean data." if dl.get("ood_score", 0) > 1 else ""
    return (
        f"dlquant (FSL-MRS-DL {__version__}): start proposed by {dl['starter']}, refined to the maximum of the likelihood, {ended}; "
        f"residual over noise {dl['misfit']:.2f}.{what.get(dl.get('estimate', 'ml'), '')}{strange}"
    )


# -- to compare with -----------------------------------------------------------------------------------------------


def its_align(fids, *, dwelltime: float, spec_freq_mhz: float, ppmlim=(0.2, 4.2), target=None):
    """FSL-MRS's own alignment with the options its command has by default.

    Parameters
    ----------
    fids : complex array ``(n_transients, n_points)``
    dwelltime, spec_freq_mhz : float
        Seconds, MHz.
    target : complex array ``(n_points,)``, optional
        What is aligned to; by default FSL-MRS finds one.

    Returns
    -------
    shift_hz, phase_deg : ndarray ``(n_transients,)``
        With :mod:`fsl_mrs_dl.registration.solver`'s signs.
    """
    from fsl_mrs.utils.preproc import phase_freq_align

    _, phase, shift = phase_freq_align(
        list(fids), 1 / dwelltime, spec_freq_mhz * 1e6, nucleus="1H", ppmlim=ppmlim, niter=2, target=target
    )
    return np.array(shift), np.rad2deg(np.array(phase))


def its_fit(fids, basis, *, dwelltime: float, spec_freq_mhz: float, model: str = "lorentzian", ppmlim=(0.2, 4.2)):
    """Concentrations by FSL-MRS Newton in the units of FIDs and basis set, one spectrum after the other, without a baseline.

    Parameters
    ----------
    fids : complex array ``(n, n_points)``
    basis : Basis
    dwelltime, spec_freq_mhz : float
        Seconds, MHz.

    Returns
    -------
    ndarray ``(n, n_metabs)``
    """
    from fsl_mrs.core.basis import Basis as TheirBasis
    from fsl_mrs.utils.fitting import fit_FSLModel

    n_points = fids.shape[-1]
    headers = [
        {
            "centralFrequency": spec_freq_mhz,
            "bandwidth": 1 / dwelltime,
            "dwelltime": dwelltime,
            "fwhm": None,
            "nucleus": basis.nucleus,
        }
        for _ in basis.names
    ]
    theirs = TheirBasis(basis.resampled(dwelltime, n_points).T, list(basis.names), headers)
    out = []
    for fid in fids:
        mrs = MRS(FID=fid, cf=spec_freq_mhz, bw=1 / dwelltime, nucleus=basis.nucleus, basis=theirs)
        mrs.processForFitting()
        result = fit_FSLModel(mrs, method="Newton", model=model, ppmlim=ppmlim, baseline="off")
        scale = np.asarray(mrs.scaling["basis"], float) / float(mrs.scaling["FID"])
        out.append(np.asarray(result.getConc(scaling="raw"))[: len(basis.names)] * scale)
    return np.array(out)
