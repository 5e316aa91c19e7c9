"""Why the verdict on a fit is doubtful, or a fit not usable, in words.

The verdict of :mod:`fsl_mrs_dl.fitting.verdict` compares a residual with those of realistic spectra.  Where hardly a
line stands out of the noise, or lines are too broad, a small residual does not make concentrations right, nor do
macromolecules many times as large as creatine: such fits are doubtful, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..core.metabolites import name_among
from ..fitting import uncertainty
from ..fitting.artefacts import option_spelling
from ..fitting.in_vivo.result import InVivoFit
from ..fitting.verdict import (
    DOUBTFUL,
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
    "Doubt",
    "counted",
    "doubts_of",
    "quality_column",
    "quality_line",
    "reasons_in_full",
    "reasons_of_doubt",
    "why_unusable",
]

_LINES = ("NAA", "tNAA", "Cr", "tCr", "PCr")  # singlets whose SNR and width stand for a spectrum, the first there is


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

    @property
    def text(self) -> str:
        """The reason with its figures."""
        return f"{self.kind} ({self.figures})"


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
    for row in range(len(results.fit.params)) if artefact is not None else ():
        yield row, Doubt(FILTERED, DOUBTS[FILTERED], artefact.seen)


def _columns(names: Sequence[str], wanted: Iterable[str]) -> list[int]:
    """Return the columns of those metabolites that were fitted."""
    there = [name_among(name, names) for name in wanted]
    return [list(names).index(name) for name in dict.fromkeys(there) if name is not None]


def reasons_of_doubt(results: FitResults, row: int) -> list[str]:
    """Return why the verdict on a spectrum is doubtful, a phrase with its figures each."""
    found = [*results.artefacts_before, *results.artefacts.get(row, ())]
    return [f"{artefact.kind} ({artefact.seen})" for artefact in found] + _reasons_without_artefacts(results, row)


def reasons_in_full(results: FitResults, row: int) -> list[str]:
    """Return why the verdict on a spectrum is doubtful or not usable, a line each, those of artefacts with what helps;
    empty where it is good, or where the spectrum could not be fitted."""
    if not results.fit.fitted[row] or results.verdict[row] == GOOD:
        return []
    found = [*results.artefacts_before, *results.artefacts.get(row, ())]
    lines = [artefact.text(option_spelling) for artefact in found]
    if results.verdict[row] == UNUSABLE:
        return [_as_line(why_unusable(results.fit, row)), *lines]
    return lines + [_as_line(phrase) for phrase in _reasons_without_artefacts(results, row)]


def _as_line(phrase: str) -> str:
    return f"{phrase[:1].upper()}{phrase[1:]}."


def _reasons_without_artefacts(results: FitResults, row: int) -> list[str]:
    """Return the reasons for doubt besides artefacts, a phrase with its figures each."""
    out = []
    if results.fit.ood[row] > OOD_LIMIT:
        out.append(f"out of distribution (score {results.fit.ood[row]:.2g})")
    if exceeds_unexplained(results.fit.unexplained[row]):
        out.append(f"signal beyond the noise that the model does not explain ({results.fit.unexplained[row]:.1%})")
    return out + [doubt.text for doubt in results.doubts.get(row, ())]


def counted(results: FitResults) -> list[tuple[Doubt, int]]:
    """Return each kind of doubt by SNR, line width, concentrations or a filter with the number of spectra whose verdict
    is doubtful by it, those of most spectra first; its figures are of the first."""
    every = [doubt for row, doubts in results.doubts.items() if results.verdict[row] == DOUBTFUL for doubt in doubts]
    first = {doubt.kind: doubt for doubt in reversed(every)}
    return [(first[kind], count) for kind, count in Counter(doubt.kind for doubt in every).most_common()]


def why_unusable(fit: Quantification, row: int) -> str:
    """Return why a fit is not usable, in words; empty where it is."""
    if fit.usable[row]:
        return ""
    if fit.empty[row]:
        return "there is no signal above the noise"
    if not fit.converged[row]:
        return "it did not converge"
    return (
        f"more is unexplained than in realistic spectra ({fit.unexplained[row]:.0%} of the signal,"
        f" {fit.misfit[row]:.1f} times the noise)"
    )
