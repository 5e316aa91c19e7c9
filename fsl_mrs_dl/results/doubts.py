"""Why the verdict on a fit is doubtful, or a fit not usable, in words.

The verdict of :mod:`fsl_mrs_dl.fitting.verdict` compares a residual with those of realistic spectra.  Where hardly a
line stands out of the noise, or lines are too broad, a small residual does not make concentrations right, nor do
macromolecules many times as large as creatine: such fits are doubtful, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..core.metabolites import name_among
from ..fitting import uncertainty
from ..fitting.artefacts import option_spelling
from ..fitting.in_vivo.result import InVivoFit
from ..fitting.verdict import (
    GOOD,
    LEAST_SNR,
    MOST_DETERMINED,
    MOST_MM,
    MOST_NAA,
    UNUSABLE,
    WIDEST_PPM,
    exceeds_unexplained,
)
from ..physics.in_vivo_signals import MACROMOLECULES
from .layout import DOUBTS, FILTERED, IMPLAUSIBLE, LOW_SNR, OOD_LIMIT, WIDE

if TYPE_CHECKING:
    from ..fitting.quantification import Quantification
    from .fit_results import FitResults

__all__ = [
    "OUT_OF_DISTRIBUTION",
    "Doubt",
    "Reason",
    "doubts_of",
    "first_of",
    "places",
    "quality_column",
    "quality_line",
    "reason_words",
    "reasons_of",
    "rows_by_reason",
    "where",
    "why_unusable",
]

_LINES = ("NAA", "tNAA", "Cr", "tCr", "PCr")  # singlets whose SNR and width stand for a spectrum, the first there is
OUT_OF_DISTRIBUTION = "out of distribution"
"""Kind of the reason by the score of that name."""

_MOST_NAMED = 6  # spectra that a line names


@dataclass(frozen=True)
class Doubt:
    """A reason for which a fit is doubtful.

    Attributes
    ----------
    code : int
        Key of :data:`fsl_mrs_dl.results.layout.DOUBTS`.
    kind : str
        The reason without figures.
    figures : str
    """

    code: int
    kind: str
    figures: str


@dataclass(frozen=True)
class Reason:
    """A reason for a verdict that is not good.

    Attributes
    ----------
    kind : str
        The reason without figures.
    figures : str
        Empty where there are none.
    remedy : str
        The whole reason in a line with what helps; empty where nothing is known to.
    """

    kind: str
    figures: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """The reason with its figures."""
        return f"{self.kind} ({self.figures})" if self.figures else self.kind

    @property
    def line(self) -> str:
        """The reason as a line, with what helps."""
        return self.remedy or f"{self.text[:1].upper()}{self.text[1:]}."


def quality_line(names: Sequence[str]) -> int | None:
    """Return the column of the metabolite whose SNR and line width stand for the spectrum's; None without one."""
    names = list(names)
    return next((names.index(name) for name in _LINES if name in names), None)


def quality_column(results: FitResults) -> int:
    """Return the column of the metabolite whose SNR and line width stand for the spectra's: that of
    :func:`quality_line`, otherwise the one of highest SNR, in the median over spectra."""
    column = quality_line(results.fit.names)
    if column is None:
        snr = results.quality[0]
        typical = np.array([np.median(one[np.isfinite(one)]) if np.isfinite(one).any() else -1.0 for one in snr.T])
        column = int(typical.argmax())
    return column


def doubts_of(results: FitResults) -> dict[int, list[Doubt]]:
    """Return the reasons that SNR, line width, concentrations and a filter give, by the row of each spectrum that has
    any."""
    out: dict[int, list[Doubt]] = {}
    if results.fit.model.axes.nucleus != "1H":
        return out
    for row, doubt in (*_of_quality(results), *_of_concentrations(results), *_of_filter(results)):
        if results.fit.fitted[row] and not results.fit.empty[row]:
            out.setdefault(int(row), []).append(doubt)
    return out


def _of_quality(results: FitResults) -> Iterable[tuple[int, Doubt]]:
    """Yield rows whose SNR is too low or whose lines are too broad."""
    names, (snr, width), column = results.fit.names, results.quality, quality_column(results)
    name, mhz = names[column], results.fit.model.spec_freq_mhz
    for row in np.flatnonzero(snr[:, column] < LEAST_SNR):
        yield row, Doubt(LOW_SNR, f"SNR of {name} below {LEAST_SNR:g}", f"{snr[row, column]:.1f}")
    for row in np.flatnonzero(width[:, column] > WIDEST_PPM * mhz):
        figures = f"{width[row, column] / mhz:.2f} ppm, {width[row, column]:.1f} Hz"
        yield row, Doubt(WIDE, f"lines broader than {WIDEST_PPM:g} ppm", figures)


