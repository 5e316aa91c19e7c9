"""A whole MRSI volume: fitted in chunks side by side, kept on disk as it goes, put together into FSL-MRS's folder at the end.

A run has a hidden folder beside its output.  Every chunk that is done lies there, so that a run which was interrupted can go on, and
spectra need not be in memory.  Chunks are the same whoever fits them: one process, several, or the nodes of a cluster.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..core import units
from ..core.errors import DataError, FslMrsDlError, OptionError, OutputError
from ..fitting import quantify, uncertainty
from ..fitting.options import DlOptions
from ..fitting.priors import Prior
from ..io.basis import Basis, detect_conjugation
from ..io.volume import Volume, load_mask, open_volume, write_spectra
from ..results import layout, maps, model_file, tables

__all__ = ["Settings", "Job", "prepare", "fit_all", "write_results", "scratch_of", "PARALLEL"]

PARALLEL = ("off", "local", "cluster")
"""Where chunks are fitted: in this process, in several of this machine, or on a cluster."""

CHUNK = 256
"""Voxels of a chunk."""

_PILOT = 256  # voxels that a volume is looked at with beforehand
_FOR_PRIOR = 2048  # and those that a prior is learnt from
_NEIGHBOUR_PASSES = 2
_TOLERANCE = 1e-2  # SDs that a fit may be off its minimum
_MOST_STEPS = 40  # spectra of a brain take ten; those of the scalp are not worth more


@dataclass(frozen=True)
class Settings:
    """How to fit; names and meaning as in :func:`fsl_mrs_dl.fitting.quantify.quantify`.

    ``internal_ref`` and ``combine`` are metabolites and sums of them ('GPC+PCh'); ``spectra`` tells whether fit, baseline and residual are
    written; ``share_starts`` fits voxels again from where their neighbours ended, where that is elsewhere.
    """

    model: str = "voigt"
    ppmlim: tuple[float, float] | None = None
    baseline: str = "poly, 2"
    groups: tuple[int, ...] | None = None
    ind_scale: tuple[str, ...] | None = None
    rescale: bool = True
    internal_ref: tuple[str, ...] = ("Cr", "PCr")
    combine: tuple[str, ...] = ()
    dl: DlOptions = field(default_factory=DlOptions)
    conjugate: bool | None = None
    spectra: bool = True
    share_starts: bool = False


@dataclass(frozen=True)
class Job:
    """Everything that fitting a chunk needs, small enough to be sent to another process.

    ``index`` ``(n,)`` are the voxels to fit, counted with z fastest, and ``pilot`` those of them that the volume is looked at with beforehand;
    ``prior`` is in the units of the scaled data.
    """

    volume: Volume
    basis: Basis
    settings: Settings
    index: np.ndarray
    fid_scale: float
    conjugated: bool
    prior: Prior | None
    scratch: Path
    signature: str
    pilot: np.ndarray
    chunk: int = CHUNK

    @property
    def n_chunks(self) -> int:
        return -(-len(self.index) // self.chunk)

    def rows(self, k: int) -> slice:
        """Which of the voxels chunk ``k`` has."""
        return slice(k * self.chunk, min(len(self.index), (k + 1) * self.chunk))

    def file(self, k: int) -> Path:
        """Where the results of chunk ``k`` are kept."""
        return self.scratch / f"chunk-{k:05d}.npz"

    def done(self) -> list[int]:
        """Chunks that are there already."""
        return [k for k in range(self.n_chunks) if self.file(k).is_file()]


def scratch_of(output: Path) -> Path:
    """The folder in which a run keeps what is done of it."""
    output = Path(output).resolve()
    return output.with_name(f".{output.name}-unfinished")


# -- before the fit ------------------------------------------------------------------------------------------------


def prepare(
    data: str | Path,
    basis: Basis,
    output: str | Path,
    settings: Settings,
    *,
    mask: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    chunk: int = CHUNK,
    say: Callable[[str], None] = print,
) -> tuple[Job, tables.FitResults]:
    """Open the data, choose voxels, scale and prior; what follows depends on nothing else.

    Returns
    -------
    Job
    FitResults
        Fits of some voxels spread over the volume.

    Raises
    ------
    DataError, BasisError, OptionError, OutputError
        OutputError also where an unfinished run is there and neither ``resume`` nor ``overwrite`` is given.
    """
    scratch = scratch_of(output)
    signature = _signature(data, basis, settings, mask, chunk)
    if resume:
        job = _taken_up(scratch, output, signature)
        return job, _looked_ahead(job, job.prior if job.prior is not None else "none", prior_scaled=True)
    if scratch.exists():
        if not overwrite:
            done = len(list(scratch.glob("chunk-*.npz")))
            raise OutputError(
                f"{output}: an unfinished run of it is there ({done} chunks done); --resume goes on with it, --overwrite begins anew."
            )
        shutil.rmtree(scratch)
    try:
        scratch.mkdir(parents=True)
    except OSError as exc:
        raise OutputError(f"{output}: cannot be made ({exc.strerror}); choose another --output.") from exc
    try:
        job, pilot = _planned(data, basis, settings, mask, scratch, signature, chunk, say)
        _keep(scratch / "job.pickle", job)
        return job, pilot
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _signature(data, basis: Basis, settings: Settings, mask, chunk: int) -> str:
    """What must be the same for a run to go on, as text."""

    def stamp(path):
        try:
            found = Path(path).stat()
        except OSError:
            return str(path)
        return [str(Path(path).resolve()), found.st_size, found.st_mtime_ns]

    digest = hashlib.sha256(np.ascontiguousarray(basis.fids).tobytes()).hexdigest()
    about = {
        "data": stamp(data),
        "mask": None if mask is None else stamp(mask),
        "basis": [list(basis.names), digest],
        **{name: value for name, value in asdict(settings).items() if name != "share_starts"},
        "voxels of a chunk": chunk,
        "version": __version__,
    }
    return json.dumps(about, default=str, sort_keys=True)


def _keep(path: Path, job: Job) -> None:
    import pickle

    path.write_bytes(pickle.dumps(job))


def _taken_up(scratch: Path, output, signature: str) -> Job:
    """The job of an unfinished run, if it is the one that is asked for."""
    import pickle

    try:
        # Written by this program, in a folder of the user's own.
        job = pickle.loads((scratch / "job.pickle").read_bytes())
    except FileNotFoundError:
        raise OutputError(f"{output}: there is no unfinished run of it to go on with; leave --resume out.") from None
    except Exception as exc:
        raise OutputError(
            f"{output}: what is there of the unfinished run cannot be read ({exc}); begin anew with --overwrite."
        ) from exc
    old, new = json.loads(job.signature), json.loads(signature)
    for name in old:
        if old[name] != new.get(name):
            was, now = (str(values)[:60] for values in (old[name], new.get(name)))
            raise OutputError(
                f"{output}: the unfinished run was made with another {name} ({was}, now {now}); --overwrite begins anew."
            )
    return replace(job, scratch=scratch)


def _planned(
    data, basis: Basis, settings: Settings, mask, scratch: Path, signature: str, chunk: int, say
) -> tuple[Job, tables.FitResults]:
    volume = open_volume(data, scratch)
    about = volume.about
    basis.check_match(about.spec_freq_mhz, about.nucleus, str(data))
    inside = np.ones(volume.grid, bool) if mask is None else load_mask(mask, volume)
    index = np.flatnonzero(inside)
    usable, energy, contrast = _looked_at(volume, index)
    if not usable.any():
        where = "" if mask is None else " in the mask"
        raise DataError(f"{data}: every FID{where} is zero or holds NaN; there is nothing to fit.")
    if mask is None:
        # Without a mask, a voxel of zeros is outside of what was measured; one of NaN is flagged.
        index, usable, energy, contrast = (values[energy != 0] for values in (index, usable, energy, contrast))
    scale = 100 / float(np.sqrt(energy[usable].mean())) if settings.rescale else 1.0
    rng = np.random.default_rng(0)
    strong, many = np.flatnonzero(usable), _FOR_PRIOR if settings.dl.prior == "volume" else _PILOT
    if len(strong) > 2 * many:
        # Neither noise nor, where there is no mask, the scalp's lipids.
        low, high = np.quantile(contrast[strong], (0.5, 1.0 if mask is not None else 0.85))
        strong = strong[(contrast[strong] >= low) & (contrast[strong] <= high)]
    chosen = np.sort(rng.choice(strong, min(many, len(strong)), replace=False))
    fids = volume.fids(index[chosen])
    conjugated = settings.conjugate
    if conjugated is None:
        conjugated = detect_conjugation(fids, about.dwelltime, about.spec_freq_mhz, about.nucleus)
        if conjugated:
            say(f"{data}: the frequency axis runs backwards and was turned round (complex conjugate); --no_conj_fid forbids it.")
    job = Job(volume, basis, settings, index, scale, bool(conjugated), None, scratch, signature, index[chosen], chunk)
    pilot = _looked_ahead(job, settings.dl.prior)
    fit = pilot.fit
    fit.estimate(settings.dl.estimate)  # says so if it was not made
    if fit.network_note:
        say(fit.network_note)
    return replace(job, prior=fit.posterior.prior if fit.posterior is not None else None), pilot


def _looked_ahead(job: Job, prior, prior_scaled: bool = False) -> tables.FitResults:
    """Fits of the voxels that a volume is looked at with beforehand."""
    s, (model, names, relative) = job.settings, _model(job)
    fids = job.volume.fids(job.pilot)
    # The prior comes from here: a run that goes on elsewhere is to have the same.
    with quantify.one_thread():
        fit = quantify.fit_scaled(
            (fids.conj() if job.conjugated else fids) * job.fid_scale, model, names, starter=_starter(job), prior=prior, relative=relative,
            prior_scaled=prior_scaled, estimate=s.dl.estimate, device=s.dl.device,
        )  # fmt: skip
    fit.fid_scale = job.fid_scale
    data = _rows_of(job.volume, fids)
    return tables.FitResults(fit, data, list(s.internal_ref), list(s.combine), job.conjugated, s.dl.estimate)


def _rows_of(volume: Volume, fids: np.ndarray):
    """Some spectra of a volume as data of their own."""
    return replace(volume.about, fids=fids[:, None, None, :])


def _looked_at(volume: Volume, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which voxels can be fitted, bool ``(n,)``; the sum of squares of their FIDs, NaN where one is not finite; and signal over noise.

    The last is the size of the spectrum where metabolites are over that where there is noise only, whichever way the frequency axis runs.
    """
    about, n = volume.about, volume.n_points
    energy, contrast = np.zeros(len(index)), np.zeros(len(index))
    axes = n, about.dwelltime, about.spec_freq_mhz, about.nucleus
    ppm, quiet = units.ppm_axis(*axes), uncertainty.quiet_points(*axes)
    limits = units.nucleus(about.nucleus).ppmlim
    first, last = units.window_indices(ppm, limits)
    window = np.zeros(n, bool)
    window[first:last] = True
    window |= window[::-1]
    for part in np.array_split(np.arange(len(index)), -(-len(index) // 4096)):
        fids = volume.fids(index[part])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            energy[part] = np.square(fids.real, dtype=float).sum(1) + np.square(fids.imag, dtype=float).sum(1)
            power = np.abs(units.fid_to_spec(fids.astype(np.complex64))) ** 2
            contrast[part] = np.nan_to_num(power[:, window].mean(1) / power[:, quiet].mean(1))
    return np.isfinite(energy) & (energy > 0), energy, contrast


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
    with quantify.one_thread():
        model, basis_scale = quantify.model_for(
            job.basis, n_points, dwelltime, about.spec_freq_mhz, about.nucleus, ind_scale=list(s.ind_scale) if s.ind_scale else None,
            rescale=s.rescale, model=s.model, ppmlim=s.ppmlim, baseline=s.baseline, groups=list(s.groups) if s.groups else None,
        )  # fmt: skip
    model = model.to(quantify.choose_device(s.dl.device))
    return model, list(job.basis.names), np.median(basis_scale) / basis_scale, s.dl.make_starter().for_model(model)


def _model(job: Job):
    return _prepared(job.signature, job.volume.n_points, job.volume.about.dwelltime, _Holder(job))[:3]


def _starter(job: Job):
    return _prepared(job.signature, job.volume.n_points, job.volume.about.dwelltime, _Holder(job))[3]


# -- one chunk -----------------------------------------------------------------------------------------------------


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
    whole = tables.FitResults(fit, tables.row_data(), list(s.internal_ref), list(s.combine), job.conjugated, s.dl.estimate)
    out = maps.values_of(whole)
    out["index"] = index
    out["cost"], out["theta"] = fit.cost, fit.params[:, len(fit.names) :]
    out["params"], out["cov"] = fit.params.astype(np.float32), model_file.packed(fit.cov)
    if s.spectra:
        out["spectra"] = _spectra(job, fit, stored)
    return out


def _fit_all_but_bad(job: Job, fids: np.ndarray, starter) -> quantify.Quantification:
    """Fit FIDs; those that make the fit fail as a whole are found and become NaN, and the others are fitted without them."""
    model, names, _ = _model(job)
    s = job.settings
    fit = partial(
        quantify.fit_scaled, model=model, names=names, starter=starter, prior=job.prior if job.prior is not None else "none",
        prior_scaled=True, estimate=s.dl.estimate, device=s.dl.device, max_iter=_MOST_STEPS, tolerance=_TOLERANCE,
    )  # fmt: skip
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


def _spectra(job: Job, fit: quantify.Quantification, stored: np.ndarray) -> np.ndarray:
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


# -- all chunks ----------------------------------------------------------------------------------------------------


def fit_all(
    job: Job,
    *,
    parallel: str = "off",
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Fit every chunk that is not there yet.

    Parameters
    ----------
    job : Job
    parallel : str
        One of :data:`PARALLEL`.
    workers : int, optional
        Threads, processes or nodes.
    progress : callable, optional
        Called with the number of voxels that were finished.

    Raises
    ------
    OptionError, DataError, OutputError
    """
    done = set(job.done())
    if progress and done:
        progress(sum(job.rows(k).stop - job.rows(k).start for k in done))
    left = [k for k in range(job.n_chunks) if k not in done]
    for finished in _mapped(partial(fit_chunk, job), left, parallel, workers, say, job.settings.dl.device):
        if progress:
            progress(finished)
    if job.settings.share_starts:
        for number in range(_NEIGHBOUR_PASSES):
            if not _from_neighbours(job, number, parallel, workers, say):
                break


def _mapped(function, parts: list, parallel: str, workers: int | None, say, device: str) -> Iterator[int]:
    """``map`` in whatever order parts are finished."""
    if not parts:
        return
    if parallel == "off":
        threads = workers or torch.get_num_threads()
        yield from _in_threads(function, parts, 1 if quantify.choose_device(device).type != "cpu" else threads)
        return
    try:
        from dask.distributed import Client, as_completed
    except ImportError as exc:
        raise OptionError(
            f"--parallel {parallel}: needs dask ({exc}); pip install 'fsl-mrs-dl[parallel]', or leave --parallel out."
        ) from exc
    cluster = _cluster(workers or 2) if parallel == "cluster" else None
    n_workers = min(workers or os.cpu_count() or 1, len(parts))
    client = Client(cluster) if cluster is not None else Client(n_workers=n_workers, threads_per_worker=1, dashboard_address=None)
    with client:
        say(
            f"Fitting {len(parts)} chunks on {workers or 2} nodes."
            if cluster is not None
            else f"Fitting {len(parts)} chunks, {n_workers} at a time."
        )
        for future in as_completed(client.map(function, parts, pure=False)):
            yield future.result()
    if cluster is not None:
        cluster.close()


def _cluster(workers: int):
    """Nodes of a cluster as FSL-MRS asks for them: SLURM, configured under the name 'fsl_mrsi'."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as exc:
        raise OptionError(f"--parallel cluster: needs dask-jobqueue ({exc}); pip install 'fsl-mrs-dl[parallel]'.") from exc
    try:
        cluster = SLURMCluster(config_name="fsl_mrsi")
    except (ValueError, KeyError, TypeError) as exc:
        raise OptionError(
            f"--parallel cluster: dask-jobqueue has no configuration 'fsl_mrsi' that it can use ({exc}); FSL-MRS's documentation says how to make one."
        ) from exc
    cluster.scale(workers)
    return cluster


def _in_threads(function, parts: Sequence, threads: int) -> Iterator:
    """Each part in one of some threads; after an interruption no further part is begun."""
    before = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        waiting = {pool.submit(function, part) for part in parts}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(before)


# -- neighbours ----------------------------------------------------------------------------------------------------


class Given:
    """A starter that proposes what it was given.

    Parameters
    ----------
    proposals : tensor ``(n, n_theta)``
        For the spectra it will be called with, in their order; NaN for none, which the first proposal then stands in for.
    """

    name = "neighbours"

    def __init__(self, proposals: torch.Tensor):
        self.proposals, self.at = proposals, 0

    def __call__(self, spec, model, names):
        part = self.proposals[self.at : self.at + len(spec)]
        self.at += len(spec)
        return part[:, None]


class _FromNeighbours:
    """Where a voxel ended and where its neighbours did, each to be tried."""

    name = "neighbours"

    def __init__(self, proposals: torch.Tensor):
        self.parts = [Given(proposals[:, i]) for i in range(proposals.shape[1])]

    def for_model(self, model):
        return self


def _from_neighbours(job: Job, number: int, parallel: str, workers: int | None, say) -> int:
    """Fit voxels again whose neighbours ended elsewhere, and keep what is better; how many were."""
    model, names, _ = _model(job)
    theta, cost = _gathered(job, ["theta", "cost"])
    theta = _theta_only(model, theta)
    place = np.full(job.volume.grid, -1).reshape(-1)
    place[job.index] = np.arange(len(job.index))
    around = _neighbours(place.reshape(job.volume.grid))[job.index]
    converged = np.isfinite(cost) & np.isfinite(theta).all(1)
    known = torch.as_tensor(np.where(np.isfinite(theta), theta, 0.0))
    candidates = np.repeat(np.arange(len(theta))[:, None], 7, 1)
    different = np.zeros(len(theta), bool)
    for side in range(6):
        other = around[:, side]
        there = (other >= 0) & converged & np.where(other >= 0, converged[other], False)
        apart = np.zeros(len(theta), bool)
        rows = np.flatnonzero(there)
        apart[rows] = quantify.apart(model, known[rows], known[other[rows]]).cpu().numpy()
        candidates[:, side + 1] = np.where(apart, other, candidates[:, side + 1])
        different |= apart
    rows = np.flatnonzero(different)
    file = job.scratch / f"patch-{number}.npz"
    if not len(rows) or file.is_file():
        return len(rows)
    parts = np.array_split(rows, -(-len(rows) // job.chunk))

    def better_fits(k: int) -> tuple[int, dict]:
        torch.set_num_threads(1)
        found = _fitted(job, job.index[parts[k]], _FromNeighbours(known[candidates[parts[k]]]))
        lower = found["cost"] < cost[parts[k]] * (1 - 1e-6)
        return k, {name: values[..., lower] if name == "spectra" else values[lower] for name, values in found.items()}

    here = workers if parallel != "cluster" else None
    threads = 1 if model.time.device.type != "cpu" else here or torch.get_num_threads()
    kept = [found for _, found in sorted(_in_threads(better_fits, range(len(parts)), threads), key=lambda one: one[0])]
    better = sum(len(found["cost"]) for found in kept)
    joined = {name: np.concatenate([one[name] for one in kept], axis=-1 if name == "spectra" else 0) for name in kept[0]}
    _save_chunk(job, file, joined)
    say(f"{better} of {len(rows)} voxels whose neighbours ended elsewhere were better fitted from there.")
    return better


def _theta_only(model, values: np.ndarray) -> np.ndarray:
    """All parameters behind the concentrations -> the nonlinear ones, ``sigma`` squared."""
    n = sum(model.theta_sizes.values())
    theta = values[:, :n].copy()
    if model.shape.gaussian:
        at = slice(model.n_groups, 2 * model.n_groups)
        theta[:, at] = theta[:, at] ** 2
    return theta


def _neighbours(place: np.ndarray) -> np.ndarray:
    """What the six neighbours of each voxel hold, ``(n_voxels, 6)``; -1 outside."""
    padded = np.pad(place, 1, constant_values=-1)
    sides = [padded[2:, 1:-1, 1:-1], padded[:-2, 1:-1, 1:-1], padded[1:-1, 2:, 1:-1], padded[1:-1, :-2, 1:-1], padded[1:-1, 1:-1, 2:], padded[1:-1, 1:-1, :-2]]  # fmt: skip
    return np.stack([side.reshape(-1) for side in sides], 1)


# -- putting together ----------------------------------------------------------------------------------------------


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


def write_results(folder: Path, job: Job, *, options: str, pilot: tables.FitResults | None = None) -> dict[str, np.ndarray]:
    """Write FSL-MRS's folder and our maps from what is kept of a job; some of the maps' values, for a summary.

    Parameters
    ----------
    folder : path
        There and empty.
    job : Job
        With every chunk done.
    options : str
        For options.txt.
    pilot : FitResults, optional
        Drawn into fit_avg.png.

    Returns
    -------
    dict
        Arrays with a row per voxel, by the key of the map; 'names' are the columns of those with several.
    """
    model, fitted, _ = _model(job)
    names = maps.all_names(fitted, job.settings.internal_ref, job.settings.combine)
    (folder / "options.txt").write_text(options)
    with np.load(job.file(0)) as arrays:
        kinds = {name.replace("|", "/") for name in arrays.files}
    grid = maps.Grid(job.volume.grid, job.volume.about.affine, job.index)
    with ThreadPoolExecutor(1) as pool:
        # Packing spectra leaves the interpreter to others.
        packing = pool.submit(_write_all_spectra, folder, job) if job.settings.spectra else None
        seen = _write_maps(folder, job, model, fitted, names, kinds, grid, pilot)
        if packing is not None:
            packing.result()
    return seen


def _write_maps(folder: Path, job: Job, model, fitted, names, kinds: set[str], grid: maps.Grid, pilot) -> dict[str, np.ndarray]:
    """All but the spectra."""
    seen = maps.write(folder, grid, kinds, lambda name: _gathered(job, [name])[0], names)
    params, cov, noise = _gathered(job, ["params", "cov", "noise-sd"])
    maps.write_misc(folder, model, fitted, names)
    model_file.write_model(
        folder, model, fitted, grid=grid.shape, fid_scale=job.fid_scale, conjugated=job.conjugated, rows=job.index, params=params, cov=cov,
        noise_sd=noise,
    )  # fmt: skip
    maps.write_for_viewer(folder, names, kinds | (set(layout.SPECTRA) if job.settings.spectra else set()))
    if pilot is not None:
        from ..results.figures import fit_summary

        fit_summary(pilot, folder / "fit_avg.png")
    return seen


def _write_all_spectra(folder: Path, job: Job) -> None:
    """fit, baseline and residual, one file each, side by side."""
    (folder / "fit").mkdir()
    parts = []
    for file in _files(job):
        with np.load(file) as arrays:
            parts.append((np.searchsorted(job.index, arrays["index"]), file.with_suffix(".npy")))

    def read(which: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
        out = np.zeros((part.stop - part.start, len(job.index)), np.complex64)
        for rows, file in parts:
            out[:, rows] = np.load(file, mmap_mode="r")[which, part]
        return job.index, out

    with ThreadPoolExecutor(min(3, torch.get_num_threads())) as pool:
        paths = [folder / path for path in layout.SPECTRA.values()]
        for future in [pool.submit(write_spectra, path, job.volume, partial(read, which)) for which, path in enumerate(paths)]:
            future.result()


def finish(job: Job) -> None:
    """Remove what a job kept."""
    shutil.rmtree(job.scratch, ignore_errors=True)


def rate(begun: float, n_voxels: int) -> str:
    """How long it took, in words."""
    took = time.perf_counter() - begun
    return f"{took:.1f} s, {1e3 * took / max(1, n_voxels):.2f} ms per voxel"


def summary(job: Job, seen: dict[str, np.ndarray]) -> str:
    """What became of a volume, for the terminal."""
    failed, names = seen["failed"], seen["names"]
    good = (failed == 0) & (seen["ood-score"] <= tables.OOD_LIMIT)
    what = "clean ones"
    if not good.any():
        good, what = failed == 0, "them"
    there = int((failed < 2).sum())
    lines = [f"{there} of {len(failed)} voxels fitted; medians of {int(good.sum())} {what}:"]
    ratio = seen.get("conc-internal")
    reference = "/" + "+".join(job.settings.internal_ref)
    head = (
        f"{'Metab':<10}{'conc':>10}{'%SD':>6}"
        + (f"{reference:>12}" if ratio is not None else "")
        + ("  mostly prior" if "prior-pull" in seen else "")
    )
    lines += [head, "-" * len(head)]
    for column, name in enumerate(names):
        part = [seen[key][good, column] for key in ("raw-concentrations", "sd")]
        middle = [np.nanmedian(values) if np.isfinite(values).any() else np.nan for values in part]
        line = f"{name:<10}{middle[0]:10.4g}{middle[1]:6.0f}"
        if ratio is not None:
            values = ratio[good, column]
            line += f"{np.nanmedian(values) if np.isfinite(values).any() else np.nan:12.3f}"
        if "prior-pull" in seen:
            line += f"{100 * np.mean(seen['prior-pull'][good, column] > tables.MOSTLY_PRIOR):11.0f} %"
        lines.append(line)
    for value in (1, 2, 3):
        if (failed == value).any():
            lines.append(
                f"{int((failed == value).sum())} voxels: {layout.FAILED[value]} (quality/failed.nii.gz is {value} there)."
            )
    strange = int((seen["ood-score"][failed < 2] > tables.OOD_LIMIT).sum())
    if strange:
        lines.append(
            f"{strange} of {int((failed < 2).sum())} spectra are unlike clean data (quality/ood_score.nii.gz is above 1 there)."
        )
    if strange > 0.5 * max(there, 1):
        lines.append(
            "Most are: check basis set (sequence, echo time), macromolecules (--mm), baseline (--baseline 'spline, moderate') and --mask."
        )
    return "\n".join(lines)


_AT_REST, _EACH = 0.8, 0.3
"""Memory (GiB) of a run before anything is fitted, and of each chunk that is being fitted."""


def workers_for(parallel: str, asked: int | None, most_gib: float) -> int | None:
    """Number of threads, processes or nodes; as many as there are cores, or fewer where memory is short.

    Raises
    ------
    OptionError
        If the number is not positive, or the memory not enough for one.
    """
    if parallel not in PARALLEL:
        raise OptionError(f"--parallel {parallel}: there is no such thing; choose one of {', '.join(PARALLEL)}.")
    if asked is not None and asked < 1:
        raise OptionError(f"--parallel-workers {asked}: must be at least 1.")
    if parallel == "cluster":
        return asked
    at_rest, each = (0.0, _AT_REST + _EACH) if parallel == "local" else (_AT_REST, _EACH)
    if not most_gib >= _AT_REST + _EACH:
        raise OptionError(f"--max-memory {most_gib:g}: is too little; {_AT_REST + _EACH:.1f} GiB are needed.")
    most = int((most_gib - at_rest) / each)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = asked or cores
    return max(1, min(wanted, most))
