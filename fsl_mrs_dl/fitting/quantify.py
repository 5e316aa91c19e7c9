"""The two jobs on data in memory: :func:`quantify` spectra and :func:`align_data` transients; no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from ..core import units
from ..core.errors import DataError, OptionError
from ..core.metabolites import ESTIMATES, is_macromolecule, typical_concentrations
from ..io.basis import Basis
from ..io.nifti import MrsData, check_fids, from_image, processing_record, without
from ..networks import model_cards
from ..networks.self_supervised_registration import combination
from ..physics.signal_model import SignalModel
from ..preproc.absolute import LINES, Offset, absolute_offset
from ..preproc.editing import match_subspectra
from ..preproc.moving_reference import follow
from ..registration.solver import Alignment, align_transients, apply_shift_phase
from . import out_of_distribution, priors, uncertainty, varpro
from .coarse_model import ReducedModel, reduced
from .initialisation import Automatic, Starter, answering
from .posterior import Posterior, posterior, upper_limit
from .priors import Prior

__all__ = [
    "ESTIMATES",
    "AlignedData",
    "align_data",
    "align_image",
    "Quantification",
    "quantify",
    "fit_scaled",
    "choose_device",
    "model_for",
]


def choose_device(name: str = "auto") -> torch.device:
    """'auto', 'cpu' or 'cuda' -> device.

    Raises
    ------
    OptionError
        If CUDA is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not name.startswith("cuda"):
        raise OptionError(f"--device {name}: write auto, cpu or cuda.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise OptionError(f"--device {name}: no CUDA device is available to PyTorch {torch.__version__}; use --device cpu.")
    return torch.device(name)


@dataclass
class AlignedData:
    """Aligned transients and how they were found.

    ``data`` as the input, corrected, without the transients that were ``excluded`` (numbers along ``dim``, from 0); ``fids`` all uncorrected
    FIDs as ``(n_sets, n_channels, n_transients, n_points)``, ``alignment`` their result; ``set_axes`` and ``transient_axes`` name the
    dimensions that run over sets and over transients, with their lengths.  ``subspectra`` says by how much conditions of edited data were
    moved towards each other: shift (Hz) and phase (degrees), each ``(n_voxels, n_conditions)``; ``offset`` where the lines of known place
    were found for each set, or None.
    """

    data: MrsData
    fids: np.ndarray
    alignment: Alignment
    set_axes: dict[str, int]
    transient_axes: dict[str, int]
    ppmlim: tuple[float, float] | None = None
    starter: str = "classical"
    refined: bool = True
    moving: int | None = None
    excluded: tuple[int, ...] = ()
    edit_dim: str | None = None
    subspectra: tuple[np.ndarray, np.ndarray] | None = None
    offset: list[Offset] | None = None

    @property
    def shown(self) -> int:
        """The set that stands for all in a report: of those with most transients found, the one whose transients are most alike."""
        found = np.isin(self.alignment.flag, ("ok", "weak"))
        alike = np.where(found, self.alignment.similarity, 0).sum(1)
        if self.edit_dim in self.set_axes and self.subspectra is not None:
            # Conditions of a voxel are shown together, beginning with the first.
            names, sizes = list(self.set_axes), tuple(self.set_axes.values())
            grid = alike.reshape(sizes).sum(names.index(self.edit_dim), keepdims=True)
            return int(np.ravel_multi_index(np.unravel_index(int(grid.argmax()), grid.shape), sizes))
        return int(alike.argmax())

    def details(self, command: str, dim: str, target: str | None) -> str:
        """The step in words, for the header's record of processing."""
        words = [
            f"{command}, dim={dim}, ppmlim={self.ppmlim}, target={target or 'weighted mean of the transients'}",
            f"starter={self.starter}",
            f"{self.alignment.n_iterations} passes" if self.refined else "not refined",
        ]
        if self.moving:
            words.append(f"reference of {self.moving} neighbours")
        if self.subspectra is not None:
            words.append("sub-spectra matched to each other")
        if self.offset is not None:
            words.append("absolute")
        if self.excluded:
            words.append(f"transients left out: {' '.join(str(one + 1) for one in self.excluded)}")
        return ", ".join(words) + "."


def align_data(
    data: MrsData,
    *,
    dim: str = "DIM_DYN",
    ppmlim: tuple[float, float] | None = None,
    reference: MrsData | None = None,
    method: str | None = None,
    model: str | Path | None = None,
    refine: bool = True,
    absolute: bool = False,
    moving: int | None = None,
    edit_dim: str | None = "DIM_EDIT",
    exclude_unlike: bool = False,
    device: str | torch.device = "auto",
) -> AlignedData:
    """Align the transients of a file in frequency and phase.

    Coils that are still separate share one shift and phase per transient.  Every voxel, edit condition or other element of
    the remaining dimensions is a set with a target of its own; ``dim='all'`` makes one set per voxel of all of them.

    Parameters
    ----------
    dim : str
        Dimension that runs over transients, 'all' for all spectra of a voxel, or 'voxels' for the voxels themselves; 'all' is 'voxels' where
        a voxel has one spectrum.
    ppmlim : (float, float), optional
        Window in ppm; the nucleus' usual one by default.
    reference : MrsData, optional
        One FID, or one per coil, to align to.
    method : str, optional
        Who proposes shifts and phases: 'classical' searches the whole range for the highest likelihood, 'universal' asks the network that
        comes with the package, 'dsr', 'dsrf', 'dcrr' and 'dcrrf' one trained on data like these (``model``).  By default the search, and
        where it finds transients weak the network, if it was made for data like these.
    model : str or path, optional
        A network, by name or folder.
    refine : bool
        False gives the network's own answer, without SDs.
    absolute : bool
        Put the lines of known place (1H: creatine, choline and NAA together) where they belong, upright, in place of leaving the mean where
        it was.
    moving : int, optional
        Compare every transient with about so many of its neighbours in time, not with all; for line shapes that drift.
    edit_dim : str or None
        Dimension of edit conditions, which are matched to each other so that they subtract well; None for none.
    exclude_unlike : bool
        Leave transients out of ``data`` that are unlike the others or failed, in any of their sub-spectra.

    Raises
    ------
    DataError
        No such dimension, nothing usable in the file, or a reference that does not fit.
    OptionError
        No such method or model, or options that exclude each other.
    """
    check_fids(data)
    device = choose_device(device) if isinstance(device, str) else device
    if ppmlim is None:
        ppmlim = units.nucleus(data.nucleus).ppmlim
    names = ["x", "y", "z", "points", *data.dim_tags]
    coil = names.index("DIM_COIL") if "DIM_COIL" in names else None
    run = _transient_axes(data, dim, coil, reference)
    if edit_dim is not None and edit_dim != "DIM_EDIT" and data.axis(edit_dim) in (*run, coil):
        raise OptionError(
            f"--edit-dim {edit_dim}: is aligned along or holds coils; name the dimension of edit conditions, or none."
        )
    _check_align_options(data, run, method, model, refine, absolute, moving, exclude_unlike, reference)
    shape = data.fids.shape
    sets = [axis for axis in range(data.fids.ndim) if axis not in (3, coil, *run)]
    order = [*sets, *([coil] if coil is not None else []), *run, 3]
    moved = data.fids.transpose(order)
    n_sets = int(np.prod([shape[axis] for axis in sets]))
    four = moved.reshape(n_sets, shape[coil] if coil is not None else 1, -1, shape[3])
    target = _reference_fids(reference, data, four.shape[1]) if reference is not None else None
    axes = {"dwelltime": data.dwelltime, "spec_freq_mhz": data.spec_freq_mhz, "nucleus": data.nucleus}
    job = {"ppmlim": ppmlim, "device": device, **axes}
    if not refine:
        proposer, called = _align_starter(method, model, four.shape[-1], target, axes)
        alignment = unrefined(four, proposer, keep=getattr(proposer, "absolute", False) or target is not None, **job)
    elif method is None and model is None:
        alignment, called = _align_with_help(four, target, axes, job)
    else:
        proposer, called = _align_starter(method, model, four.shape[-1], target, axes)
        alignment = align_transients(four, starter=proposer, reference=target, **job)
    if moving:
        alignment = follow(four, alignment, moving, **job)
    grid = [shape[axis] for axis in sets]
    matched = None
    edit = sets.index(names.index(edit_dim)) if edit_dim in names and names.index(edit_dim) in sets else None
    lost = (alignment.flag == "weak").mean() > 0.5  # noise has nothing that could be matched
    if edit is not None and grid[edit] > 1 and target is None and not lost:
        alignment, matched = _match(four, alignment, grid, edit, job)
    offset = None
    if absolute:
        alignment, offset = _absolute(four, alignment, grid, edit if matched is not None else None, axes)
    back = alignment.apply(four).reshape(moved.shape).transpose(np.argsort(order))
    out = AlignedData(
        data=replace(data, fids=back.astype(data.fids.dtype)),
        fids=four,
        alignment=alignment,
        set_axes={names[axis]: shape[axis] for axis in sets},
        transient_axes={names[axis]: shape[axis] for axis in run},
        ppmlim=ppmlim,
        starter=called,
        refined=refine,
        moving=moving,
        edit_dim=edit_dim,
        subspectra=matched,
        offset=offset,
    )
    if exclude_unlike:
        unlike = np.isin(alignment.flag, ("unlike", "failed")).any(0)
        if unlike.all():
            raise DataError(
                f"{data.name}: every transient is unlike the others in one of its sub-spectra; leave --exclude-unlike out."
            )
        out.excluded = tuple(int(one) for one in np.flatnonzero(unlike))
        out.data = without(out.data, dim, out.excluded)
    return out


def _transient_axes(data: MrsData, dim: str, coil: int | None, reference) -> list[int]:
    """Axes of ``data.fids`` that run over what is aligned."""
    voxels = [axis for axis in range(3) if data.fids.shape[axis] > 1]
    if dim.lower() in ("all", "voxels"):
        run = [axis for axis in range(4, data.fids.ndim) if axis != coil and data.fids.shape[axis] > 1]
        if dim.lower() == "voxels" or not run:
            run = voxels
        if not run:
            raise DataError(f"{data.name}: holds one spectrum, which has nothing to be aligned to; nothing was done.")
    elif dim not in data.dim_tags and not data.dim_tags:
        what = "to align its voxels to each other give --dim voxels" if voxels else "one spectrum has nothing to be aligned to"
        raise DataError(f"{data.name}: has no transients (no dimension {dim} nor any other); {what}.")
    elif data.axis(dim) == coil:
        raise DataError(f"{data.name}: coils are not transients; choose another --dim, for example DIM_DYN.")
    else:
        run = [data.axis(dim)]
    if np.prod([data.fids.shape[axis] for axis in run]) < 2 and reference is None:
        raise DataError(f"{data.name}: has one transient along {dim}, which has nothing to be aligned to; give --reference.")
    return run


def _check_align_options(data, run, method, model, refine, absolute, moving, exclude_unlike, reference) -> None:
    """Options that have nothing to go with, or that go against each other."""
    if not refine and model is None and method in (None, "classical"):
        raise OptionError("--no-refine: the classical search is the refinement; name a network with --method or --model.")
    if absolute and reference is not None:
        raise OptionError(
            "--absolute: the reference says already where everything lies; leave one of --absolute and --reference out."
        )
    if absolute and data.nucleus not in LINES:
        raise OptionError(f"--absolute: no lines of known place for {data.nucleus}, only for {', '.join(LINES)}; leave it out.")
    if moving is not None and moving < 1:
        raise OptionError(f"--moving {moving}: give the number of neighbours, 8 or more; leave it out for one reference for all.")
    n_transients = int(np.prod([data.fids.shape[axis] for axis in run]))
    if moving and 2 * moving > n_transients:
        raise OptionError(
            f"--moving {moving}: neighbours of one transient must be fewer than half of all {n_transients}; give less, or leave it out."
        )
    if moving and reference is not None:
        raise OptionError(
            "--moving: a reference that moves with the data is made of them; leave one of --moving and --reference out."
        )
    if moving and not refine:
        raise OptionError("--moving: is a refinement; leave one of --moving and --no-refine out.")
    if moving and any(axis < 4 for axis in run):
        raise OptionError("--moving: voxels do not follow each other in time; leave it out.")
    if exclude_unlike and (len(run) > 1 or run[0] < 4):
        raise OptionError("--exclude-unlike: works along one dimension of transients; leave it out, or choose another --dim.")
    if exclude_unlike and np.prod(data.fids.shape[:3]) > 1:
        raise OptionError(
            "--exclude-unlike: every voxel has transients of its own that are unlike, but a file has as many for all; leave it out and "
            "use the weights in dl_align.csv."
        )


def unrefined(fid, starter: Callable, *, keep: bool, dwelltime, spec_freq_mhz, nucleus, ppmlim, device=None) -> Alignment:
    """A starter's own answer as an :class:`Alignment`, without SDs; its mean is taken out unless ``keep``."""
    valid = np.isfinite(fid).all((1, 3)) & (fid != 0).any((1, 3))
    clean = np.where(np.isfinite(fid), fid, 0)
    tensor = torch.as_tensor(clean)
    shift, phase = (np.asarray(x.cpu(), dtype=float) for x in starter(tensor if device is None else tensor.to(device)))
    if not keep:
        count = np.maximum(valid.sum(1, keepdims=True), 1)
        shift = shift - (shift * valid).sum(1, keepdims=True) / count
        phase = phase - np.rad2deg(np.angle((np.exp(1j * np.deg2rad(phase)) * valid).sum(1, keepdims=True)))
    shift, phase = np.where(valid, shift, 0), np.where(valid, (phase + 180) % 360 - 180, 0)
    corrected = apply_shift_phase(clean, shift[:, None], phase[:, None], dwelltime)
    total = np.maximum(valid.sum(1), 1)[:, None, None]
    mean = (corrected * valid[:, None, :, None]).sum(2) / total
    first, last = units.window_indices(units.ppm_axis(fid.shape[-1], dwelltime, spec_freq_mhz, nucleus), ppmlim)
    spec, usual = (np.fft.fftshift(np.fft.fft(x, axis=-1), axes=-1)[..., first:last] for x in (corrected, mean))
    others = (usual[:, :, None] - spec / total[..., None]) * (total / np.maximum(total - 1, 1))[..., None]
    inner = (spec * others.conj()).sum((1, 3)).real
    sizes = [np.maximum((np.abs(x) ** 2).sum((1, 3)), 1e-300) for x in (spec, others)]
    nan = np.full(shift.shape, np.nan)
    return Alignment(
        shift_hz=shift,
        phase_deg=phase,
        shift_sd_hz=nan,
        phase_sd_deg=nan.copy(),
        amplitude=np.where(valid, inner / sizes[1], np.nan),
        similarity=np.where(valid, inner / np.sqrt(sizes[0]) / np.sqrt(sizes[1]), 0),
        weight=valid.astype(float),
        flag=np.where(valid, "ok", "failed"),
        reference=mean,
        n_iterations=0,
        dwelltime=dwelltime,
    )


def _means(four: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Weighted means of the aligned transients, ``(n_sets, n_channels, n_points)``; zero for sets without any."""
    weight = np.where(np.isin(alignment.flag, ("ok", "weak")), alignment.weight, 0)
    weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)
    return np.einsum("sctn,st->scn", alignment.apply(np.where(np.isfinite(four), four, 0)), weight)


def _moved(alignment: Alignment, shift_hz: np.ndarray, phase_deg: np.ndarray, **more) -> Alignment:
    """Every set moved as a whole, by ``(n_sets,)`` more; failed transients stay untouched."""
    alive = alignment.flag != "failed"
    phase = (alignment.phase_deg + phase_deg[:, None] + 180) % 360 - 180
    return replace(
        alignment,
        shift_hz=np.where(alive, alignment.shift_hz + shift_hz[:, None], 0),
        phase_deg=np.where(alive, phase, 0),
        reference=apply_shift_phase(alignment.reference, shift_hz[:, None], phase_deg[:, None], alignment.dwelltime),
        **more,
    )


def _match(four, alignment: Alignment, grid: list[int], edit: int, job: dict):
    """Conditions of every voxel moved towards each other: the alignment, and by how much."""
    means = _means(four, alignment).reshape(*grid, *four.shape[1::2])
    means = np.moveaxis(means, edit, -3)
    axes = {name: job[name] for name in ("dwelltime", "spec_freq_mhz", "nucleus", "ppmlim")}
    found = np.array([match_subspectra(one, **axes) for one in means.reshape(-1, *means.shape[-3:])])
    by_set = [np.moveaxis(x.reshape(means.shape[:-2]), -1, edit).reshape(-1) for x in (found[:, 0], found[:, 1])]
    return _moved(alignment, *by_set), (found[:, 0], found[:, 1])


def _absolute(four, alignment: Alignment, grid: list[int], edit: int | None, axes: dict):
    """Every set with its lines where they belong; conditions that were matched to each other stay so."""
    means = _means(four, alignment)
    many = four.shape[1] > 1
    groups = np.arange(len(means)).reshape(grid)
    if edit is not None:
        groups = np.repeat(groups.take([0], edit), grid[edit], edit)
    groups = groups.reshape(-1)
    shift, phase, offsets = np.zeros(len(groups)), np.zeros(len(groups)), [None] * len(groups)
    shift_sd, phase_sd = np.zeros(len(groups)), np.zeros(len(groups))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        whole = means[members].sum(0)
        coils = combination(torch.as_tensor(whole[:, None])).resolve_conj().numpy()
        found = absolute_offset(coils @ whole, **axes)
        for one in members:
            offsets[one] = found
        if found.found:
            shift[members], shift_sd[members] = found.shift_hz, found.shift_sd_hz
            # Coils that are not combined yet have a phase each: there is no one phase that makes all of them upright.
            phase[members], phase_sd[members] = (0, 0) if many else (found.phase_deg, found.phase_sd_deg)
    more = {
        "shift_sd_hz": np.hypot(alignment.shift_sd_hz, shift_sd[:, None]),
        "phase_sd_deg": np.hypot(alignment.phase_sd_deg, phase_sd[:, None]),
    }
    return _moved(alignment, shift, phase, **more), offsets


_MANY_WEAK = 0.05  # share of transients too weak to be found alone from which the network is asked


def _align_with_help(four: np.ndarray, target, axes: dict, job: dict) -> tuple[Alignment, str]:
    """Classical search; where it finds transients weak, once more from the network's proposal.  Also what to call that.

    With transients that are strong enough both end at the same place and the search is quicker.
    """
    alignment = align_transients(four, starter="classical", reference=target, **job)
    usable = (alignment.flag != "failed").sum(1)
    weak = (alignment.flag == "weak").sum(1) > _MANY_WEAK * np.maximum(usable, 1)
    if not weak.any():
        return alignment, "classical"
    network, name = _align_starter(None, None, four.shape[-1], target, axes)
    if isinstance(network, str):
        return alignment, name
    again = align_transients(four[weak], starter=network, reference=target, **job)
    for part in fields(Alignment):
        value = getattr(alignment, part.name)
        if isinstance(value, np.ndarray):
            value[weak] = getattr(again, part.name)
    where = "" if weak.all() else f" in {int(weak.sum())} of {len(weak)} sets, where transients are weak, classical elsewhere"
    return replace(alignment, n_iterations=max(alignment.n_iterations, again.n_iterations)), f"{name}{where}"


_UNIVERSAL = "align-universal"


def _align_starter(method: str | None, model, n_points: int, reference, axes: dict):
    """What :func:`fsl_mrs_dl.registration.solver.align_transients` takes as a starter, and what to call it."""
    from ..networks import model_cards
    from ..networks.self_supervised_registration import METHODS

    known = ("classical", "universal", *METHODS)
    if method not in (None, *known):
        raise OptionError(f"--method {method}: there is no such method of alignment; choose one of {', '.join(known)}.")
    if method == "classical" and model is not None:
        raise OptionError(f"--model {model}: is not asked by the classical method; leave one of the two out.")
    if method in METHODS and model is None:
        raise OptionError(
            f"--method {method}: is a network trained on data like these; give it with --model, or train one with "
            f"'fsl_mrs_dl train align --method {method} --file FILE --output DIR'."
        )
    insisted = method == "universal" or model is not None
    if method == "classical" or (not insisted and _UNIVERSAL not in model_cards.model_names()):
        return "classical", "classical"
    from ..networks.self_supervised_registration import RegistrationStarter
    from ..networks.universal import AlignStarter

    name = model or _UNIVERSAL
    kinds = {_UNIVERSAL: AlignStarter, "registration": RegistrationStarter}
    card = model_cards.read_card(name)
    if card.kind not in kinds:
        does = model_cards.KIND_WORDS.get(card.kind, "does other things")
        raise OptionError(f"--model {name}: {does}; give one that starts alignments.")
    is_a = "universal" if card.kind == _UNIVERSAL else card["architecture"]["settings"].get("method")
    if method not in (None, is_a):
        raise OptionError(
            f"--model {name}: is a network of method {is_a}, not {method}; leave --method out, or give another --model."
        )
    network, card = model_cards.load(name)
    found = kinds[card.kind](network, card, reference=reference, **axes)
    why = found.refuses(n_points)
    if why and model is not None:
        raise OptionError(f"--model {name}: is not for data like these: {why}; leave it out, or train one for them.")
    if why and not insisted:
        return "classical", f"classical, not {card.name}: {why}"
    return found, f"{card.name}, outside its range: {why}" if why else card.name


def align_image(image, *, dim: str = "DIM_DYN", reference=None, command: str = "align", file: str | None = None, **options):
    """Align the transients of a ``NIFTI_MRS`` object of the nifti-mrs package or of FSL-MRS, whose is one.

    Parameters
    ----------
    image, reference : NIFTI_MRS
        As ``data`` and ``reference`` of :func:`align_data`, which takes ``dim`` and ``options`` too.
    command : str
        What the header's record of processing calls the step.
    file : str, optional
        The file's name for messages, where the object does not know it.

    Returns
    -------
    (NIFTI_MRS, AlignedData)
        A corrected copy of the same class with the step recorded in its header, and how it was found.

    Raises
    ------
    DataError, OptionError
    """

    def name(one):
        return str(getattr(one, "filename", "") or "") or None

    if reference is not None:
        options["reference"] = from_image(reference, name=name(reference) or "the reference")
    aligned = align_data(from_image(image, name=file or name(image)), dim=dim, **options)
    out = image.copy()
    if aligned.excluded:
        from nifti_mrs.tools import split

        out, _ = split(out, dim, list(aligned.excluded))
    # The object conjugates on the way in as on the way out.
    out[:] = aligned.data.fids.reshape(out.image.shape)
    target = None if reference is None else name(reference) or "a reference"
    record = processing_record("Frequency and phase correction", aligned.details(command, dim, target))
    done = out.hdr_ext["ProcessingApplied"] if "ProcessingApplied" in out.hdr_ext else []
    out.add_hdr_field("ProcessingApplied", [*done, record])
    return out, aligned


def _reference_fids(reference: MrsData, data: MrsData, n_channels: int) -> np.ndarray:
    """The reference as ``(n_channels, n_points)``."""
    same = reference.n_points == data.n_points and np.isclose(reference.dwelltime, data.dwelltime, rtol=1e-4)
    if not same or not np.isclose(reference.spec_freq_mhz, data.spec_freq_mhz, rtol=1e-3):
        raise DataError(
            f"{reference.name}: has {reference.n_points} points of {reference.dwelltime:g} s at {reference.spec_freq_mhz:.2f} MHz, "
            f"{data.name} {data.n_points} of {data.dwelltime:g} s at {data.spec_freq_mhz:.2f} MHz; a reference must match."
        )
    fids = np.moveaxis(reference.fids, 3, -1).reshape(-1, reference.n_points)
    if len(fids) != n_channels:
        raise DataError(
            f"{reference.name}: holds {len(fids)} FIDs, {n_channels} are needed to align {data.name} to (one per coil); average it first."
        )
    return fids


@dataclass(repr=False)
class Quantification:
    """Fits of a batch of spectra; every array has one row per spectrum, ``n`` of them.

    Attributes
    ----------
    model : SignalModel
        The model that was fitted, with its basis already scaled.
    names : list of str
        Metabolites, in the order of the concentrations.
    params : ndarray ``(n, n_params)``
        FSL-MRS's parameter vectors, in the units of the scaled data; NaN where nothing could be fitted.
    cov : ndarray ``(n, k, k)``
        Cramer-Rao bound of concentrations and nonlinear parameters (``sigma**2`` for ``sigma``), baseline accounted for.
    noise_sd, noise_outside_sd : ndarray ``(n,)``
        Noise per real channel of the scaled spectrum: from the residual, and from its signal-free ends.
    cost : ndarray ``(n,)``
        Sum of squares left in the window, the baseline's penalty included.
    converged, usable : bool ndarray ``(n,)``
    n_iter : int ndarray ``(n,)``
    fid_scale : float
        The data were multiplied by this before fitting.
    basis_scale : ndarray ``(n_metabs,)``
        And each basis FID by this.
    starter : str
        Name of what proposed the starts.
    free : ndarray ``(n, k)``
        Concentrations and nonlinear parameters as they would be if concentrations and widths were allowed to be negative: what intervals
        are centred on.
    empty : bool ndarray ``(n,)``
        Where the fit explains no more than it would of noise.
    networks : ndarray ``(n_networks, n, n_metabs)`` or None
        The networks' own answers, where one was asked that quantifies; NaN for what it was not trained on.
    posterior : Posterior or None
        Prior and data put together.
    ood_residual, ood_latent : ndarray ``(n,)``
        How unlike clean data a spectrum is, by what the fit leaves over and by what it finds; above one it is.
    ood_network : ndarray ``(n,)`` or None
        How unlike what the network was trained on.
    network_note : str
        What is to be said of the network's own answers, if anything.
    """

    model: SignalModel
    names: list[str]
    params: np.ndarray
    cov: np.ndarray
    noise_sd: np.ndarray
    noise_outside_sd: np.ndarray
    cost: np.ndarray
    converged: np.ndarray
    usable: np.ndarray
    n_iter: np.ndarray
    fid_scale: float
    basis_scale: np.ndarray
    starter: str
    fids: np.ndarray = field(repr=False, default=None)
    free: np.ndarray = field(repr=False, default=None)
    empty: np.ndarray = field(repr=False, default=None)
    networks: np.ndarray | None = field(repr=False, default=None)
    posterior: Posterior | None = field(repr=False, default=None)
    ood_residual: np.ndarray = field(repr=False, default=None)
    ood_latent: np.ndarray = field(repr=False, default=None)
    ood_network: np.ndarray | None = field(repr=False, default=None)
    network_note: str = field(repr=False, default="")

    def __repr__(self) -> str:
        return (
            f"<Quantification of {len(self.params)} spectra with {len(self.names)} metabolites, {self.converged.sum()} converged>"
        )

    @property
    def conc(self) -> np.ndarray:
        """Concentrations in the units of the scaled data (FSL-MRS's 'raw'), ``(n, n_metabs)``."""
        return self.params[:, : len(self.names)]

    @property
    def crlb_sd(self) -> np.ndarray:
        """Cramer-Rao standard deviations of the concentrations, ``(n, n_metabs)``."""
        variance = np.diagonal(self.cov, axis1=1, axis2=2)[:, : len(self.names)]
        return np.sqrt(np.clip(variance, 0, None))

    @property
    def misfit(self) -> np.ndarray:
        """Residual over noise, ``(n,)``: one where the model explains everything."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.noise_sd / self.noise_outside_sd

    @property
    def ood(self) -> np.ndarray:
        """Out-of-distribution score, ``(n,)``, all parts of it together; above one the spectrum is unlike clean data."""
        parts = [part for part in (self.ood_residual, self.ood_latent, self.ood_network) if part is not None]
        return np.where(self.usable, out_of_distribution.together(*parts), np.nan)

    def estimate(self, name: str = "ml") -> tuple[np.ndarray, np.ndarray]:
        """Concentrations ``(n, n_metabs)`` and their covariance ``(n, n_metabs, n_metabs)`` by one of :data:`ESTIMATES`.

        'ml' is the maximum of the likelihood; 'posterior_mean' has the prior in it; 'network' is the networks' mean, and the
        covariance that of their spread, NaN where there is one network only.

        Raises
        ------
        OptionError
            If that estimate was not made.
        """
        m = len(self.names)
        if name == "ml":
            return self.conc, self.cov[:, :m, :m]
        if name == "posterior_mean":
            if self.posterior is None:
                raise OptionError("estimate posterior_mean: there is no prior for these metabolites; give one with --prior.")
            return self.posterior.mean, self.posterior.cov
        if name != "network":
            raise OptionError(f"estimate {name}: there is no such estimate; choose one of {', '.join(ESTIMATES)}.")
        if self.networks is None:
            raise OptionError("estimate network: no network was asked; give one with --model.")
        mean = self.networks.mean(0)
        if len(self.networks) < 2:
            return mean, np.full((len(mean), m, m), np.nan)
        apart = self.networks - mean
        return mean, np.einsum("kni,knj->nij", apart, apart) / (len(apart) - 1)

    def interval(self, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Limits of the 95 % interval of a sum of concentrations by the data alone, ``(n,)`` each; never negative where they cannot be."""
        centre, sd = self.free[:, : len(self.names)][:, members].sum(1), uncertainty.sum_sd(self.cov, members)
        low, high = centre - uncertainty.Z95 * sd, centre + uncertainty.Z95 * sd
        if self.model.shape.negative:
            return low, high
        # An estimate far below zero does not make its limit zero, and the estimate with bounds is always inside.
        estimate = self.conc[:, members].sum(1)
        return np.clip(low, 0, estimate), np.maximum(np.maximum(high, upper_limit(centre, sd)), estimate)

    def ratio_interval(self, members: list[int], under: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Limits of the 95 % interval of a ratio of two sums of concentrations by the data alone, ``(n,)`` each."""
        low, high = uncertainty.ratio_interval(self.free[:, : len(self.names)], self.cov, members, under)
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = self.conc[:, under].sum(1)
            ratio = self.conc[:, members].sum(1) / whole
            # As for the concentration itself.
            least = upper_limit(self.free[:, members].sum(1), uncertainty.sum_sd(self.cov, members)) / whole
        if set(members) != set(under) and not self.model.shape.negative:
            high = np.fmax(high, least)
        return np.fmin(low, ratio), np.fmax(high, ratio)

    def members(self, metab: str) -> list[int]:
        """Columns of a metabolite or of a sum written with '+'.

        Raises
        ------
        OptionError
            If one of the names was not fitted.
        """
        for name in metab.split("+"):
            if name not in self.names:
                raise OptionError(f"metabolite {name}: was not fitted; there are {', '.join(self.names)}.")
        return [self.names.index(name) for name in metab.split("+")]

    def table(self, combined: list[str] = (), estimate: str = "ml") -> tuple[list[str], np.ndarray, np.ndarray]:
        """Names, concentrations and SDs with sums appended: ``(names, (n, m), (n, m))``."""
        sums = [self.members(name) for name in combined]
        values, cov = self.estimate(estimate)
        conc = [values, *(values[:, rows].sum(-1)[:, None] for rows in sums)]
        sd = [np.sqrt(np.clip(np.diagonal(cov, axis1=1, axis2=2), 0, None))]
        sd += [uncertainty.sum_sd(cov, rows)[:, None] for rows in sums]
        return [*self.names, *combined], np.concatenate(conc, axis=1), np.concatenate(sd, axis=1)

    def row(self, index: int) -> Quantification:
        """One spectrum's estimates by themselves, without data and basis set; small, so that it can be sent about."""
        one = [index]
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and name not in ("basis_scale", "networks"):
                values[name] = value[one]
        values |= {"fids": None, "model": SimpleNamespace(shape=self.model.shape)}
        values["networks"] = None if self.networks is None else self.networks[:, one]
        values["posterior"] = None if self.posterior is None else self.posterior.taken(one)
        return Quantification(**values)

    def block(self, name: str) -> np.ndarray:
        """One block of the parameters by FSL-MRS's name (``gamma``, ``eps``, ``phi0``, ...), ``(n, size)``."""
        return self.model.split(torch.as_tensor(self.params))[name].numpy()

    def spectra(self, what: str = "full", rows=slice(None)) -> np.ndarray:
        """Model spectra over all points, complex ``(n, n_points)``, in the units of the scaled data.

        ``what`` is 'full', 'baseline', 'no baseline' or a metabolite.
        """
        params = torch.as_tensor(self.params[rows]).to(self.model.time)
        chunk = max(1, int(5e7 / (self.model.n_metabs * self.model.n_points * 16)))
        out = [self._spectra_of(part, what) for part in torch.split(params, chunk)]
        return torch.cat(out).cpu().numpy()

    def _spectra_of(self, params: torch.Tensor, what: str) -> torch.Tensor:
        if what == "full":
            return self.model(params)
        if what == "baseline":
            return self.model.baseline_spec(params)
        if what == "no baseline":
            return self.model.metabolites(params).sum(-2)
        return self.model.metabolites(params)[:, self.members(what)].sum(-2)


def model_for(
    basis: Basis,
    n_points: int,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str,
    *,
    ind_scale: list[str] | None = None,
    rescale: bool = True,
    **options,
) -> tuple[SignalModel, np.ndarray]:
    """The signal model of a basis set on the data's grid, and the factor each basis FID was scaled by.

    Scaling is FSL-MRS's: the mean basis FID gets norm 100, those in ``ind_scale`` each on their own.  ``options`` go to
    :class:`SignalModel`; without ``ppmlim`` the nucleus' usual window is taken.

    Raises
    ------
    BasisError, OptionError
    """
    basis.check_match(spec_freq_mhz, nucleus)
    if options.get("ppmlim") is None:
        options["ppmlim"] = units.nucleus(nucleus).ppmlim
        if options["ppmlim"] is None:
            raise OptionError(f"--ppmlim: there is no usual window for {nucleus}; give its limits in ppm.")
    fids = basis.resampled(dwelltime, n_points)
    scale = np.ones(basis.n_metabs)
    if rescale:
        alone = np.zeros(basis.n_metabs, bool)
        for name in ind_scale or ():
            if name not in basis.names:
                raise OptionError(f"--ind_scale {name}: not in {basis.source}; it has {', '.join(basis.names)}.")
            alone[basis.names.index(name)] = True
        if not alone.all():
            scale[~alone] = 100 / np.linalg.norm(fids[~alone].mean(0))
        scale[alone] = 100 / np.linalg.norm(fids[alone], axis=1)
    model = SignalModel(fids * scale[:, None], dwelltime, spec_freq_mhz, nucleus, **options)
    return model, scale


def quantify(
    fids: np.ndarray,
    basis: Basis,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    model: str = "voigt",
    ppmlim: tuple[float, float] | None = None,
    baseline: str = "poly, 2",
    groups: list[int] | None = None,
    ind_scale: list[str] | None = None,
    rescale: bool = True,
    starter: Starter | None = None,
    prior: str | Path | Prior | None = "auto",
    estimate: str = "ml",
    device: str | torch.device = "auto",
    max_iter: int = 60,
    progress: Callable[[int], None] | None = None,
) -> Quantification:
    """Fit a linear combination of basis spectra to every FID at once, to the maximum of the likelihood.

    Parameters
    ----------
    fids : complex ndarray ``(..., n_points)``
        In the in-memory sign convention; leading dimensions are flattened into rows.
    basis : Basis
        Chosen metabolites only (see :meth:`Basis.select`).
    dwelltime, spec_freq_mhz, nucleus
        Of the data: s, MHz.
    model : str
        One of :data:`fsl_mrs_dl.physics.signal_model.MODELS`.
    ppmlim : (float, float), optional
        Fitted window in ppm; the nucleus' usual one by default.
    baseline : str
        'off', 'poly, N' or 'spline, STIFFNESS'.
    groups : list of int, optional
        Metabolite groups (see :meth:`Basis.groups`).
    ind_scale, rescale
        As FSL-MRS's ``--ind_scale`` and the opposite of its ``--no_rescale``.
    starter : Starter, optional
        Proposes starts; the classical search by default.
    prior : str, path or Prior, optional
        What concentrations are expected, for the posterior: a recipe or file (see :func:`fsl_mrs_dl.fitting.priors.load`), 'volume' to learn it from
        these spectra, 'none', or 'auto': 'normal-brain' where the basis set is a brain's.  It never changes the 'ml' estimate.
    estimate : str
        'network' makes sure that the network that proposes starts is asked for its own answer.
    device : str
    max_iter : int
        Most trial points per spectrum.
    progress : callable, optional
        Called with the number of spectra that were finished.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    fids = np.asarray(fids)
    if not np.iscomplexobj(fids):
        raise DataError(f"FIDs are real numbers ({fids.dtype}); complex FIDs are needed.")
    rows = fids.reshape(-1, fids.shape[-1])
    usable = _usable(rows)
    if not usable.any():
        raise DataError("every FID is zero or holds NaN; there is nothing to fit.")
    device = choose_device(device) if isinstance(device, str) else device
    signal_model, basis_scale = model_for(
        basis,
        rows.shape[-1],
        dwelltime,
        spec_freq_mhz,
        nucleus,
        ind_scale=ind_scale,
        rescale=rescale,
        model=model,
        ppmlim=ppmlim,
        baseline=baseline,
        groups=groups,
    )
    # One scale for all rows, so that their raw concentrations can be compared; for a single FID it is FSL-MRS's.
    energy = np.linalg.norm(rows[usable], axis=-1)
    fid_scale = 100 / float(np.sqrt(np.mean(energy.astype(float) ** 2))) if rescale else 1.0
    with np.errstate(invalid="ignore"):  # infinite values in unusable rows
        scaled = rows * fid_scale
    result = fit_scaled(
        scaled,
        signal_model,
        list(basis.names),
        starter=starter,
        prior=prior,
        relative=np.median(basis_scale) / basis_scale,
        estimate=estimate,
        device=device,
        max_iter=max_iter,
        progress=progress,
    )
    result.fid_scale, result.basis_scale = fid_scale, basis_scale
    return result


def _usable(rows: np.ndarray) -> np.ndarray:
    """Which FIDs ``(n, n_points)`` can be fitted: those that are finite and not all zero."""
    return np.isfinite(rows).all(-1) & (rows != 0).any(-1)


_TOLERANCE = 1e-3  # SDs


def fit_scaled(
    fids: np.ndarray,
    model: SignalModel,
    names: list[str],
    *,
    starter: Starter | None = None,
    prior: str | Path | Prior | None = "auto",
    relative: np.ndarray | float = 1.0,
    estimate: str = "ml",
    prior_scaled: bool = False,
    device: str | torch.device = "auto",
    max_iter: int = 60,
    tolerance: float = _TOLERANCE,
    progress: Callable[[int], None] | None = None,
) -> Quantification:
    """Fit FIDs ``(n, n_points)`` with a ready model; whoever calls has scaled data and basis.

    Rows that are not finite or all zero come back as NaN with ``usable`` false; no row raises.  ``relative`` is what a prior's numbers are
    multiplied by where basis spectra were scaled one by one; ``prior_scaled`` tells that ``prior`` is in the units of these data already,
    and is not to be brought to them; ``tolerance`` is how near to the minimum a fit has to come, in SDs; the other arguments are those of
    :func:`quantify`.
    """
    model = model.to(choose_device(device) if isinstance(device, str) else device)
    starter = starter or Automatic()
    if isinstance(starter, Automatic):
        starter = starter.for_model(model)
    expected = None if prior == "volume" else _prior_of(prior, model, names)
    answering_network, note = answering(starter), ""
    if answering_network is not None and not answering_network.knows(model, names):
        note = (
            f"{answering_network.card.name} was trained on another basis set: its own answers mean nothing here and are left out."
        )
        if estimate == "network":
            raise OptionError(
                f"estimate network: {answering_network.card.name} was trained on another basis set; train one for this one."
            )
        answering_network = None
    if answering_network is None and estimate == "network":
        raise OptionError(
            f"estimate network: what starts fits here ({starter.name}) has no answer of its own; give a network that has with --model, or train one "
            "('fsl_mrs_dl train quant --method supervised', or dq-nmm)."
        )
    if answering_network is not None:
        unknown = answering_network.unknown(model, names)
        if unknown:
            note = (
                f"{answering_network.card.name} has no answer for {', '.join(unknown)}: it was trained without, or with a basis set in which they look "
                "different. "
            )
        if model_cards.little_learnt(answering_network.card):
            learnt = np.median(list(answering_network.card["accuracy"]["R2 of concentrations"].values()))
            note += (
                f"{answering_network.card.name} has learnt little (median R2 {learnt:.2f} in training): do not trust its own answers, however "
                "small their spread."
            )
    usable = _usable(fids)
    n, n_fit = len(fids), model.n_metabs + sum(model.theta_sizes.values())
    result = Quantification(
        model=model,
        names=names,
        params=np.full((n, model.n_params), np.nan),
        cov=np.full((n, n_fit, n_fit), np.nan),
        noise_sd=np.full(n, np.nan),
        noise_outside_sd=np.full(n, np.nan),
        cost=np.full(n, np.nan),
        converged=np.zeros(n, bool),
        usable=usable,
        n_iter=np.zeros(n, int),
        fid_scale=1.0,
        basis_scale=np.ones(model.n_metabs),
        starter=starter.name,
        fids=fids,
        free=np.full((n, n_fit), np.nan),
        empty=np.zeros(n, bool),
        ood_residual=np.full(n, np.nan),
        network_note=note.strip(),
    )
    where = np.flatnonzero(usable)
    if answering_network is not None and len(where):
        _prepare_answers(result, answering_network)
    parts = np.array_split(where, max(1, round(len(where) / _rows_per_chunk(model, model.time.device)))) if len(where) else []
    fit_part = partial(_fit_rows, result, starter=starter, max_iter=max_iter, tolerance=tolerance, network=answering_network)
    for part, _ in zip(parts, side_by_side(fit_part, parts, model.time.device)):
        if progress:
            progress(len(part))
    _judge(result, expected, "scaled" if prior_scaled else prior, relative)
    return result


_SIDE_BY_SIDE: ContextVar[int | None] = ContextVar("threads that parts of a batch are computed with", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, and parts of a batch side by side with as many as there were.

    What comes out is then the same to the last digit whatever the number of threads: sums are not split among them.
    """
    threads = torch.get_num_threads()
    token = _SIDE_BY_SIDE.set(_SIDE_BY_SIDE.get() or threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _SIDE_BY_SIDE.reset(token)


def side_by_side(function: Callable, parts: list, device: torch.device) -> Iterator:
    """``map`` over parts of a batch, on a processor with as many threads as torch has, each of which computes with one.

    That is faster than one after the other with all threads: most of the work is on matrices too small to share.  Results come in
    their order, and within :func:`one_thread` they are the same whatever the number of threads; outside of it a single part is
    computed with all of them.
    """
    before = torch.get_num_threads()
    threads = _SIDE_BY_SIDE.get() or before
    if device.type != "cpu" or threads < 2 or len(parts) < 2:
        yield from map(function, parts)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            waiting = [pool.submit(function, part) for part in parts]
            for one in waiting:
                yield one.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(before)


def _prior_of(prior, model: SignalModel, names: list[str]) -> Prior | None:
    """The prior that is meant, in its own unit; None for none."""
    if isinstance(prior, Prior):
        return prior
    if prior is None or str(prior) == "none":
        return None
    if str(prior) != "auto":
        return priors.load(prior, names)
    if model.nucleus != "1H" or typical_concentrations(names) is None:
        return None
    # Shifts and widths of the recipe are what networks are trained on, not what is expected of a scanner.
    return replace(priors.load("normal-brain", names), fwhm_hz=None, shift_hz=None)


_WIDEST_PPM = 0.1  # doi 10.1002/mrm.27742: wider lines are not usable


def _judge(result: Quantification, expected: Prior | None, asked, relative) -> None:
    """Posterior and out-of-distribution score, from what the data alone say."""
    model, m = result.model, len(result.names)
    free, cov = result.free[:, :m], result.cov[:, :m, :m]
    if isinstance(asked, str) and asked == "volume":
        expected = priors.learn(free[result.converged], cov[result.converged], result.names)
    elif expected is not None and asked != "scaled":
        expected = expected.times(relative)
        expected = expected.times(priors.scale_to(expected, free, cov))
    if expected is not None:
        lower = np.concatenate([np.full(m, -np.inf if model.shape.negative else 0.0), model.theta_bounds[0].cpu().numpy()])
        lower[m:] = np.where(lower[m:] == 0, 0.0, -np.inf)  # limits far outside of what can be a spectrum say nothing
        upper = np.full(len(lower), np.inf)
        if expected.fwhm_hz is not None and not model.shape.gaussian:
            at = _offsets(model)["gamma"]
            upper[at : at + model.n_groups] = np.pi * expected.fwhm_hz[1]
        weak = _weak(result)
        result.posterior = posterior(expected, result.free, result.cov, lower, upper, rough=weak)
        _look_again(result, np.flatnonzero(weak), lower, upper, asked not in ("volume", "scaled"))
    blocks = {name: result.block(name) for name in ("gamma", "sigma", "eps") if name in model.sizes}
    group = _main_group(model, result.names)
    at, sd = _offsets(model), np.sqrt(np.clip(np.diagonal(result.cov, axis1=1, axis2=2), 0, None))
    gamma, gauss = blocks["gamma"][:, group] / np.pi, np.zeros(len(free))
    with np.errstate(invalid="ignore", divide="ignore"):
        gamma_sd = sd[:, at["gamma"] + group] / np.pi
        if "sigma" in blocks:
            # Gaussian widths are fitted as sigma**2; the sum of both widths is better known than either.
            gauss = 2 * np.sqrt(2 * np.log(2)) * np.sqrt(2) * blocks["sigma"][:, group] / (2 * np.pi)
        root = np.sqrt(0.2166 * gamma**2 + gauss**2)
        width, by_gamma = 0.5346 * gamma + root, 0.5346 + 0.2166 * gamma / np.maximum(root, 1e-12)
        variance = (by_gamma * gamma_sd) ** 2
        if "sigma" in blocks:
            i, j = at["gamma"] + group, at["variance"] + group
            by_variance = 4 * np.log(2) / np.pi**2 / (2 * np.maximum(root, 1e-12))
            part = by_gamma / np.pi
            full = (
                part**2 * result.cov[:, i, i]
                + 2 * part * by_variance * result.cov[:, i, j]
                + by_variance**2 * result.cov[:, j, j]
            )
            variance = np.where(full > 0, full, variance)
        shift = -blocks["eps"][:, group] / (2 * np.pi)
        shift_sd = sd[:, at["eps"] + group] / (2 * np.pi)
        result.ood_latent = out_of_distribution.latent_score(
            expected, free, cov, fwhm_hz=width, fwhm_sd=np.sqrt(variance), shift_hz=shift, shift_sd=shift_sd,
            widest_hz=_WIDEST_PPM * model.spec_freq_mhz,
        )  # fmt: skip
    result.ood_latent[~result.usable] = np.nan


_STAYS, _ASTRAY = 0.3, 20.0  # SDs of the data alone
_CURVED = 0.03  # relative SD of the best known metabolite from which on a spectrum is no longer linear in its widths


def _weak(result: Quantification) -> np.ndarray:
    """Spectra whose posterior is looked at again, bool ``(n,)``: not those in which there is nothing to be seen."""
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.nanmin(np.where(result.conc > 0, result.crlb_sd / result.conc, np.inf), 1)
    return (best > _CURVED) & result.usable & result.converged & ~result.empty


def _look_again(
    result: Quantification, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray, rescale: bool, passes: int = 2
) -> None:
    """Posterior of weak spectra with the model linearised where the posterior is, not where the likelihood has its maximum.

    There amplitude and width go together, and the bound of an estimate that is too high by chance is too wide.
    """
    model, m = result.model, len(result.names)
    rows = rows[np.isfinite(result.posterior.point[rows]).all(1)]
    untouched = np.zeros(len(result.params), bool)
    untouched[rows] = True
    first, last = model.window
    # Less at once than for a fit: derivatives by everything are held together.
    chunk = max(1, _rows_per_chunk(model, model.time.device) // 2)
    for _ in range(passes if len(rows) else 0):
        estimates, cov = np.empty((len(rows), len(lower))), np.empty((len(rows), len(lower), len(lower)))
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            spec = units.fid_to_spec(torch.as_tensor(result.fids[rows[part]]).to(model.basis))[:, first:last]
            point = torch.as_tensor(result.posterior.point[rows[part]]).to(model.time)
            conc, theta = point[:, :m], point[:, m:]
            sensitivities = uncertainty.sensitivities(model, theta, conc)
            noise = torch.as_tensor(result.noise_sd[rows[part]]).to(model.time)
            unit = uncertainty.covariance(sensitivities @ sensitivities.mT, torch.ones_like(noise))
            explained = (conc[:, None] @ sensitivities[:, :m])[:, 0].unflatten(-1, (-1, 2))
            left = model.eliminate_baseline(spec) - torch.view_as_complex(explained)
            everything = torch.ones_like(point, dtype=torch.bool)
            free, moved = uncertainty.without_bounds(
                sensitivities, left, conc, everything, unit, torch.full_like(noise, torch.inf)
            )
            estimates[part] = torch.cat([free, theta + moved], -1).cpu().numpy()
            cov[part] = (unit * noise[:, None, None] ** 2).cpu().numpy()
        prior = result.posterior.prior
        if rescale and len(rows) > len(result.params) // 2:
            prior = prior.times(priors.scale_to(prior, estimates[:, :m], cov[:, :m, :m]))
            result.posterior.prior = prior
        again = posterior(prior, estimates, cov, lower, upper, near=result.posterior.taken(rows))
        with np.errstate(invalid="ignore", over="ignore"):
            own = np.sqrt(np.diagonal(result.cov[rows], axis1=1, axis2=2))
            good = (np.abs(again.point - result.posterior.point[rows]) < _ASTRAY * own).all(1)
            far = np.abs(again.point - result.posterior.point[rows]) > _STAYS * np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
        result.posterior.update(rows[good], again.taken(good))
        untouched[rows[good]] = False
        # Where the posterior has not moved, looking from there shows the same.
        rows = rows[good & far.any(1)]
        if not len(rows):
            break
    # Where that led astray, what was only begun is finished.
    rows = np.flatnonzero(untouched)
    if len(rows):
        near = result.posterior.taken(rows)
        finished = posterior(result.posterior.prior, result.free[rows], result.cov[rows], lower, upper, near=near)
        result.posterior.update(rows, finished)


def _offsets(model: SignalModel) -> dict[str, int]:
    """Where each block of nonlinear parameters begins in the covariance."""
    out, at = {}, model.n_metabs
    for name, size in model.theta_sizes.items():
        out[name] = at
        at += size
    return out


def _main_group(model: SignalModel, names: list[str]) -> int:
    """The group that most metabolites are in; macromolecules are broad by nature."""
    groups = [group for group, name in zip(model.groups, names) if not is_macromolecule(name)] or list(model.groups)
    return max(sorted(set(groups)), key=groups.count)


def _rows_per_chunk(model: SignalModel, device: torch.device) -> int:
    """Spectra fitted side by side: enough to fill the machine, few enough to stay in cache or memory."""
    if model.shape.free_shift:
        # Derivatives by every metabolite's shift need whole FIDs at once.
        return model.rows_in_cache(device)
    budget = 2e7 if device.type == "cpu" else 2e9
    width = model.window[1] - model.window[0]
    return max(1, int(budget / (model.n_metabs * width * model.basis.element_size())))


def _fit_rows(
    result: Quantification, index: np.ndarray, *, starter: Starter, max_iter: int, tolerance: float, network=None
) -> None:
    """Fit the rows ``index`` and write them into ``result``."""
    model = result.model
    first, last = model.window
    fid = torch.as_tensor(result.fids[index]).to(model.basis)
    whole = units.fid_to_spec(fid)
    spec = whole[:, first:last]
    solution = fit_spectra(spec, model, result.names, starter, max_iter, tolerance)
    theta, conc = solution.theta, solution.conc
    modelled = model.join_metabolites(theta, conc)
    coefficients = model.baseline_coefficients(spec - modelled)
    residual = spec - modelled - coefficients @ model.regressors.mT.to(coefficients)
    noise = uncertainty.noise_from_residual(model, residual, conc)
    unit = uncertainty.covariance(solution.information, torch.ones_like(noise))
    cov = unit * noise[:, None, None] ** 2
    held = torch.cat([(conc == 0) & (not model.shape.negative), theta <= model.theta_bounds[0]], -1)
    free, moved = conc.clone(), torch.zeros_like(theta)
    bound = held.any(-1).nonzero()[:, 0]
    if len(bound):
        rows = uncertainty.sensitivities(model, theta[bound], conc[bound])
        left = model.eliminate_baseline((spec - modelled)[bound])
        free[bound], moved[bound] = uncertainty.without_bounds(rows, left, conc[bound], held[bound], unit[bound], noise[bound])
    result.free[index] = torch.cat([free, theta + moved], -1).cpu().numpy()
    result.params[index] = model.pack(theta, conc, coefficients).cpu().numpy()
    result.cov[index] = cov.cpu().numpy()
    result.noise_sd[index] = noise.cpu().numpy()
    result.noise_outside_sd[index] = uncertainty.noise_outside(
        whole.cpu().numpy(), model.dwelltime, model.spec_freq_mhz, model.nucleus
    )
    grid = model.n_points, model.dwelltime, model.spec_freq_mhz, model.nucleus
    result.ood_residual[index] = out_of_distribution.residual_score(
        residual.cpu().numpy(),
        result.noise_sd[index],
        result.noise_outside_sd[index],
        ppm_per_point=1 / (model.n_points * model.dwelltime * model.spec_freq_mhz),
        n_outside=int(uncertainty.quiet_points(*grid).sum()),
    )
    if network is not None:
        _ask(result, index, network, spec)
    result.empty[index] = holds_noise_only(model.eliminate_baseline(spec), solution.cost, model).cpu().numpy()
    result.cost[index] = solution.cost.cpu().numpy()
    result.converged[index] = solution.converged.cpu().numpy()
    result.n_iter[index] = solution.n_iter.cpu().numpy()
    failed = index[~np.isfinite(result.cost[index])]
    result.params[failed] = np.nan
    result.free[failed] = np.nan
    result.ood_residual[failed] = np.nan
    result.usable[failed] = False


def _prepare_answers(result: Quantification, network) -> None:
    """Make room for a network's own answers, their number and kind learnt from one spectrum of noise."""
    model = result.model
    spec = torch.randn(1, len(model.bins), generator=torch.Generator().manual_seed(0)).to(model.basis)
    own = network.concentrations(spec, model, result.names)
    result.networks = np.full((len(own), len(result.params), own.shape[-1]), np.nan)
    if network.novelty(spec, model) is not None:
        result.ood_network = np.full(len(result.params), np.nan)


def _ask(result: Quantification, index: np.ndarray, network, spec: torch.Tensor) -> None:
    """A network's own answers for the rows ``index``, and how far they are from what it knows."""
    result.networks[:, index] = network.concentrations(spec, result.model, result.names).cpu().numpy()
    if result.ood_network is not None:
        result.ood_network[index] = network.novelty(spec, result.model)


def fit_spectra(
    spec: torch.Tensor, model: SignalModel, names: list[str], starter: Starter, max_iter: int = 60, tolerance: float = _TOLERANCE
) -> varpro.Solution:
    """Start and refine spectra in the model's window, complex ``(batch, n_window)``."""
    if model.shape.free_shift:
        return _fit_free_shifts(spec, model, names, starter, max_iter)
    target = model.eliminate_baseline(spec)
    starts = [_best_start(target, model, part(spec, model, names)) for part in getattr(starter, "parts", [starter])]
    theta, cost = starts[0]
    rivals = []
    for other, other_cost in starts[1:]:
        elsewhere = apart(model, theta, other)
        rivals.append((other, elsewhere))
        better = ~elsewhere & (other_cost < cost)
        theta, cost = torch.where(better[:, None], other, theta), torch.where(better, other_cost, cost)
    # What is explained of a spectrum without signal is noise, whose cost has many minima and none worth the search.
    empty = holds_noise_only(target, cost, model)
    if empty.any():
        best = varpro.Solution.joined(
            [(part, _solve_fast(target[part], model, theta[part], steps, tolerance)) for part, steps in (
                (empty.nonzero()[:, 0], min(max_iter, _STEPS_IN_NOISE)), ((~empty).nonzero()[:, 0], max_iter)
            ) if len(part)]
        )  # fmt: skip
    else:
        best = _solve_fast(target, model, theta, max_iter, tolerance)
    for other, elsewhere in rivals:
        index = (elsewhere & ~empty).nonzero()[:, 0]
        if len(index):
            end = _solve_fast(target[index], model, other[index], max_iter, tolerance)
            lower = end.cost < best.cost[index]
            best.update(index[lower], end[lower])
    return best


_STEPS_IN_NOISE, _LEAST_EXPLAINED = 16, 3.0


def holds_noise_only(target: torch.Tensor, cost: torch.Tensor, model: SignalModel) -> torch.Tensor:
    """Whether a fit that leaves ``cost`` ``(batch,)`` of spectra ``(batch, n_window)`` explains no more than it would of noise.

    The baseline is eliminated.  Of noise each parameter explains about as much as one point of it holds, some more by being searched for.
    """
    energy = target.abs().square().sum(-1)
    noise = cost / (2 * target.shape[-1])
    return (energy - cost) < _LEAST_EXPLAINED * (model.n_metabs + sum(model.theta_sizes.values())) * noise


def _best_start(target: torch.Tensor, model: SignalModel, candidates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The candidate of lowest cost for every spectrum, ``(batch, n_theta)``, and that cost.

    Single precision is enough to tell starts apart, once the numbers are brought to its middle.
    """
    nonnegative = torch.full((model.n_metabs,), not model.shape.negative, device=target.device)
    lower, upper = model.theta_bounds
    candidates = candidates.clamp(lower, upper)
    n, rough, size = candidates.shape[1], reduced(model, len(target)), 1.0
    if isinstance(rough, ReducedModel):
        rough = rough.single
        target, size = _to_single(target)
    there = candidates.isfinite().all(-1).flatten()
    costs = torch.full(there.shape, torch.inf, dtype=target.real.dtype, device=target.device)
    costs[there] = varpro.cost(
        target.repeat_interleave(n, 0)[there],
        rough.plain_columns,
        candidates.flatten(0, 1)[there],
        nonnegative=nonnegative,
        eliminate=rough.elimination,
    )
    cost, best = costs.reshape(-1, n).min(-1)
    return candidates[torch.arange(len(best), device=best.device), best], cost.to(candidates) * size**2


def _to_single(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra in single precision, brought to a size of one, and what they were divided by, ``(batch,)``."""
    size = target.abs().amax(-1)
    size = torch.where((size > 0) & size.isfinite(), size, torch.ones_like(size))
    return (target / size[:, None]).to(torch.complex64), size


# Starts closer than this end in the same minimum.
_SAME_SHIFT_PPM, _SAME_PHASE_RAD = 0.02, 0.6


def apart(model: SignalModel, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Where two sets of starts lie in different places, bool ``(batch,)``: by their first group's shift, or the phase in the window."""
    a, b = model.split_theta(one), model.split_theta(other)
    shift = (a["eps"] - b["eps"])[:, 0] / (2 * torch.pi * model.spec_freq_mhz)
    middle = sum(model.ppmlim) / 2 if model.ppmlim else units.nucleus(model.nucleus).ppm_reference
    hz = units.ppm_to_hz(middle, model.spec_freq_mhz, model.nucleus)
    turn = (a["phi0"] - b["phi0"] + (a["phi1"] - b["phi1"]) * hz + (a["eps"] - b["eps"]) * model.dwelltime)[:, 0]
    return (shift.abs() > _SAME_SHIFT_PPM) | (torch.remainder(turn + torch.pi, 2 * torch.pi) - torch.pi).abs().gt(_SAME_PHASE_RAD)


# Starts of a fit with free shifts: the SD of the shifts' spread (ppm) and the damping of the first step.
_FREE_SHIFT_STARTS = (
    (0.0, 1e-3),
    (0.0, 10.0),
    (0.0, 100.0),
    (0.005, 10.0),
    (0.005, 100.0),
    (0.01, 10.0),
    (0.01, 100.0),
    (0.02, 100.0),
)


def _fit_free_shifts(spec, model: SignalModel, names, starter: Starter, max_iter: int) -> varpro.Solution:
    """Fit a model in which every metabolite has a shift of its own.

    Its cost has many minima, because a weak metabolite can wander off to a stronger one's line.  The shifts are released from
    the minimum with shared ones, from several starts around it, and the lowest end is taken.
    """
    shared = model.with_shared_shifts()
    blocks = shared.split_theta(fit_spectra(spec, shared, names, starter, max_iter).theta)
    eps = blocks.pop("eps")[:, model.group_index]
    random = torch.Generator().manual_seed(0)
    target, best = model.eliminate_baseline(spec), None
    for spread_ppm, damping in _FREE_SHIFT_STARTS:
        spread = torch.randn(model.n_metabs, generator=random, dtype=torch.float64).to(eps)
        start = eps + spread * 2 * torch.pi * spread_ppm * model.spec_freq_mhz
        end = _solve(target, model, model.join_theta(**blocks, eps=start), 3 * max_iter, damping)
        if best is None:
            best = end
        else:
            lower = end.cost < best.cost
            best.update(lower, end[lower])
    return best


# The first steps in single precision: most of them, how near to the minimum they go (in SDs), and the fewest spectra that they pay for.
_ROUGH_STEPS, _ROUGH_TOLERANCE, _ROUGH_ROWS = 6, 0.1, 8
# How far the coarse grid may put any parameter off, in SDs.
_MOST_OFF = 1e-3


def _solve_fast(
    target: torch.Tensor, model: SignalModel, theta: torch.Tensor, max_iter: int, tolerance: float = _TOLERANCE
) -> varpro.Solution:
    """As :func:`_solve` with the whole model, but there by way of the reduced one; the cost is the whole model's."""
    small = reduced(model, len(target))
    if not isinstance(small, ReducedModel):
        return _solve(target, model, theta, max_iter, tolerance=tolerance)
    used = 0
    if max_iter > 3 * _ROUGH_STEPS and len(target) >= _ROUGH_ROWS:
        rough = _solve(_to_single(target)[0], small.single, theta.float(), _ROUGH_STEPS, tolerance=_ROUGH_TOLERANCE)
        theta, used = torch.where(rough.cost.isfinite()[:, None], rough.theta.to(theta), theta), rough.n_iter
        max_iter -= _ROUGH_STEPS
    best = _solve(target, small, theta, max_iter, tolerance=tolerance)
    best.n_iter += used
    # What the two models differ by moves a parameter by no more SDs than its norm is in units of the noise.
    exact = model.join_metabolites(best.theta, best.conc)
    off = model.eliminate_baseline(exact - small.join_metabolites(best.theta, best.conc)).abs().square().sum(-1)
    cost = (target - model.eliminate_baseline(exact)).abs().square().sum(-1)
    best.cost = torch.where(cost.isfinite(), cost, torch.inf)
    index = (off > _MOST_OFF**2 * cost / (2 * target.shape[-1])).nonzero()[:, 0]
    if len(index):
        end = _solve(target[index], model, best.theta[index], max_iter, tolerance=tolerance)
        end.n_iter += best.n_iter[index]
        best.update(index, end)
    return best


def _solve(
    target: torch.Tensor,
    model: SignalModel | ReducedModel,
    theta: torch.Tensor,
    max_iter: int,
    damping: float = 1e-3,
    tolerance: float = _TOLERANCE,
) -> varpro.Solution:
    """Refine one start per spectrum; ``target`` has the baseline eliminated."""
    lower, upper = (bound.to(theta) for bound in model.theta_bounds)
    return varpro.solve(
        target,
        model.plain_columns,
        partial(model.theta_derivatives, eliminate=False),
        theta,
        lower=lower,
        upper=upper,
        nonnegative=torch.full((model.n_metabs,), not model.shape.negative, device=target.device),
        max_iter=max_iter,
        tolerance=tolerance,
        damping=damping,
        eliminate=model.elimination,
    )
