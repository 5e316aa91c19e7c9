"""What is settled before the first voxel of a volume is fitted: voxels, scale, conjugation, prior; and what an
interrupted run has left."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..core import parallel as parallel_module
from ..core import units
from ..core.axes import Axes
from ..core.errors import DataError, OutputError
from ..core.fids import quiet_points
from ..fitting import quantify
from ..io.basis import Basis, detect_conjugation
from ..io.volume import Volume, load_mask, open_volume
from ..results import tables
from .chunks import _model, _starter
from .job import CHUNK, Job, Settings, scratch_of

__all__ = ["prepare"]


_PILOT = 256  # voxels that a volume is looked at with beforehand


_FOR_PRIOR = 2048  # and those that a prior is learnt from


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
                f"{output}: an unfinished run of it is there ({done} chunks done); --resume goes on with it,"
                " --overwrite begins anew."
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
                f"{output}: the unfinished run was made with another {name} ({was}, now {now}); --overwrite begins"
                " anew."
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
            say(
                f"{data}: the frequency axis runs backwards and was turned round (complex conjugate); --no_conj_fid"
                " forbids it."
            )
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
    with parallel_module.one_thread():
        fit = quantify.fit_scaled(
            (fids.conj() if job.conjugated else fids) * job.fid_scale,
            model,
            names,
            starter=_starter(job),
            prior=prior,
            relative=relative,
            prior_scaled=prior_scaled,
            estimate=s.dl.estimate,
            device=s.dl.device,
        )
    fit.fid_scale = job.fid_scale
    data = _rows_of(job.volume, fids)
    return tables.FitResults(fit, data, list(s.internal_ref), list(s.combine), job.conjugated, s.dl.estimate)


def _rows_of(volume: Volume, fids: np.ndarray):
    """Some spectra of a volume as data of their own."""
    return replace(volume.about, fids=fids[:, None, None, :])


def _looked_at(volume: Volume, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which voxels can be fitted, bool ``(n,)``; the sum of squares of their FIDs, NaN where one is not finite; and
    signal over noise.

    The last is the size of the spectrum where metabolites are over that where there is noise only, whichever way the
    frequency axis runs.
    """
    about, n = volume.about, volume.n_points
    energy, contrast = np.zeros(len(index)), np.zeros(len(index))
    axes = Axes(n, about.dwelltime, about.spec_freq_mhz, about.nucleus)
    quiet = quiet_points(axes)
    first, last = axes.window(axes.usual_window)
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
