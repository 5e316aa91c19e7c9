"""A fit together with the data it came from: the numbers that tables, figures, maps and reports show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..concentrations.scaling import AbsoluteConcentrations
from ..fitting import uncertainty
from ..fitting.artefacts import MIRRORED, Artefact, artefact_lines, artefacts_of, fitted_spectrum, option_spelling
from ..fitting.edited_data import with_edited_sums
from ..fitting.filtered_band import WHOLE, Band, band_of, filter_artefact
from ..fitting.fitted_data import FittedData
from ..fitting.in_vivo.edited_result import EditedFit
from ..fitting.in_vivo.result import InVivoFit
from ..fitting.options import FitOptions
from ..fitting.quantification import Quantification
from ..fitting.verdict import DOUBTFUL, VERDICTS
from ..fitting.window_advice import Window, common_window
from ..io.header_keys import ElementValues, element_values
from ..io.nifti import MrsData
from . import layout, qc
from .doubts import Doubt, Reason, doubts_of, reason_words, reasons_of, where

__all__ = ["FitResults", "Widths", "hardly_determined", "percent_sd", "reported_names", "reported_sums"]


_ONE_LINE = 1.5  # width over the narrowest line's up to which a peak is one line
_LARGE_PERCENT = 50.0  # SD of a concentration, above which the spectrum hardly determines it


class Widths(NamedTuple):
    """Full widths (Hz) added to the basis set's, ``(n, n_groups)`` each; ``gauss`` is None for Lorentzian models."""

    lorentz: np.ndarray
    gauss: np.ndarray | None
    combined: np.ndarray


