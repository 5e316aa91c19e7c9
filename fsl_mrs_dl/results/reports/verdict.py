"""Head of a report: the verdict in its colour with the reasons for it, and warnings, apart from plain facts."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from ...core.errors import spelled
from ...fitting.artefacts import option_spelling
from ...fitting.verdict import DOUBTFUL, GOOD, UNUSABLE, VERDICTS
from ...preproc.denoise import warning_of
from ..doubts import first_of, quality_column, rows_by_reason, where
from ..figures import AMBER, VERDICT_COLOURS
from ..fit_results import FitResults
from ..series import Series

__all__ = ["VERDICT_STYLE", "series_verdict", "spectrum_verdict", "warnings_list", "warnings_of"]

_CLASSES = {GOOD: "good", DOUBTFUL: "doubtful", UNUSABLE: "unusable"}
_INKS = {GOOD: "#00664b", DOUBTFUL: "#805500", UNUSABLE: "#8e1523"}  # dark enough to be read on the tints
_SIGNS = {GOOD: "\u2713", DOUBTFUL: "!", UNUSABLE: "\u2715"}  # so that it is read without colours
_MEANINGS = {
    GOOD: "No artefact was found, and residual, SNR and line width are within the limits of good spectra.",
    DOUBTFUL: "Look at the spectrum, and at the reasons, before any figure is used:",
    UNUSABLE: "Do not use the concentrations of this spectrum:",
}
_MOST_NAMED = 6


def _style() -> str:
    """Return the style sheet of a verdict's frame, and of warnings."""
    frame = "border:1px solid;border-left-width:.9em;border-radius:.4em;padding:.5em 1em;margin:1em 0;color:#222"
    lines = [
        f".verdict{{{frame}}}",
        ".verdict p{margin:.2em 0}.verdict ul{margin:.3em 0;padding-left:1.3em}",
        ".verdict .word{font-size:1.25em;font-weight:bold}",
        f".warnings{{border-left:.3em solid {AMBER};padding-left:1.6em;margin:.4em 0}}.warnings li{{margin:.3em 0}}",
    ]
    for verdict, name in _CLASSES.items():
        colour, tint = VERDICT_COLOURS[verdict]
        lines.append(f".verdict.{name}{{border-color:{colour};background:{tint}}}")
        lines.append(f".verdict.{name} .word{{color:{_INKS[verdict]}}}")
    return "\n".join(lines) + "\n"


VERDICT_STYLE = _style()
"""Style sheet of these parts."""


def spectrum_verdict(results: FitResults, row: int) -> str:
    """Return the verdict on one spectrum with its reasons, SNR and line width, HTML."""
    verdict = int(results.verdict[row])
    snr, width = (values[row, quality_column(results)] for values in results.quality)
    name = results.fit.names[quality_column(results)]
    figures = [f"SNR of {name} {snr:.0f}"] if np.isfinite(snr) else []
    figures += [f"line width {width:.1f} Hz"] if np.isfinite(width) else []
    figures.append(f"residual {results.fit.misfit[row]:.2f} times the noise")
    head = f"Verdict: {VERDICTS[verdict]}"
    banner = _banner(
        verdict, head, [", ".join(figures), _MEANINGS[verdict]], [reason.line for reason in results.reasons[row]]
    )
    return banner + (_of_others(results) if len(results.fit.params) > 1 and not results.is_series else "")


def _of_others(results: FitResults) -> str:
    """Return the verdicts on all spectra of a file, and which have what reason, HTML."""
    lines = [
        f"<li>{html.escape(f'{kind[:1].upper()}{kind[1:]}: {where(results, rows)}.')}</li>"
        for kind, rows in rows_by_reason(results).items()
    ]
    counts = f"<p>All spectra of the file: {html.escape(results.verdict_text)}.</p>"
    return counts + (f"<ul>{''.join(lines)}</ul>" if lines else "")


def series_verdict(results: FitResults, series: Series) -> str:
    """Return the verdicts on a series with the reasons for them, and in how many spectra each is, HTML."""
    fitted = np.flatnonzero(results.fit.fitted)
    verdicts = set(results.verdict[fitted].tolist())
    # Of a series with good and bad spectra some can be used.
    worst = verdicts.pop() if len(verdicts) == 1 else DOUBTFUL
    lines = []
    for kind, rows in rows_by_reason(results).items():
        first = first_of(results, kind, rows).line
        titles = "; ".join(series.titles[row] for row in rows[:_MOST_NAMED])
        more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
        if len(fitted) > 1:
            figures = " (figures of the first)" if len(rows) > 1 else ""
            first += f" In {len(rows)} of {len(fitted)} spectra{figures}: {titles}{more}."
        lines.append(first)
    one = len(set(results.verdict[fitted].tolist())) == 1
    meaning = _MEANINGS[worst] if worst == GOOD else "Reasons:"
    counts = np.bincount(results.verdict[fitted], minlength=len(VERDICTS))
    words = ", ".join(f"{count} {word}" for count, word in zip(counts, VERDICTS) if count)
    head = f"Verdict: {words}" if not one else f"Verdict: all {len(fitted)} spectra {VERDICTS[worst]}"
    lost = int((~results.fit.fitted).sum())
    return _banner(worst, head, [*[f"{lost} could not be fitted"] * bool(lost), meaning], lines)


def _banner(verdict: int, head: str, paragraphs: Sequence[str], reasons: Sequence[str]) -> str:
    """Return a frame in the verdict's colour, HTML."""
    texts = "".join(f"<p>{html.escape(text)}</p>" for text in paragraphs if text)
    items = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
    word = f'<p class="word">{_SIGNS[verdict]} {html.escape(head)}</p>'
    return f'<div class="verdict {_CLASSES[verdict]}">{word}{texts}{f"<ul>{items}</ul>" if items else ""}</div>'


def warnings_of(results: FitResults) -> list[str]:
    """Return the warnings about data and fit besides the reasons for verdicts."""
    texts = [results.fit.network_note] if results.fit.network_note else []
    texts += [spelled(remark, option_spelling) for remark in results.remarks]
    denoised = "" if results.data is None else warning_of(results.data.header)
    return texts + ([f"The data file {denoised}."] if denoised else [])


def warnings_list(texts: Sequence[str], *, without: str = "") -> str:
    """Return warnings as a section, each once, HTML; those that stand in the text ``without`` are left out."""
    shown = [text for text in dict.fromkeys(texts) if html.escape(text) not in without]
    if not shown:
        return f'<p class="note">No {"other " * ("<li>" in without)}warnings.</p>'
    items = "".join(f"<li>{html.escape(text)}</li>" for text in shown)
    return f'<h2>Warnings</h2><ul class="warnings">{items}</ul>'
