"""Alignment of the transients of a file: dimensions, sets, sub-spectra, frequency referencing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from ..core import units
from ..core.device import choose_device
from ..core.errors import DataError, OptionError
from ..core.fids import acquired_points, usable_fids
from ..core.transients import apply_shift_phase, combination
from ..io.basis import runs_backwards
from ..io.nifti import (
    MrsData,
    as_stored,
    check_fids,
    conjugated,
    from_image,
    image_of,
    processing_record,
    without,
)
from ..registration.alignment import Alignment, align_transients
from ..registration.signal import WATER_WINDOW, is_water_unsuppressed
from .averaging import averaging_weights, weighted_mean
from .coherence import Coherence, measure_coherence, measure_noise, metabolites_fall, regions_of
from .conditions import Conditions, declared_conditions, find_conditions
from .editing import SubspectraMatch, match_subspectra
from .foreign_regions import ForeignRegion, align_without_foreign_regions
from .frequency_referencing import Offset, check_nucleus, reference_offset
from .moving_reference import register_to_moving_window
from .options import AlignOptions
from .proposals import align_with_network_where_weak, choose_proposal, unrefined_alignment
from .spikes import flag_spikes, without_spikes

__all__ = ["AlignedData", "align_data", "align_image"]

_DEFAULTS = AlignOptions()
_JUDGED = 256  # FIDs that the direction of the frequency axis is judged by


@dataclass
class AlignedData:
    """Aligned transients and how they were aligned.

    Attributes
    ----------
    data : MrsData
        As the input, corrected, without the transients that were ``rejected``, or the mean of all others.
    fids : complex array, shape (n_sets, n_channels, n_transients, n_points)
        All uncorrected FIDs.
    alignment : Alignment
        Of ``fids``.
    set_axes, transient_axes : dict
        Lengths of the dimensions that run over sets and over transients, by name.
    options : AlignOptions
        With the window that was used.
    method : str
        Source of the initial shifts and phases, in words.
    rejected : tuple of int
        Numbers along ``options.dim``, from 0.
    subspectra : SubspectraMatch, optional
        Shift and phase by which conditions of edited data were moved towards each other, and the uncertainty of their
        difference, each ``(n_voxels, n_conditions)``.
    offset : list of Offset, optional
        Offset of each set from its reference lines.
    coherence : list of Coherence
        Of each set, before and after; a set whose coherence fell was not changed.
    left_out : dict
        Regions that a set was aligned without, since they became coherent and metabolites do not own them, by number of
        the set.
    on_water : bool
        Whether the window was put on the water because that is not suppressed.
    backwards : bool
        Whether the frequency axis ran backwards: the conjugate was aligned, and ``data`` are conjugated as they were.
    conditions : Conditions, optional
        Conditions found along the dimension of transients, which were not declared.
    """

    data: MrsData
    fids: np.ndarray
    alignment: Alignment
    set_axes: dict[str, int]
    transient_axes: dict[str, int]
    options: AlignOptions = _DEFAULTS
    method: str = "classical"
    rejected: tuple[int, ...] = ()
    subspectra: SubspectraMatch | None = None
    offset: list[Offset] | None = None
    coherence: list[Coherence] = field(default_factory=list)
    left_out: dict[int, tuple[ForeignRegion, ...]] = field(default_factory=dict)
    on_water: bool = False
    backwards: bool = False
    conditions: Conditions | None = None

    @property
    def unchanged(self) -> np.ndarray:
        """Sets whose transients were not aligned because that would have lost coherence, bool ``(n_sets,)``."""
        return np.array([one.fallen for one in self.coherence] or [False] * len(self.fids))

    @property
    def shown(self) -> int:
        """The set that a report shows: of those with most transients found, the one of highest similarity."""
        usable = np.isin(self.alignment.flag, ("ok", "weak"))
        alike = np.where(usable, self.alignment.similarity, 0).sum(1)
        edit_dim = self.options.edit_dim
        if edit_dim in self.set_axes and self.subspectra is not None:
            # Conditions of a voxel are shown together, beginning with the first.
            names, sizes = list(self.set_axes), tuple(self.set_axes.values())
            grid = alike.reshape(sizes).sum(names.index(edit_dim), keepdims=True)
            return int(np.ravel_multi_index(np.unravel_index(int(grid.argmax()), grid.shape), sizes))
        return int(alike.argmax())

    @property
    def subspectra_sd(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Standard deviations of shift (Hz) and phase (degrees) of the difference between a set and the first condition
        of its voxel, each ``(n_sets,)``; None where nothing was matched."""
        if self.subspectra is None:
            return None
        names, sizes, edit_dim = list(self.set_axes), tuple(self.set_axes.values()), self.options.edit_dim
        assert edit_dim is not None  # sub-spectra lie along it
        members = np.moveaxis(np.arange(len(self.fids)).reshape(sizes), names.index(edit_dim), -1)
        out = np.empty((2, len(self.fids)))
        out[:, members.reshape(-1)] = np.stack(self.subspectra[2:]).reshape(2, -1)
        return out[0], out[1]

    @property
    def all_left_out(self) -> str:
        """All regions that sets were aligned without, in words."""
        return "; ".join(dict.fromkeys(str(region) for regions in self.left_out.values() for region in regions))

    def details(self, command: str, target: str | None) -> str:
        """Describe the step for the header's record of processing; ``target`` names the external reference."""
        options = self.options
        target = target or "weighted mean of the transients"
        words = [
            f"{command}, dim={options.dim}, ppmlim={options.ppmlim}, target={target}",
            f"method={self.method}",
            f"{self.alignment.n_iterations} passes" if options.refine else "not refined",
        ]
        if options.moving_window:
            words.append(f"moving-window reference of {options.moving_window} neighbours")
        if options.edit_order:
            words.append(f"conditions in {options.dim} declared: {options.edit_order}")
        if self.conditions is not None:
            words.append(f"{self.conditions} in {options.dim}, not declared")
        if self.subspectra is not None:
            words.append("sub-spectra matched to each other")
        if self.offset is not None:
            words.append("absolute")
        if self.left_out:
            words.append(f"without {self.all_left_out}")
        if self.unchanged.any():
            words.append(
                f"{int(self.unchanged.sum())} of {len(self.fids)} sets not changed, coherence would have fallen"
            )
        if options.average:
            words.append(f"weighted mean over {options.dim}")
        if self.rejected:
            words.append(f"transients left out: {' '.join(str(one + 1) for one in self.rejected)}")
        return ", ".join(words) + "."


