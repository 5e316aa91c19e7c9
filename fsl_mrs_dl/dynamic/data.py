"""Dynamic fit of the series of spectra in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..core.errors import DataError, OptionError
from ..fitting.data import check_suppressed, water_fids
from ..fitting.fitted_data import average
from ..fitting.header_facts import time_notes, with_header
from ..fitting.in_vivo.water_reference import water_reference
from ..fitting.options import FitOptions
from ..io.basis import Basis, detect_conjugation
from ..io.nifti import MrsData, check_fids, from_echo
from .configuration import Configuration
from .elements import agreement, header_variable, is_diffusion, labels_of, series_elements
from .in_vivo_series import fit_series_in_vivo
from .mapping import Mapping
from .series import DynamicFit, fit_series, read_time_variables

__all__ = [
    "DynamicData",
    "TimeVariable",
    "eddy_current_note",
    "fit_dynamic_data",
    "header_notes",
    "series_data",
    "time_variable_of",
]

_EDDY_CURRENTS = (
    "Diffusion gradients make eddy currents that grow with b, broaden lines and lower amplitudes at high b; they are"
    " not corrected"
)


@dataclass(frozen=True)
class DynamicData:
    """A dynamic fit with its data.

    Attributes
    ----------
    fit : DynamicFit
    data : MrsData
        As fitted: averaged, corrected for eddy currents, and not conjugated.
    time_variable : ndarray ``(n_times,)`` or ``(n_times, k)``
    conjugated : bool
        The FIDs were conjugated for the fit.
    water_note : str
        Use of a water reference in words; empty without one.
    time_name : str
        What the time variable is, with its unit where that is known.
    notes : tuple of str
        Remarks on the time variable, on echo and repetition time, and on eddy currents of diffusion data without a
        water reference.
    eddy_currents_corrected : bool
        The data were corrected with the phase of the water.
    """

    fit: DynamicFit
    data: MrsData
    time_variable: np.ndarray
    conjugated: bool
    water_note: str = ""
    time_name: str = "time variable"
    notes: tuple[str, ...] = ()
    eddy_currents_corrected: bool = False

    @property
    def labels(self) -> list[str]:
        """The diffusion direction, or what else differs between spectra of the same time variable, ``(n_times,)``."""
        return labels_of(self.data, self.time_variable)

    @property
    def titles(self) -> list[str]:
        """Time variable, or number, and label of every spectrum."""
        times = self.time_variable
        at = [f"at {value:g}" if times.ndim == 1 else f"number {k}" for k, value in enumerate(times)]
        return [f"{one}, {label}" if label else one for one, label in zip(at, self.labels)]


@dataclass(frozen=True)
class TimeVariable:
    """A time variable: values ``(n_times,)`` or ``(n_times, k)``, what they are, and remarks on them."""

    values: np.ndarray
    name: str
    notes: tuple[str, ...] = ()


def time_variable_of(data: MrsData, paths: Sequence[str | Path], n_times: int) -> TimeVariable:
    """Return the time variable of files, or of the header where there are none.

    Raises
    ------
    OptionError
        As :func:`fsl_mrs_dl.dynamic.series.read_time_variables` and
        :func:`fsl_mrs_dl.dynamic.elements.header_variable`.
    """
    if not paths:
        found = header_variable(data)
        unit = found.words.partition(": in ")[2]
        return TimeVariable(
            found.values, f"{found.key} ({unit})" if unit else found.key, (f"Time variable: {found.words}",)
        )
    values = read_time_variables(paths, n_times)
    note = agreement(data, values)
    notes = (f"{data.name}: {note}",) if note else ()
    return TimeVariable(values, ", ".join(Path(path).name for path in paths), notes)


def header_notes(options: FitOptions, data: MrsData, basis: Basis) -> tuple[str, ...]:
    """Return remarks on echo and repetition time as they were given beside those of the header."""
    return tuple(line.rstrip(".") for line in time_notes(options, data, basis))


def eddy_current_note(data: MrsData, options: FitOptions, remedy: str) -> tuple[str, ...]:
    """Return a remark on eddy currents of diffusion data that nothing corrected, with what to do, or nothing; the
    options are those of :func:`fsl_mrs_dl.fitting.header_facts.with_header`."""
    return (
        (f"{_EDDY_CURRENTS}; {remedy}",)
        if is_diffusion(series_elements(data)) and not options.eddy_currents_corrected
        else ()
    )


def fit_dynamic_data(
    data: MrsData,
    basis: Basis,
    configuration: Configuration,
    time_variables: Sequence[str | Path] = (),
    options: FitOptions = FitOptions(prior="none"),
    *,
    average_over: Sequence[str] = (),
    conjugate: bool | None = None,
    water: MrsData | None = None,
    correct: bool | None = None,
    when_mapped: Callable[[Mapping], None] | None = None,
) -> DynamicData:
    """Fit the series of a file of one voxel jointly.

    Parameters
    ----------
    data : MrsData
        With one dimension of more than one element, after averages.
    basis : Basis
        The metabolites to fit, see :func:`fsl_mrs_dl.fitting.data.choose_basis`.
    configuration : Configuration
    time_variables : sequence of path
        See :func:`fsl_mrs_dl.dynamic.series.read_time_variables`; by default that of the header.
    options : FitOptions
        With the spectral model, FSL-MRS's by default.
    average_over : sequence of str
        Dimensions that are averaged first, such as DIM_DYN.
    conjugate : bool, optional
        Conjugate the FIDs; by default where their frequency axis runs backwards.
    water : MrsData, optional
        Unsuppressed water of every spectrum of the series, or one of all.  Diffusion gradients make eddy currents,
        which grow with them and broaden lines; the phase of the water takes them out.
    correct : bool, optional
        Correct eddy currents with the water; by default where the evidence rises.
    when_mapped : callable, optional
        Called with the mapping before anything is fitted, to refuse what does not go with it.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    data, series = series_data(data, average_over)
    if series[..., 0, 0].size > 1:
        raise DataError(
            f"{data.name}: has {series[..., 0, 0].size} voxels; see fsl_mrs_dl.dynamic.volume.fit_dynamic_volume"
        )
    rows = series.reshape(-1, data.n_points)
    check_suppressed(rows, data.axes, data.name)
    if conjugate is None:
        conjugate = detect_conjugation(rows.mean(0), data.axes)
    variable = time_variable_of(data, time_variables, len(rows))
    times, notes = variable.values, variable.notes + header_notes(options, data, basis)
    options = with_header(options, data, basis.echo_time_s)
    fit_of = partial(fit_series_in_vivo if options.spectral_model == "in-vivo" else fit_series, when_mapped=when_mapped)
    rows = rows.conj() if conjugate else rows
    fit = fit_of(rows, basis, data.axes, configuration, times, options)
    results = DynamicData(fit, data, times, bool(conjugate), time_name=variable.name, notes=notes)
    if water is None:
        return replace(
            results, notes=notes + eddy_current_note(data, options, "give the water with the same gradients (`h2o`)")
        )
    if options.eddy_currents_corrected:
        return replace(results, water_note="the data were corrected for eddy currents before")
    for tag in average_over:
        water = average(water, tag) if tag in water.dim_tags else water
    reference = water_reference(water_fids(water, data, bool(conjugate)), data.axes)
    corrected = reference.corrected(rows)
    with_water = fit_of(corrected, basis, data.axes, configuration, times, options)
    gain = with_water.information_criteria()["log evidence"] - fit.information_criteria()["log evidence"]
    change = f"the evidence {'rises' if gain > 0 else 'falls'} by {abs(gain):.1f}"
    if not (gain > 0 if correct is None else correct):
        note = f"eddy currents are not corrected: {change} with the phase of the water"
        return replace(results, water_note=note)
    shape = data.fids.shape
    fids = np.moveaxis((corrected.conj() if conjugate else corrected).reshape(*shape[:3], *shape[4:], shape[3]), -1, 3)
    note = f"eddy currents are corrected with the phase of the water; {change}"
    data = replace(data, fids=fids.astype(data.fids.dtype))
    return replace(results, fit=with_water, data=data, water_note=note, eddy_currents_corrected=True)


def series_data(data: MrsData, average_over: Sequence[str] = ()) -> tuple[MrsData, np.ndarray]:
    """Return data from the echo on and averaged, and the FIDs of their series, ``(x, y, z, n_times, n_points)``.

    Raises
    ------
    DataError
        If there is no series.
    OptionError
        If there is more than one dimension.
    """
    data = from_echo(data)
    check_fids(data)
    for tag in average_over:
        data = average(data, tag)
    long = {tag: size for tag, size in zip(data.dim_tags, data.fids.shape[4:]) if size > 1}
    if not long:
        raise DataError(f"{data.name}: holds one spectrum, no series", remedy="fit it with 'fsl_mrs_dl fit'")
    if len(long) > 1:
        words = ", ".join(f"{tag} ({size})" for tag, size in long.items())
        example = "DIM_DYN" if "DIM_DYN" in long else next(iter(long))
        raise OptionError(
            f"{data.name} has the dimensions {words}; one is fitted",
            option="average",
            remedy=f"give those to average over, after they are aligned: `average` {example}",
        )
    return data, np.moveaxis(data.fids, 3, -1).reshape(*data.fids.shape[:3], -1, data.n_points)
