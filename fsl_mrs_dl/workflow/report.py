"""Report of a session: the fit's, with the steps that led to it."""

from __future__ import annotations

import html
from pathlib import Path

from ..io.convert import is_reading_note
from ..io.output import write_text
from ..results import publication
from ..results.reports import alignment as alignment_report
from ..results.reports.alignment_table import alignment_table
from ..results.reports.fit import write_fit_report
from .processing import Processed
from .steps import Step

__all__ = ["write_session_report"]


def write_session_report(
    folder: Path,
    analysis: publication.Analysis,
    processed: Processed,
    steps: list[Step],
    record: dict,
    location: Path | None = None,
) -> Path:
    """Write report.html, and the alignment's report and table beside it.

    Parameters
    ----------
    folder : path
    analysis : Analysis
    processed : Processed
    steps : list of Step
    record : dict
        Content of run.json.
    location : path, optional
        Picture of the voxel.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    links = []
    if processed.aligned is not None:
        write_text(folder / "dl_align.csv", alignment_table(processed.aligned))
        links = alignment_report.write_reports(folder, processed.aligned, name=Path(record["inputs"]["data"]).name)
    inputs = record["inputs"]
    return write_fit_report(
        folder / "report.html",
        analysis.results,
        data=inputs["data"],
        basis=inputs["basis"] or "simulated for the header's acquisition",
        location=location,
        analysis=analysis,
        warnings=[text for text in record["warnings"] if not is_reading_note(text)],
        facts=[("Reading", text) for text in record["warnings"] if is_reading_note(text)],
        sections=[_steps(steps, [path.name for path in links])],
        end=publication.publication_html(analysis),
    )


def _steps(steps: list[Step], links: list[str]) -> str:
    """Return the table of steps, HTML."""
    rows = []
    for step in steps:
        left_out = "not needed" if publication.not_needed(step.as_dict()) else "not done"
        state = "done" if step.done else left_out
        cells = (step.name, state, step.reason, step.figures_text)
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    more = "".join(f'<p><a href="{html.escape(name)}">Report of the alignment</a></p>' for name in links)
    head = "<tr><th>Step</th><th></th><th>Why</th><th>Figures</th></tr>"
    return f'<h2>Steps</h2><table class="settings">{head}{"".join(rows)}</table>{more}'