@dataclass(frozen=True)
class _Layout:
    """Which axes of a file's FIDs run over sets, coils and transients.

    Attributes
    ----------
    names : list of str
        Of all axes.
    shape : tuple of int
        Of the FIDs.
    sets, run : list of int
        Axes over sets and over transients.
    coil : int or None
    edit : int or None
        Place in ``sets`` of the dimension of edit conditions, where there is one.
    """

    names: list[str]
    shape: tuple[int, ...]
    sets: list[int]
    run: list[int]
    coil: int | None
    edit: int | None

    @classmethod
    def of(cls, data: MrsData, options: AlignOptions, reference: bool) -> _Layout:
        """Sort the axes of data; DataError or OptionError where the options do not fit them."""
        names = ["x", "y", "z", "points", *data.dim_tags]
        coil = names.index("DIM_COIL") if "DIM_COIL" in names else None
        run = _transient_axes(data, options.dim, coil, reference)
        edit_dim = options.edit_dim
        if edit_dim is not None and edit_dim != "DIM_EDIT" and data.axis(edit_dim) in (*run, coil):
            raise OptionError(
                "is aligned along or holds coils",
                option="edit_dim",
                value=edit_dim,
                remedy="name the dimension of edit conditions, or none",
            )
        sets = [axis for axis in range(data.fids.ndim) if axis not in (3, coil, *run)]
        edit = sets.index(names.index(edit_dim)) if edit_dim in names and names.index(edit_dim) in sets else None
        return cls(names, data.fids.shape, sets, run, coil, edit)

    @property
    def order(self) -> list[int]:
        """The axes as sets, coils, transients, points."""
        return [*self.sets, *([self.coil] if self.coil is not None else []), *self.run, 3]

    @property
    def grid(self) -> list[int]:
        """Lengths of the axes over sets."""
        return [self.shape[axis] for axis in self.sets]

    @property
    def n_transients(self) -> int:
        return int(np.prod([self.shape[axis] for axis in self.run]))

    @property
    def groups(self) -> np.ndarray:
        """Number that sets of one voxel share that differ in their edit condition only, ``(n_sets,)``."""
        groups = np.arange(int(np.prod(self.grid))).reshape(self.grid)
        if self.edit is not None:
            groups = np.repeat(groups.take([0], self.edit), self.grid[self.edit], self.edit)
        return groups.reshape(-1)

    def split(self, fids: np.ndarray) -> np.ndarray:
        """Return FIDs of a file as ``(n_sets, n_channels, n_transients, n_points)``."""
        n_channels = self.shape[self.coil] if self.coil is not None else 1
        return fids.transpose(self.order).reshape(int(np.prod(self.grid)), n_channels, -1, self.shape[3])

    def join(self, fids: np.ndarray) -> np.ndarray:
        """Undo :meth:`split`."""
        return fids.reshape([self.shape[axis] for axis in self.order]).transpose(np.argsort(self.order))

    def lengths(self, axes: list[int]) -> dict[str, int]:
        """Return the lengths of axes by name."""
        return {self.names[axis]: self.shape[axis] for axis in axes}


