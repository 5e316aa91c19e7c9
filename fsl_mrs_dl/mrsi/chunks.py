"""One chunk of voxels: read, fitted, kept in a file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..concentrations.scaling import absolute_concentrations
from ..core import device as device_module
from ..core import parallel as parallel_module
from ..core.errors import FslMrsDlError, OutputError
from ..fitting import quantification
from ..fitting.in_vivo import quantify as in_vivo_quantify
from ..fitting.in_vivo import result as in_vivo_result
from ..fitting.in_vivo import spread as in_vivo_spread
from ..fitting.in_vivo.prepared import PreparedModel
from ..fitting.nuisance_models import NuisanceModels, fit_beside_nuisances
from ..fitting.quantify import fit_scaled, model_for
from ..io.nifti import MrsData
from ..results import maps, model_file
from ..results.fit_results import FitResults
from . import scratch
from .job import Job

__all__ = [
    "ChunkModel",
    "model_of",
    "initial_values_of",
    "fit_chunk",
    "fit_voxels",
    "results_of",
    "save_chunk",
    "chunk_files",
    "gather",
    "gather_one_by_one",
]

_TOLERANCE = 1e-2  # SDs that a fit may be off its minimum
_GATHERED_BYTES = 2**26  # of arrays that are read from all chunks at once
_MAX_ITER = 40  # of FSL-MRS's model: spectra of a brain take ten; those of the scalp are not worth more


@dataclass(frozen=True)
class ChunkModel:
    """The model of a job, made once for all of its chunks.

    Attributes
    ----------
    model : SignalModel or InVivoSignal
        On the device of the fits; the in-vivo model is described only.
    names : list of str
        Metabolites; of the in-vivo model also lipids and the sum of macromolecules.
    parameters : list of str
        Names of all parameters.
    relative : ndarray ``(n_metabs,)``
        Factor of a prior's numbers where basis spectra were scaled one by one.
    initial_values : InitialValues or None
        None of the in-vivo model, which has its own.
    in_vivo : PreparedModel, optional
        On the device of the fits.
    nuisances : NuisanceModels, optional
        FSL-MRS's model for every strength of lipids and water; None without.
    """

    model: Any
    names: list[str]
    parameters: list[str]
    relative: np.ndarray
    initial_values: object
    in_vivo: PreparedModel | None = None
    nuisances: NuisanceModels | None = None


# The models of the last two jobs, by signature and axes: a worker process gets its job anew with every chunk.
_MODELS: dict[tuple, ChunkModel] = {}
_MODELS_LOCK = threading.Lock()


def model_of(job: Job) -> ChunkModel:
    """Return the model of a job; it is made at the first call."""
    key = (job.signature, job.axes)
    with _MODELS_LOCK:
        if key not in _MODELS:
            while len(_MODELS) > 1:
                del _MODELS[next(iter(_MODELS))]
            _MODELS[key] = _make_model(job)
        return _MODELS[key]


def _make_model(job: Job) -> ChunkModel:
    if job.in_vivo is not None:
        return _make_in_vivo_model(job, job.in_vivo)
    with parallel_module.one_thread():
        model, basis_scale = model_for(job.basis, job.axes, job.options)
    model = model.to(device_module.choose_device(job.options.device))
    relative, names = np.median(basis_scale) / basis_scale, list(job.basis.names)
    initial_values, nuisances = job.options.initialisation().for_model(model), None
    if job.nuisance is not None:
        nuisances = NuisanceModels(model, job.nuisance)
        model = nuisances.of_state(0)
    return ChunkModel(model, names, model.parameter_names(names), relative, initial_values, nuisances=nuisances)


def _make_in_vivo_model(job: Job, prepared: PreparedModel) -> ChunkModel:
    signal = in_vivo_result.signal_of(prepared)
    return ChunkModel(
        model=signal,
        names=list(signal.names),
        parameters=in_vivo_result.parameter_names(prepared.model),
        relative=np.ones(signal.n_metabs),
        initial_values=None,
        in_vivo=prepared.to(device_module.choose_device(job.options.device)),
    )


def initial_values_of(job: Job):
    """Return what proposes the initial values of a job's fits; None of the in-vivo model."""
    return model_of(job).initial_values


