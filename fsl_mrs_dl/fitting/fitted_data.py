"""What a fit of a file returns, and what comes before it: averages over dimensions, names of metabolites in options."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.errors import OptionError, nearest
from ..core.metabolites import name_among
from ..io.basis import Basis
from ..io.nifti import MrsData, check_fids
from .artefacts import Artefact
from .in_vivo.edited_result import EditedFit
from .options import FitOptions
from .quantification import Quantification

__all__ = ["FittedData", "average", "reference_note", "usual_sums", "with_names"]

_USUAL_SUMS = (("NAA", "NAAG"), ("GPC", "PCh"), ("Glu", "Gln"))


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
    artefacts : list of Artefact
        Of data and basis set, seen before the fit.
    edited : EditedFit, optional
        The joint fit of all conditions of edited data, of which ``fit``, ``data`` and ``basis`` are the condition with
        the fewest editing pulses.
    combined : bool
        The spectra are a combination of edited sub-spectra.
    """

    fit: Quantification
    data: MrsData
    basis: Basis
    conjugated: bool
    artefacts: list[Artefact] = field(default_factory=list)
    edited: EditedFit | None = None
    combined: bool = False


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


def with_names(options: FitOptions, names: Sequence[str]) -> FitOptions:
    """Return options whose reference and sums have the names that these metabolites have among ``names``.

    Raises
    ------
    OptionError
        If one of them is not there; of the usual reference any may be absent, and without PCr it is Cr alone.
    """
    default = FitOptions().internal_ref
    reference = [name_among(name, names) for name in options.internal_ref]
    if None in reference and options.internal_ref != default:
        missing = options.internal_ref[reference.index(None)]
        raise OptionError(
            "is not fitted",
            option="internal_ref",
            value=missing,
            remedy=nearest(missing, names) + f"there are {', '.join(names)}",
        )
    sums = []
    for total in options.combine:
        members = total.split("+")
        if len(members) < 2:
            raise OptionError(
                "a sum needs two metabolites",
                option="combine",
                value=total,
                remedy="write `combine` GPC PCh, or GPC+PCh in a file",
            )
        for index, name in enumerate(members):
            member = name_among(name, names)
            if member is None:
                raise OptionError(
                    "is not fitted",
                    option="combine",
                    value=name,
                    remedy=nearest(name, names) + f"there are {', '.join(names)}",
                )
            members[index] = member
        sums.append("+".join(members))
    known = [name for name in reference if name is not None]
    whole = len(known) == len(reference) or known == ["Cr"]
    internal_ref = tuple(known) if whole else options.internal_ref
    return replace(options, internal_ref=internal_ref, combine=tuple(sums))


def reference_note(internal_ref: Sequence[str], names: Sequence[str]) -> str:
    """Return a line on ratios to creatine without phosphocreatine, where a basis set has none of it; otherwise an empty
    text."""
    if tuple(internal_ref) != ("Cr",) or name_among("PCr", names) is not None:
        return ""
    return "Ratios are to Cr alone: PCr was not fitted."


def usual_sums(names: Sequence[str]) -> tuple[str, ...]:
    """Return total NAA, total choline and Glx with the names that their members have among ``names``, where all are
    there."""
    known = [[name_among(one, names) for one in members] for members in _USUAL_SUMS]
    return tuple("+".join(filter(None, members)) for members in known if None not in members)