def align_data(data: MrsData, options: AlignOptions = _DEFAULTS, *, reference: MrsData | None = None) -> AlignedData:
    """Align the transients of a file in frequency and phase.

    Coils that are still separate share one shift and phase per transient.  Every voxel, edit condition or other element
    of the remaining dimensions is a set with a target of its own; dimension 'all' makes one set per voxel of all of
    them.

    Parameters
    ----------
    data : MrsData
    options : AlignOptions
    reference : MrsData, optional
        One FID, or one per coil, to align to.

    Raises
    ------
    DataError
        No such dimension, nothing usable in the file, or a reference that does not fit.
    OptionError
        No such method or model, or options that exclude each other.
    """
    check_fids(data)
    device = choose_device(options.device) if isinstance(options.device, str) else options.device
    if options.edit_order:
        data = declared_conditions(data, options)
    layout = _Layout.of(data, options, reference is not None)
    options.check(reference=reference is not None)
    _check_fits(options, data, layout)
    measured = layout.split(data.fids)
    fids, of_spikes = without_spikes(measured[..., : acquired_points(measured)])
    axes = data.axes.with_points(fids.shape[-1])
    target = None if reference is None else _reference_fids(reference, data, fids.shape[1])[:, : axes.n_points]
    of_water = all(is_water_unsuppressed(x, axes) for x in (fids, target) if x is not None)
    on_water = options.ppmlim is None and of_water
    if options.ppmlim is None and not on_water and _runs_backwards(fids, axes):
        turned = align_data(conjugated(data), options, reference=None if reference is None else conjugated(reference))
        return replace(turned, data=conjugated(turned.data), backwards=True)
    if options.ppmlim is None:
        options = replace(options, ppmlim=WATER_WINDOW if on_water else units.nucleus(data.nucleus).ppmlim)
    compared = {"ppmlim": options.ppmlim, "device": device}
    alignment, method = _registered(fids, axes, options, target, compared)
    if on_water and metabolites_fall(fids, alignment, axes):
        # Residual water that is strong and unstable, not a signal that the metabolites go with.
        on_water, options = False, replace(options, ppmlim=units.nucleus(data.nucleus).ppmlim)
        compared["ppmlim"] = options.ppmlim
        alignment, method = _registered(fids, axes, options, target, compared)
    noise, left_out = measure_noise(fids, axes, options.ppmlim), dict[int, tuple[ForeignRegion, ...]]()
    # Voxels do differ, and beside water that is not suppressed all lines lie on its tails.
    if options.refine and not of_water and not any(axis < 3 for axis in layout.run):
        alignment, left_out = _without_foreign(fids, noise, alignment, axes, layout, options, target, compared)
    if options.moving_window:
        alignment = _moving(fids, alignment, options.moving_window, axes, left_out, compared)
    alignment, coherence = _kept_from_harm(fids, noise, alignment, axes, options.ppmlim)
    alignment = flag_spikes(alignment, of_spikes, noise, fids.shape[-1])
    conditions, subspectra, offset = None, None, None
    if len(layout.run) == 1 and layout.run[0] > 3 and not options.edit_order and not of_water:
        conditions = find_conditions(fids, noise, alignment, axes, options.ppmlim, left_out)
    lost = (alignment.flag == "weak").mean() > 0.5  # noise has nothing that could be matched
    if layout.edit is not None and layout.grid[layout.edit] > 1 and target is None and not lost:
        unchanged = np.array([one.fallen for one in coherence])
        alignment, subspectra = _match_conditions(fids, alignment, axes, layout, options, unchanged, left_out)
    if options.absolute:
        alignment, offset = _reference_frequency(fids, alignment, data.axes, layout, matched=subspectra is not None)
    out = AlignedData(
        data=replace(data, fids=layout.join(alignment.apply(measured)).astype(data.fids.dtype)),
        fids=measured,
        alignment=alignment.with_points(data.n_points),
        set_axes=layout.lengths(layout.sets),
        transient_axes=layout.lengths(layout.run),
        options=options,
        method=method,
        subspectra=subspectra,
        offset=offset,
        coherence=coherence,
        left_out=left_out,
        on_water=on_water,
        conditions=conditions,
    )
    out = _without_outliers(out) if options.reject_outliers else out
    return _averaged(out, layout) if options.average else out


