"""Fit of edited data: the sub-spectra of a file's edit dimension, jointly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import DataError, OptionError
from ..io.basis import Basis, detect_conjugation
from ..io.edited_basis import EditedBasis
from ..io.nifti import MrsData, element, without_dimension
from ..physics.in_vivo_components import priors_table
from .artefacts import artefacts_before
from .fitted_data import FittedData, average, usual_sums, with_names
from .header_facts import with_header
from .in_vivo.edited_result import EditedFit, combinations_of, quantify_edited, recognise_conditions
from .options import FitOptions

__all__ = ["EDIT_DIM", "combined_basis", "combined_data", "edit_conditions", "fit_edited_data", "with_edited_sums"]

_NOTHING = 0.005  # of a metabolite's signal, that a combination leaves

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
    _check_conditions(data, basis)
    options = options or FitOptions(spectral_model="in-vivo")
    if options.spectral_model != "in-vivo":
        raise OptionError(
            "edited data are fitted jointly with the in-vivo model",
            option="spectral_model",
            value=options.spectral_model,
            remedy="leave it out, or choose `edit_mode` difference",
        )
    data, fids, conjugate = _sub_spectra(data, average_over, conjugate)
    options = with_header(with_names(options, basis.names), data, basis.echo_time_s).check()
    fids = fids.conj() if conjugate else fids
    edited = quantify_edited(
        fids,
        basis,
        data.axes,
        options,
        conditions=options.edit_conditions or _named_in_header(data, basis),
        progress=progress,
    )
    number = edited.order[edited.reference]
    one = basis.sets[edited.reference]
    before = artefacts_before(fids[:, number], one, data.axes, options.echo_time_s)
    return FittedData(edited.main, element(data, EDIT_DIM, number), one, bool(conjugate), before, edited)


def _sub_spectra(data: MrsData, average_over: Sequence[str], conjugate: bool | None):
    """Return averaged data, their FIDs ``(n, n_conditions, n_points)`` as stored, and whether to conjugate them."""
    for tag in average_over:
        data = average(data, tag)
    fids = np.moveaxis(data.fids, (data.axis(EDIT_DIM), 3), (-2, -1))
    fids = fids.reshape(-1, *fids.shape[-2:])
    if conjugate is None:
        finite = fids[np.isfinite(fids).all((-2, -1))]
        conjugate = detect_conjugation(finite.mean((0, 1)), data.axes)
    return data, fids, bool(conjugate)


def combined_data(
    data: MrsData,
    basis: EditedBasis,
    options: FitOptions,
    average_over: Sequence[str] = (),
    conjugate: bool | None = None,
) -> tuple[MrsData, Basis, FitOptions]:
    """Return a combination of sub-spectra, such as the difference, with its basis set, and options that fit it with
    FSL-MRS's model; arguments as of :func:`fit_edited_data`.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    _check_conditions(data, basis)
    known = combinations_of(basis.conditions)
    name = next(iter(known)) if options.edit_mode == "difference" else options.edit_mode
    if name not in known:
        raise OptionError(
            "is no combination of these conditions",
            option="edit_mode",
            value=name,
            remedy=f"choose one of {', '.join(dict.fromkeys(('joint', 'difference', *known)))}",
        )
    if options.spectral_model == "in-vivo":
        raise OptionError(
            "combinations of sub-spectra are fitted with FSL-MRS's model",
            option="spectral_model",
            value="in-vivo",
            remedy="leave it out, or choose `edit_mode` joint",
        )
    data, fids, conjugate = _sub_spectra(data, average_over, conjugate)
    joint = with_header(FitOptions(spectral_model="in-vivo", ppmlim=options.ppmlim), data, basis.echo_time_s)
    turned = fids.conj() if conjugate else fids
    named = options.edit_conditions or _named_in_header(data, basis)
    order = recognise_conditions(turned, basis, data.axes, joint, named).order
    weights = known[name]
    combined = sum(weight * data.fids.take(order[k], data.axis(EDIT_DIM)) for k, weight in enumerate(weights))
    data = without_dimension(data, EDIT_DIM, combined.astype(data.fids.dtype))
    one = combined_basis(basis, weights, name)
    groups = options.metab_groups
    if groups is not None:
        groups = tuple(group for group, metabolite in zip(groups, basis.names) if metabolite in one.names)
    return data, one, replace(options, metab_groups=groups, combine=_sums_of(options.combine, one.names))


def _named_in_header(data: MrsData, basis: EditedBasis) -> tuple[str, ...] | None:
    """Return the conditions that a header names in ``EditCondition``, if they are those of the basis set."""
    about = data.header.get(f"dim_{data.axis(EDIT_DIM) + 1}_header") or {}
    value = about.get("EditCondition") if isinstance(about, dict) else None
    value = value.get("Value") if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    same = sorted(one.lower() for one in value) == sorted(one.lower() for one in basis.conditions)
    return tuple(value) if same else None


def _check_conditions(data: MrsData, basis: EditedBasis) -> None:
    """Raise DataError for data without edit conditions."""
    if edit_conditions(data) < 2:
        raise DataError(
            f"{data.name}: has no dimension {EDIT_DIM} with the sub-spectra of {', '.join(basis.conditions)}",
            remedy="divide them ('fsl_mrs_dl align --edit-order ORDER'), or give the basis set of one condition",
        )


def _sums_of(sums: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the sums all of whose members are there."""
    return tuple(total for total in sums if set(total.split("+")) <= set(names))


def combined_basis(basis: EditedBasis, weights: np.ndarray, name: str) -> Basis:
    """Return the basis set of a combination of conditions, without the metabolites that leave nothing in it."""
    fids = np.stack([one.fids for one in basis.sets])
    combined = np.einsum("k,kmt->mt", weights, fids)
    kept = np.abs(combined).max(1) > _NOTHING * np.abs(fids).max((0, 2))
    names = tuple(metabolite for metabolite, stays in zip(basis.names, kept) if stays)
    widths = tuple(width for width, stays in zip(basis.sets[0].widths_hz, kept) if stays)
    first = basis.sets[0]
    return replace(first, fids=combined[kept], names=names, widths_hz=widths, source=f"{basis.source}, {name}")


def with_edited_sums(options: FitOptions, edited: EditedFit | None) -> FitOptions:
    """Return options that report GABA with the macromolecule that is edited with it, Glx, total NAA and
    total choline, where they are fitted."""
    if edited is None:
        return options
    gaba = priors_table()["edited"]["co_edited"]["from"]
    sums = [f"{gaba}+{edited.co_edited}"] if edited.co_edited else []
    sums += usual_sums(edited.main.names)
    return replace(options, combine=(*options.combine, *[one for one in sums if one not in options.combine]))
