"""Fit of the spectra of a file: choice of the basis set, averages over dimensions, direction of the frequency axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..core.axes import Axes
from ..core.errors import DataError, OptionError
from ..core.units import fid_to_spec
from ..io.basis import Basis, detect_conjugation
from ..io.edited_basis import EditedBasis
from ..io.nifti import MrsData, check_fids, from_echo
from ..physics.macromolecules import add_macromolecules
from ..registration.signal import WATER_TIMES, water_over_singlets
from .artefacts import artefacts_before
from .edited_data import combined_data, fit_edited_data
from .fitted_data import FittedData, average, with_names
from .header_facts import with_header
from .model_choice import usual_spectral_model
from .options import FitOptions
from .quantification import Quantification
from .quantify import quantify

_WATER_PPM, _MOST_SHIFT_PPM, _WATER_WIDTH_PPM, _LEAST_WATER = 4.65, 0.6, 0.5, 0.9
_LEAST_OVER_NOISE = 10.0  # of single transients of single coils, too
_GIVE_WATER = (
    "give the water reference of the scan, acquired without water suppression; without one leave `h2o` out: ratios to"
    " creatine need none"
)

__all__ = [
    "FittedData",
    "fit_data",
    "choose_basis",
    "average",
    "check_dwelltime",
    "check_reference",
    "check_suppressed",
    "check_water",
    "water_fids",
    "water_of_length",
    "with_names",
]

SomeBasis = TypeVar("SomeBasis", Basis, EditedBasis)


def choose_basis(
    basis: SomeBasis,
    data: MrsData,
    *,
    keep: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    mm=None,
    conjugate: bool | None = None,
) -> SomeBasis:
    """Return the part of a basis set that is fitted to data.

    Parameters
    ----------
    basis : Basis or EditedBasis
    data : MrsData
        Whose frequency and nucleus the basis set must match.
    keep, ignore : sequence of str, optional
        Metabolites to fit, and to leave out.
    mm : str or path, optional
        Macromolecules to add, see :func:`fsl_mrs_dl.physics.macromolecules.add_macromolecules`.
    conjugate : bool, optional
        Conjugate the basis set as stored; by default where its frequency axis runs backwards.

    Raises
    ------
    BasisError, DataError, OptionError
    """
    if isinstance(basis, EditedBasis):
        if mm is not None:
            raise OptionError(
                "is not added to the basis set of edited data", option="mm", value=mm, remedy="leave it out"
            )
        return replace(basis, sets=tuple(_chosen(one, data, keep, ignore, conjugate) for one in basis.sets))
    basis = _chosen(basis, data, keep, ignore, conjugate)
    return basis if mm is None else add_macromolecules(basis, mm).sorted()


def _chosen(
    basis: Basis,
    data: MrsData,
    keep: Sequence[str] | None,
    ignore: Sequence[str] | None,
    conjugate: bool | None,
) -> Basis:
    """Return the chosen metabolites of one basis set that matches the data."""
    if conjugate is not None and basis.conjugated != conjugate:
        basis = replace(basis, fids=basis.fids.conj(), notes=(), conjugated=conjugate)
    basis.check_match(data.spec_freq_mhz, data.nucleus, data.name)
    return basis.select(None if keep is None else list(keep), None if ignore is None else list(ignore))


def fit_data(
    data: MrsData,
    basis: Basis | EditedBasis,
    options: FitOptions | None = None,
    *,
    average_over: Sequence[str] = (),
    conjugate: bool | None = None,
    water: MrsData | None = None,
    progress: Callable[[int], None] | None = None,
) -> FittedData:
    """Fit every spectrum of a file.

    Parameters
    ----------
    data : MrsData
        See :func:`fsl_mrs_dl.io.nifti.load`.
    basis : Basis
        The metabolites to fit, see :func:`choose_basis`; of edited data the basis sets of all conditions.
    options : FitOptions, optional
        By default those of the spectral model that :func:`fsl_mrs_dl.fitting.model_choice.usual_spectral_model` names.
    average_over : sequence of str
        Dimensions that are averaged first, such as DIM_DYN.
    conjugate : bool, optional
        Conjugate the FIDs, and the water reference with them; by default where their frequency axis runs backwards.
    water : MrsData, optional
        Unsuppressed water: one spectrum, or one for each.  The in-vivo model takes its line shape from it, and corrects
        eddy currents.
    progress : callable, optional
        Called with the number of spectra that were finished.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    if water is not None:
        check_reference(water, data)
    data = from_echo(data)
    check_fids(data)
    combined = isinstance(basis, EditedBasis)
    if isinstance(basis, EditedBasis):
        if options is None or options.edit_mode == "joint":
            return fit_edited_data(
                data, basis, options, average_over=average_over, conjugate=conjugate, progress=progress
            )
        data, basis, options = combined_data(data, basis, options, average_over, conjugate)
        average_over = ()
    if options is None:
        options = FitOptions(spectral_model=usual_spectral_model(basis, data.dim_tags).name)
    for tag in average_over:
        data = average(data, tag)
    fids = np.moveaxis(data.fids, 3, -1)
    fids = fids.reshape(-1, fids.shape[-1])
    check_suppressed(fids, data.axes, data.name)
    if conjugate is None:
        finite = fids[np.isfinite(fids).all(-1)]
        conjugate = detect_conjugation(finite.mean(0), data.axes)
    options = with_header(with_names(options, basis.names), data, basis.echo_time_s).check()
    fids = fids.conj() if conjugate else fids
    if options.spectral_model == "in-vivo":
        from .in_vivo.quantify import quantify_in_vivo

        reference = None if water is None else water_fids(water, data, bool(conjugate))
        fit: Quantification = quantify_in_vivo(fids, basis, data.axes, options, water=reference, progress=progress)
    else:
        if water is not None:
            raise OptionError(
                "goes with the in-vivo model only",
                option="h2o",
                remedy="leave it out, or choose `spectral_model` in-vivo",
            )
        fit = quantify(fids, basis, data.axes, options, progress=progress)
    if not fit.fitted.any():
        raise DataError(f"{data.name}: no spectrum can be fitted", remedy="look for values that are far too large")
    fit.estimate(options.estimate)  # raises if it is not available
    before = artefacts_before(fids, basis, data.axes, options.echo_time_s)
    return FittedData(fit, data, basis, bool(conjugate), before, combined=combined)


