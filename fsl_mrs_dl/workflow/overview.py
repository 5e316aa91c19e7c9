"""The page of a study: all spectra with their median, concentrations by group, differences, quality, exclusions."""

from __future__ import annotations

import datetime
import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .. import __version__
from ..core.errors import spelled
from ..fitting.artefacts import option_spelling
from ..io.output import write_text
from ..results.layout import MOSTLY_PRIOR
from ..results.reports.page import STYLE
from .collect import MOSTLY_PRIOR_NOTE, SessionResult, left_out_words, marked
from .effect import FEWEST
from .group import GroupTables, study_publication
from .overview_figures import concentration_figure, effect_figure, prior_shares, quality_figure, spectra_figure
from .overview_spectra import study_spectra

__all__ = ["write_overview"]

_STYLE = f"""{STYLE}
td, th {{ font-size: .9rem; padding: .2rem .7rem; }} td.text, th.text {{ text-align: left; }}
td a {{ white-space: nowrap; }}
"""
_MOST_REMARKS = 40


def write_overview(path: Path, tables: GroupTables, *, title: str) -> Path:
    """Write the page of a study.

    Parameters
    ----------
    path : path
        HTML file to write.  Links lead to ``../sessions``.
    tables : GroupTables
    title : str

    Returns
    -------
    Path
        ``path``.
    """
    figures: list[str] = []

    def drawn(figure) -> str:
        """Return a figure as HTML; the first carries the library, so that the page opens without a network."""
        figures.append("")
        return figure.to_html(full_html=False, include_plotlyjs=len(figures) == 1, config={"displaylogo": False})

    body = [_summary(tables)]
    series = list(dict.fromkeys(result.session.series for result in tables.results))
    for name in series:
        body += _series(tables, name, f" of {name}" if len(series) > 1 and name else "", drawn)
    body += [_left_out(tables), _sessions(tables), _remarks(tables.results), _methods(tables)]
    when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    page = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p class="note">FSL-MRS-DL {__version__}, {when}</p>
{"".join(body)}
</body></html>"""
    write_text(path, page)
    return path


def _summary(tables: GroupTables) -> str:
    """Return the numbers of sessions, HTML."""
    results = tables.results
    parts = [f"{sum(result.included for result in results)} of {len(results)} sessions are in the tables of groups"]
    parts += [html.escape(spelled(words, option_spelling)) for words in left_out_words(results)]
    groups = pd.Series([result.session.group for result in results if result.included and result.session.group])
    counts = ", ".join(f"{name} {count}" for name, count in groups.value_counts().sort_index().items())
    text = f"<p>{'; '.join(parts)}.{f' Groups (sessions): {html.escape(counts)}.' if counts else ''}</p>"
    by = html.escape("; ".join(tables.rules.sentences()) or "none")
    rules = f"<p class='note'>Rules by which sessions are left out: {by}.</p>"
    return f"{text}{rules}{_study_remarks(tables)}"


def _study_remarks(tables: GroupTables) -> str:
    """Return what stands between the groups and a comparison, HTML; nothing where there is nothing."""
    texts = [html.escape(spelled(text, option_spelling)) for text in tables.remarks]
    return f"<h2>To note</h2><ul>{''.join(f'<li>{text}</li>' for text in texts)}</ul>" if texts else ""


def _series(tables: GroupTables, name: str, of: str, drawn) -> list[str]:
    """Return the sections of one series, HTML."""
    results = [result for result in tables.results if result.session.series == name]
    of = html.escape(of)
    out = []
    spectra = study_spectra(results)
    if spectra is not None:
        out.append(
            f"<h2>Spectra{of}</h2><p class='note'>{html.escape(spectra.note)}</p>{drawn(spectra_figure(spectra))}"
        )
    tidy = tables.tidy[(tables.tidy["series"] == name) & (tables.tidy["quantity"] == tables.quantity)]
    groups = tables.groups
    if not groups.empty:
        groups = groups[(groups["series"] == name) & (groups["quantity"] == tables.quantity)]
    if not tidy.empty:
        note = f" {MOSTLY_PRIOR_NOTE}" if (prior_shares(tidy) > MOSTLY_PRIOR).any() else ""
        out.append(
            f"<h2>Concentrations{of}</h2><p class='note'>{_unit_of(tidy)}; a point is a session with its SD, a bar"
            " the mean of its group with the 95 % interval, which contains the spread between participants and"
            " the SDs of the values. Metabolites whose SD is above half of the value in most sessions are in the tables"
            f" only.{note}</p>{drawn(concentration_figure(tidy, groups))}"
        )
    effects = tables.effects
    if not effects.empty:
        effects = effects[(effects["series"] == name) & (effects["quantity"] == tables.quantity)]
        if not effects.empty:
            out.append(f"<h2>Differences between groups{of}</h2>{drawn(effect_figure(effects))}{_effects(effects)}")
    out.append(f"<h2>Quality{of}</h2>{drawn(quality_figure(results, tables.rules))}")
    return out


def _unit_of(tidy: pd.DataFrame) -> str:
    """Return the name of a quantity with its unit, HTML."""
    name, unit = tidy["quantity"].iloc[0], tidy["unit"].iloc[0]
    return html.escape(f"{name} ({unit})" if unit else {"ratio": "ratio to the internal reference"}.get(name, name))


def _effects(effects: pd.DataFrame) -> str:
    """Return the table of differences, HTML."""
    note = (
        "Second group minus first: the difference of their means, which have no weights, with Welch's degrees of"
        " freedom; g is this difference over the SD of the values within groups (Hedges); p is also given adjusted for"
        " the number of metabolites (Benjamini and Hochberg). The SD contains the spread between participants and the"
        " SDs of the values without what all sessions have in common (relaxation times of the literature), which"
        f" cancels. Groups of fewer than {FEWEST} participants have no interval here."
    )
    rows = []
    for line in effects.to_dict("records"):
        pair = f"{line['group']} ({line['n']}) - {line['against']} ({line['n_against']})"
        unit = line["unit"] if isinstance(line["unit"], str) else ""
        cells = [pair, f"{line['difference']:+.3g} {unit}"]
        if min(line["n"], line["n_against"]) < FEWEST:
            cells += ["-", "-", f"{line['percent']:+.1f}", "-", "-", "-"]
        else:
            cells += [f"{line['sd']:.2g}", f"{line['ci95_low']:+.3g} to {line['ci95_high']:+.3g}"]
            cells += [f"{line['percent']:+.1f}", f"{line['hedges_g']:+.2f} ± {line['hedges_g_sd']:.2f}"]
            cells += [f"{line['p']:.3g}", f"{line['p_adjusted']:.3g}"]
        rows.append([marked(str(line["metabolite"]), line["prior_share"]), *cells])
    if any(row[0].endswith("*") for row in rows):
        note += f" {MOSTLY_PRIOR_NOTE}"
    heads = ["metabolite", "groups (n)", "difference", "SD", "95 % interval", "%", "g", "p", "p adjusted"]
    return f"<p class='note'>{note}</p>{table(heads, rows)}"


def _left_out(tables: GroupTables) -> str:
    """Return who is left out and why, HTML."""
    rows = [[_link(result), "; ".join(result.reasons)] for result in tables.results if result.reasons]
    if not rows:
        return "<h2>Left out</h2><p>No session is left out.</p>"
    return f"<h2>Left out</h2>{table(['session', 'reason'], rows, text=(0, 1), raw=(0,))}"


def _sessions(tables: GroupTables) -> str:
    """Return the table of all sessions with their quality, HTML."""
    keys = ("snr", "fwhm_hz", "misfit", "ood_score", "transients", "rejected")
    rows = []
    for result in tables.results:
        quality = [result.quality.get(key) for key in keys]
        cells = [f"{value:.3g}" if isinstance(value, (int, float)) else "-" for value in quality]
        verdict = str(result.quality.get("verdict", result.outcome.state))
        rows.append([_link(result), result.session.group, *cells, verdict, "yes" if result.included else "no"])
    heads = [
        "session",
        "group",
        "SNR",
        "FWHM (Hz)",
        "residual / noise",
        "out of distribution",
        "transients",
        "rejected",
    ]
    return f"<h2>Sessions</h2>{table([*heads, 'verdict', 'included'], rows, text=(0, 1, 8), raw=(0,))}"


def _link(result: SessionResult) -> str:
    """Return the name of a session, as a link to its report where there is one of its last run, HTML."""
    name = html.escape(result.session.name)
    report = result.folder / "report.html"
    return f"<a href='../sessions/{name}/report.html'>{name}</a>" if result.up_to_date and report.is_file() else name


def _remarks(results: Sequence[SessionResult]) -> str:
    """Return notes and warnings, each with the sessions that have it, HTML."""
    sessions: dict[str, list[str]] = {}
    for result in results:
        for remark in dict.fromkeys(result.remarks):
            sessions.setdefault(remark.replace(result.session.name, "..."), []).append(result.session.name)
    if not sessions:
        return ""
    most = sorted(sessions.items(), key=lambda pair: -len(pair[1]))
    rows = [
        [remark, str(len(names)), ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")] for remark, names in most
    ]
    more = (
        f"<p class='note'>{len(rows) - _MOST_REMARKS} more are in sessions.tsv.</p>"
        if len(rows) > _MOST_REMARKS
        else ""
    )
    heads = ["remark", "sessions", "which"]
    return f"<h2>Notes and warnings</h2>{table(heads, rows[:_MOST_REMARKS], text=(0, 2))}{more}"


def _methods(tables: GroupTables) -> str:
    """Return the methods of the study, and its minimum reporting table where sessions have one, HTML."""
    publication = study_publication(tables)
    out = [f"<h2>Methods</h2>{publication.html()}"]
    if publication.table is not None:
        frame = publication.table.drop(columns="status")
        rows = [[str(cell) for cell in line] for line in frame.itertuples(index=False)]
        text = tuple(range(len(frame.columns)))
        out.append(f"<h2>Minimum reporting (MRSinMRS)</h2>{table(list(map(str, frame.columns)), rows, text=text)}")
    return "".join(out)


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, text: tuple[int, ...] = (0, 1), raw: tuple[int, ...] = ()
) -> str:
    """Return a table, HTML; columns ``text`` are aligned to the left, columns ``raw`` are HTML already."""

    def cells(tag: str, line: Sequence[str], of_html: tuple[int, ...]) -> str:
        return "".join(
            f"<{tag}{' class=text' if i in text else ''}>{cell if i in of_html else html.escape(cell)}</{tag}>"
            for i, cell in enumerate(line)
        )

    body = "".join(f"<tr>{cells('td', row, raw)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', heads, ())}</tr></thead><tbody>{body}</tbody></table>"
