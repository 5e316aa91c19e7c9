"""One chunk of voxels: read, fitted, kept in a file."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from ..core import device as device_module
from ..core import parallel as parallel_module
from ..core import units
from ..core.errors import FslMrsDlError, OutputError
from ..fitting import quantification, quantify
from ..results import maps, model_file, tables
from .job import Job

_TOLERANCE = 1e-2  # SDs that a fit may be off its minimum


_MOST_STEPS = 40  # spectra of a brain take ten; those of the scalp are not worth more


class _Holder:
    """A job as a key that says nothing: the signature beside it tells jobs apart."""

    def __init__(self, job: Job):
        self.job = job

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other) -> bool:
        return isinstance(other, _Holder)


@lru_cache(maxsize=2)
def _prepared(signature: str, n_points: int, dwelltime: float, holder: _Holder):
    job = holder.job
    s, about = job.settings, job.volume.about
    with parallel_module.one_thread():
        model, basis_scale = quantify.model_for(
            job.basis,
            n_points,
            dwelltime,
            about.spec_freq_mhz,
            about.nucleus,
            ind_scale=list(s.ind_scale) if s.ind_scale else None,
            rescale=s.rescale,
            model=s.model,
            ppmlim=s.ppmlim,
            baseline=s.baseline,
            groups=list(s.groups) if s.groups else None,
        )
    model = model.to(device_module.choose_device(s.dl.device))
    return model, list(job.basis.names), np.median(basis_scale) / basis_scale, s.dl.make_starter().for_model(model)


def _model(job: Job):
    return _prepared(job.signature, job.volume.n_points, job.volume.about.dwelltime, _Holder(job))[:3]


def _starter(job: Job):
    return _prepared(job.signature, job.volume.n_points, job.volume.about.dwelltime, _Holder(job))[3]


def fit_chunk(job: Job, k: int) -> int:
    """Fit one chunk and keep it; the number of its voxels.

    Runs in any thread or process; gives the same to the last digit in each.
    """
    torch.set_num_threads(1)
    rows = job.rows(k)
    _save_chunk(job, job.file(k), _fitted(job, job.index[rows], _starter(job)))
    return rows.stop - rows.start


def _fitted(job: Job, index: np.ndarray, starter) -> dict[str, np.ndarray]:
    """Fit voxels and work out everything that is written of them, arrays with a row each."""
    stored = job.volume.fids(index)
    fids = (stored.conj() if job.conjugated else stored).astype(np.complex128)
    with np.errstate(invalid="ignore", over="ignore"):
        fids *= job.fid_scale
    fit = _fit_all_but_bad(job, fids, starter)
    fit.fid_scale = job.fid_scale
    s = job.settings
    whole = tables.FitResults(
        fit, tables.row_data(), list(s.internal_ref), list(s.combine), job.conjugated, s.dl.estimate
    )
    out = maps.values_of(whole)
    out["index"] = index
    out["cost"], out["theta"] = fit.cost, fit.params[:, len(fit.names) :]
    out["params"], out["cov"] = fit.params.astype(np.float32), model_file.packed(fit.cov)
    if s.spectra:
        out["spectra"] = _spectra(job, fit, stored)
    return out


def _fit_all_but_bad(job: Job, fids: np.ndarray, starter) -> quantification.Quantification:
    """Fit FIDs; those that make the fit fail as a whole are found and become NaN, and the others are fitted without
    them."""
    model, names, _ = _model(job)
    s = job.settings
    fit = partial(
        quantify.fit_scaled,
        model=model,
        names=names,
        starter=starter,
        prior=job.prior if job.prior is not None else "none",
        prior_scaled=True,
        estimate=s.dl.estimate,
        device=s.dl.device,
        max_iter=_MOST_STEPS,
        tolerance=_TOLERANCE,
    )
    try:
        return fit(fids)
    except (FslMrsDlError, MemoryError):
        raise
    except Exception:
        bad = _bad_rows(fit, fids, np.arange(len(fids)))
        if len(bad) == len(fids) > 1:
            # Nothing is wrong with a voxel where no voxel can be fitted.
            raise
        fids = fids.copy()
        fids[bad] = np.nan
        return fit(fids)


def _bad_rows(fit, fids: np.ndarray, rows: np.ndarray) -> list[int]:
    """Rows whose fit raises, found by halving."""
    try:
        fit(fids[rows])
        return []
    except Exception:
        if len(rows) == 1:
            return rows.tolist()
        return [bad for half in np.array_split(rows, 2) for bad in _bad_rows(fit, fids, half)]


def _spectra(job: Job, fit: quantification.Quantification, stored: np.ndarray) -> np.ndarray:
    """Fit, baseline and residual as FIDs in the file's own convention, complex64 ``(3, n_points, n)``."""
    out = np.zeros((3, stored.shape[1], len(stored)), np.complex64)
    data = stored.conj()
    good = np.flatnonzero(fit.usable)
    for part, what in zip(out, ("full", "baseline")) if len(good) else ():
        fids = units.spec_to_fid(fit.spectra(what, good)) / fit.fid_scale
        part[:, good] = (fids if job.conjugated else fids.conj()).T
    out[2] = np.nan_to_num(data.T - out[0], posinf=0, neginf=0)
    return out


def _save_chunk(job: Job, file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Keep a chunk; it is there whole or not at all, its spectra first."""
    arrays = dict(arrays)
    try:
        spectra = arrays.pop("spectra", None)
        temporary = file.with_name(f"{file.stem}-{os.getpid()}.part")
        if spectra is not None:
            with temporary.open("wb") as out:
                np.save(out, spectra)
            temporary.replace(file.with_suffix(".npy"))
        with temporary.open("wb") as out:
            np.savez(out, **{name.replace("/", "|"): values for name, values in arrays.items()})
        temporary.replace(file)
    except OSError as exc:
        raise OutputError(
            f"{job.scratch}: a chunk cannot be kept there ({exc.strerror or exc}); make room and go on with --resume."
        ) from exc


def _files(job: Job) -> list[Path]:
    """Everything that was kept, in the order in which later files replace what earlier ones say."""
    return [job.file(k) for k in range(job.n_chunks)] + sorted(job.scratch.glob("patch-*.npz"))


def _gathered(job: Job, names: list[str]) -> list[np.ndarray]:
    """Arrays of all voxels by name, a row each in the order of ``job.index``."""
    out: list = [None] * len(names)
    for file in _files(job):
        with np.load(file) as arrays:
            rows = np.searchsorted(job.index, arrays["index"])
            for i, name in enumerate(names):
                values = arrays[name.replace("/", "|")]
                if out[i] is None:
                    out[i] = np.full((len(job.index), *values.shape[1:]), np.nan, values.dtype)
                out[i][rows] = values
    return out