def water_fids(water: MrsData, data: MrsData, conjugate: bool, *, option: str = "h2o") -> np.ndarray:
    """Return water FIDs ``(n, n_points)``, averaged over higher dimensions.

    ``option`` is the one that they were given by.

    Raises
    ------
    DataError
        If they were not acquired as the data were.
    """
    water = from_echo(water)
    check_fids(water)
    check_dwelltime(water, data)
    if "DIM_COIL" in water.dim_tags and water.fids.shape[water.axis("DIM_COIL")] > 1:
        raise DataError(
            f"{water.name}: has several coils",
            remedy="fsl_mrs_dl run combines those of data and water; in FSL-MRS fsl_mrs_proc coilcombine does",
        )
    if water.fids.shape[:3] + water.fids.shape[4:] != data.fids.shape[:3] + data.fids.shape[4:]:
        for tag in [name for name in water.dim_tags if name]:
            water = average(water, tag)
    fids = np.moveaxis(water.fids, 3, -1)
    fids = fids.reshape(-1, fids.shape[-1])
    fids = water_of_length(fids.conj() if conjugate else fids, data.n_points)
    check_water(fids, data.axes, water.name, option=option)
    return fids


def check_dwelltime(water: MrsData, data: MrsData) -> None:
    """Raise DataError if water was sampled at another rate than the data."""
    if abs(water.dwelltime / data.dwelltime - 1) > 1e-3:
        raise DataError(
            f"{water.name}: has a dwell time of {water.dwelltime:g} s and the data {data.dwelltime:g} s; give"
            " water that was acquired alike."
        )


