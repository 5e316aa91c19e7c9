"""Files of a publication: ``mrsinmrs.csv``, ``methods.md`` and ``references.bib``, and the section of a report."""

from __future__ import annotations

import html
import re
from pathlib import Path

from .analysis import Analysis
from .methods import methods_text, relaxation_dois
from .mrsinmrs import SECTIONS, Item, mrsinmrs_items, mrsinmrs_table
from .references import PACKAGE_KEY, bibtex, cited, label_of

__all__ = ["FILES", "TABLE_HEAD", "linked", "publication_html", "write_publication"]

FILES = ("mrsinmrs.csv", "methods.md", "references.bib")
"""Names of the files that :func:`write_publication` writes."""

TABLE_HEAD = "# Minimum reporting table (MRSinMRS)"
"""Heading of the table in ``methods.md``."""


def write_publication(folder: Path, analysis: Analysis) -> None:
    """Write the minimum reporting table, the methods paragraph and its references into a folder.

    Parameters
    ----------
    folder : path
    analysis : Analysis
    """
    text = methods_text(analysis)
    mrsinmrs_table(analysis).to_csv(folder / FILES[0], index=False)
    page = f"# Methods\n\n{text}\n{TABLE_HEAD}\n\n{_markdown(mrsinmrs_items(analysis))}"
    (folder / FILES[1]).write_text(page, encoding="utf-8")
    (folder / FILES[2]).write_text(bibtex(cited(text), relaxation_dois(analysis)), encoding="utf-8")


def publication_html(analysis: Analysis) -> str:
    """Return the section of a report: methods paragraphs with links, and the table."""
    paragraphs = "".join(f"<p>{linked(part)}</p>" for part in methods_text(analysis).split("\n\n"))
    rows = []
    for section in SECTIONS:
        rows.append(f'<tr><th colspan="3">{html.escape(section)}</th></tr>')
        for item in mrsinmrs_items(analysis):
            if item.section == section:
                weak = "" if item.value else ' class="weak"'
                cells = (item.number, item.name, item.text)
                rows.append(f"<tr{weak}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    return (
        "<h2>For a publication</h2>"
        '<p class="note">Check every sentence. The same is in methods.md, mrsinmrs.csv and references.bib.</p>'
        f'{paragraphs}<table class="settings">{"".join(rows)}</table>'
    )


def linked(text: str) -> str:
    """Return a paragraph in HTML, its citations as links."""

    def links_of(match: re.Match) -> str:
        keys = [part.strip().removeprefix("@") for part in match[1].split(";")]
        labels = [label_of(key) for key in keys if key != PACKAGE_KEY]
        links = "; ".join(f'<a href="{address}">{label}</a>' for label, address in labels)
        # The package is named in the sentence itself.
        return f" ({links})" if links else ""

    return re.sub(r" ?\[(@[^\]]+)\]", links_of, html.escape(text, quote=False))


def _markdown(items: list[Item]) -> str:
    """Return the table in Markdown."""
    lines = []
    for section in SECTIONS:
        lines += [f"## {SECTIONS.index(section) + 1}. {section}", "", "| | item | value |", "|---|---|---|"]
        for item in items:
            if item.section == section:
                cells = (text.replace("|", "\\|").replace("\n", " ") for text in (item.name, item.text))
                lines.append(f"| {item.number} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)
