"""The metabolite whose fitted signal is compared with that of water."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import OptionError
from ..core.metabolites import name_among
from ..core.units import spec_to_fid
from ..fitting.quantification import Quantification
from .water import WATER_LIMITS, WaterFit, early_points, first_sample, line_area

__all__ = ["AREAS", "ReferenceSignal", "WaterReferenceMetabolite", "reference_metabolite", "reference_signal"]


AREAS = ("as-fitted", "alike")
"""Ways of comparing a metabolite with water.

'as-fitted' is FSL-MRS's: the integrals of the magnitude of the real part of the fitted lines, without phase and
baseline, each with its own width.  It depends on widths: tails beyond the limits are lost, more of the broader line,
and the ripples of narrow lines in a short FID add to the magnitude (a tenth, at 1 Hz and 1 s).

'alike' does not depend on widths, shifts and line shapes of the metabolites.  Both lines have the damping of the water
(and of the basis set), and the amplitudes that they have at the first sample; a line shape that was taken from water is
that of the water it is compared with."""


@dataclass(frozen=True)
class WaterReferenceMetabolite:
    """Metabolites whose sum is compared with water.

    Attributes
    ----------
    names : tuple of str
    protons : int
        Of one molecule, between the limits.
    limits : (float, float)
        Limits of the integral in ppm.
    """

    names: tuple[str, ...]
    protons: int
    limits: tuple[float, float]


_USUAL = (
    WaterReferenceMetabolite(("Cr", "PCr"), 5, (2, 5)),
    WaterReferenceMetabolite(("Cr",), 5, (2, 5)),
    WaterReferenceMetabolite(("PCr",), 5, (2, 5)),
    WaterReferenceMetabolite(("NAA",), 3, (1.8, 2.2)),
)
"""FSL-MRS's, the first that was fitted is taken."""


def reference_metabolite(
    fitted: Sequence[str],
    names: Sequence[str] | None = None,
    protons: int | None = None,
    limits: tuple[float, float] | None = None,
) -> WaterReferenceMetabolite | None:
    """Return the reference that was asked for, or the first usual one that was fitted; None if there is none.

    Raises
    ------
    OptionError
        If one that was asked for was not fitted, or comes without protons or limits.
    """
    if not names:
        for usual in _USUAL:
            own = [name_among(name, fitted) for name in usual.names]
            if None not in own:
                return WaterReferenceMetabolite(tuple(str(one) for one in own), usual.protons, usual.limits)
        return None
    members = []
    for name in (part for each in names for part in each.split("+")):
        member = name_among(name, fitted)
        if member is None:
            raise OptionError(
                "was not fitted", option="wref_metabolite", value=name, remedy=f"there are {', '.join(fitted)}"
            )
        members.append(member)
    for option, value in (("ref_protons", protons), ("ref_int_limits", limits)):
        if value is None:
            raise OptionError(
                f"goes with `{option}`",
                option="wref_metabolite",
                value=" ".join(names),
                remedy="give its number of protons between limits in ppm (`ref_protons`, `ref_int_limits`)",
            )
    assert protons is not None and limits is not None
    if protons < 1:
        raise OptionError("must be at least 1", option="ref_protons", value=protons)
    low, high = sorted(limits)
    return WaterReferenceMetabolite(tuple(members), int(protons), (float(low), float(high)))


@dataclass(frozen=True)
class ReferenceSignal:
    """The reference metabolite's signal over that of water.

    Attributes
    ----------
    per_concentration : ndarray ``(n,)``
        Ratio of the areas for a concentration of one of the fit.
    slopes : ndarray ``(n, n_members)``
        Derivative of its logarithm by the concentrations of the members.
    """

    per_concentration: np.ndarray
    slopes: np.ndarray


def reference_signal(
    fit: Quantification, water: WaterFit, reference: WaterReferenceMetabolite, conc: np.ndarray, area: str
) -> ReferenceSignal:
    """Compare the fitted reference metabolite with water.

    Parameters
    ----------
    fit : Quantification
    water : WaterFit
        A row for every spectrum, in the units of the data.
    reference : WaterReferenceMetabolite
    conc : ndarray ``(n, n_metabs)``
        Of the estimate that is reported.
    area : str
        One of :data:`AREAS`.
    """
    members = [fit.names.index(name) for name in reference.names]
    amounts = conc[:, members]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if area == "alike":
            whole = amounts.sum(1)
            each, total, of_water = _alike(fit, water, reference, members, amounts)
        else:
            whole = fit.fitted_amounts[:, members].sum(1)
            each, total, of_water = _as_fitted(fit, water, reference)
        ratio = total / whole / fit.fid_scale / of_water
        good = fit.fitted & (whole > 0) & (ratio > 0)
        slopes = np.where(total[:, None] > 0, each / total[:, None], 0.0) - 1 / whole[:, None]
    return ReferenceSignal(np.where(good, ratio, np.nan), np.where(good[:, None], slopes, 0.0))


def _as_fitted(fit: Quantification, water: WaterFit, reference: WaterReferenceMetabolite):
    """Return the areas of each member for a concentration of one ``(n, n_members)``, of all as fitted and of water."""
    axes = fit.model.axes
    rows = np.flatnonzero(fit.fitted)
    each, total = np.full((len(fit.params), len(reference.names)), np.nan), np.full(len(fit.params), np.nan)
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        fids = [spec_to_fid(fit.spectra(name, part, phased=False)) for name in reference.names]
        total[part] = line_area(np.sum(fids, 0), axes, reference.limits)
        for column, (name, one) in enumerate(zip(reference.names, fids)):
            amount = fit.fitted_amounts[part, fit.names.index(name)]
            each[part, column] = line_area(one, axes, reference.limits) / amount
    # The signal of a member that is held at zero is taken as that of the others.
    known = np.isfinite(each)
    mean = np.where(known, each, 0.0).sum(1, keepdims=True) / known.sum(1, keepdims=True)
    return np.where(known, each, mean), total, water.area


def _alike(fit: Quantification, water: WaterFit, reference: WaterReferenceMetabolite, members: list[int], amounts):
    """Return the same of lines with water's damping."""
    axes = fit.model.axes
    basis = fit.basis_fids[members]
    rows = np.flatnonzero(fit.fitted)
    n = len(fit.params)
    each, total, of_water = np.full((n, len(members)), np.nan), np.full(n, np.nan), np.full(n, np.nan)
    decay = fit.metabolite_decay(early_points(axes).stop)
    size = first_sample(decay, axes)[:, members]
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        damping = water.rows(part).damping()
        parts = size[part][..., None] * basis * damping[:, None]
        total[part] = line_area((amounts[part][..., None] * parts).sum(1), axes, reference.limits, level=True)
        each[part] = line_area(parts, axes, reference.limits, level=True)
        line = line_area(damping.astype(complex), axes, WATER_LIMITS, level=True)
        of_water[part] = water.early_amplitude[part] * line
    return each, total, of_water