def _of_concentrations(results: FitResults) -> Iterable[tuple[int, Doubt]]:
    """Yield rows of the in-vivo model whose ratios to creatine no brain has, where they are well determined."""
    fit = results.fit
    if not isinstance(fit, InVivoFit):
        return
    under = _columns(fit.names, ("Cr", "PCr", "tCr"))
    conc, cov = fit.estimate(results.estimate)
    of_table = [] if fit.has_own_macromolecules else _columns(fit.names, (MACROMOLECULES,))
    for over, name, most in (
        (_columns(fit.names, ("NAA", "NAAG", "tNAA")), "NAA", MOST_NAA),
        (of_table, "macromolecules", MOST_MM),
    ):
        if not over or not under:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = conc[:, over].sum(1) / conc[:, under].sum(1)
            sd = uncertainty.ratio_sd(conc, cov, over, under)
            rows = np.flatnonzero((ratio > most) & (sd < MOST_DETERMINED * ratio))
        for row in rows:
            kind = f"{name} more than {most:g} times creatine, which no brain has"
            yield row, Doubt(IMPLAUSIBLE, kind, f"{ratio[row]:.1f} +- {sd[row]:.1f}")


def _of_filter(results: FitResults) -> Iterable[tuple[int, Doubt]]:
    """Yield every row where a filter took a part of the fitted window."""
    artefact = results.filter_artefact
    if artefact is None:
        return
    for row in range(len(results.fit.params)):
        yield row, Doubt(FILTERED, DOUBTS[FILTERED], artefact.seen)


def _columns(names: Sequence[str], wanted: Iterable[str]) -> list[int]:
    """Return the columns of those metabolites that were fitted."""
    there = [name_among(name, names) for name in wanted]
    return [list(names).index(name) for name in dict.fromkeys(there) if name is not None]


def reasons_of(results: FitResults, row: int) -> list[Reason]:
    """Return why the verdict on a spectrum is doubtful or not usable; empty where it is good, or where the spectrum
    could not be fitted."""
    fit, verdict = results.fit, results.verdict[row]
    if not fit.fitted[row] or verdict == GOOD:
        return []
    out = [Reason(*_why_unusable(fit, row))] if verdict == UNUSABLE else []
    if fit.empty[row]:
        return out
    for artefact in (*results.artefacts_of_file, *results.artefacts.get(row, ())):
        out.append(Reason(artefact.kind, artefact.seen, artefact.text(option_spelling)))
    if fit.ood[row] > OOD_LIMIT:
        out.append(Reason(OUT_OF_DISTRIBUTION, f"score {fit.ood[row]:.2g}"))
    if verdict == UNUSABLE:
        # What is not usable is not doubtful besides.
        return out
    if exceeds_unexplained(fit.unexplained[row]):
        kind = "signal beyond the noise that the model does not explain"
        out.append(Reason(kind, f"{fit.unexplained[row]:.1%}"))
    # A filter is named among the artefacts, with what helps.
    return out + [Reason(one.kind, one.figures) for one in results.doubts.get(row, ()) if one.code != FILTERED]


def rows_by_reason(results: FitResults) -> dict[str, list[int]]:
    """Return the rows of spectra by the kind of each reason for their verdicts, the kind of most spectra first.

    Terminal, report and methods count by this, and the column ``reasons`` of tables has the same.
    """
    out: dict[str, list[int]] = {}
    for row in np.flatnonzero(results.fit.fitted):
        for reason in results.reasons[row]:
            out.setdefault(reason.kind, []).append(int(row))
    return dict(sorted(out.items(), key=lambda item: -len(item[1])))


def first_of(results: FitResults, kind: str, rows: Sequence[int]) -> Reason:
    """Return the reason of a kind that the first of some rows has."""
    return next(reason for reason in results.reasons[rows[0]] if reason.kind == kind)


def reason_words(results: FitResults, row: int) -> str:
    """Return the reasons for the verdict on a spectrum with their figures, between semicolons; empty without any."""
    return "; ".join(reason.text for reason in results.reasons[row])


def where(results: FitResults, rows: Sequence[int]) -> str:
    """Return how many of the fitted spectra some rows are, and which: '4 of 28 spectra: DIM_USER_0 24, 25, 26, 27'."""
    n, named = int(results.fit.fitted.sum()), places(results, rows)
    return f"{len(rows)} of {n} spectra: {named}" if named else f"all {n} spectra"


def places(results: FitResults, rows: Sequence[int]) -> str:
    """Return the places of some spectra, the first of them by the counters that tables have: 'DIM_USER_0 3, 4'; empty
    where they are all."""
    if len(rows) == int(results.fit.fitted.sum()):
        return ""
    counters = results.index[[name for name in results.index.columns if name not in results.header_values]]
    name, each = "row", [str(int(row)) for row in rows[:_MOST_NAMED]]
    if len(counters.columns) == 1:
        name, each = counters.columns[0], [str(counters.iloc[int(row), 0]) for row in rows[:_MOST_NAMED]]
    elif len(counters.columns):
        name = f"({', '.join(counters.columns)})"
        each = [f"({', '.join(map(str, counters.iloc[int(row)]))})" for row in rows[:_MOST_NAMED]]
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return f"{name} {', '.join(each)}{more}"


def why_unusable(fit: Quantification, row: int) -> str:
    """Return why a fit is not usable, in words; empty where it is."""
    return "" if fit.usable[row] else Reason(*_why_unusable(fit, row)).text


def _why_unusable(fit: Quantification, row: int) -> tuple[str, str]:
    """Return why a fit is not usable, and figures, empty where there are none."""
    if fit.empty[row]:
        return "there is no signal above the noise", ""
    if not fit.converged[row]:
        return "it did not converge", ""
    figures = f"{fit.unexplained[row]:.0%} of the signal, {fit.misfit[row]:.1f} times the noise"
    return "more is unexplained than in realistic spectra", figures
