"""Alignment of the transients of a file: dimensions, sets, sub-spectra, absolute frequency."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..core import units
from ..core.device import choose_device
from ..core.errors import DataError, OptionError
from ..core.transients import apply_shift_phase, combination
from ..io.nifti import MrsData, check_fids, from_image, processing_record, without
from ..registration.alignment import Alignment, align_transients
from .absolute import LINES, Offset, absolute_offset
from .editing import match_subspectra
from .moving_reference import follow
from .proposals import _align_starter, _align_with_help, unrefined

__all__ = ["AlignedData", "align_data", "align_image"]


@dataclass
class AlignedData:
    """Aligned transients and how they were found.

    ``data`` as the input, corrected, without the transients that were ``excluded`` (numbers along ``dim``, from 0);
    ``fids`` all uncorrected FIDs as ``(n_sets, n_channels, n_transients, n_points)``, ``alignment`` their result;
    ``set_axes`` and ``transient_axes`` name the dimensions that run over sets and over transients, with their lengths.
    ``subspectra`` says by how much conditions of edited data were moved towards each other: shift (Hz) and phase
    (degrees), each ``(n_voxels, n_conditions)``; ``offset`` where the lines of known place were found for each set, or
    None.
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
        """The set that stands for all in a report: of those with most transients found, the one whose transients are
        most alike."""
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

    Coils that are still separate share one shift and phase per transient.  Every voxel, edit condition or other element
    of the remaining dimensions is a set with a target of its own; ``dim='all'`` makes one set per voxel of all of them.

    Parameters
    ----------
    dim : str
        Dimension that runs over transients, 'all' for all spectra of a voxel, or 'voxels' for the voxels themselves;
        'all' is 'voxels' where a voxel has one spectrum.
    ppmlim : (float, float), optional
        Window in ppm; the nucleus' usual one by default.
    reference : MrsData, optional
        One FID, or one per coil, to align to.
    method : str, optional
        Who proposes shifts and phases: 'classical' searches the whole range for the highest likelihood, 'universal'
        asks the network that comes with the package, 'dsr', 'dsrf', 'dcrr' and 'dcrrf' one trained on data like these
        (``model``).  By default the search, and where it finds transients weak the network, if it was made for data
        like these.
    model : str or path, optional
        A network, by name or folder.
    refine : bool
        False gives the network's own answer, without SDs.
    absolute : bool
        Put the lines of known place (1H: creatine, choline and NAA together) where they belong, upright, in place of
        leaving the mean where it was.
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
                f"{data.name}: every transient is unlike the others in one of its sub-spectra; leave --exclude-unlike"
                " out."
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
        what = (
            "to align its voxels to each other give --dim voxels"
            if voxels
            else "one spectrum has nothing to be aligned to"
        )
        raise DataError(f"{data.name}: has no transients (no dimension {dim} nor any other); {what}.")
    elif data.axis(dim) == coil:
        raise DataError(f"{data.name}: coils are not transients; choose another --dim, for example DIM_DYN.")
    else:
        run = [data.axis(dim)]
    if np.prod([data.fids.shape[axis] for axis in run]) < 2 and reference is None:
        raise DataError(
            f"{data.name}: has one transient along {dim}, which has nothing to be aligned to; give --reference."
        )
    return run


def _check_align_options(data, run, method, model, refine, absolute, moving, exclude_unlike, reference) -> None:
    """Options that have nothing to go with, or that go against each other."""
    if not refine and model is None and method in (None, "classical"):
        raise OptionError(
            "--no-refine: the classical search is the refinement; name a network with --method or --model."
        )
    if absolute and reference is not None:
        raise OptionError(
            "--absolute: the reference says already where everything lies; leave one of --absolute and --reference out."
        )
    if absolute and data.nucleus not in LINES:
        raise OptionError(
            f"--absolute: no lines of known place for {data.nucleus}, only for {', '.join(LINES)}; leave it out."
        )
    if moving is not None and moving < 1:
        raise OptionError(
            f"--moving {moving}: give the number of neighbours, 8 or more; leave it out for one reference for all."
        )
    n_transients = int(np.prod([data.fids.shape[axis] for axis in run]))
    if moving and 2 * moving > n_transients:
        raise OptionError(
            f"--moving {moving}: neighbours of one transient must be fewer than half of all {n_transients}; give less,"
            " or leave it out."
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
        raise OptionError(
            "--exclude-unlike: works along one dimension of transients; leave it out, or choose another --dim."
        )
    if exclude_unlike and np.prod(data.fids.shape[:3]) > 1:
        raise OptionError(
            "--exclude-unlike: every voxel has transients of its own that are unlike, but a file has as many for all;"
            " leave it out and use the weights in dl_align.csv."
        )


def _means(four: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Weighted means of the aligned transients, ``(n_sets, n_channels, n_points)``; zero for sets without any."""
    weight = np.where(np.isin(alignment.flag, ("ok", "weak")), alignment.weight, 0)
    weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)
    return np.einsum("sctn,st->scn", alignment.apply(np.where(np.isfinite(four), four, 0)), weight)


def _moved(alignment: Alignment, shift_hz: np.ndarray, phase_deg: np.ndarray, **more) -> Alignment:
    """Every set moved as a whole, by ``(n_sets,)`` more; failed transients stay untouched."""
    alive = alignment.flag != "failed"
    phase = units.wrap_degrees(alignment.phase_deg + phase_deg[:, None])
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


def align_image(
    image, *, dim: str = "DIM_DYN", reference=None, command: str = "align", file: str | None = None, **options
):
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
            f"{reference.name}: has {reference.n_points} points of {reference.dwelltime:g} s at"
            f" {reference.spec_freq_mhz:.2f} MHz, {data.name} {data.n_points} of {data.dwelltime:g} s at"
            f" {data.spec_freq_mhz:.2f} MHz; a reference must match."
        )
    fids = np.moveaxis(reference.fids, 3, -1).reshape(-1, reference.n_points)
    if len(fids) != n_channels:
        raise DataError(
            f"{reference.name}: holds {len(fids)} FIDs, {n_channels} are needed to align {data.name} to (one per coil);"
            " average it first."
        )
    return fids