def water_of_length(fids: np.ndarray, n_points: int) -> np.ndarray:
    """Return water FIDs ``(n, k)`` with the number of points of the data, cut or continued with zeros."""
    missing = n_points - fids.shape[-1]
    return np.pad(fids[:, :n_points], ((0, 0), (0, max(0, missing))))


def check_suppressed(fids: np.ndarray, axes: Axes, name: str) -> None:
    """Raise DataError for spectra of unsuppressed water, such as a water reference in place of metabolites.

    Parameters
    ----------
    fids : complex ndarray ``(..., n_points)``
    axes : Axes
    name : str
        Of the file.
    """
    # The metabolites of mirrored data lie on the other side of the water.
    times, has_lines = min(water_over_singlets(one, axes) for one in (fids, fids.conj()))
    if times > (WATER_TIMES if has_lines else WATER_TIMES / 2):
        raise DataError(
            f"{name}: its water is not suppressed, {times:.0f} times as high as the highest line of metabolites between"
            " 1.8 and 3.4 ppm",
            remedy=(
                "give the spectra with water suppression as `data`, and water as `h2o`; or remove the water first"
                " (fsl_mrs_proc remove)"
            ),
        )


def check_reference(water: MrsData, data: MrsData, *, option: str = "h2o") -> None:
    """Raise DataError for a water reference, as it was read, that is the metabolites' own data or water-suppressed.

    Parameters
    ----------
    water, data : MrsData
    option : str
        That the reference was given by.
    """
    if water.fids.shape == data.fids.shape and np.array_equal(water.fids, data.fids):
        same = water.path is not None and data.path is not None and water.path.resolve() == data.path.resolve()
        what = "is the same file as `data`" if same else f"holds the same spectra as `data`, {data.name}"
        raise DataError(f"{what}: this is not unsuppressed water", option=option, value=water.name, remedy=_GIVE_WATER)
    _check_unsuppressed(np.moveaxis(water.fids, 3, -1), water.axes, water.name, option)


def _check_unsuppressed(fids: np.ndarray, axes: Axes, name: str, option: str) -> None:
    """Raise DataError where the water of FIDs ``(..., n_points)`` is not far above metabolites, or above noise."""
    times, has_lines = min(water_over_singlets(one, axes) for one in (fids, fids.conj()))
    least = WATER_TIMES / 2 if has_lines else _LEAST_OVER_NOISE
    if not 0 < times < least:
        return
    what = "the highest line of metabolites" if has_lines else "the highest point"
    raise DataError(
        f"its water peak is {times:.1f} times as high as {what} between 1.8 and 3.4 ppm, not {least:.0f} times or"
        " more: this is not unsuppressed water",
        option=option,
        value=name,
        remedy=_GIVE_WATER,
    )


def check_water(fids: np.ndarray, axes: Axes, name: str, *, least: float = 1.0, option: str = "h2o") -> None:
    """Raise DataError unless spectra ``(n, n_points)`` are of unsuppressed water, or at least this share of them.

    ``option`` is the one that they were given by.
    """
    _check_unsuppressed(fids, axes, name, option)
    power, ppm = np.abs(fid_to_spec(fids)) ** 2, axes.ppm()
    at = ppm[power.argmax(-1)]
    near = np.abs(ppm - at[:, None]) < _WATER_WIDTH_PPM
    share = (power * near).sum(-1) / np.maximum(power.sum(-1), 1e-300)
    good = (np.abs(at - _WATER_PPM) <= _MOST_SHIFT_PPM) & (share >= _LEAST_WATER)
    if good.mean() < least:
        at, share = at[~good], share[~good]
        raise DataError(
            f"its highest peak lies at {at[0]:.2f} ppm and has {share[0]:.0%} of the energy, water's lies at"
            f" {_WATER_PPM:g} ppm and has {_LEAST_WATER:.0%} or more: this is not unsuppressed water",
            option=option,
            value=name,
            remedy=_GIVE_WATER,
        )