def fit_chunk(job: Job, k: int) -> int:
    """Fit one chunk and keep it; returns the number of its voxels.

    Runs in any thread or process and gives the same to the last digit in each.

    Raises
    ------
    OutputError
        If it cannot be kept.
    """
    torch.set_num_threads(1)
    rows = job.rows(k)
    save_chunk(job, job.file(k), fit_voxels(job, job.index[rows], initial_values_of(job)))
    return rows.stop - rows.start


def fit_voxels(job: Job, index: np.ndarray, initial_values) -> dict[str, np.ndarray]:
    """Fit voxels and return everything that is written of them, arrays with a row each by name."""
    stored = job.fids(index)
    fit = _fit_without_failing_rows(job.scaled_fids(stored), _fit_of(job, index, initial_values))
    out = maps.map_values(results_of(job, fit, index))
    out["index"] = index
    out["cost"] = fit.cost
    if isinstance(fit, in_vivo_result.InVivoFit):
        # For viewers.
        good = np.flatnonzero(fit.fitted)
        out["params"], out["cov"] = fit.x.astype(np.float32), model_file.pack_symmetric(fit.cov)
        out["band"] = np.full((len(index), fit.fitted_model.window.n_window), np.nan, np.float32)
        out["band"][good] = in_vivo_spread.fitted_sd(fit, good) if len(good) else np.nan
        for name, values in (("water", fit.water_shape), ("eddy_phase", fit.eddy_phase)):
            if values is not None:
                out[name] = values.astype(np.float32)
    else:
        # For fits from neighbours, and for viewers.
        out["theta"] = fit.params[:, len(fit.names) :]
        out["params"], out["cov"] = fit.params.astype(np.float32), model_file.pack_symmetric(fit.cov)
    if job.volume_options.spatial:
        m, in_vivo = len(fit.names), isinstance(fit, in_vivo_result.InVivoFit)
        own = np.where(fit.usable[:, None], fit.conc if in_vivo else fit.free[:, :m], np.nan)
        out["own"] = own.astype(np.float32)
        out["own_cov"] = model_file.pack_symmetric(fit.cov[:, :m, :m])
    if job.volume_options.spectra:
        out["spectra"] = _spectra(job, fit, stored)
    return out


def results_of(
    job: Job, fit: quantification.Quantification, index: np.ndarray, data: MrsData | None = None
) -> FitResults:
    """Return fits of a job's voxels with the reference and sums of tables and maps, and with absolute concentrations.

    Parameters
    ----------
    job : Job
    fit : Quantification
    index : int ndarray ``(n,)``
        Voxels of its rows.
    data : MrsData, optional
    """
    fit.fid_scale = job.fid_scale
    results = FitResults.with_options(fit, data, job.options, conjugated=job.conjugated)
    results = replace(results, band=job.band)
    if job.scaling is None:
        return results
    tissue = None if job.scaling.tissue is None else job.scaling.tissue.rows(index)
    absolute, _ = absolute_concentrations(
        fit,
        job.water_fids(index),
        replace(job.scaling, tissue=tissue),
        sums=results.sums,
        estimate=results.estimate,
    )
    return replace(results, absolute=absolute)


def _fit_without_failing_rows(fids: np.ndarray, fit: _Fit) -> quantification.Quantification:
    """Fit FIDs; those that make the fit fail as a whole become NaN, and the others are fitted without them."""
    rows = np.arange(len(fids))
    try:
        return fit(fids, rows)
    except (FslMrsDlError, MemoryError):
        raise
    except Exception:
        bad = _failing_rows(fit, fids, rows)
        if len(bad) == len(fids) > 1:
            # A fault of the program, not of voxels, if none can be fitted.
            raise
        fids = fids.copy()
        fids[bad] = np.nan
        return fit(fids, rows)


_Fit = Callable[[np.ndarray, np.ndarray], quantification.Quantification]
"""Fit of scaled FIDs ``(n, n_points)``, given those of all voxels and the rows of some."""