def _runs_backwards(fids, axes) -> bool:
    """Tell whether the frequency axis of FIDs runs backwards, from some hundred of them."""
    rows = fids.reshape(-1, fids.shape[-1])
    rows = rows[usable_fids(rows)]
    return runs_backwards(rows[:: max(1, len(rows) // _JUDGED)], axes)


def _registered(fids, axes, options: AlignOptions, target, compared: dict) -> tuple[Alignment, str]:
    """Return the alignment of the transients of every set to each other or a target, and the method in words."""
    if options.refine and options.method is None and options.model is None:
        return align_with_network_where_weak(fids, axes, reference=target, **compared)
    proposal, method = choose_proposal(options.method, options.model, axes, target)
    if options.refine:
        return align_transients(fids, axes, proposal=proposal, reference=target, **compared), method
    assert not isinstance(proposal, str)  # the classical search is the refinement, as the options were checked for
    keep_mean = target is not None or getattr(proposal, "absolute", False)
    return unrefined_alignment(fids, proposal, axes, keep_mean=keep_mean, **compared), method


def _without_foreign(fids, noise, alignment, axes, layout, options, target, compared) -> tuple[Alignment, dict]:
    """Repeat the alignment without regions that metabolites do not own; return it, and the regions by set."""

    def repeat(index: int, ranges: tuple) -> Alignment:
        return _registered(fids[index : index + 1], axes, options, target, compared | {"exclude": ranges})[0]

    return align_without_foreign_regions(fids, noise, alignment, axes, options.ppmlim, layout.groups, repeat)


def _moving(fids, alignment: Alignment, width: int, axes, left_out: dict, compared: dict) -> Alignment:
    """Register every set to a moving window, without the regions that were left out."""
    out = register_to_moving_window(fids, alignment, width, axes, **compared)
    for index, regions in left_out.items():
        ranges = tuple((region.low, region.high) for region in regions)
        one = alignment.sets([index])
        again = register_to_moving_window(fids[[index]], one, width, axes, exclude=ranges, **compared)
        out = out.with_sets([index], again)
    return out


def _kept_from_harm(fids, noise, alignment: Alignment, axes, ppmlim) -> tuple[Alignment, list[Coherence]]:
    """Return the alignment, with shifts and phases of 0 in sets whose coherence it lessens, and the coherence."""
    coherence = measure_coherence(fids, noise, alignment, axes, regions_of(fids, axes, ppmlim))
    fallen = np.array([one.fallen for one in coherence])
    if fallen.any():
        zero = torch.zeros(int(fallen.sum()), fids.shape[2])
        plain = unrefined_alignment(fids[fallen], lambda _: (zero, zero), axes, ppmlim=ppmlim, keep_mean=True)
        alignment = alignment.with_sets(fallen, plain)
    return alignment, coherence


def _averaged(aligned: AlignedData, layout: _Layout) -> AlignedData:
    """Return the weighted mean of the transients in place of them."""
    weights = averaging_weights(aligned.alignment)
    kept = np.setdiff1d(np.arange(weights.shape[1]), aligned.rejected)
    shape = [1] * len(layout.shape)
    for axis in layout.sets:
        shape[axis] = layout.shape[axis]
    shape[layout.run[0]] = len(kept)
    # Sets and transients in the order of the file's axes.
    order = np.argsort([*layout.sets, *layout.run])
    weights = weights[:, kept] / np.maximum(weights[:, kept].sum(1, keepdims=True), np.finfo(float).tiny)
    weights = weights.reshape(*layout.grid, len(kept)).transpose(order).reshape(shape)
    return replace(aligned, data=weighted_mean(aligned.data, aligned.options.dim, weights))


def _without_outliers(aligned: AlignedData) -> AlignedData:
    """Leave transients out that are outliers or failed in any set."""
    outlier = np.isin(aligned.alignment.flag, ("outlier", "failed")).any(0)
    if outlier.all():
        raise DataError(
            f"{aligned.data.name}: every transient is an outlier in one of its sub-spectra",
            remedy="leave `reject_outliers` out",
        )
    rejected = tuple(int(one) for one in np.flatnonzero(outlier))
    return replace(aligned, rejected=rejected, data=without(aligned.data, aligned.options.dim, rejected))


def _transient_axes(data: MrsData, dim: str, coil: int | None, reference: bool) -> list[int]:
    """Return the axes of ``data.fids`` that run over transients."""
    voxels = [axis for axis in range(3) if data.fids.shape[axis] > 1]
    if dim.lower() in ("all", "voxels"):
        run = [axis for axis in range(4, data.fids.ndim) if axis != coil and data.fids.shape[axis] > 1]
        if dim.lower() == "voxels" or not run:
            run = voxels
        if not run:
            raise DataError(f"{data.name}: holds one spectrum, which has nothing to be aligned to; nothing was done.")
    elif dim not in data.dim_tags:
        sizes = dict(zip(data.dim_tags, data.fids.shape[4:]))
        others = [tag for tag, size in sizes.items() if tag not in ("", "DIM_COIL") and size > 1]
        if others:
            remedy = f"choose {' or '.join(others)} with `dim`"
        elif voxels:
            remedy = "to align its voxels to each other give `dim` voxels"
        else:
            remedy = f"one spectrum{'' if coil is None else ' per coil'} has nothing to be aligned to"
        raise DataError(
            f"{data.name}: has no transients (no dimension {dim}{'' if others else ' nor any other'})", remedy=remedy
        )
    elif data.axis(dim) == coil:
        raise DataError(f"{data.name}: coils are not transients", remedy="choose another `dim`, for example DIM_DYN")
    else:
        run = [data.axis(dim)]
    if np.prod([data.fids.shape[axis] for axis in run]) < 2 and not reference:
        raise DataError(
            f"{data.name}: has one transient along {dim}, which has nothing to be aligned to",
            remedy="give `reference`",
        )
    return run


def _check_fits(options: AlignOptions, data: MrsData, layout: _Layout) -> None:
    """Raise OptionError for options that the data cannot serve."""
    data.axes.check_window(options.ppmlim)
    if options.absolute:
        check_nucleus(data.nucleus)
    width = options.moving_window
    if width and 2 * width > layout.n_transients:
        raise OptionError(
            f"neighbours of one transient must be fewer than half of all {layout.n_transients}",
            option="moving_window",
            value=width,
            remedy="give less, or leave it out",
        )
    if width and any(axis < 4 for axis in layout.run):
        raise OptionError("voxels do not follow each other in time", option="moving_window", remedy="leave it out")
    for option in ("average", "reject_outliers"):
        if getattr(options, option) and (len(layout.run) > 1 or layout.run[0] < 4):
            raise OptionError(
                "works along one dimension of transients",
                option=option,
                remedy="leave it out, or choose another `dim`",
            )
    if options.reject_outliers and np.prod(data.fids.shape[:3]) > 1:
        raise OptionError(
            "every voxel has outliers of its own, but a file has as many transients for all",
            option="reject_outliers",
            remedy="leave it out and use the weights in dl_align.csv",
        )


def _means(fids: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Return weighted means of the aligned transients, ``(n_sets, n_channels, n_points)``; zero for sets without
    any."""
    weight = np.where(np.isin(alignment.flag, ("ok", "weak")), alignment.weight, 0)
    weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)
    return np.einsum("sctn,st->scn", alignment.apply(np.where(np.isfinite(fids), fids, 0)), weight)


def _moved(alignment: Alignment, shift_hz: np.ndarray, phase_deg: np.ndarray, **more) -> Alignment:
    """Return the alignment with every set moved as a whole, by ``(n_sets,)`` more; failed transients stay untouched."""
    alive = alignment.flag != "failed"
    phase = units.wrap_degrees(alignment.phase_deg + phase_deg[:, None])
    return replace(
        alignment,
        shift_hz=np.where(alive, alignment.shift_hz + shift_hz[:, None], 0),
        phase_deg=np.where(alive, phase, 0),
        reference=apply_shift_phase(alignment.reference, shift_hz[:, None], phase_deg[:, None], alignment.dwelltime),
        **more,
    )


def _match_conditions(fids, alignment: Alignment, axes, layout: _Layout, options: AlignOptions, unchanged, left_out):
    """Move the edit conditions of every voxel towards each other, unless one is ``unchanged``; return by how much."""
    edit = layout.edit
    assert edit is not None  # there are conditions
    means = np.moveaxis(_means(fids, alignment).reshape(*layout.grid, *fids.shape[1::2]), edit, -3)
    members = np.moveaxis(np.arange(len(fids)).reshape(layout.grid), edit, -1).reshape(-1, means.shape[-3])
    foreign = [{(one.low, one.high) for k in group for one in left_out.get(int(k), ())} for group in members]
    matched = partial(match_subspectra, ppmlim=options.ppmlim, same_size=options.edit_dim == "DIM_EDIT")
    voxels = zip(means.reshape(-1, *means.shape[-3:]), foreign)
    pairs = np.array([matched(one, axes, exclude=tuple(sorted(out))) for one, out in voxels])
    stays = np.moveaxis(unchanged.reshape(layout.grid), edit, -1).reshape(len(pairs), -1).any(1)
    pairs[stays, :2], pairs[stays, 2:, 1:] = 0, np.nan
    match = SubspectraMatch(*pairs.swapaxes(0, 1))
    by_set = [np.moveaxis(x.reshape(means.shape[:-2]), -1, edit).reshape(-1) for x in match[:2]]
    return _moved(alignment, *by_set), match


def _reference_frequency(fids, alignment: Alignment, axes, layout: _Layout, *, matched: bool):
    """Move every set so that its reference lines are in place; return the alignment, and the offset of each set.

    Edit conditions that were ``matched`` to each other are moved by the same amount.
    """
    means = _means(fids, alignment)
    groups = layout.groups if matched else np.arange(len(means))
    shift, phase, shift_sd, phase_sd = np.zeros((4, len(groups)))
    offsets: list = [None] * len(groups)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        mean = means[members].sum(0)
        coils = combination(torch.as_tensor(mean[:, None])).resolve_conj().numpy()
        # With their zeros, short FIDs have enough points in the spectrum.
        offset = reference_offset(np.pad(coils @ mean, (0, axes.n_points - mean.shape[-1])), axes)
        for one in members:
            offsets[one] = offset
        if offset.has_lines:
            shift[members], shift_sd[members] = offset.shift_hz, offset.shift_sd_hz
            # Coils that are not combined yet have a phase each: no one phase makes all of them upright.
            single = fids.shape[1] == 1
            phase[members], phase_sd[members] = (offset.phase_deg, offset.phase_sd_deg) if single else (0, 0)
    more = {
        "shift_sd_hz": np.hypot(alignment.shift_sd_hz, shift_sd[:, None]),
        "phase_sd_deg": np.hypot(alignment.phase_sd_deg, phase_sd[:, None]),
    }
    return _moved(alignment, shift, phase, **more), offsets


def align_image(
    image,
    options: AlignOptions = _DEFAULTS,
    *,
    reference=None,
    command: str = "align",
    file: str | None = None,
):
    """Align the transients of a ``NIFTI_MRS`` object of the nifti-mrs package or of FSL-MRS.

    Parameters
    ----------
    image, reference : NIFTI_MRS
        As ``data`` and ``reference`` of :func:`align_data`.
    options : AlignOptions
    command : str
        Name of the step in the header's record of processing.
    file : str, optional
        The file's name for messages, where the object has none.

    Returns
    -------
    (NIFTI_MRS, AlignedData)
        A corrected copy of the same class with the step recorded in its header, and how it was aligned.

    Raises
    ------
    DataError, OptionError
    """

    def name(one):
        return str(getattr(one, "filename", "") or "") or None

    target = None if reference is None else from_image(reference, name=name(reference) or "the reference")
    aligned = align_data(from_image(image, name=file or name(image)), options, reference=target)
    reshaped = bool(options.edit_order or options.average)
    out = type(image)(image_of(aligned.data)) if reshaped else image.copy()
    if aligned.rejected and not reshaped:
        from nifti_mrs.tools import split

        out, _ = split(out, options.dim, list(aligned.rejected))
    # The object conjugates on the way in as on the way out.  A header of ours has the usual carrier.
    out[:] = (aligned.data.fids if reshaped else as_stored(aligned.data)).reshape(out.image.shape)
    target_name = None if reference is None else name(reference) or "a reference"
    record = processing_record("Frequency and phase correction", aligned.details(command, target_name))
    steps = out.hdr_ext["ProcessingApplied"] if "ProcessingApplied" in out.hdr_ext else []
    out.add_hdr_field("ProcessingApplied", [*steps, record])
    return out, aligned


def _reference_fids(reference: MrsData, data: MrsData, n_channels: int) -> np.ndarray:
    """Return the reference as ``(n_channels, n_points)``."""
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
            f"{reference.name}: holds {len(fids)} FIDs, {n_channels} are needed to align {data.name} to (one per coil)",
            remedy="average it first",
        )
    return fids
