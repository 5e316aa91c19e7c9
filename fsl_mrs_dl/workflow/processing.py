"""Processing of a session's raw data, up to the spectra that are fitted: coils, alignment, averages, residual water,
frequency and phase.

Every step is done only where the data need it, and returns a :class:`.steps.Step` that says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core import units
from ..core.errors import DataError
from ..core.transients import apply_shift_phase
from ..io.nifti import MrsData, check_fids, from_echo, with_record
from ..preproc.align import AlignedData, align_data
from ..preproc.averaging import weighted_mean
from ..preproc.coil_combination import COIL_DIM, CoilCombination, coil_combination, combine_coils, n_coils
from ..preproc.frequency_referencing import REFERENCE_LINES, reference_offset
from ..preproc.options import AlignOptions
from ..preproc.water_removal import remove_residual_water
from .steps import Step

__all__ = ["ProcessingOptions", "Processed", "process"]

_TRANSIENTS = "DIM_DYN"
_COMMAND = "fsl_mrs_dl run"


@dataclass(frozen=True)
class ProcessingOptions:
    """Steps of the processing, each of which may be left out.

    Attributes
    ----------
    align, remove_water, reference : bool
        Whether transients are aligned, residual water is removed, and frequency and phase are referenced, where the
        data need it.
    edit_order : str, optional
        Order of edit conditions that lie in the dimension of transients, see
        :class:`fsl_mrs_dl.preproc.options.AlignOptions`.
    ppmlim : (float, float), optional
        Window that is fitted.
    device : str
    """

    align: bool = True
    remove_water: bool = True
    reference: bool = True
    edit_order: str | None = None
    ppmlim: tuple[float, float] | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Processed:
    """A session's spectra, ready to be fitted.

    Attributes
    ----------
    data : MrsData
    water : MrsData or None
        Its water reference, combined and averaged with the same weights of coils.
    steps : list of Step
    aligned : AlignedData or None
        The alignment of its transients, where there was one.
    quant : MrsData or None
        Other water for absolute concentrations, likewise.
    """

    data: MrsData
    water: MrsData | None
    steps: list[Step]
    aligned: AlignedData | None = None
    quant: MrsData | None = None

    @property
    def transients(self) -> int:
        """Number of transients that were averaged, those that were left out included."""
        return 1 if self.aligned is None else int(self.aligned.alignment.flag.shape[-1])

    @property
    def rejected(self) -> int:
        """Number of transients that got no weight."""
        if self.aligned is None:
            return 0
        return int(np.isin(self.aligned.alignment.flag, ("outlier", "failed")).any(0).sum())


def process(
    data: MrsData,
    water: MrsData | None = None,
    options: ProcessingOptions = ProcessingOptions(),
    *,
    quant: MrsData | None = None,
) -> Processed:
    """Process raw data.

    Parameters
    ----------
    data : MrsData
        Of one or more voxels, with or without coils (``DIM_COIL``) and transients (``DIM_DYN``).
    water : MrsData, optional
        Unsuppressed water.
    options : ProcessingOptions
    quant : MrsData, optional
        Other unsuppressed water, for absolute concentrations only.

    Raises
    ------
    DataError, OptionError
    """
    data = from_echo(data)
    check_fids(data)
    water, quant = (None if one is None else from_echo(one) for one in (water, quant))
    for one in (water, quant):
        if one is not None:
            check_fids(one)
    combination, steps = None, []
    if n_coils(data) > 1 and water is not None and n_coils(water) == n_coils(data):
        combination = coil_combination(data, water, from_water=True)
        data, step = _combined(data, combination)
        steps.append(step)
    data, aligned, step = _averaged(data, options)
    steps.append(step)
    if combination is None:
        data, combination, step = _combined_by_themselves(data, aligned, options)
        # Coils come first in the list, as in the data's history.
        steps.insert(0, step)
    if water is not None:
        water, step = _processed_water("water reference", water, combination, options)
        steps.append(step)
    if quant is not None:
        quant, step = _processed_water("water for quantification", quant, combination, options)
        steps.append(step)
    data, step = _without_water(data, options)
    steps.append(step)
    data, step = _referenced(data, options)
    steps.append(step)
    return Processed(data, water, steps, aligned, quant)


def _combined(data: MrsData, combination: CoilCombination) -> tuple[MrsData, Step]:
    """Combine the coils of data."""
    source = "the water reference" if combination.from_water else "the aligned data"
    noise = "noise whitened" if combination.whitened else "noise variances only, too few samples for correlations"
    step = Step(
        "coil combination",
        True,
        f"{combination.n_coils} coils, sensitivities from {source}, {noise}",
        {"snr_over_best_coil": combination.snr_gain},
    )
    return with_record(combine_coils(data, combination), "RF coil combination", f"{_COMMAND}, {step.reason}."), step


def _combined_by_themselves(
    data: MrsData, aligned: AlignedData | None, options: ProcessingOptions
) -> tuple[MrsData, CoilCombination | None, Step]:
    """Combine coils by the sensitivities of the aligned data."""
    if COIL_DIM not in data.dim_tags:
        return data, None, Step("coil combination", False, "coils are combined already")
    # All transients tell the noise, their aligned mean the sensitivities.
    noisy = (
        data if aligned is None else replace(data, fids=_transients_last(aligned), dim_tags=(COIL_DIM, "DIM_USER_0"))
    )
    combination = coil_combination(noisy, _mean_of_others(data))
    combined, step = _combined(data, combination)
    return combined, combination, step


def _transients_last(aligned: AlignedData) -> np.ndarray:
    """Return the FIDs of an alignment as ``(x, y, z, n_points, n_coils, n)``."""
    fids, grid = aligned.fids, aligned.data.fids.shape[:3]
    n_voxels = int(np.prod(grid))
    fids = fids.reshape(n_voxels, -1, *fids.shape[1:])  # voxels, other sets, coils, transients, points
    fids = np.moveaxis(fids, 2, 1).reshape(n_voxels, aligned.fids.shape[1], -1, fids.shape[-1])
    return np.moveaxis(fids, -1, 1).reshape(*grid, fids.shape[-1], aligned.fids.shape[1], -1)


def _mean_of_others(data: MrsData) -> MrsData:
    """Return data averaged over all higher dimensions but the coils."""
    axes = tuple(k for k in range(4, data.fids.ndim) if k != data.axis(COIL_DIM))
    return replace(data, fids=data.fids.mean(axes), dim_tags=(COIL_DIM,)) if axes else data


def _averaged(data: MrsData, options: ProcessingOptions) -> tuple[MrsData, AlignedData | None, Step]:
    """Align transients and average them, weighted and without outliers."""
    name = "alignment and averaging"
    if _TRANSIENTS not in data.dim_tags:
        return data, None, Step(name, False, "one transient, or averaged already")
    n = data.fids.shape[data.axis(_TRANSIENTS)]
    if n == 1 or not options.align:
        mean = with_record(_plain_mean(data), "Signal averaging", f"{_COMMAND}, mean over {_TRANSIENTS}.")
        reason = "one transient" if n == 1 else f"alignment switched off, mean of {n} transients"
        return mean, None, Step(name, n > 1, reason)
    align_options = AlignOptions(dim=_TRANSIENTS, average=True, edit_order=options.edit_order, device=options.device)
    aligned = align_data(data, align_options)
    _check_conditions(aligned)
    mean = with_record(aligned.data, "Frequency and phase correction", aligned.details(_COMMAND, None))
    return mean, aligned, _alignment_step(name, aligned)


def _plain_mean(data: MrsData) -> MrsData:
    """Return the mean of the usable transients, without their dimension."""
    axis = data.axis(_TRANSIENTS)
    usable = np.expand_dims(check_fids(data), 3)
    return weighted_mean(data, _TRANSIENTS, usable / np.maximum(usable.sum(axis, keepdims=True), 1))


def _check_conditions(aligned: AlignedData) -> None:
    """Raise DataError if transients of different edit conditions were averaged together."""
    if aligned.conditions is not None:
        raise DataError(
            f"{aligned.data.name}: {_TRANSIENTS} seems to hold {aligned.conditions}, which must not be averaged"
            " together",
            remedy=f"give `edit_order` {aligned.conditions.order}",
        )


def _alignment_step(name: str, aligned: AlignedData) -> Step:
    """Return what an alignment changed."""
    alignment = aligned.alignment
    usual = np.isin(alignment.flag, ("ok", "weak"))
    n, out = alignment.flag.shape[-1], int(np.isin(alignment.flag, ("outlier", "failed")).any(0).sum())
    figures = {"transients": float(n)}
    if usual.any():
        figures["shift_sd_hz"] = float(alignment.shift_hz[usual].std())
        figures["phase_sd_deg"] = float(alignment.phase_deg[usual].std())
    known = [one for one in aligned.coherence if one.before == one.before]
    if known:
        figures |= {
            "coherence_before": float(np.mean([one.before for one in known])),
            "coherence_after": float(np.mean([one.after for one in known])),
        }
    reason = f"{n} transients, {out} of them left out" + (" (outliers or failed)" if out else "")
    if aligned.unchanged.all():
        reason += "; averaged as they were, since aligned less of the signal would have survived"
    return Step(name, True, reason, figures)


def _processed_water(
    name: str, water: MrsData, combination: CoilCombination | None, options: ProcessingOptions
) -> tuple[MrsData, Step]:
    """Combine and average a water reference as the data were."""
    done = []
    if COIL_DIM in water.dim_tags:
        same = combination is not None and combination.n_coils == n_coils(water)
        if n_coils(water) > 1 and not same:
            raise DataError(
                f"{water.name}: has {n_coils(water)} coils and the data"
                f" {combination.n_coils if combination else 'combined ones'}; their sizes cannot be compared",
                remedy="give data and water that were both combined, or both not",
            )
        weights = combination or CoilCombination(np.ones((*water.fids.shape[:3], 1)), True, False, 1.0)
        water = combine_coils(water, weights)
        done.append("coils combined with the weights of the data")
    elif combination is not None:
        raise DataError(
            f"{water.name}: has combined coils and the data {combination.n_coils}; their sizes cannot be compared",
            remedy="give water whose coils were not combined",
        )
    if _TRANSIENTS in water.dim_tags and water.fids.shape[water.axis(_TRANSIENTS)] > 1:
        aligned = align_data(water, AlignOptions(dim=_TRANSIENTS, average=True, edit_dim=None, device=options.device))
        water = with_record(aligned.data, "Frequency and phase correction", aligned.details(_COMMAND, None))
        done.append(f"{aligned.alignment.flag.shape[-1]} transients aligned and averaged")
    return water, Step(name, bool(done), "; ".join(done) or "combined and averaged already")


def _without_water(data: MrsData, options: ProcessingOptions) -> tuple[MrsData, Step]:
    """Remove residual water where it reaches into the window."""
    name = "residual water"
    if data.nucleus != "1H":
        return data, Step(name, False, f"{data.nucleus} has none")
    if not options.remove_water:
        return data, Step(name, False, "switched off")
    if np.prod(data.fids.shape[:3]) > 1:
        return data, Step(name, False, "volumes keep it, it is part of the model")
    ppmlim = options.ppmlim or units.nucleus("1H").ppmlim
    assert ppmlim is not None  # 1H has a window
    removal = remove_residual_water(data, ppmlim)
    tail = float(np.nanmax(removal.tail))
    figures = {"tail_over_noise": tail}
    if not removal.removed.any():
        why = (
            "its tail in the window is below the noise" if tail <= 0.5 else "removal would have added signal beside it"
        )
        return data, Step(name, False, why, figures)
    reason = "its tail reaches into the window; removed by HLSVD"
    return with_record(removal.data, "Nuisance peak removal", f"{_COMMAND}, HLSVD of residual water."), Step(
        name, True, reason, figures
    )


def _referenced(data: MrsData, options: ProcessingOptions) -> tuple[MrsData, Step]:
    """Move the spectra so that the reference lines stand at their places, upright."""
    name = "frequency and phase"
    if not options.reference or data.nucleus not in REFERENCE_LINES:
        return data, Step(
            name, False, "switched off" if not options.reference else f"no reference lines for {data.nucleus}"
        )
    if np.prod(data.fids.shape[:3]) > 1:
        return data, Step(name, False, "every voxel has its own, which the fit finds")
    fids = np.moveaxis(data.fids, 3, -1)
    mean = np.nanmean(fids.reshape(-1, fids.shape[-1]), axis=0)
    offset = reference_offset(mean, data.axes)
    if not offset.has_lines:
        return data, Step(name, False, "the reference lines do not stand out; the fit finds shift and phase")
    figures = {"shift_hz": offset.shift_hz, "phase_deg": offset.phase_deg}
    lines = REFERENCE_LINES[data.nucleus]["names"]
    moved = np.moveaxis(apply_shift_phase(fids, offset.shift_hz, offset.phase_deg, data.dwelltime), -1, 3)
    details = f"{_COMMAND}, {offset.shift_hz:.2f} Hz, {offset.phase_deg:.1f} deg by {lines}."
    data = with_record(replace(data, fids=moved.astype(data.fids.dtype)), "Frequency and phase correction", details)
    return data, Step(name, True, f"referenced to {lines}", figures)
