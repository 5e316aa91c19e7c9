"""Fit of edited data: the sub-spectra of a file's edit dimension, jointly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import DataError, OptionError
from ..io.basis import detect_conjugation
from ..io.edited_basis import EditedBasis
from ..io.nifti import MrsData, check_fids, element, from_echo
from ..physics.in_vivo_components import priors_table
from .artefacts import artefacts_before
from .data import FittedData, average, with_names
from .header_facts import with_header
from .in_vivo.edited_result import EditedFit, quantify_edited
from .options import FitOptions

__all__ = ["EDIT_DIM", "edit_conditions", "fit_edited_data", "with_edited_sums"]

EDIT_DIM = "DIM_EDIT"
"""Dimension of edit conditions."""


def edit_conditions(data: MrsData) -> int:
    """Return the number of edit conditions that data have in a dimension of their own; one without any."""
    return data.fids.shape[data.axis(EDIT_DIM)] if EDIT_DIM in data.dim_tags else 1


def fit_edited_data(
    data: MrsData,
    basis: EditedBasis,
    options: FitOptions | None = None,
    *,
    average_over: Sequence[str] = (),
    conditions: Sequence[str] | None = None,
    conjugate: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> FittedData:
    """Fit the sub-spectra of edited data jointly.

    Parameters
    ----------
    data : MrsData
        With DIM_EDIT.
    basis : EditedBasis
        The metabolites to fit.
    options : FitOptions, optional
        Of the in-vivo model.
    average_over : sequence of str
        Dimensions that are averaged first.
    conditions : sequence of str, optional
        Names of the elements of DIM_EDIT; recognised by default.
    conjugate : bool, optional
        Conjugate the FIDs; by default where their frequency axis runs backwards.
    progress : callable, optional
        Called with the number of sets that were finished.

    Returns
    -------
    FittedData
        Of the condition with the fewest editing pulses, with the joint fit as ``edited``.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    data = from_echo(data)
    check_fids(data)
    if edit_conditions(data) < 2:
        raise DataError(
            f"{data.name}: has no dimension {EDIT_DIM} with the sub-spectra of {', '.join(basis.conditions)}",
            remedy="give `edit_order` to 'fsl_mrs_dl align' or 'run', or the basis set of one condition",
        )
    options = options or FitOptions(spectral_model="in-vivo")
    if options.spectral_model != "in-vivo":
        raise OptionError(
            "edited data are fitted jointly with the in-vivo model",
            option="spectral_model",
            value=options.spectral_model,
            remedy="leave it out, or choose `edit_mode` difference",
        )
    for tag in average_over:
        data = average(data, tag)
    axis = data.axis(EDIT_DIM)
    fids = np.moveaxis(data.fids, (axis, 3), (-2, -1))
    fids = fids.reshape(-1, *fids.shape[-2:])
    if conjugate is None:
        finite = fids[np.isfinite(fids).all((-2, -1))]
        conjugate = detect_conjugation(finite.mean((0, 1)), data.axes)
    options = with_header(with_names(options, basis.names), data, basis.echo_time_s).check()
    fids = fids.conj() if conjugate else fids
    edited = quantify_edited(
        fids,
        basis,
        data.axes,
        options,
        conditions=None if conditions is None else tuple(conditions),
        progress=progress,
    )
    number = edited.order[edited.reference]
    one = basis.sets[edited.reference]
    before = artefacts_before(fids[:, number], one, data.axes, options.echo_time_s)
    return FittedData(edited.main, element(data, EDIT_DIM, number), one, bool(conjugate), before, edited)


def with_edited_sums(options: FitOptions, edited: EditedFit | None) -> FitOptions:
    """Return options that report GABA with the macromolecule that is edited with it, and Glx, where they are fitted."""
    if edited is None:
        return options
    co_edited, names = edited.co_edited, edited.main.names
    gaba = priors_table()["edited"]["co_edited"]["from"]
    sums = [f"{gaba}+{co_edited}"] if co_edited else []
    sums += ["Glu+Gln"] if {"Glu", "Gln"} <= set(names) else []
    return replace(options, combine=(*options.combine, *[one for one in sums if one not in options.combine]))
