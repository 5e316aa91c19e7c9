"""Fit of the spectra of a file: choice of the basis set, averages over dimensions, direction of the frequency axis."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import OptionError
from ..io.basis import Basis, detect_conjugation
from ..io.nifti import MrsData, check_fids
from ..physics.macromolecules import add_macromolecules
from .options import FitOptions
from .quantification import Quantification
from .quantify import quantify

__all__ = ["FittedData", "fit_data", "choose_basis", "average", "check_names"]


@dataclass(frozen=True)
class FittedData:
    """The fit of a file's spectra.

    Attributes
    ----------
    fit : Quantification
        With one row per spectrum, the time axis of ``data.fids`` moved to the end.
    data : MrsData
        The data that were fitted, after averaging.
    basis : Basis
        The basis set that was fitted.
    conjugated : bool
        The data were conjugated before the fit.
    """

    fit: Quantification
    data: MrsData
    basis: Basis
    conjugated: bool


def choose_basis(
    basis: Basis,
    data: MrsData,
    *,
    keep: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    mm=None,
    conjugate: bool | None = None,
) -> Basis:
    """Return the part of a basis set that is fitted to data.

    Parameters
    ----------
    basis : Basis
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
    if conjugate is not None and bool(basis.notes) != conjugate:
        basis = replace(basis, fids=basis.fids.conj(), notes=())
    basis.check_match(data.spec_freq_mhz, data.nucleus, data.name)
    basis = basis.select(None if keep is None else list(keep), None if ignore is None else list(ignore))
    return basis if mm is None else add_macromolecules(basis, mm)


def average(data: MrsData, tag: str) -> MrsData:
    """Average over one higher dimension, unusable transients left out; the dimension stays, with one element.

    Raises
    ------
    DataError
        If the data have no such dimension.
    """
    axis = data.axis(tag)
    usable = np.expand_dims(check_fids(data), 3)
    with warnings.catch_warnings():
        # An element without a single usable transient becomes NaN and is flagged later.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(np.where(usable, data.fids, np.nan), axis=axis, keepdims=True)
    return replace(data, fids=mean.astype(data.fids.dtype))


def check_names(options: FitOptions, names: Sequence[str]) -> None:
    """Raise OptionError if the reference or a sum holds a metabolite that is not among ``names``."""
    default = FitOptions().internal_ref
    missing = [name for name in options.internal_ref if name not in names]
    if missing and options.internal_ref != default:
        raise OptionError(
            "is not fitted", option="internal_ref", value=missing[0], remedy=f"there are {', '.join(names)}"
        )
    for total in options.combine:
        members = total.split("+")
        if len(members) < 2:
            raise OptionError(
                "a sum needs two metabolites",
                option="combine",
                value=total,
                remedy="write `combine` GPC PCh, or GPC+PCh in a file",
            )
        for name in members:
            if name not in names:
                raise OptionError("is not fitted", option="combine", value=name, remedy=f"there are {', '.join(names)}")


def fit_data(
    data: MrsData,
    basis: Basis,
    options: FitOptions = FitOptions(),
    *,
    average_over: Sequence[str] = (),
    conjugate: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> FittedData:
    """Fit every spectrum of a file.

    Parameters
    ----------
    data : MrsData
        See :func:`fsl_mrs_dl.io.nifti.load`.
    basis : Basis
        The metabolites to fit, see :func:`choose_basis`.
    options : FitOptions, optional
    average_over : sequence of str
        Dimensions that are averaged first, such as DIM_DYN.
    conjugate : bool, optional
        Conjugate the FIDs; by default where their frequency axis runs backwards.
    progress : callable, optional
        Called with the number of spectra that were finished.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    check_fids(data)
    for tag in average_over:
        data = average(data, tag)
    fids = np.moveaxis(data.fids, 3, -1)
    fids = fids.reshape(-1, fids.shape[-1])
    if conjugate is None:
        finite = fids[np.isfinite(fids).all(-1)]
        conjugate = detect_conjugation(finite.mean(0), data.axes)
    check_names(options, basis.names)
    options.check()
    fit = quantify(fids.conj() if conjugate else fids, basis, data.axes, options, progress=progress)
    fit.estimate(options.estimate)  # raises if it is not available
    return FittedData(fit, data, basis, bool(conjugate))