def _fit_of(job: Job, index: np.ndarray, initial_values) -> _Fit:
    """Return the fit of voxels."""
    prepared = model_of(job)
    if prepared.in_vivo is not None:
        water, fit = job.water_fids(index), in_vivo_quantify.fit_with_prepared
        most = job.options.most_steps_in_vivo
        settings: dict = {"fid_scale": job.fid_scale, "max_iter": most, "prepared": prepared.in_vivo}
        return lambda fids, rows: fit(fids[rows], water=None if water is None else water[rows], **settings)
    options = replace(job.options, max_iter=min(job.options.max_iter, _MAX_ITER))
    fit_function = fit_scaled if prepared.nuisances is None else partial(fit_beside_nuisances, prepared.nuisances)
    fit_some = partial(
        fit_function,
        **({"model": prepared.model} if prepared.nuisances is None else {}),
        names=prepared.names,
        options=options if job.prior is not None else replace(options, prior="none"),
        initial_values=initial_values,
        prior=job.prior,
        tolerance=_TOLERANCE,
    )
    return lambda fids, rows: fit_some(fids[rows])


def _failing_rows(fit, fids: np.ndarray, rows: np.ndarray) -> list[int]:
    """Return the rows whose fit raises, found by halving."""
    try:
        fit(fids, rows)
        return []
    except Exception:
        if len(rows) == 1:
            return rows.tolist()
        return [bad for half in np.array_split(rows, 2) for bad in _failing_rows(fit, fids, half)]


def _spectra(job: Job, fit: quantification.Quantification, stored: np.ndarray) -> np.ndarray:
    """Return fit, baseline and residual as FIDs in the file's own convention, complex64 ``(3, n_points, n)``."""
    out = np.zeros((3, stored.shape[1], len(stored)), np.complex64)
    data = stored.conj()
    good = np.flatnonzero(fit.fitted)
    for part, what in zip(out, ("full", "baseline")) if len(good) else ():
        fids = fit.model_fids(what, good) / fit.fid_scale
        part[:, good] = (fids if job.conjugated else fids.conj()).T
    out[2] = np.nan_to_num(data.T - out[0], posinf=0, neginf=0)
    return out


def save_chunk(job: Job, file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Keep the results of voxels: whole or not at all, and their spectra first.

    Raises
    ------
    OutputError
    """
    arrays = dict(arrays)
    try:
        spectra = arrays.pop("spectra", None)
        if spectra is not None:
            scratch.save_array(file.with_suffix(".npy"), spectra)
        scratch.save_arrays(file, arrays)
    except OSError as exc:
        raise OutputError(
            f"{job.scratch}: a chunk cannot be kept there ({exc.strerror or exc})",
            remedy="make room and go on with `resume`",
        ) from exc


def chunk_files(job: Job) -> list[Path]:
    """Return the files of all results, in the order in which later ones replace rows of earlier ones."""
    return [job.file(k) for k in range(job.n_chunks)] + sorted(job.scratch.glob("patch-*.npz"))


def gather(job: Job, names: list[str]) -> list[np.ndarray]:
    """Return arrays of all voxels by name, a row each in the order of ``job.index``.

    Raises
    ------
    OutputError
        If a file holds something else.
    """
    out: list = [None] * len(names)
    for file in chunk_files(job):
        arrays = scratch.load_arrays(file, ["index", *names])
        rows = np.searchsorted(job.index, arrays["index"])
        for i, name in enumerate(names):
            values = arrays[name]
            if out[i] is None:
                out[i] = np.full((len(job.index), *values.shape[1:]), np.nan, values.dtype)
            out[i][rows] = values
    return out


def gather_one_by_one(job: Job, names: Iterable[str]) -> Callable[[str], np.ndarray]:
    """Return what gives arrays of all voxels by name, as :func:`gather` does, each once.

    Opening every file for every array takes most of the time of a large volume.  So files are read for several names at
    once, in the order given, as many as fit into a fixed amount of memory.
    """
    first = scratch.load_arrays(job.file(0))
    size = {name: len(job.index) * first[name][0].nbytes for name in names}
    left = list(size)
    held: dict[str, np.ndarray] = {}

    def values_of(name: str) -> np.ndarray:
        if name not in held:
            if name in left:
                left.remove(name)
            together, total = [name], size[name]
            while left and total + size[left[0]] <= _GATHERED_BYTES:
                total += size[left[0]]
                together.append(left.pop(0))
            held.update(zip(together, gather(job, together)))
        return held.pop(name)

    return values_of
