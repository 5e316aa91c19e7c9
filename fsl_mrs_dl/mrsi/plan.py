"""Everything that is decided before the first voxel of a volume is fitted: voxels, scale, conjugation, prior; and the
resumption of an interrupted run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..concentrations.scaling import WaterScaling
from ..core import parallel as parallel_module
from ..core import units
from ..core.axes import Axes
from ..core.device import choose_device
from ..core.errors import DataError, OptionError, OutputError
from ..core.fids import UNUSABLE, usable_fids
from ..core.noise import quiet_points
from ..fitting.data import check_dwelltime, check_suppressed, check_water
from ..fitting.filtered_band import band_of
from ..fitting.header_facts import with_header
from ..fitting.in_vivo.fit import STUDY_SPECTRA
from ..fitting.in_vivo.prepared import PreparedModel
from ..fitting.in_vivo.quantify import fit_with_prepared, prepare_in_vivo
from ..fitting.nuisance_models import fit_beside_nuisances
from ..fitting.options import FitOptions
from ..fitting.quantify import fit_scaled
from ..io.basis import Basis, detect_conjugation
from ..io.volume import Volume, load_mask, n_voxels, open_volume
from ..results.fit_results import FitResults
from . import scratch as scratch_module
from .chunks import model_of, results_of
from .job import CHUNK, SMALL_CHUNK, Job, VolumeOptions, scratch_of
from .nuisance import NUISANCES, learn_l2, learn_nuisances, scalp_voxels

__all__ = ["prepare", "load_unfinished", "fit_pilot", "survey", "usual_chunk"]

_PILOT = 256  # voxels that are fitted beforehand
_MOST_OF_VOLUME = 192  # the same where spreads between voxels are learnt from them
_LEAST_OF_VOLUME = 0.1  # share of the voxels, those with the least signal, that these are not among
_MOST_SMALL_CHUNKS = 320  # of small chunks
_FOR_PRIOR = 2048  # the same where the prior is estimated from them


@dataclass(frozen=True)
class _Request:
    """Arguments of a run, as of :func:`prepare`."""

    data: str | Path
    basis: Basis
    output: str | Path
    options: FitOptions
    volume_options: VolumeOptions
    mask: str | Path | None
    lipid_mask: str | Path | None
    water: str | Path | None
    scaling: WaterScaling | None
    chunk: int

    @property
    def signature(self) -> str:
        """JSON of everything that must be the same for a run to be resumed."""

        def stamp(path):
            try:
                status = Path(path).stat()
            except OSError:
                return str(path)
            return [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]

        digest = hashlib.sha256(np.ascontiguousarray(self.basis.fids).tobytes()).hexdigest()
        options = asdict(self.options) | asdict(self.volume_options)
        about = {
            "data": stamp(self.data),
            "mask": None if self.mask is None else stamp(self.mask),
            "lipid mask": None if self.lipid_mask is None else stamp(self.lipid_mask),
            "water reference": None if self.water is None else stamp(self.water),
            "water scaling": None if self.scaling is None else self.scaling.signature,
            "basis": [list(self.basis.names), digest, asdict(self.basis.axes)],
            **{name: value for name, value in options.items() if name != "share_initial_values"},
            "voxels of a chunk": self.chunk,
            "version": __version__,
        }
        return json.dumps(about, default=str, sort_keys=True)


def usual_chunk(options: FitOptions, n: int = 0) -> int:
    """Return the number of voxels that are fitted, and kept, together in a volume of ``n`` voxels.

    Chunks of the in-vivo model are small on CPUs, unless there were so many that opening their files took long.
    """
    slow = options.spectral_model == "in-vivo" and choose_device(options.device).type == "cpu"
    return min(CHUNK, max(SMALL_CHUNK, n // _MOST_SMALL_CHUNKS)) if slow else CHUNK


def prepare(
    data: str | Path,
    basis: Basis,
    output: str | Path,
    options: FitOptions | None = None,
    volume_options: VolumeOptions | None = None,
    *,
    mask: str | Path | None = None,
    lipid_mask: str | Path | None = None,
    water: str | Path | None = None,
    scaling: WaterScaling | None = None,
    resume: bool = False,
    overwrite: bool = False,
    chunk: int | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Job, FitResults]:
    """Open the data and choose voxels, scale and prior; the fits depend on nothing else.

    Parameters
    ----------
    data, output : path
    basis : Basis
    options, volume_options : optional
    mask : path, optional
    lipid_mask : path, optional
        Voxels of the scalp, whose lipids leak; by default those outside of ``mask`` with strong lipids.
    water : path, optional
        Unsuppressed water on the grid of the data, for the in-vivo model and for ``scaling``.
    scaling : WaterScaling, optional
        For absolute concentrations, with tissue fractions of every voxel of the grid, z fastest, or of all.
    resume, overwrite : bool
        Go on with an unfinished run, or begin anew where there is one.
    chunk : int, optional
        Voxels of a chunk, by default as many as take some seconds.
    say : callable, optional
        Called with messages.

    Returns
    -------
    Job
    FitResults
        Fits of some voxels spread over the volume.

    Raises
    ------
    DataError, BasisError, OptionError, OutputError
        OutputError also if there is an unfinished run and neither ``resume`` nor ``overwrite`` is given.
    """
    scratch = scratch_of(output)
    if resume and not scratch.is_dir():
        raise _nothing_unfinished(output)
    options = options or FitOptions()
    volume_options = _settled_options(options, volume_options or VolumeOptions())
    chunk = chunk or usual_chunk(options, n_voxels(data))
    request = _Request(data, basis, output, options, volume_options, mask, lipid_mask, water, scaling, chunk)
    _check_model(request)
    if resume:
        job = load_unfinished(scratch, request, say)
        return job, fit_pilot(job)
    if scratch.exists():
        if not overwrite:
            raise OutputError(
                f"{output}: an unfinished run of it is there ({len(list(scratch.glob('chunk-*.npz')))} chunks done)",
                remedy="`resume` goes on with it, `overwrite` begins anew",
            )
        shutil.rmtree(scratch)
    _make_folder(scratch, output)
    try:
        job, pilot = _plan(request, scratch, say)
        scratch_module.save_job(job)
        return job, pilot
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _nothing_unfinished(output: str | Path) -> OutputError:
    """Return the error of a run that cannot go on."""
    return OutputError(f"{output}: there is no unfinished run of it to go on with", remedy="leave `resume` out")


def _settled_options(options: FitOptions, volume_options: VolumeOptions) -> VolumeOptions:
    """Return options whose handling of nuisances is settled: subspaces make the in-vivo model better where there are
    lipids and water, and change nothing where there are none (``benchmarks/mrsi_lipids.md``)."""
    if volume_options.nuisance != "auto":
        return volume_options
    return replace(volume_options, nuisance="subspace" if options.spectral_model == "in-vivo" else "off")


def _make_folder(scratch: Path, output: str | Path) -> None:
    """Make the scratch folder.

    Raises
    ------
    OutputError
    """
    try:
        scratch.mkdir(parents=True)
    except OSError as exc:
        raise OutputError(f"{output}: cannot be made ({exc.strerror})", remedy="choose another `output`") from exc


def _check_model(request: _Request) -> None:
    """Raise OptionError for options that do not go with the spectral model."""
    kind = request.volume_options.nuisance
    if kind not in NUISANCES:
        raise OptionError(
            "there is no such thing", option="nuisance", value=kind, remedy=f"choose one of {', '.join(NUISANCES)}"
        )
    if kind != "off" and request.basis.nucleus != "1H":
        raise OptionError("is for 1H spectra", option="nuisance", value=kind, remedy="leave it out")
    if kind == "subspace" and request.volume_options.share_initial_values:
        raise OptionError("does not go with `nuisance` subspace", option="share_initial_values", remedy="leave it out")
    if request.options.spectral_model == "in-vivo" and request.volume_options.share_initial_values:
        raise OptionError(
            "is of FSL-MRS's model",
            option="share_initial_values",
            remedy="leave it out, or choose `spectral_model` fsl-mrs",
        )


def load_unfinished(scratch: Path, request: _Request, say: Callable[[str], None]) -> Job:
    """Return the job of an unfinished run, if it has the same arguments.

    Raises
    ------
    OutputError
        If there is none, it cannot be read, or it was another one.
    """
    output = request.output
    try:
        old, decided = scratch_module.load_plan(scratch)
    except FileNotFoundError:
        if scratch.is_dir():
            raise OutputError(
                f"{output}: the unfinished run of it is none that this version wrote",
                remedy="begin anew with `overwrite`",
            ) from None
        raise _nothing_unfinished(output) from None
    except (OSError, ValueError) as exc:
        raise OutputError(
            f"{output}: the unfinished run of it cannot be read ({str(exc).splitlines()[0]})",
            remedy="begin anew with `overwrite`",
        ) from exc
    new = json.loads(request.signature)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            was, now = (str(values)[:60] for values in (old.get(name), new.get(name)))
            raise OutputError(
                f"{output}: the unfinished run was made with another {name} ({was}, now {now})",
                remedy="`overwrite` begins anew",
            )
    volume = open_volume(request.data, scratch)
    water = None if request.water is None else open_volume(request.water, scratch, "water")
    return Job(
        volume=volume,
        water=water,
        scaling=_usable_scaling(request, volume, water, say),
        tissue=_tissue(request, decided["index"]),
        basis=request.basis,
        options=with_header(request.options, volume.about, request.basis.echo_time_s),
        volume_options=request.volume_options,
        scratch=scratch,
        signature=request.signature,
        chunk=request.chunk,
        **decided,
    )


def _plan(request: _Request, scratch: Path, say: Callable[[str], None]) -> tuple[Job, FitResults]:
    """Return the job of a new run, and fits of its pilot voxels."""
    data = request.data
    volume = open_volume(data, scratch)
    options = with_header(request.options, volume.about, request.basis.echo_time_s)
    axes = volume.about.axes.with_points(volume.n_points)
    request.basis.check_match(axes.spec_freq_mhz, axes.nucleus, str(data))
    inside = np.ones(volume.grid, bool) if request.mask is None else load_mask(request.mask, volume)
    index = np.flatnonzero(inside)
    usable, energy, contrast = survey(volume, axes, index)
    if not usable.any():
        where = "" if request.mask is None else " in the mask"
        raise DataError(f"{data}: every FID{where} {UNUSABLE}; there is nothing to fit.")
    if request.mask is None:
        # Without a mask, a voxel of zeros was not measured; one of NaN is flagged.
        index, usable, energy, contrast = (values[energy != 0] for values in (index, usable, energy, contrast))
    scale = 100 / float(np.sqrt(energy[usable].mean())) if options.rescale else 1.0
    learns = options.spectral_model == "in-vivo" and request.volume_options.volume_priors
    many, least = _pilot_size(options, int(usable.sum()), learns), _LEAST_OF_VOLUME if learns else 0.5
    rows = _pilot_rows(usable, contrast, masked=request.mask is not None, many=many, least=least)
    pilot = index[rows]
    check_suppressed(volume.fids(pilot), axes, str(data))
    conjugated = request.volume_options.conjugate
    if conjugated is None:
        conjugated = detect_conjugation(volume.fids(pilot), axes)
    job = Job(
        volume=volume,
        basis=request.basis,
        options=options,
        volume_options=request.volume_options,
        index=index,
        pilot=pilot,
        fid_scale=scale,
        conjugated=bool(conjugated),
        prior=None,
        scratch=scratch,
        signature=request.signature,
        chunk=request.chunk,
    )
    # Of all voxels together: one may have too few points to measure it from.
    job = replace(job, band=band_of(job.scaled_fids(volume.fids(pilot)), axes))
    if request.water is not None:
        job = _with_water(job, request.water)
    job = replace(job, scaling=_usable_scaling(request, volume, job.water, say))
    job = replace(_with_nuisances(job, request, say), tissue=_tissue(request, index))
    if options.spectral_model == "in-vivo":
        job = replace(job, in_vivo=_settled_model(job))
    results = fit_pilot(job, job.options.prior)
    fit = results.fit
    fit.estimate(options.estimate)  # raises if there is none
    if fit.network_note:
        say(fit.network_note)
    return replace(job, prior=fit.posterior.prior if fit.posterior is not None else None), results


def _tissue(request: _Request, index: np.ndarray) -> np.ndarray | None:
    """Return fractions of white matter, grey matter and CSF of voxels, ``(n, 3)``; None where these have none of their
    own."""
    tissue = None if request.scaling is None else request.scaling.tissue
    if tissue is None or tissue.white.size == 1:
        return None
    rows = tissue.rows(index)
    return np.nan_to_num(np.stack([rows.white, rows.grey, rows.csf], 1))


def _with_nuisances(job: Job, request: _Request, say: Callable[[str], None]) -> Job:
    """Return a job with the lipids and the water of its volume, or with their removal."""
    kind, axes = job.volume_options.nuisance, job.axes
    if kind in ("off", "hlsvd"):
        return job

    def read(index: np.ndarray) -> np.ndarray:
        return job.scaled_fids(job.volume.fids(index)) if len(index) else np.zeros((0, axes.n_points), complex)

    if request.lipid_mask is not None:
        scalp = np.flatnonzero(load_mask(request.lipid_mask, job.volume, of="lipid_mask"))
    else:
        scalp = scalp_voxels(job.volume, axes, job.index, job.conjugated)
    with parallel_module.one_thread():
        if kind == "l2":
            return replace(job, removal=learn_l2(read, scalp, job.pilot, axes))
        basis = job.basis.resampled(axes.dwelltime, axes.n_points, job.options.start_time_s or 0.0)
        space = learn_nuisances(read, scalp, job.pilot, axes, basis, list(job.basis.names))
    if space is None:
        say("No lipids of the scalp and no residual water above the noise: nothing is taken out of the likelihood.")
        return job
    say(_nuisances_in_words(len(scalp), len(space.lipids), len(space.water)))
    return replace(job, nuisance=space)


def _nuisances_in_words(n_scalp: int, n_lipids: int, n_water: int) -> str:
    """Return which nuisances are part of the likelihood, of those that there are."""
    parts = [f"lipids of {n_scalp} voxels span {n_lipids} dimensions"] * bool(n_lipids)
    parts += [f"residual water {'' if parts else 'spans '}{n_water}{'' if parts else ' dimensions'}"] * bool(n_water)
    text = ", ".join(parts)
    are = "they are" if len(parts) > 1 else "it is" if n_water else "they are"
    return f"{text[:1].upper()}{text[1:]}: {are} part of every voxel's likelihood."


def _usable_scaling(
    request: _Request, volume: Volume, water: Volume | None, say: Callable[[str], None]
) -> WaterScaling | None:
    """Return the scaling with the times of the headers, or None and say why there can be no absolute concentrations."""
    if request.scaling is None or (water is None and volume.about.nucleus != "1H"):
        return None
    scaling = request.scaling.with_headers(volume.about, None if water is None else water.about)
    names = list(request.basis.names)
    missing = scaling.missing(names, volume.axes, has_water=water is not None)
    for line in missing or scaling.assumptions(names, volume.axes):
        say(line)
    return None if missing else scaling


def _with_water(job: Job, path: str | Path) -> Job:
    """Return a job with a water reference of every voxel.

    Raises
    ------
    DataError
        If it was not acquired as the data were, or most of it is no water.
    """
    of_data = job.volume.about.path
    if of_data is not None and Path(path).resolve() == of_data.resolve():
        raise DataError(
            "is the same file as `data`: this is not unsuppressed water",
            option="h2o",
            value=path,
            remedy="give the water of the same volume, acquired without water suppression, or leave `h2o` out",
        )
    water = open_volume(path, job.scratch, "water")
    check_dwelltime(water.about, job.volume.about)
    if water.grid != job.volume.grid:
        sizes = (" x ".join(map(str, each.grid)) for each in (water, job.volume))
        raise DataError(
            "{}: has {} voxels and the data {}".format(path, *sizes), remedy="give water on the grid of the data"
        )
    job = replace(job, water=water)
    fids = job.water_fids(job.pilot)
    assert fids is not None
    fids = fids[usable_fids(fids)]
    if not len(fids):
        raise DataError(
            f"{path}: {UNUSABLE} where the data have a signal",
            remedy="give another one",
        )
    check_water(fids, job.axes, str(path), least=0.5)
    return job


def _settled_model(job: Job) -> PreparedModel:
    """Return the in-vivo model with the use of water, the window and the priors of the pilot voxels; no chunk decides
    them again."""
    fids = job.scaled_fids(job.fids(job.pilot))
    # With one thread: a run on another machine is to have the same.
    with parallel_module.one_thread():
        return prepare_in_vivo(
            fids,
            job.basis,
            job.axes,
            job.options,
            water=job.water_fids(job.pilot),
            nuisance=job.nuisance,
            of_volume=job.volume_options.volume_priors,
        )


def _pilot_size(options: FitOptions, n_usable: int, of_volume: bool) -> int:
    """Return how many voxels are fitted beforehand."""
    if options.spectral_model == "in-vivo":
        # A part of the volume that takes little time.
        return int(np.clip(n_usable // 8, STUDY_SPECTRA, _MOST_OF_VOLUME)) if of_volume else STUDY_SPECTRA
    return _FOR_PRIOR if options.prior == "volume" else _PILOT


def _pilot_rows(usable: np.ndarray, contrast: np.ndarray, *, masked: bool, many: int, least: float = 0.5) -> np.ndarray:
    """Return the rows of voxels that are fitted beforehand, ascending; ``least`` is the share of those with the
    smallest contrast that are left out."""
    rng, rows = np.random.default_rng(0), np.flatnonzero(usable)
    if len(rows) > 2 * many:
        # Neither noise nor, without a mask, the scalp's lipids.
        low, high = np.quantile(contrast[rows], (least, 1.0 if masked else 0.85))
        rows = rows[(contrast[rows] >= low) & (contrast[rows] <= high)]
    return np.sort(rng.choice(rows, min(many, len(rows)), replace=False))


def fit_pilot(job: Job, prior=None) -> FitResults:
    """Fit a job's pilot voxels.

    Parameters
    ----------
    job : Job
    prior : str, path or Prior, optional
        As in FitOptions, to be brought to the units of the data; by default that of the job, which is in them.
    """
    prepared = model_of(job)
    fids = job.fids(job.pilot)
    about = replace(job.volume.about, fids=fids[:, None, None, :])
    if prepared.in_vivo is not None:
        with parallel_module.one_thread():
            own = fit_with_prepared(
                job.scaled_fids(fids),
                prepared.in_vivo,
                water=job.water_fids(job.pilot),
                fid_scale=job.fid_scale,
                max_iter=job.options.most_steps_in_vivo,
            )
        return results_of(job, own, job.pilot, about)
    settled = job.prior if prior is None else None
    options = replace(job.options, prior="none" if prior is None else prior)
    # With one thread: a run that is resumed elsewhere is to have the same prior.
    with parallel_module.one_thread():
        settings: dict = {
            "names": prepared.names,
            "options": options,
            "initial_values": prepared.initial_values,
            "prior": settled,
            "relative": prepared.relative,
        }
        if prepared.nuisances is None:
            fit = fit_scaled(job.scaled_fids(fids), prepared.model, **settings)
        else:
            fit = fit_beside_nuisances(prepared.nuisances, job.scaled_fids(fids), **settings)
    return results_of(job, fit, job.pilot, about)


def survey(volume: Volume, axes: Axes, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure the signal of voxels.

    Returns
    -------
    usable : bool ndarray ``(n,)``
        Voxels that can be fitted.
    energy : ndarray ``(n,)``
        Sum of squares of the FID, NaN where it is not finite.
    contrast : ndarray ``(n,)``
        Power of the spectrum where metabolites are over that where there is noise only, whichever way the frequency
        axis runs.
    """
    usable, energy, contrast = np.zeros(len(index), bool), np.zeros(len(index)), np.zeros(len(index))
    quiet = quiet_points(axes)
    first, last = axes.window(axes.usual_window)
    window = np.zeros(axes.n_points, bool)
    window[first:last] = True
    window |= window[::-1]
    for part in np.array_split(np.arange(len(index)), -(-len(index) // 4096)):
        fids = volume.fids(index[part])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            usable[part] = usable_fids(fids)
            energy[part] = np.square(fids.real, dtype=float).sum(1) + np.square(fids.imag, dtype=float).sum(1)
            alike = fids / np.sqrt(energy[part])[:, None]  # squares of single precision overflow from 2e19
            power = np.abs(units.fid_to_spec(alike.astype(np.complex64))) ** 2
            contrast[part] = np.nan_to_num(power[:, window].mean(1) / power[:, quiet].mean(1))
    return usable & np.isfinite(energy) & (energy > 0), energy, contrast
