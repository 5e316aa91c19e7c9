"""Dynamic fits of the voxels of a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..core.errors import DataError, FslMrsDlError, OptionError
from ..core.fids import UNUSABLE, usable_fids
from ..core.parallel import one_thread, parallel_map
from ..fitting.header_facts import with_header
from ..fitting.options import FitOptions
from ..fitting.quantify import model_for
from ..io.basis import Basis, detect_conjugation
from ..io.nifti import MrsData
from .configuration import Configuration
from .data import eddy_current_note, header_notes, series_data, time_variable_of
from .mapping import Mapping
from .series import (
    DynamicFit,
    InitialFits,
    SeriesProblem,
    fit_problem,
    initial_fits,
    mapping_of,
)

__all__ = ["DynamicVolume", "fit_dynamic_volume"]

_AT_ONCE = 512  # spectra
_REMEDY = "correct them first, by water with the same gradients"
_MOST_SPECTRA = 200_000
_UNUSABLE = f"an FID {UNUSABLE}"


@dataclass(frozen=True)
class DynamicVolume:
    """A volume whose voxels were fitted.

    Attributes
    ----------
    data : MrsData
        Averaged, and not conjugated.
    time_variable : ndarray ``(n_times,)`` or ``(n_times, k)``
    conjugated : bool
        The FIDs were conjugated for the fit.
    fid_scale : float
        The data were multiplied by this, the same in all voxels.
    notes : tuple of str
        Remarks on the time variable, on echo and repetition time, and on eddy currents of diffusion data.
    left_out : dict
        Reason by place ``(x, y, z)`` of the voxels of the mask that have no fit.
    """

    data: MrsData
    time_variable: np.ndarray
    conjugated: bool
    fid_scale: float
    notes: tuple[str, ...]
    left_out: dict[tuple[int, int, int], str]


@one_thread()
def fit_dynamic_volume(
    data: MrsData,
    basis: Basis,
    configuration: Configuration,
    time_variables: Sequence[str | Path] = (),
    options: FitOptions = FitOptions(prior="none"),
    *,
    keep: Callable[[tuple[int, int, int], DynamicFit], None],
    mask: np.ndarray | None = None,
    average_over: Sequence[str] = (),
    conjugate: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> DynamicVolume:
    """Fit the series of each voxel of a volume by itself.

    Fits of single spectra are made together for many voxels, joint fits side by side in threads.  Results do not depend
    on the other voxels but for the scale, which is FSL-MRS's for volumes: concentrations can be compared.

    Parameters
    ----------
    data : MrsData
        With one dimension of more than one element, after averages.
    basis : Basis
        The metabolites to fit.
    configuration : Configuration
    time_variables : sequence of path
        See :func:`fsl_mrs_dl.dynamic.series.read_time_variables`; by default that of the header.
    options : FitOptions
    keep : callable
        Called with the place ``(x, y, z)`` and the fit of each voxel.
    mask : bool ndarray ``(x, y, z)``, optional
        Voxels to fit, by default all.
    average_over : sequence of str
        Dimensions that are averaged first, such as DIM_DYN.
    conjugate : bool, optional
        Conjugate the FIDs; by default where their frequency axis runs backwards.
    progress : callable, optional
        Called with the number of voxels of the mask that are done since the last call.

    Raises
    ------
    DataError
        If no voxel can be fitted, or there are too many.
    BasisError, OptionError
    """
    data, fids = series_data(data, average_over)
    variable, of_header = time_variable_of(data, time_variables, fids.shape[3]), header_notes(options, data, basis)
    grid, n_times, options = fids.shape[:3], fids.shape[3], with_header(options, data, basis.echo_time_s)
    notes = variable.notes + of_header + eddy_current_note(data, options, _REMEDY)
    inside = np.ones(grid, bool) if mask is None else np.asarray(mask, bool)
    usable = usable_fids(fids).all(-1)
    places = np.argwhere(inside & usable)
    left_out = dict.fromkeys(map(_place, np.argwhere(inside & ~usable)), _UNUSABLE)
    _check(data.name, len(places), n_times, options)
    sizes = np.linalg.norm(fids[tuple(places.T)], axis=(1, 2))
    if conjugate is None:
        conjugate = detect_conjugation(fids[tuple(places[sizes.argmax()])].mean(0), data.axes)
    scale = float(np.mean(100 / sizes)) if options.rescale else 1.0
    model, _ = model_for(basis, data.axes, options)

    def problem_of(place: np.ndarray) -> SeriesProblem:
        rows = fids[tuple(place)].astype(np.complex128) * scale
        return SeriesProblem(rows.conj() if conjugate else rows, model, list(basis.names), options)

    mapping = mapping_of(configuration, problem_of(places[0]), variable.values)
    size = max(1, _AT_ONCE // n_times)
    if progress is not None:
        progress(len(left_out))
    for at in range(0, len(places), size):
        part = places[at : at + size]
        problems = [problem_of(place) for place in part]
        fit = partial(_fit, mapping=mapping, fid_scale=scale)
        for place, result in zip(part, parallel_map(fit, list(zip(problems, initial_fits(problems))))):
            if isinstance(result, str):
                left_out[_place(place)] = result
            else:
                keep(_place(place), result)
        if progress is not None:
            progress(len(part))
    return DynamicVolume(data, variable.values, bool(conjugate), scale, notes, left_out)


def _place(place: np.ndarray) -> tuple[int, int, int]:
    return int(place[0]), int(place[1]), int(place[2])


def _check(name: str, n_voxels: int, n_times: int, options: FitOptions) -> None:
    """Raise DataError where there is nothing to fit, or too much, and OptionError for another spectral model."""
    if options.spectral_model != "fsl-mrs":
        raise OptionError(
            "a volume of series is fitted with FSL-MRS's model",
            option="spectral_model",
            value=options.spectral_model,
            remedy="leave it out, or take one voxel (mrs_tools split)",
        )
    if not n_voxels:
        raise DataError(
            f"{name}: an FID of every voxel {UNUSABLE}",
            remedy="check `data` and `mask`",
        )
    if n_voxels * n_times > _MOST_SPECTRA:
        raise DataError(
            f"{name}: {n_voxels} voxels of {n_times} spectra are too many for a dynamic fit ({_MOST_SPECTRA} spectra)",
            remedy="give a smaller `mask`",
        )


def _fit(task: tuple[SeriesProblem, InitialFits], *, mapping: Mapping, fid_scale: float) -> DynamicFit | str:
    """Return the fit of a voxel, or the reason that there is none."""
    problem, initial = task
    try:
        return fit_problem(problem, mapping, initial, fid_scale=fid_scale)
    except FslMrsDlError as exc:
        return str(exc)
    except torch.linalg.LinAlgError as exc:
        return " ".join(str(exc).split())