@dataclass(frozen=True, eq=False)
class FitResults:
    """A quantification together with the data it came from.

    Attributes
    ----------
    fit : Quantification
        Its rows run over the spectra of ``data``, with the time axis moved to the end.
    data : MrsData, optional
        Data that were fitted, in the shape of their file; None where only the numbers are needed.
    internal_ref : sequence of str
        Metabolites of the internal reference.
    combine : sequence of str
        Sums to report, each as 'GPC+PCh'.
    conjugated : bool
        Whether the data were conjugated before the fit.
    artefacts_before : list of Artefact
        Of data and basis set, seen before the fit.
    estimate : str
        Estimate in FSL-MRS's tables, one of :data:`fsl_mrs_dl.fitting.options.ESTIMATES`.
    absolute : AbsoluteConcentrations, optional
        Of :attr:`names`, where they were scaled by water.
    edited : EditedFit, optional
        The joint fit of all conditions of edited data, of which ``fit`` is one.
    combined : bool
        The spectra are a combination of edited sub-spectra.
    foreign : sequence of Artefact
        Signal that is not of metabolites, which an alignment left out and the fitted window has.
    band : Band, optional
        Band that a filter left, where it is known of all spectra of an acquisition; found in those of ``fit`` if not
        given.
    remarks : sequence of str
        On the data or options, for the report; options stand in backticks.
    """

    fit: Quantification
    data: MrsData | None
    internal_ref: Sequence[str] = ("Cr", "PCr")
    combine: Sequence[str] = ()
    conjugated: bool = False
    estimate: str = "ml"
    artefacts_before: Sequence[Artefact] = ()
    absolute: AbsoluteConcentrations | None = None
    edited: EditedFit | None = None
    combined: bool = False
    foreign: Sequence[Artefact] = ()
    band: Band | None = None
    remarks: Sequence[str] = ()

    @classmethod
    def with_options(
        cls,
        fit: Quantification,
        data: MrsData | None,
        options: FitOptions,
        *,
        conjugated: bool = False,
        artefacts_before: Sequence[Artefact] = (),
    ) -> FitResults:
        """Return a fit with the reference, sums and estimate of its options."""
        of_options = (options.internal_ref, options.combine, conjugated, options.estimate)
        return cls(fit, data, *of_options, artefacts_before)

    @classmethod
    def of_data(cls, fitted: FittedData, options: FitOptions, artefacts_before: Sequence[Artefact] = ()) -> FitResults:
        """Return the fit of a file's spectra; of edited data with the sums that editing is for."""
        options = with_edited_sums(options, fitted.edited)
        # A combination of sub-spectra has no metabolites that editing leaves alone.
        there = set(fitted.fit.names)
        options = replace(options, combine=tuple(total for total in options.combine if set(total.split("+")) <= there))
        before = [*artefacts_before, *fitted.artefacts]
        results = cls.with_options(
            fitted.fit, fitted.data, options, conjugated=fitted.conjugated, artefacts_before=before
        )
        return replace(results, edited=fitted.edited, combined=fitted.combined)

    @property
    def is_edited(self) -> bool:
        """Whether these are edited spectra."""
        return self.edited is not None or self.combined

    def as_data(self, fids: np.ndarray) -> MrsData:
        """Return scaled FIDs ``(n, n_points)`` in shape, scale and orientation of the data file."""
        assert self.data is not None
        fids = fids / self.fit.fid_scale
        fids = fids.conj() if self.conjugated else fids
        shape = self.data.fids.shape
        fids = np.moveaxis(fids.reshape(*shape[:3], *shape[4:], shape[3]), -1, 3)
        return replace(self.data, fids=fids.astype(self.data.fids.dtype))

    @cached_property
    def artefacts(self) -> dict[int, list[Artefact]]:
        """Artefacts of every fitted spectrum with a signal, by its row."""
        rows = np.flatnonzero(self.fit.fitted & ~self.fit.empty)
        if self.fit.fids is None or self.fit.model.axes.nucleus != "1H":
            return {}
        if any(artefact.kind == MIRRORED for artefact in self.artefacts_before):
            # Nothing else in such a fit means anything.
            return {int(row): [] for row in rows}
        return {int(row): artefacts_of(replace(fitted_spectrum(self.fit, row), edited=self.is_edited)) for row in rows}

    def artefact_lines(self) -> list[str]:
        """Return a line for each kind of artefact: the text of the first spectrum that has it, with options as the
        commands spell them, and which of several have it."""
        several = partial(where, self) if len(self.fit.params) > 1 else None
        return artefact_lines(self.artefacts, option_spelling, several)

    @cached_property
    def left_out_by(self) -> tuple[Artefact, Window] | None:
        """The first artefact that a narrower window leaves out, and the window that leaves out all such; None without
        any."""
        found = [*self.foreign, *self.artefacts_before, *(one for some in self.artefacts.values() for one in some)]
        of_window = [one for one in found if one.window is not None]
        window = common_window([one.window for one in of_window if one.window is not None])
        return None if window is None else (of_window[0], window)

    @cached_property
    def filter_artefact(self) -> Artefact | None:
        """Artefact of a window that reaches beyond the band that a filter left; None where it does not."""
        fit, band = self.fit, self.band
        if any(artefact.kind == MIRRORED for artefact in self.artefacts_before):
            return None
        if band is None:
            band = WHOLE if fit.fids is None else band_of(fit.fids, fit.model.axes)
        return filter_artefact(fit, band)

    @property
    def artefacts_of_file(self) -> list[Artefact]:
        """Artefacts that are of all spectra: those before the fit, and a filter's."""
        return [*self.artefacts_before, *([self.filter_artefact] if self.filter_artefact else [])]

    @cached_property
    def doubts(self) -> dict[int, list[Doubt]]:
        """Reasons for doubt by SNR, line width, concentrations and a filter, of spectra that have any, by their row."""
        return doubts_of(self)

    @cached_property
    def verdict(self) -> np.ndarray:
        """Verdict of every spectrum, ``(n,)``: that of the fit, and doubtful at best where there is an artefact, or a
        doubt by SNR, line width, concentrations or a filter."""
        out = self.fit.verdict.copy()
        strange = [row for row, artefacts in self.artefacts.items() if artefacts or self.artefacts_before]
        strange += list(self.doubts)
        out[strange] = np.maximum(out[strange], DOUBTFUL)
        return out

    @cached_property
    def reasons(self) -> list[list[Reason]]:
        """Reasons for the verdict on every spectrum; none for those that are good, or could not be fitted."""
        return [reasons_of(self, row) for row in range(len(self.fit.params))]

    @property
    def verdict_text(self) -> str:
        """The verdict of a spectrum, or how many of several have each, and how many could not be fitted."""
        fitted = self.fit.fitted
        counts = np.bincount(self.verdict[fitted], minlength=len(VERDICTS))
        if len(fitted) == 1 or counts.max() == len(fitted):
            return VERDICTS[counts.argmax()]
        words = [f"{count} {word}" for count, word in zip(counts, VERDICTS) if count]
        return ", ".join(words + [f"{(~fitted).sum()} could not be fitted"] * bool((~fitted).any()))

    def verdict_words(self, row: int) -> str:
        """Return the verdict of a spectrum with the reasons for it: 'doubtful: out of distribution (score 1.3)'."""
        if not self.fit.fitted[row]:
            return "could not be fitted"
        verdict, reasons = VERDICTS[self.verdict[row]], reason_words(self, row)
        return f"{verdict}: {reasons}" if reasons else verdict

    @cached_property
    def median_rows(self) -> np.ndarray:
        """Rows of the spectra that medians are of: those whose fit is usable, or all that were fitted where none is."""
        usable = np.flatnonzero(self.fit.usable)
        return usable if len(usable) else np.flatnonzero(self.fit.fitted)

    @property
    def median_words(self) -> str:
        """Which spectra medians are of, and of how many."""
        n_usable, n_fitted = int(self.fit.usable.sum()), int(self.fit.fitted.sum())
        if not n_usable:
            return f"none is usable, medians over all {n_fitted}"
        return f"medians over {n_usable} usable ones of {n_fitted}"

    @property
    def is_series(self) -> bool:
        """Whether these are several spectra of one voxel."""
        return self.data is not None and len(self.fit.params) > 1 and max(self.data.fids.shape[:3]) == 1

    @cached_property
    def header_values(self) -> dict[str, ElementValues]:
        """What the header gives for every spectrum, values ``(n,)`` by the column of tables: the header's key, with the
        dimension where two have that key."""
        return {name: values for name, values in self._place.items() if isinstance(values, ElementValues)}

    @cached_property
    def index(self) -> pd.DataFrame:
        """Place of each row: a column, counted from zero, per dimension longer than one, followed by what the header
        gives for its elements (b value, time, echo time); no column for an SVS."""
        columns = {name: getattr(values, "values", values) for name, values in self._place.items()}
        return pd.DataFrame(columns, index=range(len(self.fit.params)))

    @cached_property
    def _place(self) -> dict[str, np.ndarray | ElementValues]:
        """Columns of :attr:`index`: counters, and what the header gives."""
        if self.data is None:
            return {}
        shape = self.data.fids.shape
        names = ["x", "y", "z", *self.data.dim_tags]
        sizes = [*shape[:3], *shape[4:]]
        names += [f"dim_{i}" for i in range(len(names) + 2, len(sizes) + 2)]
        columns: dict[str, np.ndarray | ElementValues] = {}
        for place, (name, counter, size) in enumerate(zip(names, np.indices(sizes).reshape(len(sizes), -1), sizes)):
            if size == 1:
                continue
            columns[name] = counter
            for one in element_values(self.data.header, place + 2, size) if place > 2 else ():
                head = f"{one.key} ({name})" if one.key in {*columns, *names} else one.key
                columns[head] = one._replace(values=one.values[counter])
        return columns

    @cached_property
    def names(self) -> list[str]:
        """Metabolites, then the sums."""
        return [*self.fit.names, *self.sums]

    @cached_property
    def sums(self) -> list[str]:
        """Sums that are reported, see :func:`reported_sums`."""
        return reported_sums(self.fit.names, self.internal_ref, self.combine)

    @cached_property
    def concentrations(self) -> tuple[np.ndarray, np.ndarray]:
        """Raw concentrations and their SDs, ``(n, len(names))`` each."""
        return self.fit.table(self.sums, self.estimate)[1:]

    @property
    def reference_name(self) -> str:
        """Internal reference, as 'Cr+PCr'."""
        return "+".join(self.internal_ref)

    @cached_property
    def reference_members(self) -> list[int] | None:
        """Numbers of the reference's metabolites; None if one of them was not fitted."""
        return self.fit.members(self.reference_name) if set(self.internal_ref) <= set(self.fit.names) else None

    @cached_property
    def reference(self) -> np.ndarray | None:
        """Concentration of the internal reference, ``(n,)``; None if it was not fitted."""
        if self.reference_members is None:
            return None
        return self.fit.estimate(self.estimate)[0][:, self.reference_members].sum(-1)

    @cached_property
    def ratios(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Ratios to the internal reference and their SDs with all covariances, ``(n, len(names))`` each; None without
        reference."""
        if self.reference is None:
            return None
        conc, cov = self.fit.estimate(self.estimate)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.concentrations[0] / self.reference[:, None]
            sd = self._ratio_sd(conc, cov)
        # A single network has no SD, not even for the reference over itself.
        return ratio, np.where(np.isnan(self.concentrations[1]), np.nan, sd)

    @cached_property
    def intervals(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Limits of the 95 % intervals of ratios to the internal reference, or of raw concentrations without one,
        ``(n, len(names))`` each; None of an estimate that has none."""
        fit, under, posterior = self.fit, self.reference_members, self.fit.posterior
        members = [fit.members(name) for name in self.names]
        if self.estimate == fit.own_estimate:
            each = [fit.interval(rows) if under is None else fit.ratio_interval(rows, under) for rows in members]
        elif self.estimate == "posterior_mean" and posterior is not None:
            negative = fit.model.shape.negative
            of = (posterior.mean, posterior.cov)
            each = [
                posterior.interval(rows, negative=negative)
                if under is None
                else uncertainty.ratio_interval(*of, rows, under, negative=negative)
                for rows in members
            ]
        else:
            return None
        low, high = (np.stack(side, axis=1) for side in zip(*each))
        return low, high

    @cached_property
    def fsl_mrs_ratios(self) -> tuple[np.ndarray, np.ndarray]:
        """Ratios to the internal reference, which was fitted, and their SDs by FSL-MRS's formula, which adds the
        variances; of the in-vivo model with all covariances, because errors that all concentrations share are much
        larger there."""
        if isinstance(self.fit, InVivoFit):
            assert self.ratios is not None
            return self.ratios
        reference, members = self.reference, self.reference_members
        assert reference is not None and members is not None
        conc, sd = self.concentrations
        reference_sd = uncertainty.sum_sd(self.fit.estimate(self.estimate)[1], members)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1 / reference[:, None]
            return conc * scale, np.sqrt(sd**2 + reference_sd[:, None] ** 2) * np.abs(scale)

    @cached_property
    def widths(self) -> Widths:
        """Widths that were added to the basis set's."""
        lorentz = self.fit.block("gamma") / np.pi
        if not self.fit.model.shape.gaussian:
            return Widths(lorentz, None, lorentz)
        # Olivero and Longbothum's approximation of the Voigt width, as FSL-MRS reports it.
        gauss = 2.335 / (2 * np.pi * np.sqrt(0.5)) * self.fit.block("sigma")
        return Widths(lorentz, gauss, 0.5346 * lorentz + np.sqrt(0.2166 * lorentz**2 + gauss**2))

    @cached_property
    def quality(self) -> tuple[np.ndarray, np.ndarray]:
        """SNR and line width (Hz) of each fitted metabolite, ``(n, n_metabs)`` each; no width (NaN) of those without a
        peak."""
        widest = self.widths.combined.max(-1)
        # Widths of the in-vivo model are added to a line shape, which has a width of its own.
        snr, width = qc.fit_qc(self.fit, widest, _ONE_LINE if isinstance(self.fit, InVivoFit) else None)
        return snr, np.where(width > 0, width, np.nan)

    @cached_property
    def percent(self) -> np.ndarray:
        """SD in percent of the concentration, at most 999, ``(n, len(names))``."""
        return percent_sd(*self.concentrations)

    @cached_property
    def prior_pull(self) -> np.ndarray | None:
        """Posterior over prior variance, ``(n, len(names))``; of the in-vivo model the share of the likelihood's
        variance that the priors of the estimate take away, which sums do not have; None without a prior."""
        posterior, share = self.fit.posterior, self.fit.prior_share
        if share is not None and posterior is None:
            if self.estimate == "posterior_mean":
                both = (self.fit.table((), name)[2] for name in (self.fit.own_estimate, self.estimate))
                share = uncertainty.narrower_share(share, *both)
            return np.hstack([share, np.full((len(share), len(self.sums)), np.nan)])
        if posterior is None:
            return None
        variance = posterior.prior.sd**2
        sums = []
        for name in self.sums:
            rows = self.fit.members(name)
            of_sum = (
                variance[rows].sum() if posterior.prior.cov is None else posterior.prior.cov[np.ix_(rows, rows)].sum()
            )
            of_sum = of_sum if np.isfinite(variance[rows]).all() else np.inf
            sums.append(np.clip(uncertainty.sum_sd(posterior.cov, rows) ** 2 / of_sum, 0, 1)[:, None])
        return np.concatenate([posterior.pull, *sums], axis=1)

    @property
    def share_of_prior(self) -> np.ndarray | None:
        """:attr:`prior_pull` where the estimate that is shown has a prior; None otherwise."""
        return None if self.estimate in ("ml", "network") else self.prior_pull

    @cached_property
    def undetermined(self) -> np.ndarray:
        """Which estimates the spectrum hardly determines, bool ``(n, len(names))``: see :func:`hardly_determined`."""
        return hardly_determined(self.percent, self.share_of_prior)

    @cached_property
    def prior_conflict(self) -> np.ndarray | None:
        """Whether data and prior disagree, bool ``(n, len(names))``; never for sums; None without a prior."""
        if self.fit.posterior is None:
            return None
        sums = np.zeros((len(self.fit.params), len(self.sums)), bool)
        return np.concatenate([self.fit.posterior.conflict, sums], axis=1)

    @cached_property
    def posterior_ratio_sd(self) -> np.ndarray:
        """SDs of the posterior's ratios to the internal reference, ``(n, len(names))``."""
        posterior = self.fit.posterior
        assert posterior is not None
        return self._ratio_sd(posterior.mean, posterior.cov)

    def _ratio_sd(self, conc: np.ndarray, cov: np.ndarray) -> np.ndarray:
        """Return the SDs of every ratio to the internal reference, ``(n, len(names))``."""
        under = self.reference_members
        assert under is not None
        sds = [uncertainty.ratio_sd(conc, cov, self.fit.members(name), under) for name in self.names]
        return np.stack(sds, axis=1)


def reported_sums(fitted: Sequence[str], internal_ref: Sequence[str], combine: Sequence[str]) -> list[str]:
    """Return the sums to report: total creatine and the reference, if all their parts were fitted, and ``combine``."""
    sums = ["Cr+PCr"] if {"Cr", "PCr"} <= set(fitted) else []
    if len(internal_ref) > 1 and set(internal_ref) <= set(fitted):
        sums.append("+".join(internal_ref))
    return list(dict.fromkeys([*sums, *combine]))


def reported_names(fitted: Sequence[str], internal_ref: Sequence[str], combine: Sequence[str]) -> list[str]:
    """Return the metabolites, then the sums that are reported."""
    return [*fitted, *reported_sums(fitted, internal_ref, combine)]


def hardly_determined(percent: np.ndarray, share_of_prior: np.ndarray | None) -> np.ndarray:
    """Return which estimates the spectrum hardly determines, bool of the shape of both: the SD is above 50 % of the
    concentration, or the share of the prior above one half.

    This is the rule of every mark: ``*`` in the terminal and in reports, grey in pictures.  Where no estimate has a
    known SD, as those of a single network, none is marked.
    """
    above = ~(percent <= _LARGE_PERCENT) & ~np.isnan(percent).all()
    return above if share_of_prior is None else above | (share_of_prior > layout.MOSTLY_PRIOR)


def percent_sd(conc: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return SDs in percent of concentrations, at most 999 as in LCModel and FSL-MRS; NaN where the SD is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = sd / np.abs(conc) * 100
    return np.where(np.isnan(percent) & ~np.isnan(conc) & ~np.isnan(sd), 999.0, np.minimum(percent, 999.0))
